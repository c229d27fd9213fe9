//! What was decided is what is sent: nobody outside the pipeline can put another request into a proof.

use durward_gateway::pipeline::Decoded;

fn exchange_request<R>(decoded: &mut Decoded<R>, other: R) {
    *decoded.request_mut() = other;
}

fn main() {}

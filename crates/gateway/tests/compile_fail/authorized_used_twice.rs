//! One decision is good for one execution: a proof cannot be copied.

use durward_gateway::pipeline::Authorized;

fn execute_twice<R: Clone>(authorized: &Authorized<R>) -> Authorized<R> {
    authorized.clone()
}

fn main() {}

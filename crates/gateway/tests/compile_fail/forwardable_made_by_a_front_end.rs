//! A front end is given what it sends; it cannot make it.

use durward_gateway::exchange::Identity;
use durward_gateway::pipeline::Forwardable;
use std::sync::Arc;

fn send_undecided<R>(
    identity: Arc<Identity>,
    operation: Arc<durward_core::Operation>,
    request: R,
) -> Forwardable<R> {
    Forwardable::new(identity, operation, request, None)
}

fn main() {}

//! A `Recorded` exists only once its intent is durable.

use durward_gateway::pipeline::{Authorized, Recorded};

fn skip_record_intent<R>(authorized: Authorized<R>) -> Recorded<R> {
    let (bound, claimed_grant) = authorized.into_bound();
    Recorded { bound, claimed_grant, pending_outcome: unreachable() }
}

fn main() {}

fn unreachable<T>() -> T {
    std::process::exit(1)
}

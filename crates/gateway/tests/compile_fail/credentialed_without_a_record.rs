//! A `Credentialed` needs a `Recorded`: an authorized operation is not enough.

use durward_gateway::pipeline::{Authorized, Credentialed};

fn skip_record_intent<R>(authorized: Authorized<R>) -> Credentialed<R> {
    Credentialed { recorded: authorized, credential: None }
}

fn main() {}

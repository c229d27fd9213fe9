//! A `Permitted` exists only once the grant that it needs is consumed.

use durward_gateway::pipeline::{Permitted, Recorded};

fn skip_consume_grant<R>(recorded: Recorded<R>) -> Permitted<R> {
    Permitted(recorded)
}

fn main() {}

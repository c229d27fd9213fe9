//! An `Authorized` comes from authorize or from a consumed grant, and from nowhere else.

use durward_gateway::pipeline::{Authorized, Decoded};

fn skip_authorize<R>(decoded: Decoded<R>, decision: durward_core::Decision) -> Authorized<R> {
    Authorized { decoded, decision, digest: [0; 32], fingerprint: [0; 32], claimed_grant: None, execution: None }
}

fn main() {}

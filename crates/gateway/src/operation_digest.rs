//! The digest that decision, approval and send are bound to.

use aws_lc_rs::digest::{SHA256, digest};
use durward_core::Operation;

/// SHA-256 of the operation's canonical form, with all its parameters.
pub(crate) fn operation_digest(operation: &Operation) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, &operation.canonical_json()).as_ref());
    bytes
}

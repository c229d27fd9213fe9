//! The attributes that a grant and a first-seen record are bound to, as text that the store compares.

use durward_core::{Caller, Operation};
use std::collections::BTreeSet;

/// Everything of a caller that a grant is bound to. Groups may change between the request and its use; the principal, and
/// the principals that it acts for, may not.
pub(crate) fn caller_binding(caller: &Caller) -> String {
    // A JSON array, so that no part can contain the separator and pass for two parts.
    serde_json::json!([caller.provider, caller.issuer, caller.subject, caller.kind.as_str(), caller.act])
        .to_string()
}

/// The distinct actions of an operation, sorted and separated by spaces.
pub(crate) fn distinct_actions(operation: &Operation) -> String {
    let actions: BTreeSet<&str> =
        operation.required_permissions.iter().map(|permission| permission.action.as_str()).collect();
    actions.into_iter().collect::<Vec<_>>().join(" ")
}

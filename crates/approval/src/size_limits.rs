//! Limits on the parts of an approval request that are stored. Text is stored as it came, up to a limit; a parameter that is cut
//! is listed as uninspected, so that no approver takes the shown part for the whole.

use crate::{ApprovalRequestError, Approver, NewApprovalRequest};
use durward_core::Operation;
use durward_core::limits::{MAX_APPROVAL_REQUEST_BYTES, MAX_VOTE_REASON_BYTES};
use serde_json::Value;

/// Bytes of a name, a subject or a user agent.
const MAX_NAME_BYTES: usize = 1 << 10;
/// Bytes of all groups of one person.
const MAX_GROUPS_BYTES: usize = 256 << 10;
/// Bytes of one string in the parameters of an operation that is too large as it came.
const MAX_SHOWN_STRING_BYTES: usize = 1 << 10;

/// A text that is longer than its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong {
    pub(crate) field: &'static str,
    pub(crate) limit: usize,
}

/// Cuts a request to its limits, or refuses it.
pub(crate) fn enforce_size_limits(new: &mut NewApprovalRequest) -> Result<(), ApprovalRequestError> {
    truncate_text(&mut new.reason, MAX_VOTE_REASON_BYTES);
    if let Some(user_agent) = &mut new.user_agent {
        truncate_text(user_agent, MAX_NAME_BYTES);
    }
    if json_length(new) > MAX_APPROVAL_REQUEST_BYTES {
        // The digest stays that of the whole operation: the approval is for all of it, whatever is shown.
        shorten_parameters(&mut new.operation);
    }
    if json_length(new) > MAX_APPROVAL_REQUEST_BYTES {
        Err(ApprovalRequestError::TooLarge { limit: MAX_APPROVAL_REQUEST_BYTES })
    } else {
        Ok(())
    }
}

/// Checks the texts of a person.
pub(crate) fn check_approver_size(approver: &Approver) -> Result<(), TooLong> {
    // Each group takes two quotes and a separator in the stored JSON.
    let groups: usize = approver.groups.iter().map(|group| group.len() + 4).sum();
    if [&approver.id, &approver.name, &approver.subject].iter().any(|text| text.len() > MAX_NAME_BYTES) {
        Err(TooLong { field: "a name", limit: MAX_NAME_BYTES })
    } else if groups > MAX_GROUPS_BYTES {
        Err(TooLong { field: "the list of groups", limit: MAX_GROUPS_BYTES })
    } else {
        Ok(())
    }
}

/// Checks the reason of a vote.
pub(crate) fn check_reason_size(reason: &str) -> Result<(), TooLong> {
    if reason.len() > MAX_VOTE_REASON_BYTES {
        Err(TooLong { field: "the reason", limit: MAX_VOTE_REASON_BYTES })
    } else {
        Ok(())
    }
}

/// Bytes of the stored JSON. A request that cannot be written counts as too long.
fn json_length(new: &NewApprovalRequest) -> usize {
    serde_json::to_vec(new).map_or(usize::MAX, |json| json.len())
}

/// Cuts at a character boundary.
fn truncate_text(text: &mut String, limit: usize) {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
    }
}

/// Cuts the long strings of the parameters and lists each of them as uninspected.
fn shorten_parameters(operation: &mut Operation) {
    let mut cuts = Vec::new();
    shorten_value(&mut operation.parameters, "parameters", &mut cuts);
    operation.uninspected_parts.extend(cuts);
}

fn shorten_value(value: &mut Value, at: &str, cuts: &mut Vec<String>) {
    match value {
        Value::String(text) if text.len() > MAX_SHOWN_STRING_BYTES => {
            cuts.push(format!(
                "{at}: only the first {MAX_SHOWN_STRING_BYTES} of {} bytes are shown",
                text.len()
            ));
            truncate_text(text, MAX_SHOWN_STRING_BYTES);
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                shorten_value(item, &format!("{at}/{index}"), cuts);
            }
        }
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                shorten_value(member, &format!("{at}/{name}"), cuts);
            }
        }
        _ => {}
    }
}

//! How much of an ask is kept. Text is stored as given, but only so much of it; what a person cannot be shown is named.

use crate::{ApprovalRequestError, Approver, NewApprovalRequest};
use durward_core::Operation;
use serde_json::Value;

/// Largest ask as JSON, in bytes: a person will not read more, and a thousand of them must fit on a small disk.
pub(crate) const MAX_REQUEST_BYTES: usize = 256 << 10;
/// A person's reason, and policy's, in bytes.
pub(crate) const MAX_REASON_BYTES: usize = 4 << 10;
/// A name, a subject or a user agent, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 1 << 10;
/// All groups of a person, in bytes.
pub(crate) const MAX_GROUPS_BYTES: usize = 256 << 10;
/// In an operation that is too large, strings longer than this are cut.
const MAX_SHOWN_STRING_BYTES: usize = 1 << 10;

/// Brings an ask within bounds, or refuses it.
pub(crate) fn enforce_size_limits(new: &mut NewApprovalRequest) -> Result<(), ApprovalRequestError> {
    truncate_text(&mut new.reason, MAX_REASON_BYTES);
    if let Some(user_agent) = &mut new.user_agent {
        truncate_text(user_agent, MAX_NAME_BYTES);
    }
    if json_length(new) > MAX_REQUEST_BYTES {
        shorten_parameters(&mut new.operation);
    }
    if json_length(new) > MAX_REQUEST_BYTES {
        Err(ApprovalRequestError::TooLarge { limit: MAX_REQUEST_BYTES })
    } else {
        Ok(())
    }
}

/// What is too long of a person, if anything is.
pub(crate) fn check_approver_size(person: &Approver) -> Result<(), (&'static str, usize)> {
    let groups: usize = person.groups.iter().map(|group| group.len() + 4).sum();
    if [&person.id, &person.name, &person.subject].iter().any(|text| text.len() > MAX_NAME_BYTES) {
        Err(("a name", MAX_NAME_BYTES))
    } else if groups > MAX_GROUPS_BYTES {
        Err(("the list of groups", MAX_GROUPS_BYTES))
    } else {
        Ok(())
    }
}

/// What cannot be written has no length that fits.
fn json_length(new: &NewApprovalRequest) -> usize {
    serde_json::to_vec(new).map_or(usize::MAX, |json| json.len())
}

/// Cuts at a character.
fn truncate_text(text: &mut String, limit: usize) {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
    }
}

/// Cuts the long strings of the parameters and names each of them as uninspected.
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

//! How much of an ask is kept. Text is stored as given, but only so much of it; what a person cannot be shown is named.

use crate::{AskError, NewAsk, Person};
use durward_core::Operation;
use serde_json::Value;

/// Largest ask as JSON, in bytes: a person will not read more, and a thousand of them must fit on a small disk.
pub(crate) const ASK: usize = 256 << 10;
/// A person's reason, and policy's, in bytes.
pub(crate) const REASON: usize = 4 << 10;
/// A name, a subject or a user agent, in bytes.
pub(crate) const NAME: usize = 1 << 10;
/// All groups of a person, in bytes.
pub(crate) const GROUPS: usize = 256 << 10;
/// In an operation that is too large, strings longer than this are cut.
const LONG: usize = 1 << 10;

/// Brings an ask within bounds, or refuses it.
pub(crate) fn fit(new: &mut NewAsk) -> Result<(), AskError> {
    cut(&mut new.reason, REASON);
    if let Some(user_agent) = &mut new.user_agent {
        cut(user_agent, NAME);
    }
    if length(new) > ASK {
        shorten(&mut new.operation);
    }
    if length(new) > ASK { Err(AskError::TooLarge { limit: ASK }) } else { Ok(()) }
}

/// What is too long of a person, if anything is.
pub(crate) fn person(person: &Person) -> Result<(), (&'static str, usize)> {
    let groups: usize = person.groups.iter().map(|group| group.len() + 4).sum();
    if [&person.id, &person.name, &person.subject].iter().any(|text| text.len() > NAME) {
        Err(("a name", NAME))
    } else if groups > GROUPS {
        Err(("the list of groups", GROUPS))
    } else {
        Ok(())
    }
}

/// What cannot be written has no length that fits.
fn length(new: &NewAsk) -> usize {
    serde_json::to_vec(new).map_or(usize::MAX, |json| json.len())
}

/// Cuts at a character.
fn cut(text: &mut String, limit: usize) {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
    }
}

/// Cuts the long strings of the parameters and names each of them as uninspected.
fn shorten(operation: &mut Operation) {
    let mut cuts = Vec::new();
    shorten_value(&mut operation.parameters, "parameters", &mut cuts);
    operation.uninspected.extend(cuts);
}

fn shorten_value(value: &mut Value, at: &str, cuts: &mut Vec<String>) {
    match value {
        Value::String(text) if text.len() > LONG => {
            cuts.push(format!("{at}: only the first {LONG} of {} bytes are shown", text.len()));
            cut(text, LONG);
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

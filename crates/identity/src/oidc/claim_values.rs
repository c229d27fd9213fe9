//! The JSON of a token's header and claims.

use serde_json::{Map, Value};

pub(super) type JsonObject = Map<String, Value>;

/// A string or a list of strings, as a list.
pub(super) fn string_or_list(claim: Option<&Value>) -> Option<Vec<&str>> {
    match claim? {
        Value::String(one) => Some(vec![one]),
        Value::Array(many) => many.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

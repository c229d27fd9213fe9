//! The ids of JSON-RPC requests.

use serde_json::Value;

/// Longest id and longest name of a method, tool, prompt or the like, in bytes. The specification has no limit; ids and names
/// go into every record.
pub(crate) const MAX_NAME_BYTES: usize = 1_024;

/// The id that connects a response with its request. A string and a number are different ids.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RequestId {
    Text(String),
    Number(i64),
}

impl RequestId {
    /// The id as a JSON value.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Text(text) => Value::String(text.clone()),
            Self::Number(number) => Value::Number((*number).into()),
        }
    }

    pub(crate) fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) if text.len() <= MAX_NAME_BYTES => Some(Self::Text(text.clone())),
            Value::Number(number) => number.as_i64().map(Self::Number),
            _ => None,
        }
    }
}

//! Values of JSON responses as text for a terminal. Their texts are untrusted.

use crate::terminal_text::escape_for_terminal;
use serde_json::Value;

/// The items of a list. A value of another type has none.
pub fn list_items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A scalar as text for a terminal; nothing for null.
pub fn format_scalar(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => escape_for_terminal(text),
        other => escape_for_terminal(&other.to_string()),
    }
}

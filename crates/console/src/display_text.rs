//! Untrusted text, made safe to display: no control character is obeyed, and no character is invisible.

use durward_core::{Caller, escape_invisible, is_invisible};
use serde::Serialize;
use serde_json::Value;
use std::fmt;

/// Text that is safe to display. The constructors escape invisible characters, so a template cannot forget to; the template
/// escapes HTML.
///
/// Direction characters matter as much as markup: with U+202E a resource name can be made to read as another one ("Trojan
/// Source", CVE-2021-42574), and an approver would approve what they did not read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct DisplayText(String);

impl DisplayText {
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(escape_invisible(text.as_ref()))
    }

    /// `corp/agent-7 for alice`: the caller and the subjects it acts for.
    pub fn from_caller(caller: &Caller) -> Self {
        let mut text = caller.id();
        if !caller.act.is_empty() {
            text.push_str(" for ");
            text.push_str(&caller.act.join(", "));
        }
        Self::new(text)
    }

    /// Indented JSON. The line feeds of the indentation stay; those within strings are escaped by JSON itself.
    pub fn from_json(value: &Value) -> Self {
        let indented = serde_json::to_string_pretty(value).unwrap_or_default();
        Self::escape_except(&indented, |character| character == '\n')
    }

    /// A text of several lines, as a policy file: line feeds and tabs stay.
    pub fn from_multiline(text: &str) -> Self {
        Self::escape_except(text, |character| matches!(character, '\n' | '\t'))
    }

    fn escape_except(text: &str, stays: impl Fn(char) -> bool) -> Self {
        let mut escaped = String::with_capacity(text.len());
        for character in text.chars() {
            if !stays(character) && is_invisible(character) {
                escaped.extend(character.escape_unicode());
            } else {
                escaped.push(character);
            }
        }
        Self(escaped)
    }

    /// The first `max_chars` characters, and the number of characters beyond them.
    pub fn truncate_chars(self, max_chars: usize) -> (Self, usize) {
        let length = self.0.chars().count();
        if length <= max_chars {
            return (self, 0);
        }
        (Self(self.0.chars().take(max_chars).collect()), length - max_chars)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for DisplayText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl askama::FastWritable for DisplayText {
    fn write_into(&self, dest: &mut dyn fmt::Write, _values: &dyn askama::Values) -> askama::Result<()> {
        dest.write_str(&self.0)?;
        Ok(())
    }
}

/// The text with a capital first letter.
pub fn capitalize_first(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}", characters.as_str())
}

/// An error text as a sentence: with a capital letter and a full stop.
pub fn as_sentence(text: &str) -> String {
    format!("{}.", capitalize_first(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_keeps_only_the_line_feeds_of_its_indentation() {
        let shown = DisplayText::from_json(&json!({"a": "x\n\u{202e}y", "b\u{9}": [1]}));
        assert_eq!(shown.0, "{\n  \"a\": \"x\\n\\u{202e}y\",\n  \"b\\t\": [\n    1\n  ]\n}");
    }

    #[test]
    fn truncation_reports_the_number_of_hidden_characters() {
        assert_eq!(DisplayText::new("abcdef").truncate_chars(4), (DisplayText::new("abcd"), 2));
        assert_eq!(DisplayText::new("abcd").truncate_chars(4), (DisplayText::new("abcd"), 0));
    }
}

//! Text that somebody else wrote, made fit to be shown: nothing in it is obeyed, nothing in it is invisible.

use durward_core::{escape_invisible, is_invisible};
use serde::Serialize;
use serde_json::Value;
use std::fmt;

/// Text as it may be shown. It is made visible on the way in, so a template cannot forget to; HTML is escaped on the way
/// out, by the template.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct DisplayText(String);

impl DisplayText {
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(escape_invisible(text.as_ref()))
    }

    /// JSON over several lines. Its own line feeds stay; whatever is within its strings is made visible.
    pub fn from_json(value: &Value) -> Self {
        let laid_out = serde_json::to_string_pretty(value).unwrap_or_default();
        let mut out = String::with_capacity(laid_out.len());
        for character in laid_out.chars() {
            if character != '\n' && is_invisible(character) {
                out.extend(character.escape_unicode());
            } else {
                out.push(character);
            }
        }
        Self(out)
    }

    /// A file that people wrote: its line feeds and tabs stay.
    pub fn from_multiline(text: &str) -> Self {
        let mut out = String::with_capacity(text.len());
        for character in text.chars() {
            if !matches!(character, '\n' | '\t') && is_invisible(character) {
                out.extend(character.escape_unicode());
            } else {
                out.push(character);
            }
        }
        Self(out)
    }

    /// The first `longest` characters, and how many there are beyond.
    pub fn truncate_chars(self, longest: usize) -> (Self, usize) {
        let length = self.0.chars().count();
        if length <= longest {
            return (self, 0);
        }
        (Self(self.0.chars().take(longest).collect()), length - longest)
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_keeps_only_its_own_line_feeds() {
        let shown = DisplayText::from_json(&json!({"a": "x\n\u{202e}y", "b\u{9}": [1]}));
        assert_eq!(shown.0, "{\n  \"a\": \"x\\n\\u{202e}y\",\n  \"b\\t\": [\n    1\n  ]\n}");
    }

    #[test]
    fn says_how_much_was_cut_off() {
        assert_eq!(DisplayText::new("abcdef").truncate_chars(4), (DisplayText::new("abcd"), 2));
        assert_eq!(DisplayText::new("abcd").truncate_chars(4), (DisplayText::new("abcd"), 0));
    }
}

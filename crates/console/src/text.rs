//! Text that somebody else wrote, made fit to be shown: nothing in it is obeyed, nothing in it is invisible.

use serde::Serialize;
use serde_json::Value;
use std::fmt;

/// Control characters, and those that are invisible or change the direction or the order of the text around them.
pub fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{2000}'..='\u{200f}'
                | '\u{2028}'..='\u{202f}'
                | '\u{205f}'..='\u{206f}'
                | '\u{2800}'
                | '\u{3000}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// The text with every hidden character written out, as `\u{202e}`.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if is_hidden(character) {
            out.extend(character.escape_unicode());
        } else {
            out.push(character);
        }
    }
    out
}

/// Text as it may be shown. It is made visible on the way in, so a template cannot forget to; HTML is escaped on the way
/// out, by the template.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Text(String);

impl Text {
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(visible(text.as_ref()))
    }

    /// JSON over several lines. Its own line feeds stay; whatever is within its strings is made visible.
    pub fn json(value: &Value) -> Self {
        let laid_out = serde_json::to_string_pretty(value).unwrap_or_default();
        let mut out = String::with_capacity(laid_out.len());
        for character in laid_out.chars() {
            if character != '\n' && is_hidden(character) {
                out.extend(character.escape_unicode());
            } else {
                out.push(character);
            }
        }
        Self(out)
    }

    /// A file that people wrote: its line feeds and tabs stay.
    pub fn file(text: &str) -> Self {
        let mut out = String::with_capacity(text.len());
        for character in text.chars() {
            if !matches!(character, '\n' | '\t') && is_hidden(character) {
                out.extend(character.escape_unicode());
            } else {
                out.push(character);
            }
        }
        Self(out)
    }

    /// The first `longest` characters, and how many there are beyond.
    pub fn cut(self, longest: usize) -> (Self, usize) {
        let length = self.0.chars().count();
        if length <= longest {
            return (self, 0);
        }
        (Self(self.0.chars().take(longest).collect()), length - longest)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl askama::FastWritable for Text {
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
    fn writes_hidden_characters_out() {
        for (hidden, shown) in [
            ("a\u{202e}b", "a\\u{202e}b"),
            ("\u{7}\u{1b}[31m", "\\u{7}\\u{1b}[31m"),
            ("line\r\nfeed", "line\\u{d}\\u{a}feed"),
            ("\u{2066}x\u{2069}", "\\u{2066}x\\u{2069}"),
            ("zero\u{200b}width\u{feff}", "zero\\u{200b}width\\u{feff}"),
            ("\u{e0041}\u{9f}\u{ad}", "\\u{e0041}\\u{9f}\\u{ad}"),
            ("plain <b> & \u{e9}\u{4e2d}", "plain <b> & \u{e9}\u{4e2d}"),
        ] {
            assert_eq!(visible(hidden), shown);
        }
    }

    #[test]
    fn no_character_that_changes_direction_or_is_a_control_survives() {
        for character in '\0'..=char::MAX {
            let marks_direction = matches!(character,
                '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if character.is_control() || marks_direction {
                assert!(!visible(&character.to_string()).contains(character), "{character:?}");
            }
        }
    }

    #[test]
    fn json_keeps_only_its_own_line_feeds() {
        let shown = Text::json(&json!({"a": "x\n\u{202e}y", "b\u{9}": [1]}));
        assert_eq!(shown.as_str(), "{\n  \"a\": \"x\\n\\u{202e}y\",\n  \"b\\t\": [\n    1\n  ]\n}");
    }

    #[test]
    fn says_how_much_was_cut_off() {
        assert_eq!(Text::new("abcdef").cut(4), (Text::new("abcd"), 2));
        assert_eq!(Text::new("abcd").cut(4), (Text::new("abcd"), 0));
    }
}

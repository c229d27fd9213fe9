//! Strings of several lines as people can read them: a JSON document is indented, and other text keeps its line feeds.
//!
//! Nothing is left out, reordered or decoded: a member that is given twice is shown twice, and an escape stays an escape. A reader
//! that built a value first would show less than what is sent. The text is still that of the caller: the surfaces escape it.

use percent_encoding::percent_decode_str;
use serde::de::IgnoredAny;

/// A string that is shown as a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentText {
    /// An indented JSON document.
    Json(String),
    /// An indented JSON document that was percent-encoded, as IAM encodes policies.
    EncodedJson(String),
    /// Text of several lines.
    Lines(String),
}

impl DocumentText {
    /// `None`: the string is a single line and no JSON object or array.
    pub fn from_text(text: &str) -> Option<Self> {
        if let Some(indented) = indent_json(text) {
            return Some(Self::Json(indented));
        }
        if let Some(indented) = decode_percent_encoded_json(text).as_deref().and_then(indent_json) {
            return Some(Self::EncodedJson(indented));
        }
        text.trim_end_matches('\n').contains('\n').then(|| Self::Lines(text.to_owned()))
    }

    pub fn text(&self) -> &str {
        match self {
            Self::Json(text) | Self::EncodedJson(text) | Self::Lines(text) => text,
        }
    }

    /// What the block is, in words.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Json(_) => "JSON, indented",
            Self::EncodedJson(_) => "JSON, decoded and indented",
            Self::Lines(_) => "several lines",
        }
    }
}

/// The text that a percent-encoded string stands for, if it could be a JSON object or array.
pub(crate) fn decode_percent_encoded_json(text: &str) -> Option<String> {
    let start = text.trim_start_matches(['+', ' ']).get(..3)?;
    if !start.eq_ignore_ascii_case("%7B") && !start.eq_ignore_ascii_case("%5B") {
        return None;
    }
    // A form encodes a space as a plus sign, and a plus sign as `%2B`.
    percent_decode_str(&text.replace('+', " ")).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// Returns true if the text begins as a JSON object or array does.
pub(crate) fn begins_as_json_document(text: &str) -> bool {
    text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']).starts_with(['{', '['])
}

/// A JSON object or array with one member or item on each line. `None`: the text is something else.
fn indent_json(text: &str) -> Option<String> {
    if !begins_as_json_document(text) || serde_json::from_str::<IgnoredAny>(text).is_err() {
        return None;
    }
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0_usize;
    let mut characters = text.chars().filter(JsonSpace::default().filter()).peekable();
    let mut in_string = false;
    let mut is_escaped = false;
    while let Some(character) = characters.next() {
        if in_string {
            out.push(character);
            in_string = is_escaped || character != '"';
            is_escaped = !is_escaped && character == '\\';
            continue;
        }
        match character {
            '{' | '[' => {
                out.push(character);
                if let Some(close) = characters.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    start_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                start_line(&mut out, depth);
                out.push(character);
            }
            ',' => {
                out.push(character);
                start_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            other => {
                in_string = other == '"';
                out.push(other);
            }
        }
    }
    Some(out)
}

/// Tells the space between the tokens of a JSON text from the space within its strings.
#[derive(Default)]
struct JsonSpace {
    in_string: bool,
    is_escaped: bool,
}

impl JsonSpace {
    fn filter(mut self) -> impl FnMut(&char) -> bool {
        move |character| {
            if self.in_string {
                self.in_string = self.is_escaped || *character != '"';
                self.is_escaped = !self.is_escaped && *character == '\\';
                return true;
            }
            self.in_string = *character == '"';
            !matches!(character, ' ' | '\t' | '\r' | '\n')
        }
    }
}

fn start_line(out: &mut String, depth: usize) {
    out.push('\n');
    for _level in 0..depth {
        out.push_str("  ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn json(text: &str) -> DocumentText {
        DocumentText::Json(text.to_owned())
    }

    #[test]
    fn a_document_has_one_member_on_each_line_and_loses_nothing() {
        let text = r#" {"a":[1, {"b" : "x, {y}\" \\"}],"c":{},"a":[ ], "\u202e":1e2}"#;
        let indented = "{\n  \"a\": [\n    1,\n    {\n      \"b\": \"x, {y}\\\" \\\\\"\n    }\n  ],\n  \"c\": {},\n  \"a\": [],\n  \"\\u202e\": 1e2\n}";
        assert_eq!(DocumentText::from_text(text), Some(json(indented)));
        assert_eq!(DocumentText::from_text("[]"), Some(json("[]")));
    }

    #[test]
    fn percent_encoded_documents_are_decoded() {
        let wanted = Some(DocumentText::EncodedJson("{\n  \"a b\": \"+\"\n}".to_owned()));
        for text in ["%7B%22a%20b%22%3A%22%2B%22%7D", "%7b%22a+b%22%3a%22%2B%22%7d"] {
            assert_eq!(DocumentText::from_text(text), wanted, "{text}");
        }
    }

    #[test]
    fn other_text_is_a_block_only_if_it_has_several_lines() {
        let script = "#!/bin/sh\necho {}\n";
        assert_eq!(DocumentText::from_text(script), Some(DocumentText::Lines(script.to_owned())));
        for text in
            ["", "x", "x\n", "1", "\"{}\"", "{not json}", "[1] 2", "%7Bx", "%7B%FF%7D", "%", "%\u{e9}\u{e9}"]
        {
            assert_eq!(DocumentText::from_text(text), None, "{text}");
        }
        assert!(matches!(DocumentText::from_text("{\n"), None | Some(DocumentText::Lines(_))));
    }

    proptest! {
        #[test]
        fn an_indented_document_is_the_same_value(text in r#"[\[\]{}:,"a1 \\\n%7BD+-]{0,40}"#) {
            match DocumentText::from_text(&text) {
                Some(DocumentText::Json(indented)) => {
                    let value: Value = serde_json::from_str(&indented).unwrap();
                    prop_assert_eq!(value, serde_json::from_str::<Value>(&text).unwrap());
                }
                Some(DocumentText::Lines(lines)) => prop_assert_eq!(lines, text),
                Some(DocumentText::EncodedJson(_)) | None => {}
            }
        }
    }
}

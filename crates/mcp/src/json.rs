//! JSON read so that every reader agrees: UTF-8, no member twice, bounded nesting, nothing after the value.
//!
//! [`strict`] makes a tree of a message from a caller; [`Members`] takes one object of an answer apart and leaves the
//! bytes of every member as they are.

use durward_core::{StrictJsonError, parse_strict_json};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::fmt;

/// Reads one value; the error says what is wrong, never what was read.
pub(crate) fn parse_json_body(body: &[u8]) -> Result<Value, &'static str> {
    parse_strict_json(body).map_err(|error| match error {
        StrictJsonError::InvalidUtf8 => "the body is not UTF-8",
        StrictJsonError::DuplicateMember(_) => "a member is given twice in one object",
        StrictJsonError::TooDeep(_) => "the body nests deeper than 64 levels",
        StrictJsonError::TooManyValues => "the body holds more than 500000 values",
        StrictJsonError::Syntax(_) => "the body is not JSON",
        StrictJsonError::TrailingData(_) => "something follows the JSON value",
    })
}

/// A name as a reader sees it that takes no heed of case, like Go's.
pub(crate) fn fold_case(name: &str) -> String {
    name.to_uppercase().to_lowercase()
}

/// Whether two names of an object differ in their case only.
pub(crate) fn has_case_duplicates<'n>(names: impl Iterator<Item = &'n String>) -> bool {
    let mut seen = HashSet::new();
    names.into_iter().any(|name| !seen.insert(fold_case(name)))
}

/// One JSON object: its members in their order, the values as they were written.
#[derive(Debug)]
pub(crate) struct RawObject<'a>(Vec<(String, &'a RawValue)>);

impl<'a> RawObject<'a> {
    /// `None`: not an object, or one in which a name stands twice, in whatever case.
    pub fn parse(text: &'a str) -> Option<Self> {
        let members: Self = serde_json::from_str::<RawObjectSeed<'a>>(text).ok()?.0;
        (!has_case_duplicates(members.0.iter().map(|(name, _value)| name))).then_some(members)
    }

    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(own, _value)| own == name).map(|(_name, value)| *value)
    }

    /// The value of a member that is a string.
    pub fn get_string(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }

    /// The object again, with the values of some members replaced.
    pub fn encode_replacing(&self, replaced: &[(&str, &str)]) -> String {
        let mut out = String::from("{");
        for (index, (name, value)) in self.0.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push_str(&Value::String(name.clone()).to_string());
            out.push(':');
            let other = replaced.iter().find(|(own, _text)| own == name);
            out.push_str(other.map_or(value.get(), |(_name, text)| text));
        }
        out.push('}');
        out
    }
}

struct RawObjectSeed<'a>(RawObject<'a>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for RawObjectSeed<'a> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct RawObjectVisitor;

        impl<'de> Visitor<'de> for RawObjectVisitor {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(member) = members.next_entry::<String, &'de RawValue>()? {
                    list.push(member);
                }
                Ok(list)
            }
        }

        reader.deserialize_map(RawObjectVisitor).map(|list| Self(RawObject(list)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use durward_core::limits::MAX_NESTING_DEPTH;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn refuses_what_readers_disagree_about() {
        for (body, why) in [
            (&br#"{"a":1,"a":2}"#[..], "twice"),
            (br#"{"a":{"b":1,"\u0062":2}}"#, "twice"),
            (br#"[{"x":[{"y":1,"y":1}]}]"#, "twice"),
            (b"{\"a\":\"\xff\"}", "UTF-8"),
            (b"{} {}", "follows"),
            (b"{}\0", "follows"),
            (b"\xef\xbb\xbf{}", "not JSON"),
            (br#"{"a":"\ud800"}"#, "not JSON"),
            (br#"{"a":01}"#, "not JSON"),
            (br#"{"a":1e999}"#, "not JSON"),
            (br#"{"a":NaN}"#, "not JSON"),
            (b"{'a':1}", "not JSON"),
            (b"{\"a\":\"\n\"}", "not JSON"),
            (b"{\"a\":1,}", "not JSON"),
            (b"", "not JSON"),
        ] {
            let error = parse_json_body(body).unwrap_err();
            assert!(error.contains(why), "{}: {error}", String::from_utf8_lossy(body));
        }
        let nested = |levels: usize| [b"[".repeat(levels), b"]".repeat(levels)].concat();
        assert!(parse_json_body(&nested(MAX_NESTING_DEPTH)).is_ok());
        assert!(parse_json_body(&nested(MAX_NESTING_DEPTH + 1)).unwrap_err().contains("64"));
        assert!(parse_json_body(&nested(1_000_000)).unwrap_err().contains("64"));
    }

    #[test]
    fn an_object_comes_out_as_it_went_in() {
        let text = r#"{"z":1.0,"a":{"y": [1e3 ],"b":"\/"},"tools":[],"é":null}"#;
        let members = RawObject::parse(text).unwrap();
        assert_eq!(members.encode_replacing(&[]), text);
        assert_eq!(members.encode_replacing(&[("tools", "[7]")]), text.replace("[]", "[7]"));
        for twice in
            [r#"{"a":1,"a":2}"#, r#"{"a":1,"A":2}"#, "{\"sk\":1,\"\u{17f}\u{212a}\":2}", "[]", "{", "{}x"]
        {
            assert!(RawObject::parse(twice).is_none(), "{twice}");
        }
    }

    proptest! {
        #[test]
        fn reads_what_serde_reads(texts in proptest::collection::btree_map(".*", ".*", 0..5), number: i64) {
            let value = json!({ "texts": texts, "list": [number, null, true, 0.5] });
            prop_assert_eq!(parse_json_body(value.to_string().as_bytes()), Ok(value));
        }

        #[test]
        fn never_panics(body: Vec<u8>) {
            if let Ok(value) = parse_json_body(&body) {
                prop_assert_eq!(serde_json::from_slice::<Value>(&body).ok(), Some(value));
            }
        }
    }
}

//! Names compared without case, and the objects of a server's message with the bytes of their members.
//!
//! [`RawObject`] checks the names of one object only. Deeper objects of a server's result (schemas, content) pass as they are,
//! because the gateway must not change them; the client reads them as the server wrote them. Messages of callers go through
//! `durward_core::parse_strict_json` instead, which checks every level.

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::fmt;

/// A name as readers see it that ignore case, like Go's encoding/json: upper-casing first also folds `ſ` and the Kelvin sign.
pub(crate) fn fold_case(name: &str) -> String {
    name.to_uppercase().to_lowercase()
}

/// Returns true if two names of an object are equal without case.
pub(crate) fn has_case_duplicates<'n>(names: impl Iterator<Item = &'n String>) -> bool {
    let mut seen = HashSet::new();
    names.into_iter().any(|name| !seen.insert(fold_case(name)))
}

/// One JSON object: its members in their order, the values as written.
#[derive(Debug)]
pub(crate) struct RawObject<'a>(Vec<(String, &'a RawValue)>);

impl<'a> RawObject<'a> {
    /// `None` if it is not an object, or has a name twice, in whatever case.
    pub fn parse(text: &'a str) -> Option<Self> {
        let members: Self = serde_json::from_str::<RawObjectSeed<'a>>(text).ok()?.0;
        (!has_case_duplicates(members.0.iter().map(|(name, _value)| name))).then_some(members)
    }

    /// The value of a member as written.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(own, _value)| own == name).map(|(_name, value)| *value)
    }

    /// The value of a string member.
    pub fn get_string(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }

    /// Encodes the object with the values of some members replaced.
    pub fn encode_replacing(&self, replaced: &[(&str, &str)]) -> String {
        let mut out = String::from("{");
        for (index, (name, value)) in self.0.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push_str(&Value::String(name.clone()).to_string());
            out.push(':');
            let replacement = replaced.iter().find(|(own, _text)| own == name);
            out.push_str(replacement.map_or(value.get(), |(_name, text)| text));
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

    #[test]
    fn an_object_keeps_its_bytes() {
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
}

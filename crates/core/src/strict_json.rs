//! JSON read so that every reader agrees: UTF-8, no member twice at any depth, numbers in range, bounded nesting and size,
//! nothing after the value. Both front ends read the bodies of callers with it.

use crate::limits::{MAX_BODY_VALUES, MAX_NESTING_DEPTH};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::cell::Cell;
use std::fmt;

/// Why a body is refused. The texts say where the fault is, never what was read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StrictJsonError {
    #[error("the body is not UTF-8")]
    InvalidUtf8,
    /// One object has two members of one name.
    #[error("a member is given twice in one object ({0})")]
    DuplicateMember(String),
    #[error("the body nests deeper than {MAX_NESTING_DEPTH} levels ({0})")]
    TooDeep(String),
    #[error("the body holds more than {MAX_BODY_VALUES} values")]
    TooManyValues,
    #[error("the body is not JSON: {0}")]
    Syntax(String),
    #[error("something follows the JSON value ({0})")]
    TrailingData(String),
}

/// Reads one value in one pass.
pub fn parse_strict_json(bytes: &[u8]) -> Result<Value, StrictJsonError> {
    // Checked once as a whole, so that no text in it has to be.
    let text = std::str::from_utf8(bytes).map_err(|_error| StrictJsonError::InvalidUtf8)?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let fault = Cell::new(None);
    let value =
        StrictValueVisitor { depth: 0, remaining_values: &Cell::new(MAX_BODY_VALUES), error_kind: &fault }
            .deserialize(&mut reader)
            .map_err(|error| match fault.get() {
                Some(kind) => kind(position(&error)),
                None => StrictJsonError::Syntax(error.to_string()),
            })?;
    reader.end().map_err(|error| StrictJsonError::TrailingData(position(&error)))?;
    Ok(value)
}

fn position(error: &serde_json::Error) -> String {
    format!("line {} column {}", error.line(), error.column())
}

/// Makes an error out of the position of the fault.
type ErrorKind = fn(String) -> StrictJsonError;

#[derive(Clone, Copy)]
struct StrictValueVisitor<'f> {
    depth: usize,
    /// How many values may yet come.
    remaining_values: &'f Cell<usize>,
    /// The kind of an error that this visitor raised; `None` where the parser did.
    error_kind: &'f Cell<Option<ErrorKind>>,
}

impl StrictValueVisitor<'_> {
    fn enter_container<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_NESTING_DEPTH {
            self.error_kind.set(Some(StrictJsonError::TooDeep));
            return Err(E::custom("nested too deeply"));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for StrictValueVisitor<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        let Some(left) = self.remaining_values.get().checked_sub(1) else {
            self.error_kind.set(Some(|_position| StrictJsonError::TooManyValues));
            return Err(D::Error::custom("too many values"));
        };
        self.remaining_values.set(left);
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictValueVisitor<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a json value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.enter_container()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.enter_container()?;
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(inner)?;
            if map.insert(name, value).is_some() {
                self.error_kind.set(Some(StrictJsonError::DuplicateMember));
                return Err(A::Error::custom("a key is given twice"));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_bodies_that_two_readers_could_read_differently() {
        let deep = format!("{}{}", "[".repeat(MAX_NESTING_DEPTH + 1), "]".repeat(MAX_NESTING_DEPTH + 1));
        for (bad, message) in [
            (r#"{"a":1,"a":2}"#, "twice"),
            (r#"{"x":[{"a":1,"\u0061":2}]}"#, "twice"),
            ("{} {}", "follows"),
            ("{}x", "follows"),
            (r#"{"a":1e999}"#, "not JSON"),
            (r#"{"a":"\ud800"}"#, "not JSON"),
            ("\u{feff}{}", "not JSON"),
            ("{'a':1}", "not JSON"),
            (r#"{"a":NaN}"#, "not JSON"),
            (r#"{"a":01}"#, "not JSON"),
            ("{\"a\":\"\n\"}", "not JSON"),
            ("{\"a\":1,}", "not JSON"),
            ("", "not JSON"),
            ("{}\0", "follows"),
            (r#"[{"x":[{"y":1,"y":1}]}]"#, "twice"),
            (deep.as_str(), "nests deeper"),
        ] {
            let error = parse_strict_json(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(message), "{bad}: {error}");
        }
        assert_eq!(parse_strict_json(b"{\"a\":\"\xff\"}"), Err(StrictJsonError::InvalidUtf8));
        let error = parse_strict_json(&b"[".repeat(1_000_000)).unwrap_err();
        assert!(matches!(error, StrictJsonError::TooDeep(_)), "{error}");
        let near = format!("{}{}", "[".repeat(MAX_NESTING_DEPTH), "]".repeat(MAX_NESTING_DEPTH));
        assert!(parse_strict_json(near.as_bytes()).is_ok());
        let many = format!("[{}0]", "0,".repeat(MAX_BODY_VALUES));
        assert_eq!(parse_strict_json(many.as_bytes()), Err(StrictJsonError::TooManyValues));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _outcome = parse_strict_json(&bytes);
        }

        #[test]
        fn reads_what_serde_writes(texts in proptest::collection::btree_map(".*", ".*", 0..5), number: i64) {
            let value = serde_json::json!({ "texts": texts, "list": [number, null, true, 0.5] });
            prop_assert_eq!(parse_strict_json(value.to_string().as_bytes()), Ok(value));
        }

        #[test]
        fn agrees_with_serde_json_on_what_it_accepts(text in "[\\[\\]{}\",:a1 e.\\-]{0,40}") {
            if let Ok(value) = parse_strict_json(text.as_bytes()) {
                prop_assert_eq!(value, serde_json::from_str::<Value>(&text).unwrap());
            }
        }
    }
}

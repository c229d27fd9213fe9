//! JSON read so that every reader agrees: UTF-8, no member twice at any depth, numbers in range, bounded nesting and size, nothing after
//! the value. Both doors read what callers send with this.

use crate::limits::{DEPTH, VALUES};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::cell::Cell;
use std::fmt;

/// Why a text is not taken. Where a text is carried, it says where it went wrong, never what was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonError {
    Utf8,
    /// A member is given twice in one object.
    Twice(String),
    /// It nests deeper than [`DEPTH`].
    Deep(String),
    /// It holds more than [`VALUES`] values.
    Many,
    Syntax(String),
    /// Something follows the value.
    Trailing(String),
}

/// Reads one value in one pass.
pub fn strict_json(bytes: &[u8]) -> Result<Value, JsonError> {
    // Checked once as a whole, so that no text in it has to be.
    let text = std::str::from_utf8(bytes).map_err(|_error| JsonError::Utf8)?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let fault = Cell::new(JsonError::Syntax as fn(String) -> JsonError);
    let value = Strict { depth: 0, left: &Cell::new(VALUES), fault: &fault }
        .deserialize(&mut reader)
        .map_err(|error| fault.get()(error.to_string()))?;
    reader.end().map_err(|error| JsonError::Trailing(error.to_string()))?;
    Ok(value)
}

#[derive(Clone, Copy)]
struct Strict<'f> {
    depth: usize,
    /// How many values may yet come.
    left: &'f Cell<usize>,
    /// What kind of error one of ours is.
    fault: &'f Cell<fn(String) -> JsonError>,
}

impl Strict<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= DEPTH {
            self.fault.set(JsonError::Deep);
            return Err(E::custom("nested too deeply"));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        let Some(left) = self.left.get().checked_sub(1) else {
            self.fault.set(|_| JsonError::Many);
            return Err(D::Error::custom("too many values"));
        };
        self.left.set(left);
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
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
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(inner)?;
            if map.insert(name, value).is_some() {
                self.fault.set(JsonError::Twice);
                return Err(A::Error::custom("a key is given twice"));
            }
        }
        Ok(Value::Object(map))
    }
}

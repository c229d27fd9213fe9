//! JSON read so that every reader agrees: UTF-8, no member twice at any depth, numbers in range, bounded nesting and size, nothing after
//! the value. Both doors read what callers send with this.

use crate::limits::{MAX_BODY_VALUES, MAX_NESTING_DEPTH};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::cell::Cell;
use std::fmt;

/// Why a text is not taken. Where a text is carried, it says where it went wrong, never what was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StrictJsonError {
    InvalidUtf8,
    /// A member is given twice in one object.
    DuplicateMember(String),
    /// It nests deeper than [`DEPTH`].
    TooDeep(String),
    /// It holds more than [`VALUES`] values.
    TooManyValues,
    Syntax(String),
    /// Something follows the value.
    TrailingData(String),
}

/// Reads one value in one pass.
pub fn parse_strict_json(bytes: &[u8]) -> Result<Value, StrictJsonError> {
    // Checked once as a whole, so that no text in it has to be.
    let text = std::str::from_utf8(bytes).map_err(|_error| StrictJsonError::InvalidUtf8)?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let fault = Cell::new(StrictJsonError::Syntax as fn(String) -> StrictJsonError);
    let value =
        StrictValueVisitor { depth: 0, remaining_values: &Cell::new(MAX_BODY_VALUES), error_kind: &fault }
            .deserialize(&mut reader)
            .map_err(|error| fault.get()(error.to_string()))?;
    reader.end().map_err(|error| StrictJsonError::TrailingData(error.to_string()))?;
    Ok(value)
}

#[derive(Clone, Copy)]
struct StrictValueVisitor<'f> {
    depth: usize,
    /// How many values may yet come.
    remaining_values: &'f Cell<usize>,
    /// What kind of error one of ours is.
    error_kind: &'f Cell<fn(String) -> StrictJsonError>,
}

impl StrictValueVisitor<'_> {
    fn enter_container<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_NESTING_DEPTH {
            self.error_kind.set(StrictJsonError::TooDeep);
            return Err(E::custom("nested too deeply"));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for StrictValueVisitor<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        let Some(left) = self.remaining_values.get().checked_sub(1) else {
            self.error_kind.set(|_| StrictJsonError::TooManyValues);
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
                self.error_kind.set(StrictJsonError::DuplicateMember);
                return Err(A::Error::custom("a key is given twice"));
            }
        }
        Ok(Value::Object(map))
    }
}

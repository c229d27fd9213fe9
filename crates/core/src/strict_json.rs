//! A JSON reader that accepts only text on which every other reader agrees: UTF-8, no duplicate member at any depth, numbers in
//! range, bounded nesting and size, nothing after the value. Both front ends read the bodies of callers with it.
//!
//! RFC 8259 section 4 leaves duplicate names to the reader: some take the first, some the last. If the gateway took one and the
//! upstream the other, the operation that is executed would not be the one that was decided.
//!
//! Promise: a whole number that fits in 64 bits is an integer of [`Value`], however it is written (`500.0`, `5e2`). A number that is
//! a float in the result has a fraction or does not fit.

use crate::limits::{MAX_BODY_VALUES, MAX_NESTING_DEPTH};
use crate::whole_number::parse_whole_number;
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
    let visitor = StrictValueVisitor {
        depth: 0,
        remaining_values: &Cell::new(MAX_BODY_VALUES),
        numbers: &NumberTexts { text, next_offset: Cell::new(0), unread: Cell::new(0) },
        error_kind: &fault,
    };
    let value = visitor.deserialize(&mut reader).map_err(|error| match fault.get() {
        Some(kind) => kind(position(&error)),
        None => StrictJsonError::Syntax(error.to_string()),
    })?;
    // RFC 8259 section 2: a JSON text is one value. A reader that stops early and one that does not would see different bodies.
    reader.end().map_err(|error| StrictJsonError::TrailingData(position(&error)))?;
    Ok(value)
}

fn position(error: &serde_json::Error) -> String {
    format!("line {} column {}", error.line(), error.column())
}

/// The numbers of a JSON text as they are written. serde_json hands a visitor a rounded float; its feature `arbitrary_precision`
/// would keep the text, and would change what every other reader in the process is handed.
struct NumberTexts<'t> {
    text: &'t str,
    /// Where the search for the next number begins.
    next_offset: Cell<usize>,
    /// The numbers from there on that were visited and whose text nobody wanted.
    unread: Cell<usize>,
}

impl<'t> NumberTexts<'t> {
    /// Notes that a number was visited.
    fn skip(&self) {
        self.unread.set(self.unread.get() + 1);
    }

    /// The text of the number that is visited now. The parser visits numbers in their order, and has checked the text up to here.
    fn read(&self) -> &'t str {
        let mut found = "";
        for _ in 0..=self.unread.replace(0) {
            found = self.next_number();
        }
        found
    }

    fn next_number(&self) -> &'t str {
        let bytes = self.text.as_bytes();
        let mut offset = self.next_offset.get();
        let mut in_string = false;
        while let Some(byte) = bytes.get(offset) {
            match byte {
                // The escaped character may be a quotation mark.
                b'\\' if in_string => offset += 1,
                b'"' => in_string = !in_string,
                b'-' | b'0'..=b'9' if !in_string => break,
                _ => {}
            }
            offset += 1;
        }
        let is_number_byte = |byte: &u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
        let length =
            bytes.get(offset..).unwrap_or_default().iter().take_while(|byte| is_number_byte(byte)).count();
        self.next_offset.set(offset + length);
        self.text.get(offset..offset + length).unwrap_or_default()
    }
}

/// Makes an error out of the position of the fault.
type ErrorKind = fn(String) -> StrictJsonError;

#[derive(Clone, Copy)]
struct StrictValueVisitor<'f> {
    depth: usize,
    /// The number of values that may still follow.
    remaining_values: &'f Cell<usize>,
    numbers: &'f NumberTexts<'f>,
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
        self.numbers.skip();
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        self.numbers.skip();
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        if let Some(whole) = parse_whole_number(self.numbers.read()) {
            return Ok(Value::Number(whole));
        }
        // JSON has no NaN and no infinity (RFC 8259 section 6), and a reader that saturates would see another number.
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
        // The name is compared after its escapes are decoded: `"\u0061"` and `"a"` are one member (RFC 8259 section 8.3).
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
    use serde_json::json;

    #[test]
    fn a_member_given_twice_is_an_error_at_any_depth_and_however_it_is_escaped() {
        for text in [
            r#"{"a": 1, "a": 1}"#,
            r#"{"a": 1, "\u0061": 2}"#,
            r#"[{"b": {"a": 1, "c": [], "a": 2}}]"#,
            r#"{"": 1, "": 2}"#,
        ] {
            let error = parse_strict_json(text.as_bytes()).unwrap_err();
            assert!(matches!(error, StrictJsonError::DuplicateMember(_)), "{text}: {error:?}");
        }
        let nested = parse_strict_json(br#"{"a": {"a": {"a": 1}}, "A": 2}"#).unwrap();
        assert_eq!(nested, json!({"a": {"a": {"a": 1}}, "A": 2}));
    }

    #[test]
    fn nesting_is_accepted_up_to_the_limit() {
        let nested = |depth: usize, open: &str, close: &str| open.repeat(depth) + "1" + &close.repeat(depth);
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            assert!(parse_strict_json(nested(MAX_NESTING_DEPTH, open, close).as_bytes()).is_ok());
            let error = parse_strict_json(nested(MAX_NESTING_DEPTH + 1, open, close).as_bytes()).unwrap_err();
            assert!(matches!(error, StrictJsonError::TooDeep(_)), "{error:?}");
        }
    }

    #[test]
    fn values_are_accepted_up_to_the_limit() {
        // The list itself is a value.
        let list = |values: usize| format!("[{}]", vec!["0"; values - 1].join(","));
        assert!(parse_strict_json(list(MAX_BODY_VALUES).as_bytes()).is_ok());
        assert_eq!(
            parse_strict_json(list(MAX_BODY_VALUES + 1).as_bytes()),
            Err(StrictJsonError::TooManyValues)
        );
    }

    #[test]
    fn text_on_which_readers_disagree_is_an_error() {
        assert_eq!(parse_strict_json(b"\"\xff\""), Err(StrictJsonError::InvalidUtf8));
        for text in ["1 2", "{} x", "[]]", "null\u{feff}"] {
            let error = parse_strict_json(text.as_bytes()).unwrap_err();
            assert!(matches!(error, StrictJsonError::TrailingData(_)), "{text}: {error:?}");
        }
        for text in [
            "",
            " ",
            "{",
            "[1,]",
            "{'a': 1}",
            "1e999",
            "NaN",
            "01",
            r#""\ud800""#,
            "\u{feff}{}",
            "\"\n\"",
            "// x\n1",
        ] {
            let error = parse_strict_json(text.as_bytes()).unwrap_err();
            assert!(matches!(error, StrictJsonError::Syntax(_)), "{text}: {error:?}");
        }
    }

    #[test]
    fn an_error_quotes_nothing_that_was_read() {
        for text in [r#"{"hunter2": 1, "hunter2": 2}"#, r#"{"a": hunter2}"#, r#""a" "hunter2""#] {
            let error = parse_strict_json(text.as_bytes()).unwrap_err();
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn a_whole_number_is_an_integer_however_it_is_written() {
        let read = parse_strict_json(
            br#"{"1.5": [500, 500.0, 5e2, 0.5e3, -0], "\"9": {"a\\": 9007199254740993.0}, "f": 2.5}"#,
        );
        let expected =
            json!({"1.5": [500, 500, 500, 500, 0], "\"9": {"a\\": 9_007_199_254_740_993_u64}, "f": 2.5});
        assert_eq!(read, Ok(expected));
        // As floats, these are 500 and 2^63.
        for fraction in ["500.00000000000000000001", "9223372036854775808.5"] {
            assert!(parse_strict_json(fraction.as_bytes()).unwrap().is_f64(), "{fraction}");
        }
    }

    /// Numbers as they are written, and as they are read.
    const NUMBERS: [(&str, &str); 10] = [
        ("7", "7"),
        ("-7", "-7"),
        ("7.0", "7"),
        ("70e-1", "7"),
        ("-0", "0"),
        ("18446744073709551615", "18446744073709551615"),
        ("9223372036854775807.0", "9223372036854775807"),
        ("1.5", "1.5"),
        ("1e300", "1e300"),
        ("7.00000000000000000001", "7.0"),
    ];

    /// The value with every number as a float, which does not depend on how it was written.
    fn with_float_numbers(value: Value) -> Value {
        match value {
            Value::Number(number) => json!(number.as_f64().map(|float| float + 0.0)),
            Value::Array(items) => items.into_iter().map(with_float_numbers).collect(),
            Value::Object(members) => {
                members.into_iter().map(|(name, member)| (name, with_float_numbers(member))).collect()
            }
            other => other,
        }
    }

    proptest! {
        #[test]
        fn every_accepted_text_is_read_as_serde_json_reads_it(text in r#"[\[\]{}:, "a1.e\\-]{0,24}"#) {
            if let Ok(value) = parse_strict_json(text.as_bytes()) {
                prop_assert_eq!(with_float_numbers(value), with_float_numbers(serde_json::from_str(&text).unwrap()));
            }
        }

        /// Each number has its own text, whatever stands around it.
        #[test]
        fn a_number_is_whole_or_not_by_its_own_text(
            members in prop::collection::vec((r#"[a-z0-9\-"\\.]{0,6}"#, prop::sample::select(NUMBERS.as_slice())), 0..8),
        ) {
            let mut text = String::from("[");
            let mut expected = Vec::new();
            for (name, (number, value)) in &members {
                let name = Value::String(name.clone());
                let item = format!("{{{name}: {number}, \"Z\": [{name}, {number},true]}},");
                text.push_str(&item);
                let value: Value = serde_json::from_str(value).unwrap();
                let name = name.as_str().unwrap();
                expected.push(json!({ name: value, "Z": [name, value, true] }));
            }
            text.push_str("null]");
            expected.push(Value::Null);
            prop_assert_eq!(parse_strict_json(text.as_bytes()), Ok(Value::Array(expected)));
        }
    }
}

//! JSON to a value in one pass, refusing what two readers could read differently: a key given twice at any depth, text that
//! is not UTF-8, numbers out of range, nesting beyond the limit, anything after the end.

use super::text::{malformed, too_many};
use durward_core::{JsonError, Refusal, limits, strict_json};
use serde_json::{Map, Value};

/// Reads one JSON value.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, Refusal> {
    strict_json(bytes).map_err(|error| match error {
        JsonError::Utf8 => malformed("the body is not valid utf-8"),
        JsonError::Many => too_many("values", limits::VALUES),
        JsonError::Twice(why) | JsonError::Deep(why) | JsonError::Syntax(why) | JsonError::Trailing(why) => {
            malformed(format!("the body is not valid json: {why}"))
        }
    })
}

/// Reads a body that is one JSON object; an empty body is an empty object.
pub(super) fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, Refusal> {
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    match parse(bytes)? {
        Value::Object(map) => Ok(map),
        _ => Err(malformed("the body is not a json object")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_two_readers_could_read_differently() {
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        for bad in [
            r#"{"a":1,"a":2}"#,
            r#"{"x":[{"a":1,"\u0061":2}]}"#,
            "{} {}",
            "{}x",
            r#"{"a":1e999}"#,
            r#"{"a":"\ud800"}"#,
            "\u{feff}{}",
            "{'a':1}",
            r#"{"a":NaN}"#,
            deep.as_str(),
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse(b"{\"a\":\"\xff\"}").is_err());
        let near = format!("{}{}", "[".repeat(64), "]".repeat(64));
        assert!(parse(near.as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _outcome = parse(&bytes);
        }

        #[test]
        fn agrees_with_serde_json_on_what_it_accepts(text in "[\\[\\]{}\",:a1 e.\\-]{0,40}") {
            if let Ok(value) = parse(text.as_bytes()) {
                prop_assert_eq!(value, serde_json::from_str::<Value>(&text).unwrap());
            }
        }
    }
}

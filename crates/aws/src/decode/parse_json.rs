//! JSON to a value in one pass, refusing what two readers could read differently: a key given twice at any depth, text that
//! is not UTF-8, numbers out of range, nesting beyond the limit, anything after the end.

use super::request_text::{malformed_request, too_many_values};
use durward_core::{Refusal, StrictJsonError, limits, parse_strict_json};
use serde_json::{Map, Value};

/// Reads one JSON value.
pub(super) fn parse_json_value(bytes: &[u8]) -> Result<Value, Refusal> {
    parse_strict_json(bytes).map_err(|error| match error {
        StrictJsonError::InvalidUtf8 => malformed_request("the body is not valid utf-8"),
        StrictJsonError::TooManyValues => too_many_values("values", limits::MAX_BODY_VALUES),
        StrictJsonError::DuplicateMember(why)
        | StrictJsonError::TooDeep(why)
        | StrictJsonError::Syntax(why)
        | StrictJsonError::TrailingData(why) => {
            malformed_request(format!("the body is not valid json: {why}"))
        }
    })
}

/// Reads a body that is one JSON object; an empty body is an empty object.
pub(super) fn parse_json_object(bytes: &[u8]) -> Result<Map<String, Value>, Refusal> {
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    match parse_json_value(bytes)? {
        Value::Object(map) => Ok(map),
        _ => Err(malformed_request("the body is not a json object")),
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
            assert!(parse_json_value(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse_json_value(b"{\"a\":\"\xff\"}").is_err());
        let near = format!("{}{}", "[".repeat(64), "]".repeat(64));
        assert!(parse_json_value(near.as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _outcome = parse_json_value(&bytes);
        }

        #[test]
        fn agrees_with_serde_json_on_what_it_accepts(text in "[\\[\\]{}\",:a1 e.\\-]{0,40}") {
            if let Ok(value) = parse_json_value(text.as_bytes()) {
                prop_assert_eq!(value, serde_json::from_str::<Value>(&text).unwrap());
            }
        }
    }
}

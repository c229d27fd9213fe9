//! JSON bodies, through core's strict reader.

use crate::refusals::{malformed_request, too_many_values};
use durward_core::{Refusal, StrictJsonError, limits, parse_strict_json};
use serde_json::{Map, Value};

/// Reads one JSON value.
pub(super) fn parse_json_value(bytes: &[u8]) -> Result<Value, Refusal> {
    parse_strict_json(bytes).map_err(|error| match error {
        StrictJsonError::TooManyValues => too_many_values("values", limits::MAX_BODY_VALUES),
        other => malformed_request(other.to_string()),
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

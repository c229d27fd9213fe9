//! Compares decoded parameters with those that the SDK was given. The SDK's own model is the oracle; the catalog has no part in
//! it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

/// Describes the first difference between decoded and intended parameters; `None` if they agree. `uninspected`: a streamed body was
/// marked as such. `added`: top-level parameters that the SDK adds by itself. `exact` is false when another service's
/// look-alike operation was decoded: its model may write a name in another case.
pub fn find_difference(
    meant: &Value,
    read: &Value,
    uninspected: bool,
    exact: bool,
    added: &[&str],
) -> Option<String> {
    if !exact {
        return find_difference(&lowercase_names(meant), &lowercase_names(read), uninspected, true, added);
    }
    if let (Value::Object(meant), Value::Object(read)) = (meant, read)
        && let Some((extra, _)) = read.iter().find(|(key, value)| {
            !is_empty_value(value) && !meant.contains_key(*key) && !added.contains(&key.as_str())
        })
    {
        return Some(format!("/{extra} was decoded and not intended"));
    }
    find_value_difference(meant, read, uninspected, "")
}

fn find_value_difference(meant: &Value, read: &Value, uninspected: bool, path: &str) -> Option<String> {
    if let Some((form, value)) = free_form_value(meant) {
        let same = match form {
            "$blob" => read == value,
            "$time" => epoch_seconds(read) == value.as_i64(),
            "$json" => decoded_json(read).as_ref() == Some(value),
            "$url" => {
                let decoded = percent_encoding::percent_decode_str(read.as_str().unwrap_or_default());
                value.as_str().is_some_and(|value| decoded.decode_utf8_lossy() == value)
            }
            _ => false,
        };
        return (!same).then(|| format!("{path} is {read} instead of {meant}"));
    }
    match (meant, read) {
        (Value::Object(meant), Value::Object(read)) => {
            for (key, value) in meant {
                let below = format!("{path}/{key}");
                match read.get(key) {
                    Some(found) => {
                        if let Some(difference) = find_value_difference(value, found, uninspected, &below) {
                            return Some(difference);
                        }
                    }
                    None if matches!(free_form_value(value), Some(("$streamed", _))) && uninspected => {}
                    None if is_empty_value(value) => {}
                    None => return Some(format!("{below} is missing")),
                }
            }
            let extra = read.keys().find(|key| !path.is_empty() && !meant.contains_key(*key));
            extra.map(|key| format!("{path}/{key} was decoded and not intended"))
        }
        (Value::Array(meant), Value::Array(read)) => {
            if meant.iter().all(is_empty_value) && read.iter().all(is_empty_value) {
                return None;
            }
            if meant.len() != read.len() {
                return Some(format!("{path} has {} items instead of {}", read.len(), meant.len()));
            }
            meant.iter().zip(read).enumerate().find_map(|(at, (meant, read))| {
                find_value_difference(meant, read, uninspected, &format!("{path}/{at}"))
            })
        }
        (Value::Number(meant), Value::Number(read)) if meant.as_f64() == read.as_f64() => None,
        (meant, read) if meant == read || (is_empty_value(meant) && is_empty_value(read)) => None,
        _ => Some(format!("{path} is {read} instead of {meant}")),
    }
}

/// The value with all names in lower case.
fn lowercase_names(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter().map(|(key, value)| (key.to_ascii_lowercase(), lowercase_names(value))).collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(lowercase_names).collect()),
        other => other.clone(),
    }
}

/// A value with a free form on the wire, marked by its single key.
fn free_form_value(value: &Value) -> Option<(&str, &Value)> {
    let object = value.as_object().filter(|object| object.len() == 1)?;
    let (key, value) = object.iter().next()?;
    ["$time", "$blob", "$json", "$url", "$streamed"].contains(&key.as_str()).then_some((key.as_str(), value))
}

/// Seconds since the epoch, from a timestamp in any form.
fn epoch_seconds(value: &Value) -> Option<i64> {
    if let Some(number) = value.as_f64() {
        return Some(number as i64);
    }
    let text = value.as_str()?;
    let dated = OffsetDateTime::parse(text, &Rfc3339).or_else(|_| OffsetDateTime::parse(text, &Rfc2822));
    dated
        .map(OffsetDateTime::unix_timestamp)
        .ok()
        .or_else(|| text.parse::<f64>().ok().map(|number| number as i64))
}

fn decoded_json(value: &Value) -> Option<Value> {
    serde_json::from_slice(&STANDARD.decode(value.as_str()?).ok()?).ok()
}

/// Whether a value holds only empty structures and lists, which forms and XML cannot express.
fn is_empty_value(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.values().all(is_empty_value),
        Value::Array(items) => items.iter().all(is_empty_value),
        Value::Null => true,
        _ => false,
    }
}

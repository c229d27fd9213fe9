//! Converts values on the wire to parameters under the names of the model, and marks the sensitive and the unknown ones.
//!
//! Promise: a value that the model does not know is kept under its wire name. A name that resembles a member's is refused:
//! a service that ignores case would take it for that member.

use super::json_pointer::push_pointer_token;
use super::request::DecodedParameters;
use crate::refusals::{malformed_request, quote_for_message};
use durward_catalog::{MemberLocation, ServiceModel, ShapeId, ShapeKind, ShapeMember};
use durward_core::{Refusal, parse_whole_number};
use serde_json::{Map, Number, Value};

/// The name of a member on the wire.
pub(super) fn wire_name(member: &ShapeMember) -> &str {
    member.wire_name.as_deref().unwrap_or(&member.name)
}

/// Refuses an unknown name that equals the name of a member in another case, or its name in the model.
pub(super) fn refuse_lookalike(members: &[ShapeMember], key: &str) -> Result<(), Refusal> {
    let resembles = |member: &ShapeMember| {
        member.name.eq_ignore_ascii_case(key)
            || member.wire_name.as_deref().is_some_and(|wire| wire.eq_ignore_ascii_case(key))
            || member.ec2_name.as_deref().is_some_and(|wire| wire.eq_ignore_ascii_case(key))
    };
    if members.iter().any(resembles) {
        return Err(malformed_request(format!(
            "the parameter `{}` is not spelled as the service spells it; correct its name",
            quote_for_message(key)
        )));
    }
    Ok(())
}

/// Inserts a parameter; refuses a second one of that name.
pub(super) fn insert_once(map: &mut Map<String, Value>, name: &str, value: Value) -> Result<(), Refusal> {
    if map.insert(name.to_owned(), value).is_some() {
        return Err(malformed_request(format!("the parameter `{}` is given twice", quote_for_message(name))));
    }
    Ok(())
}

/// Converts the JSON or CBOR object that is the whole input of an operation.
pub(super) fn convert_input_object(
    service: &ServiceModel,
    input: Option<ShapeId>,
    object: Map<String, Value>,
) -> Result<DecodedParameters, Refusal> {
    let parameters = match input {
        Some(shape) => convert_structure(service, service.structure_members(shape), object)?,
        None => object,
    };
    let marked = mark_parameters(service, input, &parameters);
    Ok(DecodedParameters {
        parameters,
        sensitive: marked.sensitive,
        uninspected: marked.unknown,
        unknown_operation: None,
    })
}

/// Renames the members of an object to their names in the model.
pub(super) fn convert_structure(
    service: &ServiceModel,
    members: &[ShapeMember],
    mut object: Map<String, Value>,
) -> Result<Map<String, Value>, Refusal> {
    rename_members(service, members, &mut object)?;
    Ok(object)
}

/// Converts a JSON or CBOR value by its shape. `null` stays: services treat it as absent.
pub(super) fn convert_by_shape(
    service: &ServiceModel,
    shape: ShapeId,
    name: &str,
    mut value: Value,
) -> Result<Value, Refusal> {
    conform_value(service, shape, name, &mut value)?;
    Ok(value)
}

/// Renames in place, because most names are the same on the wire.
fn rename_members(
    service: &ServiceModel,
    members: &[ShapeMember],
    object: &mut Map<String, Value>,
) -> Result<(), Refusal> {
    let mut renamed: Vec<(String, &str)> = Vec::new();
    for (key, value) in object.iter_mut() {
        let found =
            members.iter().find(|member| wire_name(member) == key && member.location == MemberLocation::Body);
        if let Some(member) = found {
            conform_value(service, member.shape, &member.name, value)?;
            if member.wire_name.is_some() {
                renamed.push((key.clone(), &member.name));
            }
        } else {
            refuse_lookalike(members, key)?;
        }
    }
    let values: Vec<(&str, Value)> =
        renamed.iter().filter_map(|(wire, name)| Some((*name, object.remove(wire)?))).collect();
    for (name, value) in values {
        insert_once(object, name, value)?;
    }
    Ok(())
}

/// `name`: of the innermost member, for the message.
fn conform_value(
    service: &ServiceModel,
    shape: ShapeId,
    name: &str,
    value: &mut Value,
) -> Result<(), Refusal> {
    let Some(shape) = service.shape(shape) else { return Ok(()) };
    match (&shape.kind, value) {
        (_, Value::Null) | (ShapeKind::Document | ShapeKind::EventStream, _) => Ok(()),
        (ShapeKind::Structure { members, .. }, Value::Object(object)) => {
            rename_members(service, members, object)
        }
        (ShapeKind::List { member, .. }, Value::Array(items)) => {
            items.iter_mut().try_for_each(|item| conform_value(service, *member, name, item))
        }
        (ShapeKind::Map { value: item_shape, .. }, Value::Object(object)) => {
            object.values_mut().try_for_each(|item| conform_value(service, *item_shape, name, item))
        }
        (ShapeKind::String | ShapeKind::Blob { .. }, Value::String(_))
        | (ShapeKind::Boolean, Value::Bool(_))
        | (
            ShapeKind::Integer
            | ShapeKind::Long
            | ShapeKind::Float
            | ShapeKind::Double
            | ShapeKind::Timestamp { .. },
            Value::Number(_),
        )
        // A time by name (Smithy, "timestampFormat trait").
        | (ShapeKind::Timestamp { .. }, Value::String(_)) => Ok(()),
        // JSON has no number for them (Smithy, "AWS JSON 1.0 protocol", Shape serialization).
        (ShapeKind::Float | ShapeKind::Double, Value::String(text))
            if matches!(text.as_str(), "NaN" | "Infinity" | "-Infinity") =>
        {
            Ok(())
        }
        // A service that coerces types (one item for a list, text for a number) would see a value where policy sees none.
        _ => Err(malformed_request(format!(
            "the parameter `{}` does not have the type that the service expects",
            quote_for_message(name)
        ))),
    }
}

/// Parses the text of a form, an XML element, a header or a path by its shape. Timestamps and blobs stay as sent.
pub(super) fn parse_scalar(kind: &ShapeKind, text: String) -> Result<Value, Refusal> {
    Ok(match kind {
        ShapeKind::Boolean if text.eq_ignore_ascii_case("true") => Value::Bool(true),
        ShapeKind::Boolean if text.eq_ignore_ascii_case("false") => Value::Bool(false),
        ShapeKind::Integer | ShapeKind::Long => match text.parse::<i64>() {
            Ok(number) => Value::Number(number.into()),
            Err(_) => {
                return Err(malformed_request(format!("`{}` is not an integer", quote_for_message(&text))));
            }
        },
        ShapeKind::Float | ShapeKind::Double => match text.parse::<f64>() {
            // `NaN` and `Infinity` parse, but JSON has no number for them (RFC 8259 section 6): they stay text.
            Ok(number) => parse_whole_number(&text)
                .or_else(|| Number::from_f64(number))
                .map_or(Value::String(text), Value::Number),
            Err(_) => {
                return Err(malformed_request(format!("`{}` is not a number", quote_for_message(&text))));
            }
        },
        ShapeKind::Boolean => {
            return Err(malformed_request(format!(
                "`{}` is neither true nor false",
                quote_for_message(&text)
            )));
        }
        ShapeKind::Structure { .. } | ShapeKind::List { .. } | ShapeKind::Map { .. } => {
            return Err(malformed_request("a structured parameter is sent as plain text"));
        }
        _ => Value::String(text),
    })
}

/// JSON Pointers to values with a meaning for masking and policy.
#[derive(Debug, Default)]
pub(super) struct MarkedParameters {
    pub sensitive: Vec<String>,
    /// Values that the model does not know.
    pub unknown: Vec<String>,
}

/// Finds the values that the model marks sensitive, and those that it does not know.
pub(super) fn mark_parameters(
    service: &ServiceModel,
    input: Option<ShapeId>,
    parameters: &Map<String, Value>,
) -> MarkedParameters {
    let mut marker = ParameterMarker { service, path: String::new(), marked: MarkedParameters::default() };
    marker.mark_members(input.map_or(&[][..], |input| service.structure_members(input)), parameters);
    // Sorted, because an approval is bound to the digest of the operation: a retry may write its members in another order.
    marker.marked.sensitive.sort_unstable();
    marker.marked.unknown.sort_unstable();
    marker.marked
}

struct ParameterMarker<'a> {
    service: &'a ServiceModel,
    path: String,
    marked: MarkedParameters,
}

impl ParameterMarker<'_> {
    fn mark_members(&mut self, members: &[ShapeMember], object: &Map<String, Value>) {
        for (key, value) in object {
            let member = members.iter().find(|member| member.name == *key);
            let is_relevant = match member {
                Some(member) => member.is_sensitive || may_hold_sensitive(self.service, member.shape),
                // SDKs add the checksum of the body even to operations whose models do not have it.
                None => !key.starts_with("x-amz-checksum-"),
            };
            if !is_relevant || (member.is_some() && value.is_null()) {
                continue;
            }
            let parent_length = self.path.len();
            push_pointer_token(&mut self.path, key);
            match member {
                Some(member) if member.is_sensitive => self.marked.sensitive.push(self.path.clone()),
                Some(member) => self.mark_value(member.shape, value),
                None => self.marked.unknown.push(self.path.clone()),
            }
            self.path.truncate(parent_length);
        }
    }

    fn mark_value(&mut self, shape: ShapeId, value: &Value) {
        let service = self.service;
        let Some(shape) = service.shape(shape) else { return };
        if value.is_null() {
            return;
        }
        if shape.is_sensitive {
            self.marked.sensitive.push(self.path.clone());
            return;
        }
        match (&shape.kind, value) {
            (ShapeKind::Structure { members, .. }, Value::Object(object)) => {
                self.mark_members(members, object);
            }
            (ShapeKind::List { member, .. }, Value::Array(items)) if may_hold_sensitive(service, *member) => {
                for (index, item) in items.iter().enumerate() {
                    let parent_length = self.path.len();
                    push_pointer_token(&mut self.path, &index.to_string());
                    self.mark_value(*member, item);
                    self.path.truncate(parent_length);
                }
            }
            (ShapeKind::Map { key, value: item_shape, .. }, Value::Object(object)) => {
                // A JSON Pointer cannot name a key: with sensitive keys, the whole map is sensitive.
                if service.shape(*key).is_some_and(|key| key.is_sensitive) {
                    self.marked.sensitive.push(self.path.clone());
                    return;
                }
                if may_hold_sensitive(service, *item_shape) {
                    for (key, item) in object {
                        let parent_length = self.path.len();
                        push_pointer_token(&mut self.path, key);
                        self.mark_value(*item_shape, item);
                        self.path.truncate(parent_length);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Returns true if a value of this shape can be or contain a sensitive value.
fn may_hold_sensitive(service: &ServiceModel, shape: ShapeId) -> bool {
    service.shape(shape).is_some_and(|shape| {
        shape.is_sensitive
            || matches!(
                shape.kind,
                ShapeKind::Structure { .. } | ShapeKind::List { .. } | ShapeKind::Map { .. }
            )
    })
}

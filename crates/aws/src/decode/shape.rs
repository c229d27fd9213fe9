//! Values of the wire to parameters by model names. What the model does not know is kept under its wire name, unless that
//! name could be taken for a member: then the request is refused, so that no reader can be led to another value.

use super::Read;
use super::text::{malformed, quote};
use durward_catalog::{Location, Member, Service, ShapeId, ShapeKind};
use durward_core::Refusal;
use serde_json::{Map, Number, Value};

/// The name of a member in JSON, CBOR, XML and query forms.
pub(super) fn wire_name(member: &Member) -> &str {
    member.wire_name.as_deref().unwrap_or(&member.name)
}

/// Refuses a name that is no member's wire name but resembles one, or is a member's model name.
pub(super) fn refuse_lookalike(members: &[Member], key: &str) -> Result<(), Refusal> {
    let taken = |member: &Member| {
        member.name.eq_ignore_ascii_case(key)
            || member.wire_name.as_deref().is_some_and(|wire| wire.eq_ignore_ascii_case(key))
            || member.ec2_name.as_deref().is_some_and(|wire| wire.eq_ignore_ascii_case(key))
    };
    if members.iter().any(taken) {
        return Err(malformed(format!(
            "the parameter `{}` is not spelled as the service spells it; correct its name",
            quote(key)
        )));
    }
    Ok(())
}

/// Inserts a parameter once.
pub(super) fn insert(map: &mut Map<String, Value>, name: &str, value: Value) -> Result<(), Refusal> {
    if map.insert(name.to_owned(), value).is_some() {
        return Err(malformed(format!("the parameter `{}` is given twice", quote(name))));
    }
    Ok(())
}

/// A JSON or CBOR object as the whole input of an operation.
pub(super) fn read_object(
    service: &Service,
    input: Option<ShapeId>,
    object: Map<String, Value>,
) -> Result<Read, Refusal> {
    let parameters = match input {
        Some(shape) => structure(service, service.members(shape), object)?,
        None => object,
    };
    let sensitive = sensitive(service, input, &parameters);
    Ok(Read { parameters, sensitive, uninspected: Vec::new() })
}

/// An object of the wire to one with model names, by the members of its structure.
pub(super) fn structure(
    service: &Service,
    members: &[Member],
    object: Map<String, Value>,
) -> Result<Map<String, Value>, Refusal> {
    let mut out = Map::new();
    for (key, value) in object {
        let found =
            members.iter().find(|member| member.location == Location::Body && wire_name(member) == key);
        if let Some(member) = found {
            let value = by_shape(service, member.shape, value)
                .map_err(|refusal| refusal.detail(format!("in {}", quote(&member.name))))?;
            insert(&mut out, &member.name, value)?;
        } else {
            refuse_lookalike(members, &key)?;
            insert(&mut out, &key, value)?;
        }
    }
    Ok(out)
}

/// A JSON or CBOR value by its shape. `null` stays `null`: services read it as absent.
pub(super) fn by_shape(service: &Service, shape: ShapeId, value: Value) -> Result<Value, Refusal> {
    let Some(shape) = service.shape(shape) else { return Ok(value) };
    Ok(match (&shape.kind, value) {
        (_, Value::Null) => Value::Null,
        (ShapeKind::Structure { members, .. }, Value::Object(object)) => {
            Value::Object(structure(service, members, object)?)
        }
        (ShapeKind::List { member, .. }, Value::Array(items)) => Value::Array(
            items.into_iter().map(|item| by_shape(service, *member, item)).collect::<Result<_, _>>()?,
        ),
        (ShapeKind::Map { value: of, .. }, Value::Object(object)) => Value::Object(
            object
                .into_iter()
                .map(|(key, value)| Ok((key, by_shape(service, *of, value)?)))
                .collect::<Result<_, Refusal>>()?,
        ),
        (ShapeKind::Document | ShapeKind::EventStream, value) => value,
        (ShapeKind::Structure { .. } | ShapeKind::Map { .. } | ShapeKind::List { .. }, _)
        | (_, Value::Array(_) | Value::Object(_)) => {
            return Err(malformed("a parameter does not have the type that the service expects"));
        }
        (_, scalar) => scalar,
    })
}

/// Text of a form, an XML element, a header or a path by its shape. Timestamps and blobs stay as sent.
pub(super) fn scalar(kind: &ShapeKind, text: String) -> Result<Value, Refusal> {
    Ok(match kind {
        ShapeKind::Boolean if text.eq_ignore_ascii_case("true") => Value::Bool(true),
        ShapeKind::Boolean if text.eq_ignore_ascii_case("false") => Value::Bool(false),
        ShapeKind::Integer | ShapeKind::Long => match text.parse::<i64>() {
            Ok(number) => Value::Number(number.into()),
            Err(_) => return Err(malformed(format!("`{}` is not an integer", quote(&text)))),
        },
        ShapeKind::Float | ShapeKind::Double => match text.parse::<f64>() {
            Ok(number) => Number::from_f64(number).map_or(Value::String(text), Value::Number),
            Err(_) => return Err(malformed(format!("`{}` is not a number", quote(&text)))),
        },
        ShapeKind::Boolean => return Err(malformed(format!("`{}` is neither true nor false", quote(&text)))),
        ShapeKind::Structure { .. } | ShapeKind::List { .. } | ShapeKind::Map { .. } => {
            return Err(malformed("a parameter with parts is sent as plain text"));
        }
        _ => Value::String(text),
    })
}

/// JSON Pointers to the values that the models mark sensitive.
pub(super) fn sensitive(
    service: &Service,
    input: Option<ShapeId>,
    parameters: &Map<String, Value>,
) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(input) = input {
        let mut path = String::new();
        mark_members(service, service.members(input), parameters, &mut path, &mut out);
    }
    out
}

fn mark_members(
    service: &Service,
    members: &[Member],
    object: &Map<String, Value>,
    path: &mut String,
    out: &mut Vec<String>,
) {
    for (key, value) in object {
        let Some(member) = members.iter().find(|member| member.name == *key) else { continue };
        let before = path.len();
        push_token(path, key);
        if member.sensitive {
            if !value.is_null() {
                out.push(path.clone());
            }
        } else {
            mark(service, member.shape, value, path, out);
        }
        path.truncate(before);
    }
}

fn mark(service: &Service, shape: ShapeId, value: &Value, path: &mut String, out: &mut Vec<String>) {
    let Some(shape) = service.shape(shape) else { return };
    if value.is_null() {
        return;
    }
    if shape.sensitive {
        out.push(path.clone());
        return;
    }
    match (&shape.kind, value) {
        (ShapeKind::Structure { members, .. }, Value::Object(object)) => {
            mark_members(service, members, object, path, out);
        }
        (ShapeKind::List { member, .. }, Value::Array(items)) if can_hold(service, *member) => {
            for (index, item) in items.iter().enumerate() {
                let before = path.len();
                push_token(path, &index.to_string());
                mark(service, *member, item, path, out);
                path.truncate(before);
            }
        }
        (ShapeKind::Map { key, value: of, .. }, Value::Object(object)) => {
            // Keys that are sensitive cannot be pointed at: the whole map is.
            if service.shape(*key).is_some_and(|key| key.sensitive) {
                out.push(path.clone());
                return;
            }
            if can_hold(service, *of) {
                for (key, item) in object {
                    let before = path.len();
                    push_token(path, key);
                    mark(service, *of, item, path, out);
                    path.truncate(before);
                }
            }
        }
        _ => {}
    }
}

/// Whether a value of this shape can be, or hold, something sensitive; a scalar that is not marked cannot.
fn can_hold(service: &Service, shape: ShapeId) -> bool {
    service.shape(shape).is_some_and(|shape| {
        shape.sensitive
            || matches!(
                shape.kind,
                ShapeKind::Structure { .. } | ShapeKind::List { .. } | ShapeKind::Map { .. }
            )
    })
}

/// Appends one reference token (RFC 6901).
fn push_token(path: &mut String, token: &str) {
    path.push('/');
    for c in token.chars() {
        match c {
            '~' => path.push_str("~0"),
            '/' => path.push_str("~1"),
            other => path.push(other),
        }
    }
}

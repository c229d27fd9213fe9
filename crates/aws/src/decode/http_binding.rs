//! Binds the labels, query, headers and payload of a REST request to the members of its input (Smithy, "HTTP bindings").
//!
//! Promise: a member given twice, in two places or under a name that resembles it is refused. A value that the model does not
//! know is kept.

use super::operation_routing::{BodyUse, Route};
use super::request::{DecodedParameters, RequestHead};
use super::request_text::{get_single_header, parse_query_pairs};
use super::rest_routing::{is_search_form, starts_with_ignore_case};
use super::shape_conversion::{self, insert_once, parse_scalar, refuse_lookalike, wire_name};
use super::{parse_json, xml_conversion};
use crate::form::parse_form_body;
use crate::refusals::{malformed_request, quote_for_message};
use crate::xml::parse_xml_document;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use durward_catalog::{
    AwsProtocol, MemberLocation, OperationModel, ServiceModel, ShapeId, ShapeKind, ShapeMember,
};
use durward_core::Refusal;
use serde_json::{Map, Value};

/// The parameters of a REST request.
pub(super) fn bind_parameters(
    service: &ServiceModel,
    operation: &OperationModel,
    head: &RequestHead<'_>,
    route: &Route,
    labels: &[(String, String)],
    body: &[u8],
) -> Result<DecodedParameters, Refusal> {
    let input = operation.input_shape.and_then(|input| service.shape(input)).map(|shape| &shape.kind);
    let empty = (Vec::new(), None);
    let (members, payload) = match input {
        Some(ShapeKind::Structure { members, payload, .. }) => (members, payload),
        _ => (&empty.0, &empty.1),
    };
    let mut decoded = DecodedParameters::default();
    let out = &mut decoded.parameters;
    for (name, value) in labels {
        let value = match members
            .iter()
            .find(|member| member.name == *name)
            .and_then(|member| service.shape(member.shape))
        {
            Some(shape) => parse_scalar(&shape.kind, value.clone())?,
            None => Value::String(value.clone()),
        };
        insert_once(out, name, value)?;
    }
    let mut query = parse_query_pairs(head.query)?;
    let is_form = is_search_form(service, operation, head);
    if is_form {
        // The body of this form takes the place of the query.
        let form = parse_form_body(body)?.into_iter();
        query.extend(form.map(|(key, value)| (key.into_owned(), value.into_owned())));
    }
    let hoisted = take_hoisted_headers(service, &mut query)?;
    bind_query(service, operation, members, query, out)?;
    bind_headers(service, members, head, &hoisted, out)?;
    if is_form {
        // Bound with the query above.
    } else if route.body_use() == BodyUse::Streamed {
        decoded.uninspected.push("body".to_owned());
    } else {
        let bound = bind_body(service, operation, members, payload.as_deref(), route.protocol(), body)?;
        for (name, value) in bound {
            insert_once(out, &name, value)?;
        }
    }
    let marked = shape_conversion::mark_parameters(service, operation.input_shape, &decoded.parameters);
    decoded.sensitive = marked.sensitive;
    decoded.uninspected.extend(marked.unknown);
    Ok(decoded)
}

/// Removes the `x-amz-` keys from an S3 query. Presigned URLs carry headers there, and S3 honours them.
fn take_hoisted_headers(
    service: &ServiceModel,
    query: &mut Vec<(String, String)>,
) -> Result<Vec<(String, String)>, Refusal> {
    let mut hoisted: Vec<(String, String)> = Vec::new();
    if service.id != "s3" {
        return Ok(hoisted);
    }
    query.retain_mut(|(key, value)| {
        let moved = starts_with_ignore_case(key, "x-amz-");
        if moved {
            hoisted.push((key.to_ascii_lowercase(), std::mem::take(value)));
        }
        !moved
    });
    hoisted.sort();
    if hoisted.windows(2).any(|pair| pair.first().map(|entry| &entry.0) == pair.last().map(|entry| &entry.0))
    {
        return Err(malformed_request("a query key is given twice"));
    }
    Ok(hoisted)
}

fn bind_query(
    service: &ServiceModel,
    operation: &OperationModel,
    members: &[ShapeMember],
    query: Vec<(String, String)>,
    out: &mut Map<String, Value>,
) -> Result<(), Refusal> {
    let open_map = members.iter().find(|member| {
        member.location == MemberLocation::Query
            && matches!(service.shape(member.shape).map(|shape| &shape.kind), Some(ShapeKind::Map { .. }))
    });
    let mut literals_seen = Vec::new();
    for (key, value) in query {
        // The JavaScript SDK adds the name of the operation; routing has checked it.
        if service.id == "s3" && key == "x-id" {
            continue;
        }
        let member = members
            .iter()
            .find(|member| member.location == MemberLocation::Query && wire_name(member) == key);
        if operation.query_literals.iter().any(|(literal, _)| *literal == key) && member.is_none() {
            if literals_seen.contains(&key) {
                return Err(malformed_request(format!(
                    "the query key `{}` is given twice",
                    quote_for_message(&key)
                )));
            }
            literals_seen.push(key);
            continue;
        }
        match member.and_then(|member| Some((member, service.shape(member.shape)?))) {
            Some((member, shape)) => match &shape.kind {
                ShapeKind::List { member: item, .. } => {
                    let item = convert_item(service, *item, value)?;
                    let list = out.entry(member.name.clone()).or_insert_with(|| Value::Array(Vec::new()));
                    let Value::Array(items) = list else {
                        return Err(malformed_request("a query key is given twice"));
                    };
                    items.push(item);
                }
                kind => insert_once(out, &member.name, parse_scalar(kind, value)?)?,
            },
            None => {
                if let Some(map) = open_map {
                    insert_into_map(service, map, key, value, out)?;
                } else {
                    refuse_lookalike(members, &key)?;
                    insert_once(out, &key, Value::String(value))?;
                }
            }
        }
    }
    Ok(())
}

/// Adds a query key to the map member that collects all other keys.
fn insert_into_map(
    service: &ServiceModel,
    member: &ShapeMember,
    key: String,
    value: String,
    out: &mut Map<String, Value>,
) -> Result<(), Refusal> {
    let lists = match service.shape(member.shape).map(|shape| &shape.kind) {
        Some(ShapeKind::Map { value, .. }) => {
            matches!(service.shape(*value).map(|shape| &shape.kind), Some(ShapeKind::List { .. }))
        }
        _ => false,
    };
    let map = out.entry(member.name.clone()).or_insert_with(|| Value::Object(Map::new()));
    let Value::Object(map) = map else { return Err(malformed_request("a query key is given twice")) };
    if lists {
        let list = map.entry(key).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(items) = list {
            items.push(Value::String(value));
        }
        return Ok(());
    }
    insert_once(map, &key, Value::String(value))
}

fn convert_item(service: &ServiceModel, item: ShapeId, value: String) -> Result<Value, Refusal> {
    match service.shape(item) {
        Some(shape) => parse_scalar(&shape.kind, value),
        None => Ok(Value::String(value)),
    }
}

/// Headers of the transport and the signature, which are not parameters.
const TRANSPORT_HEADERS: [&str; 11] = [
    "x-amz-date",
    "x-amz-content-sha256",
    "x-amz-security-token",
    "x-amz-user-agent",
    "x-amz-decoded-content-length",
    "x-amz-trailer",
    "x-amz-target",
    "x-amzn-trace-id",
    "x-amz-s3session-token",
    "x-amz-api-version",
    "x-amzn-query-mode",
];

fn bind_headers(
    service: &ServiceModel,
    members: &[ShapeMember],
    head: &RequestHead<'_>,
    hoisted: &[(String, String)],
    out: &mut Map<String, Value>,
) -> Result<(), Refusal> {
    let mut bound_keys: Vec<&str> = Vec::new();
    for member in members.iter().filter(|member| member.location == MemberLocation::Header) {
        let wire = wire_name(member);
        let lower = wire.to_ascii_lowercase();
        let from_query = hoisted.iter().find(|(key, _)| *key == lower);
        let is_list =
            matches!(service.shape(member.shape).map(|shape| &shape.kind), Some(ShapeKind::List { .. }));
        let text = if is_list {
            join_header_values(head, wire)?
        } else {
            get_single_header(head.headers, wire)?.map(str::to_owned)
        };
        let text = match (text, from_query) {
            (Some(_), Some(_)) => {
                return Err(malformed_request(format!(
                    "`{}` is given both as a header and in the query",
                    quote_for_message(wire)
                )));
            }
            (Some(text), None) => text,
            (None, Some((key, value))) => {
                bound_keys.push(key);
                value.clone()
            }
            (None, None) => continue,
        };
        let value = match service.shape(member.shape).map(|shape| &shape.kind) {
            Some(ShapeKind::List { member: item, .. }) => Value::Array(
                text.split(',')
                    .map(|part| convert_item(service, *item, part.trim().to_owned()))
                    .collect::<Result<_, _>>()?,
            ),
            // JSON in a header is base64 (botocore, `jsonvalue`); it is kept as sent.
            Some(ShapeKind::Structure { .. } | ShapeKind::Map { .. }) | None => Value::String(text),
            Some(kind) => parse_scalar(kind, text)?,
        };
        insert_once(out, &member.name, value)?;
    }
    for member in members.iter().filter(|member| member.location == MemberLocation::PrefixHeaders) {
        let prefix = wire_name(member).to_ascii_lowercase();
        let mut map = Map::new();
        for name in head.headers.keys() {
            if let Some(rest) = name.as_str().strip_prefix(&prefix)
                && let Some(value) = get_single_header(head.headers, name.as_str())?
            {
                insert_once(&mut map, rest, Value::String(value.to_owned()))?;
            }
        }
        for (key, value) in hoisted {
            if let Some(rest) = key.strip_prefix(&prefix) {
                bound_keys.push(key);
                insert_once(&mut map, rest, Value::String(value.clone()))?;
            }
        }
        if !map.is_empty() {
            insert_once(out, &member.name, Value::Object(map))?;
        }
    }
    for name in head.headers.keys().map(http::HeaderName::as_str) {
        // A header that is newer than the catalog may change the operation, so policy and approvers see it.
        if name.starts_with("x-amz") && !TRANSPORT_HEADERS.contains(&name) && !binds_header(members, name) {
            let value = get_single_header(head.headers, name)?.unwrap_or_default();
            insert_once(out, name, Value::String(value.to_owned()))?;
        }
    }
    for (key, value) in hoisted.iter().filter(|(key, _)| !bound_keys.contains(&key.as_str())) {
        if key != "x-amz-user-agent" {
            insert_once(out, key, Value::String(value.clone()))?;
        }
    }
    Ok(())
}

/// Returns true if one of the members is this header.
pub(super) fn binds_header(members: &[ShapeMember], name: &str) -> bool {
    members.iter().any(|member| match member.location {
        MemberLocation::Header => wire_name(member).eq_ignore_ascii_case(name),
        MemberLocation::PrefixHeaders => starts_with_ignore_case(name, wire_name(member)),
        _ => false,
    })
}

/// All values of a list header, joined by commas (RFC 9110 section 5.3).
fn join_header_values(head: &RequestHead<'_>, name: &str) -> Result<Option<String>, Refusal> {
    let mut out: Option<String> = None;
    for value in head.headers.get_all(name) {
        let text = std::str::from_utf8(value.as_bytes())
            .map_err(|_| malformed_request("a header is not valid utf-8"))?;
        match &mut out {
            Some(all) => {
                all.push(',');
                all.push_str(text);
            }
            None => out = Some(text.to_owned()),
        }
    }
    Ok(out)
}

fn bind_body(
    service: &ServiceModel,
    operation: &OperationModel,
    members: &[ShapeMember],
    payload: Option<&str>,
    protocol: AwsProtocol,
    body: &[u8],
) -> Result<Map<String, Value>, Refusal> {
    let mut out = Map::new();
    if let Some(member) = payload.and_then(|name| members.iter().find(|member| member.name == name)) {
        if !body.is_empty() {
            insert_once(&mut out, &member.name, convert_payload(service, member, protocol, body)?)?;
        }
        return Ok(out);
    }
    if !members.iter().any(|member| member.location == MemberLocation::Body) {
        // Some clients send an empty object with operations that have no body.
        let is_empty = body.is_empty() || (protocol == AwsProtocol::RestJson && body == b"{}");
        if !is_empty {
            return Err(malformed_request(format!("{} takes no body; send none", operation.name)));
        }
        return Ok(out);
    }
    if body.is_empty() {
        return Ok(out);
    }
    if protocol == AwsProtocol::RestXml {
        return xml_conversion::convert_xml_structure(service, members, parse_xml_document(body)?);
    }
    shape_conversion::convert_structure(service, members, parse_json::parse_json_object(body)?)
}

fn convert_payload(
    service: &ServiceModel,
    member: &ShapeMember,
    protocol: AwsProtocol,
    body: &[u8],
) -> Result<Value, Refusal> {
    let kind = service.shape(member.shape).map(|shape| &shape.kind);
    Ok(match kind {
        // JSON has no bytes. The JSON protocols send blobs as base64, so policies see one form.
        Some(ShapeKind::Blob { .. }) => Value::String(STANDARD.encode(body)),
        Some(ShapeKind::String) => match std::str::from_utf8(body) {
            Ok(text) => Value::String(text.to_owned()),
            Err(_) => return Err(malformed_request("the body is not valid utf-8")),
        },
        _ if protocol == AwsProtocol::RestXml => {
            let root = parse_xml_document(body)?;
            let expected = wire_name(member);
            if root.name != expected {
                return Err(malformed_request(format!(
                    "the xml's root element is {} instead of {expected}",
                    quote_for_message(&root.name)
                )));
            }
            xml_conversion::convert_xml_element(service, member.shape, root)?
        }
        _ => {
            let value = parse_json::parse_json_value(body)?;
            shape_conversion::convert_by_shape(service, member.shape, &member.name, value)?
        }
    })
}

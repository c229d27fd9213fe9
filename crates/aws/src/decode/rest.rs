//! The rest protocols: routing by method, path template and query literals, and binding of labels, query, headers and
//! payload to members. S3 is read more strictly than the rest: see [`route`].

use super::recognise::{Recognised, strictest};
use super::shape::{self, insert, refuse_lookalike, scalar, wire_name};
use super::text::{decode_percent, header, malformed, query_pairs, quote, unknown};
use super::{Head, Read, Scope, parse_json, parse_xml};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use durward_catalog::{Location, Member, Operation as Model, Protocol, Service, ShapeId, ShapeKind};
use durward_core::Refusal;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::sync::Arc;

/// A routed request.
pub(super) struct Route {
    pub service: Arc<Service>,
    pub op_index: usize,
    pub labels: Vec<(String, String)>,
}

/// How well an operation fits; more is better, compared in this order.
#[derive(PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
struct Fit {
    required_present: bool,
    literal_segments: usize,
    query_literals: usize,
    required: usize,
}

struct Candidate<'p> {
    service: Arc<Service>,
    op_index: usize,
    labels: Vec<(String, &'p str)>,
    fit: Fit,
}

/// The operation whose template the head fits best.
pub(super) fn route(services: &[Arc<Service>], scope: &Scope<'_>, head: &Head<'_>) -> Result<Route, Refusal> {
    let query = query_pairs(head.query)?;
    let control = head.headers.contains_key("x-amz-account-id") && head.path.starts_with("/v20180820/");
    let mut candidates = Vec::new();
    let path = full_path(head)?;
    for service in services {
        let is_s3 = service.id == "s3";
        // s3 and s3control share a signing name; s3control alone has accounts in a header.
        if (is_s3 && control) || (service.id == "s3control" && !control) {
            continue;
        }
        for (op_index, op) in service.operations.iter().enumerate() {
            if !method_fits(service, op, head) {
                continue;
            }
            let Some((labels, literal_segments)) = match_path(&op.path, &path) else { continue };
            if !op.query.iter().all(|literal| has_literal(&query, literal)) {
                continue;
            }
            if is_s3 && !s3_fits(scope, service, op, &query) {
                continue;
            }
            let (required, missing) = required_members(service, op, head, &query);
            if is_s3 && missing > 0 {
                continue;
            }
            let fit = Fit {
                required_present: missing == 0,
                literal_segments,
                query_literals: op.query.len(),
                required,
            };
            candidates.push(Candidate { service: Arc::clone(service), op_index, labels, fit });
        }
    }
    choose(services, head, &path, &query, candidates)
}

fn choose(
    services: &[Arc<Service>],
    head: &Head<'_>,
    path: &str,
    query: &[(String, String)],
    candidates: Vec<Candidate<'_>>,
) -> Result<Route, Refusal> {
    let id = services.first().map_or("", |service| service.id.as_str());
    let best = candidates.iter().map(|candidate| candidate.fit).max().ok_or_else(|| {
        unknown(format!(
            "no operation of {id} has the method {}, the path and the query of this request",
            quote(head.method.as_str())
        ))
    })?;
    let tied: Vec<(Arc<Service>, usize)> = candidates
        .iter()
        .filter(|candidate| candidate.fit == best)
        .map(|candidate| (Arc::clone(&candidate.service), candidate.op_index))
        .collect();
    let (service, op_index) = strictest(tied)?.ok_or_else(|| unknown("no operation matches"))?;
    let op = service.operations.get(op_index).ok_or_else(|| unknown("no operation matches"))?;
    refuse_other_selectors(services, op, &service, head, path, query)?;
    if let Some((_, named)) = query.iter().find(|(key, _)| key == "x-id")
        && service.id == "s3"
        && *named != op.name
    {
        return Err(unknown(format!(
            "the query names the operation `{}` and the request is {}",
            quote(named),
            op.name
        )));
    }
    let labels = candidates
        .iter()
        .find(|candidate| Arc::ptr_eq(&candidate.service, &service) && candidate.op_index == op_index)
        .map(|candidate| candidate.labels.as_slice())
        .unwrap_or_default();
    let labels = decode_labels(&service, op, labels)?;
    Ok(Route { service, op_index, labels })
}

/// A query key that selects another operation on this method and path must be a member of the chosen one.
fn refuse_other_selectors(
    services: &[Arc<Service>],
    op: &Model,
    service: &Service,
    head: &Head<'_>,
    path: &str,
    query: &[(String, String)],
) -> Result<(), Refusal> {
    if query.is_empty() {
        return Ok(());
    }
    let members = op.input.map_or(&[][..], |input| service.members(input));
    for (key, _) in query {
        let own = op.query.iter().any(|(literal, _)| literal == key)
            || members.iter().any(|member| member.location == Location::Query && wire_name(member) == key);
        if own {
            continue;
        }
        let selects = services.iter().flat_map(|service| &service.operations).any(|other| {
            other.query.iter().any(|(literal, _)| literal == key)
                && other.method == head.method.as_str()
                && match_path(&other.path, path).is_some()
        });
        if selects {
            return Err(unknown(format!(
                "the query key `{}` selects another operation than {}; send one of them",
                quote(key),
                op.name
            )));
        }
    }
    Ok(())
}

/// The path with a bucket of a virtual-host name in front.
fn full_path<'a>(head: &Head<'a>) -> Result<Cow<'a, str>, Refusal> {
    if !head.path.is_empty() && !head.path.starts_with('/') {
        return Err(malformed("the path does not begin with a slash"));
    }
    Ok(match head.bucket_host {
        Some(bucket) => Cow::Owned(format!("/{}{}", bucket.replace('/', "%2F"), head.path)),
        None if head.path.is_empty() => Cow::Borrowed("/"),
        None => Cow::Borrowed(head.path),
    })
}

fn method_fits(service: &Service, op: &Model, head: &Head<'_>) -> bool {
    let method = head.method.as_str();
    // SDKs send this one search as a form by POST (facts/aws.md 1a).
    op.method == method
        || (service.id == "cloudsearchdomain"
            && op.name == "Search"
            && method == "POST"
            && op.method == "GET")
}

/// Labels and the number of literal segments, when the path fits the template.
fn match_path<'p>(template: &str, path: &'p str) -> Option<(Vec<(String, &'p str)>, usize)> {
    let template = template.strip_prefix('/').unwrap_or(template);
    let mut rest = path.strip_prefix('/').unwrap_or(path);
    let mut labels = Vec::new();
    let mut literals = 0;
    let mut segments = template.split('/').peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_none() {
            // A trailing slash of the template, or the template `/`.
            return rest.is_empty().then_some((labels, literals));
        }
        if let Some(label) = segment.strip_prefix('{').and_then(|inner| inner.strip_suffix("+}")) {
            let mut tail: Vec<&str> = segments.collect();
            tail.retain(|part| !part.is_empty());
            let value =
                if tail.is_empty() { rest } else { rest.strip_suffix(&tail.join("/"))?.strip_suffix('/')? };
            if value.is_empty() || tail.iter().any(|part| part.contains('{')) {
                return None;
            }
            labels.push((label.to_owned(), value));
            return Some((labels, literals + tail.len()));
        }
        let (value, after) = rest.split_once('/').map_or((rest, None), |(value, after)| (value, Some(after)));
        match segment.split_once('{') {
            None if segment == value => literals += 1,
            None => return None,
            Some((before, inner)) => {
                let (label, suffix) = inner.split_once('}')?;
                let value = value.strip_prefix(before)?.strip_suffix(suffix)?;
                if value.is_empty() || suffix.contains('{') {
                    return None;
                }
                labels.push((label.to_owned(), value));
            }
        }
        match (after, segments.peek()) {
            (Some(after), Some(_)) => rest = after,
            // One slash at the end is the same resource.
            (None | Some(""), None) => return Some((labels, literals)),
            (None, Some(&"")) => return Some((labels, literals)),
            _ => return None,
        }
    }
    None
}

fn has_literal(query: &[(String, String)], literal: &(String, Option<String>)) -> bool {
    let wanted = literal.1.as_deref().unwrap_or("");
    query.iter().any(|(key, value)| *key == literal.0 && value == wanted)
}

/// S3 decides by its sub-resources: every query key must be one of the operation's, so that a key this catalog does not
/// know cannot mean an operation it does not know. `x-` keys are the caller's own and are only logged by S3.
fn s3_fits(scope: &Scope<'_>, service: &Service, op: &Model, query: &[(String, String)]) -> bool {
    let fits_scope = match op.name.as_str() {
        "WriteGetObjectResponse" => scope.service == "s3-object-lambda",
        "ListDirectoryBuckets" => scope.service == "s3express",
        "ListBuckets" => scope.service != "s3express",
        _ => true,
    };
    let members = op.input.map_or(&[][..], |input| service.members(input));
    fits_scope
        && query.iter().all(|(key, _)| {
            starts_ignoring_case(key, "x-")
                || op.query.iter().any(|(literal, _)| literal == key)
                || members.iter().any(|member| member.location == Location::Query && wire_name(member) == key)
        })
}

fn starts_ignoring_case(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Required query and header members: how many there are, and how many are missing.
fn required_members(
    service: &Service,
    op: &Model,
    head: &Head<'_>,
    query: &[(String, String)],
) -> (usize, usize) {
    let members = op.input.map_or(&[][..], |input| service.members(input));
    let mut required = 0;
    let mut missing = 0;
    for member in members.iter().filter(|member| member.required) {
        let wire = wire_name(member);
        let present = match member.location {
            Location::Query => query.iter().any(|(key, _)| key == wire),
            // Presigned requests may carry `x-amz-` headers in the query.
            Location::Header => {
                head.headers.contains_key(wire) || query.iter().any(|(key, _)| key.eq_ignore_ascii_case(wire))
            }
            _ => continue,
        };
        required += 1;
        missing += usize::from(!present);
    }
    (required, missing)
}

/// Decoded labels by member name. Elsewhere than in S3 keys, what a service could read as another path is refused.
fn decode_labels(
    service: &Service,
    op: &Model,
    labels: &[(String, &str)],
) -> Result<Vec<(String, String)>, Refusal> {
    let members = op.input.map_or(&[][..], |input| service.members(input));
    let mut out = Vec::with_capacity(labels.len());
    for (label, raw) in labels {
        let member = members
            .iter()
            .find(|member| member.location == Location::Uri && wire_name(member) == label)
            .map_or(label.as_str(), |member| &member.name);
        let value = match (service.id.as_str(), member) {
            ("s3", "Bucket") => bucket(raw)?,
            ("s3", _) => {
                if raw.contains('+') {
                    // S3 has read it as a space and as a plus.
                    return Err(malformed("the object key holds a bare `+`; send %2B or %20"));
                }
                decode_percent(raw, false)?
            }
            _ => {
                let greedy = op.path.contains(&format!("{{{label}+}}"));
                plain_label(raw, greedy)?
            }
        };
        out.push((member.to_owned(), value));
    }
    Ok(out)
}

/// A bucket name as it must stand in a path, or the ARN that the listener made of an access point's host.
fn bucket(raw: &str) -> Result<String, Refusal> {
    if raw.starts_with("arn:") {
        return decode_percent(raw, false);
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if raw.len() < 3
        || raw.len() > 255
        || !raw.bytes().all(legal)
        || raw.starts_with('.')
        || raw.contains("..")
    {
        return Err(malformed(format!("`{}` is not the name of a bucket", quote(raw))));
    }
    Ok(raw.to_owned())
}

/// A label of another service than S3. An encoded slash may only be part of an ARN, which services take as one label.
fn plain_label(raw: &str, greedy: bool) -> Result<String, Refusal> {
    let value = decode_percent(raw, false)?;
    let slashes_decoded = value.matches('/').count() > raw.matches('/').count();
    let dots = value.split(['/', '\\']).any(|segment| matches!(segment, "." | ".."));
    let empty = value.contains("//") && !value.starts_with("arn:");
    if dots || empty || (slashes_decoded && !greedy && !value.starts_with("arn:")) || value.contains('\0') {
        return Err(malformed(
            "the path holds a dot segment, an empty segment or an encoded slash that could name another resource",
        ));
    }
    Ok(value)
}

/// Parameters of a rest request.
pub(super) fn read(
    service: &Service,
    op: &Model,
    head: &Head<'_>,
    recognised: &Recognised,
    body: &[u8],
) -> Result<Read, Refusal> {
    let input = op.input.and_then(|input| service.shape(input)).map(|shape| &shape.kind);
    let empty = (Vec::new(), None);
    let (members, payload) = match input {
        Some(ShapeKind::Structure { members, payload, .. }) => (members, payload),
        _ => (&empty.0, &empty.1),
    };
    let mut read = Read::default();
    let out = &mut read.parameters;
    for (name, value) in &recognised.labels {
        let value = match members
            .iter()
            .find(|member| member.name == *name)
            .and_then(|member| service.shape(member.shape))
        {
            Some(shape) => scalar(&shape.kind, value.clone())?,
            None => Value::String(value.clone()),
        };
        insert(out, name, value)?;
    }
    let mut query = query_pairs(head.query)?;
    let hoisted = hoisted_headers(service, &mut query)?;
    bind_query(service, op, members, query, out)?;
    bind_headers(service, members, head, &hoisted, out)?;
    if recognised.body_use() == super::BodyUse::Streamed {
        read.uninspected.push("body".to_owned());
    } else {
        let bound = bind_body(service, op, members, payload.as_deref(), recognised.protocol(), body)?;
        for (name, value) in bound {
            insert(out, &name, value)?;
        }
    }
    read.sensitive = shape::sensitive(service, op.input, &read.parameters);
    Ok(read)
}

/// Takes `x-amz-` query keys out of an S3 query: presigned URLs carry headers there.
fn hoisted_headers(
    service: &Service,
    query: &mut Vec<(String, String)>,
) -> Result<Vec<(String, String)>, Refusal> {
    let mut hoisted: Vec<(String, String)> = Vec::new();
    if service.id != "s3" {
        return Ok(hoisted);
    }
    query.retain_mut(|(key, value)| {
        let moved = starts_ignoring_case(key, "x-amz-");
        if moved {
            hoisted.push((key.to_ascii_lowercase(), std::mem::take(value)));
        }
        !moved
    });
    hoisted.sort();
    if hoisted.windows(2).any(|pair| pair.first().map(|entry| &entry.0) == pair.last().map(|entry| &entry.0))
    {
        return Err(malformed("a query key is given twice"));
    }
    Ok(hoisted)
}

fn bind_query(
    service: &Service,
    op: &Model,
    members: &[Member],
    query: Vec<(String, String)>,
    out: &mut Map<String, Value>,
) -> Result<(), Refusal> {
    let open_map = members.iter().find(|member| {
        member.location == Location::Query
            && matches!(service.shape(member.shape).map(|shape| &shape.kind), Some(ShapeKind::Map { .. }))
    });
    let mut literals_seen = Vec::new();
    for (key, value) in query {
        let member =
            members.iter().find(|member| member.location == Location::Query && wire_name(member) == key);
        if op.query.iter().any(|(literal, _)| *literal == key) && member.is_none() {
            if literals_seen.contains(&key) {
                return Err(malformed(format!("the query key `{}` is given twice", quote(&key))));
            }
            literals_seen.push(key);
            continue;
        }
        match member.and_then(|member| Some((member, service.shape(member.shape)?))) {
            Some((member, shape)) => match &shape.kind {
                ShapeKind::List { member: item, .. } => {
                    let item = item_value(service, *item, value)?;
                    let list = out.entry(member.name.clone()).or_insert_with(|| Value::Array(Vec::new()));
                    match list {
                        Value::Array(items) => items.push(item),
                        _ => return Err(malformed("a query key is given twice")),
                    }
                }
                kind => insert(out, &member.name, scalar(kind, value)?)?,
            },
            None => match open_map {
                Some(map) => into_map(service, map, key, value, out)?,
                None => {
                    refuse_lookalike(members, &key)?;
                    insert(out, &key, Value::String(value))?;
                }
            },
        }
    }
    Ok(())
}

/// A query key that a map member collects.
fn into_map(
    service: &Service,
    member: &Member,
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
    let Value::Object(map) = map else { return Err(malformed("a query key is given twice")) };
    if lists {
        let list = map.entry(key).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(items) = list {
            items.push(Value::String(value));
        }
        return Ok(());
    }
    insert(map, &key, Value::String(value))
}

fn item_value(service: &Service, item: ShapeId, value: String) -> Result<Value, Refusal> {
    match service.shape(item) {
        Some(shape) => scalar(&shape.kind, value),
        None => Ok(Value::String(value)),
    }
}

/// Headers of the transport and the signature, which no operation reads.
const TRANSPORT: [&str; 11] = [
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
    service: &Service,
    members: &[Member],
    head: &Head<'_>,
    hoisted: &[(String, String)],
    out: &mut Map<String, Value>,
) -> Result<(), Refusal> {
    let mut bound: Vec<&str> = Vec::new();
    for member in members.iter().filter(|member| member.location == Location::Header) {
        let wire = wire_name(member);
        let lower = wire.to_ascii_lowercase();
        let from_query = hoisted.iter().find(|(key, _)| *key == lower);
        let is_list =
            matches!(service.shape(member.shape).map(|shape| &shape.kind), Some(ShapeKind::List { .. }));
        let text = if is_list { joined(head, wire)? } else { header(head.headers, wire)?.map(str::to_owned) };
        let text = match (text, from_query) {
            (Some(_), Some(_)) => {
                return Err(malformed(format!(
                    "`{}` is given both as a header and in the query",
                    quote(wire)
                )));
            }
            (Some(text), None) => text,
            (None, Some((key, value))) => {
                bound.push(key);
                value.clone()
            }
            (None, None) => continue,
        };
        let value = match service.shape(member.shape).map(|shape| &shape.kind) {
            Some(ShapeKind::List { member: item, .. }) => Value::Array(
                text.split(',')
                    .map(|part| item_value(service, *item, part.trim().to_owned()))
                    .collect::<Result<_, _>>()?,
            ),
            // JSON in a header travels as base64 (`jsonvalue`): kept as sent.
            Some(ShapeKind::Structure { .. } | ShapeKind::Map { .. }) | None => Value::String(text),
            Some(kind) => scalar(kind, text)?,
        };
        insert(out, &member.name, value)?;
    }
    for member in members.iter().filter(|member| member.location == Location::Headers) {
        let prefix = wire_name(member).to_ascii_lowercase();
        let mut map = Map::new();
        for name in head.headers.keys() {
            if let Some(rest) = name.as_str().strip_prefix(&prefix)
                && let Some(value) = header(head.headers, name.as_str())?
            {
                insert(&mut map, rest, Value::String(value.to_owned()))?;
            }
        }
        for (key, value) in hoisted {
            if let Some(rest) = key.strip_prefix(&prefix) {
                bound.push(key);
                insert(&mut map, rest, Value::String(value.clone()))?;
            }
        }
        if !map.is_empty() {
            insert(out, &member.name, Value::Object(map))?;
        }
    }
    let is_member = |name: &str| {
        members.iter().any(|member| match member.location {
            Location::Header => wire_name(member).eq_ignore_ascii_case(name),
            Location::Headers => starts_ignoring_case(name, wire_name(member)),
            _ => false,
        })
    };
    for name in head.headers.keys().map(http::HeaderName::as_str) {
        if name.starts_with("x-amz") && !TRANSPORT.contains(&name) && !is_member(name) {
            let value = header(head.headers, name)?.unwrap_or_default();
            insert(out, name, Value::String(value.to_owned()))?;
        }
    }
    for (key, value) in hoisted.iter().filter(|(key, _)| !bound.contains(&key.as_str())) {
        if key != "x-amz-user-agent" {
            insert(out, key, Value::String(value.clone()))?;
        }
    }
    Ok(())
}

/// All values of a list header, joined by commas.
fn joined(head: &Head<'_>, name: &str) -> Result<Option<String>, Refusal> {
    let mut out: Option<String> = None;
    for value in head.headers.get_all(name) {
        let text =
            std::str::from_utf8(value.as_bytes()).map_err(|_| malformed("a header is not valid utf-8"))?;
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
    service: &Service,
    op: &Model,
    members: &[Member],
    payload: Option<&str>,
    protocol: Protocol,
    body: &[u8],
) -> Result<Map<String, Value>, Refusal> {
    let mut out = Map::new();
    if let Some(member) = payload.and_then(|name| members.iter().find(|member| member.name == name)) {
        if !body.is_empty() {
            insert(&mut out, &member.name, payload_value(service, member, protocol, body)?)?;
        }
        return Ok(out);
    }
    if !members.iter().any(|member| member.location == Location::Body) {
        // Some clients send an empty object with operations that have no body.
        if !body.is_empty() && !(protocol == Protocol::RestJson && body == b"{}") {
            return Err(malformed(format!("{} takes no body; send none", op.name)));
        }
        return Ok(out);
    }
    if body.is_empty() {
        return Ok(out);
    }
    if protocol == Protocol::RestXml {
        return parse_xml::structure(service, members, parse_xml::parse(body)?);
    }
    shape::structure(service, members, parse_json::parse_object(body)?)
}

fn payload_value(
    service: &Service,
    member: &Member,
    protocol: Protocol,
    body: &[u8],
) -> Result<Value, Refusal> {
    let kind = service.shape(member.shape).map(|shape| &shape.kind);
    Ok(match kind {
        Some(ShapeKind::Blob { .. }) => Value::String(STANDARD.encode(body)),
        Some(ShapeKind::String) => match std::str::from_utf8(body) {
            Ok(text) => Value::String(text.to_owned()),
            Err(_) => return Err(malformed("the body is not valid utf-8")),
        },
        _ if protocol == Protocol::RestXml => {
            let root = parse_xml::parse(body)?;
            if let Some(expected) = &member.wire_name
                && root.name != *expected
            {
                return Err(malformed(format!(
                    "the xml's root element is {} instead of {expected}",
                    quote(&root.name)
                )));
            }
            parse_xml::by_shape(service, member.shape, root)?
        }
        _ => shape::by_shape(service, member.shape, parse_json::parse(body)?)?,
    })
}

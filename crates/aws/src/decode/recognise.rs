//! Which operation a head asks for. The service comes from the verified scope; target, content type, path and query must
//! agree with it. Exactly one operation is found, or the request is refused.

use super::text::{announces_body, header, malformed, media_type, query_pairs, quote, unknown};
use super::{Head, Scope, rest};
use durward_catalog::{Location, Operation as Model, Protocol, Service, ShapeKind};
use durward_core::{AccessLevel, Refusal};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What the decision needs of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyUse {
    /// The operation has none and none is announced: send none upstream.
    None,
    /// It holds parameters and must be read whole.
    Whole,
    /// It is a payload that streams through; the decision can come before it.
    Streamed,
}

/// What the head of a request says. Of the query protocol only the service; the operation is in the body.
#[derive(Debug, Clone)]
pub struct Recognised {
    /// The service, or all that share its signing name where the body must tell them apart.
    candidates: Vec<Arc<Service>>,
    service: Arc<Service>,
    op_index: Option<usize>,
    protocol: Protocol,
    body: BodyUse,
    /// Path labels of the rest protocols by member name, decoded.
    pub(super) labels: Vec<(String, String)>,
}

impl Recognised {
    /// Whether [`decode`](super::decode) must be given the body.
    pub fn needs_body(&self) -> bool {
        self.body == BodyUse::Whole
    }

    /// What the decision needs of the body.
    pub fn body_use(&self) -> BodyUse {
        self.body
    }

    /// The service; where several share a signing name and only the body tells them apart, the first of them.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// The operation, where the head names it.
    pub fn operation(&self) -> Option<&Model> {
        self.service.operations.get(self.op_index?)
    }

    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub(super) fn op_index(&self) -> Option<usize> {
        self.op_index
    }

    pub(super) fn candidates(&self) -> &[Arc<Service>] {
        &self.candidates
    }
}

/// [`recognise`](super::recognise) among services that the caller chose.
pub fn recognise_among(
    services: &[Arc<Service>],
    scope: &Scope<'_>,
    head: &Head<'_>,
) -> Result<Recognised, Refusal> {
    if services.is_empty() {
        return Err(unknown(format!("no service signs as `{}`", quote(scope.service))));
    }
    let target = header(head.headers, "x-amz-target")?;
    let smithy = header(head.headers, "smithy-protocol")?;
    let media = media_type(head.headers)?;
    match (target, smithy) {
        (Some(_), Some(_)) => Err(malformed(
            "the request has both x-amz-target and smithy-protocol; send the one of its protocol",
        )),
        (None, Some("rpc-v2-cbor")) => cbor(services, head, media.as_deref()),
        (None, Some(other)) => Err(unknown(format!("the protocol `{}` is not known", quote(other)))),
        (Some(target), None) => json(services, head, target, media.as_deref()),
        (None, None) => by_route(services, scope, head, media.as_deref()),
    }
}

fn speaks(service: &Service, protocols: &[Protocol]) -> bool {
    service.protocols.iter().any(|protocol| protocols.contains(protocol))
}

fn cbor(services: &[Arc<Service>], head: &Head<'_>, media: Option<&str>) -> Result<Recognised, Refusal> {
    only_post(head)?;
    no_query(head)?;
    let body = announces_body(head.headers);
    if media.is_some_and(|media| media != "application/cbor") || (media.is_none() && body) {
        return Err(malformed("an rpc-v2-cbor request carries application/cbor"));
    }
    let mut segments = head.path.split('/');
    let named = (segments.next(), segments.next(), segments.next(), segments.next(), segments.next());
    let (Some(""), Some("service"), Some(prefix), Some("operation"), Some(name)) = named else {
        return Err(malformed(
            "the path of an rpc-v2-cbor request is /service/<service>/operation/<operation>",
        ));
    };
    if segments.next().is_some() {
        return Err(malformed("the path of an rpc-v2-cbor request goes on after its operation"));
    }
    by_name(services, prefix, name, &[Protocol::RpcV2Cbor], Protocol::RpcV2Cbor)
}

fn json(
    services: &[Arc<Service>],
    head: &Head<'_>,
    target: &str,
    media: Option<&str>,
) -> Result<Recognised, Refusal> {
    only_post(head)?;
    no_query(head)?;
    root_path(head)?;
    let protocol = match media {
        Some("application/x-amz-json-1.0") => Protocol::Json10,
        Some("application/x-amz-json-1.1") => Protocol::Json11,
        _ => return Err(malformed("a request with x-amz-target carries application/x-amz-json-1.0 or 1.1")),
    };
    let (prefix, name) = target
        .rsplit_once('.')
        .ok_or_else(|| malformed("the header x-amz-target is not <service>.<operation>"))?;
    by_name(services, prefix, name, &[Protocol::Json10, Protocol::Json11], protocol)
}

/// The operation called `name` of the service whose target prefix is `prefix`.
fn by_name(
    services: &[Arc<Service>],
    prefix: &str,
    name: &str,
    accepted: &[Protocol],
    protocol: Protocol,
) -> Result<Recognised, Refusal> {
    let named: Vec<&Arc<Service>> = services
        .iter()
        .filter(|service| speaks(service, accepted) && service.target_prefix.as_deref() == Some(prefix))
        .collect();
    if named.is_empty() {
        return Err(unknown(format!(
            "the request names the service `{}` and its signature another; sign it for the service it calls",
            quote(prefix)
        )));
    }
    let found: Vec<(Arc<Service>, usize)> = named
        .iter()
        .filter_map(|service| {
            let at = service.operations.iter().position(|op| op.name == name)?;
            Some((Arc::clone(service), at))
        })
        .collect();
    let (service, at) = strictest(found)?.ok_or_else(|| {
        let id = named.first().map_or("", |service| service.id.as_str());
        unknown(format!("the operation `{}` of {id} is not in the catalog", quote(name)))
    })?;
    Ok(Recognised {
        candidates: vec![Arc::clone(&service)],
        service,
        op_index: Some(at),
        protocol,
        body: BodyUse::Whole,
        labels: Vec::new(),
    })
}

/// Requests without a header that names the operation: query, ec2 and the rest protocols.
fn by_route(
    services: &[Arc<Service>],
    scope: &Scope<'_>,
    head: &Head<'_>,
    media: Option<&str>,
) -> Result<Recognised, Refusal> {
    let forms: Vec<Arc<Service>> = services
        .iter()
        .filter(|service| speaks(service, &[Protocol::Query, Protocol::Ec2]))
        .cloned()
        .collect();
    let rest: Vec<Arc<Service>> = services
        .iter()
        .filter(|service| speaks(service, &[Protocol::RestJson, Protocol::RestXml]))
        .cloned()
        .collect();
    let is_form = media == Some("application/x-www-form-urlencoded");
    let action_in_query = || -> Result<bool, Refusal> {
        Ok(query_pairs(head.query)?.iter().any(|(key, _)| key.eq_ignore_ascii_case("Action")))
    };
    if let Some(first) = forms.first() {
        let at_root = matches!(head.path, "/" | "");
        // A form goes to the query protocol; services that share the name with a rest service are told apart by it.
        if at_root && (is_form || (rest.is_empty() || action_in_query()?)) {
            let body = forms_body(head, is_form)?;
            let protocol =
                if first.protocols.contains(&Protocol::Ec2) { Protocol::Ec2 } else { Protocol::Query };
            return Ok(Recognised {
                service: Arc::clone(first),
                candidates: forms,
                op_index: None,
                protocol,
                body,
                labels: Vec::new(),
            });
        }
        if rest.is_empty() {
            return Err(malformed("a query request goes to the path /"));
        }
    }
    if rest.is_empty() {
        let id = services.first().map_or("", |service| service.id.as_str());
        return Err(unknown(format!(
            "the request names no operation of {id}; it needs x-amz-target or an rpc-v2-cbor path"
        )));
    }
    if media == Some("multipart/form-data") && rest.iter().any(|service| service.id == "s3") {
        return Err(unknown("uploads by browser form are not supported; use PutObject"));
    }
    let found = rest::route(&rest, scope, head)?;
    let at = found.op_index;
    let protocol = if found.service.protocols.contains(&Protocol::RestXml) {
        Protocol::RestXml
    } else {
        Protocol::RestJson
    };
    let body = match found.service.operations.get(at) {
        Some(op) => rest_body(&found.service, op, head, protocol, media)?,
        None => BodyUse::Whole,
    };
    Ok(Recognised {
        candidates: vec![Arc::clone(&found.service)],
        service: found.service,
        op_index: Some(at),
        protocol,
        body,
        labels: found.labels,
    })
}

fn forms_body(head: &Head<'_>, is_form: bool) -> Result<BodyUse, Refusal> {
    let announced = announces_body(head.headers);
    match head.method.as_str() {
        "GET" if announced => Err(malformed("a query request by GET has no body")),
        "GET" => Ok(BodyUse::None),
        "POST" if is_form => Ok(BodyUse::Whole),
        "POST" if !announced => Ok(BodyUse::None),
        "POST" => Err(malformed("the body of a query request is application/x-www-form-urlencoded")),
        _ => Err(malformed("a query request is sent by POST or GET")),
    }
}

/// What the body of a rest operation is, and whether its media type fits.
fn rest_body(
    service: &Service,
    op: &Model,
    head: &Head<'_>,
    protocol: Protocol,
    media: Option<&str>,
) -> Result<BodyUse, Refusal> {
    let input = op.input.and_then(|input| service.shape(input)).map(|shape| &shape.kind);
    let Some(ShapeKind::Structure { members, payload, .. }) = input else {
        return Ok(if announces_body(head.headers) { BodyUse::Whole } else { BodyUse::None });
    };
    let payload = payload.as_ref().and_then(|name| members.iter().find(|member| member.name == *name));
    let structured = match payload {
        Some(member) => match service.shape(member.shape).map(|shape| &shape.kind) {
            Some(ShapeKind::Blob { streaming: true } | ShapeKind::EventStream) => {
                return Ok(BodyUse::Streamed);
            }
            Some(ShapeKind::Blob { .. } | ShapeKind::String) => false,
            _ => true,
        },
        None if members.iter().any(|member| member.location == Location::Body) => true,
        None => return Ok(if announces_body(head.headers) { BodyUse::Whole } else { BodyUse::None }),
    };
    let fits = match (structured, protocol, media) {
        (false, _, _) | (_, _, None) => true,
        (true, Protocol::RestXml, Some(media)) => matches!(media, "application/xml" | "text/xml"),
        (true, _, Some(media)) => media == "application/json",
    };
    // Some clients name a type without sending a body.
    if !fits && announces_body(head.headers) {
        return Err(malformed(format!(
            "the body of {} is declared as `{}`, which is not what the service reads",
            op.name,
            quote(media.unwrap_or_default())
        )));
    }
    Ok(BodyUse::Whole)
}

/// One of several operations that the models cannot tell apart: only when all need the same IAM actions, and then the one
/// with the strictest access level, the most resources and, last, the service named like the signing name.
pub(super) fn strictest(
    mut found: Vec<(Arc<Service>, usize)>,
) -> Result<Option<(Arc<Service>, usize)>, Refusal> {
    if found.len() < 2 {
        return Ok(found.pop());
    }
    let actions = |entry: &(Arc<Service>, usize)| -> BTreeSet<String> {
        entry
            .0
            .operations
            .get(entry.1)
            .into_iter()
            .flat_map(|op| &op.actions)
            .map(|use_| use_.action.clone())
            .collect()
    };
    let all: Vec<BTreeSet<String>> = found.iter().map(&actions).collect();
    let same = all.windows(2).all(|pair| pair.first() == pair.last());
    if !same {
        let names: Vec<String> = found
            .iter()
            .filter_map(|(service, at)| Some(format!("{}:{}", service.id, service.operations.get(*at)?.name)))
            .collect();
        return Err(unknown(format!("the request could be any of {}", names.join(", "))));
    }
    found.sort_by_key(|(service, at)| {
        let op = service.operations.get(*at);
        let level = op.and_then(|op| op.actions.iter().map(|use_| use_.access_level).max());
        let resources = op.map_or(0, |op| op.actions.iter().map(|use_| use_.resources.len()).sum::<usize>());
        (level.unwrap_or(AccessLevel::List), resources, service.id == service.signing_name)
    });
    Ok(found.pop())
}

fn only_post(head: &Head<'_>) -> Result<(), Refusal> {
    if head.method != http::Method::POST {
        return Err(malformed("requests of this protocol are sent by POST"));
    }
    Ok(())
}

fn no_query(head: &Head<'_>) -> Result<(), Refusal> {
    if let Some((key, _)) = query_pairs(head.query)?.first() {
        return Err(malformed(format!("requests of this protocol have no query; remove `{}`", quote(key))));
    }
    Ok(())
}

fn root_path(head: &Head<'_>) -> Result<(), Refusal> {
    if !matches!(head.path, "/" | "") {
        return Err(malformed("requests of this protocol go to the path /"));
    }
    Ok(())
}

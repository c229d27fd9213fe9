//! Which operation a head asks for. The service comes from the verified scope; target, content type, path and query must
//! agree with it. Exactly one operation is found, or the request is refused.

use super::shape::wire_name;
use super::text::{announces_body, header, malformed, media_type, query_pairs, quote, unknown};
use super::ties::{Tied, settle};
use super::{Head, Scope, rest};
use durward_catalog::{Location, Operation as Model, Protocol, Service, ShapeKind};
use durward_core::Refusal;
use std::sync::Arc;

/// The position of an operation that is newer than the catalog: none.
pub const NO_OPERATION: usize = usize::MAX;

/// Whether a text can be the name of an operation.
pub(super) fn is_operation_name(name: &str) -> bool {
    name.len() <= 128
        && name.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

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

/// One operation that a head may ask for.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    pub service: Arc<Service>,
    pub op_index: usize,
    /// Path labels of the rest protocols by member name, decoded.
    pub labels: Vec<(String, String)>,
}

impl Choice {
    pub(super) fn model(&self) -> Option<&Model> {
        self.service.operations.get(self.op_index)
    }
}

/// What the head of a request says. Of the query protocol only the service; the operation is in the body.
#[derive(Debug, Clone)]
pub struct Recognised {
    /// The operation; where models describe one wire several times, all that it may be, the first choice first.
    choices: Tied,
    /// The services whose forms this may be, when the operation is in the form.
    forms: Vec<Arc<Service>>,
    /// The name of an operation that the service has and the catalog has not.
    newer: Option<String>,
    service: Arc<Service>,
    protocol: Protocol,
    body: BodyUse,
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
        self.choices.list.first()?.model()
    }

    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub(super) fn choices(&self) -> &Tied {
        &self.choices
    }

    /// The name of an operation that is newer than the catalog.
    pub(super) fn newer(&self) -> Option<&str> {
        self.newer.as_deref()
    }

    pub(super) fn forms(&self) -> &[Arc<Service>] {
        &self.forms
    }

    fn of(choices: Tied, protocol: Protocol, body: BodyUse) -> Result<Self, Refusal> {
        let first = choices.list.first().ok_or_else(|| unknown("no operation matches"))?;
        Ok(Self {
            service: Arc::clone(&first.service),
            choices,
            forms: Vec::new(),
            newer: None,
            protocol,
            body,
        })
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
    if head.bucket_host.is_some() && !services.iter().any(|service| service.id == "s3") {
        return Err(unknown("the host name has a part in front that only S3 reads; use the plain name"));
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

/// Whether `prefix` is the service's in `X-Amz-Target` or an rpc-v2-cbor path. Of a dotted one
/// (`com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101`) the newer SDKs send the last part alone.
fn is_called(service: &Service, prefix: &str) -> bool {
    service
        .target_prefix
        .as_deref()
        .is_some_and(|own| own == prefix || own.rsplit_once('.').is_some_and(|(_, last)| last == prefix))
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
    let named: Vec<&Arc<Service>> =
        services.iter().filter(|service| speaks(service, accepted) && is_called(service, prefix)).collect();
    if named.is_empty() {
        return Err(unknown(format!(
            "the request names the service `{}` and its signature another; sign it for the service it calls",
            quote(prefix)
        )));
    }
    let found: Vec<Choice> = named
        .iter()
        .filter_map(|service| {
            let op_index = service.operation_index(name)?;
            Some(Choice { service: Arc::clone(service), op_index, labels: Vec::new() })
        })
        .collect();
    if let (true, Some(service)) = (found.is_empty(), named.first()) {
        if !is_operation_name(name) {
            return Err(unknown(format!(
                "the operation `{}` of {} is not in the catalog",
                quote(name),
                service.id
            )));
        }
        return Ok(Recognised {
            service: Arc::clone(service),
            choices: Tied::default(),
            forms: Vec::new(),
            newer: Some(name.to_owned()),
            protocol,
            body: BodyUse::Whole,
        });
    }
    Recognised::of(settle(found), protocol, BodyUse::Whole)
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
                choices: Tied::default(),
                forms,
                newer: None,
                protocol,
                body,
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
    let mut choices = rest::route(&rest, scope, head)?;
    let first = choices.list.first().ok_or_else(|| unknown("no operation matches"))?;
    let (service, op) = (Arc::clone(&first.service), first.op_index);
    let protocol =
        if service.protocols.contains(&Protocol::RestXml) { Protocol::RestXml } else { Protocol::RestJson };
    let body_of = |service: &Service, at: usize| match service.operations.get(at) {
        Some(op) => rest_body(service, op, head, protocol, media),
        None => Ok(BodyUse::Whole),
    };
    let body = body_of(&service, op)?;
    choices.list.retain(|choice| body_of(&choice.service, choice.op_index).is_ok_and(|other| other == body));
    Recognised::of(choices, protocol, body)
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
    // Where the caller names the type of its own content, the service does not read the body by it.
    let chosen = members.iter().any(|member| {
        member.location == Location::Header && wire_name(member).eq_ignore_ascii_case("content-type")
    });
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
    let fits = match (structured && !chosen, protocol, media) {
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

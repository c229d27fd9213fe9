//! Routing: finds the operation of a request head.
//!
//! Promise: the service comes from the verified credential scope, never from the host or the path; target, content type, path
//! and query must agree with it. Otherwise a caller could sign for a service that it may use and name an operation of
//! another one.

use super::ambiguous_routes::resolve_ambiguity;
use super::request::{RequestHead, RequestScope};
use super::request_text::{announces_body, get_single_header, parse_media_type, parse_query_pairs};
use super::rest_routing;
use super::route_choice::{AmbiguousRoute, RouteChoice};
use super::shape_conversion::wire_name;
use crate::refusals::{malformed_request, quote_for_message, unknown_operation};
use durward_catalog::{AwsProtocol, MemberLocation, OperationModel, ServiceModel, ShapeKind};
use durward_core::Refusal;
use std::sync::Arc;

/// Stands for the position of an operation that the catalog does not have.
pub const UNKNOWN_OPERATION_INDEX: usize = usize::MAX;

/// Returns true if a text can be the name of an operation. It goes into the record and into messages.
pub(super) fn is_operation_name(name: &str) -> bool {
    name.len() <= 128
        && name.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The use that the decoder makes of the body of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyUse {
    /// The operation has no body and the head announces none: none is sent upstream.
    None,
    /// The body holds parameters and must be read whole.
    Whole,
    /// The body is a payload that streams through: policy decides before it is read.
    Streamed,
}

/// The result of routing. In the query protocols it names only the services; the operation is in the body.
#[derive(Debug, Clone)]
pub struct Route {
    /// The operations that the head may mean.
    choices: AmbiguousRoute,
    /// In the query protocols, the services whose form this may be.
    form_services: Vec<Arc<ServiceModel>>,
    /// The name of an operation that the catalog does not have.
    unknown_operation: Option<String>,
    service: Arc<ServiceModel>,
    protocol: AwsProtocol,
    body_use: BodyUse,
}

impl Route {
    /// Returns true if [`decode_request`](super::decode_request) needs the body.
    pub fn needs_body(&self) -> bool {
        self.body_use == BodyUse::Whole
    }

    /// The use that the decoder makes of the body.
    pub fn body_use(&self) -> BodyUse {
        self.body_use
    }

    /// The service. Where only the body tells several services apart, the first of them.
    pub fn service(&self) -> &Arc<ServiceModel> {
        &self.service
    }

    /// The operation, if the head names it.
    pub fn operation_model(&self) -> Option<&OperationModel> {
        self.choices.candidates.first()?.operation_model()
    }

    pub fn protocol(&self) -> AwsProtocol {
        self.protocol
    }

    pub(super) fn choices(&self) -> &AmbiguousRoute {
        &self.choices
    }

    /// The name of an operation that the catalog does not have.
    pub(super) fn unknown_operation(&self) -> Option<&str> {
        self.unknown_operation.as_deref()
    }

    pub(super) fn form_services(&self) -> &[Arc<ServiceModel>] {
        &self.form_services
    }

    fn from_choices(choices: AmbiguousRoute, protocol: AwsProtocol, body: BodyUse) -> Result<Self, Refusal> {
        let first = choices.candidates.first().ok_or_else(|| unknown_operation("no operation matches"))?;
        Ok(Self {
            service: Arc::clone(&first.service),
            choices,
            form_services: Vec::new(),
            unknown_operation: None,
            protocol,
            body_use: body,
        })
    }
}

/// Finds the operation of a head among these services.
pub(super) fn route_among_services(
    services: &[Arc<ServiceModel>],
    scope: &RequestScope<'_>,
    head: &RequestHead<'_>,
) -> Result<Route, Refusal> {
    if services.is_empty() {
        return Err(unknown_operation(format!("no service signs as `{}`", quote_for_message(scope.service))));
    }
    if head.bucket_host.is_some() && !services.iter().any(|service| service.id == "s3") {
        return Err(unknown_operation(
            "the host name has a part in front that only S3 reads; use the plain name",
        ));
    }
    let target = get_single_header(head.headers, "x-amz-target")?;
    let smithy = get_single_header(head.headers, "smithy-protocol")?;
    let media = parse_media_type(head.headers)?;
    match (target, smithy) {
        // A service that serves both protocols could pick either, and so another operation.
        (Some(_), Some(_)) => Err(malformed_request(
            "the request has both x-amz-target and smithy-protocol; send the one of its protocol",
        )),
        (None, Some("rpc-v2-cbor")) => route_cbor_request(services, head, media.as_deref()),
        (None, Some(other)) => {
            Err(unknown_operation(format!("the protocol `{}` is not known", quote_for_message(other))))
        }
        (Some(target), None) => route_json_request(services, head, target, media.as_deref()),
        (None, None) => route_unnamed_request(services, scope, head, media.as_deref()),
    }
}

/// Returns true if `prefix` is the service's prefix in `X-Amz-Target` or an rpc-v2-cbor path. Newer SDKs send only the last part
/// of a dotted prefix (`com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101`).
fn matches_target_prefix(service: &ServiceModel, prefix: &str) -> bool {
    service
        .target_prefix
        .as_deref()
        .is_some_and(|own| own == prefix || own.rsplit_once('.').is_some_and(|(_, last)| last == prefix))
}

fn supports_any_protocol(service: &ServiceModel, protocols: &[AwsProtocol]) -> bool {
    service.protocols.iter().any(|protocol| protocols.contains(protocol))
}

fn route_cbor_request(
    services: &[Arc<ServiceModel>],
    head: &RequestHead<'_>,
    media: Option<&str>,
) -> Result<Route, Refusal> {
    require_post(head)?;
    refuse_query(head)?;
    let body = announces_body(head.headers);
    if media.is_some_and(|media| media != "application/cbor") || (media.is_none() && body) {
        return Err(malformed_request("an rpc-v2-cbor request carries application/cbor"));
    }
    let mut segments = head.path.split('/');
    let path = (segments.next(), segments.next(), segments.next(), segments.next(), segments.next());
    let (Some(""), Some("service"), Some(prefix), Some("operation"), Some(name)) = path else {
        return Err(malformed_request(
            "the path of an rpc-v2-cbor request is /service/<service>/operation/<operation>",
        ));
    };
    if segments.next().is_some() {
        return Err(malformed_request("the path of an rpc-v2-cbor request continues after its operation"));
    }
    route_by_name(services, prefix, name, &[AwsProtocol::RpcV2Cbor], AwsProtocol::RpcV2Cbor)
}

fn route_json_request(
    services: &[Arc<ServiceModel>],
    head: &RequestHead<'_>,
    target: &str,
    media: Option<&str>,
) -> Result<Route, Refusal> {
    require_post(head)?;
    refuse_query(head)?;
    require_root_path(head)?;
    let protocol = match media {
        Some("application/x-amz-json-1.0") => AwsProtocol::Json10,
        Some("application/x-amz-json-1.1") => AwsProtocol::Json11,
        _ => {
            return Err(malformed_request(
                "a request with x-amz-target carries application/x-amz-json-1.0 or 1.1",
            ));
        }
    };
    let (prefix, name) = target
        .rsplit_once('.')
        .ok_or_else(|| malformed_request("the header x-amz-target is not <service>.<operation>"))?;
    route_by_name(services, prefix, name, &[AwsProtocol::Json10, AwsProtocol::Json11], protocol)
}

/// Finds the operation `name` of the service with this target prefix.
fn route_by_name(
    services: &[Arc<ServiceModel>],
    prefix: &str,
    name: &str,
    accepted: &[AwsProtocol],
    protocol: AwsProtocol,
) -> Result<Route, Refusal> {
    let candidates: Vec<&Arc<ServiceModel>> = services
        .iter()
        .filter(|service| supports_any_protocol(service, accepted) && matches_target_prefix(service, prefix))
        .collect();
    if candidates.is_empty() {
        return Err(unknown_operation(format!(
            "the request names the service `{}` and its signature names another; sign it for the service that it calls",
            quote_for_message(prefix)
        )));
    }
    let found: Vec<RouteChoice> = candidates
        .iter()
        .filter_map(|service| {
            let operation_index = service.operation_index(name)?;
            Some(RouteChoice { service: Arc::clone(service), operation_index, labels: Vec::new() })
        })
        .collect();
    if let (true, Some(service)) = (found.is_empty(), candidates.first()) {
        if !is_operation_name(name) {
            return Err(unknown_operation(format!(
                "the operation `{}` of {} is not in the catalog",
                quote_for_message(name),
                service.id
            )));
        }
        return Ok(Route {
            service: Arc::clone(service),
            choices: AmbiguousRoute::default(),
            form_services: Vec::new(),
            unknown_operation: Some(name.to_owned()),
            protocol,
            body_use: BodyUse::Whole,
        });
    }
    Route::from_choices(resolve_ambiguity(found), protocol, BodyUse::Whole)
}

/// Routes a request without a header that names the operation: the query, EC2 and REST protocols.
fn route_unnamed_request(
    services: &[Arc<ServiceModel>],
    scope: &RequestScope<'_>,
    head: &RequestHead<'_>,
    media: Option<&str>,
) -> Result<Route, Refusal> {
    let forms: Vec<Arc<ServiceModel>> = services
        .iter()
        .filter(|service| supports_any_protocol(service, &[AwsProtocol::Query, AwsProtocol::Ec2]))
        .cloned()
        .collect();
    let rest: Vec<Arc<ServiceModel>> = services
        .iter()
        .filter(|service| supports_any_protocol(service, &[AwsProtocol::RestJson, AwsProtocol::RestXml]))
        .cloned()
        .collect();
    let is_form = media == Some("application/x-www-form-urlencoded");
    let action_in_query = || -> Result<bool, Refusal> {
        Ok(parse_query_pairs(head.query)?.iter().any(|(key, _)| key.eq_ignore_ascii_case("Action")))
    };
    if let Some(first) = forms.first() {
        let at_root = matches!(head.path, "/" | "");
        // Where a query service and a REST service share a signing name, the form or the `Action` decides.
        if at_root && (is_form || (rest.is_empty() || action_in_query()?)) {
            let body = form_body_use(head, is_form)?;
            let protocol = if first.protocols.contains(&AwsProtocol::Ec2) {
                AwsProtocol::Ec2
            } else {
                AwsProtocol::Query
            };
            return Ok(Route {
                service: Arc::clone(first),
                choices: AmbiguousRoute::default(),
                form_services: forms,
                unknown_operation: None,
                protocol,
                body_use: body,
            });
        }
        if rest.is_empty() {
            return Err(malformed_request("a query request goes to the path /"));
        }
    }
    if rest.is_empty() {
        let id = services.first().map_or("", |service| service.id.as_str());
        return Err(unknown_operation(format!(
            "the request names no operation of {id}; it needs x-amz-target or an rpc-v2-cbor path"
        )));
    }
    // Their signature covers a policy document inside the form, not the request (S3 API Reference, "Browser-based uploads using
    // POST").
    if media == Some("multipart/form-data") && rest.iter().any(|service| service.id == "s3") {
        return Err(unknown_operation("uploads by browser form are not supported; use PutObject"));
    }
    let mut choices = rest_routing::route_by_template(&rest, scope, head)?;
    let first = choices.candidates.first().ok_or_else(|| unknown_operation("no operation matches"))?;
    let (service, operation) = (Arc::clone(&first.service), first.operation_index);
    let protocol = if service.protocols.contains(&AwsProtocol::RestXml) {
        AwsProtocol::RestXml
    } else {
        AwsProtocol::RestJson
    };
    let body_use_of = |service: &ServiceModel, at: usize| match service.operations.get(at) {
        Some(operation) => rest_body_use(service, operation, head, protocol, media),
        None => Ok(BodyUse::Whole),
    };
    let body = body_use_of(&service, operation)?;
    choices.candidates.retain(|choice| {
        body_use_of(&choice.service, choice.operation_index).is_ok_and(|other| other == body)
    });
    Route::from_choices(choices, protocol, body)
}

fn form_body_use(head: &RequestHead<'_>, is_form: bool) -> Result<BodyUse, Refusal> {
    let announced = announces_body(head.headers);
    match head.method.as_str() {
        // Content in a GET has no defined meaning (RFC 9110 section 9.3.1), and readers differ in whether they read it.
        "GET" if announced => Err(malformed_request("a query request by GET has no body")),
        "GET" => Ok(BodyUse::None),
        "POST" if is_form => Ok(BodyUse::Whole),
        "POST" if !announced => Ok(BodyUse::None),
        "POST" => Err(malformed_request("the body of a query request is application/x-www-form-urlencoded")),
        _ => Err(malformed_request("a query request is sent by POST or GET")),
    }
}

/// Finds the use that a REST operation makes of the body. Refuses a media type that the service would not parse as we do.
fn rest_body_use(
    service: &ServiceModel,
    operation: &OperationModel,
    head: &RequestHead<'_>,
    protocol: AwsProtocol,
    media: Option<&str>,
) -> Result<BodyUse, Refusal> {
    let input = operation.input_shape.and_then(|input| service.shape(input)).map(|shape| &shape.kind);
    let Some(ShapeKind::Structure { members, payload, .. }) = input else {
        return Ok(if announces_body(head.headers) { BodyUse::Whole } else { BodyUse::None });
    };
    let payload = payload.as_ref().and_then(|name| members.iter().find(|member| member.name == *name));
    // An operation with a Content-Type member stores the type with the payload and does not parse the body by it.
    let has_content_type_member = members.iter().any(|member| {
        member.location == MemberLocation::Header && wire_name(member).eq_ignore_ascii_case("content-type")
    });
    let is_structured = match payload {
        Some(member) => match service.shape(member.shape).map(|shape| &shape.kind) {
            Some(ShapeKind::Blob { is_streaming: true } | ShapeKind::EventStream) => {
                return Ok(BodyUse::Streamed);
            }
            Some(ShapeKind::Blob { .. } | ShapeKind::String) => false,
            _ => true,
        },
        None if members.iter().any(|member| member.location == MemberLocation::Body) => true,
        None => return Ok(if announces_body(head.headers) { BodyUse::Whole } else { BodyUse::None }),
    };
    let fits = match (is_structured && !has_content_type_member, protocol, media) {
        (false, _, _) | (_, _, None) => true,
        (true, AwsProtocol::RestXml, Some(media)) => matches!(media, "application/xml" | "text/xml"),
        (true, _, Some(media)) => media == "application/json",
    };
    // Some clients send a Content-Type without a body.
    if !fits && announces_body(head.headers) {
        return Err(malformed_request(format!(
            "the body of {} is declared as `{}`, which the service does not accept",
            operation.name,
            quote_for_message(media.unwrap_or_default())
        )));
    }
    Ok(BodyUse::Whole)
}

fn require_post(head: &RequestHead<'_>) -> Result<(), Refusal> {
    if head.method != http::Method::POST {
        return Err(malformed_request("requests of this protocol are sent by POST"));
    }
    Ok(())
}

fn refuse_query(head: &RequestHead<'_>) -> Result<(), Refusal> {
    if let Some((key, _)) = parse_query_pairs(head.query)?.first() {
        return Err(malformed_request(format!(
            "requests of this protocol have no query; remove `{}`",
            quote_for_message(key)
        )));
    }
    Ok(())
}

fn require_root_path(head: &RequestHead<'_>) -> Result<(), Refusal> {
    if !matches!(head.path, "/" | "") {
        return Err(malformed_request("requests of this protocol go to the path /"));
    }
    Ok(())
}

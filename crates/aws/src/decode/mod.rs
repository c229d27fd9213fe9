//! Bytes of a request to exactly one AWS operation, or a refusal; never a guess.
//!
//! [`route_operation`] looks at the head alone: it finds the operation and says whether the body is needed.
//! [`decode_request`] reads the parameters by their shapes and lists the permissions that policy must allow. Both are pure
//! functions: no clock, no network.
//!
//! Promise: a member is read exactly once, under its own name. Whatever another reader could take for something else (a
//! name given twice, a name in another case, a body in another format) is refused, because then policy would decide one
//! operation and AWS would execute another.

mod ambiguous_routes;
mod bucket_name;
mod form_conversion;
mod http_binding;
mod json_pointer;
mod operation_routing;
mod overrides;
mod parse_cbor;
mod parse_json;
mod permission_templates;
mod query_protocol;
mod request;
mod request_text;
mod rest_routing;
mod route_choice;
mod shape_conversion;
mod xml_conversion;

pub use operation_routing::{BodyUse, Route, UNKNOWN_OPERATION_INDEX};
pub use request::{RequestHead, RequestScope};

use crate::refusals::malformed_request;
use durward_catalog::{AwsProtocol, Catalog, OperationModel, ServiceModel};
use durward_core::{FrontEndKind, Operation, Refusal, RefusalReason, limits, remove_json_pointers};
use request::DecodedParameters;
use request_text::parse_content_encodings;
use route_choice::RouteChoice;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::io::Read as _;
use std::sync::Arc;

/// Returns true if the required permissions of the service's operations depend on more than the catalog's templates.
pub fn has_service_override(service: &ServiceModel) -> bool {
    overrides::has_override(&service.id)
}

/// Returns true if a header is a parameter of the operation.
pub fn is_header_member(service: &ServiceModel, operation: &OperationModel, name: &str) -> bool {
    let members = operation.input_shape.map_or(&[][..], |input| service.structure_members(input));
    http_binding::binds_header(members, name)
}

/// A decoded request.
#[derive(Debug, Clone)]
pub struct DecodedRequest {
    pub operation: Operation,
    pub service: Arc<ServiceModel>,
    /// Position in `service.operations`; [`UNKNOWN_OPERATION_INDEX`] when the catalog does not have the operation.
    pub operation_index: usize,
    pub protocol: AwsProtocol,
}

impl DecodedRequest {
    /// The operation's model; `None` when the catalog does not have the operation.
    pub fn operation_model(&self) -> Option<&OperationModel> {
        self.service.operations.get(self.operation_index)
    }
}

/// Finds the operation of a request head, among the services that sign with the scope's name.
pub fn route_operation(
    catalog: &Catalog,
    scope: &RequestScope<'_>,
    head: &RequestHead<'_>,
) -> Result<Route, Refusal> {
    let services = catalog.services_signing_as(scope.service);
    operation_routing::route_among_services(&filter_by_host(catalog, &services, scope, head), scope, head)
}

/// Where several services share a signing name, a request in proxy mode names one of them by its AWS host. Returns all
/// services when the host is the gateway's. The host only chooses among services that the signature allows, and the request
/// is sent to the endpoint of the chosen one, so a false host gains nothing.
fn filter_by_host<'a>(
    catalog: &Catalog,
    services: &'a [Arc<ServiceModel>],
    scope: &RequestScope<'_>,
    head: &RequestHead<'_>,
) -> Cow<'a, [Arc<ServiceModel>]> {
    let host = head.headers.get(http::header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    // S3 and s3control differ in more than their hosts: `rest_routing` tells them apart.
    if services.len() < 2 || host.is_empty() || services.iter().any(|service| service.id == "s3") {
        return Cow::Borrowed(services);
    }
    let has_host = |service: &&Arc<ServiceModel>| {
        catalog.resolve_endpoint(&service.id, scope.region).is_some_and(|endpoint| {
            // SDKs put host prefixes in front (`sync-`, `123456789012.`).
            let prefix = host.strip_suffix(endpoint.host.as_str());
            prefix.is_some_and(|prefix| prefix.is_empty() || prefix.ends_with(['.', '-']))
        })
    };
    let named: Vec<Arc<ServiceModel>> = services.iter().filter(has_host).cloned().collect();
    if named.is_empty() { Cow::Borrowed(services) } else { Cow::Owned(named) }
}

/// Decodes the parameters of a routed request and lists the permissions that it requires. `body` is the whole body without
/// `aws-chunked` framing; it must be given where [`Route::needs_body`] says so.
pub fn decode_request(
    catalog: &Catalog,
    scope: &RequestScope<'_>,
    head: &RequestHead<'_>,
    route: &Route,
    body: Option<&[u8]>,
) -> Result<DecodedRequest, Refusal> {
    let body = match (route.body_use(), body) {
        (BodyUse::Whole, None) => {
            return Err(Refusal::new(
                RefusalReason::Internal,
                "the gateway did not read the body of this request",
            ));
        }
        (BodyUse::Whole, Some(bytes)) => decompress_body(head, bytes)?,
        // A body that no shape describes would travel on without a decision about it.
        (BodyUse::None, Some(bytes)) if !bytes.is_empty() => {
            return Err(malformed_request("this operation takes no body; send none"));
        }
        (BodyUse::None | BodyUse::Streamed, _) => Cow::Borrowed(&[][..]),
    };
    let protocol = route.protocol();
    let (service, operation_index, decoded) = match protocol {
        AwsProtocol::Query | AwsProtocol::Ec2 => query_protocol::decode_form_request(head, route, &body)?,
        _ => {
            if let Some(name) = route.unknown_operation() {
                let decoded = DecodedParameters::for_unknown_operation(
                    name.to_owned(),
                    parse_body_object(protocol, &body)?,
                );
                (Arc::clone(route.service()), UNKNOWN_OPERATION_INDEX, decoded)
            } else {
                decode_best_choice(head, route, &body)?
            }
        }
    };
    let (name, permissions, traits) = if let Some(name) = decoded.unknown_operation {
        (name, vec![overrides::unknown_permission(&service)], overrides::UNKNOWN_OPERATION_TRAITS)
    } else {
        let model = get_operation_model(&service, operation_index)?;
        // A parameter that the model does not know names no resource: AWS ignores it, so a caller could put a harmless
        // resource there.
        let known = remove_json_pointers(&decoded.parameters, &decoded.uninspected);
        let context = permission_templates::PermissionContext {
            partition: catalog.partition_of_region(scope.region),
            scope,
            service: &service,
            operation_model: model,
            parameters: &known,
        };
        let permissions = overrides::required_permissions(&context)?;
        let traits = overrides::request_traits(&context, &permissions);
        (model.name.clone(), permissions, traits)
    };
    let operation = Operation {
        front_end: FrontEndKind::Aws,
        service: service.iam_prefix.clone(),
        name,
        required_permissions: permissions,
        sensitive_pointers: decoded.sensitive,
        region: Some(scope.region.to_owned()),
        account: Some(scope.account.to_owned()),
        traits,
        uninspected_parts: decoded.uninspected,
        body_sha256: None,
        parameters: Value::Object(decoded.parameters),
    };
    Ok(DecodedRequest { operation, service, operation_index, protocol })
}

/// Decodes a request that may mean several operations: as the first whose model knows every parameter, or else as the first
/// that can be decoded at all. Where the operations need different actions, exactly one model must know every parameter
/// and find all that it requires; otherwise the request is refused.
fn decode_best_choice(
    head: &RequestHead<'_>,
    route: &Route,
    body: &[u8],
) -> Result<(Arc<ServiceModel>, usize, DecodedParameters), Refusal> {
    let choices = route.choices();
    if let [only] = choices.candidates.as_slice() {
        let decoded = decode_choice(head, route, only, body)?;
        return Ok((Arc::clone(&only.service), only.operation_index, decoded));
    }
    let mut fitting = Vec::new();
    let mut decodable = None;
    let mut refusal = None;
    for choice in &choices.candidates {
        match decode_choice(head, route, choice, body) {
            Ok(decoded) if fits_parameters(choice, &decoded, choices.needs_parameters) => {
                fitting.push((choice, decoded));
            }
            Ok(decoded) if decodable.is_none() => decodable = Some((choice, decoded)),
            Ok(_) => {}
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    if choices.needs_parameters && fitting.len() != 1 {
        return Err(ambiguous_routes::refuse_ambiguous_route(&choices.candidates));
    }
    match fitting.into_iter().next().or(decodable) {
        Some((choice, decoded)) => Ok((Arc::clone(&choice.service), choice.operation_index, decoded)),
        None => Err(refusal.unwrap_or_else(|| {
            Refusal::new(RefusalReason::Internal, "the gateway found no operation in this request")
        })),
    }
}

/// Returns true if the operation's model knows every parameter and, with `with_required`, finds all that it requires.
fn fits_parameters(choice: &RouteChoice, decoded: &DecodedParameters, with_required: bool) -> bool {
    let input = choice.operation_model().and_then(|model| model.input_shape);
    let members = input.map_or(&[][..], |input| choice.service.structure_members(input));
    let parameters = &decoded.parameters;
    parameters.keys().all(|key| members.iter().any(|member| member.name == *key))
        && (!with_required
            || members.iter().all(|member| !member.is_required || parameters.contains_key(&member.name)))
}

fn decode_choice(
    head: &RequestHead<'_>,
    route: &Route,
    choice: &RouteChoice,
    body: &[u8],
) -> Result<DecodedParameters, Refusal> {
    let service = &choice.service;
    let model = get_operation_model(service, choice.operation_index)?;
    match route.protocol() {
        protocol @ (AwsProtocol::Json10 | AwsProtocol::Json11 | AwsProtocol::RpcV2Cbor) => {
            shape_conversion::convert_input_object(
                service,
                model.input_shape,
                parse_body_object(protocol, body)?,
            )
        }
        _ => http_binding::bind_parameters(service, model, head, route, &choice.labels, body),
    }
}

/// The body of a JSON or CBOR request; no body means no parameters.
fn parse_body_object(protocol: AwsProtocol, body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    match protocol {
        AwsProtocol::RpcV2Cbor if body.is_empty() => Ok(Map::new()),
        AwsProtocol::RpcV2Cbor => parse_cbor::parse_cbor_object(body),
        _ => parse_json::parse_json_object(body),
    }
}

fn get_operation_model(service: &ServiceModel, operation_index: usize) -> Result<&OperationModel, Refusal> {
    service.operations.get(operation_index).ok_or_else(|| {
        Refusal::new(RefusalReason::Internal, "the gateway's catalog does not hold this operation")
    })
}

/// Undoes `Content-Encoding: gzip`. The result is never larger than [`limits::MAX_BODY_BYTES`], so that a small body cannot
/// expand to fill the memory.
fn decompress_body<'a>(head: &RequestHead<'_>, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, Refusal> {
    if bytes.len() > limits::MAX_BODY_BYTES {
        return Err(body_too_large());
    }
    let mut gzip = false;
    for encoding in parse_content_encodings(head.headers)? {
        match encoding.as_str() {
            // The caller has taken the aws-chunked framing off.
            "identity" | "aws-chunked" => {}
            "gzip" if !gzip => gzip = true,
            _ => {
                return Err(malformed_request(
                    "the body has an unsupported content encoding; send it plain or gzip",
                ));
            }
        }
    }
    if !gzip {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut decoder = flate2::bufread::GzDecoder::new(bytes);
    // Only a guess. A hostile body must not raise it: memory grows with what is really unpacked.
    let mut unpacked = Vec::with_capacity(bytes.len().saturating_mul(4).min(1 << 20));
    // One byte over the limit, so that a body of exactly the limit can be told from a longer one.
    let mut capped = decoder.by_ref().take(limits::MAX_BODY_BYTES as u64 + 1);
    capped
        .read_to_end(&mut unpacked)
        .map_err(|error| malformed_request("the body is not valid gzip").with_detail(error))?;
    if unpacked.len() > limits::MAX_BODY_BYTES {
        return Err(body_too_large());
    }
    if !decoder.into_inner().is_empty() {
        // A second gzip member: some readers append it, others ignore it (RFC 1952 section 2.2).
        return Err(malformed_request("bytes follow the end of the gzip body"));
    }
    Ok(Cow::Owned(unpacked))
}

fn body_too_large() -> Refusal {
    Refusal::new(
        RefusalReason::TooLarge,
        format!("the body is larger than {} bytes when unpacked", limits::MAX_BODY_BYTES),
    )
}

#[cfg(test)]
mod tests;

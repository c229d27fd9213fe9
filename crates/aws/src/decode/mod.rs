//! Bytes of a request to exactly one AWS operation, or a refusal; never a guess.
//!
//! [`recognise`] looks at the head alone and says which operation it is and whether the body is needed; [`decode`] reads
//! the parameters by their shapes and lists what policy must allow. Both are pure functions: no clock, no network.

mod ambiguous_routes;
mod http_binding;
mod operation_routing;
mod overrides;
mod parse_cbor;
mod parse_form;
mod parse_json;
mod parse_xml;
mod permission_templates;
mod query_protocol;
mod request_text;
mod rest_routing;
mod shape_conversion;

pub use operation_routing::{BodyUse, Route, UNKNOWN_OPERATION_INDEX, route_among_services};
pub(crate) use parse_xml::parse_xml_document as xml_tree;

use durward_catalog::{AwsProtocol, Catalog, OperationModel, ServiceModel};
use durward_core::{FrontEndKind, Operation, Refusal, RefusalReason, limits, remove_json_pointers};
use operation_routing::RouteChoice;
use request_text::{malformed_request, parse_content_encodings};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::io::Read as _;
use std::sync::Arc;

/// Whether the demands of the service's requests depend on more than the catalog's templates.
pub fn has_service_override(service: &ServiceModel) -> bool {
    overrides::has_override(&service.id)
}

/// A request head as received.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    pub method: &'a http::Method,
    /// Raw, as sent, percent-encoded.
    pub path: &'a str,
    /// Raw, without the question mark.
    pub query: &'a str,
    pub headers: &'a http::HeaderMap,
    /// Bucket from a virtual-host name, already split off by the listener; or the ARN of an access point.
    pub bucket_host: Option<&'a str>,
}

/// What the verified signature and the connection say.
#[derive(Debug, Clone, Copy)]
pub struct RequestScope<'a> {
    /// Signing name from the verified credential scope.
    pub service: &'a str,
    pub region: &'a str,
    /// Account of the connection.
    pub account: &'a str,
}

/// A decoded request.
#[derive(Debug, Clone)]
pub struct DecodedRequest {
    pub operation: Operation,
    pub service: Arc<ServiceModel>,
    /// Position in `service.operations`, for the output shapes; [`NO_OPERATION`] when the operation is newer than the catalog.
    pub operation_index: usize,
    pub protocol: AwsProtocol,
}

impl DecodedRequest {
    /// The catalog's entry of the operation; `None` when it is newer than the catalog.
    pub fn operation_model(&self) -> Option<&OperationModel> {
        self.service.operations.get(self.operation_index)
    }
}

/// What a protocol's reader made of the parameters.
#[derive(Debug, Default)]
struct DecodedParameters {
    parameters: Map<String, Value>,
    sensitive: Vec<String>,
    uninspected: Vec<String>,
    /// The name of the operation, when no model knows it.
    unknown_operation: Option<String>,
}

impl DecodedParameters {
    /// An operation that no model knows: everything in it may be sensitive, and nothing of it was understood.
    fn for_unknown_operation(name: String, parameters: Map<String, Value>) -> Self {
        let all: Vec<String> = parameters.keys().map(|key| shape_conversion::json_pointer(key)).collect();
        Self { sensitive: all.clone(), uninspected: all, unknown_operation: Some(name), parameters }
    }
}

/// Which operation a head asks for, among the services that sign with the scope's name.
pub fn route_operation(
    catalog: &Catalog,
    scope: &RequestScope<'_>,
    head: &RequestHead<'_>,
) -> Result<Route, Refusal> {
    let services = catalog.services_signing_as(scope.service);
    route_among_services(&filter_by_host(catalog, &services, scope, head), scope, head)
}

/// Of services that share a signing name, the ones whose own AWS host is asked for (proxy mode); all where the host is the
/// gateway's. The host only chooses among what the signature allows, and what is chosen is also where it is sent.
fn filter_by_host<'a>(
    catalog: &Catalog,
    services: &'a [Arc<ServiceModel>],
    scope: &RequestScope<'_>,
    head: &RequestHead<'_>,
) -> Cow<'a, [Arc<ServiceModel>]> {
    let host = head.headers.get(http::header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    // S3 and its siblings are told apart by more than their hosts.
    if services.len() < 2 || host.is_empty() || services.iter().any(|service| service.id == "s3") {
        return Cow::Borrowed(services);
    }
    let own = |service: &&Arc<ServiceModel>| {
        catalog.resolve_endpoint(&service.id, scope.region).is_some_and(|endpoint| {
            let prefix = host.strip_suffix(endpoint.host.as_str());
            prefix.is_some_and(|prefix| prefix.is_empty() || prefix.ends_with(['.', '-']))
        })
    };
    let named: Vec<Arc<ServiceModel>> = services.iter().filter(own).cloned().collect();
    if named.is_empty() { Cow::Borrowed(services) } else { Cow::Owned(named) }
}

/// The operation with its parameters and demands. `body` is the whole body, with `aws-chunked` framing taken off, where
/// [`Recognised::needs_body`] asked for it.
pub fn decode_request(
    catalog: &Catalog,
    scope: &RequestScope<'_>,
    head: &RequestHead<'_>,
    route: &Route,
    body: Option<&[u8]>,
) -> Result<DecodedRequest, Refusal> {
    decode_in_partition(catalog.partition_of_region(scope.region), scope, head, route, body)
}

/// [`decode`] for callers that know the partition (`aws`, `aws-cn`) themselves.
pub fn decode_in_partition(
    partition: &str,
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
        (BodyUse::None, Some(bytes)) if !bytes.is_empty() => {
            return Err(malformed_request("this operation takes no body; send none"));
        }
        (BodyUse::None | BodyUse::Streamed, _) => Cow::Borrowed(&[][..]),
    };
    let protocol = route.protocol();
    let (service, operation_index, read) = match protocol {
        AwsProtocol::Query | AwsProtocol::Ec2 => query_protocol::decode_form_request(head, route, &body)?,
        _ => {
            if let Some(name) = route.unknown_operation() {
                let read = DecodedParameters::for_unknown_operation(
                    name.to_owned(),
                    parse_body_object(protocol, &body)?,
                );
                (Arc::clone(route.service()), UNKNOWN_OPERATION_INDEX, read)
            } else {
                decode_best_choice(head, route, &body)?
            }
        }
    };
    let (name, permissions, traits) = if let Some(name) = read.unknown_operation {
        (name, vec![overrides::unknown_permission(&service)], overrides::UNKNOWN_OPERATION_TRAITS)
    } else {
        let operation = get_operation_model(&service, operation_index)?;
        let known = remove_json_pointers(&read.parameters, &read.uninspected);
        let context = permission_templates::PermissionContext {
            partition,
            scope,
            service: &service,
            operation_model: operation,
            parameters: &known,
        };
        let permissions = overrides::required_permissions(&context)?;
        let traits = overrides::request_traits(&context, &permissions);
        (operation.name.clone(), permissions, traits)
    };
    let operation = Operation {
        front_end: FrontEndKind::Aws,
        service: service.iam_prefix.clone(),
        name,
        required_permissions: permissions,
        sensitive_pointers: read.sensitive,
        region: Some(scope.region.to_owned()),
        account: Some(scope.account.to_owned()),
        traits,
        uninspected_parts: read.uninspected,
        body_sha256: None,
        parameters: Value::Object(read.parameters),
    };
    Ok(DecodedRequest { operation, service, operation_index, protocol })
}

/// The one choice, or of several the first that knows every parameter, else the first that can be read. Where they need
/// different actions, exactly one must know every parameter and find all it requires.
fn decode_best_choice(
    head: &RequestHead<'_>,
    route: &Route,
    body: &[u8],
) -> Result<(Arc<ServiceModel>, usize, DecodedParameters), Refusal> {
    let ambiguous = route.choices();
    if let [only] = ambiguous.candidates.as_slice() {
        return Ok((
            Arc::clone(&only.service),
            only.operation_index,
            decode_choice(head, route, only, body)?,
        ));
    }
    let mut clean = Vec::new();
    let mut readable = None;
    let mut refusal = None;
    for choice in &ambiguous.candidates {
        match decode_choice(head, route, choice, body) {
            Ok(read) if fits_parameters(choice, &read, ambiguous.needs_parameters) => {
                clean.push((choice, read))
            }
            Ok(read) if readable.is_none() => readable = Some((choice, read)),
            Ok(_) => {}
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    if ambiguous.needs_parameters && clean.len() != 1 {
        return Err(ambiguous_routes::refuse_ambiguous_route(&ambiguous.candidates));
    }
    match clean.into_iter().next().or(readable) {
        Some((choice, read)) => Ok((Arc::clone(&choice.service), choice.operation_index, read)),
        None => Err(refusal.unwrap_or_else(|| {
            Refusal::new(RefusalReason::Internal, "the gateway route no operation in this request")
        })),
    }
}

/// Whether the operation knows every parameter; with `whole`, also whether it has all that it requires.
fn fits_parameters(choice: &RouteChoice, read: &DecodedParameters, whole: bool) -> bool {
    let input = choice.operation_model().and_then(|operation| operation.input_shape);
    let members = input.map_or(&[][..], |input| choice.service.structure_members(input));
    read.parameters.keys().all(|key| members.iter().any(|member| member.name == *key))
        && (!whole
            || members.iter().all(|member| !member.is_required || read.parameters.contains_key(&member.name)))
}

fn decode_choice(
    head: &RequestHead<'_>,
    route: &Route,
    choice: &RouteChoice,
    body: &[u8],
) -> Result<DecodedParameters, Refusal> {
    let service = &choice.service;
    let operation = get_operation_model(service, choice.operation_index)?;
    match route.protocol() {
        protocol @ (AwsProtocol::Json10 | AwsProtocol::Json11 | AwsProtocol::RpcV2Cbor) => {
            shape_conversion::convert_input_object(
                service,
                operation.input_shape,
                parse_body_object(protocol, body)?,
            )
        }
        _ => http_binding::bind_parameters(service, operation, head, route, &choice.labels, body),
    }
}

/// The body of a json or cbor request; no body is no parameters.
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

/// The body without `Content-Encoding: gzip`, never larger than [`limits::BODY`].
fn decompress_body<'a>(head: &RequestHead<'_>, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, Refusal> {
    if bytes.len() > limits::MAX_BODY_BYTES {
        return Err(body_too_large());
    }
    let mut gzip = false;
    for encoding in parse_content_encodings(head.headers)? {
        match encoding.as_str() {
            // The framing of aws-chunked is taken off before the body comes here.
            "identity" | "aws-chunked" => {}
            "gzip" if !gzip => gzip = true,
            _ => {
                return Err(malformed_request(
                    "the body has a content encoding that cannot be read; send it plain or gzip",
                ));
            }
        }
    }
    if !gzip {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut decoder = flate2::bufread::GzDecoder::new(bytes);
    let mut out = Vec::with_capacity(bytes.len().saturating_mul(4).min(1 << 20));
    let mut capped = decoder.by_ref().take(limits::MAX_BODY_BYTES as u64 + 1);
    capped
        .read_to_end(&mut out)
        .map_err(|error| malformed_request("the body is not valid gzip").with_detail(error))?;
    if out.len() > limits::MAX_BODY_BYTES {
        return Err(body_too_large());
    }
    if !decoder.into_inner().is_empty() {
        return Err(malformed_request("bytes follow the end of the gzip body"));
    }
    Ok(Cow::Owned(out))
}

fn body_too_large() -> Refusal {
    Refusal::new(
        RefusalReason::TooLarge,
        format!("the body is larger than {} bytes when unpacked", limits::MAX_BODY_BYTES),
    )
}

#[cfg(test)]
mod tests;

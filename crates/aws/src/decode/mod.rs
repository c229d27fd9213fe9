//! Bytes of a request to exactly one AWS operation, or a refusal; never a guess.
//!
//! [`recognise`] looks at the head alone and says which operation it is and whether the body is needed; [`decode`] reads
//! the parameters by their shapes and lists what policy must allow. Both are pure functions: no clock, no network.

mod bind;
mod forms;
mod parse_cbor;
mod parse_json;
mod parse_query;
mod parse_xml;
mod recognise;
mod resources;
mod rest;
mod shape;
mod special;
mod text;
mod ties;

pub(crate) use parse_xml::parse as xml_tree;
pub use recognise::{BodyUse, NO_OPERATION, Recognised, recognise_among};

use durward_catalog::{Catalog, Operation as Model, Protocol, Service};
use durward_core::{Door, Operation, Reason, Refusal, limits, without};
use recognise::Choice;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::io::Read as _;
use std::sync::Arc;
use text::{content_encodings, malformed};

/// Whether the demands of the service's requests depend on more than the catalog's templates.
pub fn reads_more_than_the_catalog(service: &Service) -> bool {
    special::treats(&service.id)
}

/// A request head as received.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
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
pub struct Scope<'a> {
    /// Signing name from the verified credential scope.
    pub service: &'a str,
    pub region: &'a str,
    /// Account of the connection.
    pub account: &'a str,
}

/// A decoded request.
#[derive(Debug, Clone)]
pub struct Decoded {
    pub operation: Operation,
    pub service: Arc<Service>,
    /// Position in `service.operations`, for the output shapes; [`NO_OPERATION`] when the operation is newer than the catalog.
    pub op_index: usize,
    pub protocol: Protocol,
}

impl Decoded {
    /// The catalog's entry of the operation; `None` when it is newer than the catalog.
    pub fn model(&self) -> Option<&Model> {
        self.service.operations.get(self.op_index)
    }
}

/// What a protocol's reader made of the parameters.
#[derive(Debug, Default)]
struct Read {
    parameters: Map<String, Value>,
    sensitive: Vec<String>,
    uninspected: Vec<String>,
    /// The name of the operation, when no model knows it.
    newer: Option<String>,
}

impl Read {
    /// An operation that no model knows: everything in it may be sensitive, and nothing of it was understood.
    fn unknown(name: String, parameters: Map<String, Value>) -> Self {
        let all: Vec<String> = parameters.keys().map(|key| shape::pointer(key)).collect();
        Self { sensitive: all.clone(), uninspected: all, newer: Some(name), parameters }
    }
}

/// Which operation a head asks for, among the services that sign with the scope's name.
pub fn recognise(catalog: &Catalog, scope: &Scope<'_>, head: &Head<'_>) -> Result<Recognised, Refusal> {
    let services = catalog.services_signing_as(scope.service);
    recognise_among(&by_host(catalog, &services, scope, head), scope, head)
}

/// Of services that share a signing name, the ones whose own AWS host is asked for (proxy mode); all where the host is the
/// gateway's. The host only chooses among what the signature allows, and what is chosen is also where it is sent.
fn by_host<'a>(
    catalog: &Catalog,
    services: &'a [Arc<Service>],
    scope: &Scope<'_>,
    head: &Head<'_>,
) -> Cow<'a, [Arc<Service>]> {
    let host = head.headers.get(http::header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    // S3 and its siblings are told apart by more than their hosts.
    if services.len() < 2 || host.is_empty() || services.iter().any(|service| service.id == "s3") {
        return Cow::Borrowed(services);
    }
    let own = |service: &&Arc<Service>| {
        catalog.endpoint(&service.id, scope.region).is_some_and(|endpoint| {
            let prefix = host.strip_suffix(endpoint.host.as_str());
            prefix.is_some_and(|prefix| prefix.is_empty() || prefix.ends_with(['.', '-']))
        })
    };
    let named: Vec<Arc<Service>> = services.iter().filter(own).cloned().collect();
    if named.is_empty() { Cow::Borrowed(services) } else { Cow::Owned(named) }
}

/// The operation with its parameters and demands. `body` is the whole body, with `aws-chunked` framing taken off, where
/// [`Recognised::needs_body`] asked for it.
pub fn decode(
    catalog: &Catalog,
    scope: &Scope<'_>,
    head: &Head<'_>,
    recognised: &Recognised,
    body: Option<&[u8]>,
) -> Result<Decoded, Refusal> {
    decode_in(catalog.partition(scope.region), scope, head, recognised, body)
}

/// [`decode`] for callers that know the partition (`aws`, `aws-cn`) themselves.
pub fn decode_in(
    partition: &str,
    scope: &Scope<'_>,
    head: &Head<'_>,
    recognised: &Recognised,
    body: Option<&[u8]>,
) -> Result<Decoded, Refusal> {
    let body = match (recognised.body_use(), body) {
        (BodyUse::Whole, None) => {
            return Err(Refusal::new(Reason::Internal, "the gateway did not read the body of this request"));
        }
        (BodyUse::Whole, Some(bytes)) => inflate(head, bytes)?,
        (BodyUse::None, Some(bytes)) if !bytes.is_empty() => {
            return Err(malformed("this operation takes no body; send none"));
        }
        (BodyUse::None | BodyUse::Streamed, _) => Cow::Borrowed(&[][..]),
    };
    let protocol = recognised.protocol();
    let (service, op_index, read) = match protocol {
        Protocol::Query | Protocol::Ec2 => forms::read(head, recognised, &body)?,
        _ => {
            if let Some(name) = recognised.newer() {
                let read = Read::unknown(name.to_owned(), object(protocol, &body)?);
                (Arc::clone(recognised.service()), NO_OPERATION, read)
            } else {
                choose(head, recognised, &body)?
            }
        }
    };
    let (name, demands, traits) = if let Some(name) = read.newer {
        (name, vec![special::unknown(&service)], special::UNKNOWN)
    } else {
        let op = operation_at(&service, op_index)?;
        let known = without(&read.parameters, &read.uninspected);
        let context = resources::Context { partition, scope, service: &service, op, parameters: &known };
        let demands = special::demands(&context)?;
        let traits = special::traits(&context, &demands);
        (op.name.clone(), demands, traits)
    };
    let operation = Operation {
        door: Door::Aws,
        service: service.iam_prefix.clone(),
        name,
        demands,
        sensitive: read.sensitive,
        region: Some(scope.region.to_owned()),
        account: Some(scope.account.to_owned()),
        traits,
        uninspected: read.uninspected,
        body_sha256: None,
        parameters: Value::Object(read.parameters),
    };
    Ok(Decoded { operation, service, op_index, protocol })
}

/// The one choice, or of several the first that knows every parameter, else the first that can be read. Where they need
/// different actions, exactly one must know every parameter and find all it requires.
fn choose(
    head: &Head<'_>,
    recognised: &Recognised,
    body: &[u8],
) -> Result<(Arc<Service>, usize, Read), Refusal> {
    let tied = recognised.choices();
    if let [only] = tied.list.as_slice() {
        return Ok((Arc::clone(&only.service), only.op_index, read_choice(head, recognised, only, body)?));
    }
    let mut clean = Vec::new();
    let mut readable = None;
    let mut refusal = None;
    for choice in &tied.list {
        match read_choice(head, recognised, choice, body) {
            Ok(read) if fits(choice, &read, tied.open) => clean.push((choice, read)),
            Ok(read) if readable.is_none() => readable = Some((choice, read)),
            Ok(_) => {}
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    if tied.open && clean.len() != 1 {
        return Err(ties::several(&tied.list));
    }
    match clean.into_iter().next().or(readable) {
        Some((choice, read)) => Ok((Arc::clone(&choice.service), choice.op_index, read)),
        None => Err(refusal.unwrap_or_else(|| {
            Refusal::new(Reason::Internal, "the gateway recognised no operation in this request")
        })),
    }
}

/// Whether the operation knows every parameter; with `whole`, also whether it has all that it requires.
fn fits(choice: &Choice, read: &Read, whole: bool) -> bool {
    let input = choice.model().and_then(|op| op.input);
    let members = input.map_or(&[][..], |input| choice.service.members(input));
    read.parameters.keys().all(|key| members.iter().any(|member| member.name == *key))
        && (!whole
            || members.iter().all(|member| !member.required || read.parameters.contains_key(&member.name)))
}

fn read_choice(
    head: &Head<'_>,
    recognised: &Recognised,
    choice: &Choice,
    body: &[u8],
) -> Result<Read, Refusal> {
    let service = &choice.service;
    let op = operation_at(service, choice.op_index)?;
    match recognised.protocol() {
        protocol @ (Protocol::Json10 | Protocol::Json11 | Protocol::RpcV2Cbor) => {
            shape::read_object(service, op.input, object(protocol, body)?)
        }
        _ => bind::read(service, op, head, recognised, &choice.labels, body),
    }
}

/// The body of a json or cbor request; no body is no parameters.
fn object(protocol: Protocol, body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    match protocol {
        Protocol::RpcV2Cbor if body.is_empty() => Ok(Map::new()),
        Protocol::RpcV2Cbor => parse_cbor::parse_object(body),
        _ => parse_json::parse_object(body),
    }
}

fn operation_at(service: &Service, op_index: usize) -> Result<&Model, Refusal> {
    service
        .operations
        .get(op_index)
        .ok_or_else(|| Refusal::new(Reason::Internal, "the gateway's catalog does not hold this operation"))
}

/// The body without `Content-Encoding: gzip`, never larger than [`limits::BODY`].
fn inflate<'a>(head: &Head<'_>, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, Refusal> {
    if bytes.len() > limits::BODY {
        return Err(too_large());
    }
    let mut gzip = false;
    for encoding in content_encodings(head.headers)? {
        match encoding.as_str() {
            // The framing of aws-chunked is taken off before the body comes here.
            "identity" | "aws-chunked" => {}
            "gzip" if !gzip => gzip = true,
            _ => {
                return Err(malformed(
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
    let mut capped = decoder.by_ref().take(limits::BODY as u64 + 1);
    capped.read_to_end(&mut out).map_err(|error| malformed("the body is not valid gzip").detail(error))?;
    if out.len() > limits::BODY {
        return Err(too_large());
    }
    if !decoder.into_inner().is_empty() {
        return Err(malformed("bytes follow the end of the gzip body"));
    }
    Ok(Cow::Owned(out))
}

fn too_large() -> Refusal {
    Refusal::new(Reason::TooLarge, format!("the body is larger than {} bytes when unpacked", limits::BODY))
}

#[cfg(test)]
mod tests;

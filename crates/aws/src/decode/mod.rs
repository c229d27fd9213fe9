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

pub use recognise::{BodyUse, Recognised, recognise_among};

use durward_catalog::{Catalog, Operation as Model, Protocol, Service};
use durward_core::{Door, Operation, Reason, Refusal, limits};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::io::Read as _;
use std::sync::Arc;
use text::{content_encodings, malformed};

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
    /// Position in `service.operations`, for the output shapes.
    pub op_index: usize,
    pub protocol: Protocol,
}

impl Decoded {
    /// The catalog's entry of the operation.
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
}

/// Which operation a head asks for, among the services that sign with the scope's name.
pub fn recognise(catalog: &Catalog, scope: &Scope<'_>, head: &Head<'_>) -> Result<Recognised, Refusal> {
    recognise_among(&catalog.services_signing_as(scope.service), scope, head)
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
    let (service, op_index, read) = match (protocol, recognised.op_index()) {
        (Protocol::Query | Protocol::Ec2, _) => forms::read(head, recognised, &body)?,
        (_, None) => {
            return Err(Refusal::new(
                Reason::Internal,
                "the gateway recognised no operation in this request",
            ));
        }
        (_, Some(op_index)) => {
            let service = Arc::clone(recognised.service());
            let op = operation_at(&service, op_index)?;
            let read = match protocol {
                Protocol::Json10 | Protocol::Json11 => {
                    let value = parse_json::parse_object(&body)?;
                    shape::read_object(&service, op.input, value)?
                }
                Protocol::RpcV2Cbor => {
                    let value = if body.is_empty() { Map::new() } else { parse_cbor::parse_object(&body)? };
                    shape::read_object(&service, op.input, value)?
                }
                _ => bind::read(&service, op, head, recognised, &body)?,
            };
            (service, op_index, read)
        }
    };
    let op = operation_at(&service, op_index)?;
    let context =
        resources::Context { partition, scope, service: &service, op, parameters: &read.parameters };
    let demands = special::demands(&context)?;
    let operation = Operation {
        door: Door::Aws,
        service: service.iam_prefix.clone(),
        name: op.name.clone(),
        demands,
        sensitive: read.sensitive,
        region: Some(scope.region.to_owned()),
        account: Some(scope.account.to_owned()),
        traits: op.traits,
        uninspected: read.uninspected,
        body_sha256: None,
        parameters: Value::Object(read.parameters),
    };
    Ok(Decoded { operation, service, op_index, protocol })
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

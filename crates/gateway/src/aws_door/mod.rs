//! The AWS door: the line's steps spelt for unmodified SDKs and the CLI.

mod identify;
mod keys;
mod nested_url;
mod queue_url;
mod signin;
pub use signin::{CONTAINER_PATH, HEALTH_PATH};
mod upload;
use keys::KeyCache;
use upload::mismatch;
mod upstream;

use crate::answer::Answer;
use crate::body::{Body, full, read_whole};
use crate::line::{Call, Door, Exchange, Identity, Lent, Wire, pass};
use crate::listen::{Open, Serve};
use crate::replay::ReplayGuard;
use crate::rooms::Rooms;
use crate::transport::Origin;
use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use durward_aws::chunked::{Chain, Decoder, Piece};
use durward_aws::decode::{self, BodyUse, Scope};
use durward_aws::refuse::{self, Wire as ErrorWire};
use durward_aws::sigv4::inbound::{Claimed, Payload};
use durward_aws::sigv4::{SigningKey, Style, sha256_hex};
use durward_catalog::{Protocol, Service};
use durward_core::{ExchangeId, Operation, Reason, Refusal, limits};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use std::net::SocketAddr;
use std::sync::Arc;

pub struct AwsDoor {
    replay: ReplayGuard,
    /// Everything goes here instead of to AWS: an emulator.
    emulator: Option<Origin>,
    /// The gateway's own DNS names: `<bucket>.<name>` is a virtual-host-style bucket.
    names: Vec<String>,
    tls: bool,
    keys: KeyCache,
}

impl AwsDoor {
    pub fn new(emulator: Option<Origin>, names: Vec<String>, tls: bool) -> Self {
        Self { replay: ReplayGuard::new(), emulator, names, tls, keys: KeyCache::default() }
    }

    /// The bucket in front of one of the gateway's own names.
    fn bucket_of(&self, headers: &HeaderMap) -> Option<String> {
        let host = headers.get("host")?.to_str().ok()?;
        let host = host.rsplit_once(':').map_or(host, |(name, _port)| name);
        self.names.iter().find_map(|name| {
            let bucket = host.strip_suffix(name.as_str())?.strip_suffix('.')?;
            (!bucket.is_empty()).then(|| bucket.to_owned())
        })
    }
}

impl Serve for Open<AwsDoor> {
    /// Sign-in and health are answered here, everything else goes down the line.
    async fn serve(&self, source: SocketAddr, request: Request<Incoming>) -> Response<Body> {
        match signin::is_for_us(&request) {
            // Boxed, both of them: they are large, and every connection would carry room for them.
            Some(kind) => Box::pin(signin::answer(&self.rooms, source, request, kind)).await,
            None => Box::pin(pass(&self.door, &self.rooms, source, request)).await,
        }
    }
}

/// What an error must look like for the client of one request.
#[derive(Clone)]
pub struct Shape {
    wire: ErrorWire,
    head_request: bool,
}

impl Shape {
    /// The shape of the gateway's own STS answers.
    fn sts() -> Self {
        Self {
            wire: ErrorWire { protocol: Some(Protocol::Query), sign_in: true, ..ErrorWire::default() },
            head_request: false,
        }
    }

    /// A refusal in this shape; the message names the exchange, which a person can look up in the journal.
    fn refuse(&self, refusal: &Refusal, exchange: ExchangeId) -> Response<Body> {
        let id = exchange.to_string();
        let message = format!("durward: {} [exchange {id}]", refusal.message);
        let named = Refusal { message, ..refusal.clone() };
        refuse::refusal_response(&named, &self.wire, &id, self.head_request).map(full)
    }
}

pub(super) enum InboundBody {
    /// Not a byte read: the decision comes first.
    Unread(Incoming),
    Whole(Bytes),
}

/// A verified request, frozen.
pub struct AwsWire {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) bucket: Option<String>,
    pub(super) claimed: Claimed,
    pub(super) key: SigningKey,
    pub(super) body: InboundBody,
    pub(super) target: Option<Target>,
}

/// What the request was recognised as.
#[derive(Clone)]
pub(super) struct Target {
    pub service: Arc<Service>,
    pub operation: usize,
    pub protocol: Protocol,
}

impl Wire for AwsWire {
    fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Context::new(&SHA256);
        let mut part = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        for text in
            [self.method.as_str(), &self.path, &self.query, self.bucket.as_deref().unwrap_or_default()]
        {
            part(text.as_bytes());
        }
        for (name, value) in &self.headers {
            part(name.as_str().as_bytes());
            part(value.as_bytes());
        }
        match (&self.body, self.claimed.payload.as_text()) {
            (InboundBody::Whole(bytes), _) => part(bytes),
            (InboundBody::Unread(_), text) => part(text.unwrap_or_default().as_bytes()),
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hash.finish().as_ref());
        bytes
    }

    /// The parser makes room for as many headers as there may be, and each is a slice of the buffer that it read into.
    fn compact(&mut self) {
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let mut own = HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_never| value.clone());
            own.set_sensitive(value.is_sensitive());
            headers.append(name.clone(), own);
        }
        self.headers = headers;
    }

    fn held_bytes(&self) -> usize {
        let body = match &self.body {
            InboundBody::Whole(bytes) => bytes.len(),
            InboundBody::Unread(_) => 0,
        };
        let headers = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        body + self.path.len() + self.query.len() + headers.sum::<usize>()
    }
}

impl Door for AwsDoor {
    type Wire = AwsWire;
    type Shape = Shape;
    const KIND: durward_core::Door = durward_core::Door::Aws;

    fn shape(&self, head: &Parts) -> Shape {
        let authorization = head.headers.get("authorization").and_then(|value| value.to_str().ok());
        let signing_name = authorization.and_then(|text| text.split('/').nth(3));
        let query = head.uri.query().unwrap_or_default();
        Shape {
            wire: ErrorWire::guess(&head.method, head.uri.path(), query, &head.headers, signing_name),
            head_request: head.method == Method::HEAD,
        }
    }

    /// SDKs name a call in every attempt of it; most do not sign that header, so it counts within a session only.
    fn call(&self, head: &Parts) -> Call {
        let mut names = head.headers.get_all("amz-sdk-invocation-id").iter();
        match (names.next().and_then(|name| name.to_str().ok()), names.next()) {
            (Some(name), None) if (1..=128).contains(&name.len()) => Call::Named(name.to_owned()),
            _ => Call::Unnamed,
        }
    }

    async fn identify(
        &self,
        rooms: &Rooms,
        exchange: &Exchange,
        request: Request<Incoming>,
    ) -> Result<(Identity, AwsWire), Refusal> {
        identify::identify(self, rooms, exchange, request).await
    }

    async fn decode(
        &self,
        rooms: &Rooms,
        identity: &Identity,
        mut wire: AwsWire,
        shape: &mut Shape,
    ) -> Result<(Operation, AwsWire), Refusal> {
        let connection = rooms.connection(&identity.connection)?;
        let account = connection.role_arn.split(':').nth(4).unwrap_or_default().to_owned();
        let (service, region) = (wire.claimed.service.clone(), wire.claimed.region.clone());
        let scope = Scope { service: &service, region: &region, account: &account };
        let recognised = decode::recognise(rooms.catalog, &scope, &wire.head())?;
        shape.wire = ErrorWire::known(recognised.service(), recognised.protocol());
        if recognised.body_use() != BodyUse::Streamed {
            wire.read_body().await?;
        }
        let whole = match &wire.body {
            InboundBody::Whole(bytes) => Some(bytes.clone()),
            InboundBody::Unread(_) => None,
        };
        let decoded = decode::decode(rooms.catalog, &scope, &wire.head(), &recognised, whole.as_deref())?;
        let mut operation = decoded.operation;
        nested_url::refuse(&operation.parameters)?;
        operation.body_sha256 = match (&whole, &wire.claimed.payload) {
            (_, Payload::Sha256(hash)) => Some(hash.clone()),
            (Some(bytes), _) => Some(sha256_hex(bytes)),
            (None, _) => None,
        };
        wire.target = Some(Target {
            service: decoded.service,
            operation: decoded.op_index,
            protocol: decoded.protocol,
        });
        Ok((operation, wire))
    }

    async fn forward(&self, rooms: &Rooms, lent: Lent<AwsWire>) -> Result<Answer, Refusal> {
        upstream::forward(self, rooms, lent.open()?).await
    }

    fn refuse(&self, exchange: &Exchange, refusal: &Refusal, shape: &Shape) -> Response<Body> {
        shape.refuse(refusal, exchange.id)
    }

    fn lends(&self) -> bool {
        true
    }
}

impl AwsWire {
    fn head(&self) -> decode::Head<'_> {
        decode::Head {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            headers: &self.headers,
            bucket_host: self.bucket.as_deref(),
        }
    }

    /// Reads the body whole, within the limit, and holds it to what was signed.
    async fn read_body(&mut self) -> Result<(), Refusal> {
        let InboundBody::Unread(body) = &mut self.body else { return Ok(()) };
        let bytes = read_whole(body, limits::BODY, "request body").await?;
        let bytes = match &self.claimed.payload {
            Payload::Sha256(hash) if sha256_hex(&bytes) != *hash => {
                return Err(Refusal::new(Reason::BodyMismatch, "the body is not the one that was signed"));
            }
            payload if payload.is_chunked() => unchunk(&mut self.chunk_decoder()?, bytes)?,
            _ => bytes,
        };
        self.body = InboundBody::Whole(bytes);
        Ok(())
    }

    /// A decoder for the `aws-chunked` body that this request announces.
    pub(super) fn chunk_decoder(&self) -> Result<Decoder, Refusal> {
        let header = |name: &str| self.headers.get(name).and_then(|value| value.to_str().ok());
        let length =
            header("x-amz-decoded-content-length").and_then(|text| text.parse().ok()).ok_or_else(|| {
                Refusal::new(
                    Reason::Malformed,
                    "header `x-amz-decoded-content-length` is missing or is not a number",
                )
            })?;
        let trailers = header("x-amz-trailer")
            .map(|names| names.split(',').map(|name| name.trim().to_ascii_lowercase()).collect())
            .unwrap_or_default();
        let claimed = &self.claimed;
        let chain = match claimed.payload {
            Payload::ChunkedSigned | Payload::ChunkedSignedTrailer => Some(Chain::new(
                self.key.clone(),
                &claimed.timestamp,
                claimed.scope(),
                claimed.signature,
                claimed.payload == Payload::ChunkedSignedTrailer,
            )),
            _ => None,
        };
        Ok(Decoder::new(length, trailers, chain))
    }

    fn is_s3(&self) -> bool {
        Style::of(&self.claimed.service) == Style::S3
    }
}

fn unchunk(decoder: &mut Decoder, bytes: Bytes) -> Result<Bytes, Refusal> {
    let mut whole = Vec::new();
    for piece in decoder.push(bytes).map_err(mismatch)? {
        if let Piece::Data(data) = piece {
            whole.extend_from_slice(&data);
        }
    }
    if decoder.is_done() { Ok(whole.into()) } else { Err(mismatch("the body ends before its final chunk")) }
}

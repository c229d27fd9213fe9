//! The AWS door: the line's steps spelt for unmodified SDKs and the CLI.

mod authenticate;
mod nested_presigned_url;
mod queue_url;
mod sign_in;
mod signing_key_cache;
pub use sign_in::{CONTAINER_CREDENTIALS_PATH, HEALTH_PATH};
mod upload_body;
use signing_key_cache::SigningKeyCache;
use upload_body::body_mismatch;
mod forward;

use crate::body::{BoxBody, full_body, read_limited_body};
use crate::gateway_services::GatewayServices;
use crate::listener::{FrontEndService, HttpService};
use crate::pipeline::{
    Credentialed, Exchange, FrontEnd, FrontEndRequest, Identity, RetryKey, handle_request,
};
use crate::replay_guard::ReplayGuard;
use crate::upstream_client::UpstreamOrigin;
use crate::upstream_response::UpstreamResponse;
use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use durward_aws::chunked::{ChunkEvent, ChunkedDecoder, SignatureChain};
use durward_aws::decode::{self, BodyUse, RequestScope};
use durward_aws::error_response::{self, ErrorEncoding as ErrorWire};
use durward_aws::sigv4::inbound::{ClaimedSignature, PayloadMode};
use durward_aws::sigv4::{PathCanonicalization, SigningKey, sha256_hex};
use durward_catalog::{AwsProtocol, ServiceModel};
use durward_core::{ExchangeId, Operation, Refusal, RefusalReason, limits};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use std::net::SocketAddr;
use std::sync::Arc;

pub struct AwsFrontEnd {
    replay_guard: ReplayGuard,
    /// Everything goes here instead of to AWS: an emulator.
    emulator: Option<UpstreamOrigin>,
    /// The gateway's own DNS names: `<bucket>.<name>` is a virtual-host-style bucket.
    gateway_dns_names: Vec<String>,
    uses_tls: bool,
    signing_keys: SigningKeyCache,
}

impl AwsFrontEnd {
    pub fn new(emulator: Option<UpstreamOrigin>, names: Vec<String>, tls: bool) -> Self {
        Self {
            replay_guard: ReplayGuard::new(),
            emulator,
            gateway_dns_names: names,
            uses_tls: tls,
            signing_keys: SigningKeyCache::default(),
        }
    }

    /// The bucket in front of one of the gateway's own names.
    fn virtual_host_bucket(&self, headers: &HeaderMap) -> Option<String> {
        let host = headers.get("host")?.to_str().ok()?;
        let host = host.rsplit_once(':').map_or(host, |(name, _port)| name);
        self.gateway_dns_names.iter().find_map(|name| {
            let bucket = host.strip_suffix(name.as_str())?.strip_suffix('.')?;
            (!bucket.is_empty()).then(|| bucket.to_owned())
        })
    }
}

impl HttpService for FrontEndService<AwsFrontEnd> {
    /// Sign-in and health are answered here, everything else goes down the line.
    async fn serve_request(&self, source: SocketAddr, request: Request<Incoming>) -> Response<BoxBody> {
        match sign_in::match_gateway_endpoint(&request) {
            // Boxed, both of them: they are large, and every connection would carry room for them.
            Some(kind) => Box::pin(sign_in::serve_endpoint(&self.services, source, request, kind)).await,
            None => Box::pin(handle_request(&self.front_end, &self.services, source, request)).await,
        }
    }
}

/// What an error must look like for the client of one request.
#[derive(Clone)]
pub struct AwsRefusalContext {
    error_encoding: ErrorWire,
    is_head_request: bool,
}

impl AwsRefusalContext {
    /// The shape of the gateway's own STS answers.
    fn for_sts() -> Self {
        Self {
            error_encoding: ErrorWire {
                protocol: Some(AwsProtocol::Query),
                is_sts_sign_in: true,
                ..ErrorWire::default()
            },
            is_head_request: false,
        }
    }

    /// A refusal in this shape; the message names the exchange, which a person can look up in the journal.
    fn refusal_response(&self, refusal: &Refusal, exchange: ExchangeId) -> Response<BoxBody> {
        let id = exchange.to_string();
        let message = format!("durward: {} [exchange {id}]", refusal.message);
        let named = Refusal { message, ..refusal.clone() };
        error_response::build_error_response(&named, &self.error_encoding, &id, self.is_head_request)
            .map(full_body)
    }
}

pub(super) enum AwsRequestBody {
    /// Not a byte read: the decision comes first.
    Unread(Incoming),
    Buffered(Bytes),
}

/// A verified request, frozen.
pub struct InboundAwsRequest {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) bucket: Option<String>,
    pub(super) claimed_signature: ClaimedSignature,
    pub(super) signing_key: SigningKey,
    pub(super) body: AwsRequestBody,
    pub(super) operation_target: Option<OperationTarget>,
}

/// What the request was recognised as.
#[derive(Clone)]
pub(super) struct OperationTarget {
    pub service: Arc<ServiceModel>,
    pub operation_index: usize,
    pub protocol: AwsProtocol,
}

impl FrontEndRequest for InboundAwsRequest {
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
        match (&self.body, self.claimed_signature.payload_mode.canonical_text()) {
            (AwsRequestBody::Buffered(bytes), _) => part(bytes),
            (AwsRequestBody::Unread(_), text) => part(text.unwrap_or_default().as_bytes()),
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
            AwsRequestBody::Buffered(bytes) => bytes.len(),
            AwsRequestBody::Unread(_) => 0,
        };
        let headers = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        body + self.path.len() + self.query.len() + headers.sum::<usize>()
    }
}

impl FrontEnd for AwsFrontEnd {
    type Request = InboundAwsRequest;
    type RefusalContext = AwsRefusalContext;
    const KIND: durward_core::FrontEndKind = durward_core::FrontEndKind::Aws;

    fn refusal_context(&self, head: &Parts) -> AwsRefusalContext {
        let authorization = head.headers.get("authorization").and_then(|value| value.to_str().ok());
        let signing_name = authorization.and_then(|text| text.split('/').nth(3));
        let query = head.uri.query().unwrap_or_default();
        AwsRefusalContext {
            error_encoding: ErrorWire::guess_from_head(
                &head.method,
                head.uri.path(),
                query,
                &head.headers,
                signing_name,
            ),
            is_head_request: head.method == Method::HEAD,
        }
    }

    /// SDKs name a call in every attempt of it; most do not sign that header, so it counts within a session only.
    fn retry_key(&self, head: &Parts) -> RetryKey {
        let mut names = head.headers.get_all("amz-sdk-invocation-id").iter();
        match (names.next().and_then(|name| name.to_str().ok()), names.next()) {
            (Some(name), None) if (1..=128).contains(&name.len()) => RetryKey::Key(name.to_owned()),
            _ => RetryKey::Unknown,
        }
    }

    async fn authenticate(
        &self,
        rooms: &GatewayServices,
        exchange: &Exchange,
        request: Request<Incoming>,
    ) -> Result<(Identity, InboundAwsRequest), Refusal> {
        authenticate::authenticate_request(self, rooms, exchange, request).await
    }

    async fn decode(
        &self,
        rooms: &GatewayServices,
        identity: &Identity,
        mut wire: InboundAwsRequest,
        shape: &mut AwsRefusalContext,
    ) -> Result<(Operation, InboundAwsRequest), Refusal> {
        let connection = rooms.find_connection(&identity.connection)?;
        let account = connection.role_arn.split(':').nth(4).unwrap_or_default().to_owned();
        let (service, region) =
            (wire.claimed_signature.service.clone(), wire.claimed_signature.region.clone());
        let scope = RequestScope { service: &service, region: &region, account: &account };
        let recognised = decode::route_operation(rooms.catalog, &scope, &wire.request_head())?;
        shape.error_encoding = ErrorWire::for_service(recognised.service(), recognised.protocol());
        if recognised.body_use() != BodyUse::Streamed {
            wire.read_body().await?;
        }
        let whole = match &wire.body {
            AwsRequestBody::Buffered(bytes) => Some(bytes.clone()),
            AwsRequestBody::Unread(_) => None,
        };
        let decoded = decode::decode_request(
            rooms.catalog,
            &scope,
            &wire.request_head(),
            &recognised,
            whole.as_deref(),
        )?;
        let mut operation = decoded.operation;
        nested_presigned_url::refuse_presigned_url(&operation.parameters)?;
        operation.body_sha256 = match (&whole, &wire.claimed_signature.payload_mode) {
            (_, PayloadMode::Sha256(hash)) => Some(hash.clone()),
            (Some(bytes), _) => Some(sha256_hex(bytes)),
            (None, _) => None,
        };
        wire.operation_target = Some(OperationTarget {
            service: decoded.service,
            operation_index: decoded.operation_index,
            protocol: decoded.protocol,
        });
        Ok((operation, wire))
    }

    async fn forward(
        &self,
        rooms: &GatewayServices,
        lent: Credentialed<InboundAwsRequest>,
    ) -> Result<UpstreamResponse, Refusal> {
        forward::forward_request(self, rooms, lent.into_forwardable()?).await
    }

    fn refusal_response(
        &self,
        exchange: &Exchange,
        refusal: &Refusal,
        shape: &AwsRefusalContext,
    ) -> Response<BoxBody> {
        shape.refusal_response(refusal, exchange.id)
    }

    fn needs_aws_credential(&self) -> bool {
        true
    }
}

impl InboundAwsRequest {
    fn request_head(&self) -> decode::RequestHead<'_> {
        decode::RequestHead {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            headers: &self.headers,
            bucket_host: self.bucket.as_deref(),
        }
    }

    /// Reads the body whole, within the limit, and holds it to what was signed.
    async fn read_body(&mut self) -> Result<(), Refusal> {
        let AwsRequestBody::Unread(body) = &mut self.body else { return Ok(()) };
        let bytes = read_limited_body(body, limits::MAX_BODY_BYTES, "request body").await?;
        let bytes = match &self.claimed_signature.payload_mode {
            PayloadMode::Sha256(hash) if sha256_hex(&bytes) != *hash => {
                return Err(Refusal::new(
                    RefusalReason::BodyMismatch,
                    "the body is not the one that was signed",
                ));
            }
            payload if payload.is_chunked() => decode_chunked_body(&mut self.chunk_decoder()?, bytes)?,
            _ => bytes,
        };
        self.body = AwsRequestBody::Buffered(bytes);
        Ok(())
    }

    /// A decoder for the `aws-chunked` body that this request announces.
    pub(super) fn chunk_decoder(&self) -> Result<ChunkedDecoder, Refusal> {
        let header = |name: &str| self.headers.get(name).and_then(|value| value.to_str().ok());
        let length =
            header("x-amz-decoded-content-length").and_then(|text| text.parse().ok()).ok_or_else(|| {
                Refusal::new(
                    RefusalReason::Malformed,
                    "header `x-amz-decoded-content-length` is missing or is not a number",
                )
            })?;
        let trailers = header("x-amz-trailer")
            .map(|names| names.split(',').map(|name| name.trim().to_ascii_lowercase()).collect())
            .unwrap_or_default();
        let claimed = &self.claimed_signature;
        let chain = match claimed.payload_mode {
            PayloadMode::ChunkedSigned | PayloadMode::ChunkedSignedTrailer => Some(SignatureChain::new(
                self.signing_key.clone(),
                &claimed.timestamp,
                claimed.credential_scope(),
                claimed.signature,
                claimed.payload_mode == PayloadMode::ChunkedSignedTrailer,
            )),
            _ => None,
        };
        Ok(ChunkedDecoder::new(length, trailers, chain))
    }

    fn is_s3(&self) -> bool {
        PathCanonicalization::for_service(&self.claimed_signature.service) == PathCanonicalization::S3
    }
}

fn decode_chunked_body(decoder: &mut ChunkedDecoder, bytes: Bytes) -> Result<Bytes, Refusal> {
    let mut whole = Vec::new();
    for piece in decoder.push(bytes).map_err(body_mismatch)? {
        if let ChunkEvent::Data(data) = piece {
            whole.extend_from_slice(&data);
        }
    }
    if decoder.is_done() {
        Ok(whole.into())
    } else {
        Err(body_mismatch("the body ends before its final chunk"))
    }
}

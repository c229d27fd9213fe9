//! A request of an AWS client, as its signature was verified: frozen but for a body that is still unread.

use super::error_context::AwsRefusalContext;
use crate::body::read_request_body;
use crate::front_end::FrontEndRequest;
use crate::memory_budget::MemoryReservation;
use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use durward_aws::chunked::{ChunkEvent, ChunkedDecoder, SignatureChain};
use durward_aws::decode;
use durward_aws::sigv4::inbound::{ClaimedSignature, PayloadMode};
use durward_aws::sigv4::{PathCanonicalization, SigningKey, sha256_hex};
use durward_catalog::{AwsProtocol, OperationModel, ServiceModel};
use durward_core::{Refusal, RefusalReason};
use http::{HeaderMap, HeaderValue, Method};
use hyper::body::Incoming;
use std::sync::Arc;

pub(super) enum AwsRequestBody {
    /// Not a byte read: the decision comes first.
    Unread(Incoming),
    Buffered(Bytes),
}

/// A verified request, frozen.
pub struct AwsRequest {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) bucket: Option<String>,
    pub(super) claimed_signature: ClaimedSignature,
    pub(super) signing_key: SigningKey,
    pub(super) body: AwsRequestBody,
    /// The memory of the body and of what is decoded from it.
    pub(super) memory: MemoryReservation,
    pub(super) operation_target: Option<OperationTarget>,
    pub(super) refusal_context: AwsRefusalContext,
}

/// The operation that the request was recognised as.
#[derive(Clone)]
pub(super) struct OperationTarget {
    pub service: Arc<ServiceModel>,
    pub operation_index: usize,
    pub protocol: AwsProtocol,
}

impl OperationTarget {
    /// The operation's model; `None` if the catalog does not have the operation.
    pub fn operation(&self) -> Option<&OperationModel> {
        self.service.operations.get(self.operation_index)
    }
}

impl FrontEndRequest for AwsRequest {
    type RefusalContext = AwsRefusalContext;

    fn refusal_context(&self) -> AwsRefusalContext {
        self.refusal_context.clone()
    }

    fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Context::new(&SHA256);
        let mut part = |bytes: &[u8]| {
            // Each part is preceded by its length, so that no two lists of parts hash alike.
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
            // The bytes of an unread body are bound by the signed hash or by the chunk signatures, where the mode has them.
            (AwsRequestBody::Unread(_), text) => part(text.unwrap_or_default().as_bytes()),
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hash.finish().as_ref());
        bytes
    }

    /// The parser reserves memory for as many headers as there may be, and each is a slice of the buffer that it read into.
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

impl AwsRequest {
    pub(super) fn request_head(&self) -> decode::RequestHead<'_> {
        decode::RequestHead {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            headers: &self.headers,
            bucket_host: self.bucket.as_deref(),
        }
    }

    /// Reads the body whole, within the limit, and holds it to what was signed.
    pub(super) async fn read_body(&mut self) -> Result<(), Refusal> {
        let AwsRequestBody::Unread(body) = &mut self.body else { return Ok(()) };
        let bytes = read_request_body(body, &mut self.memory).await?;
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

    pub(super) fn is_s3(&self) -> bool {
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

pub(super) fn body_mismatch(reason: impl std::fmt::Display) -> Refusal {
    Refusal::new(RefusalReason::BodyMismatch, reason.to_string())
}

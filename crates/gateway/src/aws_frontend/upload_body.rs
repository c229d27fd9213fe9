//! Streamed uploads: checked against the caller's signature while they pass, in constant memory.
//!
//! The last chunk is held back until the whole body has been verified, so an upstream never gets a complete body that the caller
//! did not sign: on any mismatch the upstream request ends unfinished.

use super::aws_request::{AwsRequest, AwsRequestBody, body_mismatch};
use crate::body::{BoxBody, BoxError, PacedBody, full_body};
use aws_lc_rs::digest::{Context as Hash, SHA256};
use bytes::Bytes;
use durward_aws::chunked::{ChunkEvent, ChunkedDecoder};
use durward_aws::sigv4::inbound::PayloadMode;
use durward_aws::sigv4::{UNSIGNED_PAYLOAD, sha256_hex};
use durward_core::{Refusal, encode_hex};
use http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

enum UploadCheck {
    /// Signed as `UNSIGNED-PAYLOAD`: no signature covers the body.
    Unchecked,
    /// The whole body must have this hex SHA-256.
    Sha256 { hasher: Hash, declared_sha256: String },
    /// `aws-chunked` with unsigned chunks, passed on byte for byte.
    ChunkFraming(ChunkedDecoder),
    /// `aws-chunked` with signed chunks. The signatures are removed, since they were made with the gateway credential; the data
    /// is framed again if trailers follow (S3 API reference, "Signature calculations for the authorization header: transferring
    /// payload in multiple chunks").
    StripSignatures { decoder: ChunkedDecoder, keeps_framing: bool, has_open_chunk: bool },
}

struct VerifiedUpload {
    body: PacedBody<Incoming>,
    check: UploadCheck,
    ready_chunks: VecDeque<Bytes>,
    is_ended: bool,
}

/// The body to send and its payload hash in the outbound canonical request. `headers` are adjusted to the body.
pub(super) fn build_upload_body(
    request: AwsRequest,
    headers: &mut HeaderMap,
) -> Result<(BoxBody, String), Refusal> {
    let payload_mode = match &request.body {
        AwsRequestBody::Buffered(bytes) => {
            let bytes = bytes.clone();
            if request.claimed_signature.payload_mode.is_chunked() {
                remove_chunked_headers(headers);
            }
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
            let hash = sha256_hex(&bytes);
            return Ok((full_body(bytes), hash));
        }
        AwsRequestBody::Unread(_) => request.claimed_signature.payload_mode.clone(),
    };
    let (check, payload_hash) = match payload_mode {
        PayloadMode::BodyHash | PayloadMode::Unsigned => {
            (UploadCheck::Unchecked, UNSIGNED_PAYLOAD.to_owned())
        }
        PayloadMode::Sha256(declared) => {
            // The hash that the caller signed is signed again, so that S3 holds the body to it as well.
            let check = UploadCheck::Sha256 { hasher: Hash::new(&SHA256), declared_sha256: declared.clone() };
            (check, declared)
        }
        mode @ PayloadMode::ChunkedUnsignedTrailer => (
            UploadCheck::ChunkFraming(request.chunk_decoder()?),
            mode.canonical_text().unwrap_or_default().to_owned(),
        ),
        PayloadMode::ChunkedSignedTrailer => {
            // Without the chunk signatures the body is shorter, so its length is left to the transfer coding.
            headers.remove(header::CONTENT_LENGTH);
            let check = UploadCheck::StripSignatures {
                decoder: request.chunk_decoder()?,
                keeps_framing: true,
                has_open_chunk: false,
            };
            (check, "STREAMING-UNSIGNED-PAYLOAD-TRAILER".to_owned())
        }
        PayloadMode::ChunkedSigned => {
            let check = UploadCheck::StripSignatures {
                decoder: request.chunk_decoder()?,
                keeps_framing: false,
                has_open_chunk: false,
            };
            // The length of the bytes without their chunk framing: S3 requires one for a body that is not `aws-chunked`.
            if let Some(length) = headers.get("x-amz-decoded-content-length").cloned() {
                headers.insert(header::CONTENT_LENGTH, length);
            }
            remove_chunked_headers(headers);
            (check, UNSIGNED_PAYLOAD.to_owned())
        }
    };
    match request.body {
        AwsRequestBody::Unread(body) => {
            let body = PacedBody::new(body);
            let upload = VerifiedUpload { body, check, ready_chunks: VecDeque::new(), is_ended: false };
            Ok((upload.boxed_unsync(), payload_hash))
        }
        AwsRequestBody::Buffered(bytes) => Ok((full_body(bytes), payload_hash)),
    }
}

/// Removes the headers of an `aws-chunked` body.
fn remove_chunked_headers(headers: &mut HeaderMap) {
    headers.remove("x-amz-decoded-content-length");
    headers.remove("x-amz-trailer");
    let codings: Option<String> =
        headers.get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok()).map(|text| {
            text.split(',')
                .map(str::trim)
                .filter(|coding| *coding != "aws-chunked")
                .collect::<Vec<_>>()
                .join(",")
        });
    match codings.as_deref().map(HeaderValue::from_str) {
        Some(Ok(value)) if !value.is_empty() => {
            headers.insert(header::CONTENT_ENCODING, value);
        }
        _ => {
            headers.remove(header::CONTENT_ENCODING);
        }
    }
}

impl VerifiedUpload {
    fn check_data(&mut self, data: Bytes) -> Result<(), Refusal> {
        match &mut self.check {
            UploadCheck::Unchecked => self.ready_chunks.push_back(data),
            UploadCheck::Sha256 { hasher, .. } => {
                hasher.update(&data);
                self.ready_chunks.push_back(data);
            }
            // The bytes go on as they came: nobody signed the chunks, so there is nothing to remove.
            UploadCheck::ChunkFraming(decoder) => {
                decoder.push(data.clone()).map_err(body_mismatch)?;
                self.ready_chunks.push_back(data);
            }
            UploadCheck::StripSignatures { decoder, keeps_framing, has_open_chunk } => {
                for event in decoder.push(data).map_err(body_mismatch)? {
                    match event {
                        ChunkEvent::Data(bytes) => self.ready_chunks.push_back(bytes),
                        ChunkEvent::Chunk(size) if *keeps_framing => {
                            let close = if std::mem::replace(has_open_chunk, true) { "\r\n" } else { "" };
                            self.ready_chunks.push_back(format!("{close}{size:x}\r\n").into());
                        }
                        ChunkEvent::Trailer(name, value) if *keeps_framing => {
                            self.ready_chunks.push_back(format!("{name}:{value}\r\n").into());
                        }
                        ChunkEvent::End if *keeps_framing => {
                            self.ready_chunks.push_back(Bytes::from_static(b"\r\n"));
                        }
                        ChunkEvent::Chunk(_) | ChunkEvent::Trailer(..) | ChunkEvent::End => {}
                    }
                }
            }
        }
        Ok(())
    }

    fn check_end(&mut self) -> Result<(), Refusal> {
        match &mut self.check {
            UploadCheck::Unchecked => Ok(()),
            UploadCheck::Sha256 { hasher, declared_sha256 } => {
                let hash = std::mem::replace(hasher, Hash::new(&SHA256)).finish();
                if encode_hex(hash.as_ref()) == *declared_sha256 {
                    Ok(())
                } else {
                    Err(body_mismatch("the body is not the signed one"))
                }
            }
            UploadCheck::ChunkFraming(decoder) | UploadCheck::StripSignatures { decoder, .. } => {
                if decoder.is_done() {
                    Ok(())
                } else {
                    Err(body_mismatch("the body ends before its final chunk"))
                }
            }
        }
    }
}

impl http_body::Body for VerifiedUpload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            // One chunk stays back until the end of the body has been checked.
            if this.ready_chunks.len() > usize::from(!this.is_ended) {
                return Poll::Ready(this.ready_chunks.pop_front().map(|data| Ok(Frame::data(data))));
            }
            if this.is_ended {
                return Poll::Ready(None);
            }
            let checked = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.check_data(data),
                    Err(_http_trailers) => {
                        Err(body_mismatch("HTTP trailers are not part of a signed request"))
                    }
                },
                Some(Err(refusal)) => Err(refusal),
                None => {
                    this.is_ended = true;
                    this.check_end()
                }
            };
            if let Err(refusal) = checked {
                // Without the chunk that was held back, the upstream has an incomplete body and does not act on it.
                this.ready_chunks.clear();
                this.is_ended = true;
                return Poll::Ready(Some(Err(refusal.into())));
            }
        }
    }
}

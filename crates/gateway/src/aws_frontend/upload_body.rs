//! A streamed upload on its way up: checked against what the caller signed while it passes, in constant memory.
//!
//! The last piece is held back until the whole body has proved right, so an upstream never sees a complete body that
//! the caller did not sign: on any mismatch the upstream request breaks off unfinished.

use super::aws_request::{AwsRequest, AwsRequestBody};
use crate::body::{BoxBody, BoxError, full_body};
use aws_lc_rs::digest::{Context as Hash, SHA256};
use bytes::Bytes;
use durward_aws::chunked::{ChunkEvent, ChunkedDecoder};
use durward_aws::sigv4::inbound::PayloadMode;
use durward_aws::sigv4::{UNSIGNED_PAYLOAD, sha256_hex};
use durward_core::{Refusal, RefusalReason, encode_hex};
use http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

enum UploadCheck {
    /// Signed as `UNSIGNED-PAYLOAD`: nothing to hold it to.
    Unchecked,
    /// The whole body has this hex SHA-256.
    Sha256 { hasher: Hash, declared_sha256: String },
    /// `aws-chunked`, passed on byte for byte.
    ChunkFraming(ChunkedDecoder),
    /// `aws-chunked` with signed chunks: passed on without their signatures, framed again where trailers follow.
    StripSignatures { decoder: ChunkedDecoder, keeps_framing: bool, has_open_chunk: bool },
}

struct VerifiedUpload {
    body: Incoming,
    check: UploadCheck,
    ready_chunks: VecDeque<Bytes>,
    is_ended: bool,
}

/// The body to send, and its text in our canonical request; `headers` are adjusted to it.
pub(super) fn build_upload_body(
    wire: AwsRequest,
    headers: &mut HeaderMap,
) -> Result<(BoxBody, String), Refusal> {
    let body = match &wire.body {
        AwsRequestBody::Buffered(bytes) => {
            let bytes = bytes.clone();
            if wire.claimed_signature.payload_mode.is_chunked() {
                remove_chunked_headers(headers);
            }
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
            let hash = sha256_hex(&bytes);
            return Ok((full_body(bytes), hash));
        }
        AwsRequestBody::Unread(_) => wire.claimed_signature.payload_mode.clone(),
    };
    let (check, text) = match body {
        PayloadMode::BodyHash | PayloadMode::Unsigned => {
            (UploadCheck::Unchecked, UNSIGNED_PAYLOAD.to_owned())
        }
        PayloadMode::Sha256(declared) => {
            let text = declared.clone();
            (UploadCheck::Sha256 { hasher: Hash::new(&SHA256), declared_sha256: declared }, text)
        }
        payload @ PayloadMode::ChunkedUnsignedTrailer => (
            UploadCheck::ChunkFraming(wire.chunk_decoder()?),
            payload.canonical_text().unwrap_or_default().to_owned(),
        ),
        PayloadMode::ChunkedSignedTrailer => {
            // Our framing is shorter than the caller's: the length is left to the transfer coding.
            headers.remove(header::CONTENT_LENGTH);
            let check = UploadCheck::StripSignatures {
                decoder: wire.chunk_decoder()?,
                keeps_framing: true,
                has_open_chunk: false,
            };
            (check, "STREAMING-UNSIGNED-PAYLOAD-TRAILER".to_owned())
        }
        PayloadMode::ChunkedSigned => {
            let check = UploadCheck::StripSignatures {
                decoder: wire.chunk_decoder()?,
                keeps_framing: false,
                has_open_chunk: false,
            };
            if let Some(length) = headers.get("x-amz-decoded-content-length").cloned() {
                headers.insert(header::CONTENT_LENGTH, length);
            }
            remove_chunked_headers(headers);
            (check, UNSIGNED_PAYLOAD.to_owned())
        }
    };
    match wire.body {
        AwsRequestBody::Unread(body) => {
            let upload = VerifiedUpload { body, check, ready_chunks: VecDeque::new(), is_ended: false };
            Ok((upload.boxed_unsync(), text))
        }
        AwsRequestBody::Buffered(bytes) => Ok((full_body(bytes), text)),
    }
}

/// Removes what says that the body is `aws-chunked`.
fn remove_chunked_headers(headers: &mut HeaderMap) {
    headers.remove("x-amz-decoded-content-length");
    headers.remove("x-amz-trailer");
    let rest: Option<String> =
        headers.get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok()).map(|text| {
            text.split(',')
                .map(str::trim)
                .filter(|coding| *coding != "aws-chunked")
                .collect::<Vec<_>>()
                .join(",")
        });
    match rest.as_deref().map(HeaderValue::from_str) {
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
            UploadCheck::Sha256 { hasher: hash, .. } => {
                hash.update(&data);
                self.ready_chunks.push_back(data);
            }
            UploadCheck::ChunkFraming(decoder) => {
                decoder.push(data.clone()).map_err(body_mismatch)?;
                self.ready_chunks.push_back(data);
            }
            UploadCheck::StripSignatures { decoder, keeps_framing: framed, has_open_chunk: open } => {
                for piece in decoder.push(data).map_err(body_mismatch)? {
                    match piece {
                        ChunkEvent::Data(bytes) => self.ready_chunks.push_back(bytes),
                        ChunkEvent::Chunk(size) if *framed => {
                            let close = if std::mem::replace(open, true) { "\r\n" } else { "" };
                            self.ready_chunks.push_back(format!("{close}{size:x}\r\n").into());
                        }
                        ChunkEvent::Trailer(name, value) if *framed => {
                            self.ready_chunks.push_back(format!("{name}:{value}\r\n").into());
                        }
                        ChunkEvent::End if *framed => {
                            self.ready_chunks.push_back(Bytes::from_static(b"\r\n"))
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
            UploadCheck::Sha256 { hasher: hash, declared_sha256: declared } => {
                let hash = std::mem::replace(hash, Hash::new(&SHA256)).finish();
                if encode_hex(hash.as_ref()) == *declared {
                    Ok(())
                } else {
                    Err(body_mismatch("the body is not the one that was signed"))
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

pub(super) fn body_mismatch(why: impl std::fmt::Display) -> Refusal {
    Refusal::new(RefusalReason::BodyMismatch, why.to_string())
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
                Some(Err(error)) => {
                    let refusal = Refusal::new(
                        RefusalReason::Malformed,
                        "the body broke off or is not framed as HTTP asks",
                    );
                    Err(refusal.with_detail(error))
                }
                None => {
                    this.is_ended = true;
                    this.check_end()
                }
            };
            if let Err(refusal) = checked {
                this.ready_chunks.clear();
                this.is_ended = true;
                return Poll::Ready(Some(Err(refusal.into())));
            }
        }
    }
}

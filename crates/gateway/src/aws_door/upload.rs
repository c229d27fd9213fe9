//! A streamed upload on its way up: checked against what the caller signed while it passes, in constant memory.
//!
//! The last piece is held back until the whole body has proved right, so an upstream never sees a complete body that
//! the caller did not sign: on any mismatch the upstream request breaks off unfinished.

use super::{AwsWire, InboundBody};
use crate::body::{Body, BoxError, full};
use aws_lc_rs::digest::{Context as Hash, SHA256};
use bytes::Bytes;
use durward_aws::chunked::{Decoder, Piece};
use durward_aws::sigv4::inbound::Payload;
use durward_aws::sigv4::{UNSIGNED_PAYLOAD, hex, sha256_hex};
use durward_core::{Reason, Refusal};
use http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

enum Check {
    /// Signed as `UNSIGNED-PAYLOAD`: nothing to hold it to.
    Nothing,
    /// The whole body has this hex SHA-256.
    Sha256 { hash: Hash, declared: String },
    /// `aws-chunked`, passed on byte for byte.
    Framing(Decoder),
    /// `aws-chunked` with signed chunks: passed on without their signatures, framed again where trailers follow.
    Unsign { decoder: Decoder, framed: bool, open: bool },
}

struct Upload {
    body: Incoming,
    check: Check,
    ready: VecDeque<Bytes>,
    ended: bool,
}

/// The body to send, and its text in our canonical request; `headers` are adjusted to it.
pub(super) fn outgoing(wire: AwsWire, headers: &mut HeaderMap) -> Result<(Body, String), Refusal> {
    let body = match &wire.body {
        InboundBody::Whole(bytes) => {
            let bytes = bytes.clone();
            if wire.claimed.payload.is_chunked() {
                drop_chunked(headers);
            }
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
            let hash = sha256_hex(&bytes);
            return Ok((full(bytes), hash));
        }
        InboundBody::Unread(_) => wire.claimed.payload.clone(),
    };
    let (check, text) = match body {
        Payload::BodyHash | Payload::Unsigned => (Check::Nothing, UNSIGNED_PAYLOAD.to_owned()),
        Payload::Sha256(declared) => {
            let text = declared.clone();
            (Check::Sha256 { hash: Hash::new(&SHA256), declared }, text)
        }
        payload @ Payload::ChunkedUnsignedTrailer => {
            (Check::Framing(wire.chunk_decoder()?), payload.as_text().unwrap_or_default().to_owned())
        }
        Payload::ChunkedSignedTrailer => {
            // Our framing is shorter than the caller's: the length is left to the transfer coding.
            headers.remove(header::CONTENT_LENGTH);
            let check = Check::Unsign { decoder: wire.chunk_decoder()?, framed: true, open: false };
            (check, "STREAMING-UNSIGNED-PAYLOAD-TRAILER".to_owned())
        }
        Payload::ChunkedSigned => {
            let check = Check::Unsign { decoder: wire.chunk_decoder()?, framed: false, open: false };
            if let Some(length) = headers.get("x-amz-decoded-content-length").cloned() {
                headers.insert(header::CONTENT_LENGTH, length);
            }
            drop_chunked(headers);
            (check, UNSIGNED_PAYLOAD.to_owned())
        }
    };
    match wire.body {
        InboundBody::Unread(body) => {
            let upload = Upload { body, check, ready: VecDeque::new(), ended: false };
            Ok((upload.boxed_unsync(), text))
        }
        InboundBody::Whole(bytes) => Ok((full(bytes), text)),
    }
}

/// Removes what says that the body is `aws-chunked`.
fn drop_chunked(headers: &mut HeaderMap) {
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

impl Upload {
    fn take(&mut self, data: Bytes) -> Result<(), Refusal> {
        match &mut self.check {
            Check::Nothing => self.ready.push_back(data),
            Check::Sha256 { hash, .. } => {
                hash.update(&data);
                self.ready.push_back(data);
            }
            Check::Framing(decoder) => {
                decoder.push(data.clone()).map_err(mismatch)?;
                self.ready.push_back(data);
            }
            Check::Unsign { decoder, framed, open } => {
                for piece in decoder.push(data).map_err(mismatch)? {
                    match piece {
                        Piece::Data(bytes) => self.ready.push_back(bytes),
                        Piece::Chunk(size) if *framed => {
                            let close = if std::mem::replace(open, true) { "\r\n" } else { "" };
                            self.ready.push_back(format!("{close}{size:x}\r\n").into());
                        }
                        Piece::Trailer(name, value) if *framed => {
                            self.ready.push_back(format!("{name}:{value}\r\n").into());
                        }
                        Piece::End if *framed => self.ready.push_back(Bytes::from_static(b"\r\n")),
                        Piece::Chunk(_) | Piece::Trailer(..) | Piece::End => {}
                    }
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Refusal> {
        match &mut self.check {
            Check::Nothing => Ok(()),
            Check::Sha256 { hash, declared } => {
                let hash = std::mem::replace(hash, Hash::new(&SHA256)).finish();
                if hex(hash.as_ref()) == *declared {
                    Ok(())
                } else {
                    Err(mismatch("the body is not the one that was signed"))
                }
            }
            Check::Framing(decoder) | Check::Unsign { decoder, .. } => {
                if decoder.is_done() {
                    Ok(())
                } else {
                    Err(mismatch("the body ends before its final chunk"))
                }
            }
        }
    }
}

pub(super) fn mismatch(why: impl std::fmt::Display) -> Refusal {
    Refusal::new(Reason::BodyMismatch, why.to_string())
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            if this.ready.len() > usize::from(!this.ended) {
                return Poll::Ready(this.ready.pop_front().map(|data| Ok(Frame::data(data))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            let checked = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.take(data),
                    Err(_http_trailers) => Err(mismatch("HTTP trailers are not part of a signed request")),
                },
                Some(Err(error)) => {
                    let refusal =
                        Refusal::new(Reason::Malformed, "the body broke off or is not framed as HTTP asks");
                    Err(refusal.detail(error))
                }
                None => {
                    this.ended = true;
                    this.finish()
                }
            };
            if let Err(refusal) = checked {
                this.ready.clear();
                this.ended = true;
                return Poll::Ready(Some(Err(refusal.into())));
            }
        }
    }
}

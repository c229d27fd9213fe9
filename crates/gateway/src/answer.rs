//! What an upstream answered, and the stream that does not end before its outcome is recorded.

use crate::body::{Body, BoxError};
use crate::events::Events;
use crate::line::Outcome;
use crate::rooms::Rooms;
use bytes::Bytes;
use durward_catalog::{Protocol, Service, ShapeId};
use durward_masking::{Content, Plan};
use http::response::Parts;
use http::{HeaderValue, header};
use http_body_util::BodyExt;
use hyper::body::Frame;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Where the models mark sensitive fields of an answer.
pub struct OwnedPlan {
    pub service: Arc<Service>,
    pub output: Option<ShapeId>,
    pub protocol: Protocol,
}

impl OwnedPlan {
    pub fn for_masking(&self) -> Plan<'_> {
        Plan::new(&self.service, self.output, self.protocol)
    }
}

pub enum AnswerBody {
    /// Read whole, to be masked.
    Whole { bytes: Bytes, content: Content },
    /// Passed on as it comes (object bodies, event streams).
    Stream(Body),
    /// Read, masked and passed on event by event.
    Events(Box<dyn Events>),
}

impl AnswerBody {
    pub fn empty() -> Self {
        Self::Whole { bytes: Bytes::new(), content: Content::Text }
    }
}

pub struct Answer {
    pub head: Parts,
    pub body: AnswerBody,
    /// For the head of any answer, and for a body that was read whole.
    pub plan: Option<OwnedPlan>,
    pub error_code: Option<String>,
    pub request_bytes: u64,
    pub upstream_request_id: Option<String>,
}

impl Answer {
    /// Puts a masked body in place: lengths and checksums that no longer hold are recomputed or dropped.
    pub fn replace_body(&mut self, changed: Bytes) {
        let stale: Vec<_> = self
            .head
            .headers
            .keys()
            .filter(|name| {
                let name = name.as_str();
                name.starts_with("x-amz-checksum-") || matches!(name, "x-amz-crc32" | "content-md5" | "etag")
            })
            .cloned()
            .collect();
        for name in stale {
            self.head.headers.remove(name);
        }
        self.head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(changed.len()));
        if let AnswerBody::Whole { bytes, .. } = &mut self.body {
            *bytes = changed;
        }
    }
}

type Recording = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

struct RecordedStream {
    body: Body,
    rooms: Arc<Rooms>,
    outcome: Option<Outcome>,
    bytes: u64,
    recording: Option<Recording>,
    /// The last piece of a body of known length, which would end the answer.
    last: Option<Frame<Bytes>>,
    ended: bool,
}

/// `body` passed on; its end is held back until the outcome is in the journal. A client that goes away is recorded too.
pub fn recorded_stream(body: Body, rooms: Arc<Rooms>, outcome: Outcome) -> Body {
    let stream = RecordedStream {
        body,
        rooms,
        outcome: Some(outcome),
        bytes: 0,
        recording: None,
        last: None,
        ended: false,
    };
    stream.boxed_unsync()
}

impl RecordedStream {
    fn recording(&mut self, failure: Option<String>) -> Option<Recording> {
        let record = self.outcome.take()?.record(self.bytes, None, failure);
        let rooms = self.rooms.clone();
        Some(Box::pin(
            async move { rooms.journal.record(record).await.map(|_position| ()).map_err(Into::into) },
        ))
    }
}

impl http_body::Body for RecordedStream {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        if this.recording.is_none() {
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    this.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                    if !this.body.is_end_stream() {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    this.last = Some(frame);
                    this.recording = this.recording(None);
                }
                Some(Err(error)) => {
                    // The outcome is recorded when this stream is dropped, which hyper does on an error.
                    return Poll::Ready(Some(Err(error)));
                }
                None => this.recording = this.recording(None),
            }
        }
        if let Some(recording) = &mut this.recording {
            let recorded = ready!(recording.as_mut().poll(context));
            this.recording = None;
            this.ended = true;
            if let Err(error) = recorded {
                return Poll::Ready(Some(Err(error)));
            }
        }
        Poll::Ready(this.last.take().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        let held = self.last.as_ref().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
        if held > 0 { hyper::body::SizeHint::with_exact(held) } else { self.body.size_hint() }
    }
}

impl Drop for RecordedStream {
    fn drop(&mut self) {
        if let Some(recording) = self.recording(Some("the answer was not read to its end".to_owned())) {
            tokio::spawn(async move {
                if let Err(error) = recording.await {
                    tracing::error!(%error, "the journal cannot record an outcome");
                }
            });
        }
    }
}

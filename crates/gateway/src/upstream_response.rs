//! What an upstream answered, and the stream that does not end before its outcome is recorded.

use crate::body::{BoxBody, BoxError};
use crate::event_stream::UpstreamEvents;
use crate::gateway_services::GatewayServices;
use crate::pipeline::PendingOutcome;
use bytes::Bytes;
use durward_catalog::{AwsProtocol, ServiceModel, ShapeId};
use durward_masking::{BodyFormat, MaskingPlan};
use http::response::Parts;
use http::{HeaderValue, header};
use http_body_util::BodyExt;
use hyper::body::Frame;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Where the models mark sensitive fields of an answer.
pub struct OwnedMaskingPlan {
    pub service: Arc<ServiceModel>,
    pub output_shape: Option<ShapeId>,
    pub protocol: AwsProtocol,
}

impl OwnedMaskingPlan {
    pub fn as_masking_plan(&self) -> MaskingPlan<'_> {
        MaskingPlan::new(&self.service, self.output_shape, self.protocol)
    }
}

pub enum UpstreamBody {
    /// Read whole, to be masked.
    Buffered { bytes: Bytes, content: BodyFormat },
    /// Passed on as it comes (object bodies, event streams).
    Stream(BoxBody),
    /// Read, masked and passed on event by event.
    Events(Box<dyn UpstreamEvents>),
}

impl UpstreamBody {
    pub fn empty() -> Self {
        Self::Buffered { bytes: Bytes::new(), content: BodyFormat::Text }
    }
}

pub struct UpstreamResponse {
    pub head: Parts,
    pub body: UpstreamBody,
    /// For the head of any answer, and for a body that was read whole.
    pub masking_plan: Option<OwnedMaskingPlan>,
    pub error_code: Option<String>,
    pub request_bytes: u64,
    pub upstream_request_id: Option<String>,
}

impl UpstreamResponse {
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
        if let UpstreamBody::Buffered { bytes, .. } = &mut self.body {
            *bytes = changed;
        }
    }
}

type OutcomeRecording = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

struct RecordedStream {
    body: BoxBody,
    services: Arc<GatewayServices>,
    outcome: Option<PendingOutcome>,
    bytes_sent: u64,
    outcome_recording: Option<OutcomeRecording>,
    /// The last piece of a body of known length, which would end the answer.
    final_frame: Option<Frame<Bytes>>,
    is_ended: bool,
}

/// `body` passed on; its end is held back until the outcome is in the journal. A client that goes away is recorded too.
pub fn record_outcome_at_end(body: BoxBody, rooms: Arc<GatewayServices>, outcome: PendingOutcome) -> BoxBody {
    let stream = RecordedStream {
        body,
        services: rooms,
        outcome: Some(outcome),
        bytes_sent: 0,
        outcome_recording: None,
        final_frame: None,
        is_ended: false,
    };
    stream.boxed_unsync()
}

impl RecordedStream {
    fn start_recording(&mut self, failure: Option<String>) -> Option<OutcomeRecording> {
        let record = self.outcome.take()?.into_record(self.bytes_sent, None, failure);
        let rooms = self.services.clone();
        Some(Box::pin(
            async move { rooms.journal.append(record).await.map(|_position| ()).map_err(Into::into) },
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
        if this.is_ended {
            return Poll::Ready(None);
        }
        if this.outcome_recording.is_none() {
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    this.bytes_sent += frame.data_ref().map_or(0, |data| data.len() as u64);
                    if !this.body.is_end_stream() {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    this.final_frame = Some(frame);
                    this.outcome_recording = this.start_recording(None);
                }
                Some(Err(error)) => {
                    // The outcome is recorded when this stream is dropped, which hyper does on an error.
                    return Poll::Ready(Some(Err(error)));
                }
                None => this.outcome_recording = this.start_recording(None),
            }
        }
        if let Some(recording) = &mut this.outcome_recording {
            let recorded = ready!(recording.as_mut().poll(context));
            this.outcome_recording = None;
            this.is_ended = true;
            if let Err(error) = recorded {
                return Poll::Ready(Some(Err(error)));
            }
        }
        Poll::Ready(this.final_frame.take().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.is_ended
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        let held = self.final_frame.as_ref().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
        if held > 0 { hyper::body::SizeHint::with_exact(held) } else { self.body.size_hint() }
    }
}

impl Drop for RecordedStream {
    fn drop(&mut self) {
        if let Some(recording) = self.start_recording(Some("the answer was not read to its end".to_owned())) {
            tokio::spawn(async move {
                if let Err(error) = recording.await {
                    tracing::error!(%error, "the journal cannot record an outcome");
                }
            });
        }
    }
}

//! A streamed response that does not end before its outcome is in the journal.

use crate::body::{BoxBody, BoxError};
use crate::outcome::{OutcomeRecording, PendingOutcome};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Frame;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

struct RecordedStream {
    body: BoxBody,
    /// Taken when the outcome is recorded. A stream that is dropped before drops it, which records that it broke off.
    pending_outcome: Option<PendingOutcome>,
    recording: Option<OutcomeRecording>,
    /// The last frame of a body of known length, which would end the response for the client.
    last_frame: Option<Frame<Bytes>>,
    has_ended: bool,
}

/// `body` passed on; its end is held back until the outcome is in the journal.
pub(crate) fn record_outcome_at_end(body: BoxBody, pending_outcome: PendingOutcome) -> BoxBody {
    let stream = RecordedStream {
        body,
        pending_outcome: Some(pending_outcome),
        recording: None,
        last_frame: None,
        has_ended: false,
    };
    stream.boxed_unsync()
}

impl RecordedStream {
    fn start_recording(&mut self) {
        if let Some(pending) = self.pending_outcome.take() {
            self.recording = Some(pending.finish(None, None));
        }
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
        if this.has_ended {
            return Poll::Ready(None);
        }
        if this.recording.is_none() {
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    if let Some(pending) = &mut this.pending_outcome {
                        pending.add_response_bytes(frame.data_ref().map_or(0, Bytes::len));
                    }
                    // With a known length, the client has the whole response at its last byte, without waiting for the end of
                    // the stream.
                    if !this.body.is_end_stream() {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    this.last_frame = Some(frame);
                    this.start_recording();
                }
                // The outcome is recorded when this stream is dropped, which hyper does on an error.
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => this.start_recording(),
            }
        }
        if let Some(recording) = &mut this.recording {
            let recorded = ready!(Pin::new(recording).poll(context));
            this.recording = None;
            this.has_ended = true;
            if let Err(error) = recorded {
                return Poll::Ready(Some(Err(error.into())));
            }
        }
        Poll::Ready(this.last_frame.take().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        // The body has handed its last frame over, so it would report a length of zero.
        let held = self.last_frame.as_ref().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
        if held > 0 { hyper::body::SizeHint::with_exact(held) } else { self.body.size_hint() }
    }
}

//! A response that comes event by event: each is masked by itself before it is passed on, and the last one, which is the response
//! proper, is passed on only when the outcome is in the journal. A session that is revoked gets no further event.

use crate::body::{BoxBody, BoxError};
use crate::exchange::{Exchange, Identity};
use crate::outcome::{OutcomeRecording, PendingOutcome, withheld_response};
use crate::response_masker::{MaskedCounts, ResponseMasker};
use crate::upstream_response::{OwnedMaskingPlan, UpstreamEvent, UpstreamEvents};
use aws_lc_rs::digest;
use bytes::Bytes;
use durward_core::{Refusal, encode_hex};
use durward_identity::Revocations;
use durward_mcp::sse;
use http_body_util::BodyExt;
use hyper::body::Frame;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// For whom events are masked.
pub(crate) struct EventStreamMasking {
    pub masker: Arc<ResponseMasker>,
    pub revocations: Revocations,
    pub exchange: Exchange,
    pub identity: Arc<Identity>,
    /// For each event.
    pub masking_plan: Option<OwnedMaskingPlan>,
}

/// Resolves when the caller's session is revoked.
type RevocationFuture = Pin<Box<dyn Future<Output = Refusal> + Send>>;

enum MaskedStreamState {
    Reading,
    /// The last frame waits for the journal.
    Recording {
        recording: OutcomeRecording,
        frame: Bytes,
    },
    Done,
}

struct MaskedEventStream {
    events: Box<dyn UpstreamEvents>,
    masking: EventStreamMasking,
    revocation: RevocationFuture,
    counts: MaskedCounts,
    /// Taken when the outcome is recorded. A stream that is dropped before drops it, which records that it broke off.
    pending_outcome: Option<PendingOutcome>,
    hash: digest::Context,
    state: MaskedStreamState,
}

/// The events of a response as a body, masked for their caller and recorded as `pending_outcome`.
pub(crate) fn mask_event_stream(
    events: Box<dyn UpstreamEvents>,
    masking: EventStreamMasking,
    pending_outcome: PendingOutcome,
) -> BoxBody {
    let revocation = wait_for_revocation(&masking);
    MaskedEventStream {
        events,
        masking,
        revocation,
        counts: MaskedCounts::default(),
        pending_outcome: Some(pending_outcome),
        hash: digest::Context::new(&digest::SHA256),
        state: MaskedStreamState::Reading,
    }
    .boxed_unsync()
}

fn wait_for_revocation(masking: &EventStreamMasking) -> RevocationFuture {
    let (revocations, identity) = (masking.revocations.clone(), masking.identity.clone());
    Box::pin(async move {
        revocations
            .wait_until_revoked_or_stale(identity.session, &identity.caller, identity.valid_since)
            .await
    })
}

impl MaskedEventStream {
    fn mask_event(&mut self, text: Bytes) -> Result<Bytes, Refusal> {
        let EventStreamMasking { masker, exchange, identity, masking_plan, .. } = &self.masking;
        let masked = masker.mask_event(exchange, identity, masking_plan.as_ref(), &text, &mut self.counts)?;
        Ok(sse::encode_event(masked.as_deref().unwrap_or(&text)))
    }

    fn count_frame(&mut self, frame: &Bytes) {
        if let Some(pending) = &mut self.pending_outcome {
            pending.add_response_bytes(frame.len());
        }
        self.hash.update(frame);
    }

    /// Ends the stream with `frame`, once the outcome is in the journal.
    fn finish_stream(&mut self, frame: Bytes, error_code: Option<String>, failure: Option<String>) {
        self.count_frame(&frame);
        let Some(mut pending) = self.pending_outcome.take() else {
            self.state = MaskedStreamState::Done;
            return;
        };
        let facts = pending.response_facts();
        facts.masked =
            std::mem::take(&mut self.counts).add_list(std::mem::take(&mut facts.masked)).into_list();
        facts.error_code = error_code;
        let sha256 = encode_hex(self.hash.clone().finish().as_ref());
        let recording = pending.finish(Some(sha256), failure);
        self.state = MaskedStreamState::Recording { recording, frame };
    }

    fn fail_stream(&mut self, refusal: &Refusal) {
        let frame = sse::encode_event(&self.events.refusal_event(refusal));
        self.finish_stream(frame, Some(refusal.reason.as_str().to_owned()), Some(refusal.to_string()));
    }
}

impl http_body::Body for MaskedEventStream {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                MaskedStreamState::Done => return Poll::Ready(None),
                MaskedStreamState::Recording { recording, frame } => {
                    let frame = match ready!(Pin::new(recording).poll(context)) {
                        Ok(()) => std::mem::take(frame),
                        Err(error) => {
                            sse::encode_event(&this.events.refusal_event(&withheld_response(&error)))
                        }
                    };
                    this.state = MaskedStreamState::Done;
                    return Poll::Ready(Some(Ok(Frame::data(frame))));
                }
                MaskedStreamState::Reading => {
                    // Before the next event: a session that is revoked must not get one that has already arrived.
                    if let Poll::Ready(refusal) = this.revocation.as_mut().poll(context) {
                        this.fail_stream(&refusal);
                        continue;
                    }
                    match ready!(this.events.poll_event(context)) {
                        UpstreamEvent::KeepAlive => {
                            let frame = Bytes::from_static(sse::KEEP_ALIVE_COMMENT);
                            this.count_frame(&frame);
                            return Poll::Ready(Some(Ok(Frame::data(frame))));
                        }
                        UpstreamEvent::Message(text) => match this.mask_event(text) {
                            Ok(frame) => {
                                this.count_frame(&frame);
                                return Poll::Ready(Some(Ok(Frame::data(frame))));
                            }
                            Err(refusal) => this.fail_stream(&refusal),
                        },
                        UpstreamEvent::Final { text, error_code } => match this.mask_event(text) {
                            Ok(frame) => this.finish_stream(frame, error_code, None),
                            Err(refusal) => this.fail_stream(&refusal),
                        },
                        UpstreamEvent::Failed(refusal) => this.fail_stream(&refusal),
                    }
                }
            }
        }
    }
}

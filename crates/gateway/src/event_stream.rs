//! An answer that comes event by event: each is masked by itself before it is passed on, and the last one, which is the
//! answer proper, is passed on only when the outcome is in the journal. A session that is revoked gets no further event.

use crate::body::{BoxBody, BoxError};
use crate::pipeline::PendingOutcome;
use crate::response_masker::{MaskedCounts, ResponseMasker};
use aws_lc_rs::digest;
use bytes::Bytes;
use durward_core::{Refusal, RefusalReason};
use durward_masking::BodyFormat;
use durward_mcp::sse;
use http_body_util::BodyExt;
use hyper::body::Frame;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// What an upstream's stream brings.
pub enum UpstreamEvent {
    /// A JSON text to be masked and passed on.
    Message(Bytes),
    /// The answer proper, a JSON text too. Nothing follows it.
    Final { text: Bytes, error_code: Option<String> },
    /// A sign of life.
    KeepAlive,
    /// Nothing more comes, for this reason.
    Failed(Refusal),
}

/// A stream of events as a door reads it. It is not polled again after its last event.
pub trait UpstreamEvents: Send {
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<UpstreamEvent>;
    /// What the caller gets in place of an answer that is withheld.
    fn refusal_event(&self, refusal: &Refusal) -> Bytes;
}

/// Resolves when the caller's session is revoked.
type RevocationFuture = Pin<Box<dyn Future<Output = Refusal> + Send>>;
type EventOutcomeRecording = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>;

enum MaskedStreamState {
    Reading,
    /// The last frame waits for the journal.
    Recording {
        outcome_recording: EventOutcomeRecording,
        final_frame: Bytes,
    },
    Done,
}

struct MaskedEventStream {
    events: Box<dyn UpstreamEvents>,
    masker: ResponseMasker,
    revocation: RevocationFuture,
    masked_counts: MaskedCounts,
    outcome: Option<PendingOutcome>,
    bytes_sent: u64,
    body_hash: digest::Context,
    state: MaskedStreamState,
}

/// The events of an answer as a body, masked for `viewer` and recorded as `outcome`.
pub(crate) fn mask_event_stream(
    events: Box<dyn UpstreamEvents>,
    viewer: ResponseMasker,
    outcome: PendingOutcome,
) -> BoxBody {
    let ending = wait_for_revocation(&viewer);
    MaskedEventStream {
        events,
        masker: viewer,
        revocation: ending,
        masked_counts: MaskedCounts::default(),
        outcome: Some(outcome),
        bytes_sent: 0,
        body_hash: digest::Context::new(&digest::SHA256),
        state: MaskedStreamState::Reading,
    }
    .boxed_unsync()
}

fn wait_for_revocation(viewer: &ResponseMasker) -> RevocationFuture {
    let (rooms, identity) = (viewer.services.clone(), viewer.identity.clone());
    Box::pin(async move {
        match identity {
            Some(one) => {
                rooms
                    .revocations
                    .wait_until_revoked_or_stale(one.session, &one.caller, one.session_started_at)
                    .await
            }
            None => std::future::pending().await,
        }
    })
}

impl MaskedEventStream {
    fn mask_event(&mut self, text: Bytes) -> Result<Bytes, Refusal> {
        let masked = self.masker.mask_without_plan(&text, BodyFormat::Json, &mut self.masked_counts)?;
        Ok(sse::encode_event(masked.as_deref().unwrap_or(&text)))
    }

    fn count_frame(&mut self, frame: &Bytes) {
        self.bytes_sent += frame.len() as u64;
        self.body_hash.update(frame);
    }

    /// Records how the exchange ended; the frame that ends it is counted with the others.
    fn start_recording(
        &mut self,
        frame: &Bytes,
        error_code: Option<String>,
        failure: Option<String>,
    ) -> Option<EventOutcomeRecording> {
        let mut outcome = self.outcome.take()?;
        self.count_frame(frame);
        outcome.complete_stream(std::mem::take(&mut self.masked_counts), error_code);
        let sha256 = durward_core::encode_hex(self.body_hash.clone().finish().as_ref());
        let record = outcome.into_record(self.bytes_sent, Some(sha256), failure);
        let rooms = self.masker.services.clone();
        Some(Box::pin(async move {
            rooms.journal.append(record).await.map(|_position| ()).map_err(|error| {
                Refusal::new(
                    RefusalReason::Internal,
                    "the journal cannot record the answer, so it is withheld",
                )
                .with_detail(error)
            })
        }))
    }

    fn finish_stream(&mut self, frame: Bytes, error_code: Option<String>, failure: Option<String>) {
        self.state = match self.start_recording(&frame, error_code, failure) {
            Some(recording) => {
                MaskedStreamState::Recording { outcome_recording: recording, final_frame: frame }
            }
            None => MaskedStreamState::Done,
        };
    }

    fn fail_stream(&mut self, refusal: &Refusal) {
        let frame = sse::encode_event(&self.events.refusal_event(refusal));
        self.finish_stream(frame, Some(format!("{:?}", refusal.reason)), Some(refusal.to_string()));
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
                MaskedStreamState::Recording { outcome_recording: recording, final_frame: frame } => {
                    let frame = match ready!(recording.as_mut().poll(context)) {
                        Ok(()) => std::mem::take(frame),
                        Err(refusal) => sse::encode_event(&this.events.refusal_event(&refusal)),
                    };
                    this.state = MaskedStreamState::Done;
                    return Poll::Ready(Some(Ok(Frame::data(frame))));
                }
                MaskedStreamState::Reading => {
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

impl Drop for MaskedEventStream {
    fn drop(&mut self) {
        let none = Bytes::new();
        let failure = "the caller went away before the answer ended".to_owned();
        // An outcome that was being recorded when the caller went is in the journal's queue already.
        let recording = match std::mem::replace(&mut self.state, MaskedStreamState::Done) {
            MaskedStreamState::Recording { outcome_recording: recording, .. } => Some(recording),
            MaskedStreamState::Reading => self.start_recording(&none, None, Some(failure)),
            MaskedStreamState::Done => None,
        };
        if let Some(recording) = recording {
            tokio::spawn(async move {
                if let Err(error) = recording.await {
                    tracing::error!(%error, "the journal cannot record an outcome");
                }
            });
        }
    }
}

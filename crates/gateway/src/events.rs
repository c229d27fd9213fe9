//! An answer that comes event by event: each is masked by itself before it is passed on, and the last one, which is the
//! answer proper, is passed on only when the outcome is in the journal. A session that is revoked gets no further event.

use crate::body::{Body, BoxError};
use crate::line::Outcome;
use crate::viewer::{Counts, Viewer};
use aws_lc_rs::digest;
use bytes::Bytes;
use durward_core::{Reason, Refusal};
use durward_masking::Content;
use durward_mcp::sse;
use http_body_util::BodyExt;
use hyper::body::Frame;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// What an upstream's stream brings.
pub enum Event {
    /// A JSON text to be masked and passed on.
    Part(Bytes),
    /// The answer proper, a JSON text too. Nothing follows it.
    Last { text: Bytes, error_code: Option<String> },
    /// A sign of life.
    Silence,
    /// Nothing more comes, for this reason.
    Broken(Refusal),
}

/// A stream of events as a door reads it. It is not polled again after its last event.
pub trait Events: Send {
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Event>;
    /// What the caller gets in place of an answer that is withheld.
    fn refuse(&self, refusal: &Refusal) -> Bytes;
}

/// Resolves when the caller's session is revoked.
type Ending = Pin<Box<dyn Future<Output = Refusal> + Send>>;
type Recording = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>;

enum State {
    Reading,
    /// The last frame waits for the journal.
    Recording {
        recording: Recording,
        frame: Bytes,
    },
    Done,
}

struct MaskedEvents {
    events: Box<dyn Events>,
    viewer: Viewer,
    ending: Ending,
    counts: Counts,
    outcome: Option<Outcome>,
    bytes: u64,
    hash: digest::Context,
    state: State,
}

/// The events of an answer as a body, masked for `viewer` and recorded as `outcome`.
pub(crate) fn masked_events(events: Box<dyn Events>, viewer: Viewer, outcome: Outcome) -> Body {
    let ending = ending(&viewer);
    MaskedEvents {
        events,
        viewer,
        ending,
        counts: Counts::default(),
        outcome: Some(outcome),
        bytes: 0,
        hash: digest::Context::new(&digest::SHA256),
        state: State::Reading,
    }
    .boxed_unsync()
}

fn ending(viewer: &Viewer) -> Ending {
    let (rooms, identity) = (viewer.rooms.clone(), viewer.identity.clone());
    Box::pin(async move {
        match identity {
            Some(one) => rooms.revocations.revoked_or_unknown(one.session, &one.caller, one.began).await,
            None => std::future::pending().await,
        }
    })
}

impl MaskedEvents {
    fn masked(&mut self, text: Bytes) -> Result<Bytes, Refusal> {
        let masked = self.viewer.mask(&text, Content::Json, &mut self.counts)?;
        Ok(sse::frame(masked.as_deref().unwrap_or(&text)))
    }

    fn passed(&mut self, frame: &Bytes) {
        self.bytes += frame.len() as u64;
        self.hash.update(frame);
    }

    /// Records how the exchange ended; the frame that ends it is counted with the others.
    fn record(
        &mut self,
        frame: &Bytes,
        error_code: Option<String>,
        failure: Option<String>,
    ) -> Option<Recording> {
        let mut outcome = self.outcome.take()?;
        self.passed(frame);
        outcome.ended(std::mem::take(&mut self.counts), error_code);
        let sha256 = durward_aws::sigv4::hex(self.hash.clone().finish().as_ref());
        let record = outcome.record(self.bytes, Some(sha256), failure);
        let rooms = self.viewer.rooms.clone();
        Some(Box::pin(async move {
            rooms.journal.record(record).await.map(|_position| ()).map_err(|error| {
                Refusal::new(Reason::Internal, "the journal cannot record the answer, so it is withheld")
                    .detail(error)
            })
        }))
    }

    fn end(&mut self, frame: Bytes, error_code: Option<String>, failure: Option<String>) {
        self.state = match self.record(&frame, error_code, failure) {
            Some(recording) => State::Recording { recording, frame },
            None => State::Done,
        };
    }

    fn break_off(&mut self, refusal: &Refusal) {
        let frame = sse::frame(&self.events.refuse(refusal));
        self.end(frame, Some(format!("{:?}", refusal.reason)), Some(refusal.to_string()));
    }
}

impl http_body::Body for MaskedEvents {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Done => return Poll::Ready(None),
                State::Recording { recording, frame } => {
                    let frame = match ready!(recording.as_mut().poll(context)) {
                        Ok(()) => std::mem::take(frame),
                        Err(refusal) => sse::frame(&this.events.refuse(&refusal)),
                    };
                    this.state = State::Done;
                    return Poll::Ready(Some(Ok(Frame::data(frame))));
                }
                State::Reading => {
                    if let Poll::Ready(refusal) = this.ending.as_mut().poll(context) {
                        this.break_off(&refusal);
                        continue;
                    }
                    match ready!(this.events.poll_event(context)) {
                        Event::Silence => {
                            let frame = Bytes::from_static(sse::SILENCE);
                            this.passed(&frame);
                            return Poll::Ready(Some(Ok(Frame::data(frame))));
                        }
                        Event::Part(text) => match this.masked(text) {
                            Ok(frame) => {
                                this.passed(&frame);
                                return Poll::Ready(Some(Ok(Frame::data(frame))));
                            }
                            Err(refusal) => this.break_off(&refusal),
                        },
                        Event::Last { text, error_code } => match this.masked(text) {
                            Ok(frame) => this.end(frame, error_code, None),
                            Err(refusal) => this.break_off(&refusal),
                        },
                        Event::Broken(refusal) => this.break_off(&refusal),
                    }
                }
            }
        }
    }
}

impl Drop for MaskedEvents {
    fn drop(&mut self) {
        let none = Bytes::new();
        let failure = "the caller went away before the answer ended".to_owned();
        // An outcome that was being recorded when the caller went is in the journal's queue already.
        let recording = match std::mem::replace(&mut self.state, State::Done) {
            State::Recording { recording, .. } => Some(recording),
            State::Reading => self.record(&none, None, Some(failure)),
            State::Done => None,
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

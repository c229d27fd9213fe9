//! Exactly one outcome for each intent, whatever happens: this is the one owner of that rule.
//!
//! A [`PendingOutcome`] is made with the intent's record and travels with the exchange, into the stream of its response if there
//! is one. Whoever ends the exchange finishes it; if nobody does, because the client left and its future was
//! dropped, dropping it records the outcome.

use crate::exchange::Exchange;
use durward_core::{ExchangeId, Refusal, RefusalReason};
use durward_journal::{Journal, JournalError, JournalRecord, MaskedCount};
use http::StatusCode;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

/// The status that proxies log for a client that closed its connection before it got a response (nginx: 499).
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// An exchange whose intent is in the journal and whose outcome is not.
pub(crate) struct PendingOutcome {
    journal: Arc<Journal>,
    exchange: ExchangeId,
    started_at: Instant,
    may_have_been_sent: bool,
    /// Present once the upstream has responded.
    response: Option<ResponseFacts>,
    response_bytes: u64,
    is_finished: bool,
}

/// The facts about the outcome that the head of an upstream's response holds.
#[derive(Debug, Default)]
pub(crate) struct ResponseFacts {
    pub status: StatusCode,
    pub error_code: Option<String>,
    pub request_bytes: u64,
    pub upstream_request_id: Option<String>,
    pub masked: Vec<MaskedCount>,
}

impl PendingOutcome {
    pub fn new(journal: Arc<Journal>, exchange: &Exchange) -> Self {
        Self {
            journal,
            exchange: exchange.id,
            started_at: exchange.started_at,
            may_have_been_sent: false,
            response: None,
            response_bytes: 0,
            is_finished: false,
        }
    }

    /// From here on the operation may have been executed, whatever else is known.
    pub fn mark_sent(&mut self) {
        self.may_have_been_sent = true;
    }

    pub fn may_have_been_sent(&self) -> bool {
        self.may_have_been_sent
    }

    /// Notes the facts in the head of the response.
    pub fn response_started(&mut self, response: ResponseFacts) {
        self.response = Some(response);
    }

    /// The facts of the response, to which a streamed one adds as it goes on.
    pub fn response_facts(&mut self) -> &mut ResponseFacts {
        self.response.get_or_insert_default()
    }

    /// Counts bytes that the caller gets.
    pub fn add_response_bytes(&mut self, bytes: usize) {
        self.response_bytes += bytes as u64;
    }

    /// Records that the caller got the whole response, or got it up to `failure`.
    pub fn finish(mut self, sha256: Option<String>, failure: Option<String>) -> OutcomeRecording {
        self.start_recording(sha256, failure)
    }

    /// Records that the caller got a refusal, with this status, in place of a response.
    pub fn fail(mut self, status: StatusCode, refusal: &Refusal) -> OutcomeRecording {
        self.response = Some(ResponseFacts {
            status,
            error_code: Some(refusal.reason.as_str().to_owned()),
            ..ResponseFacts::default()
        });
        self.response_bytes = 0;
        self.start_recording(None, Some(refusal.to_string()))
    }

    fn start_recording(
        &mut self,
        response_sha256: Option<String>,
        failure: Option<String>,
    ) -> OutcomeRecording {
        self.is_finished = true;
        let response = self.response.take().unwrap_or_default();
        let record = JournalRecord::Outcome {
            exchange: self.exchange,
            status: response.status.as_u16(),
            error_code: response.error_code,
            request_bytes: response.request_bytes,
            response_bytes: self.response_bytes,
            response_sha256,
            masked: response.masked,
            upstream_request_id: response.upstream_request_id,
            duration_us: u64::try_from(self.started_at.elapsed().as_micros()).unwrap_or(u64::MAX),
            failure,
        };
        let journal = self.journal.clone();
        OutcomeRecording(Some(Box::pin(async move { journal.append(record).await })))
    }
}

impl Drop for PendingOutcome {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        let failure = if self.response.is_some() {
            "the response was not read to its end"
        } else {
            let status = StatusCode::from_u16(CLIENT_CLOSED_REQUEST).unwrap_or(StatusCode::REQUEST_TIMEOUT);
            self.response = Some(ResponseFacts { status, ..ResponseFacts::default() });
            "the client disconnected before the response came"
        };
        // A destructor cannot wait. Dropping the future moves it to a task of its own.
        drop(self.start_recording(None, Some(failure.to_owned())));
    }
}

/// An outcome on its way into the journal. If it is dropped before its end, it continues in a task of its own: the client may
/// leave while the journal's queue is full.
pub(crate) struct OutcomeRecording(Option<JournalAppend>);

type JournalAppend = Pin<Box<dyn Future<Output = Result<(), JournalError>> + Send>>;

impl Future for OutcomeRecording {
    type Output = Result<(), JournalError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(append) = &mut self.0 else { return Poll::Ready(Ok(())) };
        let appended = ready!(append.as_mut().poll(context));
        self.0 = None;
        Poll::Ready(appended)
    }
}

impl Drop for OutcomeRecording {
    fn drop(&mut self) {
        let Some(append) = self.0.take() else { return };
        tokio::spawn(async move {
            if let Err(error) = append.await {
                tracing::error!(%error, "the journal cannot record an outcome");
            }
        });
    }
}

/// The refusal in place of a response whose outcome cannot be recorded.
pub(crate) fn withheld_response(error: &JournalError) -> Refusal {
    Refusal::new(RefusalReason::Internal, "the journal cannot record the response, so it is withheld")
        .with_detail(error)
}

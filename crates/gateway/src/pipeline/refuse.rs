//! A request that was stopped: it is recorded, then refused in the caller's protocol.

use super::stopped::{Progress, Stopped};
use crate::body::BoxBody;
use crate::exchange::Exchange;
use crate::front_end::{FrontEnd, RefusalContextOf};
use crate::refusal_recorder::{RefusalRecorder, shorten_operation, shorten_text};
use durward_core::{Refusal, RefusalReason, limits};
use durward_journal::JournalRecord;
use http::Response;
use std::sync::Arc;

/// Records the refusal, or the outcome if the intent was recorded, and writes the refusal.
pub(super) async fn refuse<F: FrontEnd>(
    front_end: &F,
    recorder: &RefusalRecorder,
    exchange: &Exchange,
    stopped: Stopped<RefusalContextOf<F>>,
    head_context: &RefusalContextOf<F>,
) -> Response<BoxBody> {
    let Stopped { refusal, refusal_context, progress } = stopped;
    log_refusal(exchange, &refusal);
    let context = refusal_context.as_ref().unwrap_or(head_context);
    let response = front_end.write_refusal(exchange.id, &refusal, context);
    let recorded = match progress {
        Progress::AfterIntent(pending) => pending.fail(response.status(), &refusal).await,
        Progress::OutcomeLost => Ok(()),
        Progress::BeforeIntent { identity, operation, decision } => {
            let (operation, omitted_parameters) =
                operation.map(|operation| shorten_operation(Arc::unwrap_or_clone(operation))).unzip();
            let is_anonymous = identity.is_none();
            let record = JournalRecord::Refused {
                exchange: exchange.id,
                session: identity.as_ref().map(|identity| identity.session),
                caller: identity.as_ref().map(|identity| identity.caller.clone()),
                front_end: F::KIND,
                connection: identity.as_ref().map(|identity| identity.connection.clone()),
                operation,
                omitted_parameters: omitted_parameters.flatten(),
                decision: decision.map(|decision| *decision),
                reason: refusal.reason,
                message: shorten_text(&refusal.to_string(), limits::MAX_RECORDED_MESSAGE_BYTES),
                source_address: exchange.source.ip(),
            };
            if is_anonymous { recorder.record_anonymous(record).await } else { recorder.record(record).await }
        }
    };
    match recorded {
        Ok(()) => response,
        Err(error) => {
            tracing::error!(exchange = %exchange.id, %error, "the journal cannot record a refusal");
            // A refusal widens nothing. But the caller is told that the gateway fails, not only that policy denies.
            if refusal.reason == RefusalReason::Internal {
                return response;
            }
            let failed = Refusal::new(RefusalReason::Internal, "the journal cannot record this request");
            front_end.write_refusal(exchange.id, &failed, context)
        }
    }
}

/// Refusals because of the gateway itself are errors for its operator; refusals by policy are not.
fn log_refusal(exchange: &Exchange, refusal: &Refusal) {
    let (id, reason, detail) = (exchange.id, refusal.reason.as_str(), &refusal.detail);
    if refusal.reason == RefusalReason::Internal {
        tracing::error!(exchange = %id, reason, %detail, "refused: {}", refusal.message);
    } else {
        tracing::info!(exchange = %id, reason, %detail, "refused: {}", refusal.message);
    }
}

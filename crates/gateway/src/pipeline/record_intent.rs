//! record intent: durable in the journal before anything goes upstream. No record, no request.

use super::StepResult;
use super::authorize::{Authorized, Authorizer, BoundRequest};
use super::stopped::Stopped;
use crate::exchange::Exchange;
use crate::front_end::{FrontEnd, FrontEndRequest};
use crate::outcome::PendingOutcome;
use durward_core::{Operation, encode_hex};
use durward_journal::{ConsumedGrant, Journal, JournalRecord};
use std::sync::Arc;

/// An authorized operation whose intent is durable in the journal.
pub struct Recorded<R> {
    bound: BoundRequest<R>,
    pending_outcome: PendingOutcome,
}

pub(super) async fn record_intent<F: FrontEnd>(
    journal: &Arc<Journal>,
    authorizer: &Authorizer,
    exchange: &Exchange,
    authorized: Authorized<F::Request>,
) -> StepResult<Recorded<F::Request>, F> {
    let decoded = authorized.decoded();
    let identity = decoded.identity();
    let record = JournalRecord::Intent {
        exchange: exchange.id,
        session: Some(identity.session),
        caller: Some(identity.caller.clone()),
        front_end: F::KIND,
        connection: identity.connection.clone(),
        operation: Operation::clone(decoded.recorded_operation()),
        digest: encode_hex(authorized.digest()),
        decision: authorized.decision().clone(),
        source_address: exchange.source.ip(),
        user_agent: exchange.user_agent.clone(),
        grant: authorized.grant().map(|grant| ConsumedGrant {
            approval_request: grant.approval_request.to_string(),
            approvers: grant.approvers.clone(),
            time_bound: grant.time_bound,
            break_glass: grant.break_glass,
        }),
        caused_by: None,
    };
    if let Err(error) = journal.append_durable(record).await {
        return Err(decoded.stop(error.refusal(), Some(authorized.decision())));
    }
    let pending_outcome = PendingOutcome::new(journal.clone(), exchange);
    // Only now: an operation that cannot be recorded is not executed, so it must not make a later one look familiar.
    authorizer.record_operation(identity, decoded.operation());
    Ok(Recorded { bound: authorized.into_bound(), pending_outcome })
}

impl<R: FrontEndRequest> Recorded<R> {
    pub(super) fn bound(&self) -> &BoundRequest<R> {
        &self.bound
    }

    /// Stops the exchange after its intent: the refusal is its outcome.
    pub(super) fn stop(self, refusal: durward_core::Refusal) -> Box<Stopped<R::RefusalContext>> {
        let context = self.bound.decoded().request().refusal_context();
        Stopped::after_intent(refusal, context, self.pending_outcome)
    }

    pub(super) fn into_parts(self) -> (BoundRequest<R>, PendingOutcome) {
        (self.bound, self.pending_outcome)
    }
}

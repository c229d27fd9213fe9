//! record intent: durable in the journal before anything goes upstream. No record, no request.

use super::StepResult;
use super::authorize::{Authorized, BoundRequest};
use super::claim_grant::ClaimedGrant;
use super::stopped::Stopped;
use crate::exchange::Exchange;
use crate::front_end::{FrontEnd, FrontEndRequest};
use crate::outcome::PendingOutcome;
use durward_core::{Operation, encode_hex};
use durward_journal::{Journal, JournalRecord, UsedGrant};
use std::sync::Arc;

/// An authorized operation whose intent is durable in the journal.
pub struct Recorded<R> {
    bound: BoundRequest<R>,
    claimed_grant: Option<ClaimedGrant>,
    pending_outcome: PendingOutcome,
}

pub(super) async fn record_intent<F: FrontEnd>(
    journal: &Arc<Journal>,
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
        grant: authorized.grant().map(|grant| UsedGrant {
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
    let (bound, claimed_grant) = authorized.into_bound();
    Ok(Recorded { bound, claimed_grant, pending_outcome })
}

impl<R: FrontEndRequest> Recorded<R> {
    pub(super) fn claimed_grant(&self) -> Option<&ClaimedGrant> {
        self.claimed_grant.as_ref()
    }

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

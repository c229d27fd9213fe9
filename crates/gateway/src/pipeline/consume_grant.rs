//! consume grant: after the intent is durable, so that a full disk burns no approval, and before anything goes upstream.
//!
//! The store is the only judge: of two gateways that claimed one grant, one consumes it, and the other's intent gets a refusal as
//! its outcome. The store's event names the exchange that consumed the grant, also after a kill between the two.

use super::StepResult;
use super::approval_step::{ApprovalStep, approvals_unavailable};
use super::decode::Decoded;
use super::record_intent::Recorded;
use crate::exchange::Exchange;
use crate::front_end::{FrontEnd, FrontEndRequest};
use durward_approval::GrantQuery;
use durward_core::{Refusal, RefusalReason};

/// A recorded operation that nothing forbids any more: the grant that it needs, if any, is consumed.
pub struct Permitted<R>(Recorded<R>);

pub(super) async fn consume_grant<F: FrontEnd>(
    approval_step: &ApprovalStep,
    exchange: &Exchange,
    recorded: Recorded<F::Request>,
) -> StepResult<Permitted<F::Request>, F> {
    let Some(claimed) = recorded.claimed_grant() else { return Ok(Permitted(recorded)) };
    let (bound, grant) = (recorded.bound(), &claimed.grant);
    let identity = bound.decoded().identity();
    let query = GrantQuery::new(
        &identity.caller,
        &identity.connection,
        bound.decoded().operation(),
        bound.digest(),
        &claimed.requirements,
    );
    match approval_step.approvals.consume_grant(grant, &query, exchange.id).await {
        Ok(true) => Ok(Permitted(recorded)),
        Ok(false) => {
            let refusal = Refusal::new(
                RefusalReason::ApprovalRequired,
                format!(
                    "the grant of approval request {} ended before it was used, so this was not sent",
                    grant.approval_request
                ),
            );
            Err(recorded.stop(refusal))
        }
        Err(error) => Err(recorded.stop(approvals_unavailable(error))),
    }
}

impl<R: FrontEndRequest> Permitted<R> {
    pub(super) fn decoded(&self) -> &Decoded<R> {
        self.0.bound().decoded()
    }

    pub(super) fn into_recorded(self) -> Recorded<R> {
        self.0
    }
}

//! forward: sends the request that was decided, and nothing else.

use super::StepResult;
use super::issue_credential::Credentialed;
use super::stopped::Stopped;
use crate::exchange::{Exchange, Identity};
use crate::front_end::{FrontEnd, RefusalContextOf};
use crate::outcome::PendingOutcome;
use crate::upstream_response::UpstreamResponse;
use std::sync::Arc;

/// An exchange whose upstream has responded.
pub struct Forwarded<C> {
    response: UpstreamResponse,
    identity: Arc<Identity>,
    refusal_context: C,
    pending_outcome: PendingOutcome,
}

pub(super) async fn forward<F: FrontEnd>(
    front_end: &F,
    exchange: &Exchange,
    credentialed: Credentialed<F::Request>,
) -> StepResult<Forwarded<RefusalContextOf<F>>, F> {
    let (forwardable, refusal_context, mut pending_outcome) = credentialed.open()?;
    let identity = forwardable.identity().clone();
    // Before the call: if this future is dropped inside of it, a part of the request may have been sent.
    pending_outcome.mark_sent();
    // Boxed, for it is large: a request that is held must not reserve memory for it.
    match Box::pin(front_end.send_upstream(exchange, forwardable)).await {
        Ok(response) => Ok(Forwarded { response, identity, refusal_context, pending_outcome }),
        Err(refusal) => Err(Stopped::after_intent(refusal, refusal_context, pending_outcome)),
    }
}

impl<C> Forwarded<C> {
    pub(super) fn into_parts(self) -> (UpstreamResponse, Arc<Identity>, C, PendingOutcome) {
        (self.response, self.identity, self.refusal_context, self.pending_outcome)
    }
}

//! mask: the caller gets the response without the sensitive data that policy does not let it see. A response that cannot be
//! inspected is withheld.

use super::forward::Forwarded;
use super::stopped::Stopped;
use crate::exchange::{Exchange, Identity};
use crate::outcome::PendingOutcome;
use crate::response_masker::{MaskedCounts, ResponseMasker};
use crate::upstream_response::UpstreamResponse;
use durward_journal::MaskedCount;
use std::sync::Arc;

/// A response that the caller may see. The body of a stream of events is masked as it goes on.
pub(super) struct Masked<C> {
    pub response: UpstreamResponse,
    pub counts: Vec<MaskedCount>,
    pub identity: Arc<Identity>,
    pub refusal_context: C,
    pub pending_outcome: PendingOutcome,
}

pub(super) fn mask<C>(
    masker: &ResponseMasker,
    exchange: &Exchange,
    forwarded: Forwarded<C>,
) -> Result<Masked<C>, Box<Stopped<C>>> {
    let (mut response, identity, refusal_context, pending_outcome) = forwarded.into_parts();
    let mut counts = MaskedCounts::default();
    match masker.mask_response(exchange, &identity, &mut response, &mut counts) {
        Ok(()) => {
            Ok(Masked { response, counts: counts.into_list(), identity, refusal_context, pending_outcome })
        }
        Err(refusal) => Err(Stopped::after_intent(refusal, refusal_context, pending_outcome)),
    }
}

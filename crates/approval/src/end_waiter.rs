//! A held request that waits for its approval request to be decided.

use crate::ledger::ApprovalLedger;
use crate::lifecycle::expire_if_due;
use crate::subscriptions::Subscription;
use crate::{ApprovalRequest, ApprovalRequestId, ApprovalState};
use durward_store::StoreError;
use std::sync::Arc;
use tokio::time::Instant;

/// Waits for the end of one approval request.
pub struct EndWaiter {
    ledger: Arc<ApprovalLedger>,
    subscription: Subscription,
    latest_request: Arc<ApprovalRequest>,
}

impl EndWaiter {
    pub(crate) async fn subscribe(
        ledger: &Arc<ApprovalLedger>,
        id: ApprovalRequestId,
    ) -> Result<Self, StoreError> {
        // First the subscription, then the store: a change between the two is published and wins over what was read.
        let mut subscription = ledger.subscriptions.subscribe(id);
        let latest_request = if let Some(request) = subscription.latest() {
            request
        } else {
            let stored = Box::pin(ledger.find_request(id)).await?.ok_or(StoreError::NotFound)?;
            ledger.subscriptions.publish_initial(stored);
            subscription.latest().ok_or(StoreError::NotFound)?
        };
        Ok(Self { ledger: Arc::clone(ledger), subscription, latest_request })
    }

    /// The request as soon as it is not pending. `None`: it was still pending at `until`.
    pub async fn wait_until(&mut self, until: Instant) -> Option<Arc<ApprovalRequest>> {
        let deadline = tokio::time::sleep_until(until);
        tokio::pin!(deadline);
        while self.latest_request.state == ApprovalState::Pending {
            tokio::select! {
                request = self.subscription.next() => self.latest_request = request?,
                () = &mut deadline => return None,
            }
        }
        Some(Arc::clone(&self.latest_request))
    }

    /// The request at this moment, with an expiry that is not published yet.
    pub fn current_request(&self) -> Arc<ApprovalRequest> {
        let mut request = ApprovalRequest::clone(&self.latest_request);
        if expire_if_due(&mut request, self.ledger.clock.now()) {
            Arc::new(request)
        } else {
            Arc::clone(&self.latest_request)
        }
    }
}

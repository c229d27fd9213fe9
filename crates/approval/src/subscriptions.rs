//! Who waits for which ask, and who hears of every change.
//!
//! Those who wait for the same ask share one copy of it, and nobody looks at the store while it does not change: thousands may
//! wait, and be told at once.

use crate::approval_request_row::expire_if_due;
use crate::ledger::ApprovalLedger;
use crate::{ApprovalRequest, ApprovalRequestId, ApprovalState};
use durward_store::StoreError;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

/// Changes that a slow listener of [`Waiting::changes`] may be behind before it misses some.
const CHANGE_CHANNEL_CAPACITY: usize = 1024;

type RequestSenders = Mutex<HashMap<ApprovalRequestId, watch::Sender<Option<Arc<ApprovalRequest>>>>>;

pub(crate) struct Subscriptions {
    senders: Arc<RequestSenders>,
    change_sender: broadcast::Sender<ApprovalRequestId>,
}

/// One waiter. Dropped, it leaves nothing behind.
pub(crate) struct Subscription {
    id: ApprovalRequestId,
    senders: Arc<RequestSenders>,
    updates: watch::Receiver<Option<Arc<ApprovalRequest>>>,
}

impl Subscriptions {
    pub(crate) fn new() -> Self {
        Self { senders: Arc::default(), change_sender: broadcast::channel(CHANGE_CHANNEL_CAPACITY).0 }
    }

    pub(crate) fn subscribe_changes(&self) -> broadcast::Receiver<ApprovalRequestId> {
        self.change_sender.subscribe()
    }

    /// From now on no change of the ask is missed.
    pub(crate) fn subscribe(&self, id: ApprovalRequestId) -> Subscription {
        let mut seats = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        let news = seats.entry(id).or_insert_with(|| watch::channel(None).0).subscribe();
        Subscription { id, senders: Arc::clone(&self.senders), updates: news }
    }

    pub(crate) fn has_subscribers(&self, id: ApprovalRequestId) -> bool {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&id)
    }

    /// What those who wait for it know of an ask, unless they were told something newer.
    fn publish_initial(&self, ask: ApprovalRequest) {
        if let Some(seat) = self.senders.lock().unwrap_or_else(PoisonError::into_inner).get(&ask.id) {
            seat.send_if_modified(|known| {
                known.get_or_insert_with(|| Arc::new(ask));
                false
            });
        }
    }

    /// Tells everybody who waits for this ask how it is now.
    pub(crate) fn publish(&self, ask: ApprovalRequest) {
        if let Some(seat) = self.senders.lock().unwrap_or_else(PoisonError::into_inner).get(&ask.id) {
            seat.send_replace(Some(Arc::new(ask)));
        }
    }

    pub(crate) fn announce_change(&self, id: ApprovalRequestId) {
        // an error means that nobody listens
        let _nobody = self.change_sender.send(id);
    }
}

impl Subscription {
    fn latest(&mut self) -> Option<Arc<ApprovalRequest>> {
        self.updates.borrow_and_update().clone()
    }
}

/// A request that waits for an ask.
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
        // From here on no change is missed; what the store says now may only be older than what is told.
        let mut seat = ledger.subscriptions.subscribe(id);
        let ask = if let Some(ask) = seat.latest() {
            ask
        } else {
            let ask = Box::pin(ledger.find_request(id)).await?.ok_or(StoreError::NotFound)?;
            ledger.subscriptions.publish_initial(ask);
            seat.latest().ok_or(StoreError::NotFound)?
        };
        Ok(Self { ledger: Arc::clone(ledger), subscription: seat, latest_request: ask })
    }

    /// The ask as soon as it is not pending; none if that is not before `until`.
    pub async fn wait_until(&mut self, until: Instant) -> Option<Arc<ApprovalRequest>> {
        let end = tokio::time::sleep_until(until);
        tokio::pin!(end);
        while self.latest_request.state == ApprovalState::Pending {
            tokio::select! {
                // the sender is in the list for as long as this seat is
                told = self.subscription.updates.changed() => told.ok()?,
                () = &mut end => return None,
            }
            self.latest_request = self.subscription.latest()?;
        }
        Some(Arc::clone(&self.latest_request))
    }

    /// The ask as it is at this moment, also if its time has ended and nobody was told yet.
    pub fn current_request(&self) -> Arc<ApprovalRequest> {
        let mut ask = ApprovalRequest::clone(&self.latest_request);
        if expire_if_due(&mut ask, self.ledger.clock.now()) {
            Arc::new(ask)
        } else {
            Arc::clone(&self.latest_request)
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut seats = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        // this seat still counts as one
        if seats.get(&self.id).is_some_and(|seat| seat.receiver_count() <= 1) {
            seats.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_subscription_leaves_nothing_behind() {
        let waiting = Subscriptions::new();
        let id = ApprovalRequestId::new();
        let (one, two) = (waiting.subscribe(id), waiting.subscribe(id));
        drop(one);
        assert!(waiting.has_subscribers(id));
        drop(two);
        assert!(!waiting.has_subscribers(id));
    }
}

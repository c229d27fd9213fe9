//! The waiters of each approval request, and the listeners to every change.
//!
//! All waiters of a request share one copy of it, and none reads the store while it does not change: thousands can wait, and be
//! woken together.

use crate::{ApprovalRequest, ApprovalRequestId};
use durward_core::lock_ignoring_poison;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};
use tokio::sync::{broadcast, watch};

/// Changes that a slow receiver of [`Subscriptions::subscribe_changes`] may be behind before it misses some.
const CHANGE_CHANNEL_CAPACITY: usize = 1024;

type RequestSenders = Mutex<HashMap<ApprovalRequestId, watch::Sender<Option<Arc<ApprovalRequest>>>>>;

pub(crate) struct Subscriptions {
    senders: Arc<RequestSenders>,
    change_sender: broadcast::Sender<ApprovalRequestId>,
}

/// The subscription of one waiter. Dropping the last one of a request frees what it took.
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

    /// Subscribes to a request. No later change of it is missed.
    pub(crate) fn subscribe(&self, id: ApprovalRequestId) -> Subscription {
        let mut senders = lock_ignoring_poison(&self.senders);
        let updates = senders.entry(id).or_insert_with(|| watch::channel(None).0).subscribe();
        Subscription { id, senders: Arc::clone(&self.senders), updates }
    }

    pub(crate) fn has_subscribers(&self, id: ApprovalRequestId) -> bool {
        lock_ignoring_poison(&self.senders).contains_key(&id)
    }

    /// Gives the subscribers of a request its first value, unless a change came first, which is newer.
    pub(crate) fn publish_initial(&self, request: ApprovalRequest) {
        if let Some(sender) = lock_ignoring_poison(&self.senders).get(&request.id) {
            sender.send_if_modified(|latest| {
                latest.get_or_insert_with(|| Arc::new(request));
                false
            });
        }
    }

    /// Gives the subscribers of a request its new value.
    pub(crate) fn publish(&self, request: ApprovalRequest) {
        if let Some(sender) = lock_ignoring_poison(&self.senders).get(&request.id) {
            sender.send_replace(Some(Arc::new(request)));
        }
    }

    pub(crate) fn announce_change(&self, id: ApprovalRequestId) {
        // An error means that there is no receiver.
        let _no_receiver = self.change_sender.send(id);
    }
}

impl Subscription {
    /// The latest value. `None`: none was published yet.
    pub(crate) fn latest(&mut self) -> Option<Arc<ApprovalRequest>> {
        self.updates.borrow_and_update().clone()
    }

    /// Waits for the next value. `None`: there will be none.
    pub(crate) async fn next(&mut self) -> Option<Arc<ApprovalRequest>> {
        // The sender is kept for as long as this subscription exists, so an error does not occur.
        self.updates.changed().await.ok()?;
        self.latest()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut senders = lock_ignoring_poison(&self.senders);
        // This subscription still counts as one receiver.
        if senders.get(&self.id).is_some_and(|sender| sender.receiver_count() <= 1) {
            senders.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_subscription_leaves_nothing_behind() {
        let subscriptions = Subscriptions::new();
        let id = ApprovalRequestId::new();
        let (first, second) = (subscriptions.subscribe(id), subscriptions.subscribe(id));
        drop(first);
        assert!(subscriptions.has_subscribers(id));
        drop(second);
        assert!(!subscriptions.has_subscribers(id));
    }
}

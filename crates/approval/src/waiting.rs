//! Who waits for which ask, and who hears of every change. A waiter costs one entry in a list, and no look at the store
//! until its ask changes.

use crate::{Ask, AskId};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::{broadcast, watch};

/// Changes that a slow listener of [`Waiting::changes`] may be behind before it misses some.
const BEHIND: usize = 1024;

type Seats = Mutex<HashMap<AskId, watch::Sender<Option<Arc<Ask>>>>>;

pub(crate) struct Waiting {
    seats: Arc<Seats>,
    changes: broadcast::Sender<AskId>,
}

/// One waiter. Dropped, it leaves nothing behind.
pub(crate) struct Seat {
    id: AskId,
    seats: Arc<Seats>,
    news: watch::Receiver<Option<Arc<Ask>>>,
}

impl Waiting {
    pub(crate) fn new() -> Self {
        Self { seats: Arc::default(), changes: broadcast::channel(BEHIND).0 }
    }

    pub(crate) fn changes(&self) -> broadcast::Receiver<AskId> {
        self.changes.subscribe()
    }

    /// From now on no change of the ask is missed.
    pub(crate) fn sit(&self, id: AskId) -> Seat {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let news = seats.entry(id).or_insert_with(|| watch::channel(None).0).subscribe();
        Seat { id, seats: Arc::clone(&self.seats), news }
    }

    pub(crate) fn anybody(&self, id: AskId) -> bool {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&id)
    }

    /// Tells everybody who waits for this ask how it is now.
    pub(crate) fn tell(&self, ask: Ask) {
        if let Some(seat) = self.seats.lock().unwrap_or_else(PoisonError::into_inner).get(&ask.id) {
            seat.send_replace(Some(Arc::new(ask)));
        }
    }

    pub(crate) fn announce(&self, id: AskId) {
        // an error means that nobody listens
        let _nobody = self.changes.send(id);
    }
}

impl Seat {
    /// The ask after its next change.
    pub(crate) async fn next(&mut self) -> Option<Arc<Ask>> {
        self.news.changed().await.ok()?;
        self.news.borrow_and_update().clone()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
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
    fn a_waiter_that_leaves_leaves_nothing_behind() {
        let waiting = Waiting::new();
        let id = AskId::new();
        let (one, two) = (waiting.sit(id), waiting.sit(id));
        drop(one);
        assert!(waiting.anybody(id));
        drop(two);
        assert!(!waiting.anybody(id));
    }
}

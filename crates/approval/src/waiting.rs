//! Who waits for which ask, and who hears of every change.
//!
//! Those who wait for the same ask share one copy of it, and nobody looks at the store while it does not change: thousands may
//! wait, and be told at once.

use crate::ledger::Ledger;
use crate::row::settle;
use crate::{Ask, AskId, State};
use durward_store::StoreError;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

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

    /// What those who wait for it know of an ask, unless they were told something newer.
    fn show(&self, ask: Ask) {
        if let Some(seat) = self.seats.lock().unwrap_or_else(PoisonError::into_inner).get(&ask.id) {
            seat.send_if_modified(|known| {
                known.get_or_insert_with(|| Arc::new(ask));
                false
            });
        }
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
    fn known(&mut self) -> Option<Arc<Ask>> {
        self.news.borrow_and_update().clone()
    }
}

/// A request that waits for an ask.
pub struct Waiter {
    ledger: Arc<Ledger>,
    seat: Seat,
    ask: Arc<Ask>,
}

impl Waiter {
    pub(crate) async fn sit(ledger: &Arc<Ledger>, id: AskId) -> Result<Self, StoreError> {
        // From here on no change is missed; what the store says now may only be older than what is told.
        let mut seat = ledger.waiting.sit(id);
        let ask = if let Some(ask) = seat.known() {
            ask
        } else {
            let ask = Box::pin(ledger.find(id)).await?.ok_or(StoreError::Missing)?;
            ledger.waiting.show(ask);
            seat.known().ok_or(StoreError::Missing)?
        };
        Ok(Self { ledger: Arc::clone(ledger), seat, ask })
    }

    /// The ask as soon as it is not pending; none if that is not before `until`.
    pub async fn ended(&mut self, until: Instant) -> Option<Arc<Ask>> {
        let end = tokio::time::sleep_until(until);
        tokio::pin!(end);
        while self.ask.state == State::Pending {
            tokio::select! {
                // the sender is in the list for as long as this seat is
                told = self.seat.news.changed() => told.ok()?,
                () = &mut end => return None,
            }
            self.ask = self.seat.known()?;
        }
        Some(Arc::clone(&self.ask))
    }

    /// The ask as it is at this moment, also if its time has ended and nobody was told yet.
    pub fn now(&self) -> Arc<Ask> {
        let mut ask = Ask::clone(&self.ask);
        if settle(&mut ask, self.ledger.time.now()) { Arc::new(ask) } else { Arc::clone(&self.ask) }
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

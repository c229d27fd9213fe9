//! What of the asks' history is not in the journal yet, for whoever writes it there.
//!
//! How far it is, is kept in the store and written after the journal has the events: what happened to an ask is recorded
//! although the process is killed at any moment. If it is killed between the two, an event is recorded twice; both records
//! carry the ask and the index of the event.

use crate::{Approvals, AskId, Event};
use durward_store::StoreError;

/// Asks of one page.
const PAGE: i64 = 100;

/// What happened to one ask and is not in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unrecorded {
    pub ask: AskId,
    /// The index of the first of `events` in the history of the ask.
    pub first: u32,
    pub events: Vec<Event>,
}

/// Some of what is not in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unrecordeds {
    pub asks: Vec<Unrecorded>,
    /// Where the next page begins; none: this was the last.
    pub next: Option<i64>,
}

impl Unrecorded {
    /// How many events of the ask are in the journal once these are.
    fn end(&self) -> i64 {
        i64::from(self.first).saturating_add(i64::try_from(self.events.len()).unwrap_or(i64::MAX))
    }
}

impl Approvals {
    /// One page, from the beginning (0) or from where the page before said.
    pub async fn unrecorded(&self, after: i64) -> Result<Unrecordeds, StoreError> {
        let rows = self.ledger.store.read().await?.unjournaled(after, PAGE).await?;
        let next = rows.last().filter(|_last| rows.len() as i64 == PAGE).map(|row| row.change);
        let mut asks = Vec::with_capacity(rows.len());
        for row in rows {
            let damaged = |error: &dyn std::fmt::Display| {
                StoreError::Damaged(format!("the history of ask {}: {error}", row.id))
            };
            let read = || {
                let ask = row.id.parse().map_err(|error| damaged(&error))?;
                let first = u32::try_from(row.journaled).map_err(|error| damaged(&error))?;
                let history: Vec<Event> =
                    serde_json::from_str(&row.history).map_err(|error| damaged(&error))?;
                Ok(Unrecorded { ask, first, events: history.into_iter().skip(first as usize).collect() })
            };
            // What cannot be read cannot be recorded, and must not keep the others from it.
            asks.extend(self.ledger.damage.told(&row.id, read()));
        }
        Ok(Unrecordeds { asks, next })
    }

    /// Notes that these are in the journal, on disk.
    pub async fn recorded(&self, done: &[Unrecorded]) -> Result<(), StoreError> {
        if done.is_empty() {
            return Ok(());
        }
        let mut transaction = self.ledger.store.write().await?;
        for one in done {
            transaction.journaled(&one.ask.to_string(), one.end()).await?;
        }
        transaction.commit().await
    }
}

//! What of the asks' history is not in the journal yet, for whoever writes it there.
//!
//! How far it is, is kept in the store and written after the journal has the events: what happened to an ask is recorded
//! although the process is killed at any moment. If it is killed between the two, an event is recorded twice; both records
//! carry the ask and the index of the event.

use crate::{ApprovalEvent, ApprovalRequestId, Approvals};
use durward_store::StoreError;

/// Asks of one page.
const MAX_REQUESTS_PER_PAGE: i64 = 100;

/// What happened to one ask and is not in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingEvents {
    pub approval_request: ApprovalRequestId,
    /// The index of the first of `events` in the history of the ask.
    pub first_index: u32,
    pub events: Vec<ApprovalEvent>,
}

/// Some of what is not in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingEventsPage {
    pub requests: Vec<PendingEvents>,
    /// Where the next page begins; none: this was the last.
    pub next_change: Option<i64>,
}

impl PendingEvents {
    /// How many events of the ask are in the journal once these are.
    fn end_index(&self) -> i64 {
        i64::from(self.first_index).saturating_add(i64::try_from(self.events.len()).unwrap_or(i64::MAX))
    }
}

impl Approvals {
    /// One page, from the beginning (0) or from where the page before said.
    pub async fn pending_events(&self, after: i64) -> Result<PendingEventsPage, StoreError> {
        let rows =
            self.ledger.store.begin_read().await?.unjournaled_events(after, MAX_REQUESTS_PER_PAGE).await?;
        let next = rows
            .last()
            .filter(|_last| rows.len() as i64 == MAX_REQUESTS_PER_PAGE)
            .map(|row| row.change_number);
        let mut asks = Vec::with_capacity(rows.len());
        for row in rows {
            let damaged = |error: &dyn std::fmt::Display| {
                StoreError::Corrupt(format!("the history of ask {}: {error}", row.id))
            };
            let read = || {
                let ask = row.id.parse().map_err(|error| damaged(&error))?;
                let first = u32::try_from(row.journaled_count).map_err(|error| damaged(&error))?;
                let history: Vec<ApprovalEvent> =
                    serde_json::from_str(&row.history).map_err(|error| damaged(&error))?;
                Ok(PendingEvents {
                    approval_request: ask,
                    first_index: first,
                    events: history.into_iter().skip(first as usize).collect(),
                })
            };
            // What cannot be read cannot be recorded, and must not keep the others from it.
            asks.extend(self.ledger.corruption_log.ok_or_log(&row.id, read()));
        }
        Ok(PendingEventsPage { requests: asks, next_change: next })
    }

    /// Notes that these are in the journal, on disk.
    pub async fn mark_journaled(&self, done: &[PendingEvents]) -> Result<(), StoreError> {
        if done.is_empty() {
            return Ok(());
        }
        let mut transaction = self.ledger.store.begin_write().await?;
        for one in done {
            transaction.mark_events_journaled(&one.approval_request.to_string(), one.end_index()).await?;
        }
        transaction.commit().await
    }
}

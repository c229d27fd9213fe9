//! The events of approval requests that the journal does not have yet, for the task that writes them there.
//!
//! The store counts how many events of each request are in the journal, and the count is written after the journal is on disk:
//! no event is missing because the process was killed. A kill between the two records an event twice; both records carry the
//! request and the index of the event.

use crate::{ApprovalEvent, ApprovalRequestId, Approvals};
use durward_store::StoreError;

const MAX_REQUESTS_PER_PAGE: i64 = 100;

/// The events of one request that are not in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingEvents {
    pub approval_request: ApprovalRequestId,
    /// The index of the first of `events` in the history of the request.
    pub first_index: u32,
    pub events: Vec<ApprovalEvent>,
}

/// One page of requests with events that are not in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingEventsPage {
    pub requests: Vec<PendingEvents>,
    /// The change after which the next page begins. `None`: this is the last page.
    pub next_change: Option<i64>,
}

impl PendingEvents {
    /// The number of events of the request that are in the journal once these are.
    fn end_index(&self) -> i64 {
        i64::from(self.first_index).saturating_add(i64::try_from(self.events.len()).unwrap_or(i64::MAX))
    }
}

impl Approvals {
    /// One page, from the beginning (0) or from the `next_change` of the page before.
    pub async fn pending_events(&self, after: i64) -> Result<PendingEventsPage, StoreError> {
        let rows =
            self.ledger.store.begin_read().await?.unjournaled_events(after, MAX_REQUESTS_PER_PAGE).await?;
        let next_change = rows
            .last()
            .filter(|_last| rows.len() as i64 == MAX_REQUESTS_PER_PAGE)
            .map(|row| row.change_number);
        let mut requests = Vec::with_capacity(rows.len());
        for row in rows {
            let corrupt_history = |error: &dyn std::fmt::Display| {
                StoreError::Corrupt(format!("the history of approval request {}: {error}", row.id))
            };
            let decode = || {
                let approval_request = row.id.parse().map_err(|error| corrupt_history(&error))?;
                let first_index =
                    u32::try_from(row.journaled_count).map_err(|error| corrupt_history(&error))?;
                let history: Vec<ApprovalEvent> =
                    serde_json::from_str(&row.history).map_err(|error| corrupt_history(&error))?;
                let events = history.into_iter().skip(first_index as usize).collect();
                Ok(PendingEvents { approval_request, first_index, events })
            };
            // A history that cannot be read is left out, so that it does not keep the others out of the journal.
            requests.extend(self.ledger.corruption_log.ok_or_log(&row.id, decode()));
        }
        Ok(PendingEventsPage { requests, next_change })
    }

    /// Stores that these events are in the journal, on disk.
    pub async fn mark_journaled(&self, journaled: &[PendingEvents]) -> Result<(), StoreError> {
        if journaled.is_empty() {
            return Ok(());
        }
        let mut transaction = self.ledger.store.begin_write().await?;
        for events in journaled {
            transaction
                .mark_events_journaled(&events.approval_request.to_string(), events.end_index())
                .await?;
        }
        transaction.commit().await
    }
}

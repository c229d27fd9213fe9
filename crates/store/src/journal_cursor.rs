//! The part of each approval request's history that is in the journal. A request is not deleted before all of it is.

use crate::{StoreError, StoreTransaction, statement::sql_statement};

/// An approval request with events that are not in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnjournaledEventRow {
    pub id: String,
    /// JSON: all events, from the first one on.
    pub history: String,
    /// The number of them that are in the journal.
    pub journaled_count: i64,
    /// The number of the request's last change: the order of these rows.
    pub change_number: i64,
}

impl StoreTransaction {
    /// The requests with events that are not in the journal and whose last change came after `after`, in the order of these
    /// changes.
    pub async fn unjournaled_events(
        &mut self,
        after: i64,
        limit: i64,
    ) -> Result<Vec<UnjournaledEventRow>, StoreError> {
        let rows = sql_statement(
            "SELECT id, history, journaled_count, change_number FROM approval_request
             WHERE journaled_count < event_count AND change_number > $1 ORDER BY change_number LIMIT $2",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(self)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(UnjournaledEventRow {
                    id: row.get(0)?,
                    history: row.get(1)?,
                    journaled_count: row.get(2)?,
                    change_number: row.get(3)?,
                })
            })
            .collect()
    }

    /// Records that the first `events` events of a request are in the journal. This is no change of the request, and the count
    /// never goes back.
    pub async fn mark_events_journaled(&mut self, id: &str, events: i64) -> Result<(), StoreError> {
        sql_statement(
            "UPDATE approval_request
             SET journaled_count = CASE WHEN journaled_count < $1 THEN $1 ELSE journaled_count END WHERE id = $2",
        )
        .bind(events)
        .bind(id)
        .execute(self)
        .await?;
        Ok(())
    }
}

//! How far the history of each ask is in the journal. Nothing here is forgotten before it is.

use crate::{StoreError, StoreTransaction, statement::sql_statement};

/// An ask with events that are not in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnjournaledEventRow {
    pub id: String,
    /// JSON, all events from the first.
    pub history: String,
    /// How many of them are in the journal.
    pub journaled_count: i64,
    /// The last change of the ask: the order of these rows.
    pub change_number: i64,
}

impl StoreTransaction {
    /// Asks with events that are not in the journal and whose last change came after `after`, in the order of their changes.
    pub async fn unjournaled_events(
        &mut self,
        after: i64,
        limit: i64,
    ) -> Result<Vec<UnjournaledEventRow>, StoreError> {
        let rows = sql_statement(
            "SELECT id, history, journaled, change FROM ask WHERE journaled < events AND change > $1
             ORDER BY change LIMIT $2",
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

    /// Notes that the first `events` events of an ask are in the journal. That is no change of the ask.
    pub async fn mark_events_journaled(&mut self, id: &str, events: i64) -> Result<(), StoreError> {
        sql_statement(
            "UPDATE ask SET journaled = CASE WHEN journaled < $1 THEN $1 ELSE journaled END WHERE id = $2",
        )
        .bind(events)
        .bind(id)
        .execute(self)
        .await?;
        Ok(())
    }
}

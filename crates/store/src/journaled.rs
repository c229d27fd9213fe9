//! How far the history of each ask is in the journal. Nothing here is forgotten before it is.

use crate::{StoreError, Transaction, statement::statement};

/// An ask with events that are not in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnjournaledRow {
    pub id: String,
    /// JSON, all events from the first.
    pub history: String,
    /// How many of them are in the journal.
    pub journaled: i64,
    /// The last change of the ask: the order of these rows.
    pub change: i64,
}

impl Transaction {
    /// Asks with events that are not in the journal and whose last change came after `after`, in the order of their changes.
    pub async fn unjournaled(&mut self, after: i64, limit: i64) -> Result<Vec<UnjournaledRow>, StoreError> {
        let rows = statement(
            "SELECT id, history, journaled, change FROM ask WHERE journaled < events AND change > $1
             ORDER BY change LIMIT $2",
        )
        .bind(after)
        .bind(limit)
        .all(self)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(UnjournaledRow {
                    id: row.get(0)?,
                    history: row.get(1)?,
                    journaled: row.get(2)?,
                    change: row.get(3)?,
                })
            })
            .collect()
    }

    /// Notes that the first `events` events of an ask are in the journal. That is no change of the ask.
    pub async fn journaled(&mut self, id: &str, events: i64) -> Result<(), StoreError> {
        statement(
            "UPDATE ask SET journaled = CASE WHEN journaled < $1 THEN $1 ELSE journaled END WHERE id = $2",
        )
        .bind(events)
        .bind(id)
        .execute(self)
        .await?;
        Ok(())
    }
}

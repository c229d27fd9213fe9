//! The actions that each caller was permitted to take before. A caller who takes new ones is a higher risk.

use crate::{StoreError, StoreTransaction, statement::sql_statement};

impl StoreTransaction {
    /// Returns true if this caller was permitted to take these actions before.
    pub async fn was_seen(&mut self, caller: &str, actions: &str) -> Result<bool, StoreError> {
        let found: i64 = sql_statement("SELECT count(*) FROM first_seen WHERE caller = $1 AND actions = $2")
            .bind(caller)
            .bind(actions)
            .fetch_scalar(self)
            .await?;
        Ok(found != 0)
    }

    /// Records that the caller was permitted at `at`, in milliseconds since 1970. The first time stays: a later one changes
    /// nothing, so that a permitted operation costs no write.
    pub async fn record_first_seen(
        &mut self,
        caller: &str,
        actions: &str,
        at: i64,
    ) -> Result<(), StoreError> {
        sql_statement(
            "INSERT INTO first_seen (caller, actions, seen_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(caller)
        .bind(actions)
        .bind(at)
        .execute(self)
        .await?;
        Ok(())
    }

    /// Deletes the entries that were first seen before this time.
    pub async fn delete_first_seen_before(&mut self, before: i64) -> Result<(), StoreError> {
        sql_statement("DELETE FROM first_seen WHERE seen_at < $1").bind(before).execute(self).await?;
        Ok(())
    }
}

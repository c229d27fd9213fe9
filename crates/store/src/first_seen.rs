//! Which caller was let through with which actions.

use crate::{StoreError, StoreTransaction, statement::sql_statement};

impl StoreTransaction {
    /// Whether this caller was let through with these actions.
    pub async fn was_seen(&mut self, caller: &str, actions: &str) -> Result<bool, StoreError> {
        let found: i64 = sql_statement("SELECT count(*) FROM first_seen WHERE caller = $1 AND actions = $2")
            .bind(caller)
            .bind(actions)
            .fetch_scalar(self)
            .await?;
        Ok(found != 0)
    }

    /// Notes that the caller was let through at `at`, in milliseconds since 1970, unless that is known.
    pub async fn record_first_seen(
        &mut self,
        caller: &str,
        actions: &str,
        at: i64,
    ) -> Result<(), StoreError> {
        sql_statement(
            "INSERT INTO first_seen (caller, actions, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(caller)
        .bind(actions)
        .bind(at)
        .execute(self)
        .await?;
        Ok(())
    }

    /// Forgets what was seen before.
    pub async fn delete_first_seen_before(&mut self, before: i64) -> Result<(), StoreError> {
        sql_statement("DELETE FROM first_seen WHERE at < $1").bind(before).execute(self).await?;
        Ok(())
    }
}

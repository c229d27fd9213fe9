//! Revocations of sessions, as rows. A revocation is not deleted before the journal holds it.

use crate::{
    StoreError, StoreTransaction,
    statement::{SqlRow, sql_statement},
};

/// A revocation of one session, or of every session of a caller that had begun until `revoked_at`: exactly one of `session`
/// and `caller` is set. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationRow {
    /// Grows with every revocation; the store sets it.
    pub number: i64,
    pub session: Option<String>,
    pub caller: Option<String>,
    pub revoked_at: i64,
    pub revoked_by: String,
    pub reason: String,
    /// When every credential of it has expired, so that the row is no longer needed. `None` if that is not known.
    pub delete_after: Option<i64>,
}

/// A query for whole revocations. [`revocation_from_row`] reads the columns by their position.
macro_rules! select_revocations {
    ($rest:literal) => {
        concat!(
            "SELECT number, session, caller, revoked_at, revoked_by, reason, delete_after FROM revocation ",
            $rest
        )
    };
}

fn revocation_from_row(row: &SqlRow) -> Result<RevocationRow, StoreError> {
    Ok(RevocationRow {
        number: row.get(0)?,
        session: row.get(1)?,
        caller: row.get(2)?,
        revoked_at: row.get(3)?,
        revoked_by: row.get(4)?,
        reason: row.get(5)?,
        delete_after: row.get(6)?,
    })
}

fn revocations_from_rows(rows: &[SqlRow]) -> Result<Vec<RevocationRow>, StoreError> {
    rows.iter().map(revocation_from_row).collect()
}

impl StoreTransaction {
    /// Adds a revocation. Returns false if this session was revoked before: that revocation stays as it is.
    pub async fn insert_revocation(&mut self, row: &RevocationRow) -> Result<bool, StoreError> {
        let done = sql_statement(
            "INSERT INTO revocation (session, caller, revoked_at, revoked_by, reason, delete_after)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (session) DO NOTHING",
        )
        .bind(&row.session)
        .bind(&row.caller)
        .bind(row.revoked_at)
        .bind(&row.revoked_by)
        .bind(&row.reason)
        .bind(row.delete_after)
        .execute(self)
        .await?;
        Ok(done > 0)
    }

    /// The revocations with a higher number, in the order of their numbers.
    pub async fn revocations_after(&mut self, number: i64) -> Result<Vec<RevocationRow>, StoreError> {
        // No row is missed: writers exclude each other, so the numbers are committed in their order.
        let rows = sql_statement(select_revocations!("WHERE number > $1 ORDER BY number"))
            .bind(number)
            .fetch_all(self)
            .await?;
        revocations_from_rows(&rows)
    }

    /// The first revocations that are not in the journal.
    pub async fn unjournaled_revocations(&mut self, limit: i64) -> Result<Vec<RevocationRow>, StoreError> {
        let rows = sql_statement(select_revocations!("WHERE journaled = 0 ORDER BY number LIMIT $1"))
            .bind(limit)
            .fetch_all(self)
            .await?;
        revocations_from_rows(&rows)
    }

    /// Records that the journal holds the revocation.
    pub async fn mark_revocation_journaled(&mut self, number: i64) -> Result<(), StoreError> {
        sql_statement("UPDATE revocation SET journaled = 1 WHERE number = $1")
            .bind(number)
            .execute(self)
            .await?;
        Ok(())
    }

    /// Deletes the revocations that are no longer needed and that the journal holds.
    pub async fn delete_expired_revocations(&mut self, now: i64) -> Result<(), StoreError> {
        sql_statement("DELETE FROM revocation WHERE delete_after <= $1 AND journaled = 1")
            .bind(now)
            .execute(self)
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn revocation_row(session: Option<&str>, caller: Option<&str>) -> RevocationRow {
        RevocationRow {
            number: 0,
            session: session.map(str::to_owned),
            caller: caller.map(str::to_owned),
            revoked_at: 10,
            revoked_by: "corp/ann".to_owned(),
            reason: "lost laptop".to_owned(),
            delete_after: Some(100),
        }
    }

    #[tokio::test]
    async fn a_session_is_revoked_once_and_numbers_only_grow() {
        let dir = tempfile::tempdir().unwrap();
        let store = testing::open_test_store(&dir.path().join("state.db")).await.unwrap();
        let mut write = store.begin_write().await.unwrap();
        assert!(write.insert_revocation(&revocation_row(Some("s1"), None)).await.unwrap());
        let again = RevocationRow { reason: "other".to_owned(), ..revocation_row(Some("s1"), None) };
        assert!(!write.insert_revocation(&again).await.unwrap());
        assert!(write.insert_revocation(&revocation_row(None, Some("corp/a"))).await.unwrap());
        assert!(write.insert_revocation(&revocation_row(None, Some("corp/a"))).await.unwrap());
        write.commit().await.unwrap();
        for bad in [revocation_row(Some("s2"), Some("corp/a")), revocation_row(None, None)] {
            let mut write = store.begin_write().await.unwrap();
            assert!(write.insert_revocation(&bad).await.is_err(), "exactly one of session and caller is set");
            write.insert_revocation(&revocation_row(Some("s9"), None)).await.ok();
            assert!(write.commit().await.is_err(), "a statement of the transaction failed");
        }
        let all = store.begin_read().await.unwrap().revocations_after(0).await.unwrap();
        assert_eq!(all.len(), 3);
        assert_eq!(all[0], RevocationRow { number: all[0].number, ..revocation_row(Some("s1"), None) });
        assert!(all.windows(2).all(|pair| pair[0].number < pair[1].number));
        assert_eq!(
            store.begin_read().await.unwrap().revocations_after(all[1].number).await.unwrap(),
            all[2..]
        );
        // The number of a deleted row is not used again: a process that remembers it misses no later row.
        let mut write = store.begin_write().await.unwrap();
        write.mark_revocation_journaled(all[2].number).await.unwrap();
        write.delete_expired_revocations(100).await.unwrap();
        write.insert_revocation(&revocation_row(Some("s3"), None)).await.unwrap();
        write.commit().await.unwrap();
        let newer = store.begin_read().await.unwrap().revocations_after(all[2].number).await.unwrap();
        assert_eq!(newer.iter().map(|row| row.session.as_deref()).collect::<Vec<_>>(), [Some("s3")]);
    }

    #[tokio::test]
    async fn a_revocation_that_the_journal_does_not_hold_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = testing::open_test_store(&dir.path().join("state.db")).await.unwrap();
        let mut write = store.begin_write().await.unwrap();
        let without_end = RevocationRow { delete_after: None, ..revocation_row(Some("s3"), None) };
        for row in [revocation_row(Some("s1"), None), revocation_row(Some("s2"), None), without_end] {
            write.insert_revocation(&row).await.unwrap();
        }
        let waiting = write.unjournaled_revocations(10).await.unwrap();
        assert_eq!(waiting.len(), 3);
        write.mark_revocation_journaled(waiting[0].number).await.unwrap();
        write.mark_revocation_journaled(waiting[2].number).await.unwrap();
        write.delete_expired_revocations(99).await.unwrap();
        assert_eq!(write.revocations_after(0).await.unwrap().len(), 3, "delete_after is not reached");
        write.delete_expired_revocations(100).await.unwrap();
        let left = write.revocations_after(0).await.unwrap();
        assert_eq!(
            left.iter().map(|row| row.session.as_deref()).collect::<Vec<_>>(),
            [Some("s2"), Some("s3")]
        );
        assert_eq!(write.unjournaled_revocations(10).await.unwrap().len(), 1);
    }
}

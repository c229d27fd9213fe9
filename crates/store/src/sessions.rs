//! Revoked sessions and the sign-ins of people, as rows. A sign-in is known by the SHA-256 of what the browser holds, so
//! whoever reads this file cannot use one.

use crate::{
    StoreError, StoreTransaction,
    statement::{SqlRow, sql_statement},
};

/// One session, or every session of a caller that began until `at`: one of the two is there. Times are milliseconds since
/// 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationRow {
    /// Grows with every revocation; the store sets it.
    pub number: i64,
    pub session: Option<String>,
    pub caller: Option<String>,
    pub revoked_at: i64,
    pub revoked_by: String,
    pub reason: String,
    /// When no credential of it can be good any more; none if that is not known.
    pub delete_after: Option<i64>,
}

/// A person who is signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginRow {
    /// SHA-256 of what the browser holds.
    pub id: Vec<u8>,
    /// The person's id.
    pub user_id: String,
    pub name: String,
    pub subject: String,
    /// JSON list of group names.
    pub group_names: String,
    /// When the groups were vouched for.
    pub groups_as_of: i64,
    pub created_at: i64,
    pub expires_at: i64,
}

/// Begins a query for whole revocations.
macro_rules! select_revocations {
    ($rest:literal) => {
        concat!("SELECT number, session, caller, at, revoked_by, reason, forget_after FROM revoked ", $rest)
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
    /// Adds a revocation; false if this session was revoked before, which stays as it is.
    pub async fn insert_revocation(&mut self, row: &RevocationRow) -> Result<bool, StoreError> {
        let done = sql_statement(
            "INSERT INTO revoked (session, caller, at, revoked_by, reason, forget_after) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (session) DO NOTHING",
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

    /// Revocations with a higher number, in their order.
    pub async fn revocations_after(&mut self, number: i64) -> Result<Vec<RevocationRow>, StoreError> {
        let rows = sql_statement(select_revocations!("WHERE number > $1 ORDER BY number"))
            .bind(number)
            .fetch_all(self)
            .await?;
        revocations_from_rows(&rows)
    }

    /// The first revocations that are not in the journal.
    pub async fn unjournaled_revocations(&mut self, most: i64) -> Result<Vec<RevocationRow>, StoreError> {
        let rows = sql_statement(select_revocations!("WHERE journaled = 0 ORDER BY number LIMIT $1"))
            .bind(most)
            .fetch_all(self)
            .await?;
        revocations_from_rows(&rows)
    }

    /// Notes that the journal holds it.
    pub async fn mark_revocation_journaled(&mut self, number: i64) -> Result<(), StoreError> {
        sql_statement("UPDATE revoked SET journaled = 1 WHERE number = $1")
            .bind(number)
            .execute(self)
            .await?;
        Ok(())
    }

    /// Forgets what is past its time, if the journal holds it.
    pub async fn delete_expired_revocations(&mut self, now: i64) -> Result<(), StoreError> {
        sql_statement("DELETE FROM revoked WHERE forget_after <= $1 AND journaled = 1")
            .bind(now)
            .execute(self)
            .await?;
        Ok(())
    }

    /// Adds a sign-in and forgets those that have ended; false if `most` others are there.
    pub async fn insert_login(&mut self, login: &LoginRow, most: i64) -> Result<bool, StoreError> {
        sql_statement("DELETE FROM login WHERE expires <= $1").bind(login.created_at).execute(self).await?;
        let others: i64 = sql_statement("SELECT count(*) FROM login").fetch_scalar(self).await?;
        if others >= most {
            return Ok(false);
        }
        sql_statement(
            "INSERT INTO login (id, person, name, subject, member_of, as_of, created, expires)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(&login.id)
        .bind(&login.user_id)
        .bind(&login.name)
        .bind(&login.subject)
        .bind(&login.group_names)
        .bind(login.groups_as_of)
        .bind(login.created_at)
        .bind(login.expires_at)
        .execute(self)
        .await?;
        Ok(true)
    }

    /// The sign-in, if it has not ended.
    pub async fn find_login(&mut self, id: &[u8], now: i64) -> Result<Option<LoginRow>, StoreError> {
        let row = sql_statement(
            "SELECT id, person, name, subject, member_of, as_of, created, expires FROM login
             WHERE id = $1 AND expires > $2",
        )
        .bind(id)
        .bind(now)
        .fetch_optional(self)
        .await?;
        row.map(|row| {
            Ok(LoginRow {
                id: row.get(0)?,
                user_id: row.get(1)?,
                name: row.get(2)?,
                subject: row.get(3)?,
                group_names: row.get(4)?,
                groups_as_of: row.get(5)?,
                created_at: row.get(6)?,
                expires_at: row.get(7)?,
            })
        })
        .transpose()
    }

    pub async fn delete_login(&mut self, id: &[u8]) -> Result<(), StoreError> {
        sql_statement("DELETE FROM login WHERE id = $1").bind(id).execute(self).await?;
        Ok(())
    }

    /// Signs a person out everywhere.
    pub async fn delete_logins_of_user(&mut self, person: &str) -> Result<(), StoreError> {
        sql_statement("DELETE FROM login WHERE person = $1").bind(person).execute(self).await?;
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

    fn login_row(id: u8, expires: i64) -> LoginRow {
        LoginRow {
            id: vec![id; 32],
            user_id: "corp/ann".to_owned(),
            name: "Ann".to_owned(),
            subject: "ann".to_owned(),
            group_names: "[\"oncall\"]".to_owned(),
            groups_as_of: 1,
            created_at: 5,
            expires_at: expires,
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
            assert!(write.insert_revocation(&bad).await.is_err(), "it must be one of the two");
            write.insert_revocation(&revocation_row(Some("s9"), None)).await.ok();
            assert!(write.commit().await.is_err(), "kept although a part of it failed");
        }
        let all = store.begin_read().await.unwrap().revocations_after(0).await.unwrap();
        assert_eq!(all.len(), 3);
        assert_eq!(all[0], RevocationRow { number: all[0].number, ..revocation_row(Some("s1"), None) });
        assert!(all.windows(2).all(|pair| pair[0].number < pair[1].number));
        assert_eq!(
            store.begin_read().await.unwrap().revocations_after(all[1].number).await.unwrap(),
            all[2..]
        );
        // Deleted rows do not give their numbers back: whoever remembers the last one misses nothing.
        let mut write = store.begin_write().await.unwrap();
        write.mark_revocation_journaled(all[2].number).await.unwrap();
        write.delete_expired_revocations(100).await.unwrap();
        write.insert_revocation(&revocation_row(Some("s3"), None)).await.unwrap();
        write.commit().await.unwrap();
        let newer = store.begin_read().await.unwrap().revocations_after(all[2].number).await.unwrap();
        assert_eq!(newer.iter().map(|row| row.session.as_deref()).collect::<Vec<_>>(), [Some("s3")]);
    }

    #[tokio::test]
    async fn what_the_journal_does_not_hold_is_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let store = testing::open_test_store(&dir.path().join("state.db")).await.unwrap();
        let mut write = store.begin_write().await.unwrap();
        let forever = RevocationRow { delete_after: None, ..revocation_row(Some("s3"), None) };
        for row in [revocation_row(Some("s1"), None), revocation_row(Some("s2"), None), forever] {
            write.insert_revocation(&row).await.unwrap();
        }
        let waiting = write.unjournaled_revocations(10).await.unwrap();
        assert_eq!(waiting.len(), 3);
        write.mark_revocation_journaled(waiting[0].number).await.unwrap();
        write.mark_revocation_journaled(waiting[2].number).await.unwrap();
        write.delete_expired_revocations(99).await.unwrap();
        assert_eq!(write.revocations_after(0).await.unwrap().len(), 3, "before its time");
        write.delete_expired_revocations(100).await.unwrap();
        let left = write.revocations_after(0).await.unwrap();
        assert_eq!(
            left.iter().map(|row| row.session.as_deref()).collect::<Vec<_>>(),
            [Some("s2"), Some("s3")]
        );
        assert_eq!(write.unjournaled_revocations(10).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_login_is_found_until_it_ends_and_there_are_only_so_many() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let store = testing::open_test_store(&path).await.unwrap();
        let mut write = store.begin_write().await.unwrap();
        assert!(write.insert_login(&login_row(1, 50), 2).await.unwrap());
        assert!(write.insert_login(&login_row(2, 50), 2).await.unwrap());
        assert!(!write.insert_login(&login_row(3, 50), 2).await.unwrap());
        write.commit().await.unwrap();
        store.close().await;
        let store = testing::open_test_store(&path).await.unwrap();
        let mut write = store.begin_write().await.unwrap();
        assert_eq!(write.find_login(&[1; 32], 49).await.unwrap(), Some(login_row(1, 50)));
        assert_eq!(write.find_login(&[1; 32], 50).await.unwrap(), None);
        write.delete_login(&[1; 32]).await.unwrap();
        assert_eq!(write.find_login(&[1; 32], 6).await.unwrap(), None);
        let late = LoginRow { created_at: 60, ..login_row(4, 90) };
        assert!(write.insert_login(&late, 1).await.unwrap(), "those that ended take no place");
        write.delete_logins_of_user("corp/ann").await.unwrap();
        assert_eq!(write.find_login(&[4; 32], 61).await.unwrap(), None);
    }
}

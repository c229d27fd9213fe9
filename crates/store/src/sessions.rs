//! Revoked sessions and the sign-ins of people, as rows. A sign-in is known by the SHA-256 of what the browser holds, so
//! whoever reads this file cannot use one.

use crate::{
    StoreError, Transaction,
    statement::{Row, statement},
};

/// One session, or every session of a caller that began until `at`: one of the two is there. Times are milliseconds since
/// 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedRow {
    /// Grows with every revocation; the store sets it.
    pub number: i64,
    pub session: Option<String>,
    pub caller: Option<String>,
    pub at: i64,
    pub revoked_by: String,
    pub reason: String,
    /// When no credential of it can be good any more; none if that is not known.
    pub forget_after: Option<i64>,
}

/// A person who is signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginRow {
    /// SHA-256 of what the browser holds.
    pub id: Vec<u8>,
    /// The person's id.
    pub person: String,
    pub name: String,
    pub subject: String,
    /// JSON list of group names.
    pub member_of: String,
    /// When the groups were vouched for.
    pub as_of: i64,
    pub created: i64,
    pub expires: i64,
}

/// Begins a query for whole revocations.
macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT number, session, caller, at, revoked_by, reason, forget_after FROM revoked ", $rest)
    };
}

fn read(row: &Row) -> Result<RevokedRow, StoreError> {
    Ok(RevokedRow {
        number: row.get(0)?,
        session: row.get(1)?,
        caller: row.get(2)?,
        at: row.get(3)?,
        revoked_by: row.get(4)?,
        reason: row.get(5)?,
        forget_after: row.get(6)?,
    })
}

fn read_all(rows: &[Row]) -> Result<Vec<RevokedRow>, StoreError> {
    rows.iter().map(read).collect()
}

impl Transaction {
    /// Adds a revocation; false if this session was revoked before, which stays as it is.
    pub async fn revoke(&mut self, row: &RevokedRow) -> Result<bool, StoreError> {
        let done = statement(
            "INSERT INTO revoked (session, caller, at, revoked_by, reason, forget_after) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (session) DO NOTHING",
        )
        .bind(&row.session)
        .bind(&row.caller)
        .bind(row.at)
        .bind(&row.revoked_by)
        .bind(&row.reason)
        .bind(row.forget_after)
        .execute(self)
        .await?;
        Ok(done > 0)
    }

    /// Revocations with a higher number, in their order.
    pub async fn revoked_after(&mut self, number: i64) -> Result<Vec<RevokedRow>, StoreError> {
        let rows = statement(select!("WHERE number > $1 ORDER BY number")).bind(number).all(self).await?;
        read_all(&rows)
    }

    /// The first revocations that are not in the journal.
    pub async fn unjournaled_revocations(&mut self, most: i64) -> Result<Vec<RevokedRow>, StoreError> {
        let rows =
            statement(select!("WHERE journaled = 0 ORDER BY number LIMIT $1")).bind(most).all(self).await?;
        read_all(&rows)
    }

    /// Notes that the journal holds it.
    pub async fn revocation_journaled(&mut self, number: i64) -> Result<(), StoreError> {
        statement("UPDATE revoked SET journaled = 1 WHERE number = $1").bind(number).execute(self).await?;
        Ok(())
    }

    /// Forgets what is past its time, if the journal holds it.
    pub async fn forget_revocations(&mut self, now: i64) -> Result<(), StoreError> {
        statement("DELETE FROM revoked WHERE forget_after <= $1 AND journaled = 1")
            .bind(now)
            .execute(self)
            .await?;
        Ok(())
    }

    /// Adds a sign-in and forgets those that have ended; false if `most` others are there.
    pub async fn begin_login(&mut self, login: &LoginRow, most: i64) -> Result<bool, StoreError> {
        statement("DELETE FROM login WHERE expires <= $1").bind(login.created).execute(self).await?;
        let others: i64 = statement("SELECT count(*) FROM login").scalar(self).await?;
        if others >= most {
            return Ok(false);
        }
        statement(
            "INSERT INTO login (id, person, name, subject, member_of, as_of, created, expires)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(&login.id)
        .bind(&login.person)
        .bind(&login.name)
        .bind(&login.subject)
        .bind(&login.member_of)
        .bind(login.as_of)
        .bind(login.created)
        .bind(login.expires)
        .execute(self)
        .await?;
        Ok(true)
    }

    /// The sign-in, if it has not ended.
    pub async fn login(&mut self, id: &[u8], now: i64) -> Result<Option<LoginRow>, StoreError> {
        let row = statement(
            "SELECT id, person, name, subject, member_of, as_of, created, expires FROM login
             WHERE id = $1 AND expires > $2",
        )
        .bind(id)
        .bind(now)
        .optional(self)
        .await?;
        row.map(|row| {
            Ok(LoginRow {
                id: row.get(0)?,
                person: row.get(1)?,
                name: row.get(2)?,
                subject: row.get(3)?,
                member_of: row.get(4)?,
                as_of: row.get(5)?,
                created: row.get(6)?,
                expires: row.get(7)?,
            })
        })
        .transpose()
    }

    pub async fn end_login(&mut self, id: &[u8]) -> Result<(), StoreError> {
        statement("DELETE FROM login WHERE id = $1").bind(id).execute(self).await?;
        Ok(())
    }

    /// Signs a person out everywhere.
    pub async fn end_logins_of(&mut self, person: &str) -> Result<(), StoreError> {
        statement("DELETE FROM login WHERE person = $1").bind(person).execute(self).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn row(session: Option<&str>, caller: Option<&str>) -> RevokedRow {
        RevokedRow {
            number: 0,
            session: session.map(str::to_owned),
            caller: caller.map(str::to_owned),
            at: 10,
            revoked_by: "corp/ann".to_owned(),
            reason: "lost laptop".to_owned(),
            forget_after: Some(100),
        }
    }

    fn login(id: u8, expires: i64) -> LoginRow {
        LoginRow {
            id: vec![id; 32],
            person: "corp/ann".to_owned(),
            name: "Ann".to_owned(),
            subject: "ann".to_owned(),
            member_of: "[\"oncall\"]".to_owned(),
            as_of: 1,
            created: 5,
            expires,
        }
    }

    #[tokio::test]
    async fn a_session_is_revoked_once_and_numbers_only_grow() {
        let dir = tempfile::tempdir().unwrap();
        let store = testing::open(&dir.path().join("state.db")).await.unwrap();
        let mut write = store.write().await.unwrap();
        assert!(write.revoke(&row(Some("s1"), None)).await.unwrap());
        let again = RevokedRow { reason: "other".to_owned(), ..row(Some("s1"), None) };
        assert!(!write.revoke(&again).await.unwrap());
        assert!(write.revoke(&row(None, Some("corp/a"))).await.unwrap());
        assert!(write.revoke(&row(None, Some("corp/a"))).await.unwrap());
        write.commit().await.unwrap();
        for bad in [row(Some("s2"), Some("corp/a")), row(None, None)] {
            let mut write = store.write().await.unwrap();
            assert!(write.revoke(&bad).await.is_err(), "it must be one of the two");
            write.revoke(&row(Some("s9"), None)).await.ok();
            assert!(write.commit().await.is_err(), "kept although a part of it failed");
        }
        let all = store.read().await.unwrap().revoked_after(0).await.unwrap();
        assert_eq!(all.len(), 3);
        assert_eq!(all[0], RevokedRow { number: all[0].number, ..row(Some("s1"), None) });
        assert!(all.windows(2).all(|pair| pair[0].number < pair[1].number));
        assert_eq!(store.read().await.unwrap().revoked_after(all[1].number).await.unwrap(), all[2..]);
        // Deleted rows do not give their numbers back: whoever remembers the last one misses nothing.
        let mut write = store.write().await.unwrap();
        write.revocation_journaled(all[2].number).await.unwrap();
        write.forget_revocations(100).await.unwrap();
        write.revoke(&row(Some("s3"), None)).await.unwrap();
        write.commit().await.unwrap();
        let newer = store.read().await.unwrap().revoked_after(all[2].number).await.unwrap();
        assert_eq!(newer.iter().map(|row| row.session.as_deref()).collect::<Vec<_>>(), [Some("s3")]);
    }

    #[tokio::test]
    async fn what_the_journal_does_not_hold_is_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let store = testing::open(&dir.path().join("state.db")).await.unwrap();
        let mut write = store.write().await.unwrap();
        let forever = RevokedRow { forget_after: None, ..row(Some("s3"), None) };
        for row in [row(Some("s1"), None), row(Some("s2"), None), forever] {
            write.revoke(&row).await.unwrap();
        }
        let waiting = write.unjournaled_revocations(10).await.unwrap();
        assert_eq!(waiting.len(), 3);
        write.revocation_journaled(waiting[0].number).await.unwrap();
        write.revocation_journaled(waiting[2].number).await.unwrap();
        write.forget_revocations(99).await.unwrap();
        assert_eq!(write.revoked_after(0).await.unwrap().len(), 3, "before its time");
        write.forget_revocations(100).await.unwrap();
        let left = write.revoked_after(0).await.unwrap();
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
        let store = testing::open(&path).await.unwrap();
        let mut write = store.write().await.unwrap();
        assert!(write.begin_login(&login(1, 50), 2).await.unwrap());
        assert!(write.begin_login(&login(2, 50), 2).await.unwrap());
        assert!(!write.begin_login(&login(3, 50), 2).await.unwrap());
        write.commit().await.unwrap();
        store.close().await;
        let store = testing::open(&path).await.unwrap();
        let mut write = store.write().await.unwrap();
        assert_eq!(write.login(&[1; 32], 49).await.unwrap(), Some(login(1, 50)));
        assert_eq!(write.login(&[1; 32], 50).await.unwrap(), None);
        write.end_login(&[1; 32]).await.unwrap();
        assert_eq!(write.login(&[1; 32], 6).await.unwrap(), None);
        let late = LoginRow { created: 60, ..login(4, 90) };
        assert!(write.begin_login(&late, 1).await.unwrap(), "those that ended take no place");
        write.end_logins_of("corp/ann").await.unwrap();
        assert_eq!(write.login(&[4; 32], 61).await.unwrap(), None);
    }
}

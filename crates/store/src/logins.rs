//! The console logins of people, as rows. A login is identified by the SHA-256 of the cookie that the browser holds, so a copy
//! of the database lets its reader use none.

use crate::{StoreError, StoreTransaction, statement::sql_statement};

/// One console login. Times are milliseconds since 1970, but for `groups_as_of`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginRow {
    /// SHA-256 of the cookie.
    pub id: Vec<u8>,
    /// The person's id.
    pub user_id: String,
    pub name: String,
    pub subject: String,
    /// JSON list of group names.
    pub group_names: String,
    /// When the identity provider asserted the groups, in seconds since 1970.
    pub groups_as_of: i64,
    pub created_at: i64,
    pub expires_at: i64,
}

impl StoreTransaction {
    /// Deletes the logins that have expired, then adds one. Returns false if there are `max_logins` others.
    pub async fn insert_login(&mut self, login: &LoginRow, max_logins: i64) -> Result<bool, StoreError> {
        sql_statement("DELETE FROM login WHERE expires_at <= $1")
            .bind(login.created_at)
            .execute(self)
            .await?;
        // The count holds until the commit, because writers exclude each other.
        let others: i64 = sql_statement("SELECT count(*) FROM login").fetch_scalar(self).await?;
        if others >= max_logins {
            return Ok(false);
        }
        sql_statement(
            "INSERT INTO login (id, user_id, name, subject, group_names, groups_as_of, created_at, expires_at)
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

    /// The login, if it has not expired.
    pub async fn find_login(&mut self, id: &[u8], now: i64) -> Result<Option<LoginRow>, StoreError> {
        let row = sql_statement(
            "SELECT id, user_id, name, subject, group_names, groups_as_of, created_at, expires_at FROM login
             WHERE id = $1 AND expires_at > $2",
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

    /// Deletes every login of a person.
    pub async fn delete_logins_of_user(&mut self, user_id: &str) -> Result<(), StoreError> {
        sql_statement("DELETE FROM login WHERE user_id = $1").bind(user_id).execute(self).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

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
    async fn a_login_is_found_until_it_expires_and_their_number_is_limited() {
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
        assert!(write.insert_login(&late, 1).await.unwrap(), "expired logins do not count");
        write.delete_logins_of_user("corp/ann").await.unwrap();
        assert_eq!(write.find_login(&[4; 32], 61).await.unwrap(), None);
    }
}

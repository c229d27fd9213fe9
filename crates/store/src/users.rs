//! The people who may vote, with the groups that they had when they were last seen.

use crate::{StoreError, StoreTransaction, statement::sql_statement};

/// A person as they were last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRow {
    pub id: String,
    pub name: String,
    pub subject: String,
    /// JSON list of group names.
    pub group_names: String,
    /// When the identity provider asserted the groups, in milliseconds since 1970.
    pub groups_as_of: i64,
}

impl StoreTransaction {
    pub async fn find_user(&mut self, id: &str) -> Result<Option<UserRow>, StoreError> {
        let row =
            sql_statement("SELECT id, name, subject, group_names, groups_as_of FROM app_user WHERE id = $1")
                .bind(id)
                .fetch_optional(self)
                .await?;
        row.map(|row| {
            Ok(UserRow {
                id: row.get(0)?,
                name: row.get(1)?,
                subject: row.get(2)?,
                group_names: row.get(3)?,
                groups_as_of: row.get(4)?,
            })
        })
        .transpose()
    }

    /// Replaces the row of the person, unless it is newer.
    pub async fn upsert_user(&mut self, user: &UserRow) -> Result<(), StoreError> {
        sql_statement(
            // Only newer groups replace the row: an old session must not bring back a membership that has ended since.
            "INSERT INTO app_user (id, name, subject, group_names, groups_as_of) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, subject = excluded.subject,
                group_names = excluded.group_names, groups_as_of = excluded.groups_as_of
             WHERE excluded.groups_as_of >= app_user.groups_as_of",
        )
        .bind(&user.id)
        .bind(&user.name)
        .bind(&user.subject)
        .bind(&user.group_names)
        .bind(user.groups_as_of)
        .execute(self)
        .await?;
        Ok(())
    }
}

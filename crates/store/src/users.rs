//! The people who may answer, with the groups they were last seen in.

use crate::{StoreError, StoreTransaction, statement::sql_statement};

/// A person as last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRow {
    pub id: String,
    pub name: String,
    pub subject: String,
    /// JSON list of group names.
    pub group_names: String,
    /// When the groups were vouched for, in milliseconds since 1970.
    pub groups_as_of: i64,
}

impl StoreTransaction {
    pub async fn find_user(&mut self, id: &str) -> Result<Option<UserRow>, StoreError> {
        let row = sql_statement("SELECT id, name, subject, member_of, seen FROM person WHERE id = $1")
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

    /// Replaces what was known of the person, unless that is newer.
    pub async fn upsert_user(&mut self, person: &UserRow) -> Result<(), StoreError> {
        sql_statement(
            "INSERT INTO person (id, name, subject, member_of, seen) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, subject = excluded.subject,
                member_of = excluded.member_of, seen = excluded.seen WHERE excluded.seen >= person.seen",
        )
        .bind(&person.id)
        .bind(&person.name)
        .bind(&person.subject)
        .bind(&person.group_names)
        .bind(person.groups_as_of)
        .execute(self)
        .await?;
        Ok(())
    }
}

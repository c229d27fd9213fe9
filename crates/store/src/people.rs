//! The people who may answer, with the groups they were last seen in.

use crate::{StoreError, Transaction, statement::statement};

/// A person as last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonRow {
    pub id: String,
    pub name: String,
    pub subject: String,
    /// JSON list of group names.
    pub member_of: String,
    /// When the groups were vouched for, in milliseconds since 1970.
    pub seen: i64,
}

impl Transaction {
    pub async fn person(&mut self, id: &str) -> Result<Option<PersonRow>, StoreError> {
        let row = statement("SELECT id, name, subject, member_of, seen FROM person WHERE id = $1")
            .bind(id)
            .optional(self)
            .await?;
        row.map(|row| {
            Ok(PersonRow {
                id: row.get(0)?,
                name: row.get(1)?,
                subject: row.get(2)?,
                member_of: row.get(3)?,
                seen: row.get(4)?,
            })
        })
        .transpose()
    }

    /// Replaces what was known of the person, unless that is newer.
    pub async fn put_person(&mut self, person: &PersonRow) -> Result<(), StoreError> {
        statement(
            "INSERT INTO person (id, name, subject, member_of, seen) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, subject = excluded.subject,
                member_of = excluded.member_of, seen = excluded.seen WHERE excluded.seen >= person.seen",
        )
        .bind(&person.id)
        .bind(&person.name)
        .bind(&person.subject)
        .bind(&person.member_of)
        .bind(person.seen)
        .execute(self)
        .await?;
        Ok(())
    }
}

//! The tables, by version. A version is applied whole, in one transaction, and never edited after a release.

use crate::StoreError;
use sqlx::SqlitePool;

/// Times are milliseconds since 1970 in UTC. `change` grows with every change of any ask, across processes.
const VERSIONS: [&str; 2] = [
    include_str!("schema/asks.sql"),
    concat!(
        include_str!("schema/journaled.sql"),
        include_str!("schema/deliveries.sql"),
        include_str!("schema/sessions.sql"),
        include_str!("schema/first_seen.sql"),
        "PRAGMA user_version = 2;"
    ),
];

/// Checks the file and brings it to this version.
pub(crate) async fn apply(pool: &SqlitePool) -> Result<(), StoreError> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let verdict: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut *transaction).await?;
    if verdict != "ok" {
        return Err(StoreError::Damaged(verdict));
    }
    let found: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *transaction).await?;
    let known = VERSIONS.len() as i64;
    let applied = usize::try_from(found).ok().filter(|applied| *applied <= VERSIONS.len());
    let Some(applied) = applied else {
        return Err(StoreError::Newer { found, known });
    };
    for version in VERSIONS.iter().skip(applied) {
        sqlx::raw_sql(*version).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}

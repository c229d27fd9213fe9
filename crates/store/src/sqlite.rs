//! The state of one machine: a file.

use crate::{DATABASE_TIMEOUT, MAX_READ_CONNECTIONS, StoreError};
use sqlx::{
    ConnectOptions as _, Sqlite, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{
    fs::{DirBuilder, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

#[derive(Debug, Clone)]
pub(crate) struct SqlitePools {
    writer: SqlitePool,
    readers: SqlitePool,
}

pub(crate) async fn open_pools(path: &Path) -> Result<SqlitePools, StoreError> {
    prepare_state_file(path).map_err(|source| StoreError::File { path: path.to_owned(), source })?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(DATABASE_TIMEOUT)
        // statements hold what agents wrote, and are of use to nobody who reads the log
        .disable_statement_logging();
    // one writer: writes of this process queue here, fairly, instead of failing with "database is locked"
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(DATABASE_TIMEOUT)
        .connect_with(options.clone())
        .await?;
    apply_migrations(&writer).await?;
    let readers = SqlitePoolOptions::new()
        .max_connections(MAX_READ_CONNECTIONS)
        .acquire_timeout(DATABASE_TIMEOUT)
        .connect_with(options.pragma("query_only", "ON"))
        .await?;
    Ok(SqlitePools { writer, readers })
}

impl SqlitePools {
    pub(crate) async fn begin_read(&self) -> Result<sqlx::Transaction<'static, Sqlite>, StoreError> {
        Ok(self.readers.begin().await?)
    }

    pub(crate) async fn begin_write(&self) -> Result<sqlx::Transaction<'static, Sqlite>, StoreError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// The tables, by version. A version is applied whole, in one transaction, and never edited after a release.
///
/// Times are milliseconds since 1970 in UTC. `change` grows with every change of any ask, across processes.
const MIGRATIONS: [&str; 2] = [
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
async fn apply_migrations(pool: &SqlitePool) -> Result<(), StoreError> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let verdict: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut *transaction).await?;
    if verdict != "ok" {
        return Err(StoreError::Corrupt(verdict));
    }
    let found: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *transaction).await?;
    let known = MIGRATIONS.len() as i64;
    let applied = usize::try_from(found).ok().filter(|applied| *applied <= MIGRATIONS.len());
    let Some(applied) = applied else {
        return Err(StoreError::NewerVersion { found, known });
    };
    for version in MIGRATIONS.iter().skip(applied) {
        sqlx::raw_sql(*version).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// Makes the directory and the file, or checks that the file is one that only this user can change or read.
fn prepare_state_file(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => Err(io::Error::other("it is not a regular file")),
        Ok(found) if found.permissions().mode() & 0o077 != 0 => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "other users can open it; run chmod 600 on it",
        )),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(directory) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            }
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            Ok(())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use crate::{Store, StoreTransaction, transaction::EngineTransaction};
    use sqlx::SqliteConnection;

    fn sqlite_connection(transaction: &mut StoreTransaction) -> &mut SqliteConnection {
        match transaction.engine_transaction() {
            EngineTransaction::Sqlite(at) => at,
            EngineTransaction::Postgres(_) => unreachable!("it is a file"),
        }
    }

    #[tokio::test]
    async fn what_version_one_recorded_is_not_recorded_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.db");
        let store = Store::open(&path).await.unwrap();
        let mut write = store.begin_write().await.unwrap();
        sqlx::raw_sql(
            "DROP INDEX ask_journaled; ALTER TABLE ask DROP COLUMN events; ALTER TABLE ask DROP COLUMN journaled;
             INSERT INTO ask VALUES ('1', 'used', 1, 2, 3, NULL, 0, 'c', 'b', 'n', x'07', 'a', '{}', '{}', '[]', '[1, 2]',
                1, 1, 1);",
        )
        .execute(sqlite_connection(&mut write))
        .await
        .unwrap();
        sqlx::raw_sql(include_str!("schema/journaled.sql"))
            .execute(sqlite_connection(&mut write))
            .await
            .unwrap();
        assert_eq!(write.find_approval_request("1").await.unwrap().unwrap().event_count, 2);
        assert_eq!(write.unjournaled_events(0, 10).await.unwrap(), []);
    }

    #[tokio::test]
    async fn every_commit_is_synced_to_a_log_that_readers_do_not_wait_for() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("s.db")).await.unwrap();
        let mut write = store.begin_write().await.unwrap();
        let mode: String =
            sqlx::query_scalar("PRAGMA journal_mode").fetch_one(sqlite_connection(&mut write)).await.unwrap();
        let synchronous: i64 =
            sqlx::query_scalar("PRAGMA synchronous").fetch_one(sqlite_connection(&mut write)).await.unwrap();
        assert_eq!((mode.as_str(), synchronous), ("wal", 2));
    }

    #[tokio::test]
    async fn a_state_of_a_newer_version_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.db");
        let store = Store::open(&path).await.unwrap();
        let mut write = store.begin_write().await.unwrap();
        sqlx::raw_sql("PRAGMA user_version = 99").execute(sqlite_connection(&mut write)).await.unwrap();
        write.commit().await.unwrap();
        store.close().await;
        let refused = Store::open(&path).await;
        assert!(
            matches!(refused, Err(crate::StoreError::NewerVersion { found: 99, known: 2 })),
            "{refused:?}"
        );
    }
}

//! The state of one gateway: a SQLite file that only its user can open.

use crate::{DATABASE_TIMEOUT, MAX_READ_CONNECTIONS, SCHEMA_VERSION, StoreError};
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
        // SQLite creates files that others can read under the usual umask; `prepare_state_file` has created this one for its user
        // alone.
        .create_if_missing(false)
        // In WAL mode readers do not block the writer, and the writer does not block readers (https://sqlite.org/wal.html).
        .journal_mode(SqliteJournalMode::Wal)
        // In WAL mode NORMAL would not sync the log at each commit: a power cut could lose a vote that was acknowledged
        // (https://sqlite.org/pragma.html#pragma_synchronous).
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(DATABASE_TIMEOUT)
        // Statements hold text that agents wrote, and say nothing that a reader of the log needs.
        .disable_statement_logging();
    // One writer: the writes of this process queue here, in order, instead of failing with "database is locked".
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(DATABASE_TIMEOUT)
        .connect_with(options.clone())
        .await?;
    create_tables(&writer).await?;
    let readers = SqlitePoolOptions::new()
        .max_connections(MAX_READ_CONNECTIONS)
        .acquire_timeout(DATABASE_TIMEOUT)
        // A statement that writes in a read transaction would bypass the one writer; it fails instead
        // (https://sqlite.org/pragma.html#pragma_query_only).
        .connect_with(options.pragma("query_only", "ON"))
        .await?;
    Ok(SqlitePools { writer, readers })
}

impl SqlitePools {
    pub(crate) async fn begin_read(&self) -> Result<sqlx::Transaction<'static, Sqlite>, StoreError> {
        Ok(self.readers.begin().await?)
    }

    pub(crate) async fn begin_write(&self) -> Result<sqlx::Transaction<'static, Sqlite>, StoreError> {
        // A deferred transaction that reads first and writes later fails with SQLITE_BUSY if another process wrote in between
        // (https://sqlite.org/lang_transaction.html).
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// The tables. The file ends by setting `PRAGMA user_version` to [`SCHEMA_VERSION`].
const SCHEMA: &str = include_str!("schema/sqlite.sql");

/// Checks the file, and creates the tables if it is new.
async fn create_tables(pool: &SqlitePool) -> Result<(), StoreError> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    // `quick_check` skips the comparison of indexes with tables, so a start takes time linear in the file
    // (https://sqlite.org/pragma.html#pragma_quick_check).
    let verdict: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut *transaction).await?;
    if verdict != "ok" {
        return Err(StoreError::Corrupt(verdict));
    }
    // A new file has version 0 (https://sqlite.org/pragma.html#pragma_user_version).
    let found: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *transaction).await?;
    match found {
        0 => sqlx::raw_sql(SCHEMA).execute(&mut *transaction).await?,
        SCHEMA_VERSION => return Ok(()),
        _ => return Err(StoreError::NewerVersion { found, known: SCHEMA_VERSION }),
    };
    transaction.commit().await?;
    Ok(())
}

/// Creates the directory and the file, or checks that the file is one that only this user can read or change.
fn prepare_state_file(path: &Path) -> io::Result<()> {
    // A link could point to a file that another user owns and reads.
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
            // `create_new` (O_EXCL): a file or link that somebody puts there between check and creation is an error and is not
            // used.
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            Ok(())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::SCHEMA;
    use crate::{Store, StoreTransaction, postgres, transaction::EngineTransaction};
    use sqlx::SqliteConnection;
    use std::collections::BTreeMap;

    /// The columns of each table of a schema file, with their constraints, in their order. Types and key clauses are written as
    /// in SQLite.
    fn tables(sql: &str) -> BTreeMap<String, Vec<String>> {
        let mut tables = BTreeMap::new();
        let lines: Vec<&str> = sql.lines().filter(|line| !line.starts_with("--")).collect();
        for statement in lines.join("\n").split(';') {
            let Some((name, columns)) =
                statement.trim().strip_prefix("CREATE TABLE ").and_then(|rest| rest.split_once(" (\n"))
            else {
                continue;
            };
            let column = |line: &str| {
                let line = line.trim().trim_end_matches(',');
                let line =
                    line.replace("BIGINT", "INTEGER").replace("BYTEA", "BLOB").replace(" COLLATE \"C\"", "");
                line.replace("GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "PRIMARY KEY AUTOINCREMENT")
            };
            // The key of `first_seen` is a primary key there and a unique index over hashes here.
            let columns = columns.lines().take_while(|line| line.starts_with("    ")).map(column);
            let columns = columns.filter(|column| !column.starts_with("PRIMARY KEY (caller"));
            tables.insert(name.to_owned(), columns.collect());
        }
        tables
    }

    #[test]
    fn both_engines_have_the_same_tables_and_columns() {
        let sqlite = tables(SCHEMA);
        assert_eq!(sqlite.len(), 8, "{sqlite:?}");
        assert!(sqlite.values().all(|columns| columns.len() >= 3), "{sqlite:?}");
        assert_eq!(sqlite, tables(postgres::SCHEMA));
    }

    fn sqlite_connection(transaction: &mut StoreTransaction) -> &mut SqliteConnection {
        match transaction.engine_transaction() {
            EngineTransaction::Sqlite(at) => at,
            EngineTransaction::Postgres(_) => unreachable!("the store is SQLite"),
        }
    }

    #[tokio::test]
    async fn every_commit_is_synced_and_readers_do_not_wait_for_writers() {
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
            matches!(refused, Err(crate::StoreError::NewerVersion { found: 99, known: 1 })),
            "{refused:?}"
        );
    }
}

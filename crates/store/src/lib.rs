//! State that survives a restart, in one SQLite file.
//!
//! All SQL of the product is in this room, behind typed functions, with every value bound as a parameter. Whoever cannot
//! read or write the state gets an error, never an empty answer.

mod asks;
mod deliveries;
mod error;
mod first_seen;
mod journaled;
mod people;
mod schema;
mod sessions;
mod transaction;

pub use asks::AskRow;
pub use deliveries::{ChannelRow, Delivered, DeliveryRow};
pub use error::StoreError;
pub use journaled::UnjournaledRow;
pub use people::PersonRow;
pub use sessions::{LoginRow, RevokedRow};
pub use transaction::Transaction;

use sqlx::{
    ConnectOptions as _, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{
    fs::{DirBuilder, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    time::Duration,
};

/// How long a write waits for another process, and a caller for a connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections that read at once. Readers do not wait for the writer (write-ahead log).
const READERS: u32 = 4;

/// The open state. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Store {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Store {
    /// Opens the state at `path`, or makes it, readable by this user alone.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        prepare(path).map_err(|source| StoreError::File { path: path.to_owned(), source })?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(PATIENCE)
            // statements hold what agents wrote, and are of use to nobody who reads the log
            .disable_statement_logging();
        // one writer: writes of this process queue here, fairly, instead of failing with "database is locked"
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(PATIENCE)
            .connect_with(options.clone())
            .await?;
        schema::apply(&writer).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(PATIENCE)
            .connect_with(options.pragma("query_only", "ON"))
            .await?;
        Ok(Self { writer, readers })
    }

    /// One consistent view. Writes fail in it.
    pub async fn read(&self) -> Result<Transaction, StoreError> {
        Ok(Transaction::new(self.readers.begin().await?))
    }

    /// Excludes every other writer, also of other processes, until it is committed or dropped.
    pub async fn write(&self) -> Result<Transaction, StoreError> {
        Ok(Transaction::new(self.writer.begin_with("BEGIN IMMEDIATE").await?))
    }

    /// Closes the file once all transactions have ended.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Makes the directory and the file, or checks that the file is one that only this user can change or read.
fn prepare(path: &Path) -> io::Result<()> {
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

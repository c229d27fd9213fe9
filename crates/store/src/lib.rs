//! State that survives a restart: in one SQLite file, or in a PostgreSQL database that several gateways share.
//!
//! Begin with [`Store`]: it opens the state and begins a [`StoreTransaction`], which has one typed function for each statement.
//! All SQL of the product is in this crate, and every value is bound as a parameter. A failure to read or write is an error,
//! never an empty result. What the rows mean is decided above: by `durward-approval`, `durward-notification`,
//! `durward-identity` and `durward-console`.

mod approval_requests;
mod deliveries;
mod error;
mod first_seen;
mod journal_cursor;
mod logins;
mod postgres;
mod revocations;
mod sqlite;
mod statement;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod transaction;
mod users;

pub use approval_requests::{ApprovalRequestRow, RequestOwner};
pub use deliveries::{ChannelRow, DeliveryOutcome, DeliveryRow};
pub use error::StoreError;
pub use journal_cursor::UnjournaledEventRow;
pub use logins::LoginRow;
pub use postgres::PostgresServer;
pub use revocations::RevocationRow;
pub use transaction::StoreTransaction;
pub use users::UserRow;

use std::{path::Path, sync::Arc, time::Duration};
use transaction::EngineTransaction;

/// The longest wait of a write for the lock of another process, and of a task for a connection. Shorter than the time after which
/// SDKs give up on a response (botocore: `read_timeout`, 60 s), so that a slow database is reported and not guessed at.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of connections that read at once. Readers do not wait for the writer.
const MAX_READ_CONNECTIONS: u32 = 4;

/// The version of the tables in `schema/`, as a database of either engine records it.
const SCHEMA_VERSION: i64 = 1;

/// The open state. A clone shares it.
#[derive(Debug, Clone)]
pub struct Store(EnginePools);

#[derive(Debug, Clone)]
enum EnginePools {
    Sqlite(sqlite::SqlitePools),
    Postgres(Arc<postgres::PostgresPools>),
}

impl Store {
    /// Opens the SQLite file at `path`, or creates it, readable by this user alone.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self(EnginePools::Sqlite(sqlite::open_pools(path).await?)))
    }

    /// Connects to a PostgreSQL database, and creates the tables if they are not there.
    pub async fn connect(server: &PostgresServer) -> Result<Self, StoreError> {
        Ok(Self(EnginePools::Postgres(Arc::new(Box::pin(postgres::open_pools(server)).await?))))
    }

    /// Begins a transaction that reads one consistent state. Writes fail in it.
    pub async fn begin_read(&self) -> Result<StoreTransaction, StoreError> {
        Ok(StoreTransaction::new(match &self.0 {
            EnginePools::Sqlite(pools) => EngineTransaction::Sqlite(pools.begin_read().await?),
            EnginePools::Postgres(pools) => EngineTransaction::Postgres(pools.begin_read().await?),
        }))
    }

    /// Begins a transaction that excludes every other writer, also of other processes, until it is committed or dropped.
    pub async fn begin_write(&self) -> Result<StoreTransaction, StoreError> {
        Ok(StoreTransaction::new(match &self.0 {
            EnginePools::Sqlite(pools) => EngineTransaction::Sqlite(pools.begin_write().await?),
            EnginePools::Postgres(pools) => EngineTransaction::Postgres(pools.begin_write().await?),
        }))
    }

    /// Closes the file or the connections when all transactions have ended.
    pub async fn close(&self) {
        match &self.0 {
            EnginePools::Sqlite(pools) => pools.close().await,
            EnginePools::Postgres(pools) => pools.close().await,
        }
    }
}

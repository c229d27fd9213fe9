//! State that survives a restart: in one SQLite file, or in PostgreSQL where several gateways share it.
//!
//! All SQL of the product is in this room, behind typed functions, with every value bound as a parameter. Whoever cannot
//! read or write the state gets an error, never an empty answer.

mod approval_requests;
mod deliveries;
mod error;
mod first_seen;
mod journal_cursor;
mod postgres;
mod sessions;
mod sqlite;
mod statement;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod transaction;
mod users;

pub use approval_requests::ApprovalRequestRow;
pub use deliveries::{ChannelRow, DeliveryOutcome, DeliveryRow};
pub use error::StoreError;
pub use journal_cursor::UnjournaledEventRow;
pub use postgres::PostgresServer;
pub use sessions::{LoginRow, RevocationRow};
pub use transaction::StoreTransaction;
pub use users::UserRow;

use std::{path::Path, sync::Arc, time::Duration};
use transaction::EngineTransaction;

/// How long a write waits for another process, and a caller for a connection.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that read at once. Readers do not wait for the writer.
const MAX_READ_CONNECTIONS: u32 = 4;

/// The open state. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Store(EnginePools);

#[derive(Debug, Clone)]
enum EnginePools {
    Sqlite(sqlite::SqlitePools),
    Postgres(Arc<postgres::PostgresPools>),
}

impl Store {
    /// Opens the state at `path`, or makes it, readable by this user alone.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self(EnginePools::Sqlite(sqlite::open_pools(path).await?)))
    }

    /// Opens the state in a database, or makes its tables there.
    pub async fn connect(server: &PostgresServer) -> Result<Self, StoreError> {
        Ok(Self(EnginePools::Postgres(Arc::new(Box::pin(postgres::open_pools(server)).await?))))
    }

    /// One consistent view. Writes fail in it.
    pub async fn begin_read(&self) -> Result<StoreTransaction, StoreError> {
        Ok(StoreTransaction::new(match &self.0 {
            EnginePools::Sqlite(pools) => EngineTransaction::Sqlite(pools.begin_read().await?),
            EnginePools::Postgres(pools) => EngineTransaction::Postgres(pools.begin_read().await?),
        }))
    }

    /// Excludes every other writer, also of other processes, until it is committed or dropped.
    pub async fn begin_write(&self) -> Result<StoreTransaction, StoreError> {
        Ok(StoreTransaction::new(match &self.0 {
            EnginePools::Sqlite(pools) => EngineTransaction::Sqlite(pools.begin_write().await?),
            EnginePools::Postgres(pools) => EngineTransaction::Postgres(pools.begin_write().await?),
        }))
    }

    /// Closes the file or the connections once all transactions have ended.
    pub async fn close(&self) {
        match &self.0 {
            EnginePools::Sqlite(pools) => pools.close().await,
            EnginePools::Postgres(pools) => pools.close().await,
        }
    }
}

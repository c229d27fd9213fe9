//! State that survives a restart: in one SQLite file, or in PostgreSQL where several gateways share it.
//!
//! All SQL of the product is in this room, behind typed functions, with every value bound as a parameter. Whoever cannot
//! read or write the state gets an error, never an empty answer.

mod asks;
mod deliveries;
mod error;
mod first_seen;
mod journaled;
mod people;
mod postgres;
mod sessions;
mod sqlite;
mod statement;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod transaction;

pub use asks::AskRow;
pub use deliveries::{ChannelRow, Delivered, DeliveryRow};
pub use error::StoreError;
pub use journaled::UnjournaledRow;
pub use people::PersonRow;
pub use postgres::Server;
pub use sessions::{LoginRow, RevokedRow};
pub use transaction::Transaction;

use std::{path::Path, sync::Arc, time::Duration};
use transaction::Engine;

/// How long a write waits for another process, and a caller for a connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections that read at once. Readers do not wait for the writer.
const READERS: u32 = 4;

/// The open state. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Store(Pools);

#[derive(Debug, Clone)]
enum Pools {
    Sqlite(sqlite::Pools),
    Postgres(Arc<postgres::Pools>),
}

impl Store {
    /// Opens the state at `path`, or makes it, readable by this user alone.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self(Pools::Sqlite(sqlite::open(path).await?)))
    }

    /// Opens the state in a database, or makes its tables there.
    pub async fn connect(server: &Server) -> Result<Self, StoreError> {
        Ok(Self(Pools::Postgres(Arc::new(Box::pin(postgres::open(server)).await?))))
    }

    /// One consistent view. Writes fail in it.
    pub async fn read(&self) -> Result<Transaction, StoreError> {
        Ok(Transaction::new(match &self.0 {
            Pools::Sqlite(pools) => Engine::Sqlite(pools.read().await?),
            Pools::Postgres(pools) => Engine::Postgres(pools.read().await?),
        }))
    }

    /// Excludes every other writer, also of other processes, until it is committed or dropped.
    pub async fn write(&self) -> Result<Transaction, StoreError> {
        Ok(Transaction::new(match &self.0 {
            Pools::Sqlite(pools) => Engine::Sqlite(pools.write().await?),
            Pools::Postgres(pools) => Engine::Postgres(pools.write().await?),
        }))
    }

    /// Closes the file or the connections once all transactions have ended.
    pub async fn close(&self) {
        match &self.0 {
            Pools::Sqlite(pools) => pools.close().await,
            Pools::Postgres(pools) => pools.close().await,
        }
    }
}

//! A transaction: its reads see one consistent state, and its writes are kept all together or not at all.

use crate::{StoreError, postgres::with_database_timeout};
use sqlx::{Postgres, Sqlite};

/// A transaction of either engine. If it is dropped without [`StoreTransaction::commit`], it is rolled back.
#[derive(Debug)]
pub struct StoreTransaction {
    engine: EngineTransaction,
    has_failed: bool,
}

#[derive(Debug)]
pub(crate) enum EngineTransaction {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

impl StoreTransaction {
    pub(crate) fn new(engine: EngineTransaction) -> Self {
        Self { engine, has_failed: false }
    }

    pub(crate) fn engine_transaction(&mut self) -> &mut EngineTransaction {
        &mut self.engine
    }

    /// Remembers that a statement failed, so that [`Self::commit`] does not report success.
    pub(crate) fn track_failure<T>(&mut self, result: Result<T, sqlx::Error>) -> Result<T, StoreError> {
        self.has_failed |= result.is_err();
        Ok(result?)
    }

    /// Commits, and returns when the transaction is on disk. It is an error if any statement failed: then nothing is kept. If the
    /// commit itself fails, as when a database does not respond, it may have been applied.
    pub async fn commit(self) -> Result<(), StoreError> {
        // PostgreSQL turns the COMMIT of a failed transaction into a rollback and reports no error (documentation of COMMIT).
        if self.has_failed {
            return Err(StoreError::Database("a statement of the transaction failed".to_owned()));
        }
        match self.engine {
            EngineTransaction::Sqlite(at) => at.commit().await?,
            EngineTransaction::Postgres(at) => with_database_timeout(at.commit()).await?,
        }
        Ok(())
    }
}

//! A transaction: what is read in it is one state, what is written in it is kept whole or not at all.

use crate::{StoreError, postgres::with_database_timeout};
use sqlx::{Postgres, Sqlite};

/// Dropped without [`Transaction::commit`], nothing of it happened.
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

    /// Takes note of a statement that failed.
    pub(crate) fn track_failure<T>(&mut self, result: Result<T, sqlx::Error>) -> Result<T, StoreError> {
        self.has_failed |= result.is_err();
        Ok(result?)
    }

    /// Returns once it is on disk. An error if any statement failed: nothing is kept. Where the error is that of the commit itself, as
    /// when a database does not answer, it may have been kept.
    pub async fn commit(self) -> Result<(), StoreError> {
        // PostgreSQL would answer such a COMMIT with a rollback and no error.
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

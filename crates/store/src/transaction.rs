//! A transaction: what is read in it is one state, what is written in it is kept whole or not at all.

use crate::StoreError;
use sqlx::{Sqlite, SqliteConnection};

/// Dropped without [`Transaction::commit`], nothing of it happened.
#[derive(Debug)]
pub struct Transaction(sqlx::Transaction<'static, Sqlite>);

impl Transaction {
    pub(crate) fn new(inner: sqlx::Transaction<'static, Sqlite>) -> Self {
        Self(inner)
    }

    pub(crate) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.0
    }

    /// Returns once it is on disk.
    pub async fn commit(self) -> Result<(), StoreError> {
        Ok(self.0.commit().await?)
    }
}

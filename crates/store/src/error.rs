//! Why the state could not be read or written. A failed transaction changed nothing, with one exception: a commit that got no
//! response may have been applied.

use crate::DATABASE_TIMEOUT;
use sqlx::postgres::PgDatabaseError;
use std::{io, path::PathBuf};

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot use the state file {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(
        "the state was written by a newer version of durward (schema {found}; this one knows {known}); upgrade this one"
    )]
    NewerVersion { found: i64, known: i64 },
    /// The file, or a value in it, is not as it was written.
    #[error("the state is corrupt: {0}; restore it from a backup or move it away")]
    Corrupt(String),
    /// There is no row with the id.
    #[error("it is not in the state")]
    NotFound,
    #[error("the state cannot be read or written: {0}")]
    Database(String),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let is_corruption = match &error {
            sqlx::Error::Database(inner) if inner.try_downcast_ref::<PgDatabaseError>().is_some() => {
                // data_corrupted and index_corrupted (PostgreSQL documentation, appendix A, "PostgreSQL Error Codes").
                inner.code().is_some_and(|code| ["XX001", "XX002"].contains(&code.as_ref()))
            }
            // The low byte of an extended result code is the primary one: 11 is SQLITE_CORRUPT, 26 is SQLITE_NOTADB
            // (https://sqlite.org/rescode.html).
            sqlx::Error::Database(inner) => {
                let code = inner.code().and_then(|code| code.parse::<u32>().ok());
                matches!(code.map(|code| code & 0xff), Some(11 | 26))
            }
            _ => false,
        };
        match error {
            _ if is_corruption => Self::Corrupt(error.to_string()),
            sqlx::Error::PoolTimedOut => {
                let waited = DATABASE_TIMEOUT.as_secs();
                Self::Database(format!(
                    "no connection in {waited} s: is the database up, does it respond, is its disk slow?"
                ))
            }
            // The message alone, without the position in the server's own source.
            sqlx::Error::Database(inner) => Self::Database(inner.message().to_owned()),
            _ => Self::Database(error.to_string()),
        }
    }
}

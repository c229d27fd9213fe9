//! Why the state could not be read or written. Nothing was changed, but perhaps by a commit that got no answer.

use crate::DATABASE_TIMEOUT;
use sqlx::postgres::PgDatabaseError;
use std::{io, path::PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot use the state file {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the state was written by a newer version ({found}; this one knows {known}); upgrade this one")]
    NewerVersion { found: i64, known: i64 },
    /// The file, or a value in it, is not what was written.
    #[error("the state is damaged: {0}; restore it from a backup or move it away")]
    Corrupt(String),
    /// What was asked for by id does not exist.
    #[error("it is not in the state")]
    NotFound,
    #[error("the state cannot be read or written: {0}")]
    Database(String),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let is_damage = match &error {
            sqlx::Error::Database(inner) if inner.try_downcast_ref::<PgDatabaseError>().is_some() => {
                // data_corrupted and index_corrupted (PostgreSQL, appendix A "Error Codes")
                inner.code().is_some_and(|code| ["XX001", "XX002"].contains(&code.as_ref()))
            }
            // the low byte of an extended code is the code: 11 SQLITE_CORRUPT, 26 SQLITE_NOTADB (sqlite.org/rescode.html)
            sqlx::Error::Database(inner) => {
                let code = inner.code().and_then(|code| code.parse::<u32>().ok());
                matches!(code.map(|code| code & 0xff), Some(11 | 26))
            }
            _ => false,
        };
        match error {
            _ if is_damage => Self::Corrupt(error.to_string()),
            sqlx::Error::PoolTimedOut => {
                let waited = DATABASE_TIMEOUT.as_secs();
                Self::Database(format!(
                    "no connection in {waited} s: is the database up, does it answer, is its disk slow?"
                ))
            }
            // without the line of the server's own source
            sqlx::Error::Database(inner) => Self::Database(inner.message().to_owned()),
            _ => Self::Database(error.to_string()),
        }
    }
}

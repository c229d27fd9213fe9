//! Why events of the store could not be copied into the journal. The copy is retried, so this only reaches the log.

use durward_approval::StoreError;
use durward_journal::JournalError;

#[derive(Debug, thiserror::Error)]
pub enum JournalCopyError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

//! The append-only, hash-linked record of what was asked, decided and answered.
//!
//! [`Journal`] appends with group commit: what `record_durable` acknowledged survives `kill -9` and a power cut.
//! [`read`] and [`verify`] go over the files without the gateway and never show a record whose place in the chain
//! they did not prove. The bytes on disk are described in `FORMAT.md`.

mod append_queue;
mod disk;
mod error;
pub mod history;
mod journal;
mod reader;
mod record;
mod segment_format;
#[cfg(test)]
mod testing;
mod writer;

pub use error::{CorruptionKind, JournalCorruption, JournalError};
pub use journal::{Journal, JournalOptions, RecoveredTail};
pub use reader::{
    JournalEntry, JournalReader, RecordPosition, UnfinishedTail, VerifiedJournal, journal_exists,
    read_journal, verify_journal,
};
pub use record::{Cause, ConsumedGrant, JournalRecord, MaskedCount};
pub use segment_format::MAX_RECORD_BYTES;

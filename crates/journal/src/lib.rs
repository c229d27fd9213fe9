//! The append-only, hash-linked record of every request, decision and outcome.
//!
//! - [`Journal`] appends with group commit. A record that [`Journal::append_durable`] acknowledged survives `kill -9` and a
//!   power cut.
//! - [`read_journal`] and [`verify_journal`] read the files, also while a gateway appends. They never return a record whose
//!   place in the chain they did not prove.
//! - [`history`] puts the records together to sessions, exchanges and their outcomes.
//!
//! Begin with [`JournalRecord`], which is what is recorded. `FORMAT.md` describes the bytes on disk. The values of a
//! record are masked before they come here: nothing in this crate looks into them.

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
pub use journal::{Journal, JournalOptions};
pub use reader::{
    JournalEntry, JournalReader, RecordPosition, UnfinishedTail, VerifiedJournal, journal_exists,
    read_journal, verify_journal,
};
pub use record::{Cause, JournalRecord, MaskedCount, OmittedParameters, UsedGrant};
pub use segment_format::MAX_RECORD_BYTES;

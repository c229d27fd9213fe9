//! The append-only, hash-linked record of what was asked, decided and answered.
//!
//! [`Journal`] appends with group commit: what `record_durable` acknowledged survives `kill -9` and a power cut.
//! [`read`] and [`verify`] go over the files without the gateway and never show a record whose place in the chain
//! they did not prove. The bytes on disk are described in `FORMAT.md`.

mod disk;
mod error;
mod format;
mod journal;
mod queue;
mod read;
mod record;
#[cfg(test)]
mod testing;
mod writer;

pub use error::{Broken, Damage, JournalError};
pub use format::MAX_RECORD;
pub use journal::{Journal, Options, Recovered};
pub use read::{Entry, Position, Reader, Tail, Verified, exists, read, verify};
pub use record::{LentScope, LinkTo, Masked, Record, UsedApproval};

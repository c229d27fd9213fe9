//! The errors of appending ([`JournalError`]) and of reading ([`JournalCorruption`]).
//!
//! They are cheap to clone: one failed write is reported to every task that waits for it.

use durward_core::{Refusal, RefusalReason};
use std::{fmt, io, path::PathBuf, sync::Arc};

/// Why a record was not appended. A caller that gets one must not go on as if it had been: no record, no request.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// Another process appends to this directory.
    #[error("{} is locked by another process: stop the other gateway, or give this one a data_dir of its own", dir.display())]
    Locked { dir: PathBuf },
    /// The journal on disk is corrupt, so nothing can be appended to it.
    #[error(
        "the journal cannot be continued: {0}; run `durward journal verify`, then move the journal aside or restore it"
    )]
    Corrupt(Box<JournalCorruption>),
    /// The disk is full. Later appends try again.
    #[error("no space for the journal in {}: free some; requests are refused until then ({source})", file.display())]
    DiskFull { file: PathBuf, source: Arc<io::Error> },
    /// The disk failed; nothing more is appended until the gateway is started again.
    #[error("cannot {action} {}: {source}; the journal takes no more records until the gateway is restarted", file.display())]
    DiskFailed { action: &'static str, file: PathBuf, source: Arc<io::Error> },
    /// The segment was deleted, moved or replaced while the gateway appended to it.
    #[error(
        "{} is not the file that the gateway appends to: it was deleted or replaced; the journal takes no more records until the \
         gateway is restarted", file.display()
    )]
    Replaced { file: PathBuf },
    /// The record is larger than [`crate::MAX_RECORD_BYTES`].
    #[error("a record of {bytes} bytes is larger than the {limit} that the journal takes", limit = crate::MAX_RECORD_BYTES)]
    RecordTooLarge { bytes: usize },
    /// The record has no JSON text.
    #[error("a record cannot be written as JSON: {reason}")]
    NotSerializable { reason: Arc<str> },
    /// The journal was closed.
    #[error("the journal is closed")]
    Closed,
}

impl JournalError {
    /// The refusal of the request that could not be recorded.
    pub fn refusal(&self) -> Refusal {
        let refusal = match self {
            Self::RecordTooLarge { .. } => Refusal::new(
                RefusalReason::TooLarge,
                "the request is too large to be recorded, so it was not made",
            ),
            _ => {
                Refusal::new(RefusalReason::Internal, "the request could not be recorded, so it was not made")
            }
        };
        refusal.with_detail(self)
    }

    pub(crate) fn disk_failed(action: &'static str, file: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::DiskFailed { action, file: file.into(), source: Arc::new(source) }
    }
}

/// The first position at which the journal is not as it was written.
#[derive(Debug, Clone)]
pub struct JournalCorruption {
    /// The file of the segment.
    pub file: PathBuf,
    /// The byte at which the frame or the header begins.
    pub offset: u64,
    /// The number of the record that should be there. The first record of a journal is number 1.
    pub record_number: u64,
    pub kind: CorruptionKind,
    /// The time in the record, if it can still be read. It is not proved.
    pub record_time: Option<String>,
    /// The time of the last record that is proved.
    pub last_good_time: Option<String>,
}

impl fmt::Display for JournalCorruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} at byte {}, record {}: {}",
            self.file.display(),
            self.offset,
            self.record_number,
            self.kind
        )
    }
}

impl std::error::Error for JournalCorruption {}

/// The kind of corruption.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CorruptionKind {
    #[error("the file cannot be read ({0})")]
    Unreadable(Arc<io::Error>),
    #[error("the file does not begin as a journal segment does")]
    NotASegment,
    #[error("the segment header was altered or damaged")]
    DamagedHeader,
    #[error("the segment has format version {0}, which this program does not know")]
    UnknownVersion(u32),
    #[error("the segment is missing")]
    MissingSegment,
    #[error("the file holds segment {0}: it was renamed or copied")]
    RenumberedSegment(u32),
    #[error(
        "the segment does not follow the one before it: records or segments were removed, reordered or replaced"
    )]
    Spliced,
    #[error("the segment ends inside a header or a record, although another segment follows")]
    Truncated,
    #[error("the frame's length was altered or damaged")]
    DamagedLength,
    #[error("the record was altered or damaged (its checksum does not match)")]
    ChecksumMismatch,
    #[error(
        "the record does not follow the one before it: it was altered, or records were removed, reordered or inserted"
    )]
    BrokenLink,
}

//! Reading and verifying, with or without a gateway that appends at the same time.
//!
//! The [`JournalReader`] proves each record's place in the chain before it returns the record, and stops at the first that it
//! cannot prove. An unfinished frame at the very end is no corruption: it is a write in progress, or one that a crash cut off.

use crate::{
    error::{CorruptionKind, JournalCorruption},
    record::{JournalRecord, record_time},
    segment_format::{
        self, FRAME_HEAD_BYTES, FRAME_LENGTH_BYTES, HashChain, HeaderError, SEGMENT_HEADER_BYTES, Sha256Hash,
    },
};
use durward_core::encode_hex;
use std::{
    fs::File,
    io::{self, BufReader, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The position of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordPosition {
    /// The number of the record. The first record of a journal is number 1.
    pub record_number: u64,
    /// The number of the segment, as in its file name.
    pub segment_number: u32,
    /// The byte of that file at which its frame begins.
    pub offset: u64,
}

/// A record as it was read, with its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    pub position: RecordPosition,
    /// The JSON text, byte for byte as it was written.
    pub json_text: Vec<u8>,
}

impl JournalEntry {
    /// When it was recorded: RFC 3339, UTC, microseconds.
    pub fn record_time(&self) -> Option<&str> {
        record_time(&self.json_text)
    }

    /// As [`Self::record_time`], as a time.
    pub fn recorded_at(&self) -> Option<OffsetDateTime> {
        OffsetDateTime::parse(self.record_time()?, &Rfc3339).ok()
    }

    /// Decodes the record. It is an error if a newer version wrote a type or a value that this one does not know.
    pub fn decode_record(&self) -> Result<JournalRecord, serde_json::Error> {
        serde_json::from_slice(&self.json_text)
    }
}

/// An unfinished frame (or segment header) at the end of the last segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedTail {
    pub file: PathBuf,
    /// The byte at which it begins.
    pub offset: u64,
    /// The number of its bytes in the file.
    pub bytes: u64,
}

/// The result of [`verify_journal`] for a journal that is as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedJournal {
    pub segment_count: u32,
    pub record_count: u64,
    /// Time of the first record.
    pub first_record_time: Option<String>,
    /// Time of the last record.
    pub last_record_time: Option<String>,
    /// The head of the chain: the last link, in lower-case hex. It stands for every record up to here. Whoever keeps it elsewhere
    /// can detect later that records were cut off at the end.
    pub head_link: String,
    pub tail: Option<UnfinishedTail>,
}

/// Reads the journal in `dir` from its first record.
pub fn read_journal(dir: &Path) -> JournalReader {
    match list_segment_numbers(dir) {
        Ok(numbers) => JournalReader::new(dir, numbers, None),
        Err(error) => {
            let corruption = JournalCorruption {
                file: dir.to_owned(),
                offset: 0,
                record_number: 1,
                kind: CorruptionKind::Unreadable(Arc::new(error)),
                record_time: None,
                last_good_time: None,
            };
            JournalReader::new(dir, Vec::new(), Some(corruption))
        }
    }
}

/// Returns true if there is a journal in `dir`. A journal whose segments were all removed is none.
pub fn journal_exists(dir: &Path) -> io::Result<bool> {
    list_segment_numbers(dir).map(|numbers| !numbers.is_empty())
}

/// Checks every byte of the journal in `dir`, or returns the first position at which it is not as it was written.
pub fn verify_journal(dir: &Path) -> Result<VerifiedJournal, JournalCorruption> {
    let mut reader = read_journal(dir);
    let mut first_record_time = None;
    let mut text = Vec::new();
    while reader.read_next(&mut text)?.is_some() {
        if first_record_time.is_none() {
            first_record_time.clone_from(&reader.last_good_time);
        }
    }
    Ok(VerifiedJournal {
        segment_count: reader.opened_count,
        record_count: reader.chain.record_count,
        first_record_time,
        last_record_time: reader.last_good_time,
        head_link: encode_hex(&reader.chain.link),
        tail: reader.tail,
    })
}

/// The records of a journal in order. After an error there are no more.
#[derive(Debug)]
pub struct JournalReader {
    dir: PathBuf,
    /// The segments that are not opened yet, in order.
    unopened_segments: std::vec::IntoIter<u32>,
    failure: Option<JournalCorruption>,
    current_segment: Option<SegmentReader>,
    opened_count: u32,
    chain: HashChain,
    last_good_time: Option<String>,
    tail: Option<UnfinishedTail>,
    is_done: bool,
}

impl JournalReader {
    fn new(dir: &Path, numbers: Vec<u32>, failure: Option<JournalCorruption>) -> Self {
        Self {
            dir: dir.to_owned(),
            unopened_segments: numbers.into_iter(),
            failure,
            current_segment: None,
            opened_count: 0,
            chain: HashChain::START,
            last_good_time: None,
            tail: None,
            is_done: false,
        }
    }

    /// The unfinished frame at the end, if there is one and the reader has reached it.
    pub fn tail(&self) -> Option<&UnfinishedTail> {
        self.tail.as_ref()
    }

    /// Reads the next record into `text`, reusing its memory.
    fn read_next(&mut self, text: &mut Vec<u8>) -> Result<Option<RecordPosition>, JournalCorruption> {
        if self.is_done {
            return Ok(None);
        }
        let result = self.next_position(text);
        match result {
            Ok(Some(_)) => {
                // The allocation is reused: a time always has 27 characters.
                let last_good_time = self.last_good_time.get_or_insert_default();
                last_good_time.clear();
                last_good_time.push_str(record_time(text).unwrap_or_default());
            }
            Ok(None) | Err(_) => self.is_done = true,
        }
        result.map_err(|corruption| JournalCorruption {
            last_good_time: self.last_good_time.clone(),
            ..corruption
        })
    }

    fn next_position(&mut self, text: &mut Vec<u8>) -> Result<Option<RecordPosition>, JournalCorruption> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        loop {
            if let Some(segment) = &mut self.current_segment {
                match segment.read_record(&mut self.chain, text)? {
                    ReadStep::Record(position) => return Ok(Some(position)),
                    ReadStep::End => self.current_segment = None,
                    ReadStep::Tail(tail) => {
                        self.tail = Some(tail);
                        return Ok(None);
                    }
                }
            }
            let Some(number) = self.unopened_segments.next() else { return Ok(None) };
            let expected = self.opened_count + 1;
            // A gap in the numbers is a removed segment. The chain would show it, too, but this error names the file.
            if number != expected {
                let file = self.dir.join(segment_format::segment_file_name(expected));
                return Err(corruption_at(&file, 0, self.chain, CorruptionKind::MissingSegment));
            }
            let last = self.unopened_segments.as_slice().is_empty();
            match SegmentReader::open(&self.dir, number, last, Some(self.chain))? {
                SegmentOpening::Segment(segment, _) => {
                    self.current_segment = Some(segment);
                    self.opened_count = number;
                }
                SegmentOpening::Tail(tail) => {
                    self.tail = Some(tail);
                    return Ok(None);
                }
            }
        }
    }
}

impl Iterator for JournalReader {
    type Item = Result<JournalEntry, JournalCorruption>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut text = Vec::new();
        self.read_next(&mut text)
            .map(|position| position.map(|position| JournalEntry { position, json_text: text }))
            .transpose()
    }
}

/// One segment being read, up to the length it had when it was opened.
#[derive(Debug)]
pub(crate) struct SegmentReader {
    file: BufReader<File>,
    path: PathBuf,
    number: u32,
    length: u64,
    offset: u64,
    is_last: bool,
}

pub(crate) enum SegmentOpening {
    /// The segment, and the chain that it continues.
    Segment(SegmentReader, HashChain),
    /// The last segment, which ends within its header.
    Tail(UnfinishedTail),
}

pub(crate) enum ReadStep {
    Record(RecordPosition),
    End,
    Tail(UnfinishedTail),
}

impl SegmentReader {
    /// Opens segment `number`. Only the last segment may be unfinished. If `expected` is `None`, the chain in its header is
    /// trusted.
    pub fn open(
        dir: &Path,
        number: u32,
        last: bool,
        expected: Option<HashChain>,
    ) -> Result<SegmentOpening, JournalCorruption> {
        let path = dir.join(segment_format::segment_file_name(number));
        let at = expected.unwrap_or(HashChain::START);
        let unreadable = |error| corruption_at(&path, 0, at, CorruptionKind::Unreadable(Arc::new(error)));
        let file = File::open(&path).map_err(unreadable)?;
        // The length is taken once: a gateway may append meanwhile, and the reader must end.
        let length = file.metadata().map_err(unreadable)?.len();
        let mut file = BufReader::with_capacity(256 << 10, file);
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        let is_cut_off = length < SEGMENT_HEADER_BYTES as u64;
        if !is_cut_off {
            file.read_exact(&mut bytes).map_err(unreadable)?;
        }
        // A header of zeros never reached the disk: the file's size was written before its data.
        if is_cut_off
            || (bytes == [0; SEGMENT_HEADER_BYTES]
                && last
                && remaining_bytes_are_zero(&mut file).map_err(unreadable)?)
        {
            if last {
                return Ok(SegmentOpening::Tail(UnfinishedTail { file: path, offset: 0, bytes: length }));
            }
            return Err(corruption_at(&path, 0, at, CorruptionKind::Truncated));
        }
        let (header_number, chain) = segment_format::decode_header(&bytes).map_err(|error| {
            let kind = match error {
                HeaderError::Magic => CorruptionKind::NotASegment,
                HeaderError::Checksum => CorruptionKind::DamagedHeader,
                HeaderError::Version(version) => CorruptionKind::UnknownVersion(version),
            };
            corruption_at(&path, 0, at, kind)
        })?;
        if header_number != number {
            return Err(corruption_at(&path, 0, at, CorruptionKind::RenumberedSegment(header_number)));
        }
        // The header repeats the head of the chain, so that a segment which is moved to another journal does not fit.
        if expected.is_some_and(|expected| expected != chain) {
            return Err(corruption_at(&path, 0, at, CorruptionKind::Spliced));
        }
        Ok(SegmentOpening::Segment(
            Self { file, path, number, length, offset: SEGMENT_HEADER_BYTES as u64, is_last: last },
            chain,
        ))
    }

    /// Reads and proves the next record.
    pub fn read_record(
        &mut self,
        chain: &mut HashChain,
        text: &mut Vec<u8>,
    ) -> Result<ReadStep, JournalCorruption> {
        let left = self.length.saturating_sub(self.offset);
        if left == 0 {
            return Ok(ReadStep::End);
        }
        if left < FRAME_LENGTH_BYTES as u64 {
            return self.unfinished_tail(*chain, left);
        }
        let mut length = [0; FRAME_LENGTH_BYTES];
        if let Err(error) = self.file.read_exact(&mut length) {
            return self.unreadable_error(*chain, left, error);
        }
        let Some(size) = segment_format::decode_frame_length(length) else {
            // Zeros to the end never reached the disk: the file's size was written before its data.
            if self.is_last && length == [0; FRAME_LENGTH_BYTES] {
                match remaining_bytes_are_zero(&mut self.file) {
                    Ok(true) => return self.unfinished_tail(*chain, left),
                    Ok(false) => {}
                    // A disk that cannot be read is not evidence of tampering.
                    Err(error) => return self.unreadable_error(*chain, left, error),
                }
            }
            return Err(corruption_at(&self.path, self.offset, *chain, CorruptionKind::DamagedLength));
        };
        let frame_bytes = (FRAME_HEAD_BYTES + size) as u64;
        if left < frame_bytes {
            return self.unfinished_tail(*chain, left);
        }
        let mut checksum = [0; 4];
        let mut link: Sha256Hash = [0; 32];
        text.clear();
        // At most `MAX_RECORD_BYTES`, and no more than is in the file: `size` was checked against both.
        text.resize(size, 0);
        for part in [&mut checksum[..], &mut link[..], &mut text[..]] {
            if let Err(error) = self.file.read_exact(part) {
                return self.unreadable_error(*chain, left, error);
            }
        }
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&link);
        hasher.update(text);
        let corruption = |kind| JournalCorruption {
            record_time: record_time(text).map(str::to_owned),
            ..corruption_at(&self.path, self.offset, *chain, kind)
        };
        // The checksum tells accidental damage from the rest. It proves nothing: an attacker computes it anew, but not the chain
        // after it.
        if hasher.finalize() != u32::from_le_bytes(checksum) {
            return Err(corruption(CorruptionKind::ChecksumMismatch));
        }
        let next = chain.with_leaf(&segment_format::leaf_hash(text));
        if next.link != link {
            return Err(corruption(CorruptionKind::BrokenLink));
        }
        *chain = next;
        let position = RecordPosition {
            record_number: next.record_count,
            segment_number: self.number,
            offset: self.offset,
        };
        self.offset += frame_bytes;
        Ok(ReadStep::Record(position))
    }

    /// The byte at which the next frame begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn unfinished_tail(&self, chain: HashChain, bytes: u64) -> Result<ReadStep, JournalCorruption> {
        if self.is_last {
            return Ok(ReadStep::Tail(UnfinishedTail {
                file: self.path.clone(),
                offset: self.offset,
                bytes,
            }));
        }
        Err(corruption_at(&self.path, self.offset, chain, CorruptionKind::Truncated))
    }

    fn unreadable_error(
        &self,
        chain: HashChain,
        left: u64,
        error: io::Error,
    ) -> Result<ReadStep, JournalCorruption> {
        // The writer truncates a partial batch when the disk is full: the file may be shorter now than when it was opened.
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return self.unfinished_tail(chain, left);
        }
        Err(corruption_at(&self.path, self.offset, chain, CorruptionKind::Unreadable(Arc::new(error))))
    }
}

/// The numbers of the segments in `dir`, in order.
pub(crate) fn list_segment_numbers(dir: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        if let Some(number) = entry?.file_name().to_str().and_then(segment_format::parse_segment_number) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn corruption_at(file: &Path, offset: u64, chain: HashChain, kind: CorruptionKind) -> JournalCorruption {
    JournalCorruption {
        file: file.to_owned(),
        offset,
        record_number: chain.record_count.saturating_add(1),
        kind,
        record_time: None,
        last_good_time: None,
    }
}

fn remaining_bytes_are_zero(file: &mut BufReader<File>) -> io::Result<bool> {
    let mut chunk = [0; 4096];
    loop {
        let count = file.read(&mut chunk)?;
        if count == 0 {
            return Ok(true);
        }
        if chunk[..count].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests;

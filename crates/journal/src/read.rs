//! Reading and verifying, with or without a gateway that appends at the same time.
//!
//! The [`Reader`] proves each record's place in the chain before it shows it, stops at the first that it cannot prove, and
//! takes an unfinished frame at the very end for what it is: a write in progress or one that was cut off.

use crate::{
    error::{Broken, Damage},
    format::{self, Chain, HEAD, HEADER, Hash, HeaderFault, LENGTH},
    record::{Record, time_of},
};
use std::{
    fs::File,
    io::{self, BufReader, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The record's number; the first of a journal is 1.
    pub record: u64,
    /// The number in the segment's file name.
    pub segment: u32,
    /// Where its frame begins in that file.
    pub offset: u64,
}

/// A record as it was read, in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub position: Position,
    /// The JSON text, byte for byte.
    pub text: Vec<u8>,
}

impl Entry {
    /// When it was recorded: RFC 3339, UTC, microseconds.
    pub fn time(&self) -> Option<&str> {
        time_of(&self.text)
    }

    /// The record itself; an error if a newer version wrote it.
    pub fn record(&self) -> Result<Record, serde_json::Error> {
        serde_json::from_slice(&self.text)
    }
}

/// An unfinished frame (or segment header) at the end of the last segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    pub file: PathBuf,
    /// Where it begins.
    pub offset: u64,
    /// How many bytes of it there are.
    pub bytes: u64,
}

/// What [`verify`] found in a journal that is as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    pub segments: u32,
    pub records: u64,
    /// Time of the first record.
    pub first: Option<String>,
    /// Time of the last record.
    pub last: Option<String>,
    /// The chain's head: the last link, in lower-case hex. It stands for every record up to here; keep it elsewhere
    /// to notice that records were cut off at the end.
    pub link: String,
    pub tail: Option<Tail>,
}

/// Reads the journal in `dir` from its first record.
pub fn read(dir: &Path) -> Reader {
    match segments(dir) {
        Ok(numbers) => Reader::new(dir, numbers, None),
        Err(error) => {
            let broken = Broken {
                file: dir.to_owned(),
                offset: 0,
                record: 1,
                what: Damage::Unreadable(Arc::new(error)),
                time: None,
                last_good: None,
            };
            Reader::new(dir, Vec::new(), Some(broken))
        }
    }
}

/// Whether there is a journal in `dir` at all. One of which every segment was removed is none.
pub fn exists(dir: &Path) -> io::Result<bool> {
    segments(dir).map(|numbers| !numbers.is_empty())
}

/// Checks every byte of the journal in `dir`, or names the first place where it is not what was written.
pub fn verify(dir: &Path) -> Result<Verified, Broken> {
    let mut reader = read(dir);
    let mut first = None;
    let mut text = Vec::new();
    while reader.advance(&mut text)?.is_some() {
        if first.is_none() {
            first.clone_from(&reader.last_good);
        }
    }
    Ok(Verified {
        segments: reader.opened,
        records: reader.chain.records,
        first,
        last: reader.last_good,
        link: hex(&reader.chain.link),
        tail: reader.tail,
    })
}

/// The records of a journal in order. After an error there are no more.
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    /// The segments not opened yet, in order.
    waiting: std::vec::IntoIter<u32>,
    failure: Option<Broken>,
    segment: Option<Segment>,
    opened: u32,
    chain: Chain,
    last_good: Option<String>,
    tail: Option<Tail>,
    done: bool,
}

impl Reader {
    fn new(dir: &Path, numbers: Vec<u32>, failure: Option<Broken>) -> Self {
        Self {
            dir: dir.to_owned(),
            waiting: numbers.into_iter(),
            failure,
            segment: None,
            opened: 0,
            chain: Chain::START,
            last_good: None,
            tail: None,
            done: false,
        }
    }

    /// The unfinished frame at the end, once the reader has come there.
    pub fn tail(&self) -> Option<&Tail> {
        self.tail.as_ref()
    }

    /// Reads the next record into `text`, reusing its memory.
    fn advance(&mut self, text: &mut Vec<u8>) -> Result<Option<Position>, Broken> {
        if self.done {
            return Ok(None);
        }
        let result = self.step(text);
        match result {
            Ok(Some(_)) => {
                // A time is 27 characters: the memory of the one before is used again.
                let last = self.last_good.get_or_insert_default();
                last.clear();
                last.push_str(time_of(text).unwrap_or_default());
            }
            Ok(None) | Err(_) => self.done = true,
        }
        result.map_err(|broken| Broken { last_good: self.last_good.clone(), ..broken })
    }

    fn step(&mut self, text: &mut Vec<u8>) -> Result<Option<Position>, Broken> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        loop {
            if let Some(segment) = &mut self.segment {
                match segment.step(&mut self.chain, text)? {
                    Step::Record(position) => return Ok(Some(position)),
                    Step::End => self.segment = None,
                    Step::Tail(tail) => {
                        self.tail = Some(tail);
                        return Ok(None);
                    }
                }
            }
            let Some(number) = self.waiting.next() else { return Ok(None) };
            let expected = self.opened + 1;
            if number != expected {
                let file = self.dir.join(format::file_name(expected));
                return Err(broken(&file, 0, self.chain, Damage::Missing));
            }
            let last = self.waiting.as_slice().is_empty();
            match Segment::open(&self.dir, number, last, Some(self.chain))? {
                Opened::Segment(segment, _) => {
                    self.segment = Some(segment);
                    self.opened = number;
                }
                Opened::Tail(tail) => {
                    self.tail = Some(tail);
                    return Ok(None);
                }
            }
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Entry, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut text = Vec::new();
        self.advance(&mut text).map(|position| position.map(|position| Entry { position, text })).transpose()
    }
}

/// One segment being read, up to the length it had when it was opened.
#[derive(Debug)]
pub(crate) struct Segment {
    file: BufReader<File>,
    path: PathBuf,
    number: u32,
    length: u64,
    offset: u64,
    last: bool,
}

pub(crate) enum Opened {
    /// The segment and the chain it continues.
    Segment(Segment, Chain),
    /// The last segment, cut off within its header.
    Tail(Tail),
}

pub(crate) enum Step {
    Record(Position),
    End,
    Tail(Tail),
}

impl Segment {
    /// Opens segment `number`. Only the `last` one may be unfinished. Without `expected` its header is believed.
    pub fn open(dir: &Path, number: u32, last: bool, expected: Option<Chain>) -> Result<Opened, Broken> {
        let path = dir.join(format::file_name(number));
        let at = expected.unwrap_or(Chain::START);
        let unreadable = |error| broken(&path, 0, at, Damage::Unreadable(Arc::new(error)));
        let file = File::open(&path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let mut file = BufReader::with_capacity(256 << 10, file);
        let mut bytes = [0; HEADER];
        let cut = length < HEADER as u64;
        if !cut {
            file.read_exact(&mut bytes).map_err(unreadable)?;
        }
        // A header of zeros is one whose data never reached the disk though the file's size did.
        if cut || (bytes == [0; HEADER] && last && rest_is_zero(&mut file).map_err(unreadable)?) {
            if last {
                return Ok(Opened::Tail(Tail { file: path, offset: 0, bytes: length }));
            }
            return Err(broken(&path, 0, at, Damage::Short));
        }
        let (held, chain) = format::read_header(&bytes).map_err(|fault| {
            let what = match fault {
                HeaderFault::Magic => Damage::NotASegment,
                HeaderFault::Checksum => Damage::Header,
                HeaderFault::Version(version) => Damage::Version(version),
            };
            broken(&path, 0, at, what)
        })?;
        if held != number {
            return Err(broken(&path, 0, at, Damage::Renumbered(held)));
        }
        if expected.is_some_and(|expected| expected != chain) {
            return Err(broken(&path, 0, at, Damage::Spliced));
        }
        Ok(Opened::Segment(Self { file, path, number, length, offset: HEADER as u64, last }, chain))
    }

    /// Reads and proves the next record.
    pub fn step(&mut self, chain: &mut Chain, text: &mut Vec<u8>) -> Result<Step, Broken> {
        let left = self.length.saturating_sub(self.offset);
        if left == 0 {
            return Ok(Step::End);
        }
        if left < LENGTH as u64 {
            return self.unfinished(*chain, left);
        }
        let mut length = [0; LENGTH];
        if let Err(error) = self.file.read_exact(&mut length) {
            return self.unreadable(*chain, left, error);
        }
        let Some(size) = format::read_length(length) else {
            // Zeros to the end: the file's size reached the disk before its data did.
            if self.last && length == [0; LENGTH] && rest_is_zero(&mut self.file).unwrap_or(false) {
                return self.unfinished(*chain, left);
            }
            return Err(broken(&self.path, self.offset, *chain, Damage::Length));
        };
        let whole = (HEAD + size) as u64;
        if left < whole {
            return self.unfinished(*chain, left);
        }
        let mut check = [0; 4];
        let mut link: Hash = [0; 32];
        text.clear();
        text.resize(size, 0);
        for part in [&mut check[..], &mut link[..], &mut text[..]] {
            if let Err(error) = self.file.read_exact(part) {
                return self.unreadable(*chain, left, error);
            }
        }
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&link);
        hasher.update(text);
        let damage = |what| Broken {
            time: time_of(text).map(str::to_owned),
            ..broken(&self.path, self.offset, *chain, what)
        };
        if hasher.finalize() != u32::from_le_bytes(check) {
            return Err(damage(Damage::Checksum));
        }
        let next = chain.then(&format::leaf_hash(text));
        if next.link != link {
            return Err(damage(Damage::Link));
        }
        *chain = next;
        let position = Position { record: next.records, segment: self.number, offset: self.offset };
        self.offset += whole;
        Ok(Step::Record(position))
    }

    /// Where the next frame begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn unfinished(&self, chain: Chain, bytes: u64) -> Result<Step, Broken> {
        if self.last {
            return Ok(Step::Tail(Tail { file: self.path.clone(), offset: self.offset, bytes }));
        }
        Err(broken(&self.path, self.offset, chain, Damage::Short))
    }

    fn unreadable(&self, chain: Chain, left: u64, error: io::Error) -> Result<Step, Broken> {
        // The writer takes an unfinished batch back when the disk is full: the file may be shorter now than it was.
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return self.unfinished(chain, left);
        }
        Err(broken(&self.path, self.offset, chain, Damage::Unreadable(Arc::new(error))))
    }
}

/// The numbers of the segments in `dir`, in order.
pub(crate) fn segments(dir: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        if let Some(number) = entry?.file_name().to_str().and_then(format::number_of) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn broken(file: &Path, offset: u64, chain: Chain, what: Damage) -> Broken {
    Broken {
        file: file.to_owned(),
        offset,
        record: chain.records.saturating_add(1),
        what,
        time: None,
        last_good: None,
    }
}

fn rest_is_zero(file: &mut BufReader<File>) -> io::Result<bool> {
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

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing to a String cannot fail.
        let _infallible = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests;

//! The one thread that writes: one write(2) per batch, one fdatasync(2) for all who wait.
//!
//! Nobody is answered before the sync that covers their record returned. A full disk takes the batch back and tries again with
//! the next append; any other failure ends the journal for good, because after a failed fsync nobody knows what the disk holds.

use crate::{
    disk::{Disk, SegmentFile},
    error::JournalError,
    format::{self, Chain, HEADER},
    queue::{Batch, Flusher, Queue, answer},
    read::Position,
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

/// How long records that nobody waits for may wait for space before they are tried again without a new append.
const RETRY: Duration = Duration::from_secs(1);

/// The segment that is being appended to.
pub(crate) struct Tip {
    pub file: Box<dyn SegmentFile>,
    pub path: PathBuf,
    pub number: u32,
    /// Where the next frame goes: the end of the last whole one.
    pub offset: u64,
    /// Up to where it is known to be on disk.
    pub synced: u64,
    /// There may be half a batch behind `offset`.
    pub dirty: bool,
}

pub(crate) struct Writer {
    pub queue: Arc<Queue>,
    pub disk: Box<dyn Disk>,
    pub dir: PathBuf,
    pub segment_bytes: u64,
    pub tip: Tip,
    pub chain: Chain,
}

/// Why a step failed.
enum Trouble {
    /// No space: it may come back.
    Full(JournalError),
    Fatal(JournalError),
}

/// Ends the queue however the thread ends, so that nobody waits for a thread that is gone.
struct Ending(Arc<Queue>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end(&JournalError::Closed);
    }
}

impl Writer {
    /// Writes until the queue is closed and empty, or the disk fails.
    pub fn run(mut self) -> Result<(), JournalError> {
        let _ending = Ending(Arc::clone(&self.queue));
        let mut batch = Batch::default();
        // Records nobody waits for that found the disk full.
        let mut kept = Batch::default();
        loop {
            let retry = (!kept.is_empty()).then(|| Instant::now() + RETRY);
            let taken = self.queue.take(&mut batch, retry);
            if !kept.is_empty() {
                kept.append(&mut batch);
                std::mem::swap(&mut kept, &mut batch);
            }
            let (charge, tried) = (batch.charge, !batch.is_empty());
            let result =
                self.write(&mut batch).and_then(|start| self.sync().map(|()| start).map_err(Trouble::Fatal));
            let end = match result {
                Ok(start) => {
                    if tried {
                        self.queue.set_full(false);
                    }
                    acknowledge(&mut batch, taken.flushers, start);
                    None
                }
                Err(Trouble::Full(error)) => {
                    self.queue.set_full(true);
                    batch.refuse_waiting(&error);
                    refuse(taken.flushers, &error);
                    std::mem::swap(&mut kept, &mut batch);
                    // What was written before the disk was full is not held up by what was not.
                    match self.sync() {
                        Ok(()) => taken.closing.then_some(error),
                        Err(error) => Some(error),
                    }
                }
                Err(Trouble::Fatal(error)) => {
                    // Before anybody hears of it: who was refused must find the journal refusing.
                    self.queue.end(&error);
                    batch.refuse_waiting(&error);
                    refuse(taken.flushers, &error);
                    Some(error)
                }
            };
            if let Some(error) = end {
                self.queue.end(&error);
                return Err(error);
            }
            batch.clear();
            self.queue.make_room(charge);
            if taken.closing {
                return Ok(());
            }
        }
    }

    /// Writes the batch behind the last good frame; where it starts.
    fn write(&mut self, batch: &mut Batch) -> Result<Position, Trouble> {
        if self.tip.dirty {
            self.take_back()?;
        }
        let length = batch.bytes.len() as u64;
        if self.tip.offset + length > self.segment_bytes && self.tip.offset > HEADER as u64 && length > 0 {
            self.rotate()?;
        }
        let start =
            Position { record: self.chain.records + 1, segment: self.tip.number, offset: self.tip.offset };
        let mut chain = self.chain;
        let mut rest = batch.bytes.as_mut_slice();
        for frame in &batch.frames {
            chain = chain.then(&frame.leaf);
            let Some((bytes, after)) = rest.split_at_mut_checked(frame.length) else { break };
            format::seal(bytes, &chain.link);
            rest = after;
        }
        if let Err(error) = append_all(&mut *self.tip.file, &batch.bytes) {
            self.tip.dirty = true;
            let trouble = trouble("write to", &self.tip.path, error);
            // Half a batch is taken back at once if that works, else before the next write or at the next start.
            if matches!(trouble, Trouble::Fatal(_)) {
                drop(self.tip.file.truncate(self.tip.offset));
            } else if let Err(Trouble::Fatal(error)) = self.take_back() {
                return Err(Trouble::Fatal(error));
            }
            return Err(trouble);
        }
        self.tip.offset += length;
        self.chain = chain;
        Ok(start)
    }

    fn take_back(&mut self) -> Result<(), Trouble> {
        self.tip
            .file
            .truncate(self.tip.offset)
            .map_err(|error| trouble("truncate", &self.tip.path, error))?;
        self.tip.dirty = false;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), JournalError> {
        if self.tip.synced == self.tip.offset {
            return Ok(());
        }
        if let Err(error) = self.tip.file.sync() {
            // What was not synced was acknowledged to nobody. Taken away, it cannot be read back from the page cache at the
            // next start and taken for durable. If this fails too, the chain still shows what is there.
            drop(self.tip.file.truncate(self.tip.synced));
            return Err(JournalError::failed("sync", &self.tip.path, error));
        }
        self.tip.synced = self.tip.offset;
        Ok(())
    }

    /// Goes on in a new segment.
    fn rotate(&mut self) -> Result<(), Trouble> {
        // The next sync is of the new file: this one must be whole first.
        self.sync().map_err(Trouble::Fatal)?;
        self.tip = begin(&mut *self.disk, &self.dir, self.tip.number + 1, &self.chain)?;
        Ok(())
    }
}

/// Makes segment `number`; its header and its name are durable when this returns.
fn begin(disk: &mut dyn Disk, dir: &Path, number: u32, chain: &Chain) -> Result<Tip, Trouble> {
    let path = dir.join(format::file_name(number));
    let mut file = disk.create(&path).map_err(|error| trouble("create", &path, error))?;
    if let Err(error) = append_all(&mut *file, &format::header(number, chain)) {
        // Without this the next attempt would find the name taken. If it fails, that attempt says so.
        drop(disk.remove(&path));
        return Err(trouble("write to", &path, error));
    }
    file.sync().map_err(|error| Trouble::Fatal(JournalError::failed("sync", &path, error)))?;
    disk.sync_names(dir).map_err(|error| Trouble::Fatal(JournalError::failed("sync", dir, error)))?;
    Ok(Tip { file, path, number, offset: HEADER as u64, synced: HEADER as u64, dirty: false })
}

/// The first segment of a journal, or one that takes the place of a header that was cut off.
pub(crate) fn begin_segment(
    disk: &mut dyn Disk,
    dir: &Path,
    number: u32,
    chain: &Chain,
) -> Result<Tip, JournalError> {
    begin(disk, dir, number, chain).map_err(|(Trouble::Full(error) | Trouble::Fatal(error))| error)
}

fn append_all(file: &mut dyn SegmentFile, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.append(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn trouble(doing: &'static str, path: &Path, error: io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Trouble::Full(JournalError::Full { file: path.to_owned(), source: Arc::new(error) })
        }
        _ => Trouble::Fatal(JournalError::failed(doing, path, error)),
    }
}

fn acknowledge(batch: &mut Batch, flushers: Vec<Flusher>, mut position: Position) {
    for frame in batch.frames.drain(..) {
        if let Some(waiter) = frame.waiter {
            answer(waiter, Ok(position));
        }
        position.record += 1;
        position.offset += frame.length as u64;
    }
    for flusher in flushers {
        answer(flusher, Ok(()));
    }
}

fn refuse(flushers: Vec<Flusher>, error: &JournalError) {
    for flusher in flushers {
        answer(flusher, Err(error.clone()));
    }
}

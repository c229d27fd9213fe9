//! The journal as the gateway uses it: open and recover, append, close.
//!
//! One process appends to a directory at a time; a lock file sees to it. Opening continues the chain where it ended, and cuts
//! off only what was never whole. Anything else that is wrong stops the gateway, for a person to look at.

use crate::{
    disk::{Disk, LocalDisk},
    error::{Broken, JournalError},
    format::{Chain, file_name},
    queue::Queue,
    read::{Opened, Position, Segment, Step, Tail, segments},
    record::{Record, encode},
    writer::{Tip, Writer, begin_segment},
};
use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};
use time::OffsetDateTime;
use tokio::sync::oneshot;

/// How a journal is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// A segment that would grow larger is ended and a new one begun.
    pub segment_bytes: u64,
    /// Bytes of records that may wait to be written before appends wait too.
    pub queue_bytes: usize,
    /// How long a record that nobody waits for may stay in memory before it is written and synced.
    pub sync_delay: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, queue_bytes: 8 << 20, sync_delay: Duration::from_millis(50) }
    }
}

/// What opening cut off: an append that a crash interrupted. It was acknowledged to nobody.
pub type Recovered = Tail;

/// The journal, open for appending. Share it in an `Arc`.
pub struct Journal {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<Result<(), JournalError>>>,
    recovered: Option<Recovered>,
    // Held until the thread has ended: fields are dropped after `Drop::drop`.
    _lock: File,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("recovered", &self.recovered).finish_non_exhaustive()
    }
}

impl Journal {
    /// Opens the journal in `dir`, making it if it is not there. Blocks while it reads the last segment.
    pub fn open(dir: &Path, options: Options) -> Result<Self, JournalError> {
        Self::open_on(Box::new(LocalDisk), dir, options)
    }

    pub(crate) fn open_on(
        mut disk: Box<dyn Disk>,
        dir: &Path,
        options: Options,
    ) -> Result<Self, JournalError> {
        make_dir(&mut *disk, dir)?;
        let lock = lock(dir)?;
        let (tip, chain, recovered) = recover(&mut *disk, dir)?;
        let queue = Arc::new(Queue::new(options.queue_bytes, options.sync_delay));
        let writer = Writer {
            queue: Arc::clone(&queue),
            disk,
            dir: dir.to_owned(),
            segment_bytes: options.segment_bytes,
            tip,
            chain,
        };
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| JournalError::failed("start a thread for", dir, error))?;
        Ok(Self { queue, thread: Some(thread), recovered, _lock: lock })
    }

    /// What opening had to cut off, for the log.
    pub fn recovered(&self) -> Option<&Recovered> {
        self.recovered.as_ref()
    }

    /// Appends and returns once the record is on disk. All who wait at the same time share one sync.
    /// If the caller stops waiting, the record is written all the same.
    pub async fn record_durable(&self, record: Record) -> Result<Position, JournalError> {
        let text = encode(&record, OffsetDateTime::now_utc())?;
        let (waiter, durable) = oneshot::channel();
        self.queue.push(&text, Some(waiter)).await?;
        // Whatever else is ready to run gets to push its record first: one sync then serves them all.
        tokio::task::yield_now().await;
        self.queue.press();
        durable.await.unwrap_or_else(|_gone| Err(self.queue.why_over()))
    }

    /// Appends and returns once the record is in the queue; it is durable with the next record that somebody
    /// waits for, or after [`Options::sync_delay`].
    /// While the disk is full it returns only when the record was written or refused.
    ///
    /// There is no position to return yet: a full disk may still refuse an earlier record of the queue.
    pub async fn record(&self, record: Record) -> Result<(), JournalError> {
        let text = encode(&record, OffsetDateTime::now_utc())?;
        self.queue.push(&text, None).await
    }

    /// Returns once every record accepted before the call is on disk.
    pub async fn flush(&self) -> Result<(), JournalError> {
        let (flusher, flushed) = oneshot::channel();
        self.queue.flush(flusher);
        flushed.await.unwrap_or_else(|_gone| Err(self.queue.why_over()))
    }

    /// Writes and syncs what was accepted and ends. Blocks for as long as the disk needs; dropping does the same without the answer.
    pub fn close(mut self) -> Result<(), JournalError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), JournalError> {
        self.queue.close();
        match self.thread.take() {
            Some(thread) => thread.join().unwrap_or(Err(JournalError::Closed)),
            None => Ok(()),
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // Whoever wants to know calls `close`.
        drop(self.end());
    }
}

fn make_dir(disk: &mut dyn Disk, dir: &Path) -> Result<(), JournalError> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| JournalError::failed("create", dir, error))?;
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    disk.sync_names(parent).map_err(|error| JournalError::failed("sync", parent, error))
}

fn lock(dir: &Path) -> Result<File, JournalError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| JournalError::failed("open", &path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(JournalError::failed("lock", &path, error)),
    }
}

/// Finds where to go on. Only the last segment is read: `verify` is for the others.
fn recover(disk: &mut dyn Disk, dir: &Path) -> Result<(Tip, Chain, Option<Recovered>), JournalError> {
    let numbers = segments(dir).map_err(|error| JournalError::failed("read", dir, error))?;
    let Some(&last) = numbers.last() else {
        return Ok((begin_segment(disk, dir, 1, &Chain::START)?, Chain::START, None));
    };
    let Some((chain, end, tail)) = walk(dir, last, true)? else { return restart(disk, dir, last) };
    let path = dir.join(file_name(last));
    let mut file = disk.open(&path).map_err(|error| JournalError::failed("open", &path, error))?;
    if tail.is_some() {
        file.truncate(end).map_err(|error| JournalError::failed("truncate", &path, error))?;
    }
    // What was read may so far be in memory only: a new record must not become durable before those it follows.
    file.sync().map_err(|error| JournalError::failed("sync", &path, error))?;
    disk.sync_names(dir).map_err(|error| JournalError::failed("sync", dir, error))?;
    Ok((Tip { file, path, number: last, offset: end, synced: end, dirty: false }, chain, tail))
}

/// Makes the last segment anew: its header was cut off, so there was never a record in it.
fn restart(
    disk: &mut dyn Disk,
    dir: &Path,
    number: u32,
) -> Result<(Tip, Chain, Option<Recovered>), JournalError> {
    let chain = match number.checked_sub(1).filter(|before| *before > 0) {
        None => Chain::START,
        // Not the last one, so it is whole or `walk` says that it is broken.
        Some(before) => walk(dir, before, false)?.map_or(Chain::START, |(chain, _, _)| chain),
    };
    let path = dir.join(file_name(number));
    let bytes = std::fs::metadata(&path).map_err(|error| JournalError::failed("read", &path, error))?.len();
    disk.remove(&path).map_err(|error| JournalError::failed("remove", &path, error))?;
    let tip = begin_segment(disk, dir, number, &chain)?;
    Ok((tip, chain, (bytes > 0).then_some(Recovered { file: path, offset: 0, bytes })))
}

type Walked = (Chain, u64, Option<Tail>);

/// The chain at the end of a segment, and where that end is; nothing if it is cut off within its header.
fn walk(dir: &Path, number: u32, last: bool) -> Result<Option<Walked>, JournalError> {
    let broken = |broken: Broken| JournalError::Broken(Box::new(broken));
    let Opened::Segment(mut segment, mut chain) = Segment::open(dir, number, last, None).map_err(broken)?
    else {
        return Ok(None);
    };
    let mut text = Vec::new();
    loop {
        match segment.step(&mut chain, &mut text).map_err(broken)? {
            Step::Record(_) => {}
            Step::End => return Ok(Some((chain, segment.offset(), None))),
            Step::Tail(tail) => return Ok(Some((chain, tail.offset, Some(tail)))),
        }
    }
}

#[cfg(test)]
mod tests;

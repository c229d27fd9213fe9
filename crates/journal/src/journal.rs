//! The journal as the gateway uses it: open and recover, append, close.
//!
//! One process appends to a directory at a time; a lock file sees to it. Opening continues the chain where it ended, and cuts
//! off only what was never whole. Anything else that is wrong stops the gateway, for a person to look at.

use crate::{
    append_queue::AppendQueue,
    disk::{LocalDisk, SegmentDisk},
    error::{JournalCorruption, JournalError},
    reader::{ReadStep, RecordPosition, SegmentOpening, SegmentReader, UnfinishedTail, list_segment_numbers},
    record::{JournalRecord, encode_record},
    segment_format::{HashChain, segment_file_name},
    writer::{JournalWriter, OpenSegment, create_initial_segment},
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
pub struct JournalOptions {
    /// A segment that would grow larger is ended and a new one begun.
    pub max_segment_bytes: u64,
    /// Bytes of records that may wait to be written before appends wait too.
    pub max_queue_bytes: usize,
    /// How long a record that nobody waits for may stay in memory before it is written and synced.
    pub sync_delay: Duration,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self { max_segment_bytes: 64 << 20, max_queue_bytes: 8 << 20, sync_delay: Duration::from_millis(50) }
    }
}

/// What opening cut off: an append that a crash interrupted. It was acknowledged to nobody.
pub type RecoveredTail = UnfinishedTail;

/// The journal, open for appending. Share it in an `Arc`.
pub struct Journal {
    queue: Arc<AppendQueue>,
    writer_thread: Option<JoinHandle<Result<(), JournalError>>>,
    recovered_tail: Option<RecoveredTail>,
    // Held until the thread has ended: fields are dropped after `Drop::drop`.
    _lock_file: File,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("recovered", &self.recovered_tail).finish_non_exhaustive()
    }
}

impl Journal {
    /// Opens the journal in `dir`, making it if it is not there. Blocks while it reads the last segment.
    pub fn open(dir: &Path, options: JournalOptions) -> Result<Self, JournalError> {
        Self::open_on_disk(Box::new(LocalDisk), dir, options)
    }

    pub(crate) fn open_on_disk(
        mut disk: Box<dyn SegmentDisk>,
        dir: &Path,
        options: JournalOptions,
    ) -> Result<Self, JournalError> {
        create_journal_directory(&mut *disk, dir)?;
        let lock = lock_directory(dir)?;
        let (tip, chain, recovered) = recover_last_segment(&mut *disk, dir)?;
        let queue = Arc::new(AppendQueue::new(options.max_queue_bytes, options.sync_delay));
        let writer = JournalWriter {
            queue: Arc::clone(&queue),
            disk,
            dir: dir.to_owned(),
            max_segment_bytes: options.max_segment_bytes,
            open_segment: tip,
            chain,
        };
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| JournalError::disk_failed("start a thread for", dir, error))?;
        Ok(Self { queue, writer_thread: Some(thread), recovered_tail: recovered, _lock_file: lock })
    }

    /// What opening had to cut off, for the log.
    pub fn recovered_tail(&self) -> Option<&RecoveredTail> {
        self.recovered_tail.as_ref()
    }

    /// Appends and returns once the record is on disk. All who wait at the same time share one sync.
    /// If the caller stops waiting, the record is written all the same.
    pub async fn append_durable(&self, record: JournalRecord) -> Result<RecordPosition, JournalError> {
        let text = encode_record(&record, OffsetDateTime::now_utc())?;
        let (waiter, durable) = oneshot::channel();
        self.queue.push(&text, Some(waiter)).await?;
        // Whatever else is ready to run gets to push its record first: one sync then serves them all.
        tokio::task::yield_now().await;
        self.queue.wake_writer();
        durable.await.unwrap_or_else(|_gone| Err(self.queue.close_error()))
    }

    /// Appends and returns once the record is in the queue; it is durable with the next record that somebody
    /// waits for, or after [`Options::sync_delay`].
    /// While the disk is full it returns only when the record was written or refused.
    ///
    /// There is no position to return yet: a full disk may still refuse an earlier record of the queue.
    pub async fn append(&self, record: JournalRecord) -> Result<(), JournalError> {
        let text = encode_record(&record, OffsetDateTime::now_utc())?;
        self.queue.push(&text, None).await
    }

    /// Returns once every record accepted before the call is on disk.
    pub async fn flush(&self) -> Result<(), JournalError> {
        let (flusher, flushed) = oneshot::channel();
        self.queue.flush(flusher);
        flushed.await.unwrap_or_else(|_gone| Err(self.queue.close_error()))
    }

    /// Writes and syncs what was accepted and ends. Blocks for as long as the disk needs; dropping does the same without the answer.
    pub fn close(mut self) -> Result<(), JournalError> {
        self.shut_down()
    }

    fn shut_down(&mut self) -> Result<(), JournalError> {
        self.queue.close();
        match self.writer_thread.take() {
            Some(thread) => thread.join().unwrap_or(Err(JournalError::Closed)),
            None => Ok(()),
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // Whoever wants to know calls `close`.
        drop(self.shut_down());
    }
}

fn create_journal_directory(disk: &mut dyn SegmentDisk, dir: &Path) -> Result<(), JournalError> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| JournalError::disk_failed("create", dir, error))?;
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    disk.sync_directory(parent).map_err(|error| JournalError::disk_failed("sync", parent, error))
}

fn lock_directory(dir: &Path) -> Result<File, JournalError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| JournalError::disk_failed("open", &path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(JournalError::disk_failed("lock", &path, error)),
    }
}

/// Finds where to go on. Only the last segment is read: `verify` is for the others.
fn recover_last_segment(
    disk: &mut dyn SegmentDisk,
    dir: &Path,
) -> Result<(OpenSegment, HashChain, Option<RecoveredTail>), JournalError> {
    let numbers = list_segment_numbers(dir).map_err(|error| JournalError::disk_failed("read", dir, error))?;
    let Some(&last) = numbers.last() else {
        return Ok((create_initial_segment(disk, dir, 1, &HashChain::START)?, HashChain::START, None));
    };
    let Some((chain, end, tail)) = scan_segment(dir, last, true)? else {
        return recreate_last_segment(disk, dir, last);
    };
    let path = dir.join(segment_file_name(last));
    let mut file =
        disk.open_segment(&path).map_err(|error| JournalError::disk_failed("open", &path, error))?;
    if tail.is_some() {
        file.truncate(end).map_err(|error| JournalError::disk_failed("truncate", &path, error))?;
    }
    // What was read may so far be in memory only: a new record must not become durable before those it follows.
    file.sync().map_err(|error| JournalError::disk_failed("sync", &path, error))?;
    disk.sync_directory(dir).map_err(|error| JournalError::disk_failed("sync", dir, error))?;
    Ok((
        OpenSegment {
            file,
            path,
            segment_number: last,
            write_offset: end,
            synced_offset: end,
            has_partial_write: false,
        },
        chain,
        tail,
    ))
}

/// Makes the last segment anew: its header was cut off, so there was never a record in it.
fn recreate_last_segment(
    disk: &mut dyn SegmentDisk,
    dir: &Path,
    number: u32,
) -> Result<(OpenSegment, HashChain, Option<RecoveredTail>), JournalError> {
    let chain = match number.checked_sub(1).filter(|before| *before > 0) {
        None => HashChain::START,
        // Not the last one, so it is whole or `walk` says that it is broken.
        Some(before) => scan_segment(dir, before, false)?.map_or(HashChain::START, |(chain, _, _)| chain),
    };
    let path = dir.join(segment_file_name(number));
    let bytes =
        std::fs::metadata(&path).map_err(|error| JournalError::disk_failed("read", &path, error))?.len();
    disk.remove_segment(&path).map_err(|error| JournalError::disk_failed("remove", &path, error))?;
    let tip = create_initial_segment(disk, dir, number, &chain)?;
    Ok((tip, chain, (bytes > 0).then_some(RecoveredTail { file: path, offset: 0, bytes })))
}

type SegmentEnd = (HashChain, u64, Option<UnfinishedTail>);

/// The chain at the end of a segment, and where that end is; nothing if it is cut off within its header.
fn scan_segment(dir: &Path, number: u32, last: bool) -> Result<Option<SegmentEnd>, JournalError> {
    let broken = |broken: JournalCorruption| JournalError::Corrupt(Box::new(broken));
    let SegmentOpening::Segment(mut segment, mut chain) =
        SegmentReader::open(dir, number, last, None).map_err(broken)?
    else {
        return Ok(None);
    };
    let mut text = Vec::new();
    loop {
        match segment.read_record(&mut chain, &mut text).map_err(broken)? {
            ReadStep::Record(_) => {}
            ReadStep::End => return Ok(Some((chain, segment.offset(), None))),
            ReadStep::Tail(tail) => return Ok(Some((chain, tail.offset, Some(tail)))),
        }
    }
}

#[cfg(test)]
mod tests;

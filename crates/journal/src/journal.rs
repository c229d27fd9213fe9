//! The journal as the gateway uses it: open and recover, append, close.
//!
//! One process appends to a directory at a time: it holds a lock file. Opening reads the last segment, continues its chain, and
//! cuts off only an append that was never whole. Any other corruption of the last segment is an error that stops the gateway.
//! Nothing is repaired here, and the earlier segments are left to [`verify_journal`](crate::verify_journal).

use crate::{
    append_queue::AppendQueue,
    disk::{LocalDisk, SegmentDisk},
    error::{JournalCorruption, JournalError},
    reader::{ReadStep, RecordPosition, SegmentOpening, SegmentReader, UnfinishedTail, list_segment_numbers},
    record::{JournalRecord, encode_record},
    segment_format::{HashChain, segment_file_name},
    writer::{JournalWriter, OpenSegment, create_initial_segment},
};
use durward_core::limits;
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

/// The limits of a journal.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// A segment that would grow larger is ended, and a new one begins.
    pub max_segment_bytes: u64,
    /// The bytes of records that may wait to be written. Then appends wait too.
    pub max_queue_bytes: usize,
    /// The time for which a record without a waiter may stay in memory before it is written and synced.
    pub sync_delay: Duration,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            max_segment_bytes: limits::MAX_JOURNAL_SEGMENT_BYTES,
            max_queue_bytes: limits::MAX_JOURNAL_QUEUE_BYTES,
            sync_delay: limits::JOURNAL_SYNC_DELAY,
        }
    }
}

/// The journal, open for appending. Share it in an `Arc`.
pub struct Journal {
    queue: Arc<AppendQueue>,
    writer_thread: Option<JoinHandle<Result<(), JournalError>>>,
    recovered_tail: Option<UnfinishedTail>,
    // Held until the thread has ended: fields are dropped after `Drop::drop` has joined it.
    _lock_file: File,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("recovered_tail", &self.recovered_tail).finish_non_exhaustive()
    }
}

impl Journal {
    /// Opens the journal in `dir`, and creates it if it is not there. Blocks while it reads the last segment.
    pub fn open(dir: &Path, options: JournalOptions) -> Result<Self, JournalError> {
        Self::open_on_disk(Box::new(LocalDisk::default()), dir, options)
    }

    pub(crate) fn open_on_disk(
        mut disk: Box<dyn SegmentDisk>,
        dir: &Path,
        options: JournalOptions,
    ) -> Result<Self, JournalError> {
        create_journal_directory(&mut *disk, dir)?;
        let lock_file = lock_directory(dir)?;
        // After the lock: another gateway may be appending to the segment, and its unfinished frame would be cut off.
        let (open_segment, chain, recovered_tail) = recover_last_segment(&mut *disk, dir)?;
        let queue = Arc::new(AppendQueue::new(options.max_queue_bytes, options.sync_delay));
        let writer = JournalWriter {
            queue: Arc::clone(&queue),
            disk,
            dir: dir.to_owned(),
            max_segment_bytes: options.max_segment_bytes,
            open_segment,
            chain,
        };
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| JournalError::disk_failed("start a thread for", dir, error))?;
        Ok(Self { queue, writer_thread: Some(thread), recovered_tail, _lock_file: lock_file })
    }

    /// The append that opening cut off, if a crash had interrupted one. It was never acknowledged.
    pub fn recovered_tail(&self) -> Option<&UnfinishedTail> {
        self.recovered_tail.as_ref()
    }

    /// Appends, and returns when the record is on disk. All tasks that wait at the same time share one sync. If the caller stops
    /// waiting, the record is written nevertheless.
    pub async fn append_durable(&self, record: JournalRecord) -> Result<RecordPosition, JournalError> {
        let text = encode_record(&record, OffsetDateTime::now_utc())?;
        let (waiter, durable) = oneshot::channel();
        self.queue.push(&text, Some(waiter)).await?;
        // Other tasks that are ready push their records first, so that one sync serves them all.
        tokio::task::yield_now().await;
        self.queue.wake_writer();
        durable.await.unwrap_or_else(|_gone| Err(self.queue.close_error()))
    }

    /// Appends, and returns when the record is in the queue. It becomes durable with the next record that has a waiter, or after
    /// [`JournalOptions::sync_delay`]. While the disk is full, this returns only when the record is written or refused.
    ///
    /// There is no position to return yet: a full disk may still refuse an earlier record of the queue.
    pub async fn append(&self, record: JournalRecord) -> Result<(), JournalError> {
        let text = encode_record(&record, OffsetDateTime::now_utc())?;
        self.queue.push(&text, None).await
    }

    /// Returns when every record that was accepted before the call is on disk.
    pub async fn flush(&self) -> Result<(), JournalError> {
        let (flusher, flushed) = oneshot::channel();
        self.queue.flush(flusher);
        flushed.await.unwrap_or_else(|_gone| Err(self.queue.close_error()))
    }

    /// Writes and syncs every accepted record, then ends. Blocks for as long as the disk needs. Dropping the journal does the same
    /// without a result.
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
        // A caller that needs the result calls `close`.
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
    // A power cut could otherwise lose the directory with every record in it (fsync(2): the directory needs a sync of its own).
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
    // A lock of the kernel ends with the process, also by `kill -9`; a file with a process id would outlive it.
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(JournalError::disk_failed("lock", &path, error)),
    }
}

/// Finds the end of the chain. Only the last segment is read: a start must not take longer with every year of records.
fn recover_last_segment(
    disk: &mut dyn SegmentDisk,
    dir: &Path,
) -> Result<(OpenSegment, HashChain, Option<UnfinishedTail>), JournalError> {
    let numbers = list_segment_numbers(dir).map_err(|error| JournalError::disk_failed("read", dir, error))?;
    let Some(&last) = numbers.last() else {
        return Ok((create_initial_segment(disk, dir, 1, &HashChain::START)?, HashChain::START, None));
    };
    let Some(SegmentEnd { chain, offset, tail }) = scan_segment(dir, last, true)? else {
        return recreate_last_segment(disk, dir, last);
    };
    let path = dir.join(segment_file_name(last));
    let mut file =
        disk.open_segment(&path).map_err(|error| JournalError::disk_failed("open", &path, error))?;
    if tail.is_some() {
        // The tail was never acknowledged. Left in place, it would make the next frame unreadable.
        file.truncate(offset).map_err(|error| JournalError::disk_failed("truncate", &path, error))?;
    }
    // The records that were read may be in the page cache only. A new record must not become durable before those it follows.
    file.sync().map_err(|error| JournalError::disk_failed("sync", &path, error))?;
    disk.sync_directory(dir).map_err(|error| JournalError::disk_failed("sync", dir, error))?;
    Ok((
        OpenSegment {
            file,
            path,
            segment_number: last,
            write_offset: offset,
            synced_offset: offset,
            has_partial_write: false,
        },
        chain,
        tail,
    ))
}

/// Creates the last segment anew: its header was cut off, so there was never a record in it.
fn recreate_last_segment(
    disk: &mut dyn SegmentDisk,
    dir: &Path,
    number: u32,
) -> Result<(OpenSegment, HashChain, Option<UnfinishedTail>), JournalError> {
    let chain = match number.checked_sub(1).filter(|before| *before > 0) {
        None => HashChain::START,
        // It is not the last segment, so it is whole or `scan_segment` returns an error.
        Some(before) => scan_segment(dir, before, false)?.map_or(HashChain::START, |end| end.chain),
    };
    let path = dir.join(segment_file_name(number));
    let bytes =
        std::fs::metadata(&path).map_err(|error| JournalError::disk_failed("read", &path, error))?.len();
    // Removed and created anew, because segments are opened to append: a header cannot be written over the old one.
    disk.remove_segment(&path).map_err(|error| JournalError::disk_failed("remove", &path, error))?;
    let open_segment = create_initial_segment(disk, dir, number, &chain)?;
    Ok((open_segment, chain, (bytes > 0).then_some(UnfinishedTail { file: path, offset: 0, bytes })))
}

/// The end of a segment.
struct SegmentEnd {
    chain: HashChain,
    /// The byte after the last whole frame.
    offset: u64,
    tail: Option<UnfinishedTail>,
}

/// Reads a segment to its end. `None` if it is cut off within its header.
fn scan_segment(dir: &Path, number: u32, is_last: bool) -> Result<Option<SegmentEnd>, JournalError> {
    let corrupt = |corruption: JournalCorruption| JournalError::Corrupt(Box::new(corruption));
    let SegmentOpening::Segment(mut segment, mut chain) =
        SegmentReader::open(dir, number, is_last, None).map_err(corrupt)?
    else {
        return Ok(None);
    };
    let mut text = Vec::new();
    loop {
        match segment.read_record(&mut chain, &mut text).map_err(corrupt)? {
            ReadStep::Record(_) => {}
            ReadStep::End => return Ok(Some(SegmentEnd { chain, offset: segment.offset(), tail: None })),
            ReadStep::Tail(tail) => {
                return Ok(Some(SegmentEnd { chain, offset: tail.offset, tail: Some(tail) }));
            }
        }
    }
}

#[cfg(test)]
mod tests;

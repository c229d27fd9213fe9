//! The one thread that writes: one write(2) for each batch, one fdatasync(2) for all tasks that wait.
//!
//! No task gets its result before the sync that covers its record has returned. If the disk is full, the batch is truncated and
//! the next append tries again. Any other failure closes the journal. After a failed fsync the kernel marks the dirty pages
//! clean, so that a second fsync would succeed without the data (fsync(2), EIO; PostgreSQL wiki, "Fsync Errors").

use crate::{
    append_queue::{AppendQueue, FlushSender, WriteBatch, send_result},
    disk::{SegmentDisk, SegmentFile},
    error::JournalError,
    reader::RecordPosition,
    segment_format::{self, HashChain, SEGMENT_HEADER_BYTES},
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

/// The time for which records without a waiter wait for space before they are written again without a new append.
const DISK_FULL_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The segment that the writer appends to.
pub(crate) struct OpenSegment {
    pub file: Box<dyn SegmentFile>,
    pub path: PathBuf,
    pub segment_number: u32,
    /// The byte at which the next frame begins: the end of the last whole frame.
    pub write_offset: u64,
    /// The byte up to which the file is known to be on disk.
    pub synced_offset: u64,
    /// A part of a batch may be in the file after `write_offset`.
    pub has_partial_write: bool,
}

pub(crate) struct JournalWriter {
    pub queue: Arc<AppendQueue>,
    pub disk: Box<dyn SegmentDisk>,
    pub dir: PathBuf,
    pub max_segment_bytes: u64,
    pub open_segment: OpenSegment,
    pub chain: HashChain,
}

/// Why a write failed.
enum WriteFailure {
    /// The disk is full. There may be space again later.
    DiskFull(JournalError),
    /// The process or the machine has no file descriptor left. What is open can still be written.
    NoDescriptor(JournalError),
    Fatal(JournalError),
}

/// Closes the queue however the thread ends, so that no task waits for a thread that is gone.
struct CloseQueueOnDrop(Arc<AppendQueue>);

impl Drop for CloseQueueOnDrop {
    fn drop(&mut self) {
        self.0.close_with_error(&JournalError::Closed);
    }
}

impl JournalWriter {
    /// Writes until the queue is closed and empty, or the disk fails.
    pub fn run(mut self) -> Result<(), JournalError> {
        let _ending = CloseQueueOnDrop(Arc::clone(&self.queue));
        let mut batch = WriteBatch::default();
        // Records without a waiter that found the disk full.
        let mut kept = WriteBatch::default();
        loop {
            let retry = (!kept.is_empty()).then(|| Instant::now() + DISK_FULL_RETRY_INTERVAL);
            let drained = self.queue.drain_batch(&mut batch, retry);
            if !kept.is_empty() {
                kept.append(&mut batch);
                std::mem::swap(&mut kept, &mut batch);
            }
            let (reserved_bytes, has_frames) = (batch.reserved_bytes, !batch.is_empty());
            let result = self
                .write_batch(&mut batch)
                .and_then(|start| self.sync_segment().map(|()| start).map_err(WriteFailure::Fatal));
            let end = match result {
                Ok(start) => {
                    if has_frames {
                        self.queue.set_disk_full(false);
                    }
                    // Only here, after the sync: a task that is told earlier would send its request without a durable intent.
                    acknowledge_batch(&mut batch, drained.flush_senders, start);
                    None
                }
                Err(WriteFailure::DiskFull(error)) => {
                    self.queue.set_disk_full(true);
                    batch.refuse_waiters(&error);
                    refuse_flushes(drained.flush_senders, &error);
                    std::mem::swap(&mut kept, &mut batch);
                    // Records that were written before the disk was full must not wait for those that were not.
                    match self.sync_segment() {
                        Ok(()) => drained.is_closing.then_some(error),
                        Err(error) => Some(error),
                    }
                }
                // Only a rotation opens files, and it goes on without a descriptor.
                Err(WriteFailure::NoDescriptor(error) | WriteFailure::Fatal(error)) => {
                    // The queue closes first: a task that is refused must not find a journal that still takes records.
                    self.queue.close_with_error(&error);
                    batch.refuse_waiters(&error);
                    refuse_flushes(drained.flush_senders, &error);
                    Some(error)
                }
            };
            if let Some(error) = end {
                self.queue.close_with_error(&error);
                return Err(error);
            }
            batch.clear();
            self.queue.release_capacity(reserved_bytes);
            if drained.is_closing {
                return Ok(());
            }
        }
    }

    /// Writes the batch after the last whole frame, and returns the position of its first record.
    fn write_batch(&mut self, batch: &mut WriteBatch) -> Result<RecordPosition, WriteFailure> {
        if self.open_segment.has_partial_write {
            self.truncate_partial_write()?;
        }
        let length = batch.bytes.len() as u64;
        if self.open_segment.write_offset + length > self.max_segment_bytes
            && self.open_segment.write_offset > SEGMENT_HEADER_BYTES as u64
            && length > 0
        {
            match self.rotate_segment() {
                // The segment grows beyond its size until a descriptor is free: clients that hold all of them must not end the
                // record, and with it every request.
                Ok(()) | Err(WriteFailure::NoDescriptor(_)) => {}
                Err(failure) => return Err(failure),
            }
        }
        let start = RecordPosition {
            record_number: self.chain.record_count + 1,
            segment_number: self.open_segment.segment_number,
            offset: self.open_segment.write_offset,
        };
        // A copy, which replaces the chain only after the write: a batch that the disk refused has no place in it.
        let mut chain = self.chain;
        let mut rest = batch.bytes.as_mut_slice();
        for frame in &batch.frames {
            chain = chain.with_leaf(&frame.leaf_hash);
            let Some((bytes, after)) = rest.split_at_mut_checked(frame.length) else { break };
            segment_format::seal_frame(bytes, &chain.link);
            rest = after;
        }
        if let Err(error) = append_all(&mut *self.open_segment.file, &batch.bytes) {
            self.open_segment.has_partial_write = true;
            let failure = classify_io_error("write to", &self.open_segment.path, error);
            // A partial batch is truncated now or, if that fails, before the next write or at the next start.
            if matches!(failure, WriteFailure::Fatal(_)) {
                drop(self.open_segment.file.truncate(self.open_segment.write_offset));
            } else if let Err(WriteFailure::Fatal(error)) = self.truncate_partial_write() {
                return Err(WriteFailure::Fatal(error));
            }
            return Err(failure);
        }
        self.open_segment.write_offset += length;
        self.chain = chain;
        Ok(start)
    }

    fn truncate_partial_write(&mut self) -> Result<(), WriteFailure> {
        self.open_segment
            .file
            .truncate(self.open_segment.write_offset)
            .map_err(|error| classify_io_error("truncate", &self.open_segment.path, error))?;
        self.open_segment.has_partial_write = false;
        Ok(())
    }

    fn sync_segment(&mut self) -> Result<(), JournalError> {
        // A flush of an empty batch needs no sync: each costs from 0.1 ms to several milliseconds (docs/adr/0008).
        if self.open_segment.synced_offset == self.open_segment.write_offset {
            return Ok(());
        }
        if let Err(error) = self.open_segment.file.sync() {
            // Frames that are not synced were not acknowledged. They are truncated, so that the next start cannot read them from
            // the page cache and take them for durable. If this fails too, they are a valid continuation of the chain.
            drop(self.open_segment.file.truncate(self.open_segment.synced_offset));
            return Err(JournalError::disk_failed("sync", &self.open_segment.path, error));
        }
        // Before anyone is told that a record is durable: a file without its name would be lost at the next start.
        let path = &self.open_segment.path;
        let is_in_place = self
            .open_segment
            .file
            .is_at(path)
            .map_err(|error| JournalError::disk_failed("check", path, error))?;
        if !is_in_place {
            return Err(JournalError::Replaced { file: path.clone() });
        }
        self.open_segment.synced_offset = self.open_segment.write_offset;
        Ok(())
    }

    /// Continues in a new segment.
    fn rotate_segment(&mut self) -> Result<(), WriteFailure> {
        // The next sync is of the new file, so this one is synced before.
        self.sync_segment().map_err(WriteFailure::Fatal)?;
        self.open_segment =
            create_segment(&mut *self.disk, &self.dir, self.open_segment.segment_number + 1, &self.chain)?;
        Ok(())
    }
}

/// Creates segment `number`. Its header and its name are durable when this returns.
fn create_segment(
    disk: &mut dyn SegmentDisk,
    dir: &Path,
    number: u32,
    chain: &HashChain,
) -> Result<OpenSegment, WriteFailure> {
    let path = dir.join(segment_format::segment_file_name(number));
    let mut file = disk.create_segment(&path).map_err(|error| classify_io_error("create", &path, error))?;
    if let Err(error) = append_all(&mut *file, &segment_format::encode_header(number, chain)) {
        // Otherwise the next attempt would find the name in use. If this fails, that attempt returns the error.
        drop(disk.remove_segment(&path));
        return Err(classify_io_error("write to", &path, error));
    }
    file.sync().map_err(|error| WriteFailure::Fatal(JournalError::disk_failed("sync", &path, error)))?;
    disk.sync_directory(dir)
        .map_err(|error| WriteFailure::Fatal(JournalError::disk_failed("sync", dir, error)))?;
    Ok(OpenSegment {
        file,
        path,
        segment_number: number,
        write_offset: SEGMENT_HEADER_BYTES as u64,
        synced_offset: SEGMENT_HEADER_BYTES as u64,
        has_partial_write: false,
    })
}

/// Creates the first segment of a journal, or the replacement of one whose header was cut off.
pub(crate) fn create_initial_segment(
    disk: &mut dyn SegmentDisk,
    dir: &Path,
    number: u32,
    chain: &HashChain,
) -> Result<OpenSegment, JournalError> {
    create_segment(disk, dir, number, chain).map_err(
        |(WriteFailure::DiskFull(error) | WriteFailure::NoDescriptor(error) | WriteFailure::Fatal(error))| {
            error
        },
    )
}

fn append_all(file: &mut dyn SegmentFile, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.append(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            // A signal interrupted the call before any byte was written (write(2), EINTR).
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// "Too many open files" in the process and on the machine: open(2). The numbers are the same on Linux and macOS, and the standard
/// library has no stable name for them.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

fn classify_io_error(action: &'static str, path: &Path, error: io::Error) -> WriteFailure {
    if matches!(error.raw_os_error(), Some(EMFILE | ENFILE)) {
        return WriteFailure::NoDescriptor(JournalError::disk_failed(action, path, error));
    }
    match error.kind() {
        // Nothing of the data is lost by these: unlike other errors of the disk, they end when somebody frees space.
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            WriteFailure::DiskFull(JournalError::DiskFull { file: path.to_owned(), source: Arc::new(error) })
        }
        _ => WriteFailure::Fatal(JournalError::disk_failed(action, path, error)),
    }
}

fn acknowledge_batch(batch: &mut WriteBatch, flush_senders: Vec<FlushSender>, mut position: RecordPosition) {
    for frame in batch.frames.drain(..) {
        if let Some(waiter) = frame.durable_sender {
            send_result(waiter, Ok(position));
        }
        position.record_number += 1;
        position.offset += frame.length as u64;
    }
    for sender in flush_senders {
        send_result(sender, Ok(()));
    }
}

fn refuse_flushes(flush_senders: Vec<FlushSender>, error: &JournalError) {
    for sender in flush_senders {
        send_result(sender, Err(error.clone()));
    }
}

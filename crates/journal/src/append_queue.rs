//! The queue between the tasks that append and the thread that writes.
//!
//! Records wait in one growing buffer, each with space for its frame head, so that a batch is one write(2) without copying. The
//! queue is bounded in bytes: a task that finds it full waits, in order. There is one lock, and it is never held during I/O.

use crate::{
    error::JournalError,
    reader::RecordPosition,
    segment_format::{self, FRAME_HEAD_BYTES, Sha256Hash},
};
use durward_core::lock_ignoring_poison;
use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{Semaphore, oneshot};

pub(crate) type DurableSender = oneshot::Sender<Result<RecordPosition, JournalError>>;
pub(crate) type FlushSender = oneshot::Sender<Result<(), JournalError>>;

/// The memory that the buffers of a batch keep after a burst.
const MAX_RETAINED_BUFFER_BYTES: usize = 4 << 20;

/// Frames that are written together.
#[derive(Default)]
pub(crate) struct WriteBatch {
    /// The frames, one after the other. The writer, which knows the chain, fills their heads.
    pub bytes: Vec<u8>,
    pub frames: Vec<PendingFrame>,
    /// The capacity of the queue that the batch takes.
    pub reserved_bytes: usize,
}

pub(crate) struct PendingFrame {
    /// The bytes of head and record.
    pub length: usize,
    pub leaf_hash: Sha256Hash,
    /// Notifies the task that waits until the frame is durable, if one does.
    pub durable_sender: Option<DurableSender>,
}

impl WriteBatch {
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    fn push(
        &mut self,
        record: &[u8],
        leaf: Sha256Hash,
        reserved_bytes: usize,
        durable_sender: Option<DurableSender>,
    ) {
        self.bytes.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
        self.bytes.extend_from_slice(record);
        self.frames.push(PendingFrame {
            length: FRAME_HEAD_BYTES + record.len(),
            leaf_hash: leaf,
            durable_sender,
        });
        self.reserved_bytes += reserved_bytes;
    }

    /// Moves the frames of `later` behind those of this batch.
    pub fn append(&mut self, later: &mut Self) {
        self.bytes.append(&mut later.bytes);
        self.frames.append(&mut later.frames);
        self.reserved_bytes += std::mem::take(&mut later.reserved_bytes);
    }

    /// Drops the frames that have a waiter, and sends each waiter the error. Keeps the others.
    pub fn refuse_waiters(&mut self, error: &JournalError) {
        let mut kept = Self::default();
        let mut rest = self.bytes.as_slice();
        for frame in self.frames.drain(..) {
            let (bytes, after) = rest.split_at_checked(frame.length).unwrap_or((rest, &[]));
            rest = after;
            if let Some(waiter) = frame.durable_sender {
                send_result(waiter, Err(error.clone()));
            } else {
                kept.bytes.extend_from_slice(bytes);
                kept.frames.push(frame);
            }
        }
        *self = kept;
    }

    /// Empties the batch for the next use.
    pub fn clear(&mut self) {
        self.bytes.clear();
        // One large burst must not keep its memory for the life of the process.
        self.bytes.shrink_to(MAX_RETAINED_BUFFER_BYTES);
        self.frames.clear();
        self.frames.shrink_to(MAX_RETAINED_BUFFER_BYTES / 64);
        self.reserved_bytes = 0;
    }
}

/// Sends a result to a task that may have stopped waiting.
pub(crate) fn send_result<T>(sender: oneshot::Sender<T>, result: T) {
    // A task that was cancelled needs no result. Its record is written nevertheless.
    drop(sender.send(result));
}

/// The state of the queue.
enum QueueState {
    Open,
    /// The disk is full: each append waits until its record is written or refused.
    DiskFull,
    /// The queue takes no more records.
    Closed(JournalError),
}

/// The state of the writer thread.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WriterState {
    Working,
    /// Asleep. It wakes by itself in time for records without a waiter.
    TimedSleep,
    /// Asleep until it is woken.
    Asleep,
}

struct QueueInner {
    batch: WriteBatch,
    /// The number of frames of the batch that have a waiter.
    waiting_frames: usize,
    flush_senders: Vec<FlushSender>,
    is_closing: bool,
    state: QueueState,
    writer_state: WriterState,
}

impl QueueInner {
    /// Returns true if the batch must be written now.
    fn is_urgent(&self, max_reserved_bytes: usize) -> bool {
        self.waiting_frames > 0
            || !self.flush_senders.is_empty()
            || self.is_closing
            || self.batch.reserved_bytes > max_reserved_bytes
    }
}

pub(crate) struct AppendQueue {
    inner: Mutex<QueueInner>,
    writer_wakeup: Condvar,
    free_capacity: Semaphore,
    capacity: usize,
    /// The time for which a record without a waiter may stay here.
    sync_delay: Duration,
}

/// The requests that the writer got together with a batch.
pub(crate) struct DrainResult {
    pub flush_senders: Vec<FlushSender>,
    pub is_closing: bool,
}

impl AppendQueue {
    pub fn new(capacity: usize, sync_delay: Duration) -> Self {
        // A tokio semaphore is acquired in steps of u32.
        let capacity = capacity.clamp(1, u32::MAX as usize >> 4);
        Self {
            inner: Mutex::new(QueueInner {
                batch: WriteBatch::default(),
                waiting_frames: 0,
                flush_senders: Vec::new(),
                is_closing: false,
                state: QueueState::Open,
                writer_state: WriterState::Working,
            }),
            writer_wakeup: Condvar::new(),
            free_capacity: Semaphore::new(capacity),
            capacity,
            sync_delay,
        }
    }

    /// Appends a record when there is free capacity. `waiter` gets its result when the record is durable; the writer begins with
    /// it at the next [`AppendQueue::wake_writer`].
    pub async fn push(&self, record: &[u8], waiter: Option<DurableSender>) -> Result<(), JournalError> {
        // Hashed by the task that appends: the one writer thread would otherwise hash the records of all tasks.
        let leaf = segment_format::leaf_hash(record);
        // A record larger than the whole queue takes all of it.
        let reserved_bytes = (FRAME_HEAD_BYTES + record.len()).min(self.capacity);
        let permit = self
            .free_capacity
            .acquire_many(reserved_bytes as u32)
            .await
            .map_err(|_closed| self.close_error())?;
        let (confirmed, wake) = {
            let mut inner = self.lock_inner();
            if inner.is_closing {
                return Err(JournalError::Closed);
            }
            let (waiter, confirmed) = match (&inner.state, waiter) {
                (QueueState::Closed(error), _) => return Err(error.clone()),
                (QueueState::Open, waiter) => (waiter, None),
                (QueueState::DiskFull, Some(waiter)) => (Some(waiter), None),
                // Otherwise outcomes would fill the queue while the disk is full, although nobody learns that they are not
                // written.
                (QueueState::DiskFull, None) => {
                    let (waiter, confirmed) = oneshot::channel();
                    (Some(waiter), Some(confirmed))
                }
            };
            // The writer gives the capacity back when the batch is on disk (`release_capacity`).
            permit.forget();
            inner.waiting_frames += usize::from(waiter.is_some());
            inner.batch.push(record, leaf, reserved_bytes, waiter);
            // Waking a thread is the most expensive step here, so a sleeping writer is woken only if it must write now.
            let wake = match inner.writer_state {
                WriterState::Working => false,
                WriterState::TimedSleep => inner.batch.reserved_bytes > self.capacity / 2,
                WriterState::Asleep => true,
            };
            if wake {
                inner.writer_state = WriterState::Working;
            }
            (confirmed, wake)
        };
        if wake {
            self.writer_wakeup.notify_one();
        }
        match confirmed {
            None => Ok(()),
            Some(confirmed) => {
                self.wake_writer();
                confirmed.await.unwrap_or_else(|_gone| Err(self.close_error())).map(|_position| ())
            }
        }
    }

    /// Wakes the writer if a record has a waiter and the writer is asleep.
    pub fn wake_writer(&self) {
        let wake = {
            let mut inner = self.lock_inner();
            let wake = inner.writer_state != WriterState::Working && inner.is_urgent(self.capacity / 2);
            if wake {
                inner.writer_state = WriterState::Working;
            }
            wake
        };
        if wake {
            self.writer_wakeup.notify_one();
        }
    }

    /// Requests that every record pushed so far becomes durable. `sender` gets the result.
    pub fn flush(&self, sender: FlushSender) {
        let mut inner = self.lock_inner();
        if let QueueState::Closed(error) = &inner.state {
            let error = error.clone();
            drop(inner);
            send_result(sender, Err(error));
            return;
        }
        inner.flush_senders.push(sender);
        drop(inner);
        self.writer_wakeup.notify_one();
    }

    /// Takes no more records. The writer finishes those that are in the queue.
    pub fn close(&self) {
        self.lock_inner().is_closing = true;
        self.writer_wakeup.notify_one();
    }

    /// Waits until there is something to write, and swaps it for the empty `batch`. Returns without frames at `until`.
    pub fn drain_batch(&self, batch: &mut WriteBatch, until: Option<Instant>) -> DrainResult {
        let mut inner = self.lock_inner();
        // When records without a waiter must be written. They all came after the last call.
        let mut due = Instant::now() + self.sync_delay;
        loop {
            if inner.is_urgent(self.capacity / 2) {
                break;
            }
            let now = Instant::now();
            if until.is_some_and(|until| until <= now) || (due <= now && !inner.batch.is_empty()) {
                break;
            }
            let wake_at = if due > now { Some(until.map_or(due, |until| until.min(due))) } else { until };
            if let Some(at) = wake_at {
                inner.writer_state = WriterState::TimedSleep;
                let left = at.saturating_duration_since(now);
                inner =
                    self.writer_wakeup.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
            } else {
                inner.writer_state = WriterState::Asleep;
                inner = self.writer_wakeup.wait(inner).unwrap_or_else(PoisonError::into_inner);
                due = Instant::now() + self.sync_delay;
            }
        }
        inner.writer_state = WriterState::Working;
        inner.waiting_frames = 0;
        std::mem::swap(&mut inner.batch, batch);
        DrainResult { flush_senders: std::mem::take(&mut inner.flush_senders), is_closing: inner.is_closing }
    }

    /// Gives back the capacity of a batch that is finished.
    pub fn release_capacity(&self, reserved_bytes: usize) {
        self.free_capacity.add_permits(reserved_bytes);
    }

    /// Sets whether the disk is full.
    pub fn set_disk_full(&self, is_full: bool) {
        let mut inner = self.lock_inner();
        if !matches!(inner.state, QueueState::Closed(_)) {
            inner.state = if is_full { QueueState::DiskFull } else { QueueState::Open };
        }
    }

    /// Refuses every record from now on, and every task that waits.
    pub fn close_with_error(&self, error: &JournalError) {
        let (mut batch, flush_senders) = {
            let mut inner = self.lock_inner();
            if matches!(inner.state, QueueState::Closed(_)) {
                return;
            }
            inner.state = QueueState::Closed(error.clone());
            (std::mem::take(&mut inner.batch), std::mem::take(&mut inner.flush_senders))
        };
        // Wakes the tasks that wait for capacity with an error; they would wait for ever for a writer that has ended.
        self.free_capacity.close();
        batch.refuse_waiters(error);
        for sender in flush_senders {
            send_result(sender, Err(error.clone()));
        }
    }

    /// Why the queue is closed.
    pub fn close_error(&self) -> JournalError {
        match &self.lock_inner().state {
            QueueState::Closed(error) => error.clone(),
            QueueState::Open | QueueState::DiskFull => JournalError::Closed,
        }
    }

    fn lock_inner(&self) -> MutexGuard<'_, QueueInner> {
        lock_ignoring_poison(&self.inner)
    }
}

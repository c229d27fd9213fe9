//! What lies between the tasks that append and the thread that writes.
//!
//! Records wait in one growing buffer, each with room for its frame head, so that a batch is one write(2) without copying.
//! The queue is bounded in bytes: who finds it full waits, in order. Lock order: there is one lock, never held over I/O.

use crate::{
    error::JournalError,
    reader::RecordPosition,
    segment_format::{self, FRAME_HEAD_BYTES, Sha256Hash},
};
use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{Semaphore, oneshot};

pub(crate) type DurableSender = oneshot::Sender<Result<RecordPosition, JournalError>>;
pub(crate) type FlushSender = oneshot::Sender<Result<(), JournalError>>;

/// Memory that a batch's buffers keep after a burst.
const MAX_RETAINED_BUFFER_BYTES: usize = 4 << 20;

/// Frames to be written together.
#[derive(Default)]
pub(crate) struct WriteBatch {
    /// Frames, one after the other; their heads are filled by the writer, who knows the chain.
    pub bytes: Vec<u8>,
    pub frames: Vec<PendingFrame>,
    /// What the batch took from the queue's room.
    pub reserved_bytes: usize,
}

pub(crate) struct PendingFrame {
    /// Head and record.
    pub length: usize,
    pub leaf_hash: Sha256Hash,
    /// Who waits until it is durable.
    pub durable_sender: Option<DurableSender>,
}

impl WriteBatch {
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    fn push(&mut self, record: &[u8], leaf: Sha256Hash, charge: usize, waiter: Option<DurableSender>) {
        self.bytes.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
        self.bytes.extend_from_slice(record);
        self.frames.push(PendingFrame {
            length: FRAME_HEAD_BYTES + record.len(),
            leaf_hash: leaf,
            durable_sender: waiter,
        });
        self.reserved_bytes += charge;
    }

    /// Puts `later` behind, and leaves it empty.
    pub fn append(&mut self, later: &mut Self) {
        self.bytes.append(&mut later.bytes);
        self.frames.append(&mut later.frames);
        self.reserved_bytes += std::mem::take(&mut later.reserved_bytes);
    }

    /// Drops the frames somebody waits for, telling them why, and keeps the others.
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
        self.bytes.shrink_to(MAX_RETAINED_BUFFER_BYTES);
        self.frames.clear();
        self.frames.shrink_to(MAX_RETAINED_BUFFER_BYTES / 64);
        self.reserved_bytes = 0;
    }
}

/// Tells somebody who may have stopped waiting.
pub(crate) fn send_result<T>(waiter: oneshot::Sender<T>, what: T) {
    // A task that was cancelled does not want the answer; its record stands all the same.
    drop(waiter.send(what));
}

/// Whether records are taken.
enum QueueState {
    Open,
    /// The disk is full: each append is tried, and nobody is told it succeeded before it did.
    DiskFull,
    /// Never again.
    Closed(JournalError),
}

/// What the writer does while the lock is free.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WriterState {
    Working,
    /// Asleep, and it wakes by itself in time for records that nobody waits for.
    TimedSleep,
    /// Asleep until it is woken.
    Asleep,
}

struct QueueInner {
    batch: WriteBatch,
    /// Frames of the batch that somebody waits for.
    waiting_frames: usize,
    flush_senders: Vec<FlushSender>,
    is_closing: bool,
    state: QueueState,
    writer_state: WriterState,
}

impl QueueInner {
    /// Whether the batch must be written now.
    fn is_urgent(&self, most: usize) -> bool {
        self.waiting_frames > 0
            || !self.flush_senders.is_empty()
            || self.is_closing
            || self.batch.reserved_bytes > most
    }
}

pub(crate) struct AppendQueue {
    inner: Mutex<QueueInner>,
    writer_wakeup: Condvar,
    free_capacity: Semaphore,
    capacity: usize,
    /// How long a record that nobody waits for may lie here.
    sync_delay: Duration,
}

/// What the writer found.
pub(crate) struct DrainResult {
    pub flush_senders: Vec<FlushSender>,
    pub is_closing: bool,
}

impl AppendQueue {
    pub fn new(capacity: usize, delay: Duration) -> Self {
        // tokio's semaphore is acquired in u32 steps.
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
            sync_delay: delay,
        }
    }

    /// Puts a record behind all others, once there is room. `waiter` is answered when the record is durable, which begins with
    /// the next [`Queue::press`].
    pub async fn push(&self, record: &[u8], waiter: Option<DurableSender>) -> Result<(), JournalError> {
        let leaf = segment_format::leaf_hash(record);
        // A record larger than the whole queue takes all of it.
        let charge = (FRAME_HEAD_BYTES + record.len()).min(self.capacity);
        let permit =
            self.free_capacity.acquire_many(charge as u32).await.map_err(|_closed| self.close_error())?;
        let (confirmed, wake) = {
            let mut inner = self.lock_inner();
            if inner.is_closing {
                return Err(JournalError::Closed);
            }
            let (waiter, confirmed) = match (&inner.state, waiter) {
                (QueueState::Closed(error), _) => return Err(error.clone()),
                (QueueState::Open, waiter) => (waiter, None),
                (QueueState::DiskFull, Some(waiter)) => (Some(waiter), None),
                (QueueState::DiskFull, None) => {
                    let (waiter, confirmed) = oneshot::channel();
                    (Some(waiter), Some(confirmed))
                }
            };
            permit.forget();
            inner.waiting_frames += usize::from(waiter.is_some());
            inner.batch.push(record, leaf, charge, waiter);
            // Waking a thread costs more than all else here: only for a reason, and not when it is awake.
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

    /// Has the writer begin with what somebody waits for, if it has not begun.
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

    /// Asks that all that was pushed so far be made durable.
    pub fn flush(&self, flusher: FlushSender) {
        let mut inner = self.lock_inner();
        if let QueueState::Closed(error) = &inner.state {
            let error = error.clone();
            drop(inner);
            send_result(flusher, Err(error));
            return;
        }
        inner.flush_senders.push(flusher);
        drop(inner);
        self.writer_wakeup.notify_one();
    }

    /// Takes no more records; the writer finishes what is there.
    pub fn close(&self) {
        self.lock_inner().is_closing = true;
        self.writer_wakeup.notify_one();
    }

    /// Waits until there is something to write, and swaps it for the empty `batch`. Comes back empty-handed at `until`.
    pub fn drain_batch(&self, batch: &mut WriteBatch, until: Option<Instant>) -> DrainResult {
        let mut inner = self.lock_inner();
        // When records that nobody waits for must be written: whatever is here came after the last call.
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

    /// Gives back the room of a batch that is done with.
    pub fn release_capacity(&self, charge: usize) {
        self.free_capacity.add_permits(charge);
    }

    /// The disk is full, or no longer.
    pub fn set_disk_full(&self, full: bool) {
        let mut inner = self.lock_inner();
        if !matches!(inner.state, QueueState::Closed(_)) {
            inner.state = if full { QueueState::DiskFull } else { QueueState::Open };
        }
    }

    /// Refuses everything from now on, and whoever waits.
    pub fn close_with_error(&self, error: &JournalError) {
        let (mut batch, flushers) = {
            let mut inner = self.lock_inner();
            if matches!(inner.state, QueueState::Closed(_)) {
                return;
            }
            inner.state = QueueState::Closed(error.clone());
            (std::mem::take(&mut inner.batch), std::mem::take(&mut inner.flush_senders))
        };
        self.free_capacity.close();
        batch.refuse_waiters(error);
        for flusher in flushers {
            send_result(flusher, Err(error.clone()));
        }
    }

    /// Why nobody answers any more.
    pub fn close_error(&self) -> JournalError {
        match &self.lock_inner().state {
            QueueState::Closed(error) => error.clone(),
            QueueState::Open | QueueState::DiskFull => JournalError::Closed,
        }
    }

    fn lock_inner(&self) -> MutexGuard<'_, QueueInner> {
        // Nothing that runs under the lock panics halfway through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

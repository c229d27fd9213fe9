//! What lies between the tasks that append and the thread that writes.
//!
//! Records wait in one growing buffer, each with room for its frame head, so that a batch is one write(2) without copying.
//! The queue is bounded in bytes: who finds it full waits, in order. Lock order: there is one lock, never held over I/O.

use crate::{
    error::JournalError,
    format::{self, HEAD, Hash},
    read::Position,
};
use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{Semaphore, oneshot};

pub(crate) type Waiter = oneshot::Sender<Result<Position, JournalError>>;
pub(crate) type Flusher = oneshot::Sender<Result<(), JournalError>>;

/// Memory that a batch's buffers keep after a burst.
const KEEP: usize = 4 << 20;

/// Frames to be written together.
#[derive(Default)]
pub(crate) struct Batch {
    /// Frames, one after the other; their heads are filled by the writer, who knows the chain.
    pub bytes: Vec<u8>,
    pub frames: Vec<Frame>,
    /// What the batch took from the queue's room.
    pub charge: usize,
}

pub(crate) struct Frame {
    /// Head and record.
    pub length: usize,
    pub leaf: Hash,
    /// Who waits until it is durable.
    pub waiter: Option<Waiter>,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    fn push(&mut self, record: &[u8], leaf: Hash, charge: usize, waiter: Option<Waiter>) {
        self.bytes.extend_from_slice(&[0; HEAD]);
        self.bytes.extend_from_slice(record);
        self.frames.push(Frame { length: HEAD + record.len(), leaf, waiter });
        self.charge += charge;
    }

    /// Puts `later` behind, and leaves it empty.
    pub fn append(&mut self, later: &mut Self) {
        self.bytes.append(&mut later.bytes);
        self.frames.append(&mut later.frames);
        self.charge += std::mem::take(&mut later.charge);
    }

    /// Drops the frames somebody waits for, telling them why, and keeps the others.
    pub fn refuse_waiting(&mut self, error: &JournalError) {
        let mut kept = Self::default();
        let mut rest = self.bytes.as_slice();
        for frame in self.frames.drain(..) {
            let (bytes, after) = rest.split_at_checked(frame.length).unwrap_or((rest, &[]));
            rest = after;
            if let Some(waiter) = frame.waiter {
                answer(waiter, Err(error.clone()));
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
        self.bytes.shrink_to(KEEP);
        self.frames.clear();
        self.frames.shrink_to(KEEP / 64);
        self.charge = 0;
    }
}

/// Tells somebody who may have stopped waiting.
pub(crate) fn answer<T>(waiter: oneshot::Sender<T>, what: T) {
    // A task that was cancelled does not want the answer; its record stands all the same.
    drop(waiter.send(what));
}

/// Whether records are taken.
enum State {
    Open,
    /// The disk is full: each append is tried, and nobody is told it succeeded before it did.
    Full,
    /// Never again.
    Over(JournalError),
}

/// What the writer does while the lock is free.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writer {
    Working,
    /// Asleep, and it wakes by itself in time for records that nobody waits for.
    Dozing,
    /// Asleep until it is woken.
    Asleep,
}

struct Inner {
    batch: Batch,
    /// Frames of the batch that somebody waits for.
    waited_for: usize,
    flushers: Vec<Flusher>,
    closing: bool,
    state: State,
    writer: Writer,
}

impl Inner {
    /// Whether the batch must be written now.
    fn is_urgent(&self, most: usize) -> bool {
        self.waited_for > 0 || !self.flushers.is_empty() || self.closing || self.batch.charge > most
    }
}

pub(crate) struct Queue {
    inner: Mutex<Inner>,
    arrived: Condvar,
    room: Semaphore,
    capacity: usize,
    /// How long a record that nobody waits for may lie here.
    delay: Duration,
}

/// What the writer found.
pub(crate) struct Taken {
    pub flushers: Vec<Flusher>,
    pub closing: bool,
}

impl Queue {
    pub fn new(capacity: usize, delay: Duration) -> Self {
        // tokio's semaphore is acquired in u32 steps.
        let capacity = capacity.clamp(1, u32::MAX as usize >> 4);
        Self {
            inner: Mutex::new(Inner {
                batch: Batch::default(),
                waited_for: 0,
                flushers: Vec::new(),
                closing: false,
                state: State::Open,
                writer: Writer::Working,
            }),
            arrived: Condvar::new(),
            room: Semaphore::new(capacity),
            capacity,
            delay,
        }
    }

    /// Puts a record behind all others, once there is room. `waiter` is answered when the record is durable, which begins with
    /// the next [`Queue::press`].
    pub async fn push(&self, record: &[u8], waiter: Option<Waiter>) -> Result<(), JournalError> {
        let leaf = format::leaf_hash(record);
        // A record larger than the whole queue takes all of it.
        let charge = (HEAD + record.len()).min(self.capacity);
        let permit = self.room.acquire_many(charge as u32).await.map_err(|_closed| self.why_over())?;
        let (confirmed, wake) = {
            let mut inner = self.lock();
            if inner.closing {
                return Err(JournalError::Closed);
            }
            let (waiter, confirmed) = match (&inner.state, waiter) {
                (State::Over(error), _) => return Err(error.clone()),
                (State::Open, waiter) => (waiter, None),
                (State::Full, Some(waiter)) => (Some(waiter), None),
                (State::Full, None) => {
                    let (waiter, confirmed) = oneshot::channel();
                    (Some(waiter), Some(confirmed))
                }
            };
            permit.forget();
            inner.waited_for += usize::from(waiter.is_some());
            inner.batch.push(record, leaf, charge, waiter);
            // Waking a thread costs more than all else here: only for a reason, and not when it is awake.
            let wake = match inner.writer {
                Writer::Working => false,
                Writer::Dozing => inner.batch.charge > self.capacity / 2,
                Writer::Asleep => true,
            };
            if wake {
                inner.writer = Writer::Working;
            }
            (confirmed, wake)
        };
        if wake {
            self.arrived.notify_one();
        }
        match confirmed {
            None => Ok(()),
            Some(confirmed) => {
                self.press();
                confirmed.await.unwrap_or_else(|_gone| Err(self.why_over())).map(|_position| ())
            }
        }
    }

    /// Has the writer begin with what somebody waits for, if it has not begun.
    pub fn press(&self) {
        let wake = {
            let mut inner = self.lock();
            let wake = inner.writer != Writer::Working && inner.is_urgent(self.capacity / 2);
            if wake {
                inner.writer = Writer::Working;
            }
            wake
        };
        if wake {
            self.arrived.notify_one();
        }
    }

    /// Asks that all that was pushed so far be made durable.
    pub fn flush(&self, flusher: Flusher) {
        let mut inner = self.lock();
        if let State::Over(error) = &inner.state {
            let error = error.clone();
            drop(inner);
            answer(flusher, Err(error));
            return;
        }
        inner.flushers.push(flusher);
        drop(inner);
        self.arrived.notify_one();
    }

    /// Takes no more records; the writer finishes what is there.
    pub fn close(&self) {
        self.lock().closing = true;
        self.arrived.notify_one();
    }

    /// Waits until there is something to write, and swaps it for the empty `batch`. Comes back empty-handed at `until`.
    pub fn take(&self, batch: &mut Batch, until: Option<Instant>) -> Taken {
        let mut inner = self.lock();
        // When records that nobody waits for must be written: whatever is here came after the last call.
        let mut due = Instant::now() + self.delay;
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
                inner.writer = Writer::Dozing;
                let left = at.saturating_duration_since(now);
                inner = self.arrived.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
            } else {
                inner.writer = Writer::Asleep;
                inner = self.arrived.wait(inner).unwrap_or_else(PoisonError::into_inner);
                due = Instant::now() + self.delay;
            }
        }
        inner.writer = Writer::Working;
        inner.waited_for = 0;
        std::mem::swap(&mut inner.batch, batch);
        Taken { flushers: std::mem::take(&mut inner.flushers), closing: inner.closing }
    }

    /// Gives back the room of a batch that is done with.
    pub fn make_room(&self, charge: usize) {
        self.room.add_permits(charge);
    }

    /// The disk is full, or no longer.
    pub fn set_full(&self, full: bool) {
        let mut inner = self.lock();
        if !matches!(inner.state, State::Over(_)) {
            inner.state = if full { State::Full } else { State::Open };
        }
    }

    /// Refuses everything from now on, and whoever waits.
    pub fn end(&self, error: &JournalError) {
        let (mut batch, flushers) = {
            let mut inner = self.lock();
            if matches!(inner.state, State::Over(_)) {
                return;
            }
            inner.state = State::Over(error.clone());
            (std::mem::take(&mut inner.batch), std::mem::take(&mut inner.flushers))
        };
        self.room.close();
        batch.refuse_waiting(error);
        for flusher in flushers {
            answer(flusher, Err(error.clone()));
        }
    }

    /// Why nobody answers any more.
    pub fn why_over(&self) -> JournalError {
        match &self.lock().state {
            State::Over(error) => error.clone(),
            State::Open | State::Full => JournalError::Closed,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that runs under the lock panics halfway through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

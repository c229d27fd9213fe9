//! The time as approvals count it: it follows the clock of the machine and never goes back.
//!
//! A grant ends at a time, so setting the clock back would make it last longer. A step back therefore counts as no time
//! at all, and the latest time is stored for the next start.

use durward_core::lock_ignoring_poison;
use durward_core::timestamps::{Clock, to_unix_millis};
use std::{sync::Mutex, time::Duration};

/// `length` after `now`, in milliseconds.
pub(crate) fn add_duration(now: i64, length: Duration) -> i64 {
    now.saturating_add(i64::try_from(length.as_millis()).unwrap_or(i64::MAX))
}

#[derive(Debug, Clone, Copy)]
struct ClockReading {
    clock_millis: i64,
    counted_millis: i64,
}

/// A clock that never goes back.
pub(crate) struct MonotonicClock {
    clock: Clock,
    last_reading: Mutex<ClockReading>,
}

impl MonotonicClock {
    /// Starts no earlier than `latest`, the latest time of an earlier run.
    pub(crate) fn new(clock: Clock, latest: i64) -> Self {
        let now = to_unix_millis(clock());
        Self {
            clock,
            last_reading: Mutex::new(ClockReading { clock_millis: now, counted_millis: now.max(latest) }),
        }
    }

    fn advance(&self, then: impl FnOnce(&mut ClockReading)) -> i64 {
        let mut reading = lock_ignoring_poison(&self.last_reading);
        let clock_millis = to_unix_millis((self.clock)());
        // Wall time and not `Instant`: deadlines are stored as times, and CLOCK_MONOTONIC stands still while the machine sleeps
        // (clock_gettime(2)).
        let passed = clock_millis.saturating_sub(reading.clock_millis).max(0);
        reading.counted_millis = reading.counted_millis.saturating_add(passed);
        reading.clock_millis = clock_millis;
        then(&mut reading);
        reading.counted_millis
    }

    pub(crate) fn now(&self) -> i64 {
        self.advance(|_reading| ())
    }

    /// Moves forward to `latest` if that is later: another process counted further.
    pub(crate) fn raise_to(&self, latest: i64) -> i64 {
        self.advance(|reading| reading.counted_millis = reading.counted_millis.max(latest))
    }

    /// The time by which the counted time is ahead of the clock, after the clock was set back.
    pub(crate) fn millis_ahead(&self) -> i64 {
        let mut ahead = 0;
        self.advance(|reading| ahead = reading.counted_millis.saturating_sub(reading.clock_millis));
        ahead
    }

    /// Follows the clock of the machine again. Only allowed while no request or grant is open: one could last longer by it.
    pub(crate) fn reset_to_clock(&self) -> i64 {
        self.advance(|reading| reading.counted_millis = reading.clock_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use durward_core::timestamps::from_unix_millis;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    #[test]
    fn a_clock_set_back_neither_turns_time_back_nor_stops_it() {
        let millis = Arc::new(AtomicI64::new(1_000));
        let clock: Clock = {
            let millis = Arc::clone(&millis);
            Arc::new(move || from_unix_millis(millis.load(Ordering::SeqCst)))
        };
        let monotonic = MonotonicClock::new(clock, 500);
        assert_eq!(monotonic.now(), 1_000);
        millis.store(5_000, Ordering::SeqCst);
        assert_eq!(monotonic.now(), 5_000);
        millis.store(2_000, Ordering::SeqCst);
        assert_eq!(monotonic.now(), 5_000, "a step back counts as no time");
        millis.store(2_300, Ordering::SeqCst);
        assert_eq!(monotonic.now(), 5_300, "and time goes on from there");
        assert_eq!(monotonic.millis_ahead(), 3_000);
        assert_eq!(monotonic.raise_to(9_000), 9_000);
        assert_eq!(monotonic.reset_to_clock(), 2_300);
    }
}

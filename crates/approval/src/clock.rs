//! The time as approvals count it: it follows the clock, and never goes back.
//!
//! A grant ends at a time. If the clock could be set back, the grant would last longer; so a step back counts as no
//! time passing, and the latest time seen is kept in the store for the next start.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use time::OffsetDateTime;

/// Tells the time. Tests move it.
pub type Clock = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;

/// The machine's clock.
pub fn system_clock() -> Clock {
    Arc::new(OffsetDateTime::now_utc)
}

/// Milliseconds since 1970, as the store counts.
pub(crate) fn to_unix_millis(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

/// The reverse of [`millis`]; times beyond the calendar are its end.
pub(crate) fn from_unix_millis(millis: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000)
        .unwrap_or(time::macros::datetime!(9999-12-31 23:59:59 UTC))
}

/// `now` and `length`, in milliseconds.
pub(crate) fn add_duration(now: i64, length: Duration) -> i64 {
    now.saturating_add(i64::try_from(length.as_millis()).unwrap_or(i64::MAX))
}

#[derive(Debug, Clone, Copy)]
struct ClockReading {
    clock_millis: i64,
    counted_millis: i64,
}

/// See the head of this file.
pub(crate) struct MonotonicClock {
    clock: Clock,
    last_reading: Mutex<ClockReading>,
}

impl MonotonicClock {
    /// Starts no earlier than `latest`, which an earlier run saw.
    pub(crate) fn new(clock: Clock, latest: i64) -> Self {
        let now = to_unix_millis(clock());
        Self {
            clock,
            last_reading: Mutex::new(ClockReading { clock_millis: now, counted_millis: now.max(latest) }),
        }
    }

    fn advance(&self, then: impl FnOnce(&mut ClockReading)) -> i64 {
        let mut seen = self.last_reading.lock().unwrap_or_else(PoisonError::into_inner);
        let clock = to_unix_millis((self.clock)());
        seen.counted_millis =
            seen.counted_millis.saturating_add(clock.saturating_sub(seen.clock_millis).max(0));
        seen.clock_millis = clock;
        then(&mut seen);
        seen.counted_millis
    }

    pub(crate) fn now(&self) -> i64 {
        self.advance(|_seen| ())
    }

    /// Another process saw a later time.
    pub(crate) fn raise_to(&self, latest: i64) -> i64 {
        self.advance(|seen| seen.counted_millis = seen.counted_millis.max(latest))
    }

    /// How far the counted time is ahead of the clock, after the clock was set back.
    pub(crate) fn millis_ahead(&self) -> i64 {
        let mut ahead = 0;
        self.advance(|seen| ahead = seen.counted_millis.saturating_sub(seen.clock_millis));
        ahead
    }

    /// Believes the clock again. Only right while nothing is open that could last longer by it.
    pub(crate) fn reset_to_clock(&self) -> i64 {
        self.advance(|seen| seen.counted_millis = seen.clock_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI64, Ordering};

    #[test]
    fn a_clock_set_back_neither_turns_time_back_nor_stops_it() {
        let hand = Arc::new(AtomicI64::new(1_000));
        let clock: Clock = {
            let hand = Arc::clone(&hand);
            Arc::new(move || from_unix_millis(hand.load(Ordering::SeqCst)))
        };
        let time = MonotonicClock::new(clock, 500);
        assert_eq!(time.now(), 1_000);
        hand.store(5_000, Ordering::SeqCst);
        assert_eq!(time.now(), 5_000);
        hand.store(2_000, Ordering::SeqCst);
        assert_eq!(time.now(), 5_000, "a step back is no time");
        hand.store(2_300, Ordering::SeqCst);
        assert_eq!(time.now(), 5_300, "and time goes on from there");
        assert_eq!(time.millis_ahead(), 3_000);
        assert_eq!(time.raise_to(9_000), 9_000);
        assert_eq!(time.reset_to_clock(), 2_300);
    }
}

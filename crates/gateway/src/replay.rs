//! Refuses a header signature that was used before, in bounded memory.
//!
//! What counts as "the same" is the signature together with the SDK's `amz-sdk-invocation-id` and attempt number:
//! two equal calls within one second carry equal signatures in boto3, which signs neither of those headers.
//! When the table is full the oldest minute is dropped and requests dated in it or before are refused, so a full table
//! narrows the clock window but never lets a replay through. Presigned URLs are meant to be used again and are not kept.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

/// Entries kept; 8 bytes each, and as much again for the table.
const MOST: usize = 4_000_000;

#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    First,
    Before,
    /// Dated before what the table still covers.
    TooOld,
}

#[derive(Default)]
struct Table {
    /// Minute of the request's date, since the epoch, to the fingerprints seen.
    minutes: BTreeMap<i64, HashSet<u64>>,
    count: usize,
    /// Requests dated in this minute or before are refused.
    floor: i64,
}

pub struct ReplayGuard {
    table: Mutex<Table>,
    fingerprint: RandomState,
    most: usize,
    /// How many minutes after its date a signature can still be valid.
    window: i64,
}

impl ReplayGuard {
    pub fn new() -> Self {
        Self::with_capacity(MOST)
    }

    fn with_capacity(most: usize) -> Self {
        let window = i64::try_from(durward_core::limits::CLOCK_SKEW.as_secs() / 60).unwrap_or(i64::MAX) + 1;
        Self { table: Mutex::default(), fingerprint: RandomState::new(), most, window }
    }

    /// Notes one use. `dated` and `now` are seconds since the epoch.
    pub fn see(&self, signature: &[u8; 32], invocation: &[u8], attempt: &[u8], dated: i64, now: i64) -> Seen {
        let fingerprint = self.fingerprint.hash_one((signature, invocation, attempt));
        let minute = dated.div_euclid(60);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let expired = now.div_euclid(60) - self.window;
        while let Some(entry) = table.minutes.first_entry() {
            if *entry.key() >= expired {
                break;
            }
            let gone = entry.remove().len();
            table.count -= gone;
        }
        if minute <= table.floor {
            return Seen::TooOld;
        }
        if !table.minutes.entry(minute).or_default().insert(fingerprint) {
            return Seen::Before;
        }
        table.count += 1;
        if table.count > self.most
            && let Some((oldest, gone)) = table.minutes.pop_first()
        {
            table.floor = oldest;
            table.count -= gone.len();
        }
        Seen::First
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_the_same_signature_of_the_same_attempt_only() {
        let guard = ReplayGuard::new();
        let signature = [7; 32];
        assert_eq!(guard.see(&signature, b"a", b"1", 6000, 6000), Seen::First);
        assert_eq!(guard.see(&signature, b"a", b"1", 6000, 6100), Seen::Before);
        assert_eq!(guard.see(&signature, b"b", b"1", 6000, 6000), Seen::First);
        assert_eq!(guard.see(&signature, b"a", b"2", 6000, 6000), Seen::First);
        assert_eq!(guard.see(&[8; 32], b"a", b"1", 6000, 6000), Seen::First);
    }

    #[test]
    fn remembers_for_as_long_as_a_signature_can_be_valid() {
        let guard = ReplayGuard::new();
        guard.see(&[7; 32], b"", b"", 60_000, 60_000);
        assert_eq!(guard.see(&[7; 32], b"", b"", 60_000, 60_000 + 15 * 60), Seen::Before);
    }

    #[test]
    fn a_full_table_narrows_the_window_and_lets_no_replay_through() {
        let guard = ReplayGuard::with_capacity(10);
        for index in 0..30_u8 {
            let dated = 60 * (1000 + i64::from(index));
            guard.see(&[index; 32], b"", b"", dated, 60 * 1005);
        }
        for index in 0..30_u8 {
            let dated = 60 * (1000 + i64::from(index));
            assert_ne!(guard.see(&[index; 32], b"", b"", dated, 60 * 1005), Seen::First, "{index}");
        }
    }
}

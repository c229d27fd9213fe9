//! Refuses a header signature that was used before, in bounded memory.
//!
//! A use is the signature together with the SDK's `amz-sdk-invocation-id` and attempt number: two equal calls of boto3 within one
//! second have equal signatures, because boto3 does not sign those headers (measured).
//! When the table is full, the oldest minute is dropped and requests dated in it or before it are refused: a full table narrows
//! the clock window but never lets a replay through. Presigned URLs are meant to be used more than once and are not recorded.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;

/// Signatures remembered: 8 bytes each, and as much again for the hash table. Each is kept for some 17 minutes, so there is room
/// for about 4,000 requests a second.
const MAX_SEEN_SIGNATURES: usize = 4_000_000;

#[derive(Debug, PartialEq, Eq)]
pub enum ReplayCheck {
    FirstUse,
    Replayed,
    /// Dated in a minute that the table no longer covers.
    TooOld,
}

#[derive(Default)]
struct SignatureTable {
    /// The fingerprints seen, by the minute of their request's date, counted from the epoch.
    by_minute: BTreeMap<i64, HashSet<u64>>,
    entry_count: usize,
    /// Requests dated in this minute or before are refused.
    refused_until_minute: i64,
}

pub struct ReplayGuard {
    table: Mutex<SignatureTable>,
    /// Keyed at random for each process: a caller cannot construct a signature that collides with another.
    fingerprint_hasher: RandomState,
    max_entries: usize,
    /// The number of minutes for which a signature stays valid after its date.
    validity_minutes: i64,
}

impl ReplayGuard {
    pub fn new() -> Self {
        Self::with_capacity(MAX_SEEN_SIGNATURES)
    }

    fn with_capacity(max_entries: usize) -> Self {
        let validity_minutes =
            i64::try_from(durward_core::limits::MAX_CLOCK_SKEW.as_secs() / 60).unwrap_or(i64::MAX) + 1;
        Self {
            table: Mutex::default(),
            fingerprint_hasher: RandomState::new(),
            max_entries,
            validity_minutes,
        }
    }

    /// Records one use and says whether it is the first. `dated` and `now` are seconds since the epoch.
    pub fn check_and_insert(
        &self,
        signature: &[u8; 32],
        invocation: &[u8],
        attempt: &[u8],
        dated: i64,
        now: i64,
    ) -> ReplayCheck {
        // With 64 bits and four million entries, one request in some 4.6 trillion is refused by chance. Its client signs again.
        let fingerprint = self.fingerprint_hasher.hash_one((signature, invocation, attempt));
        // By the date of the request, because that is what ends its validity: a whole minute can be dropped at once.
        let minute = dated.div_euclid(60);
        let mut table = durward_core::lock_ignoring_poison(&self.table);
        let expired = now.div_euclid(60) - self.validity_minutes;
        while let Some(entry) = table.by_minute.first_entry() {
            if *entry.key() >= expired {
                break;
            }
            let removed = entry.remove().len();
            table.entry_count -= removed;
        }
        if minute <= table.refused_until_minute {
            return ReplayCheck::TooOld;
        }
        if !table.by_minute.entry(minute).or_default().insert(fingerprint) {
            return ReplayCheck::Replayed;
        }
        table.entry_count += 1;
        // The alternative, to forget the oldest signatures and still accept their dates, would let them be replayed.
        if table.entry_count > self.max_entries
            && let Some((oldest, removed)) = table.by_minute.pop_first()
        {
            table.refused_until_minute = oldest;
            table.entry_count -= removed.len();
        }
        ReplayCheck::FirstUse
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_the_same_signature_of_the_same_attempt_only() {
        let guard = ReplayGuard::new();
        let signature = [7; 32];
        assert_eq!(guard.check_and_insert(&signature, b"a", b"1", 6000, 6000), ReplayCheck::FirstUse);
        assert_eq!(guard.check_and_insert(&signature, b"a", b"1", 6000, 6100), ReplayCheck::Replayed);
        assert_eq!(guard.check_and_insert(&signature, b"b", b"1", 6000, 6000), ReplayCheck::FirstUse);
        assert_eq!(guard.check_and_insert(&signature, b"a", b"2", 6000, 6000), ReplayCheck::FirstUse);
        assert_eq!(guard.check_and_insert(&[8; 32], b"a", b"1", 6000, 6000), ReplayCheck::FirstUse);
    }

    #[test]
    fn remembers_a_signature_for_as_long_as_it_is_valid() {
        let guard = ReplayGuard::new();
        guard.check_and_insert(&[7; 32], b"", b"", 60_000, 60_000);
        assert_eq!(
            guard.check_and_insert(&[7; 32], b"", b"", 60_000, 60_000 + 15 * 60),
            ReplayCheck::Replayed
        );
    }

    #[test]
    fn a_full_table_refuses_older_requests_and_lets_no_replay_through() {
        let guard = ReplayGuard::with_capacity(10);
        for index in 0..30_u8 {
            let dated = 60 * (1000 + i64::from(index));
            guard.check_and_insert(&[index; 32], b"", b"", dated, 60 * 1005);
        }
        for index in 0..30_u8 {
            let dated = 60 * (1000 + i64::from(index));
            assert_ne!(
                guard.check_and_insert(&[index; 32], b"", b"", dated, 60 * 1005),
                ReplayCheck::FirstUse,
                "{index}"
            );
        }
    }
}

//! Refuses a header signature that was used before, in bounded memory (docs/adr/0012).
//!
//! A use is the signature together with the SDK's `amz-sdk-invocation-id` and attempt number: two equal calls of boto3 within one
//! second have equal signatures, because boto3 does not sign those headers (measured). Many clients send no such headers, and sign
//! equal calls of one second alike, too: a signature may be used again at once, within two seconds of its date.
//!
//! What is not known is refused: requests that were signed before the process started, and those of minutes that a full table has
//! dropped. Presigned URLs are meant to be used more than once and are not recorded.

use durward_core::limits::{MAX_CLOCK_SKEW, SIGNATURE_REPEAT_WINDOW};
use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use time::OffsetDateTime;

/// Signatures remembered: 8 bytes each, and as much again for the hash table. Each is kept for some 17 minutes, so there is room
/// for about 4,000 requests a second.
const MAX_SEEN_SIGNATURES: usize = 4_000_000;

/// Whether a signature may be used.
#[derive(Debug, PartialEq, Eq)]
pub enum SignatureUse {
    Accepted,
    Replayed,
    /// Dated in a minute that the table no longer covers.
    Forgotten,
    /// It may have been used at an earlier process.
    SignedBeforeStart,
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
    /// In seconds since the epoch, as dates of requests are.
    started_at: i64,
}

impl ReplayGuard {
    pub fn new(started_at: OffsetDateTime) -> Self {
        Self::with_capacity(MAX_SEEN_SIGNATURES, started_at.unix_timestamp())
    }

    fn with_capacity(max_entries: usize, started_at: i64) -> Self {
        let validity_minutes = i64::try_from(MAX_CLOCK_SKEW.as_secs() / 60).unwrap_or(i64::MAX) + 1;
        Self {
            table: Mutex::default(),
            fingerprint_hasher: RandomState::new(),
            max_entries,
            validity_minutes,
            started_at,
        }
    }

    /// Records one use and says whether it is accepted. `dated` and `now` are seconds since the epoch.
    pub fn record_use(
        &self,
        signature: &[u8; 32],
        invocation: &[u8],
        attempt: &[u8],
        dated: i64,
        now: i64,
    ) -> SignatureUse {
        if dated < self.started_at {
            return SignatureUse::SignedBeforeStart;
        }
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
            return SignatureUse::Forgotten;
        }
        if !table.by_minute.entry(minute).or_default().insert(fingerprint) {
            // By the date and not by the first use: a client whose clock is wrong gets the stricter rule, and no more is kept.
            let is_at_once = dated.abs_diff(now) <= SIGNATURE_REPEAT_WINDOW.as_secs();
            return if is_at_once { SignatureUse::Accepted } else { SignatureUse::Replayed };
        }
        table.entry_count += 1;
        // The alternative, to forget the oldest signatures and still accept their dates, would let them be replayed.
        if table.entry_count > self.max_entries
            && let Some((oldest, removed)) = table.by_minute.pop_first()
        {
            table.refused_until_minute = oldest;
            table.entry_count -= removed.len();
        }
        SignatureUse::Accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> ReplayGuard {
        ReplayGuard::with_capacity(MAX_SEEN_SIGNATURES, 5_000)
    }

    #[test]
    fn refuses_the_same_signature_of_the_same_attempt_only() {
        let guard = guard();
        let signature = [7; 32];
        assert_eq!(guard.record_use(&signature, b"a", b"1", 6000, 6000), SignatureUse::Accepted);
        assert_eq!(guard.record_use(&signature, b"a", b"1", 6000, 6100), SignatureUse::Replayed);
        assert_eq!(guard.record_use(&signature, b"b", b"1", 6000, 6100), SignatureUse::Accepted);
        assert_eq!(guard.record_use(&signature, b"a", b"2", 6000, 6100), SignatureUse::Accepted);
        assert_eq!(guard.record_use(&[8; 32], b"a", b"1", 6000, 6100), SignatureUse::Accepted);
    }

    #[test]
    fn equal_calls_at_once_are_no_replay() {
        let guard = guard();
        for (now, expected) in [
            (6000, SignatureUse::Accepted),
            (6000, SignatureUse::Accepted),
            (6002, SignatureUse::Accepted),
            (6003, SignatureUse::Replayed),
            (5997, SignatureUse::Replayed),
        ] {
            assert_eq!(guard.record_use(&[7; 32], b"", b"", 6000, now), expected, "{now}");
        }
    }

    #[test]
    fn remembers_a_signature_for_as_long_as_it_is_valid() {
        let guard = guard();
        guard.record_use(&[7; 32], b"", b"", 60_000, 60_000);
        assert_eq!(guard.record_use(&[7; 32], b"", b"", 60_000, 60_000 + 15 * 60), SignatureUse::Replayed);
    }

    #[test]
    fn what_was_signed_before_the_start_may_have_been_used() {
        let guard = guard();
        assert_eq!(guard.record_use(&[7; 32], b"", b"", 4_999, 5_001), SignatureUse::SignedBeforeStart);
        assert_eq!(guard.record_use(&[7; 32], b"", b"", 5_000, 5_001), SignatureUse::Accepted);
    }

    #[test]
    fn a_full_table_refuses_older_requests_and_lets_no_replay_through() {
        let guard = ReplayGuard::with_capacity(10, 0);
        for index in 0..30_u8 {
            let dated = 60 * (1000 + i64::from(index));
            guard.record_use(&[index; 32], b"", b"", dated, 60 * 1005 + 30);
        }
        for index in 0..30_u8 {
            let dated = 60 * (1000 + i64::from(index));
            assert_ne!(
                guard.record_use(&[index; 32], b"", b"", dated, 60 * 1005 + 30),
                SignatureUse::Accepted,
                "{index}"
            );
        }
    }
}

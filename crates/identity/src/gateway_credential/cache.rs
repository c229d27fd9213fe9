//! Recently opened credentials, so that the requests of a busy caller do not each decrypt and parse the same token.
//!
//! Promises: it is bounded, and it decides nothing. Only completely opened credentials are inserted, and the owner checks the
//! expiry of every entry that it takes out. Eviction is the clock algorithm.

use super::OpenedCredential;
use durward_core::lock_ignoring_poison;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

/// A power of two, so that the first byte of a digest spreads evenly over the shards.
const SHARD_COUNT: usize = 16;
/// Entries of one shard: 8,192 credentials in all. An entry is about as large as its token.
const MAX_SHARD_ENTRIES: usize = 512;

/// SHA-256 of a presented pair: equal digests mean equal pairs, byte for byte.
pub(super) type CredentialDigest = [u8; 32];

#[derive(Default)]
pub(super) struct OpenedCredentialCache {
    // Shards, because each request takes a lock: all threads would contend for a single one.
    shards: [Mutex<CacheShard>; SHARD_COUNT],
}

#[derive(Default)]
struct CacheShard {
    slot_indexes: HashMap<CredentialDigest, usize>,
    slots: Vec<CacheSlot>,
    /// The next slot that is considered for eviction.
    clock_hand: usize,
}

struct CacheSlot {
    digest: CredentialDigest,
    opened: OpenedCredential,
    is_referenced: bool,
}

impl OpenedCredentialCache {
    pub fn get(&self, digest: &CredentialDigest) -> Option<OpenedCredential> {
        let mut shard = self.lock_shard(digest)?;
        let index = *shard.slot_indexes.get(digest)?;
        let slot = shard.slots.get_mut(index)?;
        slot.is_referenced = true;
        Some(slot.opened.clone())
    }

    /// Does nothing if the entry exists.
    pub fn insert(&self, digest: CredentialDigest, opened: &OpenedCredential) {
        if let Some(mut shard) = self.lock_shard(&digest)
            && !shard.slot_indexes.contains_key(&digest)
        {
            shard.insert(CacheSlot { digest, opened: opened.clone(), is_referenced: false });
        }
    }

    pub fn remove(&self, digest: &CredentialDigest) {
        if let Some(mut shard) = self.lock_shard(digest) {
            shard.remove(digest);
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().expect("no test panics with a lock").slots.len()).sum()
    }

    fn lock_shard(&self, digest: &CredentialDigest) -> Option<MutexGuard<'_, CacheShard>> {
        let index = usize::from(*digest.first()?) % SHARD_COUNT;
        self.shards.get(index).map(lock_ignoring_poison)
    }
}

impl CacheShard {
    fn insert(&mut self, slot: CacheSlot) {
        if self.slots.len() < MAX_SHARD_ENTRIES {
            self.slot_indexes.insert(slot.digest, self.slots.len());
            self.slots.push(slot);
            return;
        }
        let index = self.select_victim();
        if let Some(old) = self.slots.get_mut(index) {
            self.slot_indexes.remove(&old.digest);
            self.slot_indexes.insert(slot.digest, index);
            *old = slot;
        }
    }

    /// The first slot that was not used since the hand last passed it. Ends after one round at the latest.
    fn select_victim(&mut self) -> usize {
        loop {
            let index = self.clock_hand;
            self.clock_hand = (index + 1) % MAX_SHARD_ENTRIES;
            match self.slots.get_mut(index) {
                Some(slot) if slot.is_referenced => slot.is_referenced = false,
                _ => return index,
            }
        }
    }

    fn remove(&mut self, digest: &CredentialDigest) {
        let Some(index) = self.slot_indexes.remove(digest) else { return };
        self.slots.swap_remove(index);
        // The last slot was moved to this index.
        if let Some(moved) = self.slots.get(index) {
            self.slot_indexes.insert(moved.digest, index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::sample_claims, *};
    use durward_core::Secret;
    use std::sync::Arc;

    fn digest_in_first_shard(number: u32) -> CredentialDigest {
        let mut digest = [0; 32];
        // The first byte, which selects the shard, is the same for all.
        digest[4..8].copy_from_slice(&number.to_be_bytes());
        digest
    }

    fn opened_credential() -> OpenedCredential {
        OpenedCredential { claims: Arc::new(sample_claims()), secret_access_key: Secret::new("secret") }
    }

    #[test]
    fn the_cache_is_bounded_and_keeps_entries_in_use() {
        let (cache, opened) = (OpenedCredentialCache::default(), opened_credential());
        for number in 0..5_000 {
            cache.insert(digest_in_first_shard(number), &opened);
            assert!(
                cache.get(&digest_in_first_shard(7)).is_some() || number < 7,
                "the entry in use was dropped at {number}"
            );
        }
        assert_eq!(cache.len(), MAX_SHARD_ENTRIES);
        assert!(cache.get(&digest_in_first_shard(0)).is_none());
    }

    #[test]
    fn removals_leave_all_other_entries_in_place() {
        let (cache, opened) = (OpenedCredentialCache::default(), opened_credential());
        for number in 0..100 {
            cache.insert(digest_in_first_shard(number), &opened);
        }
        for number in (0..100).step_by(3) {
            cache.remove(&digest_in_first_shard(number));
            cache.remove(&digest_in_first_shard(number));
        }
        for number in 0..100 {
            assert_eq!(cache.get(&digest_in_first_shard(number)).is_some(), number % 3 != 0, "{number}");
        }
    }
}

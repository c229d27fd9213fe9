//! Credentials opened lately, so that the requests of a busy caller do not each decrypt and parse the same token.
//!
//! It is bounded, forgets what was not used (the clock algorithm), and decides nothing: the owner checks the expiry of
//! every entry it takes out, and only what was opened in full is put in.

use super::OpenedCredential;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A power of two, so that the first byte of a digest spreads evenly.
const SHARD_COUNT: usize = 16;
/// Entries of one shard: 8,192 callers at once in all. One costs about as much as its token.
const MAX_SHARD_ENTRIES: usize = 512;

/// SHA-256 of a presented pair. A digest found here was presented before, byte for byte.
pub(super) type CredentialDigest = [u8; 32];

#[derive(Default)]
pub(super) struct OpenedCredentialCache {
    shards: [Mutex<CacheShard>; SHARD_COUNT],
}

#[derive(Default)]
struct CacheShard {
    slot_indexes: HashMap<CredentialDigest, usize>,
    slots: Vec<CacheSlot>,
    /// The slot that is looked at next when room is needed.
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
        let place = *shard.slot_indexes.get(digest)?;
        let slot = shard.slots.get_mut(place)?;
        slot.is_referenced = true;
        Some(slot.opened.clone())
    }

    /// Does nothing for an entry that is there.
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
        Some(self.shards.get(index)?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl CacheShard {
    fn insert(&mut self, slot: CacheSlot) {
        if self.slots.len() < MAX_SHARD_ENTRIES {
            self.slot_indexes.insert(slot.digest, self.slots.len());
            self.slots.push(slot);
            return;
        }
        let place = self.select_victim();
        if let Some(old) = self.slots.get_mut(place) {
            self.slot_indexes.remove(&old.digest);
            self.slot_indexes.insert(slot.digest, place);
            *old = slot;
        }
    }

    /// The first slot from the hand on that was not used since the hand last passed. Ends after one round at the latest.
    fn select_victim(&mut self) -> usize {
        loop {
            let place = self.clock_hand;
            self.clock_hand = (place + 1) % MAX_SHARD_ENTRIES;
            match self.slots.get_mut(place) {
                Some(slot) if slot.is_referenced => slot.is_referenced = false,
                _ => return place,
            }
        }
    }

    fn remove(&mut self, digest: &CredentialDigest) {
        let Some(place) = self.slot_indexes.remove(digest) else { return };
        self.slots.swap_remove(place);
        if let Some(moved) = self.slots.get(place) {
            self.slot_indexes.insert(moved.digest, place);
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
        // All in one shard, to fill it.
        digest[4..8].copy_from_slice(&number.to_be_bytes());
        digest
    }

    fn opened_credential() -> OpenedCredential {
        OpenedCredential { claims: Arc::new(sample_claims()), secret_access_key: Secret::new("secret") }
    }

    #[test]
    fn stays_within_its_bound_and_keeps_what_is_used() {
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
    fn finds_every_other_entry_after_removals() {
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

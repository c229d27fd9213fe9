//! Credentials opened lately, so that the requests of a busy caller do not each decrypt and parse the same token.
//!
//! It is bounded, forgets what was not used (the clock algorithm), and decides nothing: the owner checks the expiry of
//! every entry it takes out, and only what was opened in full is put in.

use super::Opened;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A power of two, so that the first byte of a digest spreads evenly.
const SHARDS: usize = 16;
/// Entries of one shard: 8,192 callers at once in all. One costs about as much as its token.
const ENTRIES: usize = 512;

/// SHA-256 of a presented pair. A digest found here was presented before, byte for byte.
pub(super) type Digest = [u8; 32];

#[derive(Default)]
pub(super) struct Cache {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    places: HashMap<Digest, usize>,
    slots: Vec<Slot>,
    /// The slot that is looked at next when room is needed.
    hand: usize,
}

struct Slot {
    digest: Digest,
    opened: Opened,
    used: bool,
}

impl Cache {
    pub fn get(&self, digest: &Digest) -> Option<Opened> {
        let mut shard = self.shard(digest)?;
        let place = *shard.places.get(digest)?;
        let slot = shard.slots.get_mut(place)?;
        slot.used = true;
        Some(slot.opened.clone())
    }

    /// Does nothing for an entry that is there.
    pub fn put(&self, digest: Digest, opened: &Opened) {
        if let Some(mut shard) = self.shard(&digest)
            && !shard.places.contains_key(&digest)
        {
            shard.put(Slot { digest, opened: opened.clone(), used: false });
        }
    }

    pub fn remove(&self, digest: &Digest) {
        if let Some(mut shard) = self.shard(digest) {
            shard.remove(digest);
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().expect("no test panics with a lock").slots.len()).sum()
    }

    fn shard(&self, digest: &Digest) -> Option<MutexGuard<'_, Shard>> {
        let index = usize::from(*digest.first()?) % SHARDS;
        Some(self.shards.get(index)?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shard {
    fn put(&mut self, slot: Slot) {
        if self.slots.len() < ENTRIES {
            self.places.insert(slot.digest, self.slots.len());
            self.slots.push(slot);
            return;
        }
        let place = self.victim();
        if let Some(old) = self.slots.get_mut(place) {
            self.places.remove(&old.digest);
            self.places.insert(slot.digest, place);
            *old = slot;
        }
    }

    /// The first slot from the hand on that was not used since the hand last passed. Ends after one round at the latest.
    fn victim(&mut self) -> usize {
        loop {
            let place = self.hand;
            self.hand = (place + 1) % ENTRIES;
            match self.slots.get_mut(place) {
                Some(slot) if slot.used => slot.used = false,
                _ => return place,
            }
        }
    }

    fn remove(&mut self, digest: &Digest) {
        let Some(place) = self.places.remove(digest) else { return };
        self.slots.swap_remove(place);
        if let Some(moved) = self.slots.get(place) {
            self.places.insert(moved.digest, place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::claims, *};
    use durward_core::Secret;
    use std::sync::Arc;

    fn digest(number: u32) -> Digest {
        let mut digest = [0; 32];
        // All in one shard, to fill it.
        digest[4..8].copy_from_slice(&number.to_be_bytes());
        digest
    }

    fn opened() -> Opened {
        Opened { claims: Arc::new(claims()), secret: Secret::new("secret") }
    }

    #[test]
    fn stays_within_its_bound_and_keeps_what_is_used() {
        let (cache, opened) = (Cache::default(), opened());
        for number in 0..5_000 {
            cache.put(digest(number), &opened);
            assert!(
                cache.get(&digest(7)).is_some() || number < 7,
                "the entry in use was dropped at {number}"
            );
        }
        assert_eq!(cache.len(), ENTRIES);
        assert!(cache.get(&digest(0)).is_none());
    }

    #[test]
    fn finds_every_other_entry_after_removals() {
        let (cache, opened) = (Cache::default(), opened());
        for number in 0..100 {
            cache.put(digest(number), &opened);
        }
        for number in (0..100).step_by(3) {
            cache.remove(&digest(number));
            cache.remove(&digest(number));
        }
        for number in 0..100 {
            assert_eq!(cache.get(&digest(number)).is_some(), number % 3 != 0, "{number}");
        }
    }
}

//! Places for requests that are held open while people are asked: so much memory in all, and of that so much for one caller,
//! so that a caller who repeats itself does not send the others away.

use durward_core::{Caller, limits};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::{Semaphore, SemaphorePermit};

/// All places; their unit is a KiB.
#[derive(Debug)]
pub struct Held {
    free: Semaphore,
    /// What each caller has, if anything.
    taken: Mutex<HashMap<String, usize>>,
}

impl Default for Held {
    fn default() -> Self {
        Self { free: Semaphore::new(limits::HELD), taken: Mutex::default() }
    }
}

impl Held {
    /// A place for an operation whose canonical form is so long; none when all or the caller's own are taken.
    pub(crate) fn place(&self, caller: &Caller, canonical_bytes: usize) -> Option<Place<'_>> {
        let weight = limits::HELD_EACH + canonical_bytes * 3 / 1024;
        let permit = self.free.try_acquire_many(u32::try_from(weight).ok()?).ok()?;
        let caller = caller.id();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs = taken.get(&caller).copied().unwrap_or_default() + weight;
        if theirs > limits::HELD_OF_CALLER {
            return None;
        }
        taken.insert(caller.clone(), theirs);
        drop(taken);
        Some(Place { held: self, caller, weight, _permit: permit })
    }

    /// How much is free, in KiB.
    pub fn free(&self) -> usize {
        self.free.available_permits()
    }
}

/// A place, until it is dropped.
pub(crate) struct Place<'h> {
    held: &'h Held,
    caller: String,
    weight: usize,
    _permit: SemaphorePermit<'h>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self.held.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(theirs) = taken.get_mut(&self.caller) {
            *theirs = theirs.saturating_sub(self.weight);
            if *theirs == 0 {
                taken.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(subject: &str) -> Caller {
        Caller {
            provider: "corp".to_owned(),
            issuer: "https://login.example.com".to_owned(),
            subject: subject.to_owned(),
            kind: durward_core::CallerKind::Workload,
            groups: Vec::new(),
            act: Vec::new(),
        }
    }

    #[test]
    fn one_caller_does_not_take_the_places_of_others() {
        let held = Held::default();
        let mine: Vec<_> = std::iter::from_fn(|| held.place(&caller("greedy"), 0)).collect();
        assert_eq!(mine.len(), limits::HELD_OF_CALLER / limits::HELD_EACH);
        let other = held.place(&caller("other"), 0);
        assert!(other.is_some());
        drop((mine, other));
        assert!(held.place(&caller("greedy"), 0).is_some(), "what is given back can be taken again");
        assert_eq!(held.free(), limits::HELD);
        assert!(held.taken.lock().unwrap().is_empty(), "who has none is forgotten");
    }

    #[test]
    fn all_callers_together_take_no_more_than_there_is() {
        let held = Held::default();
        let callers = (0..).map(|number| caller(&format!("agent-{number}")));
        let places: Vec<_> = callers.map_while(|caller| held.place(&caller, limits::BODY)).collect();
        let each = limits::HELD_EACH + limits::BODY * 3 / 1024;
        assert_eq!(places.len(), limits::HELD / each, "a caller can have one of the largest");
        assert_eq!(held.free(), limits::HELD - places.len() * each);
    }
}

//! A bound on memory that callers can make the gateway use: in total, and for each caller, so that one caller who takes all it can
//! does not keep the others from being served.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// An amount of memory in KiB that requests share. Nothing waits for it: a request that waited would use memory that is not
/// counted.
#[derive(Debug)]
pub struct MemoryBudget {
    total_kib: usize,
    caller_kib: usize,
    used: Mutex<UsedMemory>,
}

#[derive(Debug, Default)]
struct UsedMemory {
    total_kib: usize,
    /// Callers that use none are not in it.
    kib_by_caller: HashMap<String, usize>,
}

impl MemoryBudget {
    /// `caller_kib` of `total_kib` is the most that one caller may use.
    pub fn new(total_kib: usize, caller_kib: usize) -> Arc<Self> {
        Arc::new(Self { total_kib, caller_kib, used: Mutex::default() })
    }

    /// A reservation of nothing for a caller, which can grow.
    pub(crate) fn reservation(self: &Arc<Self>, caller_id: String) -> MemoryReservation {
        MemoryReservation { budget: Arc::clone(self), caller_id, kib: 0 }
    }

    /// The free memory, in KiB.
    pub fn available_kib(&self) -> usize {
        self.total_kib - durward_core::lock_ignoring_poison(&self.used).total_kib
    }

    /// The number of callers who use memory.
    #[cfg(test)]
    pub(crate) fn caller_count(&self) -> usize {
        self.used.lock().unwrap().kib_by_caller.len()
    }
}

/// A caller's use of the memory, until it is dropped.
#[derive(Debug)]
pub(crate) struct MemoryReservation {
    budget: Arc<MemoryBudget>,
    caller_id: String,
    kib: usize,
}

impl MemoryReservation {
    /// Changes the reservation to `kib`. Returns false, and changes nothing, if the total or the caller's part does not have it.
    #[must_use]
    pub fn resize(&mut self, kib: usize) -> bool {
        let mut used = durward_core::lock_ignoring_poison(&self.budget.used);
        let total = used.total_kib - self.kib + kib;
        let of_caller = used.kib_by_caller.get(&self.caller_id).copied().unwrap_or_default() - self.kib + kib;
        let grows = kib > self.kib;
        if grows && (total > self.budget.total_kib || of_caller > self.budget.caller_kib) {
            return false;
        }
        used.total_kib = total;
        if of_caller == 0 {
            used.kib_by_caller.remove(&self.caller_id);
        } else if let Some(kib) = used.kib_by_caller.get_mut(&self.caller_id) {
            *kib = of_caller;
        } else {
            used.kib_by_caller.insert(self.caller_id.clone(), of_caller);
        }
        drop(used);
        self.kib = kib;
        true
    }

    #[cfg(test)]
    pub fn kib(&self) -> usize {
        self.kib
    }
}

impl Drop for MemoryReservation {
    fn drop(&mut self) {
        // It never fails: it only shrinks.
        let _shrunk = self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_has_its_part_and_all_callers_have_the_total() {
        let budget = MemoryBudget::new(10, 4);
        let mut mine = budget.reservation("corp/a".to_owned());
        let mut also_mine = budget.reservation("corp/a".to_owned());
        assert!(mine.resize(3) && also_mine.resize(1) && !also_mine.resize(2));
        assert_eq!((mine.kib(), also_mine.kib(), budget.available_kib()), (3, 1, 6));
        let mut others: Vec<_> = ["b", "c"].map(|id| budget.reservation(id.to_owned())).into();
        assert!(others[0].resize(4) && others[1].resize(2) && !others[1].resize(3));
        assert!(others[0].resize(1), "it can always shrink");
        drop((mine, also_mine));
        assert_eq!((budget.available_kib(), budget.caller_count()), (7, 2));
        others.clear();
        assert_eq!((budget.available_kib(), budget.caller_count()), (10, 0));
    }
}

//! The policy set in force, replaced as one when the directory changes.
//!
//! The last good set stays in force while the directory does not load. A change is taken up once the directory has looked the
//! same twice, so that a file caught half written does not count.

use crate::{
    problem::LoadError,
    set::PolicySet,
    source::{self, Fingerprint},
    vocabulary::Vocabulary,
};
use arc_swap::ArcSwap;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::MissedTickBehavior;

/// How often the directory is looked at.
const POLL: Duration = Duration::from_secs(1);

/// A policy directory and the set in force.
pub struct Policies {
    dir: PathBuf,
    vocabulary: &'static dyn Vocabulary,
    current: ArcSwap<PolicySet>,
    /// Replaced sets that an exchange may still hold: freeing thousands of policies is not left to an exchange.
    replaced: Mutex<Vec<Arc<PolicySet>>>,
    seen: Mutex<Seen>,
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// What the directory looked like when it was last loaded, with or without success. None: it could not be read.
    tried: Option<Fingerprint>,
    last: Option<Fingerprint>,
}

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policies").field("dir", &self.dir).field("current", &self.current()).finish()
    }
}

impl Policies {
    /// Loads the directory. A directory that does not load is an error: nothing is in force without a good set.
    pub fn open(dir: &Path, vocabulary: &'static dyn Vocabulary) -> Result<Self, LoadError> {
        // Taken before the load: a change during it is seen as one.
        let before = source::fingerprint(dir);
        let set = PolicySet::load(dir, vocabulary)?;
        Ok(Self {
            dir: dir.to_owned(),
            vocabulary,
            current: ArcSwap::from_pointee(set),
            replaced: Mutex::default(),
            seen: Mutex::new(Seen { tried: before.clone(), last: before }),
        })
    }

    /// The set in force. One exchange should keep one set from decision to record.
    pub fn current(&self) -> Arc<PolicySet> {
        self.current.load_full()
    }

    /// Loads the directory now. Whether another set came into force; on an error the last good one stays.
    pub fn reload(&self) -> Result<bool, LoadError> {
        let set = PolicySet::load(&self.dir, self.vocabulary)?;
        let changed = set.version() != self.current.load().version();
        if changed {
            tracing::info!(version = set.version(), policies = set.len(), "a new policy set is in force");
            let replaced = self.current.swap(Arc::new(set));
            self.replaced().push(replaced);
            self.free_replaced();
        }
        Ok(changed)
    }

    fn replaced(&self) -> MutexGuard<'_, Vec<Arc<PolicySet>>> {
        // The guarded list is whole at any time, so a poisoned lock is still good.
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frees the replaced sets that no exchange holds any more. Nobody can take hold of one again.
    fn free_replaced(&self) {
        self.replaced().retain(|set| Arc::strong_count(set) > 1);
    }

    /// Reloads whenever the directory changes, until dropped. Run it as a task.
    pub async fn watch(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let this = Arc::clone(&self);
            if let Err(error) = tokio::task::spawn_blocking(move || this.poll()).await {
                tracing::error!(%error, "the policy directory could not be watched; the last good policy set stays in force");
            }
        }
    }

    /// Looks at the directory once.
    fn poll(&self) {
        self.free_replaced();
        let now = source::fingerprint(&self.dir);
        // The guarded value is whole at any time, so a poisoned lock is still good.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if now != seen.last {
            seen.last = now;
            return;
        }
        if now == seen.tried {
            return;
        }
        seen.tried = now;
        if let Err(error) = self.reload() {
            tracing::error!(%error, "the policy directory does not load; the last good policy set stays in force");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Small;
    use std::fs;

    const GOOD: &str = "permit (principal, action == Action::\"connect\", resource);\n";

    #[test]
    fn takes_up_a_change_once_it_has_settled() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("a.cedar"), GOOD).expect("written");
        let policies = Policies::open(dir.path(), &Small).expect("loads");
        let first = policies.current().version().to_owned();
        fs::write(dir.path().join("b.cedar"), GOOD).expect("written");
        policies.poll();
        assert_eq!(policies.current().version(), first, "a change seen once may be half written");
        policies.poll();
        assert_ne!(policies.current().version(), first);
        assert_eq!(policies.current().len(), 2);
    }

    #[test]
    fn a_replaced_set_is_not_freed_by_the_exchange_that_held_it_last() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("a.cedar"), GOOD).expect("written");
        let policies = Policies::open(dir.path(), &Small).expect("loads");
        let held = policies.current();
        fs::write(dir.path().join("b.cedar"), GOOD).expect("written");
        assert_eq!(policies.reload(), Ok(true));
        policies.poll();
        let watched = Arc::downgrade(&held);
        drop(held);
        assert!(watched.upgrade().is_some(), "the drop of the exchange freed it");
        policies.poll();
        assert!(watched.upgrade().is_none(), "it is never freed");
    }

    #[test]
    fn keeps_the_last_good_set_on_an_error() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("a.cedar");
        fs::write(&file, GOOD).expect("written");
        let policies = Policies::open(dir.path(), &Small).expect("loads");
        let first = policies.current().version().to_owned();
        for broken in ["permit (", ""] {
            fs::write(&file, broken).expect("written");
            assert!(policies.reload().is_err());
            assert_eq!(policies.current().version(), first);
        }
        fs::remove_dir_all(dir.path()).expect("removed");
        policies.poll();
        policies.poll();
        assert_eq!(policies.current().version(), first);
    }
}

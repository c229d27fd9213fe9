//! The policy set in force, replaced as one when the directory changes.
//!
//! The last good set stays in force while the directory does not load. A change is taken up once the directory has looked the
//! same twice, so that a file caught half written does not count.

use crate::{
    load_error::PolicyLoadError,
    policy_directory::{self, DirectoryFingerprint},
    policy_set::PolicySet,
    schema_source::SchemaSource,
};
use arc_swap::ArcSwap;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::MissedTickBehavior;

/// How often the directory is looked at.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A policy directory and the set in force.
pub struct PolicyStore {
    dir: PathBuf,
    schema_source: &'static dyn SchemaSource,
    current: ArcSwap<PolicySet>,
    /// Replaced sets that an exchange may still hold: freeing thousands of policies is not left to an exchange.
    replaced_sets: Mutex<Vec<Arc<PolicySet>>>,
    directory_state: Mutex<DirectoryState>,
}

#[derive(Debug, PartialEq, Eq)]
struct DirectoryState {
    /// What the directory looked like when it was last loaded, with or without success. None: it could not be read.
    last_tried: Option<DirectoryFingerprint>,
    last_seen: Option<DirectoryFingerprint>,
}

impl std::fmt::Debug for PolicyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyStore").field("dir", &self.dir).field("current", &self.current()).finish()
    }
}

impl PolicyStore {
    /// Loads the directory. A directory that does not load is an error: nothing is in force without a good set.
    pub fn open(dir: &Path, vocabulary: &'static dyn SchemaSource) -> Result<Self, PolicyLoadError> {
        // Taken before the load: a change during it is seen as one.
        let before = policy_directory::fingerprint_directory(dir);
        let set = PolicySet::load(dir, vocabulary)?;
        Ok(Self {
            dir: dir.to_owned(),
            schema_source: vocabulary,
            current: ArcSwap::from_pointee(set),
            replaced_sets: Mutex::default(),
            directory_state: Mutex::new(DirectoryState { last_tried: before.clone(), last_seen: before }),
        })
    }

    /// The set in force. One exchange should keep one set from decision to record.
    pub fn current(&self) -> Arc<PolicySet> {
        self.current.load_full()
    }

    /// Loads the directory now. Whether another set came into force; on an error the last good one stays.
    pub fn reload(&self) -> Result<bool, PolicyLoadError> {
        let set = PolicySet::load(&self.dir, self.schema_source)?;
        let changed = set.version() != self.current.load().version();
        if changed {
            tracing::info!(version = set.version(), policies = set.len(), "a new policy set is in force");
            let replaced = self.current.swap(Arc::new(set));
            self.lock_replaced_sets().push(replaced);
            self.free_replaced_sets();
        }
        Ok(changed)
    }

    fn lock_replaced_sets(&self) -> MutexGuard<'_, Vec<Arc<PolicySet>>> {
        // The guarded list is whole at any time, so a poisoned lock is still good.
        self.replaced_sets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frees the replaced sets that no exchange holds any more. Nobody can take hold of one again.
    fn free_replaced_sets(&self) {
        self.lock_replaced_sets().retain(|set| Arc::strong_count(set) > 1);
    }

    /// Reloads whenever the directory changes, until dropped. Run it as a task.
    pub async fn watch_directory(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let this = Arc::clone(&self);
            if let Err(error) = tokio::task::spawn_blocking(move || this.poll_directory()).await {
                tracing::error!(%error, "the policy directory could not be watched; the last good policy set stays in force");
            }
        }
    }

    /// Looks at the directory once.
    fn poll_directory(&self) {
        self.free_replaced_sets();
        let now = policy_directory::fingerprint_directory(&self.dir);
        // The guarded value is whole at any time, so a poisoned lock is still good.
        let mut seen = self.directory_state.lock().unwrap_or_else(PoisonError::into_inner);
        if now != seen.last_seen {
            seen.last_seen = now;
            return;
        }
        if now == seen.last_tried {
            return;
        }
        seen.last_tried = now;
        if let Err(error) = self.reload() {
            tracing::error!(%error, "the policy directory does not load; the last good policy set stays in force");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_fixtures::TestSchemaSource;
    use std::fs;

    const VALID_POLICY: &str = "permit (principal, action == Action::\"connect\", resource);\n";

    #[test]
    fn reloads_once_a_change_has_settled() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("a.cedar"), VALID_POLICY).expect("written");
        let policies = PolicyStore::open(dir.path(), &TestSchemaSource).expect("loads");
        let first = policies.current().version().to_owned();
        fs::write(dir.path().join("b.cedar"), VALID_POLICY).expect("written");
        policies.poll_directory();
        assert_eq!(policies.current().version(), first, "a change seen once may be half written");
        policies.poll_directory();
        assert_ne!(policies.current().version(), first);
        assert_eq!(policies.current().len(), 2);
    }

    #[test]
    fn a_replaced_set_is_not_freed_by_the_exchange_that_held_it_last() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("a.cedar"), VALID_POLICY).expect("written");
        let policies = PolicyStore::open(dir.path(), &TestSchemaSource).expect("loads");
        let held = policies.current();
        fs::write(dir.path().join("b.cedar"), VALID_POLICY).expect("written");
        assert_eq!(policies.reload(), Ok(true));
        policies.poll_directory();
        let watched = Arc::downgrade(&held);
        drop(held);
        assert!(watched.upgrade().is_some(), "the drop of the exchange freed it");
        policies.poll_directory();
        assert!(watched.upgrade().is_none(), "it is never freed");
    }

    #[test]
    fn keeps_the_last_good_set_on_an_error() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("a.cedar");
        fs::write(&file, VALID_POLICY).expect("written");
        let policies = PolicyStore::open(dir.path(), &TestSchemaSource).expect("loads");
        let first = policies.current().version().to_owned();
        for broken in ["permit (", ""] {
            fs::write(&file, broken).expect("written");
            assert!(policies.reload().is_err());
            assert_eq!(policies.current().version(), first);
        }
        fs::remove_dir_all(dir.path()).expect("removed");
        policies.poll_directory();
        policies.poll_directory();
        assert_eq!(policies.current().version(), first);
    }
}

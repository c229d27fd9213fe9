//! The policy set in force, replaced as a whole when the directory changes.
//!
//! The last good set stays in force while the directory does not load. A change is loaded once the directory has had the same
//! fingerprint twice, so that a half-written file is not loaded.

use crate::{
    configured_names::ConfiguredNames,
    load_error::PolicyLoadError,
    policy_directory::{self, DirectoryFingerprint},
    policy_set::PolicySet,
    schema_source::SchemaSource,
};
use arc_swap::ArcSwap;
use durward_core::lock_ignoring_poison;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::MissedTickBehavior;

/// The interval at which the directory is checked for changes. Checking reads metadata only; a watch by inotify would miss
/// changes on network file systems (inotify(7), "Limitations and caveats").
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A policy directory and the set in force.
pub struct PolicyStore {
    dir: PathBuf,
    schema_source: &'static dyn SchemaSource,
    /// The names that policies can have. `None`: the configuration is not known.
    configured_names: Option<ConfiguredNames>,
    // Reading it takes no lock, so a reload never stalls decisions.
    current: ArcSwap<PolicySet>,
    /// Replaced sets that an exchange may still hold. They are freed here, so that no exchange pays for the freeing of thousands of
    /// policies.
    replaced_sets: Mutex<Vec<Arc<PolicySet>>>,
    directory_state: Mutex<DirectoryState>,
}

#[derive(Debug, PartialEq, Eq)]
struct DirectoryState {
    /// The fingerprint when the directory was last loaded, with or without success. `None`: it could not be read.
    last_tried: Option<DirectoryFingerprint>,
    last_seen: Option<DirectoryFingerprint>,
}

impl std::fmt::Debug for PolicyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyStore").field("dir", &self.dir).field("current", &self.current()).finish()
    }
}

impl PolicyStore {
    /// Loads the directory. Without a good set nothing could be decided, so a directory that does not load is an error.
    pub fn open(dir: &Path, schema_source: &'static dyn SchemaSource) -> Result<Self, PolicyLoadError> {
        Self::open_with(dir, schema_source, None)
    }

    /// As [`PolicyStore::open`], for a gateway whose configuration is known: a set with a name that the configuration does not have
    /// is never put in force.
    pub fn open_for_configuration(
        dir: &Path,
        schema_source: &'static dyn SchemaSource,
        names: ConfiguredNames,
    ) -> Result<Self, PolicyLoadError> {
        Self::open_with(dir, schema_source, Some(names))
    }

    fn open_with(
        dir: &Path,
        schema_source: &'static dyn SchemaSource,
        configured_names: Option<ConfiguredNames>,
    ) -> Result<Self, PolicyLoadError> {
        // Before the load, so that a change during the load is noticed.
        let before = policy_directory::fingerprint_directory(dir);
        let set = load_policy_set(dir, schema_source, configured_names.as_ref())?;
        Ok(Self {
            dir: dir.to_owned(),
            schema_source,
            configured_names,
            current: ArcSwap::from_pointee(set),
            replaced_sets: Mutex::default(),
            directory_state: Mutex::new(DirectoryState { last_tried: before.clone(), last_seen: before }),
        })
    }

    /// The set in force. An exchange should use one set from the decision to the record.
    pub fn current(&self) -> Arc<PolicySet> {
        self.current.load_full()
    }

    /// Loads the directory now, and returns whether another set came into force. On an error the last good set stays.
    pub fn reload(&self) -> Result<bool, PolicyLoadError> {
        let set = load_policy_set(&self.dir, self.schema_source, self.configured_names.as_ref())?;
        // By content: a file that was only touched must not count as another set, which refuses requests that were decided by the
        // old one (docs/adr/0003).
        let changed = set.version() != self.current.load().version();
        if changed {
            tracing::info!(version = set.version(), policies = set.len(), "a new policy set is in force");
            let replaced = self.current.swap(Arc::new(set));
            lock_ignoring_poison(&self.replaced_sets).push(replaced);
            self.free_replaced_sets();
        }
        Ok(changed)
    }

    /// Frees the replaced sets that no exchange holds any more. No one can get hold of them again.
    fn free_replaced_sets(&self) {
        lock_ignoring_poison(&self.replaced_sets).retain(|set| Arc::strong_count(set) > 1);
    }

    /// Reloads whenever the directory changes, until dropped. Run it as a task.
    pub async fn watch_directory(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // On a blocking thread: file systems can block, and thousands of policies take long to validate.
            let this = Arc::clone(&self);
            if let Err(error) = tokio::task::spawn_blocking(move || this.poll_directory()).await {
                tracing::error!(%error, "the policy directory could not be watched; the last good policy set stays in force");
            }
        }
    }

    /// Checks the directory once.
    fn poll_directory(&self) {
        self.free_replaced_sets();
        let now = policy_directory::fingerprint_directory(&self.dir);
        let mut state = lock_ignoring_poison(&self.directory_state);
        // The first sight of a change only notes it: the next poll loads it if the files have not changed again.
        if now != state.last_seen {
            state.last_seen = now;
            return;
        }
        if now == state.last_tried {
            return;
        }
        // Also after a failure, so that a broken file is reported once and not every second.
        state.last_tried = now;
        if let Err(error) = self.reload() {
            tracing::error!(%error, "the policy directory does not load; the last good policy set stays in force");
        }
    }
}

fn load_policy_set(
    dir: &Path,
    schema_source: &dyn SchemaSource,
    configured_names: Option<&ConfiguredNames>,
) -> Result<PolicySet, PolicyLoadError> {
    let set = PolicySet::load(dir, schema_source)?;
    let problems = configured_names.map(|names| set.find_unknown_names(names)).unwrap_or_default();
    if problems.is_empty() { Ok(set) } else { Err(PolicyLoadError::new(problems)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_fixtures::TestSchemaSource;
    use std::fs;

    const VALID_POLICY: &str = "permit (principal, action == Action::\"connect\", resource);\n";

    #[test]
    fn loads_a_change_once_it_has_settled() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("a.cedar"), VALID_POLICY).expect("written");
        let policies = PolicyStore::open(dir.path(), &TestSchemaSource).expect("loads");
        let first = policies.current().version().to_owned();
        fs::write(dir.path().join("b.cedar"), VALID_POLICY).expect("written");
        policies.poll_directory();
        assert_eq!(
            policies.current().version(),
            first,
            "a change that was seen only once may be half written"
        );
        policies.poll_directory();
        assert_ne!(policies.current().version(), first);
        assert_eq!(policies.current().len(), 2);
    }

    #[test]
    fn a_replaced_set_is_not_freed_by_the_last_exchange_that_held_it() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("a.cedar"), VALID_POLICY).expect("written");
        let policies = PolicyStore::open(dir.path(), &TestSchemaSource).expect("loads");
        let held = policies.current();
        fs::write(dir.path().join("b.cedar"), VALID_POLICY).expect("written");
        assert_eq!(policies.reload(), Ok(true));
        policies.poll_directory();
        let weak = Arc::downgrade(&held);
        drop(held);
        assert!(weak.upgrade().is_some(), "the exchange freed it");
        policies.poll_directory();
        assert!(weak.upgrade().is_none(), "it is never freed");
    }

    #[test]
    fn a_set_with_a_name_that_the_configuration_does_not_have_is_not_put_in_force() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("a.cedar");
        fs::write(&file, VALID_POLICY).expect("written");
        let open =
            || PolicyStore::open_for_configuration(dir.path(), &TestSchemaSource, ConfiguredNames::default());
        let policies = open().expect("loads");
        let first = policies.current().version().to_owned();
        fs::write(&file, VALID_POLICY.replace("resource", "resource == Connection::\"prod\""))
            .expect("written");
        let error = policies.reload().expect_err("there is no such connection").to_string();
        assert!(
            error.contains("a.cedar:1:61: policy `a.1`: there is no connection or MCP server \"prod\""),
            "{error}"
        );
        assert_eq!(policies.current().version(), first);
        assert!(open().is_err());
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

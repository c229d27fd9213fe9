//! Tells if a caller does something for the first time, which is part of the risk of an operation.
//!
//! An allowed operation is recorded behind the request, never before it. A record that is lost, or purged after a year,
//! makes an operation look newer than it is, and so riskier: the safe side.

use crate::binding::{caller_binding, distinct_actions};
use durward_core::limits::FIRST_SEEN_RETENTION;
use durward_core::timestamps::to_unix_millis;
use durward_core::{Caller, Operation, lock_ignoring_poison};
use durward_store::{Store, StoreError};
use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
    sync::Mutex,
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use tokio::sync::mpsc;

/// Records that may wait to be written. A flood beyond that is dropped, not queued.
const MAX_QUEUED_RECORDS: usize = 1_024;
/// Keys that are remembered as recorded, so that a frequent operation is written once.
const MAX_RECORDED_KEYS: usize = 65_536;
/// Records in one transaction.
const WRITE_BATCH_SIZE: usize = 100;
const PURGE_INTERVAL: Duration = Duration::from_hours(1);

/// The binding of a caller and the actions of an operation, as stored.
type FirstSeenRecord = (String, String);

/// The actions that each caller was allowed before.
#[derive(Debug)]
pub struct FirstSeen {
    store: Store,
    recorded_keys: Mutex<HashSet<u64>>,
    // Keyed per process, so that no caller can choose actions that collide with recorded ones.
    hasher_state: RandomState,
    record_sender: mpsc::Sender<FirstSeenRecord>,
}

impl FirstSeen {
    /// Needs a Tokio runtime: a task writes the records until this is dropped.
    pub fn new(store: Store) -> Self {
        let (record_sender, records) = mpsc::channel(MAX_QUEUED_RECORDS);
        tokio::spawn(write_records(store.clone(), records));
        Self { store, recorded_keys: Mutex::default(), hasher_state: RandomState::new(), record_sender }
    }

    /// Returns true if this caller was never allowed these actions.
    pub async fn is_new(&self, caller: &Caller, operation: &Operation) -> Result<bool, StoreError> {
        let (caller, actions) = first_seen_record(caller, operation);
        if self.is_recorded(self.record_key(&caller, &actions)) {
            return Ok(false);
        }
        let mut transaction = self.store.begin_read().await?;
        Ok(!transaction.was_seen(&caller, &actions).await?)
    }

    /// Records that an operation was allowed.
    pub fn record_operation(&self, caller: &Caller, operation: &Operation) {
        let (caller, actions) = first_seen_record(caller, operation);
        let key = self.record_key(&caller, &actions);
        // A full queue drops the record and marks nothing as recorded, so that the next such operation tries again.
        if self.is_recorded(key) || self.record_sender.try_send((caller, actions)).is_err() {
            return;
        }
        let mut recorded_keys = lock_ignoring_poison(&self.recorded_keys);
        if recorded_keys.len() >= MAX_RECORDED_KEYS {
            // Cleared as a whole: the set only saves writes, and after it the store itself ignores the repeats.
            recorded_keys.clear();
        }
        recorded_keys.insert(key);
    }

    fn is_recorded(&self, key: u64) -> bool {
        lock_ignoring_poison(&self.recorded_keys).contains(&key)
    }

    fn record_key(&self, caller: &str, actions: &str) -> u64 {
        self.hasher_state.hash_one((caller, actions))
    }
}

fn first_seen_record(caller: &Caller, operation: &Operation) -> FirstSeenRecord {
    (caller_binding(caller), distinct_actions(operation))
}

async fn write_records(store: Store, mut records: mpsc::Receiver<FirstSeenRecord>) {
    let mut batch = Vec::new();
    let mut purged_at: Option<Instant> = None;
    while records.recv_many(&mut batch, WRITE_BATCH_SIZE).await > 0 {
        let purges = purged_at.is_none_or(|at| at.elapsed() >= PURGE_INTERVAL);
        match write_batch(&store, &batch, purges).await {
            Ok(()) if purges => purged_at = Some(Instant::now()),
            Ok(()) => {}
            // The batch is lost. Its operations look new again, which only raises their risk.
            Err(error) => tracing::warn!(%error, "first-seen operations cannot be recorded"),
        }
        batch.clear();
    }
}

async fn write_batch(store: &Store, batch: &[FirstSeenRecord], purges: bool) -> Result<(), StoreError> {
    let now = OffsetDateTime::now_utc();
    let mut transaction = store.begin_write().await?;
    for (caller, actions) in batch {
        transaction.record_first_seen(caller, actions, to_unix_millis(now)).await?;
    }
    if purges {
        transaction.delete_first_seen_before(to_unix_millis(now - FIRST_SEEN_RETENTION)).await?;
    }
    transaction.commit().await
}

//! Whether a caller does something for the first time: a part of the risk.
//!
//! What is let through is noted behind the request, never before it: a note that is lost, or forgotten after a year, makes
//! an operation look newer than it is, and riskier.

use crate::approval_request_row::{caller_binding, distinct_actions};
use crate::clock::to_unix_millis;
use durward_core::{Caller, Operation};
use durward_store::{Store, StoreError};
use std::{
    collections::HashSet,
    hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use tokio::sync::mpsc;

/// Notes that may wait to be written.
const MAX_QUEUED_RECORDS: usize = 1_024;
/// What is remembered to be noted, so that it is not noted again.
const MAX_RECORDED_KEYS: usize = 65_536;
const FIRST_SEEN_RETENTION: time::Duration = time::Duration::days(365);
const PURGE_INTERVAL: Duration = Duration::from_hours(1);

/// Who did what before.
#[derive(Debug)]
pub struct FirstSeen {
    store: Store,
    recorded_keys: Mutex<HashSet<u64>>,
    hasher_state: RandomState,
    record_sender: mpsc::Sender<(String, String)>,
}

impl FirstSeen {
    /// Needs a Tokio runtime: a task writes the notes until this is dropped.
    pub fn new(store: Store) -> Self {
        let (notes, written) = mpsc::channel(MAX_QUEUED_RECORDS);
        tokio::spawn(write_records(store.clone(), written));
        Self {
            store,
            recorded_keys: Mutex::default(),
            hasher_state: RandomState::new(),
            record_sender: notes,
        }
    }

    /// Whether this caller was never let through with these actions.
    pub async fn is_new(&self, caller: &Caller, operation: &Operation) -> Result<bool, StoreError> {
        if self.is_recorded(self.operation_key(caller, operation)) {
            return Ok(false);
        }
        let mut view = self.store.begin_read().await?;
        Ok(!view.was_seen(&caller_binding(caller), &distinct_actions(operation)).await?)
    }

    /// Notes that an operation was let through.
    pub fn record_operation(&self, caller: &Caller, operation: &Operation) {
        let key = self.operation_key(caller, operation);
        if self.is_recorded(key)
            || self.record_sender.try_send((caller_binding(caller), distinct_actions(operation))).is_err()
        {
            return;
        }
        let mut noted = self.recorded_keys.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() >= MAX_RECORDED_KEYS {
            noted.clear();
        }
        noted.insert(key);
    }

    fn is_recorded(&self, key: u64) -> bool {
        self.recorded_keys.lock().unwrap_or_else(PoisonError::into_inner).contains(&key)
    }

    fn operation_key(&self, caller: &Caller, operation: &Operation) -> u64 {
        let mut hasher = self.hasher_state.build_hasher();
        caller.issuer.hash(&mut hasher);
        caller.subject.hash(&mut hasher);
        caller.provider.hash(&mut hasher);
        caller.act.hash(&mut hasher);
        (caller.kind as u8).hash(&mut hasher);
        for demand in &operation.required_permissions {
            demand.action.hash(&mut hasher);
        }
        hasher.finish()
    }
}

async fn write_records(store: Store, mut notes: mpsc::Receiver<(String, String)>) {
    let mut batch = Vec::new();
    let mut forgotten: Option<Instant> = None;
    while notes.recv_many(&mut batch, 100).await > 0 {
        let forget = forgotten.is_none_or(|at| at.elapsed() >= PURGE_INTERVAL);
        match write_batch(&store, &batch, forget).await {
            Ok(()) if forget => forgotten = Some(Instant::now()),
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, "what callers did for the first time cannot be noted"),
        }
        batch.clear();
    }
}

async fn write_batch(store: &Store, batch: &[(String, String)], forget: bool) -> Result<(), StoreError> {
    let now = OffsetDateTime::now_utc();
    let mut transaction = store.begin_write().await?;
    for (caller, actions) in batch {
        transaction.record_first_seen(caller, actions, to_unix_millis(now)).await?;
    }
    if forget {
        transaction.delete_first_seen_before(to_unix_millis(now - FIRST_SEEN_RETENTION)).await?;
    }
    transaction.commit().await
}

//! Whether a caller does something for the first time: a part of the risk.
//!
//! What is let through is noted behind the request, never before it: a note that is lost, or forgotten after a year, makes
//! an operation look newer than it is, and riskier.

use crate::moment::millis;
use crate::row::{actions, bound_to};
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
const WAITING: usize = 1_024;
/// What is remembered to be noted, so that it is not noted again.
const REMEMBERED: usize = 65_536;
const KEPT: time::Duration = time::Duration::days(365);
const FORGET: Duration = Duration::from_hours(1);

/// Who did what before.
#[derive(Debug)]
pub struct Novelty {
    store: Store,
    noted: Mutex<HashSet<u64>>,
    hashing: RandomState,
    notes: mpsc::Sender<(String, String)>,
}

impl Novelty {
    /// Needs a Tokio runtime: a task writes the notes until this is dropped.
    pub fn new(store: Store) -> Self {
        let (notes, written) = mpsc::channel(WAITING);
        tokio::spawn(write(store.clone(), written));
        Self { store, noted: Mutex::default(), hashing: RandomState::new(), notes }
    }

    /// Whether this caller was never let through with these actions.
    pub async fn is_new(&self, caller: &Caller, operation: &Operation) -> Result<bool, StoreError> {
        if self.remembers(self.key(caller, operation)) {
            return Ok(false);
        }
        let mut view = self.store.read().await?;
        Ok(!view.was_seen(&bound_to(caller), &actions(operation)).await?)
    }

    /// Notes that an operation was let through.
    pub fn note(&self, caller: &Caller, operation: &Operation) {
        let key = self.key(caller, operation);
        if self.remembers(key) || self.notes.try_send((bound_to(caller), actions(operation))).is_err() {
            return;
        }
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() >= REMEMBERED {
            noted.clear();
        }
        noted.insert(key);
    }

    fn remembers(&self, key: u64) -> bool {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).contains(&key)
    }

    fn key(&self, caller: &Caller, operation: &Operation) -> u64 {
        let mut hasher = self.hashing.build_hasher();
        caller.issuer.hash(&mut hasher);
        caller.subject.hash(&mut hasher);
        caller.provider.hash(&mut hasher);
        caller.act.hash(&mut hasher);
        (caller.kind as u8).hash(&mut hasher);
        for demand in &operation.demands {
            demand.action.hash(&mut hasher);
        }
        hasher.finish()
    }
}

async fn write(store: Store, mut notes: mpsc::Receiver<(String, String)>) {
    let mut batch = Vec::new();
    let mut forgotten: Option<Instant> = None;
    while notes.recv_many(&mut batch, 100).await > 0 {
        let forget = forgotten.is_none_or(|at| at.elapsed() >= FORGET);
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
    let mut transaction = store.write().await?;
    for (caller, actions) in batch {
        transaction.note_seen(caller, actions, millis(now)).await?;
    }
    if forget {
        transaction.forget_seen(millis(now - KEPT)).await?;
    }
    transaction.commit().await
}

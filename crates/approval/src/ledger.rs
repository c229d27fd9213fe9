//! Every change of an approval request: one transaction each, on disk before anything is announced.
//!
//! A grant is consumed under the store's only write lock and only from the row version that was evaluated, so of two racing
//! consumers one gets nothing. The transactions are in the child modules: `requests`, `grants`, `users` and `upkeep`.

use crate::clock::MonotonicClock;
use crate::corruption::{CorruptionLog, corrupt_placeholder};
use crate::lifecycle::expire_if_due;
use crate::subscriptions::Subscriptions;
use crate::{ApprovalLimits, ApprovalRequest, ApprovalRequestId, ApprovalState, Clock};
use durward_core::lock_ignoring_poison;
use durward_store::{ApprovalRequestRow, Store, StoreError, StoreTransaction};
use std::{collections::HashMap, sync::Mutex};

mod grants;
mod requests;
mod upkeep;
mod users;

pub(crate) use users::{store_approver, user_row};

/// Counts that are not written yet: repeats that joined a request, and uses of a time-bound grant.
#[derive(Debug, Clone, Copy, Default)]
struct PendingCounts {
    attempts: i64,
    uses: i64,
}

/// The state that the approvals and their expiry sweep share.
pub(crate) struct ApprovalLedger {
    pub(crate) store: Store,
    limits: ApprovalLimits,
    pub(crate) clock: MonotonicClock,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) corruption_log: CorruptionLog,
    pending_counts: Mutex<HashMap<ApprovalRequestId, PendingCounts>>,
    /// The number of the last change that was announced.
    last_announced_change: tokio::sync::Mutex<i64>,
}

impl ApprovalLedger {
    pub(crate) async fn open(store: Store, limits: ApprovalLimits, clock: Clock) -> Result<Self, StoreError> {
        let mut transaction = store.begin_read().await?;
        let latest = transaction.latest_time().await?;
        let announced = transaction.last_change_number().await?;
        drop(transaction);
        let ledger = Self {
            store,
            limits,
            clock: MonotonicClock::new(clock, latest),
            subscriptions: Subscriptions::new(),
            corruption_log: CorruptionLog::default(),
            pending_counts: Mutex::default(),
            last_announced_change: tokio::sync::Mutex::new(announced),
        };
        ledger.follow_clock_if_idle().await?;
        Ok(ledger)
    }

    /// Begins a write transaction, with the time that all processes on this store agree on.
    pub(crate) async fn begin_write(&self) -> Result<(StoreTransaction, i64), StoreError> {
        let mut transaction = self.store.begin_write().await?;
        // In the same transaction: the replicas have clocks of their own, and a grant must end for all of them at one time.
        let latest = transaction.advance_latest_time(self.clock.now()).await?;
        Ok((transaction, self.clock.raise_to(latest)))
    }

    /// The request of a row at this moment, with an expiry and counts that are not stored yet. `None`: its id cannot be read.
    pub(crate) fn current_request(&self, row: &ApprovalRequestRow) -> Option<ApprovalRequest> {
        let Some(mut request) = self.corruption_log.decode_row(row) else {
            return corrupt_placeholder(row);
        };
        expire_if_due(&mut request, self.clock.now());
        let pending_counts = lock_ignoring_poison(&self.pending_counts);
        let PendingCounts { attempts, uses } = pending_counts.get(&request.id).copied().unwrap_or_default();
        request.attempts = request.attempts.saturating_add_signed(attempts);
        request.uses = request.uses.saturating_add_signed(uses);
        Some(request)
    }

    pub(crate) fn current_requests(&self, rows: &[ApprovalRequestRow]) -> Vec<ApprovalRequest> {
        rows.iter().filter_map(|row| self.current_request(row)).collect()
    }

    pub(crate) async fn find_request(
        &self,
        id: ApprovalRequestId,
    ) -> Result<Option<ApprovalRequest>, StoreError> {
        let mut transaction = self.store.begin_read().await?;
        let row = transaction.find_approval_request(&id.to_string()).await?;
        Ok(row.and_then(|row| self.current_request(&row)))
    }

    /// Adds to the counts of a request. They are kept in memory until the expiry sweep writes them, so that a flood of repeats
    /// does not become a flood of writes.
    pub(crate) fn add_counts(&self, id: ApprovalRequestId, attempts: i64, uses: i64) {
        let mut pending_counts = lock_ignoring_poison(&self.pending_counts);
        let counts = pending_counts.entry(id).or_default();
        counts.attempts = counts.attempts.saturating_add(attempts);
        counts.uses = counts.uses.saturating_add(uses);
    }
}

/// Writes a changed request. The write lock is held, so the row cannot have changed since it was read; if it did, the store
/// does not isolate its transactions, and nothing may be granted.
async fn update_request(
    transaction: &mut StoreTransaction,
    request: &ApprovalRequest,
    change_number: i64,
    from: ApprovalState,
) -> Result<(), StoreError> {
    let row = crate::approval_request_row::to_row(request, change_number)?;
    if transaction.update_approval_request(&row, from.as_str()).await? {
        Ok(())
    } else {
        Err(StoreError::Corrupt(format!("approval request {} changed while it was written", request.id)))
    }
}

//! The work of the expiry sweep, and the announcement of changes.

use super::{ApprovalLedger, PendingCounts, update_request};
use crate::ApprovalRequestId;
use crate::lifecycle::expire_if_due;
use durward_core::lock_ignoring_poison;
use durward_store::StoreError;

/// Requests in one transaction of the expiry sweep: voters and callers wait for the write lock meanwhile.
const EXPIRY_BATCH_SIZE: usize = 100;

impl ApprovalLedger {
    /// Publishes what changed since the last announcement, in this process or another. After a failure the next call
    /// publishes it.
    pub(crate) async fn announce_changes(&self) {
        if let Err(error) = self.try_announce().await {
            tracing::error!(%error, "cannot read the changed approval requests");
        }
    }

    async fn try_announce(&self) -> Result<(), StoreError> {
        let mut announced = self.last_announced_change.lock().await;
        let mut transaction = self.store.begin_read().await?;
        for (id, change_number) in transaction.requests_changed_since(*announced).await? {
            let parsed = id
                .parse::<ApprovalRequestId>()
                .map_err(|error| StoreError::Corrupt(format!("the id of approval request {id}: {error}")));
            if let Some(parsed) = self.corruption_log.ok_or_log(&id, parsed) {
                if self.subscriptions.has_subscribers(parsed)
                    && let Some(request) = transaction
                        .find_approval_request(&id)
                        .await?
                        .and_then(|row| self.current_request(&row))
                {
                    self.subscriptions.publish(request);
                }
                self.subscriptions.announce_change(parsed);
            }
            // Per request: after an error the next call goes on here and does not announce the others again.
            *announced = change_number;
        }
        Ok(())
    }

    /// Writes the states of requests whose time is over. Returns whether there may be more.
    pub(crate) async fn expire_due_requests(&self) -> Result<bool, StoreError> {
        let mut transaction = self.store.begin_read().await?;
        // A read first: most sweeps find nothing, and twice a second is too often to take the write lock of all replicas.
        let due = transaction.overdue_request_ids(self.clock.now(), EXPIRY_BATCH_SIZE as i64).await?;
        drop(transaction);
        if due.is_empty() {
            return Ok(false);
        }
        let (mut transaction, now) = self.begin_write().await?;
        for id in &due {
            if let Some(row) = transaction.find_approval_request(id).await? {
                let Some(mut request) = self.corruption_log.decode_row(&row) else {
                    // Its columns say that its time is over, whatever its JSON says.
                    transaction.mark_request_corrupt(id).await?;
                    continue;
                };
                let from = request.state;
                if expire_if_due(&mut request, now) {
                    update_request(&mut transaction, &request, row.change_number, from).await?;
                }
            }
        }
        transaction.commit().await?;
        Ok(due.len() == EXPIRY_BATCH_SIZE)
    }

    /// Writes the counts that are in memory.
    pub(crate) async fn write_counts(&self) -> Result<(), StoreError> {
        // Copied, and subtracted after the write: counts that come meanwhile are neither lost nor written twice, and whoever reads
        // during the write misses none.
        let counts = lock_ignoring_poison(&self.pending_counts).clone();
        if counts.is_empty() {
            return Ok(());
        }
        let write = async {
            let (mut transaction, _now) = self.begin_write().await?;
            for (id, PendingCounts { attempts, uses }) in &counts {
                transaction.add_to_counters(&id.to_string(), *attempts, *uses).await?;
            }
            transaction.commit().await
        };
        write.await?;
        for (id, PendingCounts { attempts, uses }) in counts {
            self.add_counts(id, -attempts, -uses);
        }
        lock_ignoring_poison(&self.pending_counts)
            .retain(|_id, counts| (counts.attempts, counts.uses) != (0, 0));
        Ok(())
    }

    /// Stores the time while a request or grant is open, for the next start; follows the clock again when none is.
    pub(crate) async fn persist_time(&self) -> Result<(), StoreError> {
        if self.store.begin_read().await?.has_open_requests().await? {
            let (transaction, _now) = self.begin_write().await?;
            return transaction.commit().await;
        }
        self.follow_clock_if_idle().await
    }

    pub(super) async fn follow_clock_if_idle(&self) -> Result<(), StoreError> {
        if self.clock.millis_ahead() == 0 {
            return Ok(());
        }
        let mut transaction = self.store.begin_write().await?;
        if !transaction.has_open_requests().await? {
            transaction.reset_latest_time(self.clock.reset_to_clock()).await?;
            transaction.commit().await?;
        }
        Ok(())
    }
}

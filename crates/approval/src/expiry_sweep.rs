//! The task that does what no caller triggers: it writes expired states and counters, announces the changes of other
//! processes, stores the time, and purges old approval requests.
//!
//! No grant depends on it: a request whose time is over is treated as expired everywhere, also before the sweep writes it.

use crate::clock::add_duration;
use crate::ledger::ApprovalLedger;
use durward_core::limits::CLOSED_REQUEST_RETENTION;
use durward_store::StoreError;
use std::{
    sync::Weak,
    time::{Duration, Instant},
};
use tokio::time::MissedTickBehavior;

/// The longest delay until a waiter is notified of a deadline, or of a change by another process.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);
/// The time by which a grant can last longer if the process crashes and the clock is set back at the same time.
const TIME_PERSIST_INTERVAL: Duration = Duration::from_secs(5);
const PURGE_INTERVAL: Duration = Duration::from_hours(1);

/// Runs until the ledger is dropped.
pub(crate) async fn run_sweep(ledger: Weak<ApprovalLedger>) {
    let mut tick = tokio::time::interval(SWEEP_INTERVAL);
    // By default, tokio would make up for the missed ticks in a burst after a slow sweep.
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut persisted_at = Instant::now();
    let mut purged_at = Instant::now();
    let mut is_failing = false;
    loop {
        tick.tick().await;
        // Weak, so that the task does not keep the ledger alive: the end of the ledger ends the task.
        let Some(ledger) = ledger.upgrade() else { return };
        let result = sweep_once(&ledger, &mut persisted_at, &mut purged_at).await;
        match result {
            Ok(()) => is_failing = false,
            // Once per outage, not twice a second.
            Err(error) if !is_failing => {
                is_failing = true;
                tracing::error!(
                    %error,
                    "the expiry sweep fails; nothing new is approved until it works again"
                );
            }
            Err(_) => {}
        }
    }
}

async fn sweep_once(
    ledger: &ApprovalLedger,
    persisted_at: &mut Instant,
    purged_at: &mut Instant,
) -> Result<(), StoreError> {
    while ledger.expire_due_requests().await? {}
    ledger.announce_changes().await;
    ledger.write_counts().await?;
    if persisted_at.elapsed() >= TIME_PERSIST_INTERVAL {
        *persisted_at = Instant::now();
        ledger.persist_time().await?;
    }
    if purged_at.elapsed() >= PURGE_INTERVAL {
        *purged_at = Instant::now();
        let (mut transaction, now) = ledger.begin_write().await?;
        let before = now.saturating_sub(add_duration(0, CLOSED_REQUEST_RETENTION));
        let purged = transaction.delete_closed_requests(before).await?;
        transaction.commit().await?;
        tracing::debug!(purged, "old approval requests purged");
    }
    Ok(())
}

//! What must happen though nobody calls: deadlines, counters, news from other processes, the time on disk, old asks.
//!
//! Nothing that is allowed depends on it: an ask whose time is over is treated so everywhere before the keeper has
//! written it.

use crate::clock::add_duration;
use crate::ledger::ApprovalLedger;
use durward_store::StoreError;
use std::{
    sync::Weak,
    time::{Duration, Instant},
};
use tokio::time::MissedTickBehavior;

/// How late a waiter hears of a deadline or of another process at most.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);
/// How much longer a grant could last after a crash and a clock set back.
const TIME_PERSIST_INTERVAL: Duration = Duration::from_secs(5);
const PURGE_INTERVAL: Duration = Duration::from_hours(1);
/// How long asks that are over are kept to look at. The journal keeps the record.
const REQUEST_RETENTION: Duration = Duration::from_hours(90 * 24);

/// Runs until the approvals are dropped.
pub(crate) async fn run_sweep(ledger: Weak<ApprovalLedger>) {
    let mut tick = tokio::time::interval(SWEEP_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_time = Instant::now();
    let mut last_forget = Instant::now();
    let mut failing = false;
    loop {
        tick.tick().await;
        let Some(ledger) = ledger.upgrade() else { return };
        let result = sweep_once(&ledger, &mut last_time, &mut last_forget).await;
        match result {
            Ok(()) => failing = false,
            // once, not twice a second
            Err(error) if !failing => {
                failing = true;
                tracing::error!(%error, "approvals cannot be kept; nothing new is approved until this works again");
            }
            Err(_) => {}
        }
    }
}

async fn sweep_once(
    ledger: &ApprovalLedger,
    last_time: &mut Instant,
    last_forget: &mut Instant,
) -> Result<(), StoreError> {
    while ledger.expire_due_requests().await? {}
    ledger.announce_changes().await;
    ledger.write_counts().await?;
    if last_time.elapsed() >= TIME_PERSIST_INTERVAL {
        *last_time = Instant::now();
        ledger.persist_time().await?;
    }
    if last_forget.elapsed() >= PURGE_INTERVAL {
        *last_forget = Instant::now();
        let (mut transaction, now) = ledger.begin_write().await?;
        let forgotten = transaction
            .delete_closed_requests(now.saturating_sub(add_duration(0, REQUEST_RETENTION)))
            .await?;
        transaction.commit().await?;
        tracing::debug!(forgotten, "old asks forgotten");
    }
    Ok(())
}

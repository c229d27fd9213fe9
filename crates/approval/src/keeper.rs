//! What must happen though nobody calls: deadlines, counters, news from other processes, the time on disk, old asks.
//!
//! Nothing that is allowed depends on it: an ask whose time is over is treated so everywhere before the keeper has
//! written it.

use crate::ledger::Ledger;
use crate::moment::later;
use durward_store::StoreError;
use std::{
    sync::Weak,
    time::{Duration, Instant},
};
use tokio::time::MissedTickBehavior;

/// How late a waiter hears of a deadline or of another process at most.
const TICK: Duration = Duration::from_millis(500);
/// How much longer a grant could last after a crash and a clock set back.
const TIME: Duration = Duration::from_secs(5);
const FORGET: Duration = Duration::from_hours(1);
/// How long asks that are over are kept to look at. The journal keeps the record.
const KEPT: Duration = Duration::from_hours(90 * 24);

/// Runs until the approvals are dropped.
pub(crate) async fn keep(ledger: Weak<Ledger>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_time = Instant::now();
    let mut last_forget = Instant::now();
    let mut failing = false;
    loop {
        tick.tick().await;
        let Some(ledger) = ledger.upgrade() else { return };
        let result = round(&ledger, &mut last_time, &mut last_forget).await;
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

async fn round(
    ledger: &Ledger,
    last_time: &mut Instant,
    last_forget: &mut Instant,
) -> Result<(), StoreError> {
    while ledger.settle_due().await? {}
    ledger.announce_changes().await;
    ledger.write_counts().await?;
    if last_time.elapsed() >= TIME {
        *last_time = Instant::now();
        ledger.keep_time().await?;
    }
    if last_forget.elapsed() >= FORGET {
        *last_forget = Instant::now();
        let (mut transaction, now) = ledger.write().await?;
        let forgotten = transaction.forget_asks(now.saturating_sub(later(0, KEPT))).await?;
        transaction.commit().await?;
        tracing::debug!(forgotten, "old asks forgotten");
    }
    Ok(())
}

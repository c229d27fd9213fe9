//! What is revoked, put on record. The store says what the journal lacks, so a revocation that a crash came after is recorded
//! when the gateway starts again.

use durward_gateway::rooms::Rooms;
use durward_identity::{Revocation, Revocations, Revoked};
use durward_journal::{Journal, Record};
use std::sync::Arc;
use std::time::Duration;

/// How long to wait for a journal that takes no records.
const RETRY: Duration = Duration::from_secs(1);

/// Puts every revocation into the journal, until the gateway stops.
pub async fn record(rooms: Arc<Rooms>) {
    let mut changes = rooms.revocations.changes();
    loop {
        // What comes while this looks is looked at next.
        changes.mark_unchanged();
        if let Err(error) = catch_up(&rooms.revocations, &rooms.journal).await {
            tracing::error!(error, "what is revoked holds, but cannot be recorded; it is tried until it can");
            tokio::time::sleep(RETRY).await;
        } else if changes.changed().await.is_err() {
            return;
        }
    }
}

async fn catch_up(revocations: &Revocations, journal: &Journal) -> Result<(), String> {
    loop {
        let waiting = revocations.unjournaled().await.map_err(|error| error.to_string())?;
        if waiting.is_empty() {
            return Ok(());
        }
        for (number, revocation) in waiting {
            journal.record_durable(record_of(revocation)).await.map_err(|error| error.to_string())?;
            revocations.journaled(number).await.map_err(|error| error.to_string())?;
        }
    }
}

fn record_of(revocation: Revocation) -> Record {
    let Revocation { what, at, by, reason } = revocation;
    let (session, caller) = match what {
        Revoked::Session(session) => (Some(session), None),
        Revoked::Caller(caller) => (None, Some(caller)),
    };
    Record::SessionRevoked { session, caller, by, reason, at }
}

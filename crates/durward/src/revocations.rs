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

#[cfg(test)]
mod tests {
    use super::*;
    use durward_approval::Store;
    use durward_core::SessionId;
    use durward_journal::Options;
    use std::path::Path;
    use time::OffsetDateTime;

    fn recorded(dir: &Path) -> Vec<Record> {
        let records =
            durward_journal::read(&dir.join("journal")).map(|entry| entry.unwrap().record().unwrap());
        records.collect()
    }

    async fn opened(dir: &Path) -> (Revocations, Store) {
        let store = Store::open(&dir.join("state.db")).await.unwrap();
        (Revocations::open(store.clone()).await.unwrap(), store)
    }

    #[tokio::test]
    async fn a_revocation_that_a_crash_came_after_is_recorded_later_and_none_twice() {
        let dir = tempfile::tempdir().unwrap();
        let session = SessionId::new();
        let now = OffsetDateTime::now_utc();
        let (revocations, store) = opened(dir.path()).await;
        revocations.revoke(&Revoked::Session(session), "corp/ann", "x", now).await.unwrap();
        store.close().await;
        let (revocations, _store) = opened(dir.path()).await;
        let journal = Journal::open(&dir.path().join("journal"), Options::default()).unwrap();
        revocations.revoke(&Revoked::Caller("corp/a".to_owned()), "corp/bob", "y", now).await.unwrap();
        for _again in 0..2 {
            catch_up(&revocations, &journal).await.unwrap();
        }
        let records = recorded(dir.path());
        let told: Vec<_> = records
            .iter()
            .map(|record| match record {
                Record::SessionRevoked { session, caller, by, reason, .. } => {
                    (*session, caller.as_deref(), by.as_str(), reason.as_str())
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, [(Some(session), None, "corp/ann", "x"), (None, Some("corp/a"), "corp/bob", "y")]);
    }
}

//! What is revoked, put on record. The store says what the journal lacks, so a revocation that a crash came after is recorded
//! when the gateway starts again.

use durward_gateway::gateway_services::GatewayServices;
use durward_identity::{Revocation, RevocationTarget, Revocations};
use durward_journal::{Journal, JournalRecord};
use std::sync::Arc;
use std::time::Duration;

/// How long to wait for a journal that takes no records.
const JOURNAL_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Puts every revocation into the journal, until the gateway stops.
pub async fn journal_revocations(rooms: Arc<GatewayServices>) {
    let mut changes = rooms.revocations.subscribe();
    loop {
        // What comes while this looks is looked at next.
        changes.mark_unchanged();
        if let Err(error) = journal_pending_revocations(&rooms.revocations, &rooms.journal).await {
            tracing::error!(error, "what is revoked holds, but cannot be recorded; it is tried until it can");
            tokio::time::sleep(JOURNAL_RETRY_DELAY).await;
        } else if changes.changed().await.is_err() {
            return;
        }
    }
}

async fn journal_pending_revocations(revocations: &Revocations, journal: &Journal) -> Result<(), String> {
    loop {
        let waiting = revocations.unjournaled_revocations().await.map_err(|error| error.to_string())?;
        if waiting.is_empty() {
            return Ok(());
        }
        for (number, revocation) in waiting {
            journal.append_durable(revocation_record(revocation)).await.map_err(|error| error.to_string())?;
            revocations.mark_journaled(number).await.map_err(|error| error.to_string())?;
        }
    }
}

fn revocation_record(revocation: Revocation) -> JournalRecord {
    let Revocation { target: what, revoked_at: at, revoked_by: by, reason } = revocation;
    let (session, caller) = match what {
        RevocationTarget::Session(session) => (Some(session), None),
        RevocationTarget::Caller(caller) => (None, Some(caller)),
    };
    JournalRecord::SessionRevoked { session, caller, by, reason, at }
}

#[cfg(test)]
mod tests {
    use super::*;
    use durward_approval::Store;
    use durward_core::SessionId;
    use durward_journal::JournalOptions;
    use std::path::Path;
    use time::OffsetDateTime;

    fn journaled_records(dir: &Path) -> Vec<JournalRecord> {
        let records = durward_journal::read_journal(&dir.join("journal"))
            .map(|entry| entry.unwrap().decode_record().unwrap());
        records.collect()
    }

    async fn open_revocations(dir: &Path) -> (Revocations, Store) {
        let store = Store::open(&dir.join("state.db")).await.unwrap();
        (Revocations::open(store.clone()).await.unwrap(), store)
    }

    #[tokio::test]
    async fn a_revocation_before_a_crash_is_journaled_once_after_restart() {
        let dir = tempfile::tempdir().unwrap();
        let session = SessionId::new();
        let now = OffsetDateTime::now_utc();
        let (revocations, store) = open_revocations(dir.path()).await;
        revocations.revoke(&RevocationTarget::Session(session), "corp/ann", "x", now).await.unwrap();
        store.close().await;
        let (revocations, _store) = open_revocations(dir.path()).await;
        let journal = Journal::open(&dir.path().join("journal"), JournalOptions::default()).unwrap();
        revocations
            .revoke(&RevocationTarget::Caller("corp/a".to_owned()), "corp/bob", "y", now)
            .await
            .unwrap();
        for _again in 0..2 {
            journal_pending_revocations(&revocations, &journal).await.unwrap();
        }
        let records = journaled_records(dir.path());
        let told: Vec<_> = records
            .iter()
            .map(|record| match record {
                JournalRecord::SessionRevoked { session, caller, by, reason, .. } => {
                    (*session, caller.as_deref(), by.as_str(), reason.as_str())
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, [(Some(session), None, "corp/ann", "x"), (None, Some("corp/a"), "corp/bob", "y")]);
    }
}

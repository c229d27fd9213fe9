//! Copies revocations into the journal.
//!
//! The store knows which revocations are not in the journal yet, so a revocation just before a crash is copied at the next
//! start.

use crate::journal_copy_error::JournalCopyError;
use durward_identity::{Revocation, RevocationTarget, Revocations};
use durward_journal::{Journal, JournalRecord};
use std::time::Duration;

/// Pause after a failure, for a journal that takes no records or a store that cannot be read.
const JOURNAL_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Copies every revocation into the journal until the gateway stops.
pub async fn journal_revocations(revocations: &Revocations, journal: &Journal) {
    let mut changes = revocations.subscribe();
    loop {
        // Before the look, so that a revocation during it is seen by the next one.
        changes.mark_unchanged();
        if let Err(error) = journal_pending_revocations(revocations, journal).await {
            tracing::error!(%error, "revocations are in force but cannot be journaled; retrying");
            tokio::time::sleep(JOURNAL_RETRY_DELAY).await;
        } else if changes.changed().await.is_err() {
            return;
        }
    }
}

async fn journal_pending_revocations(
    revocations: &Revocations,
    journal: &Journal,
) -> Result<(), JournalCopyError> {
    loop {
        let pending = revocations.unjournaled_revocations().await?;
        if pending.is_empty() {
            return Ok(());
        }
        for (number, revocation) in pending {
            // In this order: a crash between the two records it twice, and never not at all.
            journal.append_durable(revocation_record(revocation)).await?;
            revocations.mark_journaled(number).await?;
        }
    }
}

fn revocation_record(revocation: Revocation) -> JournalRecord {
    let Revocation { target, revoked_at: at, revoked_by: by, reason } = revocation;
    let (session, caller) = match target {
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
        let journaled: Vec<_> = records
            .iter()
            .map(|record| match record {
                JournalRecord::SessionRevoked { session, caller, by, reason, .. } => {
                    (*session, caller.as_deref(), by.as_str(), reason.as_str())
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            journaled,
            [(Some(session), None, "corp/ann", "x"), (None, Some("corp/a"), "corp/bob", "y")]
        );
    }
}

//! Opens the store and the approvals, and copies the events of approval requests into the journal.
//!
//! The store holds a cursor for each approval request: the number of its events that are in the journal. It moves only after they
//! are durable there, so no event is missing after a crash, or after a time in which the journal took no records. An event can be
//! journaled twice; its index tells.

use crate::config::Config;
use crate::journal_copy_error::JournalCopyError;
use crate::start_error::StartError;
use durward_approval::{
    ApprovalLimits, Approvals, PendingEvents, PostgresServer, Store, StoreError, system_clock,
};
use durward_journal::{Journal, JournalError, JournalRecord};
use std::path::Path;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// Pause after a failure, for a journal that takes no records or a store that cannot be read.
const JOURNAL_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Opens the gateway's state: the database if there is one, otherwise a file in `data_dir`.
pub async fn open_store(database: Option<&PostgresServer>, data_dir: &Path) -> Result<Store, StartError> {
    if let Some(server) = database {
        let location = format!("[state.postgres] {server:?}");
        return Store::connect(server).await.map_err(|error| StartError::OpenStore { location, error });
    }
    let path = data_dir.join("state.db");
    let location = path.display().to_string();
    Store::open(&path).await.map_err(|error| StartError::OpenStore { location, error })
}

pub async fn open_approvals(config: &Config, store: Store) -> Result<Approvals, StoreError> {
    let limits = ApprovalLimits {
        break_glass_group: config.approval.break_glass_group.clone(),
        ..ApprovalLimits::default()
    };
    Approvals::open(store, limits, system_clock()).await
}

/// Copies the events of approval requests into the journal until the gateway stops. Begins with those of an earlier run.
pub async fn journal_approval_changes(approvals: &Approvals, journal: &Journal) {
    let mut changes = approvals.subscribe_changes();
    let mut is_failing = false;
    loop {
        if let Err(error) = journal_pending_changes(approvals, journal).await {
            // A journal that is full refuses requests, not votes: votes cast meanwhile are copied later.
            if !is_failing {
                tracing::error!(%error, "approval events cannot be journaled; retrying");
            }
            is_failing = true;
            tokio::time::sleep(JOURNAL_RETRY_DELAY).await;
            continue;
        }
        is_failing = false;
        // A message says only that something changed. One pass covers all changes before it, so the queue is emptied first.
        if let Err(RecvError::Closed) = changes.recv().await {
            return;
        }
        while changes.try_recv().is_ok() {}
    }
}

/// Copies every event that is not in the journal, and moves the cursor once it is durable.
async fn journal_pending_changes(approvals: &Approvals, journal: &Journal) -> Result<(), JournalCopyError> {
    let mut after = 0;
    loop {
        let page = approvals.pending_events(after).await?;
        for events in &page.requests {
            append_events(journal, events).await?;
        }
        if !page.requests.is_empty() {
            // One sync for the page and not one for each event. The cursor must not move before it.
            journal.flush().await?;
            approvals.mark_journaled(&page.requests).await?;
        }
        match page.next_change {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}

async fn append_events(journal: &Journal, pending: &PendingEvents) -> Result<(), JournalError> {
    for (index, event) in (pending.first_index..).zip(&pending.events) {
        let record = JournalRecord::ApprovalRequestChanged {
            approval_request: pending.approval_request.to_string(),
            event_index: index,
            change: event.kind.as_str().to_owned(),
            by: event.by.clone(),
            note: event.note.clone(),
            at: event.at,
        };
        journal.append(record).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use durward_approval::{
        ApprovalRequest, ApprovalRequirement, Approver, NewApprovalRequest, TimeoutAction, VoteChoice,
    };
    use durward_core::{
        AccessLevel, Caller, CallerKind, ExchangeId, FrontEndKind, Operation, OperationTraits,
        RequiredPermission, Resource, SessionId,
    };
    use durward_journal::JournalOptions;
    use std::collections::BTreeMap;
    use time::OffsetDateTime;

    fn new_approval_request(number: u8) -> NewApprovalRequest {
        NewApprovalRequest {
            caller: Caller {
                provider: "corp".to_owned(),
                issuer: "https://login.example.com".to_owned(),
                subject: "agent".to_owned(),
                kind: CallerKind::Workload,
                groups: Vec::new(),
                act: Vec::new(),
            },
            session: SessionId::new(),
            connection: "prod".to_owned(),
            exchange: ExchangeId::new(),
            operation: Operation {
                front_end: FrontEndKind::Aws,
                service: "s3".to_owned(),
                name: "DeleteBucket".to_owned(),
                required_permissions: vec![RequiredPermission {
                    access_level: AccessLevel::Write,
                    action: "s3:DeleteBucket".to_owned(),
                    resource: Resource::Arn(format!("arn:aws:s3:::b{number}")),
                }],
                parameters: serde_json::json!({}),
                sensitive_pointers: Vec::new(),
                region: None,
                account: None,
                traits: OperationTraits::default(),
                uninspected_parts: Vec::new(),
                body_sha256: None,
            },
            digest: [number; 32],
            requirements: vec![ApprovalRequirement {
                policy: "p".to_owned(),
                group: "oncall".to_owned(),
                quorum: 1,
                timeout: Duration::from_mins(5),
                on_timeout: TimeoutAction::Reject,
            }],
            risk: durward_core::RiskAssessment::default(),
            tags: durward_core::ResourceTags::new(),
            reason: String::new(),
            policy_set: String::new(),
            source_address: "127.0.0.1".parse().unwrap(),
            user_agent: None,
        }
    }

    struct TestLedger {
        dir: tempfile::TempDir,
        approvals: Approvals,
    }

    impl TestLedger {
        async fn create() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let approvals = Self::open_ledger(&dir.path().join("state.db")).await;
            Self { dir, approvals }
        }

        async fn open_ledger(path: &Path) -> Approvals {
            let limits = ApprovalLimits { max_pending_per_caller: 250, ..ApprovalLimits::default() };
            Approvals::open(Store::open(path).await.unwrap(), limits, system_clock()).await.unwrap()
        }

        /// The state as the next process finds it if this one is killed now.
        async fn restart_after_kill(&self) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for name in ["state.db", "state.db-wal"] {
                std::fs::copy(self.dir.path().join(name), dir.path().join(name)).unwrap();
            }
            let approvals = Self::open_ledger(&dir.path().join("state.db")).await;
            Self { dir, approvals }
        }

        async fn journal_pending(&self, journal: &Path) {
            let journal = Journal::open(journal, JournalOptions::default()).unwrap();
            journal_pending_changes(&self.approvals, &journal).await.unwrap();
            // Not closed: the records are durable before the cursor moves, as after a crash.
            drop(journal);
        }

        async fn approve_request(&self, request: &ApprovalRequest) -> ApprovalRequest {
            let approver = Approver {
                id: "corp/ann".to_owned(),
                name: "Ann".to_owned(),
                subject: "ann".to_owned(),
                groups: vec!["oncall".to_owned()],
                groups_as_of: OffsetDateTime::UNIX_EPOCH,
            };
            self.approvals.cast_vote(request.id, &approver, VoteChoice::ApproveOnce).await.unwrap()
        }
    }

    /// How often the journal has each event of each approval request.
    fn count_journaled_events(journal: &Path) -> BTreeMap<(String, u32, String), usize> {
        let mut counts = BTreeMap::new();
        for entry in durward_journal::read_journal(journal) {
            if let JournalRecord::ApprovalRequestChanged { approval_request, event_index, change, .. } =
                entry.unwrap().decode_record().unwrap()
            {
                *counts.entry((approval_request, event_index, change)).or_default() += 1;
            }
        }
        counts
    }

    fn expected_events(
        request: &ApprovalRequest,
    ) -> impl Iterator<Item = ((String, u32, String), usize)> + '_ {
        (0..)
            .zip(&request.history)
            .map(|(index, event)| ((request.id.to_string(), index, event.kind.as_str().to_owned()), 1))
    }

    #[tokio::test]
    async fn events_before_a_kill_are_journaled_once_after_restart() {
        let ledger = TestLedger::create().await;
        let journal = tempfile::tempdir().unwrap();
        let request = ledger.approvals.request_approval(new_approval_request(1)).await.unwrap();
        ledger.journal_pending(journal.path()).await;
        let request = ledger.approve_request(&request).await;
        let ledger = ledger.restart_after_kill().await;
        ledger.journal_pending(journal.path()).await;
        ledger.journal_pending(journal.path()).await;
        assert_eq!(request.history.len(), 3, "requested, approve_once, granted");
        assert_eq!(count_journaled_events(journal.path()), expected_events(&request).collect());
    }

    #[tokio::test]
    async fn an_event_journaled_twice_has_the_same_approval_request_and_index() {
        let ledger = TestLedger::create().await;
        let journal = tempfile::tempdir().unwrap();
        let request = ledger.approvals.request_approval(new_approval_request(1)).await.unwrap();
        let request = ledger.approve_request(&request).await;
        let killed = ledger.restart_after_kill().await;
        ledger.journal_pending(journal.path()).await;
        // A crash between the two writes: the journal has the events, and the cursor has not moved.
        killed.journal_pending(journal.path()).await;
        let expected = expected_events(&request).map(|(event, once)| (event, once * 2)).collect();
        assert_eq!(count_journaled_events(journal.path()), expected);
    }

    #[tokio::test]
    async fn more_events_than_one_page_are_all_journaled() {
        let ledger = TestLedger::create().await;
        let journal = tempfile::tempdir().unwrap();
        let mut expected = BTreeMap::new();
        for number in 0..=205 {
            expected.extend(expected_events(
                &ledger.approvals.request_approval(new_approval_request(number)).await.unwrap(),
            ));
        }
        ledger.journal_pending(journal.path()).await;
        assert_eq!(count_journaled_events(journal.path()), expected);
    }
}

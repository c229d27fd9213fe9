//! Approvals as the gateway runs them: opened with the configuration's limits, and what happens to asks put on record.
//!
//! The record is taken from the state, where a cursor says how far it is: nothing that happened to an ask is missing in the
//! journal because the process was killed, or because the journal took nothing for a while.

use crate::config::Config;
use durward_approval::{ApprovalLimits, Approvals, PendingEvents, PostgresServer, Store, system_clock};
use durward_gateway::gateway_services::GatewayServices;
use durward_journal::{Journal, JournalRecord};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// How long to wait for a journal that takes no records, or a state that cannot be read.
const JOURNAL_RETRY_DELAY: Duration = Duration::from_secs(1);

/// The state of the gateway: the database if there is one, else a file in `data_dir`.
pub async fn open_store(database: Option<&PostgresServer>, data_dir: &Path) -> Result<Store, String> {
    if let Some(server) = database {
        return Store::connect(server).await.map_err(|error| format!("[state.postgres] {server:?}: {error}"));
    }
    let path = data_dir.join("state.db");
    Store::open(&path).await.map_err(|error| format!("{}: {error}", path.display()))
}

pub async fn open_approvals(config: &Config, store: Store) -> Result<Approvals, String> {
    let limits = ApprovalLimits {
        break_glass_group: config.approval.break_glass_group.clone(),
        ..ApprovalLimits::default()
    };
    Approvals::open(store, limits, system_clock()).await.map_err(|error| error.to_string())
}

/// Puts what happened to asks into the journal, first what an earlier run left, until the gateway stops.
pub async fn journal_approval_changes(rooms: Arc<GatewayServices>) {
    let mut changes = rooms.approvals.subscribe_changes();
    let mut failing = false;
    loop {
        if let Err(error) = journal_pending_changes(&rooms.approvals, &rooms.journal).await {
            // Requests are refused while the journal is full; what people did meanwhile is recorded later.
            if !failing {
                tracing::error!(error, "what happened to asks cannot be recorded; it is tried until it can");
            }
            failing = true;
            tokio::time::sleep(JOURNAL_RETRY_DELAY).await;
            continue;
        }
        failing = false;
        // The news say only that there are some: those that came meanwhile are answered by one look, and none is missed.
        if let Err(RecvError::Closed) = changes.recv().await {
            return;
        }
        while changes.try_recv().is_ok() {}
    }
}

/// Records all that is not in the journal, and notes that it is once it is on disk.
async fn journal_pending_changes(approvals: &Approvals, journal: &Journal) -> Result<(), String> {
    let mut after = 0;
    loop {
        let page = approvals.pending_events(after).await.map_err(|error| error.to_string())?;
        for ask in &page.requests {
            journal_events(journal, ask).await?;
        }
        if !page.requests.is_empty() {
            journal.flush().await.map_err(|error| error.to_string())?;
            approvals.mark_journaled(&page.requests).await.map_err(|error| error.to_string())?;
        }
        match page.next_change {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}

async fn journal_events(journal: &Journal, ask: &PendingEvents) -> Result<(), String> {
    for (index, event) in (ask.first_index..).zip(&ask.events) {
        let record = JournalRecord::ApprovalRequestChanged {
            approval_request: ask.approval_request.to_string(),
            event_index: index,
            change: event.kind.as_str().to_owned(),
            by: event.by.clone(),
            note: event.note.clone(),
            at: event.at,
        };
        journal.append(record).await.map_err(|error| error.to_string())?;
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

        /// The state as a process finds it that starts after this one was killed right now.
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
            // It is on disk before the cursor says so: what is read now would survive.
            drop(journal);
        }

        async fn approve_request(&self, ask: &ApprovalRequest) -> ApprovalRequest {
            let person = Approver {
                id: "corp/ann".to_owned(),
                name: "Ann".to_owned(),
                subject: "ann".to_owned(),
                groups: vec!["oncall".to_owned()],
                groups_as_of: OffsetDateTime::UNIX_EPOCH,
            };
            self.approvals.cast_vote(ask.id, &person, VoteChoice::ApproveOnce).await.unwrap()
        }
    }

    /// How often each event of each ask is in the journal.
    fn count_journaled_events(journal: &Path) -> BTreeMap<(String, u32, String), usize> {
        let mut found = BTreeMap::new();
        for entry in durward_journal::read_journal(journal) {
            if let JournalRecord::ApprovalRequestChanged {
                approval_request: ask,
                event_index: event,
                change: what,
                ..
            } = entry.unwrap().decode_record().unwrap()
            {
                *found.entry((ask, event, what)).or_default() += 1;
            }
        }
        found
    }

    fn expected_events(ask: &ApprovalRequest) -> impl Iterator<Item = ((String, u32, String), usize)> + '_ {
        (0..)
            .zip(&ask.history)
            .map(|(index, event)| ((ask.id.to_string(), index, event.kind.as_str().to_owned()), 1))
    }

    #[tokio::test]
    async fn events_before_a_kill_are_journaled_once_after_restart() {
        let stage = TestLedger::create().await;
        let journal = tempfile::tempdir().unwrap();
        let ask = stage.approvals.request_approval(new_approval_request(1)).await.unwrap();
        stage.journal_pending(journal.path()).await;
        let ask = stage.approve_request(&ask).await;
        let stage = stage.restart_after_kill().await;
        stage.journal_pending(journal.path()).await;
        stage.journal_pending(journal.path()).await;
        assert_eq!(ask.history.len(), 3, "requested, approve_once, granted");
        assert_eq!(count_journaled_events(journal.path()), expected_events(&ask).collect());
    }

    #[tokio::test]
    async fn an_event_journaled_twice_has_the_same_approval_request_and_index() {
        let stage = TestLedger::create().await;
        let journal = tempfile::tempdir().unwrap();
        let ask = stage.approvals.request_approval(new_approval_request(1)).await.unwrap();
        let ask = stage.approve_request(&ask).await;
        let killed = stage.restart_after_kill().await;
        stage.journal_pending(journal.path()).await;
        // The journal had all, and the cursor was not written yet.
        killed.journal_pending(journal.path()).await;
        let twice = expected_events(&ask).map(|(event, once)| (event, once * 2)).collect();
        assert_eq!(count_journaled_events(journal.path()), twice);
    }

    #[tokio::test]
    async fn more_events_than_one_page_are_all_journaled() {
        let stage = TestLedger::create().await;
        let journal = tempfile::tempdir().unwrap();
        let mut expected = BTreeMap::new();
        for number in 0..=205 {
            expected.extend(expected_events(
                &stage.approvals.request_approval(new_approval_request(number)).await.unwrap(),
            ));
        }
        stage.journal_pending(journal.path()).await;
        assert_eq!(count_journaled_events(journal.path()), expected);
    }
}

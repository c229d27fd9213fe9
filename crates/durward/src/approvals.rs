//! Approvals as the gateway runs them: opened with the configuration's limits, and what happens to asks put on record.
//!
//! The record is taken from the state, where a cursor says how far it is: nothing that happened to an ask is missing in the
//! journal because the process was killed, or because the journal took nothing for a while.

use crate::config::Config;
use durward_approval::{Approvals, Limits, Server, Store, Unrecorded, system_clock};
use durward_gateway::rooms::Rooms;
use durward_journal::{Journal, Record};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// How long to wait for a journal that takes no records, or a state that cannot be read.
const RETRY: Duration = Duration::from_secs(1);

/// The state of the gateway: the database if there is one, else a file in `data_dir`.
pub async fn store(database: Option<&Server>, data_dir: &Path) -> Result<Store, String> {
    if let Some(server) = database {
        return Store::connect(server).await.map_err(|error| format!("[state.postgres] {server:?}: {error}"));
    }
    let path = data_dir.join("state.db");
    Store::open(&path).await.map_err(|error| format!("{}: {error}", path.display()))
}

pub async fn open(config: &Config, store: Store) -> Result<Approvals, String> {
    let limits = Limits { break_glass_group: config.approval.break_glass_group.clone(), ..Limits::default() };
    Approvals::open(store, limits, system_clock()).await.map_err(|error| error.to_string())
}

/// Puts what happened to asks into the journal, first what an earlier run left, until the gateway stops.
pub async fn record_changes(rooms: Arc<Rooms>) {
    let mut changes = rooms.approvals.changes();
    let mut failing = false;
    loop {
        if let Err(error) = catch_up(&rooms.approvals, &rooms.journal).await {
            // Requests are refused while the journal is full; what people did meanwhile is recorded later.
            if !failing {
                tracing::error!(error, "what happened to asks cannot be recorded; it is tried until it can");
            }
            failing = true;
            tokio::time::sleep(RETRY).await;
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
async fn catch_up(approvals: &Approvals, journal: &Journal) -> Result<(), String> {
    let mut after = 0;
    loop {
        let page = approvals.unrecorded(after).await.map_err(|error| error.to_string())?;
        for ask in &page.asks {
            record(journal, ask).await?;
        }
        if !page.asks.is_empty() {
            journal.flush().await.map_err(|error| error.to_string())?;
            approvals.recorded(&page.asks).await.map_err(|error| error.to_string())?;
        }
        match page.next {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}

async fn record(journal: &Journal, ask: &Unrecorded) -> Result<(), String> {
    for (index, event) in (ask.first..).zip(&ask.events) {
        let record = Record::AskChanged {
            ask: ask.ask.to_string(),
            event: Some(index),
            what: event.kind.clone(),
            by: event.by.clone(),
            note: event.note.clone(),
            at: event.at,
        };
        journal.record(record).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use durward_approval::{Answer, Ask, NewAsk, OnTimeout, Person, Requirement};
    use durward_core::{
        AccessLevel, Caller, CallerKind, Demand, Door, ExchangeId, Operation, Resource, SessionId, Traits,
    };
    use durward_journal::Options;
    use std::collections::BTreeMap;
    use time::OffsetDateTime;

    fn new_ask(number: u8) -> NewAsk {
        NewAsk {
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
                door: Door::Aws,
                service: "s3".to_owned(),
                name: "DeleteBucket".to_owned(),
                demands: vec![Demand {
                    access_level: AccessLevel::Write,
                    action: "s3:DeleteBucket".to_owned(),
                    resource: Resource::Arn(format!("arn:aws:s3:::b{number}")),
                }],
                parameters: serde_json::json!({}),
                sensitive: Vec::new(),
                region: None,
                account: None,
                traits: Traits::default(),
                uninspected: Vec::new(),
                body_sha256: None,
            },
            digest: [number; 32],
            requirements: vec![Requirement {
                policy: "p".to_owned(),
                group: "oncall".to_owned(),
                quorum: 1,
                timeout: Duration::from_mins(5),
                on_timeout: OnTimeout::Reject,
            }],
            risk: durward_core::Risk::default(),
            tags: durward_core::ResourceTags::new(),
            reason: String::new(),
            policy_set: String::new(),
            source_address: "127.0.0.1".parse().unwrap(),
            user_agent: None,
        }
    }

    struct Stage {
        dir: tempfile::TempDir,
        approvals: Approvals,
    }

    impl Stage {
        async fn set() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let approvals = Self::open(&dir.path().join("state.db")).await;
            Self { dir, approvals }
        }

        async fn open(path: &Path) -> Approvals {
            let limits = Limits { per_caller: 250, ..Limits::default() };
            Approvals::open(Store::open(path).await.unwrap(), limits, system_clock()).await.unwrap()
        }

        /// The state as a process finds it that starts after this one was killed right now.
        async fn after_a_kill(&self) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for name in ["state.db", "state.db-wal"] {
                std::fs::copy(self.dir.path().join(name), dir.path().join(name)).unwrap();
            }
            let approvals = Self::open(&dir.path().join("state.db")).await;
            Self { dir, approvals }
        }

        async fn catch_up(&self, journal: &Path) {
            let journal = Journal::open(journal, Options::default()).unwrap();
            catch_up(&self.approvals, &journal).await.unwrap();
            // It is on disk before the cursor says so: what is read now would survive.
            drop(journal);
        }

        async fn approve(&self, ask: &Ask) -> Ask {
            let person = Person {
                id: "corp/ann".to_owned(),
                name: "Ann".to_owned(),
                subject: "ann".to_owned(),
                groups: vec!["oncall".to_owned()],
                as_of: OffsetDateTime::UNIX_EPOCH,
            };
            self.approvals.answer(ask.id, &person, Answer::ApproveOnce).await.unwrap()
        }
    }

    /// How often each event of each ask is in the journal.
    fn recorded(journal: &Path) -> BTreeMap<(String, u32, String), usize> {
        let mut found = BTreeMap::new();
        for entry in durward_journal::read(journal) {
            if let Record::AskChanged { ask, event, what, .. } = entry.unwrap().record().unwrap() {
                *found.entry((ask, event.unwrap(), what)).or_default() += 1;
            }
        }
        found
    }

    fn whole(ask: &Ask) -> impl Iterator<Item = ((String, u32, String), usize)> + '_ {
        (0..).zip(&ask.history).map(|(index, event)| ((ask.id.to_string(), index, event.kind.clone()), 1))
    }

    #[tokio::test]
    async fn what_happened_before_a_kill_is_recorded_after_it_and_once() {
        let stage = Stage::set().await;
        let journal = tempfile::tempdir().unwrap();
        let ask = stage.approvals.ask(new_ask(1)).await.unwrap();
        stage.catch_up(journal.path()).await;
        let ask = stage.approve(&ask).await;
        let stage = stage.after_a_kill().await;
        stage.catch_up(journal.path()).await;
        stage.catch_up(journal.path()).await;
        assert_eq!(ask.history.len(), 3, "asked, approve, granted");
        assert_eq!(recorded(journal.path()), whole(&ask).collect());
    }

    #[tokio::test]
    async fn what_is_recorded_twice_has_the_same_ask_and_index() {
        let stage = Stage::set().await;
        let journal = tempfile::tempdir().unwrap();
        let ask = stage.approvals.ask(new_ask(1)).await.unwrap();
        let ask = stage.approve(&ask).await;
        let killed = stage.after_a_kill().await;
        stage.catch_up(journal.path()).await;
        // The journal had all, and the cursor was not written yet.
        killed.catch_up(journal.path()).await;
        let twice = whole(&ask).map(|(event, once)| (event, once * 2)).collect();
        assert_eq!(recorded(journal.path()), twice);
    }

    #[tokio::test]
    async fn more_than_a_page_is_recorded_whole() {
        let stage = Stage::set().await;
        let journal = tempfile::tempdir().unwrap();
        let mut expected = BTreeMap::new();
        for number in 0..=205 {
            expected.extend(whole(&stage.approvals.ask(new_ask(number)).await.unwrap()));
        }
        stage.catch_up(journal.path()).await;
        assert_eq!(recorded(journal.path()), expected);
    }
}

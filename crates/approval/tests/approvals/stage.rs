//! What the tests play with: a store in a fresh directory, a clock in the hand, callers and people.

use durward_approval::*;
use durward_core::{
    AccessLevel, Caller, CallerKind, Demand, Door, ExchangeId, Operation, Resource, ResourceTags, SessionId,
    Traits,
};
pub use durward_store::testing;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use time::OffsetDateTime;

pub const CONNECTION: &str = "prod";
pub const ONCALL: &str = "oncall";

pub struct Stage {
    pub approvals: Arc<Approvals>,
    pub hand: Hand,
    pub directory: tempfile::TempDir,
}

/// A clock that only the test moves.
#[derive(Clone)]
pub struct Hand(Arc<AtomicI64>);

impl Hand {
    pub fn new() -> Self {
        Self(Arc::new(AtomicI64::new(1_800_000_000)))
    }
    pub fn forward(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
    pub fn now(&self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.0.load(Ordering::SeqCst)).unwrap()
    }
    pub fn clock(&self) -> Clock {
        let hand = self.clone();
        Arc::new(move || hand.now())
    }
}

pub fn limits() -> Limits {
    Limits {
        per_caller: 3,
        total: 5,
        break_glass_group: Some("firefighters".to_owned()),
        ..Limits::default()
    }
}

pub fn file(directory: &Path) -> PathBuf {
    directory.join("state").join("durward.db")
}

pub async fn open(path: &Path, hand: &Hand) -> Arc<Approvals> {
    let store = testing::open(path).await.unwrap();
    Arc::new(Approvals::open(store, limits(), hand.clock()).await.unwrap())
}

impl Stage {
    pub async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let hand = Hand::new();
        let approvals = open(&file(directory.path()), &hand).await;
        Self { approvals, hand, directory }
    }

    /// A second gateway on the same file.
    pub async fn other(&self) -> Arc<Approvals> {
        open(&file(self.directory.path()), &self.hand).await
    }

    /// What a gateway finds that starts after this one was killed right now: the files as they are, nothing closed. A database is
    /// left as it is, with the connections of the other.
    pub async fn after_a_kill(self) -> Self {
        if testing::is_postgres() {
            let approvals = self.other().await;
            return Self { approvals, ..self };
        }
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (file(self.directory.path()), file(directory.path()));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        for suffix in ["", "-wal"] {
            let name = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
            if name(&from).exists() {
                std::fs::copy(name(&from), name(&to)).unwrap();
            }
        }
        Self { approvals: open(&to, &self.hand).await, hand: self.hand.clone(), directory }
    }

    pub async fn ask(&self, new: &NewAsk) -> Ask {
        self.approvals.ask(new.clone()).await.unwrap()
    }

    pub async fn approve(&self, ask: &Ask, by: &Person) -> Ask {
        self.approvals.answer(ask.id, by, Answer::ApproveOnce).await.unwrap()
    }

    pub async fn deny(&self, ask: &Ask, by: &Person) -> Ask {
        self.approvals.answer(ask.id, by, Answer::Deny { reason: "not today".to_owned() }).await.unwrap()
    }

    /// Sends the operation that was asked for.
    pub async fn take(&self, new: &NewAsk) -> Option<Granted> {
        take(&self.approvals, new).await
    }

    pub async fn get(&self, ask: &Ask) -> Ask {
        self.approvals.get(ask.id).await.unwrap().unwrap()
    }
}

pub async fn take(approvals: &Approvals, new: &NewAsk) -> Option<Granted> {
    approvals
        .take(&new.caller, &new.connection, &new.operation, &new.digest, &new.requirements)
        .await
        .unwrap()
}

pub fn caller(subject: &str) -> Caller {
    Caller {
        provider: "corp".to_owned(),
        issuer: "https://login.example.com".to_owned(),
        subject: subject.to_owned(),
        kind: CallerKind::Workload,
        groups: vec!["agents".to_owned()],
        act: Vec::new(),
    }
}

pub fn person(subject: &str, groups: &[&str]) -> Person {
    Person {
        id: format!("corp/{subject}"),
        name: subject.to_uppercase(),
        subject: subject.to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        as_of: OffsetDateTime::UNIX_EPOCH,
    }
}

pub fn requirement(policy: &str, group: &str, quorum: u32) -> Requirement {
    Requirement {
        policy: policy.to_owned(),
        group: group.to_owned(),
        quorum,
        timeout: Duration::from_mins(5),
        on_timeout: OnTimeout::Reject,
    }
}

pub fn operation(bucket: &str) -> Operation {
    Operation {
        door: Door::Aws,
        service: "s3".to_owned(),
        name: "DeleteBucket".to_owned(),
        demands: vec![Demand {
            access_level: AccessLevel::Write,
            action: "s3:DeleteBucket".to_owned(),
            resource: Resource::Arn(format!("arn:aws:s3:::{bucket}")),
        }],
        parameters: serde_json::json!({ "Bucket": bucket }),
        sensitive: Vec::new(),
        region: Some("eu-west-1".to_owned()),
        account: Some("123456789012".to_owned()),
        traits: Traits { irreversible: true, ..Traits::default() },
        uninspected: Vec::new(),
        body_sha256: None,
    }
}

/// Deletes bucket `number`; one forbid, which one person of the on-call group lifts.
pub fn deletion(number: u8) -> NewAsk {
    NewAsk {
        caller: caller("agent"),
        session: SessionId::new(),
        connection: CONNECTION.to_owned(),
        exchange: ExchangeId::new(),
        operation: operation(&format!("bucket-{number}")),
        digest: [number; 32],
        requirements: vec![requirement("delete-bucket", ONCALL, 1)],
        risk: Risk::default(),
        tags: ResourceTags::new(),
        reason: "deleting a bucket needs a person".to_owned(),
        policy_set: "0011223344556677".to_owned(),
        source_address: "127.0.0.1".parse().unwrap(),
        user_agent: Some("Boto3/1.40".to_owned()),
    }
}

pub fn with(requirements: Vec<Requirement>) -> NewAsk {
    NewAsk { requirements, ..deletion(1) }
}

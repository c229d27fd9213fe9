//! What the tests of this crate share: records of each kind, and a disk that runs full, fails or holds still on command.

use crate::{
    Journal, LentScope, LinkTo, Masked, Options, Record, UsedApproval,
    disk::{Disk, LocalDisk, SegmentFile},
};
use durward_core::{
    AccessLevel, Caller, CallerKind, Decision, Demand, Door, ExchangeId, Operation, Reason, Resource,
    SessionId, Traits, Verdict,
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::Duration,
};
use time::macros::datetime;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(crate) fn caller() -> Caller {
    Caller {
        provider: "corp".to_owned(),
        issuer: "https://login.example.com".to_owned(),
        subject: "agent-7".to_owned(),
        kind: CallerKind::Workload,
        groups: vec!["agents".to_owned()],
        act: vec!["maria".to_owned()],
    }
}

fn decision(verdict: Verdict) -> Decision {
    Decision {
        verdict,
        policies: vec!["reads".to_owned()],
        reason: String::new(),
        policy_set: "0123456789abcdef".to_owned(),
        tags: durward_core::ResourceTags::new(),
        risk: None,
    }
}

pub(crate) fn operation() -> Operation {
    Operation {
        door: Door::Aws,
        service: "s3".to_owned(),
        name: "GetObject".to_owned(),
        demands: vec![Demand {
            action: "s3:GetObject".to_owned(),
            resource: Resource::Arn("arn:aws:s3:::b/k\u{1b}[2J".to_owned()),
            access_level: AccessLevel::Read,
        }],
        parameters: serde_json::json!({ "Bucket": "b", "Key": "k\u{1b}[2J", "Range": null, "n": [1, 2.5, true] }),
        sensitive: vec!["/SSECustomerKey".to_owned()],
        region: Some("eu-west-1".to_owned()),
        account: None,
        traits: Traits::default(),
        uninspected: vec!["body".to_owned()],
        body_sha256: None,
    }
}

pub(crate) fn intent() -> Record {
    Record::Intent {
        exchange: ExchangeId::new(),
        session: Some(SessionId::new()),
        caller: Some(caller()),
        door: Door::Aws,
        connection: "prod".to_owned(),
        operation: operation(),
        digest: "ab".repeat(32),
        decision: decision(Verdict::Allow),
        source_address: HERE,
        user_agent: Some("aws-cli/2".to_owned()),
        approval: Some(UsedApproval {
            ask: "a1".to_owned(),
            approvers: vec!["corp/ann".to_owned()],
            window: true,
            break_glass: true,
        }),
        link_to: Some(LinkTo::Exchange(ExchangeId::new())),
    }
}

pub(crate) fn outcome(mark: u64) -> Record {
    Record::Outcome {
        exchange: ExchangeId::new(),
        status: 200,
        error_code: None,
        request_bytes: mark,
        response_bytes: 1234,
        response_sha256: None,
        masked: vec![Masked { data_class: "email".to_owned(), count: 3 }],
        upstream_request_id: None,
        duration_us: 4242,
        failure: None,
    }
}

/// The mark that [`outcome`] put into a record.
pub(crate) fn mark(record: &Record) -> u64 {
    match record {
        Record::Outcome { request_bytes, .. } => *request_bytes,
        other => panic!("not an outcome: {other:?}"),
    }
}

pub(crate) fn refused(message: &str) -> Record {
    Record::Refused {
        exchange: ExchangeId::new(),
        session: None,
        caller: None,
        door: Door::Mcp,
        connection: None,
        operation: Some(operation()),
        decision: Some(decision(Verdict::Deny)),
        reason: Reason::AccessDenied,
        message: message.to_owned(),
        source_address: HERE,
    }
}

pub(crate) fn one_of_each() -> Vec<Record> {
    let expires = datetime!(2026-11-21 07:00:00.000001 UTC);
    vec![
        Record::SessionOpened {
            session: SessionId::new(),
            caller: caller(),
            connection: "prod".to_owned(),
            source_address: HERE,
            expires,
        },
        Record::SignInRefused {
            door: Door::Aws,
            caller: None,
            connection: Some("prod".to_owned()),
            decision: None,
            reason: Reason::ExpiredToken,
            message: "the token is past its time".to_owned(),
            source_address: HERE,
            user_agent: None,
        },
        intent(),
        Record::Asked {
            exchange: ExchangeId::new(),
            ask: "a1".to_owned(),
            session: SessionId::new(),
            caller: caller(),
            door: Door::Aws,
            connection: "prod".to_owned(),
            operation: operation(),
            digest: "ab".repeat(32),
            decision: decision(Verdict::Ask),
            source_address: HERE,
        },
        Record::AskChanged {
            ask: "a1".to_owned(),
            event: Some(2),
            what: "denied".to_owned(),
            by: Some("corp/ann".to_owned()),
            note: Some("not today".to_owned()),
            at: datetime!(2026-11-21 06:30:00 UTC),
        },
        Record::SessionRevoked {
            session: Some(SessionId::new()),
            caller: None,
            by: "corp/ann".to_owned(),
            reason: "lost laptop".to_owned(),
            at: datetime!(2026-11-21 06:30:00.5 UTC),
        },
        Record::Lent {
            exchange: ExchangeId::new(),
            access_key_id: "ASIAEXAMPLE".to_owned(),
            scope: LentScope::Actions,
            session_policy_sha256: Some("cd".repeat(32)),
            expires,
        },
        outcome(7),
        Record::Joined {
            exchange: ExchangeId::new(),
            ask: "a1".to_owned(),
            executed_by: ExchangeId::new(),
            session: SessionId::new(),
            caller: caller(),
            door: Door::Aws,
            connection: "prod".to_owned(),
            operation: operation(),
            digest: "ab".repeat(32),
            decision: decision(Verdict::Ask),
            source_address: HERE,
            user_agent: Some("aws-cli/2".to_owned()),
            status: 204,
            response_bytes: 0,
            duration_us: 4242,
        },
        refused("denied by policy `reads`"),
    ]
}

/// Options whose sync delay never passes within a test.
pub(crate) fn options() -> Options {
    Options { sync_delay: Duration::from_hours(1), ..Options::default() }
}

/// The marks of all outcomes in `dir`, in order.
pub(crate) fn marks(dir: &Path) -> Vec<u64> {
    crate::read(dir).map(|entry| mark(&entry.unwrap().record().unwrap())).collect()
}

#[derive(Default)]
pub(crate) struct Plan {
    pub appends: u64,
    pub syncs: u64,
    /// Bytes until the disk is full.
    pub space: Option<usize>,
    pub append_fails: Option<io::ErrorKind>,
    pub sync_fails: Option<io::ErrorKind>,
    pub truncate_fails: Option<io::ErrorKind>,
    /// A sync waits while this is set.
    pub hold: bool,
    /// Syncs that wait.
    held: u64,
}

/// A disk on which a test has its hand.
#[derive(Clone, Default)]
pub(crate) struct TestDisk(Arc<(Mutex<Plan>, Condvar)>);

impl TestDisk {
    pub fn open(&self, dir: &Path, options: Options) -> Journal {
        Journal::open_on(Box::new(self.clone()), dir, options).unwrap()
    }

    pub fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.0.lock().unwrap()
    }

    /// Syncs and appends so far.
    pub fn counts(&self) -> (u64, u64) {
        let plan = self.plan();
        (plan.syncs, plan.appends)
    }

    /// Waits until a sync waits, while the test's other tasks go on.
    pub async fn until_held(&self) {
        let disk = self.clone();
        let held = tokio::task::spawn_blocking(move || {
            let mut plan = disk.plan();
            while plan.held == 0 {
                plan = disk.0.1.wait(plan).unwrap();
            }
        });
        held.await.unwrap();
    }

    pub fn release(&self) {
        self.plan().hold = false;
        self.0.1.notify_all();
    }
}

impl Disk for TestDisk {
    fn create(&mut self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(TestFile { file: LocalDisk.create(path)?, disk: self.clone() }))
    }

    fn open(&mut self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(TestFile { file: LocalDisk.open(path)?, disk: self.clone() }))
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        LocalDisk.remove(path)
    }

    fn sync_names(&mut self, dir: &Path) -> io::Result<()> {
        LocalDisk.sync_names(dir)
    }
}

struct TestFile {
    file: Box<dyn SegmentFile>,
    disk: TestDisk,
}

impl SegmentFile for TestFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut plan = self.disk.plan();
        plan.appends += 1;
        if let Some(kind) = plan.append_fails {
            return Err(kind.into());
        }
        let Some(space) = &mut plan.space else { return self.file.append(bytes) };
        if *space == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let count = self.file.append(&bytes[..bytes.len().min(*space)])?;
        *space -= count;
        Ok(count)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut plan = self.disk.plan();
        plan.syncs += 1;
        plan.held += 1;
        self.disk.0.1.notify_all();
        while plan.hold {
            plan = self.disk.0.1.wait(plan).unwrap();
        }
        plan.held -= 1;
        if let Some(kind) = plan.sync_fails {
            return Err(kind.into());
        }
        self.file.sync()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        if let Some(kind) = self.disk.plan().truncate_fails {
            return Err(kind.into());
        }
        self.file.truncate(length)
    }
}

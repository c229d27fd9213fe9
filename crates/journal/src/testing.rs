//! Shared by the tests of this crate: records of each kind, and a disk that runs full, fails or holds still on command.

use crate::{
    Cause, Journal, JournalOptions, JournalRecord, MaskedCount, UsedGrant,
    disk::{LocalDisk, SegmentDisk, SegmentFile},
};
use durward_core::{
    AccessLevel, Caller, CallerKind, CredentialScope, Decision, ExchangeId, FrontEndKind, Operation,
    OperationTraits, RefusalReason, RequiredPermission, Resource, SessionId, Verdict,
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::Duration,
};
use time::{OffsetDateTime, macros::datetime};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const SAMPLE_EXPIRY: OffsetDateTime = datetime!(2026-11-21 07:00:00.000001 UTC);

pub(crate) fn sample_caller() -> Caller {
    Caller {
        provider: "corp".to_owned(),
        issuer: "https://login.example.com".to_owned(),
        subject: "agent-7".to_owned(),
        kind: CallerKind::Workload,
        groups: vec!["agents".to_owned()],
        act: vec!["maria".to_owned()],
    }
}

pub(crate) fn sample_decision(verdict: Verdict) -> Decision {
    Decision {
        verdict,
        policies: vec!["reads".to_owned()],
        reason: String::new(),
        policy_set: "0123456789abcdef".to_owned(),
        tags: durward_core::ResourceTags::new(),
        risk: None,
    }
}

pub(crate) fn sample_operation() -> Operation {
    Operation {
        front_end: FrontEndKind::Aws,
        service: "s3".to_owned(),
        name: "GetObject".to_owned(),
        required_permissions: vec![RequiredPermission {
            action: "s3:GetObject".to_owned(),
            resource: Resource::Arn("arn:aws:s3:::b/k\u{1b}[2J".to_owned()),
            access_level: AccessLevel::Read,
        }],
        parameters: serde_json::json!({ "Bucket": "b", "Key": "k\u{1b}[2J", "Range": null, "n": [1, 2.5, true] }),
        sensitive_pointers: vec!["/SSECustomerKey".to_owned()],
        region: Some("eu-west-1".to_owned()),
        account: None,
        traits: OperationTraits::default(),
        uninspected_parts: vec!["body".to_owned()],
        body_sha256: None,
    }
}

pub(crate) fn sample_intent() -> JournalRecord {
    JournalRecord::Intent {
        exchange: ExchangeId::new(),
        session: Some(SessionId::new()),
        caller: Some(sample_caller()),
        front_end: FrontEndKind::Aws,
        connection: "prod".to_owned(),
        operation: sample_operation(),
        digest: "ab".repeat(32),
        decision: sample_decision(Verdict::Allow),
        source_address: LOOPBACK,
        user_agent: Some("aws-cli/2".to_owned()),
        grant: Some(UsedGrant {
            approval_request: "a1".to_owned(),
            approvers: vec!["corp/ann".to_owned()],
            time_bound: true,
            break_glass: true,
        }),
        caused_by: Some(Cause::Exchange(ExchangeId::new())),
    }
}

pub(crate) fn sample_outcome(mark: u64) -> JournalRecord {
    JournalRecord::Outcome {
        exchange: ExchangeId::new(),
        status: 200,
        error_code: None,
        request_bytes: mark,
        response_bytes: 1234,
        response_sha256: None,
        masked: vec![MaskedCount { data_class: "email".to_owned(), count: 3 }],
        upstream_request_id: None,
        duration_us: 4242,
        failure: None,
    }
}

/// The mark that [`sample_outcome`] put into a record.
pub(crate) fn outcome_mark(record: &JournalRecord) -> u64 {
    match record {
        JournalRecord::Outcome { request_bytes, .. } => *request_bytes,
        other => panic!("not an outcome: {other:?}"),
    }
}

pub(crate) fn sample_refusal(message: &str) -> JournalRecord {
    JournalRecord::Refused {
        exchange: ExchangeId::new(),
        session: None,
        caller: None,
        front_end: FrontEndKind::Mcp,
        connection: None,
        operation: Some(sample_operation()),
        omitted_parameters: None,
        decision: Some(sample_decision(Verdict::Deny)),
        reason: RefusalReason::AccessDenied,
        message: message.to_owned(),
        source_address: LOOPBACK,
    }
}

pub(crate) fn sample_session_opened() -> JournalRecord {
    JournalRecord::SessionOpened {
        session: SessionId::new(),
        caller: sample_caller(),
        connection: "prod".to_owned(),
        source_address: LOOPBACK,
        expires: SAMPLE_EXPIRY,
    }
}

pub(crate) fn sample_credential() -> JournalRecord {
    JournalRecord::CredentialIssued {
        exchange: ExchangeId::new(),
        operation: "s3:GetObject".to_owned(),
        access_key_id: "ASIAEXAMPLE".to_owned(),
        scope: CredentialScope::Actions,
        session_policy_sha256: Some("cd".repeat(32)),
        expires: SAMPLE_EXPIRY,
    }
}

pub(crate) fn sample_coalesced() -> JournalRecord {
    JournalRecord::Coalesced {
        exchange: ExchangeId::new(),
        approval_request: "a1".to_owned(),
        executed_by: ExchangeId::new(),
        session: SessionId::new(),
        caller: sample_caller(),
        front_end: FrontEndKind::Aws,
        connection: "prod".to_owned(),
        operation: sample_operation(),
        digest: "ab".repeat(32),
        decision: sample_decision(Verdict::RequireApproval),
        source_address: LOOPBACK,
        user_agent: Some("aws-cli/2".to_owned()),
        status: 204,
        response_bytes: 0,
        duration_us: 4242,
    }
}

pub(crate) fn sample_records() -> Vec<JournalRecord> {
    vec![
        sample_session_opened(),
        JournalRecord::SignInRefused {
            front_end: FrontEndKind::Aws,
            caller: None,
            connection: Some("prod".to_owned()),
            decision: None,
            reason: RefusalReason::ExpiredToken,
            message: "the token is past its time".to_owned(),
            source_address: LOOPBACK,
            user_agent: None,
        },
        sample_intent(),
        JournalRecord::ApprovalRequested {
            exchange: ExchangeId::new(),
            approval_request: "a1".to_owned(),
            session: SessionId::new(),
            caller: sample_caller(),
            front_end: FrontEndKind::Aws,
            connection: "prod".to_owned(),
            operation: sample_operation(),
            digest: "ab".repeat(32),
            decision: sample_decision(Verdict::RequireApproval),
            source_address: LOOPBACK,
        },
        JournalRecord::ApprovalRequestChanged {
            approval_request: "a1".to_owned(),
            event_index: 2,
            change: "denied".to_owned(),
            by: Some("corp/ann".to_owned()),
            note: Some("not today".to_owned()),
            at: datetime!(2026-11-21 06:30:00 UTC),
        },
        JournalRecord::RefusalsOmitted { count: 900, since: datetime!(2026-11-21 06:30:00 UTC) },
        JournalRecord::SessionRevoked {
            session: Some(SessionId::new()),
            caller: None,
            by: "corp/ann".to_owned(),
            reason: "lost laptop".to_owned(),
            at: datetime!(2026-11-21 06:30:00.5 UTC),
        },
        sample_credential(),
        sample_outcome(7),
        sample_coalesced(),
        sample_refusal("denied by policy `reads`"),
    ]
}

/// Options whose sync delay never passes within a test.
pub(crate) fn test_options() -> JournalOptions {
    JournalOptions { sync_delay: Duration::from_hours(1), ..JournalOptions::default() }
}

/// The marks of all outcomes in `dir`, in their order.
pub(crate) fn outcome_marks(dir: &Path) -> Vec<u64> {
    crate::read_journal(dir).map(|entry| outcome_mark(&entry.unwrap().decode_record().unwrap())).collect()
}

#[derive(Default)]
pub(crate) struct TestDiskPlan {
    pub append_count: u64,
    pub sync_count: u64,
    /// The bytes until the disk is full.
    pub free_bytes: Option<usize>,
    pub append_error: Option<io::ErrorKind>,
    pub sync_error: Option<io::ErrorKind>,
    pub truncate_error: Option<io::ErrorKind>,
    /// The error number with which no segment can be created.
    pub create_errno: Option<i32>,
    /// A sync blocks while this is set.
    pub hold_syncs: bool,
    /// The number of syncs that block.
    held_sync_count: u64,
}

/// A disk whose failures a test plans.
#[derive(Clone, Default)]
pub(crate) struct TestDisk(Arc<(Mutex<TestDiskPlan>, Condvar)>);

impl TestDisk {
    pub fn open_journal(&self, dir: &Path, options: JournalOptions) -> Journal {
        Journal::open_on_disk(Box::new(self.clone()), dir, options).unwrap()
    }

    pub fn plan(&self) -> MutexGuard<'_, TestDiskPlan> {
        self.0.0.lock().unwrap()
    }

    /// The number of syncs and appends so far.
    pub fn sync_and_append_counts(&self) -> (u64, u64) {
        let plan = self.plan();
        (plan.sync_count, plan.append_count)
    }

    /// Waits until a sync blocks, while the other tasks of the test continue. Panics if none does within ten seconds.
    pub async fn wait_for_held_sync(&self) {
        let disk = self.clone();
        let held = tokio::task::spawn_blocking(move || {
            let is_none_held = |plan: &mut TestDiskPlan| plan.held_sync_count == 0;
            let wait = disk.0.1.wait_timeout_while(disk.plan(), Duration::from_secs(10), is_none_held);
            assert!(!wait.unwrap().1.timed_out(), "no sync came within ten seconds");
        });
        held.await.unwrap();
    }

    pub fn release_syncs(&self) {
        self.plan().hold_syncs = false;
        self.0.1.notify_all();
    }
}

impl SegmentDisk for TestDisk {
    fn create_segment(&mut self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        if let Some(errno) = self.plan().create_errno {
            return Err(io::Error::from_raw_os_error(errno));
        }
        Ok(Box::new(TestSegmentFile { file: LocalDisk::default().create_segment(path)?, disk: self.clone() }))
    }

    fn open_segment(&mut self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(TestSegmentFile { file: LocalDisk::default().open_segment(path)?, disk: self.clone() }))
    }

    fn remove_segment(&mut self, path: &Path) -> io::Result<()> {
        LocalDisk::default().remove_segment(path)
    }

    fn sync_directory(&mut self, dir: &Path) -> io::Result<()> {
        LocalDisk::default().sync_directory(dir)
    }
}

struct TestSegmentFile {
    file: Box<dyn SegmentFile>,
    disk: TestDisk,
}

impl SegmentFile for TestSegmentFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut plan = self.disk.plan();
        plan.append_count += 1;
        if let Some(kind) = plan.append_error {
            return Err(kind.into());
        }
        let Some(space) = &mut plan.free_bytes else { return self.file.append(bytes) };
        if *space == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let count = self.file.append(&bytes[..bytes.len().min(*space)])?;
        *space -= count;
        Ok(count)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut plan = self.disk.plan();
        plan.sync_count += 1;
        plan.held_sync_count += 1;
        self.disk.0.1.notify_all();
        while plan.hold_syncs {
            plan = self.disk.0.1.wait(plan).unwrap();
        }
        plan.held_sync_count -= 1;
        if let Some(kind) = plan.sync_error {
            return Err(kind.into());
        }
        self.file.sync()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        if let Some(kind) = self.disk.plan().truncate_error {
            return Err(kind.into());
        }
        self.file.truncate(length)
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        self.file.is_at(path)
    }
}

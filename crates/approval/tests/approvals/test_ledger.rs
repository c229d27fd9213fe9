//! The fixture of these tests: a store in a fresh directory, a clock that the test moves, callers and approvers.

use durward_approval::*;
use durward_core::{
    AccessLevel, Caller, CallerKind, ExchangeId, FrontEndKind, Operation, OperationTraits,
    RequiredPermission, Resource, ResourceTags, SessionId,
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

pub const CONNECTION_NAME: &str = "prod";
pub const ONCALL_GROUP: &str = "oncall";

pub struct TestLedger {
    pub approvals: Arc<Approvals>,
    pub test_clock: TestClock,
    pub directory: tempfile::TempDir,
}

/// A clock that only the test moves.
#[derive(Clone)]
pub struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub fn new() -> Self {
        Self(Arc::new(AtomicI64::new(1_800_000_000)))
    }
    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
    pub fn now(&self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.0.load(Ordering::SeqCst)).unwrap()
    }
    pub fn as_clock(&self) -> Clock {
        let clock = self.clone();
        Arc::new(move || clock.now())
    }
}

pub fn test_limits() -> ApprovalLimits {
    ApprovalLimits {
        max_pending_per_caller: 3,
        max_pending_per_provider: 4,
        max_pending_total: 5,
        break_glass_group: Some("firefighters".to_owned()),
        ..ApprovalLimits::default()
    }
}

pub fn database_path(directory: &Path) -> PathBuf {
    directory.join("state").join("durward.db")
}

pub async fn open_approvals(path: &Path, clock: &TestClock) -> Arc<Approvals> {
    let store = testing::open_test_store(path).await.unwrap();
    Arc::new(Approvals::open(store, test_limits(), clock.as_clock()).await.unwrap())
}

impl TestLedger {
    pub async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = TestClock::new();
        let approvals = open_approvals(&database_path(directory.path()), &clock).await;
        Self { approvals, test_clock: clock, directory }
    }

    /// A second gateway on the same store.
    pub async fn second_gateway(&self) -> Arc<Approvals> {
        open_approvals(&database_path(self.directory.path()), &self.test_clock).await
    }

    /// A gateway that starts after this one was killed: on SQLite with a copy of the files as they are now, on PostgreSQL with
    /// the same database, whose other connections stay open.
    pub async fn restart_after_kill(self) -> Self {
        if testing::is_postgres() {
            let approvals = self.second_gateway().await;
            return Self { approvals, ..self };
        }
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (database_path(self.directory.path()), database_path(directory.path()));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        for suffix in ["", "-wal"] {
            let name = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
            if name(&from).exists() {
                std::fs::copy(name(&from), name(&to)).unwrap();
            }
        }
        Self {
            approvals: open_approvals(&to, &self.test_clock).await,
            test_clock: self.test_clock.clone(),
            directory,
        }
    }

    pub async fn request_approval(&self, new: &NewApprovalRequest) -> ApprovalRequest {
        self.approvals.request_approval(new.clone()).await.unwrap()
    }

    pub async fn approve(&self, request: &ApprovalRequest, by: &Approver) -> ApprovalRequest {
        self.approvals.cast_vote(request.id, by, VoteChoice::ApproveOnce).await.unwrap()
    }

    pub async fn deny(&self, request: &ApprovalRequest, by: &Approver) -> ApprovalRequest {
        self.approvals
            .cast_vote(request.id, by, VoteChoice::Deny { reason: "not today".to_owned() })
            .await
            .unwrap()
    }

    /// Sends the operation of this request.
    pub async fn consume_grant(&self, new: &NewApprovalRequest) -> Option<Grant> {
        consume_grant(&self.approvals, new).await
    }

    pub async fn get(&self, request: &ApprovalRequest) -> ApprovalRequest {
        self.approvals.get(request.id).await.unwrap().unwrap()
    }
}

pub async fn consume_grant(approvals: &Approvals, new: &NewApprovalRequest) -> Option<Grant> {
    try_consume(approvals, new).await.unwrap()
}

pub async fn try_consume(
    approvals: &Approvals,
    new: &NewApprovalRequest,
) -> Result<Option<Grant>, StoreError> {
    let Some(grant) = try_find_grant(approvals, new).await? else { return Ok(None) };
    let is_consumed = approvals.consume_grant(&grant, &grant_query(new), new.exchange).await?;
    Ok(is_consumed.then_some(grant))
}

/// The question for a grant for the operation of this request.
pub fn grant_query(new: &NewApprovalRequest) -> GrantQuery<'_> {
    GrantQuery::new(&new.caller, &new.connection, &new.operation, &new.digest, &new.requirements)
}

pub async fn try_find_grant(
    approvals: &Approvals,
    new: &NewApprovalRequest,
) -> Result<Option<Grant>, StoreError> {
    approvals.find_grant(&grant_query(new)).await
}

/// Waits like a held request: until the request is not pending, or as it is at `until`.
pub async fn wait_for_end(
    approvals: &Approvals,
    id: ApprovalRequestId,
    until: tokio::time::Instant,
) -> Result<ApprovalRequest, StoreError> {
    let mut waiter = approvals.end_waiter(id).await?;
    match waiter.wait_until(until).await {
        Some(request) => Ok(ApprovalRequest::clone(&request)),
        None => Ok(ApprovalRequest::clone(&waiter.current_request())),
    }
}

/// Polls until `is_reached`, for at most 30 seconds. For changes that no subscription announces.
pub async fn poll_until(mut is_reached: impl AsyncFnMut() -> bool) {
    let poll = async {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        while !is_reached().await {
            tick.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), poll).await.expect("not reached within 30 seconds");
}

pub fn test_caller(subject: &str) -> Caller {
    Caller {
        provider: "corp".to_owned(),
        issuer: "https://login.example.com".to_owned(),
        subject: subject.to_owned(),
        kind: CallerKind::Workload,
        groups: vec!["agents".to_owned()],
        act: Vec::new(),
    }
}

pub fn approver(subject: &str, groups: &[&str]) -> Approver {
    Approver {
        id: format!("corp/{subject}"),
        name: subject.to_uppercase(),
        subject: subject.to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        groups_as_of: OffsetDateTime::UNIX_EPOCH,
    }
}

pub fn approval_requirement(policy: &str, group: &str, quorum: u32) -> ApprovalRequirement {
    ApprovalRequirement {
        policy: policy.to_owned(),
        group: group.to_owned(),
        quorum,
        timeout: Duration::from_mins(5),
        on_timeout: TimeoutAction::Reject,
    }
}

pub fn delete_bucket_operation(bucket: &str) -> Operation {
    Operation {
        front_end: FrontEndKind::Aws,
        service: "s3".to_owned(),
        name: "DeleteBucket".to_owned(),
        required_permissions: vec![RequiredPermission {
            access_level: AccessLevel::Write,
            action: "s3:DeleteBucket".to_owned(),
            resource: Resource::Arn(format!("arn:aws:s3:::{bucket}")),
        }],
        parameters: serde_json::json!({ "Bucket": bucket }),
        sensitive_pointers: Vec::new(),
        region: Some("eu-west-1".to_owned()),
        account: Some("123456789012".to_owned()),
        traits: OperationTraits { irreversible: true, ..OperationTraits::default() },
        uninspected_parts: Vec::new(),
        body_sha256: None,
    }
}

/// Deletes bucket `number`: forbidden by one policy, which one person of the on-call group can override.
pub fn delete_bucket_request(number: u8) -> NewApprovalRequest {
    NewApprovalRequest {
        caller: test_caller("agent"),
        session: SessionId::new(),
        connection: CONNECTION_NAME.to_owned(),
        exchange: ExchangeId::new(),
        operation: delete_bucket_operation(&format!("bucket-{number}")),
        digest: [number; 32],
        requirements: vec![approval_requirement("delete-bucket", ONCALL_GROUP, 1)],
        risk: RiskAssessment::default(),
        tags: ResourceTags::new(),
        reason: "deleting a bucket needs a person".to_owned(),
        policy_set: "0011223344556677".to_owned(),
        source_address: "127.0.0.1".parse().unwrap(),
        user_agent: Some("Boto3/1.40".to_owned()),
    }
}

pub fn request_requiring(requirements: Vec<ApprovalRequirement>) -> NewApprovalRequest {
    NewApprovalRequest { requirements, ..delete_bucket_request(1) }
}

//! The fixture of these tests: approval requests, approvers, receivers that record, and a clock that the test moves.

use crate::notifier::Notifier;
use crate::{NotificationChannel, NotificationEvent};
use bytes::Bytes;
use durward_approval::{
    ApprovalEvent, ApprovalEventKind, ApprovalLimits, ApprovalRequest, ApprovalRequestId, ApprovalState,
    Approvals, Approver, NewApprovalRequest, Store, Vote, VoteChoice,
};
use durward_core::timestamps::Clock;
use durward_core::{HttpClient, HttpClientError, HttpFuture, HttpLimits, RiskAssessment, Secret, encode_hex};
use http::{Request, Response};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use time::OffsetDateTime;
use time::macros::datetime;

pub const CONSOLE_URL: &str = "https://durward.example.com";
pub const START_TIME: OffsetDateTime = datetime!(2026-11-21 03:07:05 UTC);
/// From the published example of Standard Webhooks.
pub const SIGNING_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A request to delete a bucket, as the pipeline makes it.
pub fn new_approval_request(resource: &str, change: impl FnOnce(&mut Value)) -> NewApprovalRequest {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, resource.as_bytes());
    let mut new = json!({
        "caller": {
            "provider": "corp", "issuer": "https://login.example.com", "subject": "deploy-agent", "kind": "workload",
            "groups": ["agents"], "act": ["alice"],
        },
        "session": "0193498c0b1e7d3c8f0e5d1a2b3c4d5e",
        "connection": "prod",
        "exchange": "0193498c0b1e7d3c8f0e5d1a2b3c4d5f",
        "operation": {
            "front_end": "aws", "service": "s3", "name": "DeleteBucket",
            "required_permissions": [{"access_level": "Write", "action": "s3:DeleteBucket", "resource": {"arn": resource}}],
            "parameters": {}, "region": "eu-west-1", "account": "123456789012",
        },
        "digest": encode_hex(digest.as_ref()),
        "requirements": [{
            "policy": "delete-critical-bucket", "group": "platform-oncall", "quorum": 2, "timeout": 300, "on_timeout": "reject",
        }],
        "tags": {resource: {"critical": "true", "owner": "payroll"}},
        "reason": "forbidden by delete-critical-bucket",
        "policy_set": "0011223344556677",
        "source_address": "10.1.2.3",
        "user_agent": null,
    });
    change(&mut new);
    // Not part of the JSON: the store has a column of its own for it.
    let reasons = vec!["+30 changes data or configuration".to_owned(), "+30 cannot be undone".to_owned()];
    let risk = RiskAssessment { score: 85, reasons };
    NewApprovalRequest { risk, ..serde_json::from_value(new).unwrap() }
}

/// A pending request as the store returns it.
pub fn pending_request(new: NewApprovalRequest) -> ApprovalRequest {
    ApprovalRequest {
        id: "0193498c0b1e7d3c8f0e5d1a2b3c4d60".parse().unwrap(),
        state: ApprovalState::Pending,
        created: START_TIME,
        deadline: START_TIME + time::Duration::minutes(5),
        grant_until: None,
        time_bound: false,
        break_glass: false,
        risk: new.risk.clone(),
        details: Arc::new(new),
        votes: Vec::new(),
        history: vec![history_event(ApprovalEventKind::Requested)],
        attempts: 1,
        uses: 0,
    }
}

pub fn history_event(kind: ApprovalEventKind) -> ApprovalEvent {
    ApprovalEvent { at: START_TIME, kind, by: None, note: None }
}

pub fn approver(name: &str, groups: &[&str]) -> Approver {
    Approver {
        id: format!("corp/{name}"),
        name: name.to_owned(),
        subject: name.to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        groups_as_of: START_TIME,
    }
}

pub fn approver_vote(name: &str, approve: bool, reason: Option<&str>) -> Vote {
    Vote {
        by: approver(name, &["platform-oncall"]),
        at: START_TIME,
        is_approval: approve,
        reason: reason.map(str::to_owned),
        counted_groups: vec!["platform-oncall".to_owned()],
        time_bound_until: None,
        break_glass: false,
    }
}

/// The response of a receiver: a status, and a `Retry-After` header if any. Status 0: it cannot be reached.
pub type ReceiverResponse = (u16, Option<&'static str>);

/// Every receiver, by host. One that has no response left accepts everything.
#[derive(Default)]
pub struct FakeReceivers {
    responses: Mutex<HashMap<String, Vec<ReceiverResponse>>>,
    received_requests: Mutex<Vec<(String, Request<Bytes>)>>,
}

impl FakeReceivers {
    pub fn set_responses(&self, host: &str, responses: &[ReceiverResponse]) {
        self.responses.lock().unwrap().insert(host.to_owned(), responses.iter().rev().copied().collect());
    }

    /// Takes the requests that a host received since the last call.
    pub fn take_received(&self, host: &str) -> Vec<Request<Bytes>> {
        let mut received = self.received_requests.lock().unwrap();
        let (mine, others): (Vec<_>, Vec<_>) = received.drain(..).partition(|(to, _request)| to == host);
        *received = others;
        mine.into_iter().map(|(_to, request)| request).collect()
    }

    pub fn take_bodies(&self, host: &str) -> Vec<Value> {
        self.take_received(host)
            .iter()
            .map(|request| serde_json::from_slice(request.body()).unwrap())
            .collect()
    }
}

impl HttpClient for FakeReceivers {
    fn send(&self, request: Request<Bytes>, _limits: HttpLimits) -> HttpFuture<'_> {
        let host = request.uri().host().unwrap().to_owned();
        let next = self.responses.lock().unwrap().get_mut(&host).and_then(Vec::pop);
        self.received_requests.lock().unwrap().push((host.clone(), request));
        Box::pin(async move {
            let (status, retry_after) = next.unwrap_or((200, None));
            if status == 0 {
                let error = format!("cannot connect to `{host}`: connection refused");
                return Err(HttpClientError::Failed(error));
            }
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = status.try_into().unwrap();
            if let Some(wait) = retry_after {
                response.headers_mut().insert("retry-after", wait.parse().unwrap());
            }
            Ok(response)
        })
    }
}

pub struct TestNotifications {
    pub approvals: Arc<Approvals>,
    pub store: Store,
    pub receivers: Arc<FakeReceivers>,
    test_clock: Arc<AtomicI64>,
    _directory: tempfile::TempDir,
}

impl TestNotifications {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = durward_store::testing::open_test_store(&dir.path().join("state.db")).await.unwrap();
        let test_clock = Arc::new(AtomicI64::new(0));
        let limits = ApprovalLimits {
            max_pending_per_caller: 500,
            break_glass_group: Some("fire".to_owned()),
            ..ApprovalLimits::default()
        };
        let clock = offset_clock(&test_clock);
        let approvals = Arc::new(Approvals::open(store.clone(), limits, clock).await.unwrap());
        Self { approvals, store, receivers: Arc::default(), test_clock, _directory: dir }
    }

    pub fn advance_clock(&self, seconds: i64) {
        self.test_clock.fetch_add(seconds, Ordering::SeqCst);
    }

    /// A process that starts now; several notifiers are several processes.
    pub fn notifier(&self, channels: Vec<NotificationChannel>) -> Notifier {
        Notifier::new(
            self.approvals.clone(),
            self.store.clone(),
            channels,
            self.receivers.clone(),
            CONSOLE_URL,
            offset_clock(&self.test_clock),
        )
    }

    pub async fn request_approval(&self, resource: &str) -> ApprovalRequestId {
        self.approvals.request_approval(new_approval_request(resource, |_json| {})).await.unwrap().id
    }

    pub async fn deny(&self, id: ApprovalRequestId) {
        let choice = VoteChoice::Deny { reason: "not now".to_owned() };
        self.approvals.cast_vote(id, &approver("ann", &["platform-oncall"]), choice).await.unwrap();
    }

    pub async fn break_glass(&self, id: ApprovalRequestId) {
        let choice = VoteChoice::BreakGlass { reason: "it burns".to_owned() };
        self.approvals.cast_vote(id, &approver("fred", &["fire"]), choice).await.unwrap();
    }
}

fn offset_clock(offset: &Arc<AtomicI64>) -> Clock {
    let offset = offset.clone();
    Arc::new(move || START_TIME + time::Duration::seconds(offset.load(Ordering::SeqCst)))
}

pub fn slack_channel(name: &str) -> NotificationChannel {
    let url = Secret::new(format!("https://{name}.test/services/T0/B0/token"));
    NotificationChannel::slack(name, Vec::new(), &url).unwrap()
}

pub fn webhook_channel(name: &str) -> NotificationChannel {
    let url = Secret::new(format!("https://{name}.test/hook?token=token"));
    NotificationChannel::webhook(
        name,
        Vec::new(),
        &url,
        &Secret::new(SIGNING_SECRET),
        NotificationEvent::ALL.to_vec(),
    )
    .unwrap()
}

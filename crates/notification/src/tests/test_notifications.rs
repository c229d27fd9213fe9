//! Asks, people, receivers that the tests own, and a clock that they move.

use crate::notifier::Notifier;
use crate::{HttpClient, NotificationChannel, NotificationEvent};
use bytes::Bytes;
use durward_approval::{
    ApprovalEvent as Happened, ApprovalLimits, ApprovalRequest, ApprovalRequestId, ApprovalState, Approvals,
    Approver, Clock, NewApprovalRequest, Store, Vote, VoteChoice,
};
use durward_core::Secret;
use http::{Request, Response};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use time::OffsetDateTime;
use time::macros::datetime;

pub const CONSOLE_URL: &str = "https://durward.example.com";
pub const START_TIME: OffsetDateTime = datetime!(2026-11-21 03:07:05 UTC);
/// Of the published example of Standard Webhooks.
pub const SIGNING_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What the line asks about a resource.
pub fn new_approval_request(resource: &str, change: impl FnOnce(&mut Value)) -> NewApprovalRequest {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, resource.as_bytes());
    let digest = digest.as_ref().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    let mut ask = json!({
        "caller": {
            "provider": "corp", "issuer": "https://login.example.com", "subject": "deploy-agent", "kind": "workload",
            "groups": ["agents"], "act": ["alice"],
        },
        "session": "0193498c0b1e7d3c8f0e5d1a2b3c4d5e",
        "connection": "prod",
        "exchange": "0193498c0b1e7d3c8f0e5d1a2b3c4d5f",
        "operation": {
            "door": "aws", "service": "s3", "name": "DeleteBucket",
            "demands": [{"access_level": "Write", "action": "s3:DeleteBucket", "resource": {"arn": resource}}],
            "parameters": {}, "region": "eu-west-1", "account": "123456789012",
        },
        "digest": digest,
        "requirements": [{
            "policy": "delete-critical-bucket", "group": "platform-oncall", "quorum": 2, "timeout": 300, "on_timeout": "reject",
        }],
        "risk": {"score": 85, "reasons": ["+30 it changes something", "+30 it cannot be undone"]},
        "tags": {resource: {"critical": "true", "owner": "payroll"}},
        "reason": "forbidden by delete-critical-bucket",
        "policy_set": "0011223344556677",
        "source_address": "10.1.2.3",
        "user_agent": null,
    });
    change(&mut ask);
    serde_json::from_value(ask).unwrap()
}

/// An ask as the store gives it.
pub fn pending_request(new: NewApprovalRequest) -> ApprovalRequest {
    ApprovalRequest {
        id: "0193498c0b1e7d3c8f0e5d1a2b3c4d60".parse().unwrap(),
        state: ApprovalState::Pending,
        created: START_TIME,
        deadline: START_TIME + time::Duration::minutes(5),
        grant_until: None,
        time_bound: false,
        break_glass: false,
        risk: durward_core::RiskAssessment { score: 85, reasons: risk_reasons(&new) },
        details: Arc::new(new),
        votes: Vec::new(),
        history: vec![history_event("asked")],
        attempts: 1,
        uses: 0,
    }
}

fn risk_reasons(new: &NewApprovalRequest) -> Vec<String> {
    let mut reasons = vec!["+30 it changes something".to_owned(), "+30 it cannot be undone".to_owned()];
    if !new.operation.uninspected_parts.is_empty() {
        reasons.push("+10 a part of it was not inspected".to_owned());
    }
    reasons
}

pub fn history_event(kind: &str) -> Happened {
    Happened { at: START_TIME, kind: kind.to_owned(), by: None, note: None }
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

/// What a receiver answers: a status, with a `Retry-After` or none.
pub type ReceiverResponse = (u16, Option<&'static str>);

/// Every receiver, by host. One that has no answer left takes everything.
#[derive(Default)]
pub struct FakeReceivers {
    pub responses: Mutex<HashMap<String, Vec<ReceiverResponse>>>,
    received_requests: Mutex<Vec<(String, Request<Bytes>)>>,
}

impl FakeReceivers {
    pub fn set_responses(&self, host: &str, answers: &[ReceiverResponse]) {
        self.responses.lock().unwrap().insert(host.to_owned(), answers.iter().rev().copied().collect());
    }

    /// What arrived at a host since the last look.
    pub fn take_received(&self, host: &str) -> Vec<Request<Bytes>> {
        let mut got = self.received_requests.lock().unwrap();
        let (mine, others): (Vec<_>, Vec<_>) = got.drain(..).partition(|(to, _request)| to == host);
        *got = others;
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
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, String>> + Send + '_>> {
        let host = request.uri().host().unwrap().to_owned();
        let next = self.responses.lock().unwrap().get_mut(&host).and_then(Vec::pop);
        self.received_requests.lock().unwrap().push((host.clone(), request));
        Box::pin(async move {
            let (status, retry_after) = next.unwrap_or((200, None));
            if status == 0 {
                return Err(format!("cannot connect to `{host}`: connection refused"));
            }
            let mut answer = Response::new(Bytes::new());
            *answer.status_mut() = status.try_into().unwrap();
            if let Some(wait) = retry_after {
                answer.headers_mut().insert("retry-after", wait.parse().unwrap());
            }
            Ok(answer)
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
        let hand = Arc::new(AtomicI64::new(0));
        let limits = ApprovalLimits {
            max_pending_per_caller: 500,
            break_glass_group: Some("fire".to_owned()),
            ..ApprovalLimits::default()
        };
        let clock = offset_clock(&hand);
        let approvals = Arc::new(Approvals::open(store.clone(), limits, clock).await.unwrap());
        Self { approvals, store, receivers: Arc::default(), test_clock: hand, _directory: dir }
    }

    pub fn advance_clock(&self, seconds: i64) {
        self.test_clock.fetch_add(seconds, Ordering::SeqCst);
    }

    /// As a process that starts now; several are several processes.
    pub fn notifier(&self, channels: Vec<NotificationChannel>) -> Notifier {
        let outward = self.receivers.clone();
        Notifier::new(
            self.approvals.clone(),
            self.store.clone(),
            channels,
            outward,
            CONSOLE_URL,
            offset_clock(&self.test_clock),
        )
    }

    pub async fn request_approval(&self, resource: &str) -> ApprovalRequestId {
        self.approvals.request_approval(new_approval_request(resource, |_ask| {})).await.unwrap().id
    }

    pub async fn deny(&self, ask: ApprovalRequestId) {
        let answer = VoteChoice::Deny { reason: "not now".to_owned() };
        self.approvals.cast_vote(ask, &approver("ann", &["platform-oncall"]), answer).await.unwrap();
    }

    pub async fn break_glass(&self, ask: ApprovalRequestId) {
        let answer = VoteChoice::BreakGlass { reason: "it burns".to_owned() };
        self.approvals.cast_vote(ask, &approver("fred", &["fire"]), answer).await.unwrap();
    }
}

fn offset_clock(hand: &Arc<AtomicI64>) -> Clock {
    let hand = hand.clone();
    Arc::new(move || START_TIME + time::Duration::seconds(hand.load(Ordering::SeqCst)))
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

//! Asks, people, receivers that the tests own, and a clock that they move.

use crate::notifier::Notifier;
use crate::{Channel, Event, Outward};
use bytes::Bytes;
use durward_approval::{
    Answer, Approvals, Ask, AskId, Clock, Event as Happened, Limits, NewAsk, Person, State, Store, Vote,
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

pub const CONSOLE: &str = "https://durward.example.com";
pub const START: OffsetDateTime = datetime!(2026-11-21 03:07:05 UTC);
/// Of the published example of Standard Webhooks.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What the line asks about a resource.
pub fn new_ask(resource: &str, change: impl FnOnce(&mut Value)) -> NewAsk {
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
pub fn ask(new: NewAsk) -> Ask {
    Ask {
        id: "0193498c0b1e7d3c8f0e5d1a2b3c4d60".parse().unwrap(),
        state: State::Pending,
        created: START,
        deadline: START + time::Duration::minutes(5),
        grant_until: None,
        window: false,
        break_glass: false,
        risk: durward_core::Risk { score: 85, reasons: new_reasons(&new) },
        what: Arc::new(new),
        votes: Vec::new(),
        history: vec![happened("asked")],
        attempts: 1,
        uses: 0,
    }
}

fn new_reasons(new: &NewAsk) -> Vec<String> {
    let mut reasons = vec!["+30 it changes something".to_owned(), "+30 it cannot be undone".to_owned()];
    if !new.operation.uninspected.is_empty() {
        reasons.push("+10 a part of it was not inspected".to_owned());
    }
    reasons
}

pub fn happened(kind: &str) -> Happened {
    Happened { at: START, kind: kind.to_owned(), by: None, note: None }
}

pub fn person(name: &str, groups: &[&str]) -> Person {
    Person {
        id: format!("corp/{name}"),
        name: name.to_owned(),
        subject: name.to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        as_of: START,
    }
}

pub fn vote(name: &str, approve: bool, reason: Option<&str>) -> Vote {
    Vote {
        by: person(name, &["platform-oncall"]),
        at: START,
        approve,
        reason: reason.map(str::to_owned),
        groups: vec!["platform-oncall".to_owned()],
        window: None,
        break_glass: false,
    }
}

/// What a receiver answers: a status, with a `Retry-After` or none.
pub type Answered = (u16, Option<&'static str>);

/// Every receiver, by host. One that has no answer left takes everything.
#[derive(Default)]
pub struct Receivers {
    pub answers: Mutex<HashMap<String, Vec<Answered>>>,
    got: Mutex<Vec<(String, Request<Bytes>)>>,
}

impl Receivers {
    pub fn will_answer(&self, host: &str, answers: &[Answered]) {
        self.answers.lock().unwrap().insert(host.to_owned(), answers.iter().rev().copied().collect());
    }

    /// What arrived at a host since the last look.
    pub fn arrived(&self, host: &str) -> Vec<Request<Bytes>> {
        let mut got = self.got.lock().unwrap();
        let (mine, others): (Vec<_>, Vec<_>) = got.drain(..).partition(|(to, _request)| to == host);
        *got = others;
        mine.into_iter().map(|(_to, request)| request).collect()
    }

    pub fn bodies(&self, host: &str) -> Vec<Value> {
        self.arrived(host).iter().map(|request| serde_json::from_slice(request.body()).unwrap()).collect()
    }
}

impl Outward for Receivers {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, String>> + Send + '_>> {
        let host = request.uri().host().unwrap().to_owned();
        let next = self.answers.lock().unwrap().get_mut(&host).and_then(Vec::pop);
        self.got.lock().unwrap().push((host.clone(), request));
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

pub struct Stage {
    pub approvals: Arc<Approvals>,
    pub store: Store,
    pub receivers: Arc<Receivers>,
    hand: Arc<AtomicI64>,
    _dir: tempfile::TempDir,
}

impl Stage {
    pub async fn set() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = durward_store::testing::open(&dir.path().join("state.db")).await.unwrap();
        let hand = Arc::new(AtomicI64::new(0));
        let limits =
            Limits { per_caller: 500, break_glass_group: Some("fire".to_owned()), ..Limits::default() };
        let clock = clock(&hand);
        let approvals = Arc::new(Approvals::open(store.clone(), limits, clock).await.unwrap());
        Self { approvals, store, receivers: Arc::default(), hand, _dir: dir }
    }

    pub fn pass(&self, seconds: i64) {
        self.hand.fetch_add(seconds, Ordering::SeqCst);
    }

    /// As a process that starts now; several are several processes.
    pub fn notifier(&self, channels: Vec<Channel>) -> Notifier {
        let outward = self.receivers.clone();
        Notifier::new(
            self.approvals.clone(),
            self.store.clone(),
            channels,
            outward,
            CONSOLE,
            clock(&self.hand),
        )
    }

    pub async fn ask(&self, resource: &str) -> AskId {
        self.approvals.ask(new_ask(resource, |_ask| {})).await.unwrap().id
    }

    pub async fn deny(&self, ask: AskId) {
        let answer = Answer::Deny { reason: "not now".to_owned() };
        self.approvals.answer(ask, &person("ann", &["platform-oncall"]), answer).await.unwrap();
    }

    pub async fn break_glass(&self, ask: AskId) {
        let answer = Answer::BreakGlass { reason: "it burns".to_owned() };
        self.approvals.answer(ask, &person("fred", &["fire"]), answer).await.unwrap();
    }
}

fn clock(hand: &Arc<AtomicI64>) -> Clock {
    let hand = hand.clone();
    Arc::new(move || START + time::Duration::seconds(hand.load(Ordering::SeqCst)))
}

pub fn slack(name: &str) -> Channel {
    let url = Secret::new(format!("https://{name}.test/services/T0/B0/token"));
    Channel::slack(name, Vec::new(), &url).unwrap()
}

pub fn webhook(name: &str) -> Channel {
    let url = Secret::new(format!("https://{name}.test/hook?token=token"));
    Channel::webhook(name, Vec::new(), &url, &Secret::new(SECRET), Event::ALL.to_vec()).unwrap()
}

//! The stage of the approval attacks: the stand-in AWS, a gateway with its console, agents that sign requests byte by byte, and
//! people who answer through the admin API.

use crate::config;
use crate::demo::gateway_identity;
use crate::serve::{self, Running};
use bytes::Bytes;
use durward_approval::{Ask, AskId, Filter, State};
use durward_aws::sigv4::outbound::{Signer, sign};
use durward_aws::sigv4::{SigningKey, inbound, sha256_hex};
use durward_core::{Caller, CallerKind, Secret, SessionId};
use durward_gateway::aws_door::CONTAINER_PATH;
use durward_gateway::transport::{Origin, Transport};
use durward_identity::Claims;
use durward_journal::Record;
use durward_standin::aws::Aws;
use durward_standin::issuer::Issuer;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use time::OffsetDateTime;

/// Everything is permitted, and every change is asked about.
pub const POLICIES: &str = r#"
@id("connect") permit (principal, action == Action::"connect", resource);
@id("work") permit (principal, action, resource);
@id("ask") @approval("oncall") @timeout("10m") @on_timeout("queue")
forbid (principal, action in [Aws::Action::"Write", Aws::Action::"Tagging", Aws::Action::"Permissions management"], resource);
"#;

pub struct Stage {
    pub aws: Aws,
    pub running: Running,
    pub work: Issuer,
    pub people: Issuer,
    pub dir: tempfile::TempDir,
    pub door: Origin,
    pub console: Origin,
    transport: Transport,
}

/// Somebody with a gateway credential.
pub struct Agent {
    access_key_id: String,
    secret: Secret,
    session_token: Secret,
}

/// One request, before it is signed.
#[derive(Debug, Clone)]
pub struct Shot {
    pub method: Method,
    pub service: &'static str,
    pub region: &'static str,
    pub path: String,
    pub query: &'static str,
    pub headers: Vec<(&'static str, &'static str)>,
    pub body: &'static str,
    /// The signature does not cover the body.
    pub unsigned_body: bool,
}

pub struct Answer {
    pub status: u16,
    pub text: String,
}

impl Answer {
    /// Refused, and people are asked.
    pub fn is_pending(&self) -> bool {
        matches!(self.status, 400 | 403) && self.text.contains("the approval is pending")
    }
}

/// Waits until `look` finds something; it is there, or it never comes.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    for _ in 0..3_000 {
        tick.tick().await;
        if let Some(found) = look().await {
            return found;
        }
    }
    panic!("it never came to this: {what}");
}

impl Stage {
    /// Requests that are asked about are refused at once; they pass when they are sent again.
    pub async fn set() -> Self {
        Self::holding(Duration::from_millis(1)).await
    }

    pub async fn holding(hold: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let aws = Aws::start(loopback).await.unwrap();
        let (work, people) = (Issuer::start(loopback).await.unwrap(), Issuer::start(loopback).await.unwrap());
        std::fs::create_dir(dir.path().join("policies")).unwrap();
        std::fs::write(dir.path().join("policies/all.cedar"), POLICIES).unwrap();
        let text = format!(
            r#"
data_dir = "data"
[listen]
aws = "127.0.0.1:0"
console = "127.0.0.1:0"
[policy]
dir = "policies"
[[identity.oidc]]
name = "work"
issuer = "{}"
audience = ["durward"]
kind = "workload"
[[identity.oidc]]
name = "people"
issuer = "{}"
audience = ["durward"]
console_audience = ["durward-people"]
kind = "human"
[aws]
upstream = "{}"
[[aws.connection]]
name = "prod"
role_arn = "arn:aws:iam::123456789012:role/agents"
[[aws.connection]]
name = "other"
role_arn = "arn:aws:iam::123456789012:role/others"
"#,
            work.url(),
            people.url(),
            aws.url()
        );
        std::fs::write(dir.path().join("durward.toml"), text).unwrap();
        let mut config = config::load(&dir.path().join("durward.toml")).unwrap();
        config.approval.hold = hold;
        let running = serve::start(config, Some(gateway_identity(&aws))).await.unwrap();
        let origin =
            |address: Option<SocketAddr>| serve::origin(&format!("http://{}", address.unwrap())).unwrap();
        let (door, console) = (origin(running.aws), origin(running.console));
        let transport = Transport::new(vec![door.clone(), console.clone()]).unwrap();
        aws.put_object("data", "kept", "kept");
        Self { aws, running, work, people, dir, door, console, transport }
    }

    pub fn policies(&self, text: &str) {
        std::fs::write(self.dir.path().join("policies/all.cedar"), text).unwrap();
        self.running.rooms.policies.reload().unwrap();
    }

    /// What AWS saw beside the gateway's own STS calls.
    pub fn seen(&self) -> usize {
        self.aws.arrivals().iter().filter(|arrival| !arrival.action.starts_with("sts:")).count()
    }

    /// Signs in with a token as it is, as SDKs do.
    pub async fn sign_in(&self, token: &str, connection: &str) -> Agent {
        let request = Request::get(format!("{CONTAINER_PATH}{connection}"))
            .header("host", self.door.authority())
            .header("authorization", token)
            .body(Bytes::new())
            .unwrap();
        let answer = self.transport.call(&self.door, request, 1 << 20).await.unwrap();
        let fields: Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(answer.status(), 200, "{fields}");
        let field = |name: &str| fields[name].as_str().unwrap().to_owned();
        Agent {
            access_key_id: field("AccessKeyId"),
            secret: Secret::new(field("SecretAccessKey")),
            session_token: Secret::new(field("Token")),
        }
    }

    pub async fn agent(&self, subject: &str) -> Agent {
        let token = self.work.issue(subject, &["agents"], "durward", Duration::from_hours(1));
        self.sign_in(&token, "prod").await
    }

    /// An agent whose credential ends so soon.
    pub fn agent_for(&self, lifetime: Duration) -> Agent {
        let now = OffsetDateTime::now_utc();
        let claims = Claims {
            session: SessionId::new(),
            caller: Caller {
                provider: "work".to_owned(),
                issuer: self.work.url().to_owned(),
                subject: "short".to_owned(),
                kind: CallerKind::Workload,
                groups: Vec::new(),
                act: Vec::new(),
            },
            connection: "prod".to_owned(),
            issued: now,
            expires: now + lifetime,
        };
        let issued = self.running.rooms.seal.issue(&claims).unwrap();
        Agent {
            access_key_id: issued.access_key_id,
            secret: issued.secret_access_key,
            session_token: issued.session_token,
        }
    }

    pub fn is_over(&self, agent: &Agent) -> bool {
        let now = OffsetDateTime::now_utc();
        self.running.rooms.seal.open(&agent.access_key_id, agent.session_token.expose(), now).is_err()
    }

    pub fn signed(&self, agent: &Agent, shot: &Shot) -> Request<Bytes> {
        let at = OffsetDateTime::now_utc();
        let date = inbound::format_timestamp(at);
        let key = SigningKey::derive(agent.secret.expose(), &date[..8], shot.region, shot.service);
        let signer = Signer {
            access_key_id: &agent.access_key_id,
            session_token: Some(&agent.session_token),
            key: &key,
            region: shot.region,
            service: shot.service,
            at,
        };
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_str(&self.door.authority()).unwrap());
        // As SDKs do, so that what is sent twice within a second is not taken for a replay.
        let invocation = HeaderValue::from_str(&SessionId::new().to_string()).unwrap();
        headers.insert("amz-sdk-invocation-id", invocation);
        for (name, value) in &shot.headers {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let hash =
            if shot.unsigned_body { "UNSIGNED-PAYLOAD".to_owned() } else { sha256_hex(shot.body.as_bytes()) };
        sign(&signer, &shot.method, &shot.path, shot.query, &mut headers, &hash).unwrap();
        let uri =
            if shot.query.is_empty() { shot.path.clone() } else { format!("{}?{}", shot.path, shot.query) };
        let mut request = Request::new(Bytes::from_static(shot.body.as_bytes()));
        *request.method_mut() = shot.method.clone();
        *request.uri_mut() = uri.parse().unwrap();
        *request.headers_mut() = headers;
        request
    }

    pub async fn pass(&self, request: Request<Bytes>) -> Answer {
        let answer = self.transport.call(&self.door, request, 1 << 20).await.unwrap();
        Answer { status: answer.status().as_u16(), text: String::from_utf8_lossy(answer.body()).into_owned() }
    }

    pub async fn send(&self, agent: &Agent, shot: &Shot) -> Answer {
        self.pass(self.signed(agent, shot)).await
    }

    pub async fn list(&self, states: &[State]) -> Vec<Ask> {
        let filter = Filter { states: states.to_vec(), limit: 1_000, caller: None };
        self.running.rooms.approvals.list(filter).await.unwrap()
    }

    pub async fn get(&self, id: AskId) -> Ask {
        self.running.rooms.approvals.get(id).await.unwrap().unwrap()
    }

    /// The only ask that waits, once there is one.
    pub async fn asked(&self) -> Ask {
        until("somebody is asked", || async {
            let mut pending = self.list(&[State::Pending]).await;
            assert!(pending.len() < 2, "more is asked than there should be: {pending:?}");
            pending.pop()
        })
        .await
    }

    /// A request to the console's listener, as it is.
    pub async fn call(&self, mut request: Request<Bytes>) -> Answer {
        let host = HeaderValue::from_str(&self.console.authority()).unwrap();
        request.headers_mut().insert("host", host);
        let answer = self.transport.call(&self.console, request, 1 << 20).await.unwrap();
        Answer { status: answer.status().as_u16(), text: String::from_utf8_lossy(answer.body()).into_owned() }
    }

    /// The token of a person who is in these groups now.
    pub fn token(&self, subject: &str, groups: &[&str]) -> String {
        self.people.issue(subject, groups, "durward-people", Duration::from_hours(1))
    }

    /// A person's answer through the admin API.
    pub async fn answer(&self, ask: AskId, token: &str, answer: &Value) -> (u16, Value) {
        let request = Request::post(format!("/api/v1/asks/{ask}/answer"))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(Bytes::from(answer.to_string()))
            .unwrap();
        let said = self.call(request).await;
        (said.status, serde_json::from_str(&said.text).unwrap())
    }

    pub async fn approve(&self, ask: AskId, subject: &str) {
        let token = self.token(subject, &["oncall"]);
        let (status, said) = self.answer(ask, &token, &json!({"answer": "approve_once"})).await;
        assert_eq!(status, 200, "{said}");
    }

    /// Asks for `shot`, which must be asked about, and lets `ann` approve it.
    pub async fn approved(&self, agent: &Agent, shot: &Shot) -> Ask {
        let answer = self.send(agent, shot).await;
        assert!(answer.is_pending(), "{}: {}", answer.status, answer.text);
        let ask = self.asked().await;
        self.approve(ask.id, "ann").await;
        let ask = self.get(ask.id).await;
        assert_eq!(ask.state, State::Approved);
        ask
    }

    /// How often the line let something go on.
    pub async fn intents(&self) -> usize {
        self.running.flush().await.unwrap();
        let records = durward_journal::read(&self.dir.path().join("data/journal"));
        records
            .filter(|entry| matches!(entry.as_ref().unwrap().record().unwrap(), Record::Intent { .. }))
            .count()
    }
}

/// Writes an object.
pub fn put(key: &str) -> Shot {
    Shot {
        method: Method::PUT,
        service: "s3",
        region: "us-east-1",
        path: format!("/data/{key}"),
        query: "",
        headers: vec![("content-type", "text/plain")],
        body: "one",
        unsigned_body: false,
    }
}

/// A call of a JSON protocol.
pub fn json_call(service: &'static str, target: &'static str, body: &'static str) -> Shot {
    let headers = vec![("x-amz-target", target), ("content-type", "application/x-amz-json-1.1")];
    Shot { method: Method::POST, service, path: "/".to_owned(), headers, body, ..put("") }
}

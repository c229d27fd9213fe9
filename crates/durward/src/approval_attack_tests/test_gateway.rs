//! The test gateway of the approval attacks: the fake AWS, a gateway with its console, agents that sign requests byte by byte, and
//! people who answer through the admin API.

use crate::config;
use crate::demo::gateway_identity;
use crate::serve::{self, RunningGateway};
use bytes::Bytes;
use durward_approval::{ApprovalRequest, ApprovalRequestFilter, ApprovalRequestId, ApprovalState};
use durward_aws::sigv4::outbound::{SigningParams, sign_request};
use durward_aws::sigv4::{SigningKey, inbound, sha256_hex};
use durward_core::Origin;
use durward_core::{Caller, CallerKind, Secret, SessionId};
use durward_fake_aws::aws::FakeAws;
use durward_fake_aws::oidc_issuer::FakeOidcIssuer;
use durward_gateway::aws_frontend::CONTAINER_CREDENTIALS_PATH;
use durward_gateway::upstream_client::UpstreamClient;
use durward_identity::GatewayCredentialClaims;
use durward_journal::JournalRecord;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use time::OffsetDateTime;

/// Everything is permitted, and every change is asked about.
pub const APPROVAL_POLICIES: &str = r#"
@id("connect") permit (principal, action == Action::"connect", resource);
@id("work") permit (principal, action, resource);
@id("ask") @approval("oncall") @timeout("10m") @on_timeout("queue")
forbid (principal, action in [Aws::Action::"Write", Aws::Action::"Tagging", Aws::Action::"Permissions management"], resource);
"#;

pub struct ApprovalTestGateway {
    pub fake_aws: FakeAws,
    pub gateway: RunningGateway,
    pub workload_issuer: FakeOidcIssuer,
    pub user_issuer: FakeOidcIssuer,
    pub dir: tempfile::TempDir,
    pub aws_origin: Origin,
    pub console_origin: Origin,
    http_client: UpstreamClient,
}

/// Somebody with a gateway credential.
pub struct TestAgent {
    access_key_id: String,
    secret_access_key: Secret,
    session_token: Secret,
}

/// One request, before it is signed.
#[derive(Debug, Clone)]
pub struct TestRequest {
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

pub struct TestResponse {
    pub status: u16,
    pub text: String,
}

impl TestResponse {
    /// Refused, and people are asked.
    pub fn is_pending(&self) -> bool {
        matches!(self.status, 400 | 403) && self.text.contains("the approval is pending")
    }
}

/// Waits until `look` finds something; it is there, or it never comes.
pub async fn wait_until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    for _ in 0..3_000 {
        tick.tick().await;
        if let Some(found) = look().await {
            return found;
        }
    }
    panic!("it never came to this: {what}");
}

impl ApprovalTestGateway {
    /// Requests that are asked about are refused at once; they pass when they are sent again.
    pub async fn start() -> Self {
        Self::start_with_hold(Duration::from_millis(1)).await
    }

    pub async fn start_with_hold(hold: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let aws = FakeAws::start(loopback).await.unwrap();
        let (work, people) =
            (FakeOidcIssuer::start(loopback).await.unwrap(), FakeOidcIssuer::start(loopback).await.unwrap());
        std::fs::create_dir(dir.path().join("policies")).unwrap();
        std::fs::write(dir.path().join("policies/all.cedar"), APPROVAL_POLICIES).unwrap();
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
emulator_url = "{}"
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
        let mut config = config::load_config(&dir.path().join("durward.toml")).unwrap();
        config.approval.hold = hold;
        let running = serve::start_gateway(config, Some(gateway_identity(&aws))).await.unwrap();
        let origin =
            |address: Option<SocketAddr>| format!("http://{}", address.unwrap()).parse::<Origin>().unwrap();
        let (door, console) = (origin(running.aws_address), origin(running.console_address));
        let transport = UpstreamClient::new(vec![door.clone(), console.clone()]).unwrap();
        aws.put_object("data", "kept", "kept");
        Self {
            fake_aws: aws,
            gateway: running,
            workload_issuer: work,
            user_issuer: people,
            dir,
            aws_origin: door,
            console_origin: console,
            http_client: transport,
        }
    }

    pub fn replace_policies(&self, text: &str) {
        std::fs::write(self.dir.path().join("policies/all.cedar"), text).unwrap();
        self.gateway.parts.policies.reload().unwrap();
    }

    /// What AWS saw beside the gateway's own STS calls.
    pub fn upstream_call_count(&self) -> usize {
        self.fake_aws.received_requests().iter().filter(|arrival| !arrival.action.starts_with("sts:")).count()
    }

    /// Signs in with a token as it is, as SDKs do.
    pub async fn sign_in(&self, token: &str, connection: &str) -> TestAgent {
        let request = Request::get(format!("{CONTAINER_CREDENTIALS_PATH}{connection}"))
            .header("host", self.aws_origin.authority())
            .header("authorization", token)
            .body(Bytes::new())
            .unwrap();
        let answer = self.http_client.send_buffered(&self.aws_origin, request, 1 << 20).await.unwrap();
        let fields: Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(answer.status(), 200, "{fields}");
        let field = |name: &str| fields[name].as_str().unwrap().to_owned();
        TestAgent {
            access_key_id: field("AccessKeyId"),
            secret_access_key: Secret::new(field("SecretAccessKey")),
            session_token: Secret::new(field("Token")),
        }
    }

    pub async fn sign_in_agent(&self, subject: &str) -> TestAgent {
        let token =
            self.workload_issuer.issue_token(subject, &["agents"], "durward", Duration::from_hours(1));
        self.sign_in(&token, "prod").await
    }

    /// An agent whose credential ends so soon.
    pub fn agent_expiring_in(&self, lifetime: Duration) -> TestAgent {
        let now = OffsetDateTime::now_utc();
        let claims = GatewayCredentialClaims {
            session: SessionId::new(),
            caller: Caller {
                provider: "work".to_owned(),
                issuer: self.workload_issuer.url().to_owned(),
                subject: "short".to_owned(),
                kind: CallerKind::Workload,
                groups: Vec::new(),
                act: Vec::new(),
            },
            connection: "prod".to_owned(),
            issued_at: now,
            expires_at: now + lifetime,
        };
        let issued = self.gateway.parts.seal_keys.issue(&claims).unwrap();
        TestAgent {
            access_key_id: issued.access_key_id,
            secret_access_key: issued.secret_access_key,
            session_token: issued.session_token,
        }
    }

    pub fn is_expired(&self, agent: &TestAgent) -> bool {
        let now = OffsetDateTime::now_utc();
        self.gateway.parts.seal_keys.open(&agent.access_key_id, agent.session_token.expose(), now).is_err()
    }

    pub fn sign_request(&self, agent: &TestAgent, shot: &TestRequest) -> Request<Bytes> {
        let at = OffsetDateTime::now_utc();
        let date = inbound::format_timestamp(at);
        let key = SigningKey::derive(agent.secret_access_key.expose(), &date[..8], shot.region, shot.service);
        let signer = SigningParams {
            access_key_id: &agent.access_key_id,
            session_token: Some(&agent.session_token),
            signing_key: &key,
            region: shot.region,
            service: shot.service,
            signing_time: at,
        };
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_str(&self.aws_origin.authority()).unwrap());
        // As SDKs do, so that what is sent twice within a second is not taken for a replay.
        let invocation = HeaderValue::from_str(&SessionId::new().to_string()).unwrap();
        headers.insert("amz-sdk-invocation-id", invocation);
        for (name, value) in &shot.headers {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let hash =
            if shot.unsigned_body { "UNSIGNED-PAYLOAD".to_owned() } else { sha256_hex(shot.body.as_bytes()) };
        sign_request(&signer, &shot.method, &shot.path, shot.query, &mut headers, &hash).unwrap();
        let uri =
            if shot.query.is_empty() { shot.path.clone() } else { format!("{}?{}", shot.path, shot.query) };
        let mut request = Request::new(Bytes::from_static(shot.body.as_bytes()));
        *request.method_mut() = shot.method.clone();
        *request.uri_mut() = uri.parse().unwrap();
        *request.headers_mut() = headers;
        request
    }

    pub async fn send_signed(&self, request: Request<Bytes>) -> TestResponse {
        let answer = self.http_client.send_buffered(&self.aws_origin, request, 1 << 20).await.unwrap();
        TestResponse {
            status: answer.status().as_u16(),
            text: String::from_utf8_lossy(answer.body()).into_owned(),
        }
    }

    pub async fn send_request(&self, agent: &TestAgent, shot: &TestRequest) -> TestResponse {
        self.send_signed(self.sign_request(agent, shot)).await
    }

    pub async fn list_requests(&self, states: &[ApprovalState]) -> Vec<ApprovalRequest> {
        let filter = ApprovalRequestFilter { states: states.to_vec(), limit: 1_000, caller: None };
        self.gateway.parts.approvals.list(filter).await.unwrap()
    }

    pub async fn get_request(&self, id: ApprovalRequestId) -> ApprovalRequest {
        self.gateway.parts.approvals.get(id).await.unwrap().unwrap()
    }

    /// The only ask that waits, once there is one.
    pub async fn wait_for_request(&self) -> ApprovalRequest {
        wait_until("somebody is asked", || async {
            let mut pending = self.list_requests(&[ApprovalState::Pending]).await;
            assert!(pending.len() < 2, "more is asked than there should be: {pending:?}");
            pending.pop()
        })
        .await
    }

    /// A request to the console's listener, as it is.
    pub async fn call_console(&self, mut request: Request<Bytes>) -> TestResponse {
        let host = HeaderValue::from_str(&self.console_origin.authority()).unwrap();
        request.headers_mut().insert("host", host);
        let answer = self.http_client.send_buffered(&self.console_origin, request, 1 << 20).await.unwrap();
        TestResponse {
            status: answer.status().as_u16(),
            text: String::from_utf8_lossy(answer.body()).into_owned(),
        }
    }

    /// The token of a person who is in these groups now.
    pub fn approver_token(&self, subject: &str, groups: &[&str]) -> String {
        self.user_issuer.issue_token(subject, groups, "durward-people", Duration::from_hours(1))
    }

    /// A person's answer through the admin API.
    pub async fn cast_vote(&self, ask: ApprovalRequestId, token: &str, answer: &Value) -> (u16, Value) {
        let request = Request::post(format!("/api/v1/approval-requests/{ask}/votes"))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(Bytes::from(answer.to_string()))
            .unwrap();
        let said = self.call_console(request).await;
        (said.status, serde_json::from_str(&said.text).unwrap())
    }

    pub async fn approve_request(&self, ask: ApprovalRequestId, subject: &str) {
        let token = self.approver_token(subject, &["oncall"]);
        let (status, said) = self.cast_vote(ask, &token, &json!({"vote": "approve_once"})).await;
        assert_eq!(status, 200, "{said}");
    }

    /// Asks for `shot`, which must be asked about, and lets `ann` approve it.
    pub async fn create_approved_request(&self, agent: &TestAgent, shot: &TestRequest) -> ApprovalRequest {
        let answer = self.send_request(agent, shot).await;
        assert!(answer.is_pending(), "{}: {}", answer.status, answer.text);
        let ask = self.wait_for_request().await;
        self.approve_request(ask.id, "ann").await;
        let ask = self.get_request(ask.id).await;
        assert_eq!(ask.state, ApprovalState::Approved);
        ask
    }

    /// How often the line let something go on.
    pub async fn intent_count(&self) -> usize {
        self.gateway.flush_journal().await.unwrap();
        let records = durward_journal::read_journal(&self.dir.path().join("data/journal"));
        records
            .filter(|entry| {
                matches!(entry.as_ref().unwrap().decode_record().unwrap(), JournalRecord::Intent { .. })
            })
            .count()
    }
}

/// Writes an object.
pub fn put_object(key: &str) -> TestRequest {
    TestRequest {
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
pub fn json_call(service: &'static str, target: &'static str, body: &'static str) -> TestRequest {
    let headers = vec![("x-amz-target", target), ("content-type", "application/x-amz-json-1.1")];
    TestRequest { method: Method::POST, service, path: "/".to_owned(), headers, body, ..put_object("") }
}

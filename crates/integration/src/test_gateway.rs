//! A gateway in this process, everything that it talks to, and the callers and approvers that use it.

use crate::scripted_mcp_server::ScriptedMcpServer;
use crate::test_response::TestResponse;
use bytes::Bytes;
use durward::config;
use durward::demo::{SdkClient, SdkRequest, gateway_identity};
use durward::serve::{self, RunningGateway};
use durward_approval::{
    ApprovalRequest, ApprovalRequestFilter, ApprovalRequestId, ApprovalState, Approver, VoteChoice,
};
use durward_core::{Caller, CallerKind, Origin, SessionId};
use durward_fake_aws::aws::FakeAws;
use durward_fake_aws::oidc_issuer::FakeOidcIssuer;
use durward_gateway::upstream_client::UpstreamClient;
use durward_identity::GatewayCredentialClaims;
use durward_journal::JournalRecord;
use http::{HeaderName, HeaderValue, Method, Request};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use time::OffsetDateTime;

/// The largest response that a test reads.
const MAX_RESPONSE_BYTES: usize = 64 << 20;
/// The group of the approvers that [`TestGateway::approver`] and [`TestGateway::approve`] make.
const APPROVER_GROUP: &str = "oncall";
const WAIT_POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Far longer than anything takes, on a busy machine too.
const WAIT_TIMEOUT: Duration = Duration::from_mins(1);

/// Chooses what a [`TestGateway`] serves.
#[derive(Debug)]
pub struct TestGatewayBuilder {
    has_aws: bool,
    has_mcp: bool,
    has_console: bool,
    policies: String,
    hold: Duration,
    aws_upstream: Option<(String, PathBuf)>,
    more_configuration: String,
}

impl TestGatewayBuilder {
    /// Opens the AWS front end, with the connections `prod`, `other` and `demo`.
    #[must_use]
    pub fn aws(mut self) -> Self {
        self.has_aws = true;
        self
    }

    /// Opens the MCP front end. The servers `files`, `others` and `closed` are all [`TestGateway::mcp_server`].
    #[must_use]
    pub fn mcp(mut self) -> Self {
        self.has_mcp = true;
        self
    }

    /// Opens the console and the admin API.
    #[must_use]
    pub fn console(mut self) -> Self {
        self.has_console = true;
        self
    }

    /// The Cedar policies. Without any, every request is refused.
    #[must_use]
    pub fn policies(mut self, text: impl Into<String>) -> Self {
        self.policies = text.into();
        self
    }

    /// How long a request waits for approval before it is refused. By default a moment.
    #[must_use]
    pub fn hold(mut self, hold: Duration) -> Self {
        self.hold = hold;
        self
    }

    /// Sends to another AWS than [`TestGateway::fake_aws`]: at `url`, with a certificate of this CA.
    #[must_use]
    pub fn aws_upstream(mut self, url: impl Into<String>, ca_file: impl Into<PathBuf>) -> Self {
        self.aws_upstream = Some((url.into(), ca_file.into()));
        self
    }

    /// More tables for `durward.toml`, written as in the file.
    #[must_use]
    pub fn configuration(mut self, toml: impl Into<String>) -> Self {
        self.more_configuration = toml.into();
        self
    }

    pub async fn start(self) -> TestGateway {
        let fake_aws = FakeAws::start(loopback()).await.unwrap();
        self.start_before(fake_aws).await
    }

    /// Starts the gateway in front of a fake AWS that runs already.
    pub async fn start_before(self, fake_aws: FakeAws) -> TestGateway {
        let dir = tempfile::tempdir().unwrap();
        let workload_issuer = FakeOidcIssuer::start(loopback()).await.unwrap();
        let user_issuer = FakeOidcIssuer::start(loopback()).await.unwrap();
        let mcp_server = ScriptedMcpServer::start().await;
        std::fs::create_dir(dir.path().join("policies")).unwrap();
        std::fs::write(policy_file(dir.path()), &self.policies).unwrap();
        let text = self.write_configuration(&fake_aws, &workload_issuer, &user_issuer, &mcp_server);
        let mut config = config::parse_config(&text, dir.path()).unwrap();
        config.approval.hold = self.hold;
        let running = serve::start_gateway(config, Some(gateway_identity(&fake_aws))).await.unwrap();
        let origin = |address: SocketAddr| format!("http://{address}").parse::<Origin>().unwrap();
        let aws_origin = running.aws_address.map(origin);
        let mcp_origin = running.mcp_address.map(origin);
        let console_origin = running.console_address.map(origin);
        let origins = [&aws_origin, &mcp_origin, &console_origin].into_iter().flatten().cloned().collect();
        TestGateway {
            fake_aws,
            mcp_server,
            workload_issuer,
            user_issuer,
            running,
            dir,
            http_client: UpstreamClient::new(origins).unwrap(),
            aws_origin,
            mcp_origin,
            console_origin,
        }
    }

    fn write_configuration(
        &self,
        fake_aws: &FakeAws,
        workload_issuer: &FakeOidcIssuer,
        user_issuer: &FakeOidcIssuer,
        mcp_server: &ScriptedMcpServer,
    ) -> String {
        let mut text = "data_dir = \"data\"\n[listen]\n".to_owned();
        for (listener, is_open) in
            [("aws", self.has_aws), ("mcp", self.has_mcp), ("console", self.has_console)]
        {
            if is_open {
                writeln!(text, "{listener} = \"127.0.0.1:0\"").unwrap();
            }
        }
        if self.has_mcp {
            text += "mcp_allowed_origins = [\"https://app.example.com\"]\n";
        }
        if self.has_console {
            // Also people who may not approve, and approvers of policies that a test replaces.
            text += "[console]\nallowed_groups = [\"oncall\", \"agents\", \"Oncall\"]\n";
        }
        write!(
            text,
            r#"
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
"#,
            workload_issuer.url(),
            user_issuer.url()
        )
        .unwrap();
        if self.has_aws {
            match &self.aws_upstream {
                Some((url, ca_file)) => writeln!(
                    text,
                    "[aws]\nemulator_url = \"{url}\"\nemulator_ca_file = \"{}\"",
                    ca_file.display()
                ),
                None => writeln!(text, "[aws]\nemulator_url = \"{}\"", fake_aws.url()),
            }
            .unwrap();
            for name in ["prod", "other", "demo"] {
                let role = format!("arn:aws:iam::123456789012:role/{name}");
                writeln!(text, "[[aws.connection]]\nname = \"{name}\"\nrole_arn = \"{role}\"").unwrap();
            }
        }
        if self.has_mcp {
            for name in ["files", "others", "closed"] {
                let url = format!("http://{}/upstream?tenant=1", mcp_server.address);
                writeln!(text, "[[mcp.server]]\nname = \"{name}\"\nurl = \"{url}\"").unwrap();
            }
        }
        text + &self.more_configuration
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn policy_file(dir: &Path) -> PathBuf {
    dir.join("policies/all.cedar")
}

/// A running gateway and its surroundings. All of it ends when the value is dropped.
pub struct TestGateway {
    pub fake_aws: FakeAws,
    pub mcp_server: ScriptedMcpServer,
    /// Issues the tokens of agents: provider `work`, audience `durward`.
    pub workload_issuer: FakeOidcIssuer,
    /// Issues the tokens of people: provider `people`, audience `durward` for the front ends and `durward-people` for the
    /// admin API.
    pub user_issuer: FakeOidcIssuer,
    pub running: RunningGateway,
    dir: tempfile::TempDir,
    http_client: UpstreamClient,
    aws_origin: Option<Origin>,
    mcp_origin: Option<Origin>,
    console_origin: Option<Origin>,
}

impl TestGateway {
    /// A gateway without front ends and policies, to be added.
    pub fn builder() -> TestGatewayBuilder {
        TestGatewayBuilder {
            has_aws: false,
            has_mcp: false,
            has_console: false,
            policies: String::new(),
            hold: Duration::from_millis(1),
            aws_upstream: None,
            more_configuration: String::new(),
        }
    }

    pub fn aws_origin(&self) -> &Origin {
        self.aws_origin.as_ref().expect("the builder opened no AWS front end")
    }

    pub fn mcp_origin(&self) -> &Origin {
        self.mcp_origin.as_ref().expect("the builder opened no MCP front end")
    }

    pub fn console_origin(&self) -> &Origin {
        self.console_origin.as_ref().expect("the builder opened no console")
    }

    pub fn replace_policies(&self, text: &str) {
        std::fs::write(policy_file(self.dir.path()), text).unwrap();
        self.running.parts.policies.reload().unwrap();
    }

    async fn send(&self, origin: &Origin, request: Request<Bytes>) -> TestResponse {
        TestResponse(self.http_client.send_buffered(origin, request, MAX_RESPONSE_BYTES).await.unwrap())
    }
}

/// The journal and the state.
impl TestGateway {
    pub fn journal_dir(&self) -> PathBuf {
        self.dir.path().join("data/journal")
    }

    /// The database that replicas of this gateway would share.
    pub fn database_path(&self) -> PathBuf {
        self.dir.path().join("data/state.db")
    }

    /// Everything that the journal holds, as text.
    pub async fn journal_text(&self) -> String {
        self.running.flush_journal().await.unwrap();
        let mut bytes = Vec::new();
        for entry in std::fs::read_dir(self.journal_dir()).unwrap() {
            bytes.extend(std::fs::read(entry.unwrap().path()).unwrap());
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the journal holds a text so many times.
    pub async fn wait_until_journaled(&self, text: &str, count: usize) {
        wait_until(&format!("the journal has {text}"), || async {
            (self.journal_text().await.matches(text).count() >= count).then_some(())
        })
        .await;
    }

    pub async fn journal_records(&self) -> Vec<JournalRecord> {
        self.running.flush_journal().await.unwrap();
        durward_journal::read_journal(&self.journal_dir())
            .map(|entry| entry.unwrap().decode_record().unwrap())
            .collect()
    }

    /// How many requests were let through to an upstream.
    pub async fn intent_count(&self) -> usize {
        let records = self.journal_records().await;
        records.iter().filter(|record| matches!(record, JournalRecord::Intent { .. })).count()
    }
}

/// The AWS front end.
impl TestGateway {
    /// What the fake AWS received, without the gateway's own calls of STS.
    pub fn upstream_call_count(&self) -> usize {
        self.fake_aws.received_requests().iter().filter(|request| !request.action.starts_with("sts:")).count()
    }

    pub async fn sign_in(&self, token: &str, connection: &str) -> SdkClient {
        SdkClient::sign_in(self.aws_origin(), token, connection).await.unwrap()
    }

    /// Signs a workload of group `agents` in for the connection `prod`.
    pub async fn sign_in_agent(&self, subject: &str) -> SdkClient {
        self.sign_in(&self.caller_token(subject), "prod").await
    }

    /// An agent whose gateway credential expires so soon.
    pub fn agent_expiring_in(&self, lifetime: Duration) -> SdkClient {
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
            proved_at: now,
            expires_at: now + lifetime,
        };
        let credential = self.running.parts.seal_keys.issue(&claims).unwrap();
        SdkClient::with_credential(self.aws_origin(), credential).unwrap()
    }

    pub fn is_expired(&self, agent: &SdkClient) -> bool {
        let now = OffsetDateTime::now_utc();
        self.running.parts.seal_keys.open(&agent.access_key_id, agent.session_token.expose(), now).is_err()
    }

    /// Sends a request as it is.
    pub async fn send_signed(&self, request: Request<Bytes>) -> TestResponse {
        self.send(self.aws_origin(), request).await
    }

    pub async fn call_aws(&self, agent: &SdkClient, request: &SdkRequest) -> TestResponse {
        self.send_signed(agent.sign(request).unwrap()).await
    }
}

/// The MCP front end.
impl TestGateway {
    /// A token of a workload of group `agents`, for an hour.
    pub fn caller_token(&self, subject: &str) -> String {
        self.workload_issuer.issue_token(subject, &["agents"], "durward", Duration::from_hours(1))
    }

    /// A request to the server `files` as an SDK sends it. A header with an empty value is left out.
    pub fn mcp_request(
        &self,
        token: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Request<Bytes> {
        let mut request = Request::new(body.into());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = "/mcp/files".parse().unwrap();
        let host = self.mcp_origin().authority();
        let bearer = format!("Bearer {token}");
        let common = [
            ("host", host.as_str()),
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
        ];
        for (name, value) in common.iter().chain(headers) {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            if value.is_empty() {
                request.headers_mut().remove(name);
            } else {
                request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
            }
        }
        request
    }

    pub async fn send_mcp(&self, request: Request<Bytes>) -> TestResponse {
        self.send(self.mcp_origin(), request).await
    }

    /// Sends a message of the caller `agent` outside of a session.
    pub async fn post_mcp(&self, message: &Value) -> TestResponse {
        self.send_mcp(self.mcp_request(&self.caller_token("agent"), &[], message.to_string())).await
    }

    /// Opens a session that the server calls `upstream-1`, and returns the id that the client got.
    pub async fn open_mcp_session(&self, token: &str) -> String {
        self.mcp_server.respond_with_session("upstream-1");
        let initialize = crate::initialize_request().to_string();
        let response = self.send_mcp(self.mcp_request(token, &[], initialize)).await;
        response.header("mcp-session-id").to_owned()
    }
}

/// Approval requests, the console and the admin API.
impl TestGateway {
    pub async fn list_approval_requests(&self, states: &[ApprovalState]) -> Vec<ApprovalRequest> {
        let filter = ApprovalRequestFilter { states: states.to_vec(), limit: 1_000, caller: None };
        self.running.parts.approvals.list(filter).await.unwrap()
    }

    pub async fn approval_request(&self, id: ApprovalRequestId) -> ApprovalRequest {
        self.running.parts.approvals.get(id).await.unwrap().unwrap()
    }

    /// The only pending approval request, as soon as there is one.
    pub async fn wait_for_approval_request(&self) -> ApprovalRequest {
        wait_until("an approval request is pending", || async {
            let mut pending = self.list_approval_requests(&[ApprovalState::Pending]).await;
            assert!(pending.len() < 2, "there are more approval requests than there should be: {pending:?}");
            pending.pop()
        })
        .await
    }

    /// Sends a request to the listener of the console and the admin API.
    pub async fn send_to_console(&self, mut request: Request<Bytes>) -> TestResponse {
        let host = HeaderValue::from_str(&self.console_origin().authority()).unwrap();
        request.headers_mut().insert("host", host);
        self.send(self.console_origin(), request).await
    }

    /// A token for the admin API of a person who is in these groups.
    pub fn approver_token(&self, subject: &str, groups: &[&str]) -> String {
        self.user_issuer.issue_token(subject, groups, "durward-people", Duration::from_hours(1))
    }

    /// Votes through the admin API. Returns the status and the JSON of the response.
    pub async fn cast_vote(&self, id: ApprovalRequestId, token: &str, vote: &Value) -> (u16, Value) {
        let request = Request::post(format!("/api/v1/approval-requests/{id}/votes"))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(Bytes::from(vote.to_string()))
            .unwrap();
        let response = self.send_to_console(request).await;
        (response.status(), response.json())
    }

    /// Approves once through the admin API, as a person of group `oncall`.
    pub async fn approve(&self, id: ApprovalRequestId, subject: &str) {
        let token = self.approver_token(subject, &[APPROVER_GROUP]);
        let (status, body) = self.cast_vote(id, &token, &json!({"vote": "approve_once"})).await;
        assert_eq!(status, 200, "{body}");
    }

    /// Denies through the admin API, as a person of group `oncall`.
    pub async fn deny(&self, id: ApprovalRequestId, subject: &str) {
        let token = self.approver_token(subject, &[APPROVER_GROUP]);
        let (status, body) = self.cast_vote(id, &token, &json!({"vote": "deny", "reason": "no"})).await;
        assert_eq!(status, 200, "{body}");
    }

    /// Approves once as [`TestGateway::approver`], where there is no admin API because there is no console.
    pub async fn approve_without_console(&self, id: ApprovalRequestId, subject: &str) {
        let approver = Self::approver(subject);
        self.running.parts.approvals.cast_vote(id, &approver, VoteChoice::ApproveOnce).await.unwrap();
    }

    /// A person of group `oncall`, as the store knows them.
    pub fn approver(subject: &str) -> Approver {
        Approver {
            id: format!("people/{subject}"),
            name: subject.to_owned(),
            subject: subject.to_owned(),
            groups: vec![APPROVER_GROUP.to_owned()],
            groups_as_of: OffsetDateTime::now_utc(),
        }
    }

    /// Sends a request that needs an approval, and lets `ann` approve it. It can be sent once now.
    pub async fn create_approved_request(&self, agent: &SdkClient, request: &SdkRequest) -> ApprovalRequest {
        let response = self.call_aws(agent, request).await;
        assert!(response.is_approval_pending(), "{}: {}", response.status(), response.text());
        let id = self.wait_for_approval_request().await.id;
        self.approve(id, "ann").await;
        let approved = self.approval_request(id).await;
        assert_eq!(approved.state, ApprovalState::Approved);
        approved
    }
}

/// Polls until `find` finds something. Panics if that takes a minute.
pub async fn wait_until<T, F: Future<Output = Option<T>>>(awaited: &str, mut find: impl FnMut() -> F) -> T {
    let mut interval = tokio::time::interval(WAIT_POLL_INTERVAL);
    let polling = async {
        loop {
            interval.tick().await;
            if let Some(found) = find().await {
                return found;
            }
        }
    };
    let Ok(found) = tokio::time::timeout(WAIT_TIMEOUT, polling).await else {
        panic!("this did not happen within {WAIT_TIMEOUT:?}: {awaited}");
    };
    found
}

//! A console with real services behind it, and a browser that keeps cookies.

use super::openapi::assert_described;
use crate::{
    ApiTokenProvider, AwsIdentity, AwsIdentityState, CliClient, ConnectionKind, ConnectionSummary, Console,
    ConsoleDependencies, ConsoleSettings, SignInProvider,
};
use bytes::Bytes;
use durward_approval::{
    ApprovalLimits, ApprovalRequest, ApprovalRequirement, Approvals, GrantQuery, NewApprovalRequest, Store,
    TimeoutAction,
};
use durward_catalog::Catalog;
use durward_core::{
    AccessLevel, Caller, CallerKind, ExchangeId, FrontEndKind, HttpClient, HttpClientError, HttpFuture,
    HttpLimits, Operation, OperationTraits, RequiredPermission, Resource, Secret, SessionId,
    timestamps::Clock,
};
use durward_fake_aws::oidc_issuer::FakeOidcIssuer;
use durward_identity::{ProviderConfig, Revocations};
use durward_notification::{ChannelStatusReader, NotificationChannel};
use durward_policy::PolicyStore;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::{
    collections::BTreeMap,
    future::Future,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use time::OffsetDateTime;
use tokio::net::TcpStream;

pub const CONSOLE_CLIENT_ID: &str = "durward-console";
pub const CLI_CLIENT_ID: &str = "durward-cli";
/// The audience of tokens for the admin API (`console_audience`).
pub const USER_AUDIENCE: &str = "durward-people";
pub const CONSOLE_ORIGIN: &str = "http://127.0.0.1:8600";

/// Connects to the issuer on loopback without any checks.
struct DirectHttpClient;

async fn send_http(request: Request<Bytes>) -> Result<Response<Bytes>, String> {
    let authority = request.uri().authority().ok_or("no authority")?.to_string();
    let stream = TcpStream::connect(&authority).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let (mut parts, body) = request.into_parts();
    parts.headers.insert(header::HOST, authority.parse().unwrap());
    parts.uri = parts.uri.path_and_query().unwrap().as_str().parse().unwrap();
    let response = sender
        .send_request(Request::from_parts(parts, Full::new(body)))
        .await
        .map_err(|error| error.to_string())?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
    Ok(Response::from_parts(parts, body))
}

impl HttpClient for DirectHttpClient {
    fn send(&self, request: Request<Bytes>, _limits: HttpLimits) -> HttpFuture<'_> {
        Box::pin(async move { send_http(request).await.map_err(HttpClientError::Failed) })
    }
}

/// The gateway's AWS identity, in the state that a test sets.
#[derive(Clone)]
pub struct FakeAwsIdentity(pub Arc<Mutex<AwsIdentityState>>);

impl FakeAwsIdentity {
    fn found() -> Self {
        let source = "environment".to_owned();
        Self(Arc::new(Mutex::new(AwsIdentityState::Found { source, long_lived: false })))
    }
}

impl AwsIdentity for FakeAwsIdentity {
    fn state(&self) -> Pin<Box<dyn Future<Output = AwsIdentityState> + Send + '_>> {
        let state = self.0.lock().unwrap().clone();
        Box::pin(std::future::ready(state))
    }
}

pub struct TestConsole {
    pub app: Console,
    pub approvals: Arc<Approvals>,
    pub issuer: FakeOidcIssuer,
    pub dir: tempfile::TempDir,
    pub revocations: Revocations,
    pub store: Store,
    pub policies: Arc<PolicyStore>,
    pub aws_identity: FakeAwsIdentity,
    settings: ConsoleSettings,
    /// How far the console's clock is ahead of the system's.
    clock_offset_seconds: Arc<AtomicI64>,
}

/// One channel; the tests write its state to the store.
fn test_channels(store: &Store) -> ChannelStatusReader {
    let url = Secret::new("https://hooks.example.com/secret");
    let channel = NotificationChannel::slack("oncall-chat", Vec::new(), &url).unwrap();
    ChannelStatusReader::new(store.clone(), &[channel])
}

const CONNECT_POLICY: &str =
    "@id(\"connect\")\npermit (principal, action == Action::\"connect\", resource);\n";

impl TestConsole {
    /// Consumes the grant for an operation, as the gateway does. `false`: there is none.
    pub async fn consume_grant(&self, details: &NewApprovalRequest) -> bool {
        let query = GrantQuery::new(
            &details.caller,
            &details.connection,
            &details.operation,
            &details.digest,
            &details.requirements,
        );
        let Some(grant) = self.approvals.find_grant(&query).await.unwrap() else { return false };
        self.approvals.consume_grant(&grant, &query, details.exchange).await.unwrap()
    }

    pub async fn start() -> Self {
        Self::start_with(|_settings| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut ConsoleSettings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let issuer = FakeOidcIssuer::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        std::fs::create_dir(dir.path().join("policies")).unwrap();
        std::fs::write(dir.path().join("policies/a.cedar"), CONNECT_POLICY).unwrap();
        std::fs::create_dir(dir.path().join("journal")).unwrap();
        let provider = |audience: &str| ProviderConfig {
            kind: CallerKind::Human,
            ..ProviderConfig::new("corp", issuer.url(), vec![audience.to_owned()])
        };
        let mut settings = ConsoleSettings {
            url: CONSOLE_ORIGIN.to_owned(),
            sign_in_providers: vec![SignInProvider {
                provider: provider(CONSOLE_CLIENT_ID),
                client_id: CONSOLE_CLIENT_ID.to_owned(),
                client_secret: None,
                scopes: vec!["profile".to_owned()],
            }],
            api_token_providers: vec![ApiTokenProvider {
                provider: ProviderConfig {
                    audience: [CONSOLE_CLIENT_ID, CLI_CLIENT_ID, USER_AUDIENCE].map(str::to_owned).into(),
                    ..provider(CONSOLE_CLIENT_ID)
                },
                client_ids: vec![CONSOLE_CLIENT_ID.to_owned(), CLI_CLIENT_ID.to_owned()],
                audiences: vec![USER_AUDIENCE.to_owned()],
                front_end_audiences: vec!["durward".to_owned()],
                cli_client: Some(CliClient {
                    client_id: CLI_CLIENT_ID.to_owned(),
                    scopes: vec!["groups".to_owned()],
                }),
            }],
            allowed_groups: ["oncall", "finance", "security", "staff", "fire"].map(str::to_owned).into(),
            revoke_groups: Vec::new(),
            break_glass_group: Some("fire".to_owned()),
            max_grant_duration: ApprovalLimits::default().max_time_bound,
            connections: vec![ConnectionSummary {
                name: "prod".to_owned(),
                kind: ConnectionKind::AwsRole,
                target: "arn:aws:iam::123456789012:role/agents".to_owned(),
                description: String::new(),
            }],
            policy_dir: dir.path().join("policies"),
            journal_dir: dir.path().join("journal"),
            version: "test",
        };
        change(&mut settings);
        Self::open(dir, issuer, settings, FakeAwsIdentity::found(), Arc::new(AtomicI64::new(0))).await
    }

    /// Opens the gateway's parts over what is in the directory.
    async fn open(
        dir: tempfile::TempDir,
        issuer: FakeOidcIssuer,
        settings: ConsoleSettings,
        aws_identity: FakeAwsIdentity,
        clock_offset_seconds: Arc<AtomicI64>,
    ) -> Self {
        let offset = clock_offset_seconds.clone();
        let clock: Clock = Arc::new(move || {
            OffsetDateTime::now_utc() + time::Duration::seconds(offset.load(Ordering::Relaxed))
        });
        let store = durward_store::testing::open_test_store(&dir.path().join("state.db")).await.unwrap();
        let limits = ApprovalLimits {
            break_glass_group: settings.break_glass_group.clone(),
            ..ApprovalLimits::default()
        };
        let approvals = Arc::new(Approvals::open(store.clone(), limits, clock.clone()).await.unwrap());
        let revocations = Revocations::open(store.clone()).await.unwrap();
        let policies = Arc::new(PolicyStore::open(&settings.policy_dir, Catalog::embedded()).unwrap());
        let dependencies = ConsoleDependencies {
            approvals: approvals.clone(),
            revocations: revocations.clone(),
            store: store.clone(),
            channels: test_channels(&store),
            policies: policies.clone(),
            schema_source: Catalog::embedded(),
            http_client: Arc::new(DirectHttpClient),
            aws_identity: Some(Arc::new(aws_identity.clone())),
            clock,
        };
        let app = Console::new(dependencies, settings.clone()).unwrap();
        Self {
            app,
            approvals,
            issuer,
            dir,
            revocations,
            store,
            policies,
            aws_identity,
            settings,
            clock_offset_seconds,
        }
    }

    /// Puts these policies in force, beside the one of `connect`.
    pub fn write_policies(&self, text: &str) {
        let file = self.settings.policy_dir.join("a.cedar");
        std::fs::write(file, format!("{CONNECT_POLICY}{text}")).unwrap();
        assert!(self.policies.reload().unwrap(), "the policies did not change");
    }

    /// The same gateway after a restart: same directory, issuer, settings and clock.
    pub async fn restart(self) -> Self {
        let Self { issuer, dir, settings, clock_offset_seconds, store, aws_identity, .. } = self;
        store.close().await;
        Self::open(dir, issuer, settings, aws_identity, clock_offset_seconds).await
    }

    /// Closes the store: every later read and write fails.
    pub async fn close_store(&self) {
        self.store.close().await;
    }

    pub async fn send_to_issuer(request: Request<Bytes>) -> Response<Bytes> {
        send_http(request).await.unwrap()
    }

    pub fn advance_clock(&self, time: Duration) {
        self.clock_offset_seconds.fetch_add(time.as_secs().cast_signed(), Ordering::Relaxed);
    }

    pub async fn send(&self, request: Request<Bytes>) -> TestResponse {
        let response = self.app.respond(request.map(Full::new)).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        TestResponse {
            status: parts.status,
            headers: parts.headers,
            // Where a line may break is no matter of content.
            body: String::from_utf8(body.to_vec()).unwrap().replace("<wbr>", ""),
        }
    }

    pub fn new_browser(&self) -> TestBrowser<'_> {
        TestBrowser {
            test_console: self,
            cookies: BTreeMap::new(),
            origin: Some(CONSOLE_ORIGIN),
            fetch_site: Some("same-origin"),
        }
    }

    /// A browser in which this person has signed in.
    pub async fn sign_in_person(&self, subject: &str, groups: &str) -> TestBrowser<'_> {
        let mut browser = self.new_browser();
        let response = browser.sign_in(subject, groups, "/").await;
        assert_eq!(response.status, StatusCode::SEE_OTHER, "{}", response.body);
        browser
    }

    /// A token for the admin API.
    pub fn issue_token(&self, subject: &str, groups: &[&str]) -> String {
        self.issuer.issue_token(subject, groups, USER_AUDIENCE, Duration::from_hours(3))
    }

    pub async fn call_api(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: &str,
    ) -> (StatusCode, serde_json::Value) {
        let mut request = Request::builder().method(&method).uri(path).header("host", "127.0.0.1:8600");
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = self.send(request.body(Bytes::from(body.to_owned())).unwrap()).await;
        let document = serde_json::from_str(&response.body);
        let document = document.unwrap_or_else(|error| panic!("{error}: {}", response.body));
        assert_described(&method, path, response.status, &document);
        (response.status, document)
    }

    pub async fn open_approval_request(&self) -> ApprovalRequest {
        self.open_approval_request_with(new_approval_request()).await
    }

    pub async fn open_approval_request_with(&self, new: NewApprovalRequest) -> ApprovalRequest {
        self.approvals.request_approval(new).await.unwrap()
    }
}

pub struct TestResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl TestResponse {
    pub fn location(&self) -> &str {
        self.headers[header::LOCATION].to_str().unwrap()
    }
}

pub struct TestBrowser<'s> {
    test_console: &'s TestConsole,
    pub cookies: BTreeMap<String, String>,
    /// The `Origin` header with which the browser sends a form.
    pub origin: Option<&'static str>,
    pub fetch_site: Option<&'static str>,
}

impl TestBrowser<'_> {
    pub async fn get(&mut self, path: &str) -> TestResponse {
        self.send(Method::GET, path, "").await
    }

    pub async fn send(&mut self, method: Method, path: &str, form: &str) -> TestResponse {
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = Request::builder()
            .method(&method)
            .uri(path)
            .header("host", "127.0.0.1:8600")
            .header("cookie", cookies.join("; "));
        if method == Method::POST {
            request = request.header("content-type", "application/x-www-form-urlencoded");
            if let Some(origin) = self.origin {
                request = request.header("origin", origin);
            }
            if let Some(site) = self.fetch_site {
                request = request.header("sec-fetch-site", site);
            }
        }
        let response = self.test_console.send(request.body(Bytes::from(form.to_owned())).unwrap()).await;
        for line in response.headers.get_all(header::SET_COOKIE) {
            let line = line.to_str().unwrap();
            let (name, value) = line.split_once(';').unwrap().0.split_once('=').unwrap();
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        response
    }

    /// Signs in at the issuer; returns the path and query of the callback without requesting it.
    pub async fn callback_from_issuer(&mut self, subject: &str, groups: &str, to: &str) -> String {
        let started = self.get(&format!("/signin/start?provider=corp&to={to}")).await;
        assert_eq!(started.status, StatusCode::SEE_OTHER, "{}", started.body);
        let url = format!("{}&sub={subject}&groups={groups}", started.location());
        let redirect = send_http(Request::get(url).body(Bytes::new()).unwrap()).await.unwrap();
        let location = redirect.headers()[header::LOCATION].to_str().unwrap();
        location.strip_prefix(CONSOLE_ORIGIN).unwrap().to_owned()
    }

    pub async fn sign_in(&mut self, subject: &str, groups: &str, to: &str) -> TestResponse {
        let callback = self.callback_from_issuer(subject, groups, to).await;
        self.get(&callback).await
    }

    /// The CSRF token of the login, from the form of a page.
    pub async fn csrf_token(&mut self) -> String {
        let page = self.get("/").await.body;
        let (_before, rest) = page.split_once("name=\"csrf\" value=\"").unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    }

    pub async fn cast_vote(&mut self, approval_request: &ApprovalRequest, form: &str) -> TestResponse {
        let csrf = self.csrf_token().await;
        self.send(
            Method::POST,
            &format!("/approvals/{}/votes", approval_request.id),
            &format!("csrf={csrf}&{form}"),
        )
        .await
    }
}

/// `corp/agent-7`, acting for `boss`, requests to delete a bucket; two members of `oncall` must approve.
pub fn new_approval_request() -> NewApprovalRequest {
    let operation = Operation {
        front_end: FrontEndKind::Aws,
        service: "s3".to_owned(),
        name: "DeleteBucket".to_owned(),
        required_permissions: vec![RequiredPermission {
            access_level: AccessLevel::Write,
            action: "s3:DeleteBucket".to_owned(),
            resource: Resource::Arn("arn:aws:s3:::payroll".to_owned()),
        }],
        parameters: json!({"Bucket": "payroll"}),
        sensitive_pointers: Vec::new(),
        region: Some("eu-west-1".to_owned()),
        account: Some("123456789012".to_owned()),
        traits: OperationTraits { irreversible: true, ..OperationTraits::default() },
        uninspected_parts: Vec::new(),
        body_sha256: None,
    };
    let context = durward_core::RiskContext {
        is_first_seen: true,
        resource_tags: None,
        has_unnamed_resource: false,
        risky_tags: &[],
    };
    let risk = durward_core::assess_risk(&operation, context);
    NewApprovalRequest {
        caller: Caller {
            provider: "corp".to_owned(),
            issuer: "https://login.example.com".to_owned(),
            subject: "agent-7".to_owned(),
            kind: CallerKind::Workload,
            groups: vec!["agents".to_owned()],
            act: vec!["boss".to_owned()],
        },
        session: SessionId::new(),
        connection: "prod".to_owned(),
        exchange: ExchangeId::new(),
        digest: aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &operation.canonical_json())
            .as_ref()
            .try_into()
            .unwrap(),
        operation,
        requirements: vec![ApprovalRequirement {
            policy: "no-deletion".to_owned(),
            group: "oncall".to_owned(),
            quorum: 2,
            timeout: Duration::from_mins(10),
            on_timeout: TimeoutAction::Reject,
        }],
        risk,
        tags: durward_core::ResourceTags::new(),
        reason: "s3:DeleteBucket requires approval under policy `no-deletion`".to_owned(),
        policy_set: "0123456789abcdef".to_owned(),
        source_address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
        user_agent: Some("Boto3/1.40".to_owned()),
    }
}

//! The stage of the MCP attacks: an issuer, a gateway, and a server whose answers each test writes byte by byte.

use crate::config::{
    ApprovalConfig, AwsConfig, Config, IdentityConfig, ListenConfig, McpConfig, McpServerConfig,
    OidcProviderConfig, PolicyConfig, ProviderCallerKind,
};
use crate::serve::{self, RunningGateway};
use bytes::Bytes;
use durward_core::Origin;
use durward_core::Secret;
use durward_credential::GatewayIdentity;
use durward_fake_aws::oidc_issuer::FakeOidcIssuer;
use durward_gateway::upstream_client::UpstreamClient;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

pub const MCP_POLICIES: &str = r#"
@id("connect") permit (principal in Group::"agents", action == Action::"connect", resource)
unless { resource == Connection::"closed" };
@id("talk") permit (principal in Group::"agents", action in [
  Mcp::Action::"initialize", Mcp::Action::"notifications/initialized", Mcp::Action::"server/discover",
  Mcp::Action::"ping", Mcp::Action::"tools/list"], resource);
@id("call") permit (principal in Group::"agents", action == Mcp::Action::"tools/call", resource);
@id("no-delete") forbid (principal, action == Mcp::Action::"tools/call", resource == Mcp::Tool::"files/delete");
@id("srv-only") forbid (principal, action == Mcp::Action::"tools/call", resource == Mcp::Tool::"files/read")
unless { context.arguments.path like "/srv/*" };
@id("asked") @approval("oncall") forbid (principal, action == Mcp::Action::"tools/call", resource == Mcp::Tool::"files/pay");
"#;

/// What reached the server.
#[derive(Debug, Clone)]
pub struct ReceivedRequest {
    pub head: String,
    pub body: Vec<u8>,
}

impl ReceivedRequest {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<String> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(own, _value)| own.eq_ignore_ascii_case(name))
            .map(|(_name, value)| value.to_owned())
            .next()
    }
}

/// Pieces of a whole HTTP answer, written one after the other; before a [`RESPONSE_GATE`] the server waits until it is let on.
type ResponseScript = Arc<Mutex<Box<dyn Fn(&ReceivedRequest) -> Vec<Vec<u8>> + Send>>>;

pub const RESPONSE_GATE: &str = "(gate)";

pub struct ScriptedMcpServer {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<ReceivedRequest>>>,
    script: ResponseScript,
    gate: Arc<Semaphore>,
}

impl ScriptedMcpServer {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let arrivals: Arc<Mutex<Vec<ReceivedRequest>>> = Arc::default();
        let script: ResponseScript = Arc::new(Mutex::new(Box::new(|_arrival| Vec::new())));
        let gate = Arc::new(Semaphore::new(0));
        let server = Self { address, received: arrivals.clone(), script: script.clone(), gate: gate.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _source)) = listener.accept().await {
                tokio::spawn(serve_connection(stream, arrivals.clone(), script.clone(), gate.clone()));
            }
        });
        server
    }

    pub fn received_requests(&self) -> Vec<ReceivedRequest> {
        self.received.lock().unwrap().clone()
    }

    /// Lets one answer pass its gate.
    pub fn open_gate(&self) {
        self.gate.add_permits(1);
    }

    /// Answers every request with these pieces.
    pub fn set_script(&self, script: impl Fn(&ReceivedRequest) -> Vec<Vec<u8>> + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    /// Answers every request with this JSON; `ID` in it becomes the request's id.
    pub fn respond_json(&self, status: u16, body: &str) {
        let body = body.to_owned();
        self.set_script(move |arrival| {
            vec![http_response(status, "application/json", &fill_request_id(&body, arrival))]
        });
    }

    /// Answers every request with this event stream, piece by piece.
    pub fn respond_events(&self, pieces: &[&str]) {
        let pieces: Vec<String> = pieces.iter().map(|piece| (*piece).to_owned()).collect();
        self.set_script(move |arrival| {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
            let pieces = pieces.iter().map(|piece| fill_request_id(piece, arrival).into_bytes());
            std::iter::once(head.as_bytes().to_vec()).chain(pieces).collect()
        });
    }
}

pub fn http_response(status: u16, kind: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
        .into_bytes()
}

fn fill_request_id(text: &str, arrival: &ReceivedRequest) -> String {
    text.replace("ID", &arrival.json()["id"].to_string())
}

async fn serve_connection(
    mut stream: TcpStream,
    arrivals: Arc<Mutex<Vec<ReceivedRequest>>>,
    script: ResponseScript,
    gate: Arc<Semaphore>,
) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let arrival = loop {
        let Ok(count @ 1..) = stream.read(&mut buffer).await else { return };
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let arrival = ReceivedRequest { head: head.to_owned(), body: body.as_bytes().to_vec() };
        let length = arrival.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        if body.len() >= length {
            break arrival;
        }
    };
    let pieces = (script.lock().unwrap())(&arrival);
    arrivals.lock().unwrap().push(arrival);
    for piece in pieces {
        if piece == RESPONSE_GATE.as_bytes() {
            gate.acquire().await.unwrap().forget();
        } else if stream.write_all(&piece).await.is_err() {
            return;
        }
    }
}

pub struct McpTestGateway {
    pub mcp_server: ScriptedMcpServer,
    pub gateway: RunningGateway,
    pub issuer: FakeOidcIssuer,
    pub dir: tempfile::TempDir,
    pub http_client: UpstreamClient,
    pub mcp_origin: Origin,
}

impl McpTestGateway {
    /// Nobody answers here: what is asked about is refused soon.
    pub async fn start() -> Self {
        Self::start_with_hold(Duration::from_millis(200)).await
    }

    pub async fn start_with_hold(hold: Duration) -> Self {
        Self::start_configured(hold, None).await
    }

    /// People have a console here.
    pub async fn start_with_console(hold: Duration) -> Self {
        Self::start_configured(hold, "127.0.0.1:0".parse().ok()).await
    }

    async fn start_configured(hold: Duration, console: Option<SocketAddr>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let issuer = FakeOidcIssuer::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        let server = ScriptedMcpServer::start().await;
        std::fs::create_dir(dir.path().join("policies")).unwrap();
        std::fs::write(dir.path().join("policies/all.cedar"), MCP_POLICIES).unwrap();
        let named = |name: &str| McpServerConfig {
            name: name.to_owned(),
            url: format!("http://{}/upstream?tenant=1", server.address),
        };
        let config = Config {
            state: crate::config::StateConfig::default(),
            data_dir: dir.path().join("data"),
            listen: ListenConfig {
                mcp: "127.0.0.1:0".parse().ok(),
                mcp_allowed_origins: vec!["https://app.example.com".to_owned()],
                console,
                ..ListenConfig::default()
            },
            policy: PolicyConfig { dir: dir.path().join("policies") },
            identity: IdentityConfig {
                oidc: vec![OidcProviderConfig {
                    name: "corp".to_owned(),
                    issuer: issuer.url().to_owned(),
                    audience: vec!["durward".to_owned()],
                    groups_claim: "groups".to_owned(),
                    kind: ProviderCallerKind::Workload,
                    console_client_id: None,
                    console_client_secret_file: None,
                    console_scopes: Vec::new(),
                    cli_client_id: None,
                    cli_scopes: None,
                    console_audience: Vec::new(),
                }],
            },
            aws: AwsConfig::default(),
            notify: crate::config::NotifyConfig::default(),
            mcp: McpConfig { server: ["files", "others", "closed"].map(named).into() },
            console: None,
            approval: ApprovalConfig { hold, ..ApprovalConfig::default() },
        };
        let identity =
            GatewayIdentity::from_static_credential("AKIAIOSFODNN7EXAMPLE", Secret::new("unused"), None);
        let running = serve::start_gateway(config, Some(identity)).await.unwrap();
        assert_eq!(running.aws_address, None, "nothing asks for the AWS door");
        let origin = format!("http://{}", running.mcp_address.unwrap()).parse::<Origin>().unwrap();
        let transport = UpstreamClient::new(vec![origin.clone()]).unwrap();
        Self { mcp_server: server, gateway: running, issuer, dir, http_client: transport, mcp_origin: origin }
    }

    pub fn caller_token(&self, subject: &str) -> String {
        self.issuer.issue_token(subject, &["agents"], "durward", Duration::from_hours(1))
    }

    /// A request as an SDK sends it; headers with an empty value are left out.
    pub fn build_request(
        &self,
        token: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Request<Bytes> {
        let mut request = Request::new(body.into());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = "/mcp/files".parse().unwrap();
        let host = self.mcp_origin.authority();
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

    pub async fn send_request(&self, request: Request<Bytes>) -> McpTestResponse {
        McpTestResponse(self.http_client.send_buffered(&self.mcp_origin, request, 64 << 20).await.unwrap())
    }

    /// Sends a message of `agent` and returns the answer.
    pub async fn post_message(&self, message: &Value) -> McpTestResponse {
        self.send_request(self.build_request(&self.caller_token("agent"), &[], message.to_string())).await
    }

    /// Opens a session that the server calls `upstream-1` and returns what the client calls it.
    pub async fn open_session(&self, token: &str) -> String {
        self.mcp_server.set_script(|arrival| {
            let body = fill_request_id(
                r#"{"jsonrpc":"2.0","id":ID,"result":{"protocolVersion":"2025-11-25"}}"#,
                arrival,
            );
            let answer = String::from_utf8(http_response(200, "application/json", &body)).unwrap();
            vec![answer.replacen("\r\n", "\r\nmcp-session-id: upstream-1\r\n", 1).into_bytes()]
        });
        let answer =
            self.send_request(self.build_request(token, &[], initialize_request().to_string())).await;
        answer.0.headers()["mcp-session-id"].to_str().unwrap().to_owned()
    }

    /// Everything that the journal holds, as text.
    pub async fn read_journal(&self) -> String {
        self.gateway.flush_journal().await.unwrap();
        let mut all = Vec::new();
        for entry in std::fs::read_dir(self.dir.path().join("data/journal")).unwrap() {
            all.extend(std::fs::read(entry.unwrap().path()).unwrap());
        }
        String::from_utf8_lossy(&all).into_owned()
    }
}

pub struct McpTestResponse(pub Response<Bytes>);

impl McpTestResponse {
    pub fn status(&self) -> u16 {
        self.0.status().as_u16()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.0.body()).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(self.0.body()).unwrap_or_default()
    }

    /// HTTP status and JSON-RPC code.
    pub fn status_and_code(&self) -> (u16, i64) {
        (self.status(), self.json()["error"]["code"].as_i64().unwrap_or_default())
    }

    pub fn header(&self, name: &str) -> &str {
        self.0.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

pub fn initialize_request() -> Value {
    json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "clientInfo": { "name": "test", "version": "1" },
        "capabilities": { "elicitation": {}, "sampling": {}, "roots": {}, "experimental": { "x": {} } } } })
}

pub fn tool_call(tool: &str, arguments: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": { "name": tool, "arguments": arguments } })
}

pub fn tools_list() -> Value {
    json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/list" })
}

/// A message of 2026-07-28.
pub fn as_stateless_revision(mut message: Value) -> Value {
    message["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {} });
    message
}

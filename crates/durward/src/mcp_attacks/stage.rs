//! The stage of the MCP attacks: an issuer, a gateway, and a server whose answers each test writes byte by byte.

use crate::config::{Approval, Aws, Config, Identity, Kind, Listen, Mcp, McpServer, Oidc, Policy};
use crate::serve::{self, Running};
use bytes::Bytes;
use durward_core::Secret;
use durward_credential::BaseIdentity;
use durward_gateway::transport::{Origin, Transport};
use durward_standin::issuer::Issuer;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

pub const POLICIES: &str = r#"
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
pub struct Arrival {
    pub head: String,
    pub body: Vec<u8>,
}

impl Arrival {
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

/// Pieces of a whole HTTP answer, written one after the other; before a [`GATE`] the server waits until it is let on.
type Script = Arc<Mutex<Box<dyn Fn(&Arrival) -> Vec<Vec<u8>> + Send>>>;

pub const GATE: &str = "(gate)";

pub struct Server {
    pub address: SocketAddr,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    script: Script,
    gate: Arc<Semaphore>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let arrivals: Arc<Mutex<Vec<Arrival>>> = Arc::default();
        let script: Script = Arc::new(Mutex::new(Box::new(|_arrival| Vec::new())));
        let gate = Arc::new(Semaphore::new(0));
        let server = Self { address, arrivals: arrivals.clone(), script: script.clone(), gate: gate.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _source)) = listener.accept().await {
                tokio::spawn(answer(stream, arrivals.clone(), script.clone(), gate.clone()));
            }
        });
        server
    }

    pub fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.lock().unwrap().clone()
    }

    /// Lets one answer pass its gate.
    pub fn open_gate(&self) {
        self.gate.add_permits(1);
    }

    /// Answers every request with these pieces.
    pub fn answers(&self, script: impl Fn(&Arrival) -> Vec<Vec<u8>> + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    /// Answers every request with this JSON; `ID` in it becomes the request's id.
    pub fn answers_json(&self, status: u16, body: &str) {
        let body = body.to_owned();
        self.answers(move |arrival| vec![http(status, "application/json", &with_id(&body, arrival))]);
    }

    /// Answers every request with this event stream, piece by piece.
    pub fn answers_events(&self, pieces: &[&str]) {
        let pieces: Vec<String> = pieces.iter().map(|piece| (*piece).to_owned()).collect();
        self.answers(move |arrival| {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
            let pieces = pieces.iter().map(|piece| with_id(piece, arrival).into_bytes());
            std::iter::once(head.as_bytes().to_vec()).chain(pieces).collect()
        });
    }
}

pub fn http(status: u16, kind: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
        .into_bytes()
}

fn with_id(text: &str, arrival: &Arrival) -> String {
    text.replace("ID", &arrival.json()["id"].to_string())
}

async fn answer(
    mut stream: TcpStream,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    script: Script,
    gate: Arc<Semaphore>,
) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let arrival = loop {
        let Ok(count @ 1..) = stream.read(&mut buffer).await else { return };
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let arrival = Arrival { head: head.to_owned(), body: body.as_bytes().to_vec() };
        let length = arrival.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        if body.len() >= length {
            break arrival;
        }
    };
    let pieces = (script.lock().unwrap())(&arrival);
    arrivals.lock().unwrap().push(arrival);
    for piece in pieces {
        if piece == GATE.as_bytes() {
            gate.acquire().await.unwrap().forget();
        } else if stream.write_all(&piece).await.is_err() {
            return;
        }
    }
}

pub struct Stage {
    pub server: Server,
    pub running: Running,
    pub issuer: Issuer,
    pub dir: tempfile::TempDir,
    pub transport: Transport,
    pub origin: Origin,
}

impl Stage {
    /// Nobody answers here: what is asked about is refused soon.
    pub async fn set() -> Self {
        Self::holding(Duration::from_millis(200)).await
    }

    pub async fn holding(hold: Duration) -> Self {
        Self::with(hold, None).await
    }

    /// People have a console here.
    pub async fn asking(hold: Duration) -> Self {
        Self::with(hold, "127.0.0.1:0".parse().ok()).await
    }

    async fn with(hold: Duration, console: Option<SocketAddr>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let issuer = Issuer::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        let server = Server::start().await;
        std::fs::create_dir(dir.path().join("policies")).unwrap();
        std::fs::write(dir.path().join("policies/all.cedar"), POLICIES).unwrap();
        let named = |name: &str| McpServer {
            name: name.to_owned(),
            url: format!("http://{}/upstream?tenant=1", server.address),
        };
        let config = Config {
            state: crate::config::State::default(),
            data_dir: Some(dir.path().join("data")),
            listen: Listen {
                mcp: "127.0.0.1:0".parse().ok(),
                mcp_origins: vec!["https://app.example.com".to_owned()],
                console,
                ..Listen::default()
            },
            policy: Policy { dir: dir.path().join("policies") },
            identity: Identity {
                oidc: vec![Oidc {
                    name: "corp".to_owned(),
                    issuer: issuer.url().to_owned(),
                    audience: vec!["durward".to_owned()],
                    groups_claim: "groups".to_owned(),
                    kind: Kind::Workload,
                    console_client_id: None,
                    console_client_secret_file: None,
                    console_scopes: Vec::new(),
                    cli_client_id: None,
                    cli_scopes: None,
                    console_audience: Vec::new(),
                }],
            },
            aws: Aws::default(),
            notify: crate::config::Notify::default(),
            mcp: Mcp { server: ["files", "others", "closed"].map(named).into() },
            console: None,
            approval: Approval { hold, ..Approval::default() },
        };
        let identity = BaseIdentity::fixed("AKIAIOSFODNN7EXAMPLE", Secret::new("unused"), None);
        let running = serve::start(config, Some(identity)).await.unwrap();
        assert_eq!(running.aws, None, "nothing asks for the AWS door");
        let origin = serve::origin(&format!("http://{}", running.mcp.unwrap())).unwrap();
        let transport = Transport::new(vec![origin.clone()]).unwrap();
        Self { server, running, issuer, dir, transport, origin }
    }

    pub fn token(&self, subject: &str) -> String {
        self.issuer.issue(subject, &["agents"], "durward", Duration::from_hours(1))
    }

    /// A request as an SDK sends it; headers with an empty value are left out.
    pub fn request(&self, token: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Request<Bytes> {
        let mut request = Request::new(body.into());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = "/mcp/files".parse().unwrap();
        let host = self.origin.authority();
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

    pub async fn send(&self, request: Request<Bytes>) -> Answer {
        Answer(self.transport.call(&self.origin, request, 64 << 20).await.unwrap())
    }

    /// Sends a message of `agent` and returns the answer.
    pub async fn post(&self, message: &Value) -> Answer {
        self.send(self.request(&self.token("agent"), &[], message.to_string())).await
    }

    /// Opens a session that the server calls `upstream-1` and returns what the client calls it.
    pub async fn initialize(&self, token: &str) -> String {
        self.server.answers(|arrival| {
            let body =
                with_id(r#"{"jsonrpc":"2.0","id":ID,"result":{"protocolVersion":"2025-11-25"}}"#, arrival);
            let answer = String::from_utf8(http(200, "application/json", &body)).unwrap();
            vec![answer.replacen("\r\n", "\r\nmcp-session-id: upstream-1\r\n", 1).into_bytes()]
        });
        let answer = self.send(self.request(token, &[], initialize().to_string())).await;
        answer.0.headers()["mcp-session-id"].to_str().unwrap().to_owned()
    }

    /// Everything that the journal holds, as text.
    pub async fn journal(&self) -> String {
        self.running.flush().await.unwrap();
        let mut all = Vec::new();
        for entry in std::fs::read_dir(self.dir.path().join("data/journal")).unwrap() {
            all.extend(std::fs::read(entry.unwrap().path()).unwrap());
        }
        String::from_utf8_lossy(&all).into_owned()
    }
}

pub struct Answer(pub Response<Bytes>);

impl Answer {
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
    pub fn codes(&self) -> (u16, i64) {
        (self.status(), self.json()["error"]["code"].as_i64().unwrap_or_default())
    }

    pub fn header(&self, name: &str) -> &str {
        self.0.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

pub fn initialize() -> Value {
    json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "clientInfo": { "name": "test", "version": "1" },
        "capabilities": { "elicitation": {}, "sampling": {}, "roots": {}, "experimental": { "x": {} } } } })
}

pub fn call(tool: &str, arguments: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": { "name": tool, "arguments": arguments } })
}

pub fn list() -> Value {
    json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/list" })
}

/// A message of 2026-07-28.
pub fn modern(mut message: Value) -> Value {
    message["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {} });
    message
}

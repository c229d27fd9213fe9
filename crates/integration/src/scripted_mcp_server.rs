//! An MCP server whose responses each test writes byte by byte, well-formed or not.

use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

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

/// Gives the pieces of a whole HTTP response, which the server writes one after the other.
type ResponseScript = Arc<Mutex<Box<dyn Fn(&ReceivedRequest) -> Vec<Vec<u8>> + Send>>>;

/// A piece that is not written: the server waits here for [`ScriptedMcpServer::open_gate`].
pub const RESPONSE_GATE: &str = "(gate)";

/// The server. It listens on loopback, one request a connection.
pub struct ScriptedMcpServer {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<ReceivedRequest>>>,
    script: ResponseScript,
    gate: Arc<Semaphore>,
}

impl ScriptedMcpServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let received: Arc<Mutex<Vec<ReceivedRequest>>> = Arc::default();
        let script: ResponseScript = Arc::new(Mutex::new(Box::new(|_request| Vec::new())));
        let gate = Arc::new(Semaphore::new(0));
        let server = Self { address, received: received.clone(), script: script.clone(), gate: gate.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _source)) = listener.accept().await {
                tokio::spawn(serve_connection(stream, received.clone(), script.clone(), gate.clone()));
            }
        });
        server
    }

    pub fn received_requests(&self) -> Vec<ReceivedRequest> {
        self.received.lock().unwrap().clone()
    }

    /// Lets one response pass its gate.
    pub fn open_gate(&self) {
        self.gate.add_permits(1);
    }

    /// Responds to every request with the pieces that the script gives.
    pub fn set_script(&self, script: impl Fn(&ReceivedRequest) -> Vec<Vec<u8>> + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    /// Responds to every request with this JSON. `ID` in it becomes the id of the request.
    pub fn respond_json(&self, status: u16, body: &str) {
        let body = body.to_owned();
        self.set_script(move |request| {
            vec![http_response(status, "application/json", &fill_request_id(&body, request))]
        });
    }

    /// Responds to every request with this event stream, piece by piece. `ID` in it becomes the id of the request.
    pub fn respond_events(&self, pieces: &[&str]) {
        let pieces: Vec<String> = pieces.iter().map(|piece| (*piece).to_owned()).collect();
        self.set_script(move |request| {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
            let pieces = pieces.iter().map(|piece| fill_request_id(piece, request).into_bytes());
            std::iter::once(head.as_bytes().to_vec()).chain(pieces).collect()
        });
    }

    /// Responds to every request as to an `initialize` that opens a session of this id.
    pub fn respond_with_session(&self, session: &str) {
        let header = format!("\r\nmcp-session-id: {session}\r\n");
        self.set_script(move |request| {
            let body = r#"{"jsonrpc":"2.0","id":ID,"result":{"protocolVersion":"2025-11-25"}}"#;
            let response = http_response(200, "application/json", &fill_request_id(body, request));
            let text = String::from_utf8_lossy(&response).replacen("\r\n", &header, 1);
            vec![text.into_bytes()]
        });
    }
}

/// The bytes of an HTTP response that ends its connection.
pub fn http_response(status: u16, content_type: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
        .into_bytes()
}

fn fill_request_id(text: &str, request: &ReceivedRequest) -> String {
    text.replace("ID", &request.json()["id"].to_string())
}

async fn serve_connection(
    mut stream: TcpStream,
    received: Arc<Mutex<Vec<ReceivedRequest>>>,
    script: ResponseScript,
    gate: Arc<Semaphore>,
) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let request = loop {
        let Ok(count @ 1..) = stream.read(&mut buffer).await else { return };
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let request = ReceivedRequest { head: head.to_owned(), body: body.as_bytes().to_vec() };
        let length = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        if body.len() >= length {
            break request;
        }
    };
    let pieces = (script.lock().unwrap())(&request);
    received.lock().unwrap().push(request);
    for piece in pieces {
        if piece == RESPONSE_GATE.as_bytes() {
            gate.acquire().await.unwrap().forget();
        } else if stream.write_all(&piece).await.is_err() {
            return;
        }
    }
}

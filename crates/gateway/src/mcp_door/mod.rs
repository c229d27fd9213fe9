//! The MCP door: the line's steps for clients of Streamable HTTP servers, each server at `/mcp/<server>`.
//!
//! The caller shows its identity token with every request; a session id is an address, never an identity. The token ends
//! here: nothing of the caller's head but MCP's own headers, written anew, reaches a server. A session of a legacy server is
//! ended with DELETE by whoever may open one. Streams for what a server says unasked (GET) are refused as the specification
//! allows, and so is what a server asks of a client: no policy could decide that yet. What this gateway itself asks of a client
//! is only that its person look at an ask ([`told`]).

mod decode;
mod identify;
mod metadata;
mod progress;
mod refuse;
mod rest;
mod session;
mod told;
mod upstream;

use crate::answer::Answer;
use crate::body::{Body, full};
use crate::held::memory_of_members;
use crate::line::{Door, Exchange, Identity, Lent, Wire, pass};
use crate::listen::{Open, Serve};
use crate::rooms::Rooms;
use crate::transport::Origin;
use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use durward_approval::Ask;
use durward_core::{Operation, Refusal};
use durward_mcp::{Message, Names};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use progress::Waiting;
use refuse::{Shape, Stopped};
use serde_json::Map;
use session::Opened;
use std::net::SocketAddr;
use std::sync::Arc;
use told::Question;

/// Says whether the gateway is up.
pub const HEALTH_PATH: &str = "/.durward/health";
/// Before the name of a server: where clients reach it.
const SERVER_PATH: &str = "/mcp/";

/// A configured MCP server.
#[derive(Debug, Clone)]
pub struct Server {
    pub name: String,
    pub origin: Origin,
    /// Path and query of its endpoint.
    pub target: String,
}

/// What the door must know of the world around it.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub servers: Vec<Server>,
    /// Who issues tokens that are accepted: told to clients that come without one.
    pub issuers: Vec<String>,
    /// Origins of web pages that may talk to this door.
    pub origins: Vec<String>,
    /// The URL clients know the door by, where that is not its `Host`: behind a proxy.
    pub url: Option<String>,
    pub tls: bool,
}

pub struct McpDoor {
    servers: Vec<Arc<Server>>,
    issuers: Vec<String>,
    origins: Vec<String>,
    url: Option<String>,
    tls: bool,
    opened: Opened,
}

impl McpDoor {
    pub fn new(options: Options) -> Self {
        Self {
            servers: options.servers.into_iter().map(Arc::new).collect(),
            issuers: options.issuers,
            origins: options.origins,
            url: options.url.map(|url| url.trim_end_matches('/').to_owned()),
            tls: options.tls,
            opened: Opened::default(),
        }
    }

    /// Whether a request comes from a web page that may not talk to this door: the way of DNS rebinding.
    fn is_foreign(&self, headers: &HeaderMap) -> bool {
        headers.get_all(header::ORIGIN).iter().any(|origin| {
            !self.origins.iter().any(|allowed| origin.as_bytes().eq_ignore_ascii_case(allowed.as_bytes()))
        })
    }

    /// The URL of this door as the client knows it.
    fn public_url(&self, host: Option<&str>) -> String {
        let plain = |host: &&str| {
            host.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']'))
        };
        self.url.clone().unwrap_or_else(|| {
            let scheme = if self.tls { "https" } else { "http" };
            format!("{scheme}://{}", host.filter(plain).unwrap_or("localhost"))
        })
    }
}

impl Serve for Open<McpDoor> {
    /// Health and metadata here; what is posted to a server goes down the line.
    async fn serve(&self, source: SocketAddr, request: Request<Incoming>) -> Response<Body> {
        let door = &self.door;
        if door.is_foreign(request.headers()) {
            return plain(StatusCode::FORBIDDEN, "pages of this origin may not use this gateway");
        }
        let uri = request.uri();
        if uri.scheme().is_some() || uri.query().is_some() {
            return plain(StatusCode::BAD_REQUEST, "a server is addressed by its path alone");
        }
        let path = uri.path();
        if path == HEALTH_PATH {
            return Response::new(full("ok\n"));
        }
        if let Some(server) = metadata::server_of(path).filter(|name| is_name(name)) {
            return metadata::answer(door, &request, server);
        }
        if !path.strip_prefix(SERVER_PATH).is_some_and(is_name) {
            return plain(StatusCode::NOT_FOUND, "servers are at /mcp/<server>");
        }
        if request.method() != Method::POST && request.method() != Method::DELETE {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "messages are posted");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST, DELETE"));
            return response;
        }
        let (waiting, notes) = Waiting::new();
        let mut request = request;
        request.extensions_mut().insert(waiting);
        let (door, rooms) = (door.clone(), self.rooms.clone());
        // Boxed: the future of the whole line is some 20 KiB.
        progress::answer(Box::pin(async move { pass(&door, &rooms, source, request).await }), notes).await
    }
}

fn plain(status: StatusCode, why: &str) -> Response<Body> {
    let mut response = Response::new(full(format!("durward: {why}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// Whether a server can be called so: a name that reads the same in a path, a policy and a file.
pub fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    name.len() <= 64
        && name.bytes().all(plain)
        && name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
}

/// A request whose caller is known, with what was found in it; a problem waits until the caller is on record.
pub struct McpWire {
    /// Who asked, from where and when, for the list of tools and the words of a refusal.
    exchange: Exchange,
    identity: Identity,
    found: Result<Found, Stopped>,
    /// Where it is noted that the request waits for people.
    waiting: Option<Waiting>,
}

/// What is asked of a server.
pub(super) enum Asked {
    Message(Message),
    /// To end the session (DELETE).
    End,
}

/// A request that keeps to the protocol, and where it goes.
pub(super) struct Found {
    asked: Asked,
    names: Names,
    /// The bytes that are sent: those that came, but for an `initialize` and for what comes back from a question of ours.
    body: Bytes,
    server: Arc<Server>,
    /// The id that the server knows the session by.
    session: Option<HeaderValue>,
    /// The client can send its person to a URL.
    opens_urls: bool,
    /// The question of ours that it comes back from.
    question: Option<Question>,
}

impl Wire for McpWire {
    fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Context::new(&SHA256);
        let mut part = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        if let Ok(found) = &self.found {
            part(found.method().as_str().as_bytes());
            part(found.server.origin.url().as_bytes());
            part(found.server.target.as_bytes());
            part(found.session.as_ref().map(HeaderValue::as_bytes).unwrap_or_default());
            for (name, value) in &found.names.headers {
                part(name.as_str().as_bytes());
                part(value.as_bytes());
            }
            part(&found.body);
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hash.finish().as_ref());
        bytes
    }

    /// What is sent is in the body, and what is asked is in the operation: of the message only what names it is needed further.
    fn compact(&mut self) {
        if let Ok(Found { asked: Asked::Message(message), .. }) = &mut self.found {
            match message {
                Message::Request(request) => request.forget_parameters(),
                Message::Notification(notification) => notification.params = Map::new(),
                Message::Response { .. } => {}
            }
        }
    }

    fn held_bytes(&self) -> usize {
        let Ok(found) = &self.found else { return 0 };
        let message = match &found.asked {
            Asked::Message(Message::Request(request)) => memory_of_members(&request.params),
            Asked::Message(Message::Notification(notification)) => memory_of_members(&notification.params),
            Asked::Message(Message::Response { .. }) | Asked::End => 0,
        };
        found.body.len() + message
    }
}

impl Door for McpDoor {
    type Wire = McpWire;
    type Shape = Shape;
    const KIND: durward_core::Door = durward_core::Door::Mcp;

    fn shape(&self, head: &Parts) -> Shape {
        let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let server = head.uri.path().strip_prefix(SERVER_PATH).unwrap_or_default();
        Shape::new(metadata::url(&self.public_url(host), server))
    }

    async fn identify(
        &self,
        rooms: &Rooms,
        exchange: &Exchange,
        request: Request<Incoming>,
    ) -> Result<(Identity, McpWire), Refusal> {
        identify::identify(self, rooms, exchange, request).await
    }

    async fn decode(
        &self,
        rooms: &Rooms,
        _identity: &Identity,
        wire: McpWire,
        shape: &mut Shape,
    ) -> Result<(Operation, McpWire), Refusal> {
        decode::decode(&rooms.seal, wire, shape)
    }

    fn asked(
        &self,
        rooms: &Rooms,
        exchange: &Exchange,
        wire: &McpWire,
        ask: &Ask,
        shape: &mut Shape,
    ) -> Option<Refusal> {
        let (told, refusal) = told::tell(rooms, exchange, wire, ask)?;
        shape.told = Some(Box::new(told));
        Some(refusal)
    }

    /// A client that named its session begins another when it hears that there is none of this name.
    fn revoked(&self, wire: &McpWire, shape: &mut Shape) {
        if let Ok(found) = &wire.found {
            shape.id = found.id().cloned();
            if found.session.is_some() {
                shape.problem = Some(Box::new(refuse::Problem {
                    status: StatusCode::NOT_FOUND,
                    code: durward_mcp::code::NO_SESSION,
                    data: None,
                }));
            }
        }
    }

    async fn forward(&self, rooms: &Rooms, lent: Lent<McpWire>) -> Result<Answer, Refusal> {
        upstream::forward(rooms, lent.open()?).await
    }

    fn refuse(&self, exchange: &Exchange, refusal: &Refusal, shape: &Shape) -> Response<Body> {
        shape.refuse(refusal, exchange.id)
    }

    fn lends(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_doors_url_is_what_is_configured_or_what_was_asked_for() {
        let door = McpDoor::new(Options::default());
        assert_eq!(door.public_url(Some("gw.example:8620")), "http://gw.example:8620");
        assert_eq!(door.public_url(Some("[::1]:8620")), "http://[::1]:8620");
        for odd in [None, Some("x\", scope=\"all"), Some("a/b"), Some("a@b")] {
            assert_eq!(door.public_url(odd), "http://localhost", "{odd:?}");
        }
        let url = Some("https://mcp.gw.example/".to_owned());
        let door = McpDoor::new(Options { url, tls: true, ..Options::default() });
        assert_eq!(door.public_url(Some("10.0.0.1")), "https://mcp.gw.example");
    }

    #[test]
    fn a_servers_name_reads_the_same_everywhere() {
        for good in ["files", "a", "aws-api_2.x"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", "-x", "a/b", "a%2e", "a b", "größe", "a\"", &"a".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}

//! The MCP door: the line's steps for clients of Streamable HTTP servers, each server at `/mcp/<server>`.
//!
//! The caller shows its identity token with every request; a session id is an address, never an identity. The token ends
//! here: nothing of the caller's head but MCP's own headers, written anew, reaches a server. A session of a legacy server is
//! ended with DELETE by whoever may open one. Streams for what a server says unasked (GET) are refused as the specification
//! allows, and so is what a server asks of a client: no policy could decide that yet. What this gateway itself asks of a client
//! is only that its person look at an ask ([`told`]).

mod authenticate;
mod client_notification;
mod decode;
mod forward;
mod mcp_session;
mod progress_stream;
mod refusal;
mod resource_metadata;
mod unbound_parameters;

use crate::body::{BoxBody, full_body};
use crate::gateway_services::GatewayServices;
use crate::held_requests::object_memory_bytes;
use crate::listener::{FrontEndService, HttpService};
use crate::pipeline::{Credentialed, Exchange, FrontEnd, FrontEndRequest, Identity, handle_request};
use crate::upstream_client::UpstreamOrigin;
use crate::upstream_response::UpstreamResponse;
use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use client_notification::ApprovalElicitation;
use durward_approval::ApprovalRequest;
use durward_core::{Operation, Refusal};
use durward_mcp::{ClientMessage, ValidatedHeaders};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use mcp_session::RecordedSessions;
use progress_stream::HoldNotifier;
use refusal::{McpRefusal, McpRefusalContext};
use serde_json::Map;
use std::net::SocketAddr;
use std::sync::Arc;

/// Says whether the gateway is up.
pub const HEALTH_PATH: &str = "/.durward/health";
/// Before the name of a server: where clients reach it.
const SERVER_PATH_PREFIX: &str = "/mcp/";

/// A configured MCP server.
#[derive(Debug, Clone)]
pub struct McpServer {
    pub name: String,
    pub origin: UpstreamOrigin,
    /// Path and query of its endpoint.
    pub path_and_query: String,
}

/// What the door must know of the world around it.
#[derive(Debug, Clone, Default)]
pub struct McpFrontEndOptions {
    pub servers: Vec<McpServer>,
    /// Who issues tokens that are accepted: told to clients that come without one.
    pub token_issuers: Vec<String>,
    /// Origins of web pages that may talk to this door.
    pub allowed_origins: Vec<String>,
    /// The URL clients know the door by, where that is not its `Host`: behind a proxy.
    pub public_url: Option<String>,
    pub uses_tls: bool,
}

pub struct McpFrontEnd {
    servers: Vec<Arc<McpServer>>,
    token_issuers: Vec<String>,
    allowed_origins: Vec<String>,
    public_url: Option<String>,
    uses_tls: bool,
    recorded_sessions: RecordedSessions,
}

impl McpFrontEnd {
    pub fn new(options: McpFrontEndOptions) -> Self {
        Self {
            servers: options.servers.into_iter().map(Arc::new).collect(),
            token_issuers: options.token_issuers,
            allowed_origins: options.allowed_origins,
            public_url: options.public_url.map(|url| url.trim_end_matches('/').to_owned()),
            uses_tls: options.uses_tls,
            recorded_sessions: RecordedSessions::default(),
        }
    }

    /// Whether a request comes from a web page that may not talk to this door: the way of DNS rebinding.
    fn has_foreign_origin(&self, headers: &HeaderMap) -> bool {
        headers.get_all(header::ORIGIN).iter().any(|origin| {
            !self
                .allowed_origins
                .iter()
                .any(|allowed| origin.as_bytes().eq_ignore_ascii_case(allowed.as_bytes()))
        })
    }

    /// The URL of this door as the client knows it.
    fn public_url(&self, host: Option<&str>) -> String {
        let plain = |host: &&str| {
            host.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']'))
        };
        self.public_url.clone().unwrap_or_else(|| {
            let scheme = if self.uses_tls { "https" } else { "http" };
            format!("{scheme}://{}", host.filter(plain).unwrap_or("localhost"))
        })
    }
}

impl HttpService for FrontEndService<McpFrontEnd> {
    /// Health and metadata here; what is posted to a server goes down the line.
    async fn serve_request(&self, source: SocketAddr, request: Request<Incoming>) -> Response<BoxBody> {
        let door = &self.front_end;
        if door.has_foreign_origin(request.headers()) {
            return plain_response(StatusCode::FORBIDDEN, "pages of this origin may not use this gateway");
        }
        let uri = request.uri();
        if uri.scheme().is_some() || uri.query().is_some() {
            return plain_response(StatusCode::BAD_REQUEST, "a server is addressed by its path alone");
        }
        let path = uri.path();
        if path == HEALTH_PATH {
            return Response::new(full_body("ok\n"));
        }
        if let Some(server) = resource_metadata::server_from_path(path).filter(|name| is_server_name(name)) {
            return resource_metadata::metadata_response(door, &request, server);
        }
        if !path.strip_prefix(SERVER_PATH_PREFIX).is_some_and(is_server_name) {
            return plain_response(StatusCode::NOT_FOUND, "servers are at /mcp/<server>");
        }
        if request.method() != Method::POST && request.method() != Method::DELETE {
            let mut response = plain_response(StatusCode::METHOD_NOT_ALLOWED, "messages are posted");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST, DELETE"));
            return response;
        }
        let (waiting, notes) = HoldNotifier::new();
        let mut request = request;
        request.extensions_mut().insert(waiting);
        let (door, rooms) = (door.clone(), self.services.clone());
        // Boxed: the future of the whole line is some 20 KiB.
        progress_stream::respond_with_progress(
            Box::pin(async move { handle_request(&door, &rooms, source, request).await }),
            notes,
        )
        .await
    }
}

fn plain_response(status: StatusCode, why: &str) -> Response<BoxBody> {
    let mut response = Response::new(full_body(format!("durward: {why}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// Whether a server can be called so: a name that reads the same in a path, a policy and a file.
pub fn is_server_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    name.len() <= 64
        && name.bytes().all(plain)
        && name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
}

/// A request whose caller is known, with what was found in it; a problem waits until the caller is on record.
pub struct InboundMcpRequest {
    /// Who asked, from where and when, for the list of tools and the words of a refusal.
    exchange: Exchange,
    identity: Identity,
    parsed_request: Result<ParsedMcpRequest, McpRefusal>,
    /// Where it is noted that the request waits for people.
    hold_notifier: Option<HoldNotifier>,
}

/// What is asked of a server.
pub(super) enum McpAction {
    Message(ClientMessage),
    /// To end the session (DELETE).
    EndSession,
}

/// A request that keeps to the protocol, and where it goes.
pub(super) struct ParsedMcpRequest {
    action: McpAction,
    validated_headers: ValidatedHeaders,
    /// The bytes that are sent: those that came, but for an `initialize` and for what comes back from a question of ours.
    body: Bytes,
    server: Arc<McpServer>,
    /// The id that the server knows the session by.
    upstream_session_id: Option<HeaderValue>,
    /// The client can send its person to a URL.
    supports_url_elicitation: bool,
    /// The question of ours that it comes back from.
    approval_elicitation: Option<ApprovalElicitation>,
}

impl FrontEndRequest for InboundMcpRequest {
    fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Context::new(&SHA256);
        let mut part = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        if let Ok(found) = &self.parsed_request {
            part(found.http_method().as_str().as_bytes());
            part(found.server.origin.url().as_bytes());
            part(found.server.path_and_query.as_bytes());
            part(found.upstream_session_id.as_ref().map(HeaderValue::as_bytes).unwrap_or_default());
            for (name, value) in &found.validated_headers.headers {
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
        if let Ok(ParsedMcpRequest { action: McpAction::Message(message), .. }) = &mut self.parsed_request {
            match message {
                ClientMessage::Request(request) => request.discard_params(),
                ClientMessage::Notification(notification) => notification.params = Map::new(),
                ClientMessage::Response { .. } => {}
            }
        }
    }

    fn held_bytes(&self) -> usize {
        let Ok(found) = &self.parsed_request else { return 0 };
        let message = match &found.action {
            McpAction::Message(ClientMessage::Request(request)) => object_memory_bytes(&request.params),
            McpAction::Message(ClientMessage::Notification(notification)) => {
                object_memory_bytes(&notification.params)
            }
            McpAction::Message(ClientMessage::Response { .. }) | McpAction::EndSession => 0,
        };
        found.body.len() + message
    }
}

impl FrontEnd for McpFrontEnd {
    type Request = InboundMcpRequest;
    type RefusalContext = McpRefusalContext;
    const KIND: durward_core::FrontEndKind = durward_core::FrontEndKind::Mcp;

    fn refusal_context(&self, head: &Parts) -> McpRefusalContext {
        let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let server = head.uri.path().strip_prefix(SERVER_PATH_PREFIX).unwrap_or_default();
        McpRefusalContext::new(resource_metadata::metadata_url(&self.public_url(host), server))
    }

    async fn authenticate(
        &self,
        rooms: &GatewayServices,
        exchange: &Exchange,
        request: Request<Incoming>,
    ) -> Result<(Identity, InboundMcpRequest), Refusal> {
        authenticate::authenticate_request(self, rooms, exchange, request).await
    }

    async fn decode(
        &self,
        rooms: &GatewayServices,
        _identity: &Identity,
        wire: InboundMcpRequest,
        shape: &mut McpRefusalContext,
    ) -> Result<(Operation, InboundMcpRequest), Refusal> {
        decode::decode_request(&rooms.seal_keys, wire, shape)
    }

    fn approval_requested(
        &self,
        rooms: &GatewayServices,
        exchange: &Exchange,
        wire: &InboundMcpRequest,
        ask: &ApprovalRequest,
        shape: &mut McpRefusalContext,
    ) -> Option<Refusal> {
        let (told, refusal) = client_notification::notify_client(rooms, exchange, wire, ask)?;
        shape.approval_notice = Some(Box::new(told));
        Some(refusal)
    }

    /// A client that named its session begins another when it hears that there is none of this name.
    fn session_revoked(&self, wire: &InboundMcpRequest, shape: &mut McpRefusalContext) {
        if let Ok(found) = &wire.parsed_request {
            shape.request_id = found.request_id().cloned();
            if found.upstream_session_id.is_some() {
                shape.error_override = Some(Box::new(refusal::ErrorOverride {
                    status: StatusCode::NOT_FOUND,
                    code: durward_mcp::error_codes::SESSION_NOT_FOUND,
                    data: None,
                }));
            }
        }
    }

    async fn forward(
        &self,
        rooms: &GatewayServices,
        lent: Credentialed<InboundMcpRequest>,
    ) -> Result<UpstreamResponse, Refusal> {
        forward::forward_request(rooms, lent.into_forwardable()?).await
    }

    fn refusal_response(
        &self,
        exchange: &Exchange,
        refusal: &Refusal,
        shape: &McpRefusalContext,
    ) -> Response<BoxBody> {
        shape.refusal_response(refusal, exchange.id)
    }

    fn needs_aws_credential(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_url_is_the_configured_one_or_the_requested_host() {
        let door = McpFrontEnd::new(McpFrontEndOptions::default());
        assert_eq!(door.public_url(Some("gw.example:8620")), "http://gw.example:8620");
        assert_eq!(door.public_url(Some("[::1]:8620")), "http://[::1]:8620");
        for odd in [None, Some("x\", scope=\"all"), Some("a/b"), Some("a@b")] {
            assert_eq!(door.public_url(odd), "http://localhost", "{odd:?}");
        }
        let url = Some("https://mcp.gw.example/".to_owned());
        let door = McpFrontEnd::new(McpFrontEndOptions {
            public_url: url,
            uses_tls: true,
            ..McpFrontEndOptions::default()
        });
        assert_eq!(door.public_url(Some("10.0.0.1")), "https://mcp.gw.example");
    }

    #[test]
    fn server_names_need_no_escaping_anywhere() {
        for good in ["files", "a", "aws-api_2.x"] {
            assert!(is_server_name(good), "{good}");
        }
        for bad in ["", ".", "..", "-x", "a/b", "a%2e", "a b", "größe", "a\"", &"a".repeat(65)] {
            assert!(!is_server_name(bad), "{bad}");
        }
    }
}

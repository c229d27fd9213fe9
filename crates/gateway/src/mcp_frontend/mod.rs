//! The MCP front end: Streamable HTTP as MCP clients speak it, each server at `/mcp/<server>`. It never decides.
//!
//! The caller sends its identity token with every request; a session id is an address, never an identity. The token ends here:
//! nothing of the caller's head but MCP's own headers, written anew, reaches a server. Every caller who may open a session of a
//! legacy server may end one with DELETE. Streams for messages that a server sends on its own (GET) are refused as the
//! specification allows, and so are a server's JSON-RPC requests to the client: no policy could decide them yet. (In 2026-07-28
//! such a request is inside a result, which passes like any other result: docs/mcp.md.) The gateway itself requests one thing of
//! a client: that its user look at an approval request (`approval_notice`).

mod approval_notice;
mod client_facing_url;
mod mcp_request;
mod mcp_session;
mod message_body;
mod message_parsing;
mod operation_mapping;
mod progress_stream;
mod refusal;
mod resource_metadata;
mod token_verification;
mod unbound_parameters;
mod upstream_exchange;

pub use mcp_request::McpRequest;
pub use refusal::McpRefusalContext;

use crate::approval_links::ApprovalLinks;
use crate::body::{BoxBody, full_body};
use crate::exchange::{Exchange, Identity};
use crate::front_end::{FrontEnd, HEALTH_PATH, ProtocolRefusal, ReadOperation};
use crate::listener::HttpService;
use crate::memory_budget::MemoryBudget;
use crate::pipeline::{Forwardable, Pipeline};
use crate::upstream_client::UpstreamClient;
use crate::upstream_response::UpstreamResponse;
use client_facing_url::ClientFacingUrl;
use durward_approval::ApprovalRequest;
use durward_core::{ExchangeId, FrontEndKind, Origin, Refusal};
use durward_identity::{Revocations, SealKeys, TokenVerifier};
use durward_journal::Journal;
use durward_policy::PolicyStore;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use mcp_request::McpRequestStage;
use mcp_session::RecordedSessions;
use progress_stream::HoldNotifier;
use std::net::SocketAddr;
use std::sync::Arc;

/// The path under which clients reach a server, before its name.
const SERVER_PATH_PREFIX: &str = "/mcp/";
/// Longest name of a server.
const MAX_SERVER_NAME_BYTES: usize = 64;

/// A configured MCP server.
#[derive(Debug, Clone)]
pub struct McpServer {
    pub name: String,
    pub origin: Origin,
    /// Path and query of its endpoint.
    pub path_and_query: String,
}

/// The names by which clients reach the MCP front end, and the servers behind it.
#[derive(Debug, Clone, Default)]
pub struct McpFrontEndOptions {
    pub servers: Vec<McpServer>,
    /// The issuers whose tokens are accepted: clients that come without one learn them.
    pub token_issuers: Vec<String>,
    /// Origins of web pages that may talk to this front end.
    pub allowed_origins: Vec<String>,
    /// The URL that clients know the front end by, where that is not its `Host`: behind a proxy.
    pub public_url: Option<String>,
    pub uses_tls: bool,
}

/// The services that the MCP front end uses.
pub struct McpFrontEndServices {
    pub token_verifier: Arc<TokenVerifier>,
    pub policies: Arc<PolicyStore>,
    pub seal_keys: Arc<SealKeys>,
    pub revocations: Revocations,
    pub request_memory: Arc<MemoryBudget>,
    pub journal: Arc<Journal>,
    pub upstream_client: Arc<UpstreamClient>,
    pub approval_links: ApprovalLinks,
}

/// Speaks MCP.
pub struct McpFrontEnd {
    servers: Vec<Arc<McpServer>>,
    token_issuers: Vec<String>,
    allowed_origins: Vec<String>,
    client_facing_url: ClientFacingUrl,
    token_verifier: Arc<TokenVerifier>,
    policies: Arc<PolicyStore>,
    seal_keys: Arc<SealKeys>,
    revocations: Revocations,
    request_memory: Arc<MemoryBudget>,
    journal: Arc<Journal>,
    upstream_client: Arc<UpstreamClient>,
    approval_links: ApprovalLinks,
    recorded_sessions: RecordedSessions,
}

impl McpFrontEnd {
    pub fn new(options: McpFrontEndOptions, services: McpFrontEndServices) -> Self {
        let McpFrontEndServices {
            token_verifier,
            policies,
            seal_keys,
            revocations,
            request_memory,
            journal,
            upstream_client,
            approval_links,
        } = services;
        Self {
            servers: options.servers.into_iter().map(Arc::new).collect(),
            token_issuers: options.token_issuers,
            allowed_origins: options.allowed_origins,
            client_facing_url: ClientFacingUrl::new(options.public_url, options.uses_tls),
            token_verifier,
            policies,
            seal_keys,
            revocations,
            request_memory,
            journal,
            upstream_client,
            approval_links,
            recorded_sessions: RecordedSessions::default(),
        }
    }

    fn find_server(&self, name: &str) -> Option<&Arc<McpServer>> {
        self.servers.iter().find(|server| server.name == name)
    }

    /// Returns true if a request comes from a web page that may not talk to this front end: DNS rebinding makes a browser send
    /// one (MCP specification, "Transports", security warning).
    fn has_foreign_origin(&self, headers: &HeaderMap) -> bool {
        // Clients other than browsers send no `Origin`.
        headers.get_all(header::ORIGIN).iter().any(|origin| {
            !self
                .allowed_origins
                .iter()
                .any(|allowed| origin.as_bytes().eq_ignore_ascii_case(allowed.as_bytes()))
        })
    }
}

/// The service at the MCP address: it serves health and metadata itself, and passes requests to a server to the pipeline.
pub struct McpService {
    pub pipeline: Arc<Pipeline<McpFrontEnd>>,
}

impl HttpService for McpService {
    async fn serve_request(&self, source: SocketAddr, mut request: Request<Incoming>) -> Response<BoxBody> {
        let front_end = &self.pipeline.front_end;
        if front_end.has_foreign_origin(request.headers()) {
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
            return resource_metadata::metadata_response(front_end, &request, server);
        }
        if !path.strip_prefix(SERVER_PATH_PREFIX).is_some_and(is_server_name) {
            return plain_response(StatusCode::NOT_FOUND, "servers are at /mcp/<server>");
        }
        // A server that offers no stream of its own answers GET with 405 (MCP 2025-11-25, "Transports").
        if request.method() != Method::POST && request.method() != Method::DELETE {
            let mut response = plain_response(StatusCode::METHOD_NOT_ALLOWED, "messages are posted");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST, DELETE"));
            return response;
        }
        let (notifier, notices) = HoldNotifier::new();
        request.extensions_mut().insert(notifier);
        let pipeline = self.pipeline.clone();
        // Boxed: the future of the whole pipeline is some 20 KiB.
        let pending = Box::pin(async move { pipeline.handle_request(source, request).await });
        progress_stream::respond_with_progress(pending, notices).await
    }
}

impl FrontEnd for McpFrontEnd {
    const KIND: FrontEndKind = FrontEndKind::Mcp;
    const NEEDS_AWS_CREDENTIAL: bool = false;
    type Request = McpRequest;

    fn refusal_context(&self, head: &Parts) -> McpRefusalContext {
        let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let server = head.uri.path().strip_prefix(SERVER_PATH_PREFIX).unwrap_or_default();
        McpRefusalContext::new(resource_metadata::metadata_url(
            &self.client_facing_url.for_host(host),
            server,
        ))
    }

    async fn verify_caller(
        &self,
        exchange: &Exchange,
        request: Request<Incoming>,
        refusal_context: McpRefusalContext,
    ) -> Result<(Identity, McpRequest), ProtocolRefusal<McpRefusalContext>> {
        Ok(self.verify_bearer_token(exchange, request, refusal_context).await?)
    }

    async fn read_operation(
        &self,
        exchange: &Exchange,
        identity: Identity,
        request: McpRequest,
    ) -> Result<ReadOperation<McpRequest>, ProtocolRefusal<McpRefusalContext>> {
        let McpRequest { mut refusal_context, hold_notifier, stage } = request;
        let McpRequestStage::Unread(unread) = stage else {
            return Err(
                Refusal::new(durward_core::RefusalReason::Internal, "the message was read before").into()
            );
        };
        let (identity, mut parsed) = match self.parse_message(exchange, identity, *unread).await {
            Ok(parsed) => parsed,
            Err(refusal) => return Err(refusal.with_context(refusal_context)),
        };
        refusal_context.request_id = parsed.request_id().cloned();
        match operation_mapping::map_operation(&self.seal_keys, exchange, &identity, &mut parsed) {
            Ok(operation) => {
                let stage = McpRequestStage::Parsed(Box::new(parsed));
                let request = McpRequest { refusal_context, hold_notifier, stage };
                Ok(ReadOperation { identity, operation, request })
            }
            Err(refusal) => Err(refusal.with_context(refusal_context)),
        }
    }

    fn approval_notice(
        &self,
        exchange: &Exchange,
        identity: &Identity,
        request: &McpRequest,
        approval_request: &ApprovalRequest,
    ) -> Option<ProtocolRefusal<McpRefusalContext>> {
        self.notify_of_approval(exchange, identity, request, approval_request)
    }

    async fn send_upstream(
        &self,
        exchange: &Exchange,
        forwardable: Forwardable<McpRequest>,
    ) -> Result<UpstreamResponse, Refusal> {
        self.exchange_with_server(exchange, forwardable).await
    }

    fn write_refusal(
        &self,
        exchange: ExchangeId,
        refusal: &Refusal,
        context: &McpRefusalContext,
    ) -> Response<BoxBody> {
        context.write_refusal(refusal, exchange)
    }
}

fn plain_response(status: StatusCode, why: &str) -> Response<BoxBody> {
    let mut response = Response::new(full_body(format!("durward: {why}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// Returns true if a text may name a server: it reads the same in a path, a policy and a file.
pub fn is_server_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    name.len() <= MAX_SERVER_NAME_BYTES
        && name.bytes().all(plain)
        && name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

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

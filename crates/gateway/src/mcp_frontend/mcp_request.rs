//! A request of an MCP client: first its verified head with an unread body, then its message to a server.

use super::McpServer;
use super::mcp_session::McpSession;
use super::message_body::read_message;
use super::progress_stream::HoldNotifier;
use super::refusal::{ErrorOverride, McpRefusalContext};
use crate::front_end::FrontEndRequest;
use crate::held_requests::object_memory_bytes;
use crate::memory_budget::MemoryReservation;
use crate::operation_digest::operation_digest;
use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use durward_approval::ApprovalRequestId;
use durward_core::{Operation, SessionId, encode_hex};
use durward_mcp::{ClientMessage, ClientRequest, ProtocolEra, RequestId, ValidatedHeaders, error_codes};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use hyper::body::Incoming;
use serde_json::Map;
use std::sync::Arc;
use time::OffsetDateTime;

/// A request on its way through the pipeline.
pub struct McpRequest {
    pub(super) refusal_context: McpRefusalContext,
    /// Tells the client that its request is held.
    pub(super) hold_notifier: Option<HoldNotifier>,
    pub(super) stage: McpRequestStage,
}

pub(super) enum McpRequestStage {
    /// The caller is known, and not a byte of the body is read.
    Unread(Box<UnreadMcpRequest>),
    Parsed(Box<ParsedMcpRequest>),
}

pub(super) struct UnreadMcpRequest {
    pub method: Method,
    pub headers: HeaderMap,
    pub body: Incoming,
    /// The memory of the body, which grows as it is read.
    pub memory: MemoryReservation,
    pub session: PresentedSession,
    pub token: TokenSession,
}

/// The session that a request names.
pub(super) enum PresentedSession {
    Absent,
    Valid(McpSession),
    /// It is not one of this caller at this server, or has ended.
    Invalid,
}

/// The caller's token as a session: for servers without sessions, and until one is opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenSession {
    pub id: SessionId,
    /// When the token was issued. One that does not say is taken to be older than any revocation.
    pub issued_at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
}

/// The action that a request wants from a server.
pub(super) enum McpAction {
    Message(ClientMessage),
    /// To end the session (DELETE).
    EndSession,
}

/// A request that keeps to the protocol, and where it goes.
pub(super) struct ParsedMcpRequest {
    pub action: McpAction,
    pub validated_headers: ValidatedHeaders,
    /// The bytes that are sent: those that came, except for an `initialize` and for the retry after an elicitation of the
    /// gateway.
    pub body: Bytes,
    /// The memory that the body counts for, until the request is done.
    pub _memory: MemoryReservation,
    pub server: Arc<McpServer>,
    /// The id that the server knows the session by.
    pub upstream_session_id: Option<HeaderValue>,
    /// The client can send its person to a URL.
    pub supports_url_elicitation: bool,
    /// The elicitation of the gateway after which it is sent again.
    pub approval_elicitation: Option<ApprovalElicitation>,
}

/// An elicitation of the gateway, after which a request is sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApprovalElicitation {
    pub approval_request: ApprovalRequestId,
    /// The digest of the operation that it was about.
    pub digest_hex: String,
}

impl ApprovalElicitation {
    /// Returns true if the operation, with all its arguments, is the one that approvers see.
    pub fn matches_operation(&self, operation: &Operation) -> bool {
        self.digest_hex == encode_hex(&operation_digest(operation))
    }
}

impl McpRequest {
    fn names_session(&self) -> bool {
        match &self.stage {
            McpRequestStage::Unread(unread) => !matches!(unread.session, PresentedSession::Absent),
            McpRequestStage::Parsed(parsed) => parsed.upstream_session_id.is_some(),
        }
    }

    /// The request as it was read; `None` before that.
    pub(super) fn parsed(&self) -> Option<&ParsedMcpRequest> {
        match &self.stage {
            McpRequestStage::Parsed(parsed) => Some(parsed),
            McpRequestStage::Unread(_) => None,
        }
    }
}

impl FrontEndRequest for McpRequest {
    type RefusalContext = McpRefusalContext;

    fn refusal_context(&self) -> McpRefusalContext {
        self.refusal_context.clone()
    }

    /// A client that named its session begins another when it gets 404 (MCP 2025-11-25, "Session Management"). The error has the
    /// id of its request, so the message is read for that, and for nothing else.
    async fn revoked_session_context(self) -> McpRefusalContext {
        let names_session = self.names_session();
        let Self { mut refusal_context, stage, .. } = self;
        if let McpRequestStage::Unread(mut unread) = stage
            && unread.method == Method::POST
            && let Ok((message, _body)) = read_message(&unread.headers, unread.body, &mut unread.memory).await
        {
            refusal_context.request_id = message.request_id().cloned();
        }
        if names_session {
            refusal_context.error_override = Some(Box::new(ErrorOverride {
                status: StatusCode::NOT_FOUND,
                code: error_codes::SESSION_NOT_FOUND,
                data: None,
            }));
        }
        refusal_context
    }

    fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Context::new(&SHA256);
        let mut part = |bytes: &[u8]| {
            // Each part is preceded by its length, so that no two lists of parts hash alike.
            hash.update(&(bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        if let McpRequestStage::Parsed(found) = &self.stage {
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

    /// The bytes to be sent are in the body, and the parameters in the operation: of the message only its name is still needed.
    fn compact(&mut self) {
        if let McpRequestStage::Parsed(found) = &mut self.stage
            && let McpAction::Message(message) = &mut found.action
        {
            match message {
                ClientMessage::Request(request) => request.discard_params(),
                ClientMessage::Notification(notification) => notification.params = Map::new(),
                ClientMessage::Response { .. } => {}
            }
        }
    }

    fn held_bytes(&self) -> usize {
        let McpRequestStage::Parsed(found) = &self.stage else { return 0 };
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

impl McpAction {
    /// The id that the response must have.
    pub(super) fn request_id(&self) -> Option<&RequestId> {
        match self {
            Self::Message(message) => message.request_id(),
            Self::EndSession => None,
        }
    }
}

impl ParsedMcpRequest {
    pub(super) fn request_id(&self) -> Option<&RequestId> {
        self.action.request_id()
    }

    pub(super) fn http_method(&self) -> Method {
        match self.action {
            McpAction::Message(_) => Method::POST,
            McpAction::EndSession => Method::DELETE,
        }
    }

    /// The message, if it opens a session.
    pub(super) fn initialize_request(&self) -> Option<&ClientRequest> {
        match &self.action {
            McpAction::Message(ClientMessage::Request(request))
                if request.method == "initialize" && self.validated_headers.era == ProtocolEra::Legacy =>
            {
                Some(request)
            }
            _ => None,
        }
    }
}

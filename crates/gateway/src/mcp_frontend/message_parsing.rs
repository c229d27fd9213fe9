//! Reads a message and holds it to the protocol, the caller to policy, and the session to the caller.

use super::mcp_request::{McpAction, ParsedMcpRequest, PresentedSession, TokenSession, UnreadMcpRequest};
use super::message_body::read_message;
use super::refusal::McpRefusal;
use super::{McpFrontEnd, McpServer, mcp_session};
use crate::connect_policy::decide_connect;
use crate::exchange::{Exchange, Identity};
use bytes::Bytes;
use durward_core::{Refusal, RefusalReason, SessionId, Verdict};
use durward_journal::JournalRecord;
use durward_mcp::{
    ClientMessage, ClientRequest, ProtocolEra, RequestId, ValidatedHeaders, error_codes, validate_headers,
};
use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;
use std::sync::Arc;

impl McpFrontEnd {
    /// Parses an unread request; its identity gets the session that the request belongs to or opens.
    pub(super) async fn parse_message(
        &self,
        exchange: &Exchange,
        identity: Identity,
        unread: UnreadMcpRequest,
    ) -> Result<(Identity, ParsedMcpRequest), McpRefusal> {
        let UnreadMcpRequest { method, headers, body, mut memory, session, token } = unread;
        let (action, body) = if method == Method::DELETE {
            (McpAction::EndSession, Bytes::new())
        } else {
            let (message, body) = read_message(&headers, body, &mut memory).await?;
            (McpAction::Message(message), body)
        };
        let validated_headers = match &action {
            McpAction::Message(message) => validate_headers(&headers, message)?,
            McpAction::EndSession => ValidatedHeaders { era: ProtocolEra::Legacy, headers: HeaderMap::new() },
        };
        if matches!(action, McpAction::Message(ClientMessage::Response { .. })) {
            let refusal = Refusal::new(
                RefusalReason::Malformed,
                "responses from a client are not accepted: no server's requests are passed on to clients",
            );
            return Err(McpRefusal::new(refusal, None));
        }
        let id = action.request_id().cloned();
        let server = self
            .authorize_server(exchange, &identity)
            .map_err(|refusal| McpRefusal::new(refusal, id.as_ref()))?;
        let supports_url_elicitation = matches!(
            &action,
            McpAction::Message(ClientMessage::Request(request)) if request.supports_url_elicitation()
        );
        let mut parsed = ParsedMcpRequest {
            action,
            validated_headers,
            body,
            _memory: memory,
            server,
            upstream_session_id: None,
            supports_url_elicitation,
            approval_elicitation: None,
        };
        let session = choose_session(&mut parsed, session, id.as_ref())?;
        let identity = self
            .begin_session(exchange, identity, &parsed, session, token)
            .await
            .map_err(|refusal| McpRefusal::new(refusal, id.as_ref()))?;
        Ok((identity, parsed))
    }

    /// Decides, with every request, if the caller may use the server at all.
    fn authorize_server(&self, exchange: &Exchange, identity: &Identity) -> Result<Arc<McpServer>, Refusal> {
        let name = &identity.connection;
        // An unknown server and a forbidden one look the same to the caller.
        let refused = || {
            Refusal::new(
                RefusalReason::AccessDenied,
                format!("{} may not use this MCP server, or it does not exist", identity.caller.id()),
            )
        };
        let server = self
            .find_server(name)
            .ok_or_else(|| refused().with_detail(format!("no MCP server is named `{name}`")))?;
        let decision =
            decide_connect(&self.policies, &identity.caller, name, exchange.source.ip(), exchange.time);
        if decision.verdict == Verdict::Allow {
            Ok(server.clone())
        } else {
            Err(refused().with_detail(&decision.reason))
        }
    }

    /// The identity with the session of the request. A session that begins is recorded first.
    async fn begin_session(
        &self,
        exchange: &Exchange,
        mut identity: Identity,
        parsed: &ParsedMcpRequest,
        session: ChosenSession,
        token: TokenSession,
    ) -> Result<Identity, Refusal> {
        let (id, expires) = match session {
            // It was recorded when it was opened.
            ChosenSession::Named(id) => {
                identity.session = id;
                return Ok(identity);
            }
            ChosenSession::New => (SessionId::new(), exchange.time + mcp_session::SESSION_LIFETIME),
            ChosenSession::Token => (token.id, token.expires_at),
        };
        identity.session = id;
        // A session that a token opens is as old as the token: a revocation of the caller ends both.
        identity.valid_since = token.issued_at;
        let is_token = matches!(session, ChosenSession::Token);
        if is_token && self.recorded_sessions.contains(id) {
            return Ok(identity);
        }
        // Before the record: a revoked caller must not open sessions.
        self.revocations.check_session(id, &identity.caller, identity.valid_since)?;
        let record = JournalRecord::SessionOpened {
            session: id,
            caller: identity.caller.clone(),
            connection: parsed.server.name.clone(),
            source_address: exchange.source.ip(),
            expires,
        };
        self.journal.append_durable(record).await.map_err(|error| error.refusal())?;
        if is_token {
            // Only after the record: if that fails, the next request tries again.
            self.recorded_sessions.insert(id);
        }
        Ok(identity)
    }
}

/// The session that a request belongs to.
#[derive(Debug, Clone, Copy)]
enum ChosenSession {
    Named(SessionId),
    /// `initialize` opens one.
    New,
    /// The caller's token is the session.
    Token,
}

fn choose_session(
    parsed: &mut ParsedMcpRequest,
    presented: PresentedSession,
    id: Option<&RequestId>,
) -> Result<ChosenSession, McpRefusal> {
    if parsed.validated_headers.era == ProtocolEra::Modern {
        return Ok(ChosenSession::Token);
    }
    if let McpAction::Message(ClientMessage::Request(request)) = &mut parsed.action
        && request.method == "initialize"
    {
        parsed.body = remove_client_capabilities(request);
        return Ok(ChosenSession::New);
    }
    // Only `initialize` declares capabilities in this era, so they are those of the session.
    parsed.supports_url_elicitation = false;
    match presented {
        PresentedSession::Valid(session) => {
            parsed.upstream_session_id = Some(session.upstream_id);
            parsed.supports_url_elicitation = session.supports_url_elicitation;
            Ok(ChosenSession::Named(session.id))
        }
        // A client that gets 404 must begin a new session (MCP 2025-11-25, "Session Management").
        PresentedSession::Invalid => {
            let refusal = Refusal::new(
                RefusalReason::InvalidToken,
                "the session is not one of this caller at this server, or has ended: initialize again",
            );
            Err(McpRefusal::new(refusal, id)
                .with_status(StatusCode::NOT_FOUND, error_codes::SESSION_NOT_FOUND))
        }
        PresentedSession::Absent if matches!(parsed.action, McpAction::EndSession) => {
            let refusal = Refusal::new(
                RefusalReason::Malformed,
                "header `Mcp-Session-Id` does not name the session to end",
            );
            Err(McpRefusal::new(refusal, None))
        }
        PresentedSession::Absent => Ok(ChosenSession::Token),
    }
}

/// Removes from an `initialize` the capabilities that the gateway does not proxy, so that the server does not use them.
fn remove_client_capabilities(request: &mut ClientRequest) -> Bytes {
    if let Some(Value::Object(capabilities)) = request.params.get_mut("capabilities") {
        for capability in ["elicitation", "roots", "sampling", "tasks"] {
            capabilities.remove(capability);
        }
    }
    request.to_bytes().into()
}

//! The proof of identity of an MCP request: a bearer token, verified with every request before a byte of the body is read. A session
//! id is an address, never an identity: it opens only for the caller and the server that it was made for.

use super::mcp_request::{McpRequest, McpRequestStage, PresentedSession, TokenSession, UnreadMcpRequest};
use super::progress_stream::HoldNotifier;
use super::refusal::McpRefusalContext;
use super::{McpFrontEnd, SERVER_PATH_PREFIX, mcp_session};
use crate::exchange::{Exchange, Identity};
use durward_core::{Caller, Refusal, RefusalReason};
use durward_mcp::SESSION_ID_HEADER;
use http::{HeaderMap, Request, header};
use hyper::body::Incoming;
use time::OffsetDateTime;

impl McpFrontEnd {
    pub(super) async fn verify_bearer_token(
        &self,
        exchange: &Exchange,
        request: Request<Incoming>,
        refusal_context: McpRefusalContext,
    ) -> Result<(Identity, McpRequest), Refusal> {
        let (parts, body) = request.into_parts();
        let server = parts.uri.path().strip_prefix(SERVER_PATH_PREFIX).unwrap_or_default();
        let token = bearer_token(&parts.headers)?;
        let verified =
            self.token_verifier.verify(token, exchange.time).await.map_err(|error| error.refusal())?;
        let token = TokenSession {
            id: mcp_session::derive_session_id(&verified, server)
                .ok_or_else(|| Refusal::new(RefusalReason::Internal, "a session id cannot be made"))?,
            issued_at: verified.issued_at.unwrap_or(OffsetDateTime::UNIX_EPOCH),
            expires_at: verified.expires_at,
        };
        let session = self.open_presented_session(&verified.caller, server, &parts.headers, exchange.time);
        let id = match &session {
            PresentedSession::Valid(session) => session.id,
            PresentedSession::Absent | PresentedSession::Invalid => token.id,
        };
        let identity = Identity {
            caller: verified.caller,
            session: id,
            valid_since: durward_identity::session_start_time(id)
                .map_or(token.issued_at, |started| started.min(token.issued_at)),
            connection: server.to_owned(),
            expires_at: verified.expires_at + durward_identity::CLOCK_LEEWAY,
        };
        let hold_notifier = parts.extensions.get::<HoldNotifier>().cloned();
        let memory = self.request_memory.reservation(identity.caller.id());
        let unread =
            UnreadMcpRequest { method: parts.method, headers: parts.headers, body, memory, session, token };
        let stage = McpRequestStage::Unread(Box::new(unread));
        Ok((identity, McpRequest { refusal_context, hold_notifier, stage }))
    }

    /// The session that the request names, given once.
    fn open_presented_session(
        &self,
        caller: &Caller,
        server: &str,
        headers: &HeaderMap,
        now: OffsetDateTime,
    ) -> PresentedSession {
        let mut given = headers.get_all(SESSION_ID_HEADER).iter();
        let Some(presented) = given.next() else { return PresentedSession::Absent };
        let is_given_once = given.next().is_none();
        self.find_server(server)
            .filter(|_server| is_given_once)
            .and_then(|server| mcp_session::open_session_id(&self.seal_keys, caller, server, presented, now))
            .map_or(PresentedSession::Invalid, PresentedSession::Valid)
    }
}

/// The token of `Authorization: Bearer`, given once.
fn bearer_token(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = given.next() else {
        return Err(Refusal::new(
            RefusalReason::MissingAuthentication,
            "there is no token: send one from your identity provider as `Authorization: Bearer <token>`",
        ));
    };
    if given.next().is_some() {
        return Err(Refusal::new(RefusalReason::Malformed, "header `Authorization` is given twice"));
    }
    let token = value.to_str().ok().and_then(|text| text.split_once(' '));
    match token {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(Refusal::new(RefusalReason::InvalidToken, "header `Authorization` holds no bearer token")),
    }
}

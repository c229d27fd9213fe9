//! Who is it? A bearer token, verified with every request before a byte of the body is read. Then the message is read and
//! held to the protocol, but what is wrong with it is said only in [`super::decode`], when the caller is on record.

use super::progress_stream::HoldNotifier;
use super::refusal::McpRefusal;
use super::{
    InboundMcpRequest, McpAction, McpFrontEnd, McpServer, ParsedMcpRequest, SERVER_PATH_PREFIX, mcp_session,
};
use crate::body::read_limited_body;
use crate::gateway_services::GatewayServices;
use crate::pipeline::{Exchange, Identity};
use bytes::Bytes;
use durward_core::{Caller, Refusal, RefusalReason, SessionId, Verdict, limits};
use durward_identity::VerifiedToken;
use durward_journal::JournalRecord;
use durward_mcp::{
    ClientMessage, ClientRequest as McpRequest, ProtocolEra, RequestId, SESSION_ID_HEADER, ValidatedHeaders,
    error_codes, validate_headers,
};
use durward_policy::{AuthorizationRequest, PolicyQuery, RequestContext};
use http::{HeaderMap, HeaderName, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use serde_json::Value;
use std::sync::Arc;
use time::OffsetDateTime;

pub(super) async fn authenticate_request(
    door: &McpFrontEnd,
    rooms: &GatewayServices,
    exchange: &Exchange,
    request: Request<Incoming>,
) -> Result<(Identity, InboundMcpRequest), Refusal> {
    let (parts, body) = request.into_parts();
    let name = parts.uri.path().strip_prefix(SERVER_PATH_PREFIX).unwrap_or_default();
    let token = bearer_token(&parts.headers)?;
    let verified =
        rooms.token_verifier.verify(token, exchange.time).await.map_err(|error| error.refusal())?;
    let read = if parts.method == Method::DELETE {
        Ok((McpAction::EndSession, Bytes::new()))
    } else {
        read_message(&parts.headers, body).await.map(|(message, body)| (McpAction::Message(message), body))
    };
    let found = read
        .and_then(|read| parse_request(door, rooms, exchange, &verified.caller, name, &parts.headers, read));
    let (found, session) = match found {
        Ok((found, session)) => {
            let session = begin_session(door, rooms, exchange, &verified, &found, session).await?;
            (Ok(found), session)
        }
        Err(stopped) => (Err(stopped), token_session_id(&verified, name)?),
    };
    let expires = verified.expires_at + durward_identity::CLOCK_LEEWAY;
    let began = session_start_time(session, &verified);
    let identity = Identity {
        caller: verified.caller,
        session,
        session_started_at: began,
        connection: name.to_owned(),
        expires_at: expires,
    };
    let waiting = parts.extensions.get::<HoldNotifier>().cloned();
    let wire = InboundMcpRequest {
        exchange: exchange.clone(),
        identity: identity.clone(),
        parsed_request: found,
        hold_notifier: waiting,
    };
    Ok((identity, wire))
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

async fn read_message(headers: &HeaderMap, body: Incoming) -> Result<(ClientMessage, Bytes), McpRefusal> {
    let malformed = |why: &str| McpRefusal::new(Refusal::new(RefusalReason::Malformed, why), None);
    let kind = header_text(headers, &header::CONTENT_TYPE)
        .map(|kind| kind.split(';').next().unwrap_or_default().trim());
    if !kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
        || headers.contains_key(header::CONTENT_ENCODING)
    {
        return Err(malformed("the body must be `application/json`, not encoded otherwise")
            .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE, error_codes::INVALID_REQUEST));
    }
    if !(accepts_media_type(headers, "application", "json")
        && accepts_media_type(headers, "text", "event-stream"))
    {
        return Err(malformed("header `Accept` must list `application/json` and `text/event-stream`")
            .with_status(StatusCode::NOT_ACCEPTABLE, error_codes::INVALID_REQUEST));
    }
    let body = read_limited_body(body, limits::MAX_BODY_BYTES, "request body")
        .await
        .map_err(|refusal| McpRefusal::new(refusal, None))?;
    Ok((ClientMessage::parse(&body)?, body))
}

fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn accepts_media_type(headers: &HeaderMap, family: &str, kind: &str) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next()?.trim().split_once('/'))
        .any(|(one, other)| {
            (one.eq_ignore_ascii_case(family) && (other.eq_ignore_ascii_case(kind) || other == "*"))
                || (one == "*" && other == "*")
        })
}

/// Holds the message to the protocol, the caller to policy and the session to the caller.
fn parse_request(
    door: &McpFrontEnd,
    rooms: &GatewayServices,
    exchange: &Exchange,
    caller: &Caller,
    name: &str,
    headers: &HeaderMap,
    (asked, body): (McpAction, Bytes),
) -> Result<(ParsedMcpRequest, Option<SessionId>), McpRefusal> {
    let names = match &asked {
        McpAction::Message(message) => validate_headers(headers, message)?,
        McpAction::EndSession => ValidatedHeaders { era: ProtocolEra::Legacy, headers: HeaderMap::new() },
    };
    if matches!(asked, McpAction::Message(ClientMessage::Response { .. })) {
        let refusal = Refusal::new(
            RefusalReason::Malformed,
            "answers of a client are not taken: no server's requests are passed on to clients",
        );
        return Err(McpRefusal::new(refusal, None));
    }
    let id = asked.request_id().cloned();
    let server = authorize_connection(door, rooms, exchange, caller, name)
        .map_err(|refusal| McpRefusal::new(refusal, id.as_ref()))?;
    let opens_urls = matches!(&asked, McpAction::Message(ClientMessage::Request(request)) if request.supports_url_elicitation());
    let mut found = ParsedMcpRequest {
        action: asked,
        validated_headers: names,
        body,
        server,
        upstream_session_id: None,
        supports_url_elicitation: opens_urls,
        approval_elicitation: None,
    };
    if found.validated_headers.era == ProtocolEra::Modern {
        return Ok((found, None));
    }
    if let McpAction::Message(ClientMessage::Request(request)) = &mut found.action
        && request.method == "initialize"
    {
        found.body = remove_client_capabilities(request);
        return Ok((found, None));
    }
    let session = open_named_session(rooms, caller, &found.server, headers, id.as_ref(), exchange.time)?;
    if session.is_none() && matches!(found.action, McpAction::EndSession) {
        let refusal = Refusal::new(
            RefusalReason::Malformed,
            "header `Mcp-Session-Id` does not name the session to end",
        );
        return Err(McpRefusal::new(refusal, None));
    }
    found.supports_url_elicitation = false;
    let session = session.map(|session| {
        found.upstream_session_id = Some(session.upstream_id);
        found.supports_url_elicitation = session.supports_url_elicitation;
        session.id
    });
    Ok((found, session))
}

/// Whether the caller may use the server at all, asked with every request.
fn authorize_connection(
    door: &McpFrontEnd,
    rooms: &GatewayServices,
    exchange: &Exchange,
    caller: &Caller,
    name: &str,
) -> Result<Arc<McpServer>, Refusal> {
    // An unknown server and a forbidden one look the same to the caller.
    let refused = || {
        Refusal::new(
            RefusalReason::AccessDenied,
            format!("{} may not use this MCP server, or it does not exist", caller.id()),
        )
    };
    let server = door
        .servers
        .iter()
        .find(|server| server.name == name)
        .ok_or_else(|| refused().with_detail(format!("no MCP server is named `{name}`")))?;
    let facts = RequestContext {
        connection: Some(name),
        source_ip: exchange.source.ip(),
        now: exchange.time,
        tags: None,
        risk: None,
    };
    let question =
        AuthorizationRequest { caller, query: PolicyQuery::Connect { connection: name }, context: facts };
    let decision = rooms.policies.current().decide(&question);
    if decision.verdict == Verdict::Allow {
        Ok(server.clone())
    } else {
        Err(refused().with_detail(&decision.reason))
    }
}

/// The session that a legacy message names, if it names one.
fn open_named_session(
    rooms: &GatewayServices,
    caller: &Caller,
    server: &McpServer,
    headers: &HeaderMap,
    id: Option<&RequestId>,
    now: OffsetDateTime,
) -> Result<Option<mcp_session::McpSession>, McpRefusal> {
    let mut given = headers.get_all(SESSION_ID_HEADER).iter();
    let Some(presented) = given.next() else { return Ok(None) };
    let session = mcp_session::open_session_id(rooms, caller, server, presented, now)
        .filter(|_session| given.next().is_none());
    session.map(Some).ok_or_else(|| {
        let refusal = Refusal::new(
            RefusalReason::InvalidToken,
            "the session is not one of this caller at this server, or has ended: initialize again",
        );
        McpRefusal::new(refusal, id).with_status(StatusCode::NOT_FOUND, error_codes::SESSION_NOT_FOUND)
    })
}

/// Takes out of an `initialize` what the client offers to be asked for: a server would ask in vain.
fn remove_client_capabilities(request: &mut McpRequest) -> Bytes {
    if let Some(Value::Object(capabilities)) = request.params.get_mut("capabilities") {
        for asked in ["elicitation", "roots", "sampling", "tasks"] {
            capabilities.remove(asked);
        }
    }
    request.to_bytes().into()
}

impl McpAction {
    /// The id that the answer must have.
    fn request_id(&self) -> Option<&RequestId> {
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
    pub(super) fn initialize_request(&self) -> Option<&McpRequest> {
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

/// The session of the request; one that begins is recorded first.
async fn begin_session(
    door: &McpFrontEnd,
    rooms: &GatewayServices,
    exchange: &Exchange,
    verified: &VerifiedToken,
    found: &ParsedMcpRequest,
    named: Option<SessionId>,
) -> Result<SessionId, Refusal> {
    if let Some(session) = named {
        return Ok(session);
    }
    let initializes = found.initialize_request().is_some();
    let (session, expires) = if initializes {
        (SessionId::new(), exchange.time + mcp_session::SESSION_LIFETIME)
    } else {
        (token_session_id(verified, &found.server.name)?, verified.expires_at)
    };
    let revoked = || {
        rooms
            .revocations
            .check_session(session, &verified.caller, session_start_time(session, verified))
            .is_err()
    };
    // The line refuses one that is revoked: it does not begin.
    if !initializes && (door.recorded_sessions.contains(session) || revoked()) {
        return Ok(session);
    }
    let record = JournalRecord::SessionOpened {
        session,
        caller: verified.caller.clone(),
        connection: found.server.name.clone(),
        source_address: exchange.source.ip(),
        expires,
    };
    rooms.journal.append_durable(record).await.map_err(|error| {
        Refusal::new(RefusalReason::Internal, "the journal cannot record this session").with_detail(error)
    })?;
    if !initializes {
        door.recorded_sessions.insert(session);
    }
    Ok(session)
}

/// When a session began: one that is no more than a token when that was issued. A token that does not say when is taken to be
/// older than any revocation.
fn session_start_time(session: SessionId, verified: &VerifiedToken) -> OffsetDateTime {
    durward_identity::session_start_time(session).or(verified.issued_at).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn token_session_id(verified: &VerifiedToken, server: &str) -> Result<SessionId, Refusal> {
    mcp_session::derive_session_id(verified, server)
        .ok_or_else(|| Refusal::new(RefusalReason::Internal, "a session id cannot be made"))
}

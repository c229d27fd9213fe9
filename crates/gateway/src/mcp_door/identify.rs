//! Who is it? A bearer token, verified with every request before a byte of the body is read. Then the message is read and
//! held to the protocol, but what is wrong with it is said only in [`super::decode`], when the caller is on record.

use super::progress::Waiting;
use super::refuse::Stopped;
use super::{Asked, Found, McpDoor, McpWire, SERVER_PATH, Server, session};
use crate::body::read_whole;
use crate::line::{Exchange, Identity};
use crate::rooms::Rooms;
use bytes::Bytes;
use durward_core::{Caller, Reason, Refusal, SessionId, Verdict, limits};
use durward_identity::Verified;
use durward_journal::Record;
use durward_mcp::{Era, Id, Message, Names, Request as McpRequest, SESSION, classify, code};
use durward_policy::{Ask, Facts, Question};
use http::{HeaderMap, HeaderName, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use serde_json::Value;
use std::sync::Arc;
use time::OffsetDateTime;

pub(super) async fn identify(
    door: &McpDoor,
    rooms: &Rooms,
    exchange: &Exchange,
    request: Request<Incoming>,
) -> Result<(Identity, McpWire), Refusal> {
    let (parts, body) = request.into_parts();
    let name = parts.uri.path().strip_prefix(SERVER_PATH).unwrap_or_default();
    let token = bearer(&parts.headers)?;
    let verified = rooms.verifier.verify(token, exchange.at).await.map_err(|error| error.refusal())?;
    let read = if parts.method == Method::DELETE {
        Ok((Asked::End, Bytes::new()))
    } else {
        read(&parts.headers, body).await.map(|(message, body)| (Asked::Message(message), body))
    };
    let found =
        read.and_then(|read| find(door, rooms, exchange, &verified.caller, name, &parts.headers, read));
    let (found, session) = match found {
        Ok((found, session)) => {
            let session = begin(door, rooms, exchange, &verified, &found, session).await?;
            (Ok(found), session)
        }
        Err(stopped) => (Err(stopped), derive(&verified, name)?),
    };
    let expires = verified.expires + durward_identity::LEEWAY;
    let began = began(session, &verified);
    let identity = Identity { caller: verified.caller, session, began, connection: name.to_owned(), expires };
    let waiting = parts.extensions.get::<Waiting>().cloned();
    let wire = McpWire { exchange: exchange.clone(), identity: identity.clone(), found, waiting };
    Ok((identity, wire))
}

/// The token of `Authorization: Bearer`, given once.
fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = given.next() else {
        return Err(Refusal::new(
            Reason::MissingAuthentication,
            "there is no token: send one from your identity provider as `Authorization: Bearer <token>`",
        ));
    };
    if given.next().is_some() {
        return Err(Refusal::new(Reason::Malformed, "header `Authorization` is given twice"));
    }
    let token = value.to_str().ok().and_then(|text| text.split_once(' '));
    match token {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(Refusal::new(Reason::InvalidToken, "header `Authorization` holds no bearer token")),
    }
}

async fn read(headers: &HeaderMap, body: Incoming) -> Result<(Message, Bytes), Stopped> {
    let malformed = |why: &str| Stopped::new(Refusal::new(Reason::Malformed, why), None);
    let kind =
        text(headers, &header::CONTENT_TYPE).map(|kind| kind.split(';').next().unwrap_or_default().trim());
    if !kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
        || headers.contains_key(header::CONTENT_ENCODING)
    {
        return Err(malformed("the body must be `application/json`, not encoded otherwise")
            .status(StatusCode::UNSUPPORTED_MEDIA_TYPE, code::INVALID_REQUEST));
    }
    if !(accepts(headers, "application", "json") && accepts(headers, "text", "event-stream")) {
        return Err(malformed("header `Accept` must list `application/json` and `text/event-stream`")
            .status(StatusCode::NOT_ACCEPTABLE, code::INVALID_REQUEST));
    }
    let body = read_whole(body, limits::BODY, "request body")
        .await
        .map_err(|refusal| Stopped::new(refusal, None))?;
    Ok((Message::read(&body)?, body))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn accepts(headers: &HeaderMap, family: &str, kind: &str) -> bool {
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
fn find(
    door: &McpDoor,
    rooms: &Rooms,
    exchange: &Exchange,
    caller: &Caller,
    name: &str,
    headers: &HeaderMap,
    (asked, body): (Asked, Bytes),
) -> Result<(Found, Option<SessionId>), Stopped> {
    let names = match &asked {
        Asked::Message(message) => classify(headers, message)?,
        Asked::End => Names { era: Era::Legacy, headers: HeaderMap::new() },
    };
    if matches!(asked, Asked::Message(Message::Response { .. })) {
        let refusal = Refusal::new(
            Reason::Malformed,
            "answers of a client are not taken: no server's requests are passed on to clients",
        );
        return Err(Stopped::new(refusal, None));
    }
    let id = asked.id().cloned();
    let server =
        connect(door, rooms, exchange, caller, name).map_err(|refusal| Stopped::new(refusal, id.as_ref()))?;
    let opens_urls = matches!(&asked, Asked::Message(Message::Request(request)) if request.opens_urls());
    let mut found = Found { asked, names, body, server, session: None, opens_urls, question: None };
    if found.names.era == Era::Modern {
        return Ok((found, None));
    }
    if let Asked::Message(Message::Request(request)) = &mut found.asked
        && request.method == "initialize"
    {
        found.body = offer_nothing(request);
        return Ok((found, None));
    }
    let session = in_session(rooms, caller, &found.server, headers, id.as_ref(), exchange.at)?;
    if session.is_none() && matches!(found.asked, Asked::End) {
        let refusal =
            Refusal::new(Reason::Malformed, "header `Mcp-Session-Id` does not name the session to end");
        return Err(Stopped::new(refusal, None));
    }
    found.opens_urls = false;
    let session = session.map(|session| {
        found.session = Some(session.upstream);
        found.opens_urls = session.opens_urls;
        session.id
    });
    Ok((found, session))
}

/// Whether the caller may use the server at all, asked with every request.
fn connect(
    door: &McpDoor,
    rooms: &Rooms,
    exchange: &Exchange,
    caller: &Caller,
    name: &str,
) -> Result<Arc<Server>, Refusal> {
    // An unknown server and a forbidden one look the same to the caller.
    let refused = || {
        Refusal::new(
            Reason::AccessDenied,
            format!("{} may not use this MCP server, or it does not exist", caller.id()),
        )
    };
    let server = door
        .servers
        .iter()
        .find(|server| server.name == name)
        .ok_or_else(|| refused().detail(format!("no MCP server is named `{name}`")))?;
    let facts = Facts {
        connection: Some(name),
        source_ip: exchange.source.ip(),
        now: exchange.at,
        tags: None,
        risk: None,
    };
    let question = Question { caller, ask: Ask::Connect { connection: name }, facts };
    let decision = rooms.policies.current().decide(&question);
    if decision.verdict == Verdict::Allow {
        Ok(server.clone())
    } else {
        Err(refused().detail(&decision.reason))
    }
}

/// The session that a legacy message names, if it names one.
fn in_session(
    rooms: &Rooms,
    caller: &Caller,
    server: &Server,
    headers: &HeaderMap,
    id: Option<&Id>,
    now: OffsetDateTime,
) -> Result<Option<session::Session>, Stopped> {
    let mut given = headers.get_all(SESSION).iter();
    let Some(presented) = given.next() else { return Ok(None) };
    let session =
        session::open(rooms, caller, server, presented, now).filter(|_session| given.next().is_none());
    session.map(Some).ok_or_else(|| {
        let refusal = Refusal::new(
            Reason::InvalidToken,
            "the session is not one of this caller at this server, or has ended: initialize again",
        );
        Stopped::new(refusal, id).status(StatusCode::NOT_FOUND, code::NO_SESSION)
    })
}

/// Takes out of an `initialize` what the client offers to be asked for: a server would ask in vain.
fn offer_nothing(request: &mut McpRequest) -> Bytes {
    if let Some(Value::Object(capabilities)) = request.params.get_mut("capabilities") {
        for asked in ["elicitation", "roots", "sampling", "tasks"] {
            capabilities.remove(asked);
        }
    }
    request.write().into()
}

impl Asked {
    /// The id that the answer must have.
    fn id(&self) -> Option<&Id> {
        match self {
            Self::Message(message) => message.id(),
            Self::End => None,
        }
    }
}

impl Found {
    pub(super) fn id(&self) -> Option<&Id> {
        self.asked.id()
    }

    pub(super) fn method(&self) -> Method {
        match self.asked {
            Asked::Message(_) => Method::POST,
            Asked::End => Method::DELETE,
        }
    }

    /// The message, if it opens a session.
    pub(super) fn initialize(&self) -> Option<&McpRequest> {
        match &self.asked {
            Asked::Message(Message::Request(request))
                if request.method == "initialize" && self.names.era == Era::Legacy =>
            {
                Some(request)
            }
            _ => None,
        }
    }
}

/// The session of the request; one that begins is recorded first.
async fn begin(
    door: &McpDoor,
    rooms: &Rooms,
    exchange: &Exchange,
    verified: &Verified,
    found: &Found,
    named: Option<SessionId>,
) -> Result<SessionId, Refusal> {
    if let Some(session) = named {
        return Ok(session);
    }
    let initializes = found.initialize().is_some();
    let (session, expires) = if initializes {
        (SessionId::new(), exchange.at + session::LIFETIME)
    } else {
        (derive(verified, &found.server.name)?, verified.expires)
    };
    let revoked = || rooms.revocations.check(session, &verified.caller, began(session, verified)).is_err();
    // The line refuses one that is revoked: it does not begin.
    if !initializes && (door.opened.has(session) || revoked()) {
        return Ok(session);
    }
    let record = Record::SessionOpened {
        session,
        caller: verified.caller.clone(),
        connection: found.server.name.clone(),
        source_address: exchange.source.ip(),
        expires,
    };
    rooms.journal.record_durable(record).await.map_err(|error| {
        Refusal::new(Reason::Internal, "the journal cannot record this session").detail(error)
    })?;
    if !initializes {
        door.opened.add(session);
    }
    Ok(session)
}

/// When a session began: one that is no more than a token when that was issued. A token that does not say when is taken to be
/// older than any revocation.
fn began(session: SessionId, verified: &Verified) -> OffsetDateTime {
    durward_identity::began(session).or(verified.issued).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn derive(verified: &Verified, server: &str) -> Result<SessionId, Refusal> {
    session::derived(verified, server)
        .ok_or_else(|| Refusal::new(Reason::Internal, "a session id cannot be made"))
}

//! Toward the server: the headers that may travel, the bytes that were decided, the answer read as JSON or event by event.

use super::refuse::{code_of, words};
use super::{Asked, Found, McpWire, decode, session};
use crate::answer::{Answer, AnswerBody};
use crate::body::{Body, full, read_whole};
use crate::events::{Event, Events};
use crate::line::{Exchange, Forwardable, Identity, facts};
use crate::rooms::Rooms;
use bytes::Bytes;
use durward_core::{ExchangeId, Reason, Refusal, limits};
use durward_masking::Content;
use durward_mcp::{Expected, Id, Incoming, Message, SESSION, code, error_body, read_answer, sse};
use durward_policy::Policies;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body::Body as _;
use serde_json::Map;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");

pub(super) async fn forward(rooms: &Rooms, forwardable: Forwardable<McpWire>) -> Result<Answer, Refusal> {
    let McpWire { exchange, identity, found, waiting } = forwardable.wire;
    if let Some(waiting) = waiting {
        waiting.over();
    }
    let found = found.map_err(|stopped| stopped.refusal)?;
    let request_bytes = found.body.len() as u64;
    let request = request(&found)?;
    let response = rooms.transport.send(&found.server.origin, request).await.map_err(|error| {
        failed("the MCP server could not be reached, or broke off before it answered").detail(error)
    })?;
    let reader = Reader { policies: rooms.policies.clone(), exchange, identity };
    let mut answer = match &found.asked {
        Asked::Message(Message::Request(asked)) => {
            let expected = Expected { id: asked.id.clone(), lists_tools: asked.method == "tools/list" };
            let handle = handle(rooms, &reader, &found, response.headers())?;
            let mut answer = answered(reader, &found, expected, response).await?;
            if let Some(handle) = handle
                && answer.head.status.is_success()
            {
                answer.head.headers.insert(SESSION, handle);
            }
            answer
        }
        Asked::Message(Message::Notification(_) | Message::Response { .. }) => {
            accepted(&found, &response, StatusCode::ACCEPTED, "take the notification")?
        }
        Asked::End if response.status() == StatusCode::METHOD_NOT_ALLOWED => {
            whole(StatusCode::METHOD_NOT_ALLOWED, Vec::new(), None)
        }
        Asked::End => accepted(&found, &response, StatusCode::OK, "end the session")?,
    };
    answer.request_bytes = request_bytes;
    Ok(answer)
}

fn failed(why: impl Into<String>) -> Refusal {
    Refusal::new(Reason::Upstream, why)
}

/// The request as it goes out. Nothing of the caller's head is in it but what the message itself says.
fn request(found: &Found) -> Result<Request<Body>, Refusal> {
    let unwritable = || Refusal::new(Reason::Internal, "the request to the MCP server cannot be written");
    let mut request = Request::new(full(found.body.clone()));
    *request.method_mut() = found.method();
    *request.uri_mut() = found.server.target.parse().map_err(|_error| unwritable())?;
    let headers = request.headers_mut();
    headers.clone_from(&found.names.headers);
    let host = HeaderValue::from_str(&found.server.origin.authority()).map_err(|_error| unwritable())?;
    headers.insert(header::HOST, host);
    if matches!(found.asked, Asked::Message(_)) {
        headers.insert(header::CONTENT_TYPE, JSON);
    }
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    // Answers are masked: they must come readable.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(session) = &found.session {
        headers.insert(SESSION, session.clone());
    }
    Ok(request)
}

/// The session id for the client, where the server opened a session.
fn handle(
    rooms: &Rooms,
    reader: &Reader,
    found: &Found,
    headers: &HeaderMap,
) -> Result<Option<HeaderValue>, Refusal> {
    let Some(upstream) = headers.get(SESSION).filter(|_id| found.initialize().is_some()) else {
        return Ok(None);
    };
    let Identity { caller, session, .. } = &reader.identity;
    let session = session::Session { id: *session, upstream: upstream.clone(), opens_urls: found.opens_urls };
    session::seal(rooms, caller, &found.server, &session, reader.exchange.at)
        .map(Some)
        .ok_or_else(|| failed("the MCP server gave a session id that is none"))
}

/// The answer to what has none but that it was done.
fn accepted(
    found: &Found,
    response: &Response<Body>,
    done: StatusCode,
    what: &str,
) -> Result<Answer, Refusal> {
    let status = response.status();
    if let Some(answer) = session_ended(found, status, None) {
        return Ok(answer);
    }
    if !status.is_success() {
        return Err(failed(format!("the MCP server did not {what} (HTTP {})", status.as_u16())));
    }
    Ok(whole(done, Vec::new(), None))
}

/// A server that does not know the session any more: the client must learn it as the protocol says it.
fn session_ended(found: &Found, status: StatusCode, id: Option<&Id>) -> Option<Answer> {
    (status == StatusCode::NOT_FOUND && found.session.is_some()).then(|| {
        let body = error_body(id, code::NO_SESSION, "durward: the session has ended at the MCP server", None);
        whole(StatusCode::NOT_FOUND, body, Some(code::NO_SESSION.to_string()))
    })
}

fn whole(status: StatusCode, body: Vec<u8>, error_code: Option<String>) -> Answer {
    let body = AnswerBody::Whole { bytes: body.into(), content: Content::Json };
    answer(status, body, error_code)
}

fn answer(status: StatusCode, body: AnswerBody, error_code: Option<String>) -> Answer {
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = status;
    head.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match &body {
        AnswerBody::Whole { bytes, .. } if bytes.is_empty() => {}
        AnswerBody::Events(_) => {
            head.headers.insert(header::CONTENT_TYPE, EVENTS);
            head.headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        }
        _ => {
            head.headers.insert(header::CONTENT_TYPE, JSON);
        }
    }
    Answer { head, body, plan: None, error_code, request_bytes: 0, upstream_request_id: None }
}

/// The answer to a request: one JSON text, or a stream of events that ends in one.
async fn answered(
    reader: Reader,
    found: &Found,
    expected: Expected,
    response: Response<Body>,
) -> Result<Answer, Refusal> {
    let (head, body) = response.into_parts();
    let status = head.status;
    if let Some(answer) = session_ended(found, status, Some(&expected.id)) {
        return Ok(answer);
    }
    let said = |what: &str| failed(format!("the MCP server {what} (HTTP {})", status.as_u16()));
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return Err(said("wants a credential that this gateway does not have for it"));
        }
        _ if status.is_redirection() => {
            return Err(said("points elsewhere, where this gateway does not follow"));
        }
        _ => {}
    }
    if head.headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(said("encoded its answer, which cannot be inspected, so it is withheld"));
    }
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if status == StatusCode::OK && kind == "text/event-stream" {
        let events = ServerEvents { reader, expected, body, events: sse::Reader::new(limits::ANSWER) };
        return Ok(answer(StatusCode::OK, AnswerBody::Events(Box::new(events)), None));
    }
    if kind != "application/json" {
        return Err(said("answered with something else than a JSON-RPC message"));
    }
    let bytes = read_whole(body, limits::ANSWER, "answer")
        .await
        .map_err(|refusal| Refusal { reason: Reason::Upstream, ..refusal })?;
    let refused = !status.is_success();
    match reader.read(&bytes, &expected, refused).map_err(|why| said("broke the protocol").detail(why))? {
        Incoming::Response(response) => {
            // An error keeps the status that MCP gives it; what only HTTP would know by its status is told by its code.
            let status = match (response.error.is_some(), status) {
                (true, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND) => status,
                (true, _) | (false, StatusCode::OK) => StatusCode::OK,
                (false, _) => return Err(said("broke the protocol")),
            };
            let code = error_code(&response);
            Ok(whole(status, response.text.into_bytes(), code))
        }
        Incoming::Notification { .. } | Incoming::Request { .. } => Err(said("broke the protocol")),
    }
}

/// For the record: the code of a JSON-RPC error, or that the tool says it failed.
fn error_code(response: &durward_mcp::Response) -> Option<String> {
    match response.error {
        Some(code) => Some(code.to_string()),
        None => response.failed.then(|| "isError".to_owned()),
    }
}

/// Reads what a server sends with the eyes of one caller.
struct Reader {
    policies: Arc<Policies>,
    exchange: Exchange,
    identity: Identity,
}

impl Reader {
    fn read(&self, text: &[u8], expected: &Expected, lenient: bool) -> Result<Incoming, &'static str> {
        // One policy set for one list.
        let policies = self.policies.current();
        let facts = facts(&self.exchange, &self.identity);
        let mut may_call = |tool: &str| {
            let call = decode::call(&self.identity.connection, tool, Map::new());
            policies.may_be_allowed(&self.identity.caller, &call, facts)
        };
        read_answer(text, expected, lenient, &mut may_call)
    }
}

/// The event stream that answers one request.
struct ServerEvents {
    reader: Reader,
    expected: Expected,
    body: Body,
    events: sse::Reader,
}

impl Events for ServerEvents {
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        let broken = |why: &str| Poll::Ready(Event::Broken(failed(why.to_owned())));
        loop {
            match self.events.event() {
                Ok(Some(event)) => return Poll::Ready(self.passed(event)),
                Ok(None) => {}
                Err(error) => {
                    return Poll::Ready(Event::Broken(
                        failed("the MCP server sent too much at once").detail(error),
                    ));
                }
            }
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.events.push(&data);
                    }
                }
                Some(Err(error)) => {
                    return Poll::Ready(Event::Broken(
                        failed("the MCP server broke off its answer").detail(error),
                    ));
                }
                None => return broken("the MCP server ended its stream without an answer"),
            }
        }
    }

    fn refuse(&self, refusal: &Refusal) -> Bytes {
        let exchange: ExchangeId = self.reader.exchange.id;
        error_body(Some(&self.expected.id), code_of(refusal.reason), &words(refusal, exchange), None).into()
    }
}

impl ServerEvents {
    fn passed(&self, event: sse::Event) -> Event {
        let sse::Event::Message(text) = event else { return Event::Silence };
        match self.reader.read(&text, &self.expected, false) {
            Ok(Incoming::Response(response)) => {
                let error_code = error_code(&response);
                Event::Last { text: response.text.into(), error_code }
            }
            Ok(Incoming::Notification { text }) => Event::Part(text.into()),
            // Whether we are alive shows in the connection; a server may end a session that does not answer.
            Ok(Incoming::Request { method }) if method == "ping" => Event::Silence,
            Ok(Incoming::Request { method }) => {
                let asked = match method.as_str() {
                    "elicitation/create" | "roots/list" | "sampling/createMessage" => method.as_str(),
                    _ => "something",
                };
                Event::Broken(failed(format!(
                    "the MCP server asked the client for `{asked}` in the middle of its answer, which this gateway does not pass on"
                )))
            }
            Err(why) => Event::Broken(failed("the MCP server broke the protocol").detail(why)),
        }
    }
}

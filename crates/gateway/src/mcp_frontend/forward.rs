//! Toward the server: the headers that may travel, the bytes that were decided, the answer read as JSON or event by event.

use super::refusal::{json_rpc_code, refusal_message};
use super::{InboundMcpRequest, McpAction, ParsedMcpRequest, decode, mcp_session};
use crate::body::{BoxBody, full_body, read_limited_body};
use crate::event_stream::{UpstreamEvent, UpstreamEvents};
use crate::gateway_services::GatewayServices;
use crate::pipeline::{Exchange, ForwardableRequest, Identity, request_context};
use crate::upstream_response::{UpstreamBody, UpstreamResponse};
use bytes::Bytes;
use durward_core::{ExchangeId, Refusal, RefusalReason, limits};
use durward_masking::BodyFormat;
use durward_mcp::{
    ClientMessage, ExpectedResponse, RequestId, SESSION_ID_HEADER, ServerMessage, ServerMessageError,
    encode_error_response, error_codes, parse_server_message, sse,
};
use durward_policy::PolicyStore;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body::Body as _;
use serde_json::Map;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

const APPLICATION_JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT_EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

pub(super) async fn forward_request(
    rooms: &GatewayServices,
    forwardable: ForwardableRequest<InboundMcpRequest>,
) -> Result<UpstreamResponse, Refusal> {
    let InboundMcpRequest { exchange, identity, parsed_request: found, hold_notifier: waiting } =
        forwardable.request;
    if let Some(waiting) = waiting {
        waiting.clear_notice();
    }
    let found = found.map_err(|stopped| stopped.refusal)?;
    let request_bytes = found.body.len() as u64;
    let request = build_request(&found)?;
    let response = rooms.upstream_client.send(&found.server.origin, request).await.map_err(|error| {
        upstream_failure("the MCP server could not be reached, or broke off before it answered")
            .with_detail(error)
    })?;
    let reader = CallerMessageReader { policies: rooms.policies.clone(), exchange, identity };
    let mut answer = match &found.action {
        McpAction::Message(ClientMessage::Request(asked)) => {
            let expected =
                ExpectedResponse { id: asked.id.clone(), is_tools_list: asked.method == "tools/list" };
            let handle = client_session_id(rooms, &reader, &found, response.headers())?;
            let mut answer = read_response(reader, &found, expected, response).await?;
            if let Some(handle) = handle
                && answer.head.status.is_success()
            {
                answer.head.headers.insert(SESSION_ID_HEADER, handle);
            }
            answer
        }
        McpAction::Message(ClientMessage::Notification(_) | ClientMessage::Response { .. }) => {
            acknowledge_action(&found, &response, StatusCode::ACCEPTED, "take the notification")?
        }
        McpAction::EndSession if response.status() == StatusCode::METHOD_NOT_ALLOWED => {
            json_response(StatusCode::METHOD_NOT_ALLOWED, Vec::new(), None)
        }
        McpAction::EndSession => acknowledge_action(&found, &response, StatusCode::OK, "end the session")?,
    };
    answer.request_bytes = request_bytes;
    Ok(answer)
}

fn upstream_failure(why: impl Into<String>) -> Refusal {
    Refusal::new(RefusalReason::Upstream, why)
}

/// The request as it goes out. Nothing of the caller's head is in it but what the message itself says.
fn build_request(found: &ParsedMcpRequest) -> Result<Request<BoxBody>, Refusal> {
    let unwritable =
        || Refusal::new(RefusalReason::Internal, "the request to the MCP server cannot be written");
    let mut request = Request::new(full_body(found.body.clone()));
    *request.method_mut() = found.http_method();
    *request.uri_mut() = found.server.path_and_query.parse().map_err(|_error| unwritable())?;
    let headers = request.headers_mut();
    headers.clone_from(&found.validated_headers.headers);
    let host = HeaderValue::from_str(&found.server.origin.authority()).map_err(|_error| unwritable())?;
    headers.insert(header::HOST, host);
    if matches!(found.action, McpAction::Message(_)) {
        headers.insert(header::CONTENT_TYPE, APPLICATION_JSON);
    }
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    // Answers are masked: they must come readable.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(session) = &found.upstream_session_id {
        headers.insert(SESSION_ID_HEADER, session.clone());
    }
    Ok(request)
}

/// The session id for the client, where the server opened a session.
fn client_session_id(
    rooms: &GatewayServices,
    reader: &CallerMessageReader,
    found: &ParsedMcpRequest,
    headers: &HeaderMap,
) -> Result<Option<HeaderValue>, Refusal> {
    let Some(upstream) = headers.get(SESSION_ID_HEADER).filter(|_id| found.initialize_request().is_some())
    else {
        return Ok(None);
    };
    let Identity { caller, session, .. } = &reader.identity;
    let session = mcp_session::McpSession {
        id: *session,
        upstream_id: upstream.clone(),
        supports_url_elicitation: found.supports_url_elicitation,
    };
    mcp_session::seal_session_id(rooms, caller, &found.server, &session, reader.exchange.time)
        .map(Some)
        .ok_or_else(|| upstream_failure("the MCP server gave a session id that is none"))
}

/// The answer to what has none but that it was done.
fn acknowledge_action(
    found: &ParsedMcpRequest,
    response: &Response<BoxBody>,
    done: StatusCode,
    what: &str,
) -> Result<UpstreamResponse, Refusal> {
    let status = response.status();
    if let Some(answer) = session_ended_response(found, status, None) {
        return Ok(answer);
    }
    if !status.is_success() {
        return Err(upstream_failure(format!("the MCP server did not {what} (HTTP {})", status.as_u16())));
    }
    Ok(json_response(done, Vec::new(), None))
}

/// A server that does not know the session any more: the client must learn it as the protocol says it.
fn session_ended_response(
    found: &ParsedMcpRequest,
    status: StatusCode,
    id: Option<&RequestId>,
) -> Option<UpstreamResponse> {
    (status == StatusCode::NOT_FOUND && found.upstream_session_id.is_some()).then(|| {
        let body = encode_error_response(
            id,
            error_codes::SESSION_NOT_FOUND,
            "durward: the session has ended at the MCP server",
            None,
        );
        json_response(StatusCode::NOT_FOUND, body, Some(error_codes::SESSION_NOT_FOUND.to_string()))
    })
}

fn json_response(status: StatusCode, body: Vec<u8>, error_code: Option<String>) -> UpstreamResponse {
    let body = UpstreamBody::Buffered { bytes: body.into(), content: BodyFormat::Json };
    build_response(status, body, error_code)
}

fn build_response(status: StatusCode, body: UpstreamBody, error_code: Option<String>) -> UpstreamResponse {
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = status;
    head.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match &body {
        UpstreamBody::Buffered { bytes, .. } if bytes.is_empty() => {}
        UpstreamBody::Events(_) => {
            head.headers.insert(header::CONTENT_TYPE, TEXT_EVENT_STREAM);
            head.headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        }
        _ => {
            head.headers.insert(header::CONTENT_TYPE, APPLICATION_JSON);
        }
    }
    UpstreamResponse {
        head,
        body,
        masking_plan: None,
        error_code,
        request_bytes: 0,
        upstream_request_id: None,
    }
}

/// The answer to a request: one JSON text, or a stream of events that ends in one.
async fn read_response(
    reader: CallerMessageReader,
    found: &ParsedMcpRequest,
    expected: ExpectedResponse,
    response: Response<BoxBody>,
) -> Result<UpstreamResponse, Refusal> {
    let (head, body) = response.into_parts();
    let status = head.status;
    if let Some(answer) = session_ended_response(found, status, Some(&expected.id)) {
        return Ok(answer);
    }
    let said = |what: &str| upstream_failure(format!("the MCP server {what} (HTTP {})", status.as_u16()));
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
        let events = ServerEventStream {
            reader,
            expected,
            body,
            sse_decoder: sse::SseDecoder::new(limits::MAX_MASKED_RESPONSE_BYTES),
        };
        return Ok(build_response(StatusCode::OK, UpstreamBody::Events(Box::new(events)), None));
    }
    if kind != "application/json" {
        return Err(said("answered with something else than a JSON-RPC message"));
    }
    let bytes = read_limited_body(body, limits::MAX_MASKED_RESPONSE_BYTES, "answer")
        .await
        .map_err(|refusal| Refusal { reason: RefusalReason::Upstream, ..refusal })?;
    let refused = !status.is_success();
    match reader
        .read_message(&bytes, &expected, refused)
        .map_err(|why| said("broke the protocol").with_detail(why))?
    {
        ServerMessage::Response(response) => {
            // An error keeps the status that MCP gives it; what only HTTP would know by its status is told by its code.
            let status = match (response.error_code.is_some(), status) {
                (true, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND) => status,
                (true, _) | (false, StatusCode::OK) => StatusCode::OK,
                (false, _) => return Err(said("broke the protocol")),
            };
            let code = response_error_code(&response);
            Ok(json_response(status, response.text.into_bytes(), code))
        }
        ServerMessage::Notification { .. } | ServerMessage::Request { .. } => Err(said("broke the protocol")),
    }
}

/// For the record: the code of a JSON-RPC error, or that the tool says it failed.
fn response_error_code(response: &durward_mcp::ServerResponse) -> Option<String> {
    match response.error_code {
        Some(code) => Some(code.to_string()),
        None => response.is_tool_error.then(|| "isError".to_owned()),
    }
}

/// Reads what a server sends with the eyes of one caller.
struct CallerMessageReader {
    policies: Arc<PolicyStore>,
    exchange: Exchange,
    identity: Identity,
}

impl CallerMessageReader {
    fn read_message(
        &self,
        text: &[u8],
        expected: &ExpectedResponse,
        lenient: bool,
    ) -> Result<ServerMessage, ServerMessageError> {
        // One policy set for one list.
        let policies = self.policies.current();
        let facts = request_context(&self.exchange, &self.identity);
        let mut may_call = |tool: &str| {
            let call = decode::tool_call_operation(&self.identity.connection, tool, Map::new());
            policies.may_be_allowed(&self.identity.caller, &call, facts)
        };
        parse_server_message(text, expected, lenient, &mut may_call)
    }
}

/// The event stream that answers one request.
struct ServerEventStream {
    reader: CallerMessageReader,
    expected: ExpectedResponse,
    body: BoxBody,
    sse_decoder: sse::SseDecoder,
}

impl UpstreamEvents for ServerEventStream {
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<UpstreamEvent> {
        let broken = |why: &str| Poll::Ready(UpstreamEvent::Failed(upstream_failure(why.to_owned())));
        loop {
            match self.sse_decoder.next_event() {
                Ok(Some(event)) => return Poll::Ready(self.convert_event(event)),
                Ok(None) => {}
                Err(error) => {
                    return Poll::Ready(UpstreamEvent::Failed(
                        upstream_failure("the MCP server sent too much at once").with_detail(error),
                    ));
                }
            }
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.sse_decoder.push(&data);
                    }
                }
                Some(Err(error)) => {
                    return Poll::Ready(UpstreamEvent::Failed(
                        upstream_failure("the MCP server broke off its answer").with_detail(error),
                    ));
                }
                None => return broken("the MCP server ended its stream without an answer"),
            }
        }
    }

    fn refusal_event(&self, refusal: &Refusal) -> Bytes {
        let exchange: ExchangeId = self.reader.exchange.id;
        encode_error_response(
            Some(&self.expected.id),
            json_rpc_code(refusal.reason),
            &refusal_message(refusal, exchange),
            None,
        )
        .into()
    }
}

impl ServerEventStream {
    fn convert_event(&self, event: sse::SseEvent) -> UpstreamEvent {
        let sse::SseEvent::Message(text) = event else { return UpstreamEvent::KeepAlive };
        match self.reader.read_message(&text, &self.expected, false) {
            Ok(ServerMessage::Response(response)) => {
                let error_code = response_error_code(&response);
                UpstreamEvent::Final { text: response.text.into(), error_code }
            }
            Ok(ServerMessage::Notification { text }) => UpstreamEvent::Message(text.into()),
            // Whether we are alive shows in the connection; a server may end a session that does not answer.
            Ok(ServerMessage::Request { method }) if method == "ping" => UpstreamEvent::KeepAlive,
            Ok(ServerMessage::Request { method }) => {
                let asked = match method.as_str() {
                    "elicitation/create" | "roots/list" | "sampling/createMessage" => method.as_str(),
                    _ => "something",
                };
                UpstreamEvent::Failed(upstream_failure(format!(
                    "the MCP server asked the client for `{asked}` in the middle of its answer, which this gateway does not pass on"
                )))
            }
            Err(why) => {
                UpstreamEvent::Failed(upstream_failure("the MCP server broke the protocol").with_detail(why))
            }
        }
    }
}

//! The exchange with an MCP server: the request is built from the decided bytes and MCP's own headers only, and the response is
//! read as JSON or event by event.

use super::mcp_request::{McpAction, McpRequest, McpRequestStage, ParsedMcpRequest};
use super::refusal::{json_rpc_code, refusal_message};
use super::{McpFrontEnd, mcp_session, operation_mapping};
use crate::body::{BoxBody, full_body, read_limited_body};
use crate::exchange::{Exchange, Identity, policy_context};
use crate::pipeline::Forwardable;
use crate::upstream_response::{
    OwnedMaskingPlan, UpstreamBody, UpstreamEvent, UpstreamEvents, UpstreamResponse,
};
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

impl McpFrontEnd {
    pub(super) async fn exchange_with_server(
        &self,
        exchange: &Exchange,
        forwardable: Forwardable<McpRequest>,
    ) -> Result<UpstreamResponse, Refusal> {
        let identity = forwardable.identity().clone();
        let (McpRequest { hold_notifier, stage, .. }, _credential) = forwardable.into_request();
        if let Some(notifier) = hold_notifier {
            notifier.clear_notice();
        }
        let McpRequestStage::Parsed(parsed) = stage else {
            return Err(Refusal::new(RefusalReason::Internal, "the message to be sent was never read"));
        };
        let request_bytes = parsed.body.len() as u64;
        let request = build_request(&parsed)?;
        let response = self.upstream_client.send(&parsed.server.origin, request).await.map_err(|error| {
            upstream_failure(
                "the MCP server could not be reached, or closed the connection before it responded",
            )
            .with_detail(error)
        })?;
        let reader =
            CallerMessageReader { policies: self.policies.clone(), exchange: exchange.clone(), identity };
        let mut response = match &parsed.action {
            McpAction::Message(ClientMessage::Request(message)) => {
                let expected = ExpectedResponse {
                    id: message.id.clone(),
                    is_tools_list: message.method == "tools/list",
                };
                let session_id = self.client_session_id(&reader, &parsed, response.headers())?;
                let mut response = read_response(reader, &parsed, expected, response).await?;
                if let Some(session_id) = session_id
                    && response.head.status.is_success()
                {
                    response.head.headers.insert(SESSION_ID_HEADER, session_id);
                }
                response
            }
            McpAction::Message(ClientMessage::Notification(_) | ClientMessage::Response { .. }) => {
                acknowledge_action(&parsed, &response, StatusCode::ACCEPTED, "accept the notification")?
            }
            McpAction::EndSession if response.status() == StatusCode::METHOD_NOT_ALLOWED => {
                json_response(StatusCode::METHOD_NOT_ALLOWED, Vec::new(), None)
            }
            McpAction::EndSession => {
                acknowledge_action(&parsed, &response, StatusCode::OK, "end the session")?
            }
        };
        response.request_bytes = request_bytes;
        Ok(response)
    }

    /// The session id for the client, if the server opened a session.
    fn client_session_id(
        &self,
        reader: &CallerMessageReader,
        parsed: &ParsedMcpRequest,
        headers: &HeaderMap,
    ) -> Result<Option<HeaderValue>, Refusal> {
        let Some(upstream) =
            headers.get(SESSION_ID_HEADER).filter(|_id| parsed.initialize_request().is_some())
        else {
            return Ok(None);
        };
        let session = mcp_session::McpSession {
            id: reader.identity.session,
            upstream_id: upstream.clone(),
            supports_url_elicitation: parsed.supports_url_elicitation,
        };
        let caller = &reader.identity.caller;
        mcp_session::seal_session_id(&self.seal_keys, caller, &parsed.server, &session, reader.exchange.time)
            .map(Some)
            .ok_or_else(|| upstream_failure("the MCP server returned an invalid session id"))
    }
}

fn upstream_failure(message: impl Into<String>) -> Refusal {
    Refusal::new(RefusalReason::Upstream, message)
}

/// The outbound request. Of the caller's head it contains only MCP's own headers, written anew from the message: the caller's
/// token never reaches a server (MCP specification, "Token Passthrough").
fn build_request(parsed: &ParsedMcpRequest) -> Result<Request<BoxBody>, Refusal> {
    let unwritable =
        || Refusal::new(RefusalReason::Internal, "the request to the MCP server cannot be written");
    let mut request = Request::new(full_body(parsed.body.clone()));
    *request.method_mut() = parsed.http_method();
    *request.uri_mut() = parsed.server.path_and_query.parse().map_err(|_error| unwritable())?;
    let headers = request.headers_mut();
    headers.clone_from(&parsed.validated_headers.headers);
    let host = HeaderValue::from_str(&parsed.server.origin.authority()).map_err(|_error| unwritable())?;
    headers.insert(header::HOST, host);
    if matches!(parsed.action, McpAction::Message(_)) {
        headers.insert(header::CONTENT_TYPE, APPLICATION_JSON);
    }
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    // Responses are masked, so they must come uncompressed.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(session) = &parsed.upstream_session_id {
        headers.insert(SESSION_ID_HEADER, session.clone());
    }
    Ok(request)
}

/// The response to an action that returns nothing. `what` names the action.
fn acknowledge_action(
    parsed: &ParsedMcpRequest,
    response: &Response<BoxBody>,
    success_status: StatusCode,
    what: &str,
) -> Result<UpstreamResponse, Refusal> {
    let status = response.status();
    if let Some(response) = session_ended_response(parsed, status, None) {
        return Ok(response);
    }
    if !status.is_success() {
        return Err(upstream_failure(format!("the MCP server did not {what} (HTTP {})", status.as_u16())));
    }
    Ok(json_response(success_status, Vec::new(), None))
}

/// The response if the server no longer knows the session: 404, on which a client starts a new one (MCP specification, "Session
/// Management").
fn session_ended_response(
    parsed: &ParsedMcpRequest,
    status: StatusCode,
    id: Option<&RequestId>,
) -> Option<UpstreamResponse> {
    (status == StatusCode::NOT_FOUND && parsed.upstream_session_id.is_some()).then(|| {
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
            // nginx would buffer the stream otherwise.
            head.headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        }
        _ => {
            head.headers.insert(header::CONTENT_TYPE, APPLICATION_JSON);
        }
    }
    UpstreamResponse {
        head,
        body,
        masking_plan: Some(OwnedMaskingPlan::Mcp),
        error_code,
        request_bytes: 0,
        upstream_request_id: None,
    }
}

/// The response to a request: one JSON text, or a stream of events that ends in one.
async fn read_response(
    reader: CallerMessageReader,
    parsed: &ParsedMcpRequest,
    expected: ExpectedResponse,
    response: Response<BoxBody>,
) -> Result<UpstreamResponse, Refusal> {
    let (head, body) = response.into_parts();
    let status = head.status;
    if let Some(response) = session_ended_response(parsed, status, Some(&expected.id)) {
        return Ok(response);
    }
    let failure = |what: &str| upstream_failure(format!("the MCP server {what} (HTTP {})", status.as_u16()));
    match status {
        // Passed on, the server's challenge would make the client look for a token that this gateway does not accept.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return Err(failure("requires a credential that this gateway does not have for it"));
        }
        // Following one would send the call to a host that nobody configured (mcp-proxy-for-aws issue 362 sent a signature
        // there).
        _ if status.is_redirection() => {
            return Err(failure("redirected, and redirects are not followed"));
        }
        _ => {}
    }
    if head.headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(failure("encoded its response, which cannot be inspected, so it is withheld"));
    }
    let media_type =
        head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if status == StatusCode::OK && media_type == "text/event-stream" {
        let events = ServerEventStream {
            reader,
            expected,
            body,
            sse_decoder: sse::SseDecoder::new(limits::MAX_MASKED_RESPONSE_BYTES),
        };
        return Ok(build_response(StatusCode::OK, UpstreamBody::Events(Box::new(events)), None));
    }
    if media_type != "application/json" {
        return Err(failure("returned something other than a JSON-RPC message"));
    }
    let bytes = read_limited_body(body, limits::MAX_MASKED_RESPONSE_BYTES, "response")
        .await
        .map_err(|refusal| Refusal { reason: RefusalReason::Upstream, ..refusal })?;
    let is_http_error = !status.is_success();
    match reader
        .read_message(&bytes, &expected, is_http_error)
        .map_err(|why| failure("broke the protocol").with_detail(why))?
    {
        ServerMessage::Response(response) => {
            // A JSON-RPC error keeps the status where MCP defines one. Any other gets 200: its code says the rest.
            let status = match (response.error_code.is_some(), status) {
                (true, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND) => status,
                (true, _) | (false, StatusCode::OK) => StatusCode::OK,
                (false, _) => return Err(failure("broke the protocol")),
            };
            let code = response_error_code(&response);
            Ok(json_response(status, response.text.into_bytes(), code))
        }
        ServerMessage::Notification { .. } | ServerMessage::Request { .. } => {
            Err(failure("broke the protocol"))
        }
    }
}

/// The error code for the journal: the code of a JSON-RPC error, or `isError` if the tool reports a failure.
fn response_error_code(response: &durward_mcp::ServerResponse) -> Option<String> {
    match response.error_code {
        Some(code) => Some(code.to_string()),
        None => response.is_tool_error.then(|| "isError".to_owned()),
    }
}

/// Reads messages of a server for one caller: `tools/list` shows exactly the tools that this caller may call.
struct CallerMessageReader {
    policies: Arc<PolicyStore>,
    exchange: Exchange,
    identity: Arc<Identity>,
}

impl CallerMessageReader {
    fn read_message(
        &self,
        text: &[u8],
        expected: &ExpectedResponse,
        lenient: bool,
    ) -> Result<ServerMessage, ServerMessageError> {
        // One list is filtered by one policy set, even if policies are reloaded meanwhile.
        let policies = self.policies.current();
        let context = policy_context(&self.exchange, &self.identity);
        let mut may_call = |tool: &str| {
            let call = operation_mapping::tool_call_operation(&self.identity.connection, tool, Map::new());
            policies.may_be_allowed(&self.identity.caller, &call, context)
        };
        parse_server_message(text, expected, lenient, &mut may_call)
    }
}

/// The event stream that is the response to one request.
struct ServerEventStream {
    reader: CallerMessageReader,
    expected: ExpectedResponse,
    body: BoxBody,
    sse_decoder: sse::SseDecoder,
}

impl UpstreamEvents for ServerEventStream {
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<UpstreamEvent> {
        let failed = |message: &str| Poll::Ready(UpstreamEvent::Failed(upstream_failure(message.to_owned())));
        loop {
            match self.sse_decoder.next_event() {
                Ok(Some(event)) => return Poll::Ready(self.convert_event(event)),
                Ok(None) => {}
                Err(error) => {
                    return Poll::Ready(UpstreamEvent::Failed(
                        upstream_failure("the MCP server sent an event that is too large").with_detail(error),
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
                        upstream_failure("the MCP server closed the connection before its response ended")
                            .with_detail(error),
                    ));
                }
                None => return failed("the MCP server ended its stream without a response"),
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
            // A ping gets no response, and a server may end a session for that. The open connection shows that the client is
            // there.
            Ok(ServerMessage::Request { method }) if method == "ping" => UpstreamEvent::KeepAlive,
            Ok(ServerMessage::Request { method }) => {
                let name = match method.as_str() {
                    "elicitation/create" | "roots/list" | "sampling/createMessage" => method.as_str(),
                    _ => "another method",
                };
                UpstreamEvent::Failed(upstream_failure(format!(
                    "the MCP server sent the request `{name}` to the client within its response; this gateway does not pass such requests on"
                )))
            }
            Err(why) => {
                UpstreamEvent::Failed(upstream_failure("the MCP server broke the protocol").with_detail(why))
            }
        }
    }
}

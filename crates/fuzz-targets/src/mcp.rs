//! The MCP wire: messages of clients and servers, and event streams.

use crate::request_text::parse_request_text;
use durward_mcp::sse::{SseDecoder, SseEvent, encode_event};
use durward_mcp::{
    ClientMessage, ExpectedResponse, JsonRpcError, RequestId, ServerMessage, parse_server_message,
    validate_headers,
};
use http::HeaderMap;
use serde_json::Value;
use std::collections::HashSet;

const MAX_EVENT_BYTES: usize = 4096;
/// The only tool that the caller may call.
const CALLABLE_TOOL: &str = "a";

/// Input: an event stream. However it is split, the same events come out, none larger than the limit; and what the gateway
/// writes for a message is one event again.
pub(crate) fn read_event_stream(input: &[u8]) -> bool {
    let whole = read_in_steps(input, input.len().max(1));
    for step in [1, 3, 64] {
        let split = read_in_steps(input, step);
        // Whether a stream that exceeds the limit is refused before or after its first events depends on the split.
        if input.len() <= MAX_EVENT_BYTES {
            assert_eq!(split, whole, "in steps of {step}");
        }
    }
    let Some(events) = whole else { return false };
    for event in &events {
        if let SseEvent::Message(data) = event {
            assert!(data.len() <= MAX_EVENT_BYTES);
            let again = read_in_steps(&encode_event(data), 7).unwrap_or_default();
            assert!(again.len() <= 1, "one message is one event");
        }
    }
    events.iter().any(|event| matches!(event, SseEvent::Message(_)))
}

fn read_in_steps(stream: &[u8], step: usize) -> Option<Vec<SseEvent>> {
    let mut decoder = SseDecoder::new(MAX_EVENT_BYTES);
    let mut events = Vec::new();
    for piece in stream.chunks(step) {
        decoder.push(piece);
        while let Some(event) = decoder.next_event().ok()? {
            events.push(event);
        }
    }
    Some(events)
}

/// Input: the sender, headers, body. The body is read as a message of a client and as one of a server, whichever the sender
/// is; the reader of the sender (`client`, `server`, or `server-error` for a response with an error status) accepts it.
pub(crate) fn read_messages(input: &[u8]) -> bool {
    let Some(request) = parse_request_text(input) else { return false };
    let from_client = read_client_message(&request.headers, request.body);
    let strict = read_server_message(request.body, false);
    let lenient = read_server_message(request.body, true);
    match request.first_line {
        "client" => from_client,
        "server" => strict,
        "server-error" => lenient,
        _ => false,
    }
}

fn read_client_message(headers: &HeaderMap, body: &[u8]) -> bool {
    let Ok(message) = ClientMessage::parse(body) else { return false };
    let value: Value = serde_json::from_slice(body).expect("a message that was read is JSON");
    assert!(value.is_object() && has_distinct_names(&value));
    let tool_call = read_tool_call(&message);
    let validated = validate_headers(headers, &message);
    if let Ok(validated) = &validated
        && let (Some(method), ClientMessage::Request(request)) =
            (validated.headers.get("mcp-method"), &message)
    {
        assert_eq!(method.as_bytes(), request.method.as_bytes(), "the header names another method");
    }
    tool_call.is_ok() && validated.is_ok()
}

fn read_tool_call(message: &ClientMessage) -> Result<(), JsonRpcError> {
    if let ClientMessage::Request(request) = message
        && request.method == "tools/call"
    {
        let (name, arguments) = request.tool_call()?;
        assert!(!name.is_empty() && has_distinct_names(&Value::Object(arguments)));
    }
    Ok(())
}

fn read_server_message(body: &[u8], lenient: bool) -> bool {
    let expected = ExpectedResponse { id: RequestId::Number(1), is_tools_list: true };
    let message = parse_server_message(body, &expected, lenient, &mut |name| name == CALLABLE_TOOL);
    let Ok(ServerMessage::Response(response)) = message else { return message.is_ok() };
    let passed_on: Value =
        serde_json::from_str(&response.text).expect("a response that is passed on is JSON");
    assert!(has_distinct_names(&passed_on) && has_distinct_names(&passed_on["result"]));
    assert_eq!(passed_on["id"], 1);
    if let Some(tools) = passed_on["result"]["tools"].as_array() {
        assert!(
            tools.iter().all(|tool| tool["name"] == CALLABLE_TOOL),
            "a tool is listed that may not be called"
        );
    }
    true
}

/// Also for a reader that ignores case.
fn has_distinct_names(value: &Value) -> bool {
    let Value::Object(members) = value else { return true };
    let mut seen = HashSet::new();
    members.keys().all(|name| seen.insert(name.to_uppercase().to_lowercase()))
}

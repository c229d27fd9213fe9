//! MCP messages: any body is one message or an error, and readers that ignore case read the same message; no response of a server
//! lists a tool that the caller may not call.
#![no_main]

use durward_mcp::{
    ClientMessage, ExpectedResponse, JsonRpcError, RequestId, ServerMessage, parse_server_message, validate_headers,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use std::collections::HashSet;

fn distinct(value: &Value) -> bool {
    let Value::Object(members) = value else { return true };
    let mut seen = HashSet::new();
    members.keys().all(|name| seen.insert(name.to_uppercase().to_lowercase()))
}

fn check_tool_call(message: &ClientMessage) -> Result<(), JsonRpcError> {
    if let ClientMessage::Request(request) = message
        && request.method == "tools/call"
    {
        let (name, arguments) = request.tool_call()?;
        assert!(!name.is_empty() && distinct(&Value::Object(arguments)));
    }
    Ok(())
}

fuzz_target!(|input: (&[u8], Vec<(u8, &[u8])>, bool)| {
    const NAMES: [&str; 4] = ["mcp-protocol-version", "mcp-method", "mcp-name", "mcp-param-x"];
    let (body, fields, lenient) = input;
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(HeaderName::from_static(NAMES[usize::from(name) % NAMES.len()]), value);
        }
    }
    if let Ok(message) = ClientMessage::parse(body) {
        let value: Value = serde_json::from_slice(body).expect("a parsed message is JSON");
        assert!(value.is_object() && distinct(&value));
        let _either = check_tool_call(&message);
        if let Ok(validated) = validate_headers(&headers, &message)
            && let (Some(method), ClientMessage::Request(request)) = (validated.headers.get("mcp-method"), &message)
        {
            assert_eq!(method.as_bytes(), request.method.as_bytes());
        }
    }
    let expected = ExpectedResponse { id: RequestId::Number(1), is_tools_list: true };
    if let Ok(ServerMessage::Response(response)) = parse_server_message(body, &expected, lenient, &mut |name| name == "a") {
        let response: Value = serde_json::from_str(&response.text).expect("the response is JSON");
        assert!(distinct(&response) && distinct(&response["result"]));
        assert_eq!(response["id"], 1);
        if let Some(tools) = response["result"]["tools"].as_array() {
            assert!(tools.iter().all(|tool| tool["name"] == "a"));
        }
    }
});

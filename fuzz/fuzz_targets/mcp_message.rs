//! MCP messages: any body is one message or an error, and what passes is read the same by a reader that takes no heed of
//! case; any answer of a server lists no tool that may not be called.
#![no_main]

use durward_mcp::{Error, Expected, Id, Incoming, Message, classify, read_answer};
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use std::collections::HashSet;

fn distinct(value: &Value) -> bool {
    let Value::Object(members) = value else { return true };
    let mut seen = HashSet::new();
    members.keys().all(|name| seen.insert(name.to_uppercase().to_lowercase()))
}

fn call(message: &Message) -> Result<(), Error> {
    if let Message::Request(request) = message
        && request.method == "tools/call"
    {
        let (name, arguments) = request.tool()?;
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
    if let Ok(message) = Message::read(body) {
        let value: Value = serde_json::from_slice(body).expect("what was read is JSON");
        assert!(value.is_object() && distinct(&value));
        let _either = call(&message);
        if let Ok(names) = classify(&headers, &message)
            && let (Some(method), Message::Request(request)) = (names.headers.get("mcp-method"), &message)
        {
            assert_eq!(method.as_bytes(), request.method.as_bytes());
        }
    }
    let expected = Expected { id: Id::Number(1), lists_tools: true };
    if let Ok(Incoming::Response(response)) = read_answer(body, &expected, lenient, &mut |name| name == "a") {
        let answer: Value = serde_json::from_str(&response.text).expect("what is passed on is JSON");
        assert!(distinct(&answer) && distinct(&answer["result"]));
        assert_eq!(answer["id"], 1);
        if let Some(tools) = answer["result"]["tools"].as_array() {
            assert!(tools.iter().all(|tool| tool["name"] == "a"));
        }
    }
});

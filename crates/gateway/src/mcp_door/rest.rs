//! What of a message's parameters is in no operation: the rest of a call, and `_meta` of any method. Its bytes reach the server, so
//! an approval is bound to it, and people hear by name of what they do not see.
//!
//! Not so what tells attempts of one call apart (a progress token, a trace, a client's id of the call) and what a client says of
//! itself: with these in it, no call would be the same when it is sent again.

use durward_aws::sigv4::sha256_hex;
use durward_core::Operation;
use serde_json::{Map, Value};

const META: &str = "_meta";
/// Names of an attempt, where they are short texts or numbers: of MCP, of the W3C's trace context (SEP-414), of Claude Code and of
/// Visual Studio Code.
const LABELS: [&str; 7] = [
    "progressToken",
    "traceparent",
    "tracestate",
    "baggage",
    "claudecode/toolUseId",
    "vscode.conversationId",
    "vscode.requestId",
];
/// Longest text of a label, in bytes (W3C trace context: a `tracestate` of 512 is passed on).
const LABEL: usize = 512;
/// What MCP has a client say of itself.
const OF_CLIENT: &str = "io.modelcontextprotocol/";
/// All that an `Implementation` has.
const CLIENT_INFO: [&str; 6] = ["name", "title", "version", "description", "websiteUrl", "icons"];

/// Binds the operation to the rest, and names that to people.
pub(super) fn bind(operation: &mut Operation, mut rest: Map<String, Value>) {
    if let Some(Value::Object(meta)) = rest.get_mut(META) {
        meta.retain(|name, value| !(is_label(name, value) || is_of_client(name, value)));
    }
    rest.retain(|name, value| name != META || value.as_object().is_none_or(|meta| !meta.is_empty()));
    if rest.is_empty() {
        return;
    }
    for (name, value) in &rest {
        match value {
            Value::Object(meta) if name == META => {
                operation.uninspected.extend(meta.keys().map(|member| format!("{META}.{member}")));
            }
            _ => operation.uninspected.push(name.clone()),
        }
    }
    operation.body_sha256 = Some(sha256_hex(Value::Object(rest).to_string().as_bytes()));
}

fn is_label(name: &str, value: &Value) -> bool {
    let short = match value {
        Value::String(text) => text.len() <= LABEL,
        Value::Number(_) => true,
        _ => false,
    };
    short && LABELS.contains(&name)
}

fn is_of_client(name: &str, value: &Value) -> bool {
    match name.strip_prefix(OF_CLIENT) {
        Some("protocolVersion" | "logLevel") => value.as_str().is_some_and(|text| text.len() <= LABEL),
        Some("clientCapabilities") => value.is_object(),
        Some("clientInfo") => value
            .as_object()
            .is_some_and(|info| info.keys().all(|member| CLIENT_INFO.contains(&member.as_str()))),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode::{call, of_server};
    use super::*;
    use serde_json::json;

    /// A call with this `_meta`.
    fn with(meta: Value) -> Operation {
        let mut operation = call("files", "pay", Map::new());
        bind(&mut operation, Map::from_iter([(META.to_owned(), meta)]));
        operation
    }

    #[test]
    fn what_meta_asks_of_a_server_is_named_and_bound() {
        let plain = call("files", "pay", Map::new());
        let one = with(json!({ "com.example/mode": "dry-run", "progressToken": 7 }));
        assert_eq!(one.uninspected, ["_meta.com.example/mode"]);
        assert_ne!(one.canonical(), plain.canonical());
        assert_eq!(one, with(json!({ "progressToken": "p", "com.example/mode": "dry-run" })));
        assert_ne!(one.canonical(), with(json!({ "com.example/mode": "for-real" })).canonical());
        for other in [
            json!("a text"),
            json!(null),
            json!({ "Traceparent": "00" }),
            json!({ "traceparent": { "mode": "x" } }),
            json!({ "progressToken": ["x"] }),
            json!({ "baggage": "x".repeat(LABEL + 1) }),
            json!({ "io.modelcontextprotocol/clientInfo": { "name": "x", "mode": "x" } }),
            json!({ "io.modelcontextprotocol/clientCapabilities": "x" }),
            json!({ "io.modelcontextprotocol/related-task": {} }),
        ] {
            let operation = with(other.clone());
            assert!(operation.body_sha256.is_some() && operation.uninspected.len() == 1, "{other}");
        }
    }

    #[test]
    fn what_differs_from_attempt_to_attempt_makes_no_other_operation() {
        let plain = call("files", "pay", Map::new());
        for meta in [
            json!({}),
            json!({ "progressToken": 1, "traceparent": "00-0af7", "tracestate": "a=b", "baggage": "c=d" }),
            json!({ "claudecode/toolUseId": "toolu_1", "vscode.conversationId": "a", "vscode.requestId": "b" }),
            json!({
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": { "elicitation": { "url": {} } },
                "io.modelcontextprotocol/clientInfo": { "name": "x", "title": "X", "version": "1" },
                "io.modelcontextprotocol/logLevel": "debug",
            }),
        ] {
            assert_eq!(with(meta.clone()), plain, "{meta}");
        }
    }

    #[test]
    fn other_methods_are_bound_to_their_meta_too() {
        let read = |meta: Value| {
            let params = json!({ "uri": "file:///a", "_meta": meta });
            of_server("files", "resources/read", params.as_object().unwrap())
        };
        let plain = read(json!({ "progressToken": 1 }));
        assert_eq!((&plain.parameters, &plain.body_sha256), (&json!({ "uri": "file:///a" }), &None));
        let (one, other) = (read(json!({ "x/tenant": "a" })), read(json!({ "x/tenant": "b" })));
        assert_eq!(one.uninspected, ["_meta.x/tenant"]);
        assert_ne!(one.canonical(), other.canonical());
    }
}

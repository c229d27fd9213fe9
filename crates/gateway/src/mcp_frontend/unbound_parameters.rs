//! Parameters that are not part of an operation: all of a call but its tool and arguments, and `_meta` of any method. They reach the
//! server, so a grant is bound to them too, and approvers see their names as uninspected parts.
//!
//! Two kinds are left out: labels of one attempt (a progress token, a trace, the client's id of the call) and metadata about the
//! client. With them, a retry would never be the same operation.

use durward_aws::sigv4::sha256_hex;
use durward_core::Operation;
use serde_json::{Map, Value};

const META_PARAM: &str = "_meta";
/// Labels of one attempt, if they are short texts or numbers: of MCP, of W3C Trace Context (MCP's SEP-414), of Claude Code and of
/// Visual Studio Code.
const ATTEMPT_LABELS: [&str; 7] = [
    "progressToken",
    "traceparent",
    "tracestate",
    "baggage",
    "claudecode/toolUseId",
    "vscode.conversationId",
    "vscode.requestId",
];
/// Longest label, in bytes. W3C Trace Context, "tracestate Limits": at least 512 characters should be passed on.
const MAX_LABEL_BYTES: usize = 512;
/// The prefix of MCP's own metadata about a client.
const CLIENT_META_PREFIX: &str = "io.modelcontextprotocol/";
/// The members of MCP's `Implementation`.
const CLIENT_INFO_MEMBERS: [&str; 6] = ["name", "title", "version", "description", "websiteUrl", "icons"];

/// Binds the operation to the other parameters, and lists them as uninspected.
pub(super) fn bind_parameters(operation: &mut Operation, mut rest: Map<String, Value>) {
    if let Some(Value::Object(meta)) = rest.get_mut(META_PARAM) {
        meta.retain(|name, value| !(is_attempt_label(name, value) || is_client_metadata(name, value)));
    }
    rest.retain(|name, value| name != META_PARAM || value.as_object().is_none_or(|meta| !meta.is_empty()));
    if rest.is_empty() {
        return;
    }
    for (name, value) in &rest {
        match value {
            Value::Object(meta) if name == META_PARAM => {
                operation
                    .uninspected_parts
                    .extend(meta.keys().map(|member| format!("{META_PARAM}.{member}")));
            }
            _ => operation.uninspected_parts.push(name.clone()),
        }
    }
    operation.body_sha256 = Some(sha256_hex(Value::Object(rest).to_string().as_bytes()));
}

fn is_attempt_label(name: &str, value: &Value) -> bool {
    let is_short = match value {
        Value::String(text) => text.len() <= MAX_LABEL_BYTES,
        Value::Number(_) => true,
        _ => false,
    };
    is_short && ATTEMPT_LABELS.contains(&name)
}

fn is_client_metadata(name: &str, value: &Value) -> bool {
    match name.strip_prefix(CLIENT_META_PREFIX) {
        Some("protocolVersion" | "logLevel") => {
            value.as_str().is_some_and(|text| text.len() <= MAX_LABEL_BYTES)
        }
        Some("clientCapabilities") => value.is_object(),
        Some("clientInfo") => value
            .as_object()
            .is_some_and(|info| info.keys().all(|member| CLIENT_INFO_MEMBERS.contains(&member.as_str()))),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::operation_mapping::{server_operation, tool_call_operation};
    use super::*;
    use serde_json::json;

    /// A call with this `_meta`.
    fn operation_with_meta(meta: Value) -> Operation {
        let mut operation = tool_call_operation("files", "pay", Map::new());
        bind_parameters(&mut operation, Map::from_iter([(META_PARAM.to_owned(), meta)]));
        operation
    }

    #[test]
    fn meta_members_are_named_and_bound() {
        let plain = tool_call_operation("files", "pay", Map::new());
        let one = operation_with_meta(json!({ "com.example/mode": "dry-run", "progressToken": 7 }));
        assert_eq!(one.uninspected_parts, ["_meta.com.example/mode"]);
        assert_ne!(one.canonical_json(), plain.canonical_json());
        assert_eq!(one, operation_with_meta(json!({ "progressToken": "p", "com.example/mode": "dry-run" })));
        assert_ne!(
            one.canonical_json(),
            operation_with_meta(json!({ "com.example/mode": "for-real" })).canonical_json()
        );
        for other in [
            json!("a text"),
            json!(null),
            json!({ "Traceparent": "00" }),
            json!({ "traceparent": { "mode": "x" } }),
            json!({ "progressToken": ["x"] }),
            json!({ "baggage": "x".repeat(MAX_LABEL_BYTES + 1) }),
            json!({ "io.modelcontextprotocol/clientInfo": { "name": "x", "mode": "x" } }),
            json!({ "io.modelcontextprotocol/clientCapabilities": "x" }),
            json!({ "io.modelcontextprotocol/related-task": {} }),
        ] {
            let operation = operation_with_meta(other.clone());
            assert!(operation.body_sha256.is_some() && operation.uninspected_parts.len() == 1, "{other}");
        }
    }

    #[test]
    fn attempt_labels_do_not_change_the_operation() {
        let plain = tool_call_operation("files", "pay", Map::new());
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
            assert_eq!(operation_with_meta(meta.clone()), plain, "{meta}");
        }
    }

    #[test]
    fn other_methods_are_bound_to_their_meta_too() {
        let read = |meta: Value| {
            let params = json!({ "uri": "file:///a", "_meta": meta });
            server_operation("files", "resources/read", params.as_object().unwrap())
        };
        let plain = read(json!({ "progressToken": 1 }));
        assert_eq!((&plain.parameters, &plain.body_sha256), (&json!({ "uri": "file:///a" }), &None));
        let (one, other) = (read(json!({ "x/tenant": "a" })), read(json!({ "x/tenant": "b" })));
        assert_eq!(one.uninspected_parts, ["_meta.x/tenant"]);
        assert_ne!(one.canonical_json(), other.canonical_json());
    }
}

//! Messages of an MCP client.

use serde_json::{Value, json};

pub fn initialize_request() -> Value {
    json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "clientInfo": { "name": "test", "version": "1" },
        "capabilities": { "elicitation": {}, "sampling": {}, "roots": {}, "experimental": { "x": {} } } } })
}

pub fn tool_call(tool: &str, arguments: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": { "name": tool, "arguments": arguments } })
}

pub fn tools_list() -> Value {
    json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/list" })
}

/// The message as a client of revision 2026-07-28 sends it.
pub fn as_stateless_revision(mut message: Value) -> Value {
    message["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {} });
    message
}

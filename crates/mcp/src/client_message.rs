//! One JSON-RPC 2.0 message from a client, as MCP allows it: an object, no batch, an id that is a string or an integer, and
//! parameters that are an object.

use crate::error::{JsonRpcError, error_codes};
use crate::json::{fold_case, has_case_duplicates};
use crate::request_id::{MAX_NAME_BYTES, RequestId};
use durward_core::{MCP_METHODS, is_invisible, parse_strict_json};
use serde_json::{Map, Value};

/// Members of `params` that decide what a request does, all ASCII. Many servers match names without case (Go's
/// encoding/json), so these may occur only in this spelling.
const RESERVED_PARAM_NAMES: [&str; 8] =
    ["_meta", "arguments", "inputResponses", "name", "ref", "requestState", "taskId", "uri"];

/// Parameters that say what a method acts on.
const NAMING_PARAMS: [&str; 3] = ["name", "taskId", "uri"];

/// A message that expects a response.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientRequest {
    pub id: RequestId,
    pub method: String,
    pub params: Map<String, Value>,
}

/// A message that expects no response.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientNotification {
    pub method: String,
    pub params: Map<String, Value>,
}

/// A message of a client.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientMessage {
    Request(ClientRequest),
    Notification(ClientNotification),
    /// The response to a request of the server.
    Response {
        id: RequestId,
    },
}

impl ClientMessage {
    /// Parses a whole body.
    pub fn parse(body: &[u8]) -> Result<Self, JsonRpcError> {
        let value = parse_strict_json(body)
            .map_err(|error| JsonRpcError::new(error_codes::PARSE_ERROR, error.to_string()))?;
        let Value::Object(mut members) = value else {
            // Each message of a batch would need a decision, a record and a response of its own. Revision 2025-06-18 removed
            // batches.
            let why = if value.is_array() {
                "batches are not part of this revision of MCP"
            } else {
                "a message is an object"
            };
            return Err(JsonRpcError::new(error_codes::INVALID_REQUEST, why));
        };
        let id = members.get("id").and_then(RequestId::from_value);
        let invalid = |why: &str| JsonRpcError::new(error_codes::INVALID_REQUEST, why).with_id(id.as_ref());
        if members.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return Err(invalid("`jsonrpc` is not \"2.0\""));
        }
        if members.contains_key("id") && id.is_none() {
            return Err(invalid(&format!(
                "`id` is neither a string of at most {MAX_NAME_BYTES} bytes nor an integer of 64 bits"
            )));
        }
        let is_response = members.contains_key("result") || members.contains_key("error");
        let known: &[&str] = if is_response {
            &["jsonrpc", "id", "result", "error"]
        } else {
            &["jsonrpc", "id", "method", "params"]
        };
        // A reader that ignores case would take `Method` for `method`, and keep the last of the two.
        if !members.keys().all(|name| known.contains(&name.as_str())) {
            return Err(invalid(
                "the message has members that JSON-RPC does not know, or those of two kinds of message",
            ));
        }
        if is_response {
            let has_one_outcome = members.contains_key("result") != members.contains_key("error");
            return match id {
                Some(id) if has_one_outcome => Ok(Self::Response { id }),
                _ => Err(invalid("a response has an id and either a result or an error")),
            };
        }
        let method = match members.remove("method") {
            Some(Value::String(method)) if is_method_name(&method) => method,
            Some(_) => {
                return Err(invalid("`method` is not the name of a method: printable ASCII without blanks"));
            }
            None => return Err(invalid("`method` is missing")),
        };
        if let Some(known) = resembled_method(&method) {
            return Err(invalid(&format!(
                "`method` differs from `{known}` only in case or punctuation; send `{known}`"
            )));
        }
        let params = match members.remove("params") {
            Some(Value::Object(params)) => params,
            None => Map::new(),
            Some(_) => {
                return Err(JsonRpcError::new(error_codes::INVALID_PARAMS, "`params` is not an object")
                    .with_id(id.as_ref()));
            }
        };
        // A server that ignores case would execute the `Name` that policy took for an unknown parameter.
        let has_lookalike = params.keys().any(|name| {
            let folded = fold_case(name);
            RESERVED_PARAM_NAMES
                .iter()
                .any(|reserved| folded.eq_ignore_ascii_case(reserved) && name != reserved)
        });
        if has_lookalike || has_case_duplicates(params.keys()) {
            let why = "a member of `params` differs from another or from one of MCP's only in case";
            return Err(JsonRpcError::new(error_codes::INVALID_PARAMS, why).with_id(id.as_ref()));
        }
        if let Some(member) = find_odd_name(&method, &params) {
            let why = format!(
                "`params.{member}` begins or ends with a blank, or has control or invisible characters; send the name that the server lists"
            );
            return Err(JsonRpcError::new(error_codes::INVALID_PARAMS, why).with_id(id.as_ref()));
        }
        // Policy decides requests. A `tools/call` without an id would pass as a notification, and servers might still execute it.
        if method.starts_with("notifications/") == id.is_some() {
            return Err(invalid("a request has an id, and a notification has none"));
        }
        Ok(match id {
            Some(id) => Self::Request(ClientRequest { id, method, params }),
            None => Self::Notification(ClientNotification { method, params }),
        })
    }

    /// The id that the response must have.
    pub fn request_id(&self) -> Option<&RequestId> {
        match self {
            Self::Request(request) => Some(&request.id),
            Self::Notification(_) | Self::Response { .. } => None,
        }
    }
}

impl ClientRequest {
    /// The tool and the arguments of a `tools/call`.
    pub fn tool_call(&self) -> Result<(&str, Map<String, Value>), JsonRpcError> {
        let invalid = |why: &str| JsonRpcError::new(error_codes::INVALID_PARAMS, why).with_id(Some(&self.id));
        let name = self.name_param("name").ok_or_else(|| invalid("`params.name` does not name a tool"))?;
        let arguments = match self.params.get("arguments") {
            Some(Value::Object(arguments)) => arguments.clone(),
            None | Some(Value::Null) => Map::new(),
            Some(_) => return Err(invalid("`params.arguments` is not an object")),
        };
        if has_case_duplicates(arguments.keys()) {
            return Err(invalid("two arguments differ only in the case of their names"));
        }
        Ok((name, arguments))
    }

    /// A parameter that is a name: a non-empty string of limited length that is as it looks.
    pub(crate) fn name_param(&self, member: &str) -> Option<&str> {
        self.params
            .get(member)?
            .as_str()
            .filter(|name| !name.is_empty() && name.len() <= MAX_NAME_BYTES && is_unambiguous_name(name))
    }
}

/// Returns true if a name is what a person reads and what a reader that trims keeps: no invisible or control characters, no blanks
/// around it. MCP recommends ASCII letters, digits, `_`, `-`, `.` and `/` for tools, and servers and SDKs accept others (SEP-986:
/// SHOULD), so visible characters pass.
pub(crate) fn is_unambiguous_name(name: &str) -> bool {
    name.trim().len() == name.len() && !name.chars().any(is_invisible)
}

/// The parameter of a method of MCP that names what it acts on, and could be read as another name. Methods of extensions may use
/// these parameters for text.
fn find_odd_name(method: &str, params: &Map<String, Value>) -> Option<&'static str> {
    let is_odd = |member: &str| {
        params.get(member).and_then(Value::as_str).is_some_and(|name| !is_unambiguous_name(name))
    };
    NAMING_PARAMS.into_iter().find(|member| MCP_METHODS.contains(&method) && is_odd(member))
}

/// The method of MCP that a server could take this one for, if it ignores case, separators or empty segments (`Tools/Call`,
/// `tools//call`). Policies that name the method would not see it.
fn resembled_method(method: &str) -> Option<&'static str> {
    let fold = |text: &str| {
        text.bytes()
            .filter(u8::is_ascii_alphanumeric)
            .map(|byte| byte.to_ascii_lowercase())
            .collect::<Vec<_>>()
    };
    let folded = fold(method);
    MCP_METHODS.into_iter().find(|known| *known != method && fold(known) == folded)
}

fn is_method_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn parse_message(value: &Value) -> Result<ClientMessage, JsonRpcError> {
        ClientMessage::parse(value.to_string().as_bytes())
    }

    #[test]
    fn distinguishes_requests_notifications_and_responses() {
        let call = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": { "name": "x", "arguments": { "a": 1 } } });
        let Ok(ClientMessage::Request(request)) = parse_message(&call) else { panic!("a request") };
        assert_eq!(request.id, RequestId::Number(7));
        let (name, arguments) = request.tool_call().unwrap();
        assert_eq!((name, &arguments["a"]), ("x", &json!(1)));
        let note = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        assert!(matches!(parse_message(&note), Ok(ClientMessage::Notification(_))));
        for response in [
            json!({ "jsonrpc": "2.0", "id": "a", "result": {} }),
            json!({ "jsonrpc": "2.0", "id": "a", "error": { "code": 1, "message": "x" } }),
        ] {
            assert_eq!(
                parse_message(&response),
                Ok(ClientMessage::Response { id: RequestId::Text("a".to_owned()) })
            );
        }
    }

    #[test]
    fn refuses_bodies_that_are_not_one_message() {
        for (value, code) in [
            (json!([{ "jsonrpc": "2.0", "id": 1, "method": "ping" }]), error_codes::INVALID_REQUEST),
            (json!([]), error_codes::INVALID_REQUEST),
            (json!("ping"), error_codes::INVALID_REQUEST),
            (json!({ "id": 1, "method": "ping" }), error_codes::INVALID_REQUEST),
            (json!({ "jsonrpc": 2.0, "id": 1, "method": "ping" }), error_codes::INVALID_REQUEST),
            (json!({ "jsonrpc": "2.0", "id": null, "method": "ping" }), error_codes::INVALID_REQUEST),
            (json!({ "jsonrpc": "2.0", "id": 1.5, "method": "ping" }), error_codes::INVALID_REQUEST),
            (json!({ "jsonrpc": "2.0", "id": u64::MAX, "method": "ping" }), error_codes::INVALID_REQUEST),
            (json!({ "jsonrpc": "2.0", "id": [1], "method": "ping" }), error_codes::INVALID_REQUEST),
            (
                json!({ "jsonrpc": "2.0", "id": "x".repeat(2_000), "method": "ping" }),
                error_codes::INVALID_REQUEST,
            ),
            (json!({ "jsonrpc": "2.0", "id": 1 }), error_codes::INVALID_REQUEST),
            (json!({ "jsonrpc": "2.0", "id": 1, "method": 7 }), error_codes::INVALID_REQUEST),
            (json!({ "jsonrpc": "2.0", "id": 1, "method": "" }), error_codes::INVALID_REQUEST),
            (json!({ "jsonrpc": "2.0", "id": 1, "method": "a b" }), error_codes::INVALID_REQUEST),
            (json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call " }), error_codes::INVALID_REQUEST),
            (
                json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/c\u{200b}all" }),
                error_codes::INVALID_REQUEST,
            ),
            (
                json!({ "jsonrpc": "2.0", "id": 1, "method": "ping", "Method": "tools/call" }),
                error_codes::INVALID_REQUEST,
            ),
            (
                json!({ "jsonrpc": "2.0", "id": 1, "method": "ping", "result": {} }),
                error_codes::INVALID_REQUEST,
            ),
            (json!({ "jsonrpc": "2.0", "id": 1, "result": {}, "error": {} }), error_codes::INVALID_REQUEST),
            (json!({ "jsonrpc": "2.0", "result": {} }), error_codes::INVALID_REQUEST),
            (
                json!({ "jsonrpc": "2.0", "method": "tools/call", "params": { "name": "x" } }),
                error_codes::INVALID_REQUEST,
            ),
            (
                json!({ "jsonrpc": "2.0", "id": 1, "method": "notifications/cancelled" }),
                error_codes::INVALID_REQUEST,
            ),
            (
                json!({ "jsonrpc": "2.0", "id": 1, "method": "ping", "params": [] }),
                error_codes::INVALID_PARAMS,
            ),
            (
                json!({ "jsonrpc": "2.0", "id": 1, "method": "ping", "params": null }),
                error_codes::INVALID_PARAMS,
            ),
        ] {
            assert_eq!(parse_message(&value).unwrap_err().code, code, "{value}");
        }
        assert_eq!(ClientMessage::parse(b"{").unwrap_err().code, error_codes::PARSE_ERROR);
    }

    #[test]
    fn a_method_that_resembles_a_known_one_is_refused_and_named() {
        for (method, known) in [
            ("Tools/Call", "tools/call"),
            ("tools//call", "tools/call"),
            ("/tools/call/", "tools/call"),
            ("tools.call", "tools/call"),
            ("tools\\call", "tools/call"),
            ("TOOLS/LIST", "tools/list"),
            ("logging/setlevel", "logging/setLevel"),
            ("resources/templates//list", "resources/templates/list"),
            ("server-discover", "server/discover"),
        ] {
            let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": { "name": "x" } });
            let error = parse_message(&call).unwrap_err();
            assert_eq!((error.code, error.id), (error_codes::INVALID_REQUEST, Some(RequestId::Number(1))));
            assert!(error.message.contains(&format!("send `{known}`")), "{}", error.message);
        }
        let note = json!({ "jsonrpc": "2.0", "method": "notifications/Cancelled" });
        assert_eq!(parse_message(&note).unwrap_err().code, error_codes::INVALID_REQUEST);
        // Methods of extensions pass to the decision, and so do those of MCP.
        for method in
            MCP_METHODS.into_iter().chain(["ui/initialize", "com.example/tools/call", "tools/call2"])
        {
            let mut message = json!({ "jsonrpc": "2.0", "id": 1, "method": method });
            if method.starts_with("notifications/") {
                message.as_object_mut().unwrap().remove("id");
            }
            assert!(parse_message(&message).is_ok(), "{method}");
        }
    }

    #[test]
    fn a_name_that_could_be_read_as_another_is_refused() {
        for name in [
            "delete ",
            " delete",
            "delete\u{a0}",
            "delete\t",
            "del\u{200b}ete",
            "\u{feff}delete",
            "\u{202e}eteled",
            "del\u{ad}ete",
            "delete\u{0}",
            "delete\u{e0041}",
        ] {
            for (method, member) in [
                ("tools/call", "name"),
                ("prompts/get", "name"),
                ("resources/read", "uri"),
                ("resources/subscribe", "uri"),
                ("tasks/get", "taskId"),
            ] {
                let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": { member: name } });
                let error = parse_message(&call).unwrap_err();
                assert_eq!((error.code, error.id), (error_codes::INVALID_PARAMS, Some(RequestId::Number(1))));
                assert!(error.message.contains(&format!("`params.{member}`")), "{}", error.message);
            }
        }
        // Names outside of the recommended alphabet that servers have.
        for name in ["read_file", "a.b/c-d", "list users", "größe", "検索", "admin:tools", "x"] {
            let call =
                json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": name } });
            let Ok(ClientMessage::Request(request)) = parse_message(&call) else { panic!("{name}") };
            assert_eq!(request.tool_call().unwrap().0, name);
        }
        let extension =
            json!({ "jsonrpc": "2.0", "id": 1, "method": "ui/rename", "params": { "name": "new name " } });
        assert!(parse_message(&extension).is_ok());
    }

    #[test]
    fn refuses_names_that_differ_only_in_case() {
        for params in [
            json!({ "name": "safe", "Name": "other" }),
            json!({ "Name": "other" }),
            json!({ "name": "safe", "Arguments": { "path": "/etc" } }),
            json!({ "name": "safe", "argument\u{17f}": {} }),
            json!({ "a": 1, "A": 2 }),
        ] {
            let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
            let error = parse_message(&call).unwrap_err();
            assert_eq!(
                (error.code, error.id),
                (error_codes::INVALID_PARAMS, Some(RequestId::Number(1))),
                "{call}"
            );
        }
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": { "name": "safe", "arguments": { "path": "/srv", "Path": "/etc" } } });
        let Ok(ClientMessage::Request(request)) = parse_message(&call) else { panic!("a request") };
        assert!(request.tool_call().is_err());
    }

    #[test]
    fn a_call_names_one_tool_with_an_object_of_arguments() {
        let tool = |params: Value| {
            let Ok(ClientMessage::Request(request)) = parse_message(
                &json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }),
            ) else {
                panic!("a request")
            };
            request.tool_call().map(|(name, arguments)| (name.to_owned(), arguments.len()))
        };
        assert_eq!(tool(json!({ "name": "a" })), Ok(("a".to_owned(), 0)));
        assert_eq!(tool(json!({ "name": "a", "arguments": null })), Ok(("a".to_owned(), 0)));
        for wrong in [
            json!({}),
            json!({ "name": "" }),
            json!({ "name": 7 }),
            json!({ "name": "a".repeat(2_000) }),
            json!({ "name": "a", "arguments": [] }),
            json!({ "name": "a", "arguments": "{}" }),
        ] {
            assert!(tool(wrong.clone()).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(body: Vec<u8>) {
            let _either = ClientMessage::parse(&body);
        }

        #[test]
        fn an_id_comes_back_as_it_was(number: i64, text in ".{0,50}") {
            for id in [RequestId::Number(number), RequestId::Text(text)] {
                let message = json!({ "jsonrpc": "2.0", "id": id.to_value(), "method": "ping" });
                let read = parse_message(&message).unwrap();
                prop_assert_eq!(read.request_id(), Some(&id));
            }
        }
    }
}

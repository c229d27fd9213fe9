//! Messages of a server: responses, notifications, and requests of its own.
//!
//! Promise: a response is passed on byte for byte, with three exceptions. A list of tools is cut to those that the caller may
//! call, `cacheScope` becomes private, because the list of one caller must not reach another through a shared cache, and an id
//! that is written as `1.0` becomes `1`, because a client may compare it with its own id as an integer.

use crate::client_message::is_unambiguous_name;
use crate::json::RawObject;
use crate::request_id::RequestId;
use durward_core::parse_strict_json;
use serde_json::value::RawValue;

/// The response that the gateway waits for.
#[derive(Debug, Clone)]
pub struct ExpectedResponse {
    pub id: RequestId,
    /// The request was `tools/list`.
    pub is_tools_list: bool,
}

/// A message of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerMessage {
    Response(ServerResponse),
    Notification {
        text: String,
    },
    /// A request to the client.
    Request {
        method: String,
    },
}

/// The response to the request, filtered for the caller but not yet masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerResponse {
    pub text: String,
    /// The code, if it is a JSON-RPC error.
    pub error_code: Option<i64>,
    /// The tool reports a failure (`isError`).
    pub is_tool_error: bool,
}

/// The reasons for which a message of a server is refused. The texts name the fault, never the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ServerMessageError {
    #[error("the message is not UTF-8")]
    InvalidUtf8,
    #[error("the message is not a JSON object, or has a member twice")]
    InvalidObject,
    #[error("the message is not JSON-RPC 2.0")]
    NotJsonRpc,
    #[error("the message is a request and a response at once")]
    RequestAndResponse,
    #[error("the method is not a string")]
    InvalidMethod,
    #[error("the response has neither or both of result and error")]
    InvalidResponse,
    #[error("the response does not belong to this request")]
    UnexpectedId,
    #[error("the result is not an object, or has a member twice")]
    InvalidResult,
    #[error("the result has no list of tools")]
    InvalidTools,
    #[error("the error is not an object with a code")]
    InvalidError,
}

/// Parses one message. `may_call` decides by its name whether a tool is listed. With `lenient`, an error response may have any
/// id: servers that refuse a request before they read it respond so, with a status of 400 or more.
pub fn parse_server_message(
    text: &[u8],
    expected: &ExpectedResponse,
    lenient: bool,
    may_call: &mut dyn FnMut(&str) -> bool,
) -> Result<ServerMessage, ServerMessageError> {
    let text = std::str::from_utf8(text).map_err(|_error| ServerMessageError::InvalidUtf8)?;
    let members = RawObject::parse(text.trim()).ok_or(ServerMessageError::InvalidObject)?;
    if members.get_string("jsonrpc").as_deref() != Some("2.0") {
        return Err(ServerMessageError::NotJsonRpc);
    }
    let (result, error) = (members.get("result"), members.get("error"));
    if members.get("method").is_some() {
        if result.is_some() || error.is_some() {
            return Err(ServerMessageError::RequestAndResponse);
        }
        let method = members.get_string("method").ok_or(ServerMessageError::InvalidMethod)?;
        return Ok(match members.get("id") {
            // Also with the id `null`, which MCP does not allow: a client could still take it for a request.
            Some(_) => ServerMessage::Request { method },
            None => ServerMessage::Notification { text: members.encode_replacing(&[]) },
        });
    }
    // By the reader of the client's messages, so that an id is one id in both however its number is written.
    let id = members.get("id").and_then(|raw| parse_strict_json(raw.get().as_bytes()).ok());
    let id = id.as_ref().and_then(RequestId::from_value);
    let has_expected_id = id.as_ref() == Some(&expected.id);
    match (result, error) {
        (Some(result), None) if has_expected_id => {
            let result = filter_result(result, expected, may_call)?;
            let mut replaced = vec![("result", result.text.as_str())];
            let expected_id = expected.id.to_value().to_string();
            if matches!(expected.id, RequestId::Number(_)) {
                replaced.push(("id", &expected_id));
            }
            Ok(ServerMessage::Response(ServerResponse {
                text: members.encode_replacing(&replaced),
                error_code: None,
                is_tool_error: result.is_tool_error,
            }))
        }
        (None, Some(error)) if has_expected_id || lenient => {
            let code = RawObject::parse(error.get())
                .ok_or(ServerMessageError::InvalidError)?
                .get("code")
                .map(RawValue::get);
            let code = code.and_then(|code| code.parse().ok()).ok_or(ServerMessageError::InvalidError)?;
            let text =
                // With the id of the request: a lenient error may have another or none, and the client would wait for its own.
                format!(r#"{{"jsonrpc":"2.0","id":{},"error":{}}}"#, expected.id.to_value(), error.get());
            Ok(ServerMessage::Response(ServerResponse { text, error_code: Some(code), is_tool_error: false }))
        }
        (Some(_), Some(_)) | (None, None) => Err(ServerMessageError::InvalidResponse),
        _ => Err(ServerMessageError::UnexpectedId),
    }
}

struct FilteredResult {
    text: String,
    is_tool_error: bool,
}

fn filter_result(
    result: &RawValue,
    expected: &ExpectedResponse,
    may_call: &mut dyn FnMut(&str) -> bool,
) -> Result<FilteredResult, ServerMessageError> {
    let members = RawObject::parse(result.get()).ok_or(ServerMessageError::InvalidResult)?;
    let mut replaced = Vec::new();
    let tools;
    if expected.is_tools_list {
        tools = filter_tools(members.get("tools").ok_or(ServerMessageError::InvalidTools)?, may_call)?;
        replaced.push(("tools", tools.as_str()));
    }
    // Another caller may see other tools.
    if members.get("cacheScope").is_some() {
        replaced.push(("cacheScope", "\"private\""));
    }
    let failed = members.get("isError").is_some_and(|raw| raw.get() == "true");
    Ok(FilteredResult { text: members.encode_replacing(&replaced), is_tool_error: failed })
}

/// The tools that the caller may call, each as written. A tool without a valid name is not listed.
fn filter_tools(
    tools: &RawValue,
    may_call: &mut dyn FnMut(&str) -> bool,
) -> Result<String, ServerMessageError> {
    let tools: Vec<&RawValue> =
        serde_json::from_str(tools.get()).map_err(|_error| ServerMessageError::InvalidTools)?;
    // A tool with a name given twice could be listed under one and called by the other.
    let kept: Vec<&str> = tools
        .into_iter()
        .filter(|tool| {
            RawObject::parse(tool.get())
                .and_then(|tool| tool.get_string("name"))
                .is_some_and(|name| is_unambiguous_name(&name) && may_call(&name))
        })
        .map(RawValue::get)
        .collect();
    Ok(format!("[{}]", kept.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn parse_as(text: &str, lists_tools: bool, lenient: bool) -> Result<ServerMessage, ServerMessageError> {
        let expected = ExpectedResponse { id: RequestId::Number(1), is_tools_list: lists_tools };
        parse_server_message(text.as_bytes(), &expected, lenient, &mut |name| name == "read")
    }

    fn parse_response(text: &str, lists_tools: bool) -> ServerResponse {
        let Ok(ServerMessage::Response(response)) = parse_as(text, lists_tools, false) else {
            panic!("{text}")
        };
        response
    }

    #[test]
    fn a_tool_that_no_client_may_call_by_its_name_is_not_listed() {
        let text = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"read"},{"name":"read "},{"name":"re\u200bad"}]}}"#;
        let expected = ExpectedResponse { id: RequestId::Number(1), is_tools_list: true };
        let listed = parse_server_message(text.as_bytes(), &expected, false, &mut |_| true);
        let Ok(ServerMessage::Response(listed)) = listed else { panic!("a response") };
        assert!(listed.text.contains(r#""tools":[{"name":"read"}]"#), "{}", listed.text);
    }

    #[test]
    fn lists_only_callable_tools_and_keeps_every_other_byte() {
        let text = r#"{"jsonrpc":"2.0","id":1,"result":{"z":[1.0 ],"tools":[{"name":"read","x-own": {"b":1,"a":2e0}},
            {"name":"write"},{"name":7},{"title":"read"},"read",{"name":"read","Name":"write"},{"name":"re\u0061d"}],"nextCursor":"c"}}"#;
        assert_eq!(
            parse_response(text, true).text,
            r#"{"jsonrpc":"2.0","id":1,"result":{"z":[1.0 ],"tools":[{"name":"read","x-own": {"b":1,"a":2e0}},{"name":"re\u0061d"}],"nextCursor":"c"}}"#
        );
        for wrong in [
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":{}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[],"Tools":[{"name":"write"}]}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]},"Result":{"tools":[{"name":"write"}]}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":[]}"#,
        ] {
            assert!(parse_as(wrong, true, false).is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_response_may_be_cached_for_several_callers() {
        let text =
            r#"{"jsonrpc":"2.0","id":1,"result":{"ttlMs":5,"cacheScope":"public","resultType":"complete"}}"#;
        assert_eq!(parse_response(text, false).text, text.replace("public", "private"));
    }

    #[test]
    fn only_the_response_to_the_request_is_accepted() {
        for wrong in [
            r#"{"jsonrpc":"2.0","id":2,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":"1","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1.5,"result":{}}"#,
            r#"{"jsonrpc":"2.0","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#,
            r#"{"id":1,"result":{}}"#,
            r#"[{"jsonrpc":"2.0","id":1,"result":{}}]"#,
            r#"{"jsonrpc":"2.0","id":2,"error":{"code":1,"message":"x"}}"#,
        ] {
            assert!(parse_as(wrong, false, false).is_err(), "{wrong}");
        }
        let refused = r#"{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"x"}}"#;
        let Ok(ServerMessage::Response(response)) = parse_as(refused, false, true) else {
            panic!("an error")
        };
        assert_eq!(response.text, r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32600,"message":"x"}}"#);
        assert_eq!(response.error_code, Some(-32600));
    }

    #[test]
    fn an_id_is_one_number_however_it_is_written() {
        for id in ["1", "1.0", "10e-1"] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"n":1.0}}}}"#);
            assert_eq!(parse_response(&text, false).text, r#"{"jsonrpc":"2.0","id":1,"result":{"n":1.0}}"#);
        }
    }

    #[test]
    fn recognizes_a_tool_error_and_a_server_request() {
        assert!(
            parse_response(r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":true}}"#, false)
                .is_tool_error
        );
        let request = parse_as(r#"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#, false, false);
        assert_eq!(request, Ok(ServerMessage::Request { method: "roots/list".to_owned() }));
        let note = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}"#;
        assert_eq!(parse_as(note, false, false), Ok(ServerMessage::Notification { text: note.to_owned() }));
    }

    proptest! {
        #[test]
        fn never_lists_a_tool_that_may_not_be_called(names in proptest::collection::vec("read|write|Read|rea d", 0..6)) {
            let tools: Vec<Value> = names.iter().map(|name| serde_json::json!({ "name": name })).collect();
            let text = serde_json::json!({ "jsonrpc": "2.0", "id": 1, "result": { "tools": tools } }).to_string();
            let response: Value = serde_json::from_str(&parse_response(&text, true).text).unwrap();
            let listed = response["result"]["tools"].as_array().unwrap();
            prop_assert_eq!(listed.len(), names.iter().filter(|name| *name == "read").count());
            prop_assert!(listed.iter().all(|tool| tool["name"] == "read"));
        }

        #[test]
        fn never_panics_on_almost_messages(
            members in proptest::collection::vec(
                ("jsonrpc|id|method|result|error|tools|code|isError|cacheScope", "\"2.0\"|1|null|true|\\{\\}|\\[\\]|\\[\\{\"name\":\"read\"\\}\\]|\\{\"code\":1\\}|\\{\"tools\":\\[1\\]\\}|\\{|,"),
                0..6,
            ),
        ) {
            let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            let text = format!("{{{}}}", members.join(","));
            let expected = ExpectedResponse { id: RequestId::Number(1), is_tools_list: true };
            if let Ok(ServerMessage::Response(response)) = parse_server_message(text.as_bytes(), &expected, true, &mut |_name| true) {
                let response: Value = serde_json::from_str(&response.text).unwrap();
                prop_assert!(response["result"].is_object() != response["error"].is_object());
            }
        }
    }
}

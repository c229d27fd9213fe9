//! What a server sends: responses, notifications, requests of its own. An answer is passed on as it is written but for two
//! things: a list of tools is cut to those the caller may call, and nothing stays fit for a cache that callers share.

use crate::client_message::RequestId;
use crate::json::RawObject;
use serde_json::Value;
use serde_json::value::RawValue;

/// The request that is waited for.
#[derive(Debug, Clone)]
pub struct ExpectedResponse {
    pub id: RequestId,
    /// It is `tools/list`.
    pub is_tools_list: bool,
}

/// One message of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerMessage {
    Response(ServerResponse),
    Notification {
        text: String,
    },
    /// The server asks the client something.
    Request {
        method: String,
    },
}

/// The answer to the request, as the caller may have it (but for masking).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerResponse {
    pub text: String,
    /// The code of a JSON-RPC error.
    pub error_code: Option<i64>,
    /// A tool that says it failed (`isError`).
    pub is_tool_error: bool,
}

/// Reads one message. `may_call` says of a tool's name whether it may be listed. The error says what is wrong, never what
/// was read. `lenient` lets an error response be one to the request whatever its id: servers that refuse a request before
/// they read it answer so with a status of 400 or more.
pub fn parse_server_message(
    text: &[u8],
    expected: &ExpectedResponse,
    lenient: bool,
    may_call: &mut dyn FnMut(&str) -> bool,
) -> Result<ServerMessage, &'static str> {
    let text = std::str::from_utf8(text).map_err(|_error| "the message is not UTF-8")?;
    let members =
        RawObject::parse(text.trim()).ok_or("the message is not a JSON object, or has a member twice")?;
    if members.get_string("jsonrpc").as_deref() != Some("2.0") {
        return Err("the message is not JSON-RPC 2.0");
    }
    let (result, error) = (members.get("result"), members.get("error"));
    if members.get("method").is_some() {
        if result.is_some() || error.is_some() {
            return Err("the message is a request and a response at once");
        }
        let method = members.get_string("method").ok_or("the method is not a text")?;
        return Ok(match members.get("id") {
            Some(_) => ServerMessage::Request { method },
            None => ServerMessage::Notification { text: members.encode_replacing(&[]) },
        });
    }
    let id = members.get("id").and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    let id = id.as_ref().and_then(RequestId::from_value);
    let own = id.as_ref() == Some(&expected.id);
    match (result, error) {
        (Some(result), None) if own => {
            let result = filter_result(result, expected, may_call)?;
            Ok(ServerMessage::Response(ServerResponse {
                text: members.encode_replacing(&[("result", &result.text)]),
                error_code: None,
                is_tool_error: result.is_tool_error,
            }))
        }
        (None, Some(error)) if own || lenient => {
            let code = RawObject::parse(error.get())
                .ok_or("the error is not an object")?
                .get("code")
                .map(RawValue::get);
            let code = code.and_then(|code| code.parse().ok()).ok_or("the error has no code")?;
            let text =
                format!(r#"{{"jsonrpc":"2.0","id":{},"error":{}}}"#, expected.id.to_value(), error.get());
            Ok(ServerMessage::Response(ServerResponse { text, error_code: Some(code), is_tool_error: false }))
        }
        (Some(_), Some(_)) | (None, None) => Err("the response has neither or both of result and error"),
        _ => Err("the response is not the one to this request"),
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
) -> Result<FilteredResult, &'static str> {
    let members =
        RawObject::parse(result.get()).ok_or("the result is not an object, or has a member twice")?;
    let mut replaced = Vec::new();
    let tools;
    if expected.is_tools_list {
        tools = filter_tools(members.get("tools").ok_or("the result has no list of tools")?, may_call)?;
        replaced.push(("tools", tools.as_str()));
    }
    // What one caller may see is no answer for another.
    if members.get("cacheScope").is_some() {
        replaced.push(("cacheScope", "\"private\""));
    }
    let failed = members.get("isError").is_some_and(|raw| raw.get() == "true");
    Ok(FilteredResult { text: members.encode_replacing(&replaced), is_tool_error: failed })
}

/// The tools that may be called, each as it is written. One without a name that can be read is not listed.
fn filter_tools(tools: &RawValue, may_call: &mut dyn FnMut(&str) -> bool) -> Result<String, &'static str> {
    let tools: Vec<&RawValue> =
        serde_json::from_str(tools.get()).map_err(|_error| "the list of tools is not a list")?;
    let kept: Vec<&str> = tools
        .into_iter()
        .filter(|tool| {
            RawObject::parse(tool.get())
                .and_then(|tool| tool.get_string("name"))
                .is_some_and(|name| may_call(&name))
        })
        .map(RawValue::get)
        .collect();
    Ok(format!("[{}]", kept.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse_as(text: &str, lists_tools: bool, lenient: bool) -> Result<ServerMessage, &'static str> {
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
    fn lists_only_what_may_be_called_and_keeps_every_other_byte() {
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
    fn nothing_stays_fit_for_a_shared_cache() {
        let text =
            r#"{"jsonrpc":"2.0","id":1,"result":{"ttlMs":5,"cacheScope":"public","resultType":"complete"}}"#;
        assert_eq!(parse_response(text, false).text, text.replace("public", "private"));
    }

    #[test]
    fn only_the_response_to_the_request_is_accepted() {
        for wrong in [
            r#"{"jsonrpc":"2.0","id":2,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":"1","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1.0,"result":{}}"#,
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
    fn recognizes_a_tool_error_and_a_server_request() {
        assert!(
            parse_response(r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":true}}"#, false)
                .is_tool_error
        );
        let asked = parse_as(r#"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#, false, false);
        assert_eq!(asked, Ok(ServerMessage::Request { method: "roots/list".to_owned() }));
        let note = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}"#;
        assert_eq!(parse_as(note, false, false), Ok(ServerMessage::Notification { text: note.to_owned() }));
    }

    proptest! {
        #[test]
        fn never_lists_a_tool_that_may_not_be_called(names in proptest::collection::vec("read|write|Read|rea d", 0..6)) {
            let tools: Vec<Value> = names.iter().map(|name| serde_json::json!({ "name": name })).collect();
            let text = serde_json::json!({ "jsonrpc": "2.0", "id": 1, "result": { "tools": tools } }).to_string();
            let answer: Value = serde_json::from_str(&parse_response(&text, true).text).unwrap();
            let listed = answer["result"]["tools"].as_array().unwrap();
            prop_assert_eq!(listed.len(), names.iter().filter(|name| *name == "read").count());
            prop_assert!(listed.iter().all(|tool| tool["name"] == "read"));
        }

        #[test]
        fn never_panics(text: Vec<u8>) {
            let expected = ExpectedResponse { id: RequestId::Number(1), is_tools_list: true };
            let _either = parse_server_message(&text, &expected, true, &mut |_name| true);
        }
    }
}

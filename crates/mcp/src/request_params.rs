//! Capabilities and options that a client declares with a request: URL elicitation, progress, and the state of an earlier
//! response.
//!
//! Promise: they only choose how the client is notified. They never widen what it may do.

use crate::client_message::ClientRequest;
use crate::headers::META_CLIENT_CAPABILITIES;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Methods whose result may be `input_required` (MCP 2026-07-28).
const INPUT_REQUIRED_METHODS: [&str; 3] = ["tools/call", "prompts/get", "resources/read"];
/// The parameters with which a client continues after `input_required`.
const REQUEST_STATE_PARAM: &str = "requestState";
const INPUT_RESPONSES_PARAM: &str = "inputResponses";
/// Longest progress token, in bytes.
const MAX_PROGRESS_TOKEN_BYTES: usize = 256;

impl ClientRequest {
    /// Returns true if the result may be `input_required` in 2026-07-28.
    pub fn may_require_input(&self) -> bool {
        INPUT_REQUIRED_METHODS.contains(&self.method.as_str())
    }

    /// Returns true if the client declares URL elicitation: in the `_meta` of a modern request, or in an `initialize`.
    pub fn supports_url_elicitation(&self) -> bool {
        let capabilities = match self.method.as_str() {
            "initialize" => self.params.get("capabilities"),
            _ => self.params.get("_meta").and_then(|meta| meta.get(META_CLIENT_CAPABILITIES)),
        };
        let url = capabilities.and_then(|all| all.get("elicitation")?.get("url"));
        url.is_some_and(Value::is_object)
    }

    /// The token for progress notifications, if the client wants them.
    pub fn progress_token(&self) -> Option<&Value> {
        let token = self.params.get("_meta")?.get("progressToken")?;
        let is_valid = match token {
            Value::String(text) => text.len() <= MAX_PROGRESS_TOKEN_BYTES,
            Value::Number(number) => number.is_i64() || number.is_u64(),
            _ => false,
        };
        is_valid.then_some(token)
    }

    /// The state that the client returns from an earlier `input_required` result.
    pub fn request_state(&self) -> Option<&str> {
        self.params.get(REQUEST_STATE_PARAM)?.as_str()
    }

    /// Returns true if the request continues after an `input_required` result.
    pub fn is_input_retry(&self) -> bool {
        self.params.contains_key(REQUEST_STATE_PARAM) || self.params.contains_key(INPUT_RESPONSES_PARAM)
    }

    /// Restores the original request, before the `input_required` result.
    pub fn remove_input_responses(&mut self) {
        self.params.remove(REQUEST_STATE_PARAM);
        self.params.remove(INPUT_RESPONSES_PARAM);
    }

    /// Drops the parameters to free their memory, but keeps what [`Self::progress_token`] and [`Self::is_input_retry`] read.
    pub fn discard_params(&mut self) {
        let mut kept = Map::new();
        if let Some(token) = self.progress_token() {
            kept.insert("_meta".to_owned(), json!({ "progressToken": token }));
        }
        if self.is_input_retry() {
            kept.insert(INPUT_RESPONSES_PARAM.to_owned(), Value::Null);
        }
        self.params = kept;
    }

    /// Encodes the request.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Borrows the parameters, which `json!` would copy.
        #[derive(Serialize)]
        struct EncodedRequest<'a> {
            jsonrpc: &'a str,
            id: Value,
            method: &'a str,
            params: &'a Map<String, Value>,
        }
        let request = EncodedRequest {
            jsonrpc: "2.0",
            id: self.id.to_value(),
            method: &self.method,
            params: &self.params,
        };
        // Encoding a tree of JSON values cannot fail. If it did, a server would refuse the empty body.
        serde_json::to_vec(&request).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use crate::client_message::{ClientMessage, ClientRequest};
    use serde_json::{Value, json};

    fn parse_request(method: &str, params: &Value) -> ClientRequest {
        let message = json!({ "jsonrpc": "2.0", "id": "a\"b", "method": method, "params": params });
        let Ok(ClientMessage::Request(request)) = ClientMessage::parse(message.to_string().as_bytes()) else {
            panic!()
        };
        request
    }

    #[test]
    fn only_a_declared_url_mode_counts() {
        for (elicitation, opens) in [
            (json!({ "url": {} }), true),
            (json!({ "form": {}, "url": { "x": 1 } }), true),
            (json!({}), false),
            (json!({ "form": {} }), false),
            (json!({ "url": true }), false),
            (json!({ "url": null }), false),
            (json!("url"), false),
        ] {
            let capabilities = json!({ "elicitation": elicitation });
            let meta = json!({ "_meta": { "io.modelcontextprotocol/clientCapabilities": capabilities } });
            assert_eq!(parse_request("tools/call", &meta).supports_url_elicitation(), opens, "{elicitation}");
            let hello = json!({ "capabilities": capabilities });
            assert_eq!(
                parse_request("initialize", &hello).supports_url_elicitation(),
                opens,
                "{elicitation}"
            );
            assert!(!parse_request("tools/call", &hello).supports_url_elicitation());
        }
        assert!(!parse_request("tools/call", &json!({})).supports_url_elicitation());
    }

    #[test]
    fn a_progress_token_is_a_string_or_an_integer() {
        for (token, taken) in [
            (json!("t"), true),
            (json!(7), true),
            (json!(-7), true),
            (json!(1.5), false),
            (json!(true), false),
            (json!([1]), false),
            (json!("t".repeat(300)), false),
        ] {
            let call = parse_request("tools/call", &json!({ "_meta": { "progressToken": token } }));
            assert_eq!(call.progress_token(), taken.then_some(&token));
        }
    }

    #[test]
    fn a_message_round_trips_except_for_the_input_responses() {
        let params =
            json!({ "name": "x", "arguments": { "n": 1.5, "t": "\u{1}\"" }, "_meta": { "a": null } });
        let mut resumed = params.clone();
        resumed["requestState"] = json!("s");
        resumed["inputResponses"] = json!({ "k": { "action": "accept" } });
        let mut again = parse_request("tools/call", &resumed);
        assert!(again.is_input_retry() && again.request_state() == Some("s"));
        again.remove_input_responses();
        assert!(!again.is_input_retry() && again.request_state().is_none());
        assert_eq!(
            ClientMessage::parse(&again.to_bytes()),
            Ok(ClientMessage::Request(parse_request("tools/call", &params)))
        );
    }
}

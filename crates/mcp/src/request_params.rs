//! What a client says of itself with a request: that it can send its person to a URL, and by which token it wants to hear of
//! progress. Its word widens nothing: it only chooses the way in which the client is told something.

use crate::client_message::ClientRequest;
use crate::headers::META_CLIENT_CAPABILITIES;
use serde_json::{Map, Value, json};

/// Methods that may be answered with a question to the client (2026-07-28).
const INPUT_REQUIRED_METHODS: [&str; 3] = ["tools/call", "prompts/get", "resources/read"];
/// What a client sends back with its answers.
const REQUEST_STATE_PARAM: &str = "requestState";
const INPUT_RESPONSES_PARAM: &str = "inputResponses";
/// Longest progress token, in bytes.
const MAX_PROGRESS_TOKEN_BYTES: usize = 256;

impl ClientRequest {
    /// Whether the answer may be `input_required` in 2026-07-28.
    pub fn may_require_input(&self) -> bool {
        INPUT_REQUIRED_METHODS.contains(&self.method.as_str())
    }

    /// Whether the client declares URL elicitation: in the `_meta` of a modern request, or in an `initialize`.
    pub fn supports_url_elicitation(&self) -> bool {
        let capabilities = match self.method.as_str() {
            "initialize" => self.params.get("capabilities"),
            _ => self.params.get("_meta").and_then(|meta| meta.get(META_CLIENT_CAPABILITIES)),
        };
        let url = capabilities.and_then(|all| all.get("elicitation")?.get("url"));
        url.is_some_and(Value::is_object)
    }

    /// By which token the client wants to hear of progress.
    pub fn progress_token(&self) -> Option<&Value> {
        let token = self.params.get("_meta")?.get("progressToken")?;
        let fit = match token {
            Value::String(text) => text.len() <= MAX_PROGRESS_TOKEN_BYTES,
            Value::Number(number) => number.is_i64() || number.is_u64(),
            _ => false,
        };
        fit.then_some(token)
    }

    /// What the client sends back of an earlier answer.
    pub fn request_state(&self) -> Option<&str> {
        self.params.get(REQUEST_STATE_PARAM)?.as_str()
    }

    /// Whether it takes up a question that was asked before.
    pub fn is_input_retry(&self) -> bool {
        self.params.contains_key(REQUEST_STATE_PARAM) || self.params.contains_key(INPUT_RESPONSES_PARAM)
    }

    /// Makes it the request that it was before a question was asked.
    pub fn remove_input_responses(&mut self) {
        self.params.remove(REQUEST_STATE_PARAM);
        self.params.remove(INPUT_RESPONSES_PARAM);
    }

    /// Drops its parameters but for what [`Self::progress_token`] and [`Self::resumes`] tell.
    pub fn discard_params(&mut self) {
        let mut left = Map::new();
        if let Some(token) = self.progress_token() {
            left.insert("_meta".to_owned(), json!({ "progressToken": token }));
        }
        if self.is_input_retry() {
            left.insert(INPUT_RESPONSES_PARAM.to_owned(), Value::Null);
        }
        self.params = left;
    }

    /// The message, written anew.
    pub fn to_bytes(&self) -> Vec<u8> {
        // No `json!`, which would copy the parameters.
        let head =
            [("jsonrpc", "2.0".into()), ("id", self.id.to_value()), ("method", self.method.as_str().into())];
        let head: Map<String, Value> =
            head.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let mut out = Value::Object(head).to_string().into_bytes();
        out.pop();
        out.extend_from_slice(b",\"params\":");
        // A tree of texts, numbers, lists and objects can be written, and a Vec takes all: this cannot fail.
        let _infallible = serde_json::to_writer(&mut out, &self.params);
        out.push(b'}');
        out
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
    fn a_progress_token_is_a_text_or_a_whole_number() {
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

//! What a client says of itself with a request: that it can send its person to a URL, and by which token it wants to hear of
//! progress. Its word widens nothing: it only chooses the way in which the client is told something.

use crate::headers::META_CAPABILITIES;
use crate::message::Request;
use serde_json::{Map, Value, json};

/// Methods that may be answered with a question to the client (2026-07-28).
const ASKABLE: [&str; 3] = ["tools/call", "prompts/get", "resources/read"];
/// What a client sends back with its answers.
const STATE: &str = "requestState";
const ANSWERS: &str = "inputResponses";
/// Longest progress token, in bytes.
const TOKEN: usize = 256;

impl Request {
    /// Whether the answer may be `input_required` in 2026-07-28.
    pub fn is_askable(&self) -> bool {
        ASKABLE.contains(&self.method.as_str())
    }

    /// Whether the client declares URL elicitation: in the `_meta` of a modern request, or in an `initialize`.
    pub fn opens_urls(&self) -> bool {
        let capabilities = match self.method.as_str() {
            "initialize" => self.params.get("capabilities"),
            _ => self.params.get("_meta").and_then(|meta| meta.get(META_CAPABILITIES)),
        };
        let url = capabilities.and_then(|all| all.get("elicitation")?.get("url"));
        url.is_some_and(Value::is_object)
    }

    /// By which token the client wants to hear of progress.
    pub fn progress_token(&self) -> Option<&Value> {
        let token = self.params.get("_meta")?.get("progressToken")?;
        let fit = match token {
            Value::String(text) => text.len() <= TOKEN,
            Value::Number(number) => number.is_i64() || number.is_u64(),
            _ => false,
        };
        fit.then_some(token)
    }

    /// What the client sends back of an earlier answer.
    pub fn state(&self) -> Option<&str> {
        self.params.get(STATE)?.as_str()
    }

    /// Whether it takes up a question that was asked before.
    pub fn resumes(&self) -> bool {
        self.params.contains_key(STATE) || self.params.contains_key(ANSWERS)
    }

    /// Makes it the request that it was before a question was asked.
    pub fn forget_question(&mut self) {
        self.params.remove(STATE);
        self.params.remove(ANSWERS);
    }

    /// Drops its parameters but for what [`Self::progress_token`] and [`Self::resumes`] tell.
    pub fn forget_parameters(&mut self) {
        let mut left = Map::new();
        if let Some(token) = self.progress_token() {
            left.insert("_meta".to_owned(), json!({ "progressToken": token }));
        }
        if self.resumes() {
            left.insert(ANSWERS.to_owned(), Value::Null);
        }
        self.params = left;
    }

    /// The message, written anew.
    pub fn write(&self) -> Vec<u8> {
        // No `json!`, which would copy the parameters.
        let head =
            [("jsonrpc", "2.0".into()), ("id", self.id.value()), ("method", self.method.as_str().into())];
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
    use crate::message::{Message, Request};
    use serde_json::{Value, json};

    fn request(method: &str, params: &Value) -> Request {
        let message = json!({ "jsonrpc": "2.0", "id": "a\"b", "method": method, "params": params });
        let Ok(Message::Request(request)) = Message::read(message.to_string().as_bytes()) else { panic!() };
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
            assert_eq!(request("tools/call", &meta).opens_urls(), opens, "{elicitation}");
            let hello = json!({ "capabilities": capabilities });
            assert_eq!(request("initialize", &hello).opens_urls(), opens, "{elicitation}");
            assert!(!request("tools/call", &hello).opens_urls());
        }
        assert!(!request("tools/call", &json!({})).opens_urls());
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
            let call = request("tools/call", &json!({ "_meta": { "progressToken": token } }));
            assert_eq!(call.progress_token(), taken.then_some(&token));
        }
    }

    #[test]
    fn a_message_comes_back_as_it_was_but_for_the_question() {
        let params =
            json!({ "name": "x", "arguments": { "n": 1.5, "t": "\u{1}\"" }, "_meta": { "a": null } });
        let mut resumed = params.clone();
        resumed["requestState"] = json!("s");
        resumed["inputResponses"] = json!({ "k": { "action": "accept" } });
        let mut again = request("tools/call", &resumed);
        assert!(again.resumes() && again.state() == Some("s"));
        again.forget_question();
        assert!(!again.resumes() && again.state().is_none());
        assert_eq!(Message::read(&again.write()), Ok(Message::Request(request("tools/call", &params))));
    }
}

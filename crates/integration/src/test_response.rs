//! What a caller got back.

use bytes::Bytes;
use http::Response;
use serde_json::Value;

/// A whole response of the gateway.
#[derive(Debug)]
pub struct TestResponse(pub Response<Bytes>);

impl TestResponse {
    pub fn status(&self) -> u16 {
        self.0.status().as_u16()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.0.body()).into_owned()
    }

    /// The body as JSON; `null` if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(self.0.body()).unwrap_or_default()
    }

    /// The value of a header; empty if the response has none of that name.
    pub fn header(&self, name: &str) -> &str {
        self.0.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The HTTP status and the code of a JSON-RPC error, or 0.
    pub fn status_and_code(&self) -> (u16, i64) {
        (self.status(), self.json()["error"]["code"].as_i64().unwrap_or_default())
    }

    /// The AWS request was refused because it needs an approval, which approvers have been asked for.
    pub fn is_approval_pending(&self) -> bool {
        matches!(self.status(), 400 | 403) && self.text().contains("the approval is pending")
    }
}

//! What is wrong with a message, as JSON-RPC says it: a code, a text, and the id of the request where one could be read.

use crate::message::Id;
use crate::revision::{LEGACY, MODERN};
use serde_json::{Value, json};

/// Codes of JSON-RPC 2.0 and of MCP 2026-07-28, and the gateway's own outside the range both reserve (-32768 to -32000).
pub mod code {
    pub const PARSE: i64 = -32_700;
    pub const INVALID_REQUEST: i64 = -32_600;
    pub const INVALID_PARAMS: i64 = -32_602;
    pub const INTERNAL: i64 = -32_603;
    pub const HEADER_MISMATCH: i64 = -32_020;
    /// The client must send its person to a URL first (2025-11-25 alone).
    pub const URL_ELICITATION: i64 = -32_042;
    pub const UNSUPPORTED_VERSION: i64 = -32_022;
    /// Who asks is not known.
    pub const UNAUTHENTICATED: i64 = 401;
    /// Policy does not allow it.
    pub const DENIED: i64 = 403;
    /// The session is not one of this caller, or has ended.
    pub const NO_SESSION: i64 = 404;
    /// The upstream server could not be reached, broke off, or answered what cannot be passed on.
    pub const UPSTREAM: i64 = 502;
}

/// Why a message is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub code: i64,
    pub message: String,
    pub id: Option<Id>,
    /// The version that was asked for and is not supported.
    pub requested: Option<String>,
}

impl Error {
    pub(crate) fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), id: None, requested: None }
    }

    /// What a client can act on, for the `data` of the error.
    pub fn data(&self) -> Option<Value> {
        let requested = self.requested.as_ref()?;
        Some(json!({ "supported": MODERN.iter().chain(&LEGACY).collect::<Vec<_>>(), "requested": requested }))
    }

    pub(crate) fn with(mut self, id: Option<&Id>) -> Self {
        self.id = id.cloned();
        self
    }
}

/// An error response. Without an id the member is left out: `null` is no id in MCP.
pub fn error_body(id: Option<&Id>, code: i64, message: &str, data: Option<Value>) -> Vec<u8> {
    let mut error = json!({ "code": code, "message": message });
    if let (Some(data), Value::Object(members)) = (data, &mut error) {
        members.insert("data".to_owned(), data);
    }
    let body = match id {
        Some(id) => json!({ "jsonrpc": "2.0", "id": id.value(), "error": error }),
        None => json!({ "jsonrpc": "2.0", "error": error }),
    };
    body.to_string().into_bytes()
}

//! JSON-RPC errors: a code, a message, and the id of the request where it is known.

use crate::request_id::RequestId;
use crate::revision::{LEGACY_REVISIONS, MODERN_REVISIONS};
use serde_json::{Value, json};

/// The codes of JSON-RPC 2.0 and MCP 2026-07-28. The gateway's own codes are HTTP statuses, outside the range that JSON-RPC
/// reserves (-32768 to -32000).
pub mod error_codes {
    pub const PARSE_ERROR: i64 = -32_700;
    pub const INVALID_REQUEST: i64 = -32_600;
    pub const INVALID_PARAMS: i64 = -32_602;
    pub const INTERNAL_ERROR: i64 = -32_603;
    pub const HEADER_MISMATCH: i64 = -32_020;
    /// The user must visit a URL first (only in 2025-11-25).
    pub const URL_ELICITATION_REQUIRED: i64 = -32_042;
    pub const UNSUPPORTED_PROTOCOL_VERSION: i64 = -32_022;
    /// The caller is not authenticated.
    pub const UNAUTHENTICATED: i64 = 401;
    /// Policy denies the request.
    pub const ACCESS_DENIED: i64 = 403;
    /// The session is not one of this caller's, or has ended.
    pub const SESSION_NOT_FOUND: i64 = 404;
    /// The upstream server is unreachable, closed its connection early, or sent a response that cannot be passed on.
    pub const UPSTREAM_ERROR: i64 = 502;
}

/// The reason for which a message is refused, as a JSON-RPC error.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct JsonRpcError {
    pub code: i64,
    pub message: String,
    pub id: Option<RequestId>,
    /// The unsupported version that the client requested.
    pub requested_version: Option<String>,
}

impl JsonRpcError {
    pub(crate) fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), id: None, requested_version: None }
    }

    /// The `data` of the error: the supported versions, when the version was refused.
    pub fn error_data(&self) -> Option<Value> {
        let requested = self.requested_version.as_ref()?;
        Some(
            json!({ "supported": MODERN_REVISIONS.iter().chain(&LEGACY_REVISIONS).collect::<Vec<_>>(), "requested": requested }),
        )
    }

    pub(crate) fn with_id(mut self, id: Option<&RequestId>) -> Self {
        self.id = id.cloned();
        self
    }
}

/// Encodes an error response. Without an id the member is omitted: MCP does not allow `null` as an id.
pub fn encode_error_response(
    id: Option<&RequestId>,
    code: i64,
    message: &str,
    data: Option<Value>,
) -> Vec<u8> {
    let mut error = json!({ "code": code, "message": message });
    if let (Some(data), Value::Object(members)) = (data, &mut error) {
        members.insert("data".to_owned(), data);
    }
    let body = match id {
        Some(id) => json!({ "jsonrpc": "2.0", "id": id.to_value(), "error": error }),
        None => json!({ "jsonrpc": "2.0", "error": error }),
    };
    body.to_string().into_bytes()
}

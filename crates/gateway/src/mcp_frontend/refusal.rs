//! Refusals as JSON-RPC errors, so that an SDK raises its own error with our message.
//!
//! An invalid message or caller gets the HTTP status that MCP defines. A request that was understood gets 200, even if policy
//! denies it: only there do all SDKs read a JSON-RPC error.

use crate::body::{BoxBody, full_body};
use crate::front_end::ProtocolRefusal;
use durward_core::{ExchangeId, Refusal, RefusalReason};
use durward_mcp::{JsonRpcError, RequestId, encode_error_response, error_codes};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

/// A refusal with its JSON-RPC form.
pub(super) struct McpRefusal {
    pub refusal: Refusal,
    /// The id of the request, if it could be read.
    pub request_id: Option<RequestId>,
    pub error_override: Option<Box<ErrorOverride>>,
}

/// A status and a code that do not follow from the reason.
#[derive(Clone)]
pub(super) struct ErrorOverride {
    pub status: StatusCode,
    pub code: i64,
    pub data: Option<Value>,
}

impl McpRefusal {
    pub fn new(refusal: Refusal, request_id: Option<&RequestId>) -> Self {
        Self { refusal, request_id: request_id.cloned(), error_override: None }
    }

    /// The same for the pipeline, written in the context of its request.
    pub fn with_context(self, mut context: McpRefusalContext) -> ProtocolRefusal<McpRefusalContext> {
        let Self { refusal, request_id, error_override } = self;
        context.request_id = request_id.or(context.request_id);
        context.error_override = error_override;
        ProtocolRefusal::new(refusal, context)
    }

    pub fn with_status(mut self, status: StatusCode, code: i64) -> Self {
        self.error_override = Some(Box::new(ErrorOverride { status, code, data: None }));
        self
    }
}

impl From<JsonRpcError> for McpRefusal {
    fn from(error: JsonRpcError) -> Self {
        let error_override =
            ErrorOverride { status: StatusCode::BAD_REQUEST, code: error.code, data: error.error_data() };
        Self {
            refusal: Refusal::new(RefusalReason::Malformed, error.message),
            request_id: error.id,
            error_override: Some(Box::new(error_override)),
        }
    }
}

/// The message that a client gets in place of a response while approval is pending, in the form of its revision.
#[derive(Clone)]
pub(super) enum ApprovalNotice {
    /// An elicitation, as the result.
    Elicitation(Value),
    /// An error that contains the approval page.
    Error(ErrorOverride),
}

/// The facts that a refusal of one request is written with.
#[derive(Clone)]
pub struct McpRefusalContext {
    /// The protected resource metadata, for a client without a token.
    metadata_url: String,
    pub(super) request_id: Option<RequestId>,
    pub(super) error_override: Option<Box<ErrorOverride>>,
    /// The notice that the client gets instead if it is refused only until approval is decided.
    pub(super) approval_notice: Option<Box<ApprovalNotice>>,
}

impl McpRefusalContext {
    pub(super) fn new(metadata_url: String) -> Self {
        Self { metadata_url, request_id: None, error_override: None, approval_notice: None }
    }

    pub(super) fn write_refusal(&self, refusal: &Refusal, exchange: ExchangeId) -> Response<BoxBody> {
        let (default_status, default_code) = status_and_code(refusal.reason, self.request_id.is_some());
        // Another refusal is not replaced, for example that the journal cannot record this one.
        let notice = self
            .approval_notice
            .as_deref()
            .filter(|_notice| refusal.reason == RefusalReason::ApprovalRequired);
        let error_override = match notice {
            Some(ApprovalNotice::Elicitation(elicitation)) => return self.elicitation_response(elicitation),
            Some(ApprovalNotice::Error(error)) => Some(error),
            None => self.error_override.as_deref(),
        };
        let status = error_override.map_or(default_status, |error| error.status);
        let mut data = json!({ "exchange": exchange.to_string() });
        if let (Value::Object(data), Some(Value::Object(error_data))) =
            (&mut data, error_override.and_then(|error| error.data.as_ref()))
        {
            data.extend(error_data.clone());
        }
        let code = error_override.map_or(default_code, |error| error.code);
        let mut response = Response::new(full_body(encode_error_response(
            self.request_id.as_ref(),
            code,
            &refusal_message(refusal, exchange),
            Some(data),
        )));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        set_json_headers(headers);
        if status == StatusCode::UNAUTHORIZED {
            // RFC 6750 section 3.1: no error code where the request had no token. RFC 9728 section 5.1: `resource_metadata`.
            let error = match refusal.reason {
                RefusalReason::MissingAuthentication => "",
                _ => r#"error="invalid_token", "#,
            };
            let challenge = format!(r#"Bearer {error}resource_metadata="{}""#, self.metadata_url);
            // If the URL holds bytes that a header cannot, the challenge goes without it.
            let challenge = HeaderValue::from_str(&challenge).unwrap_or(HeaderValue::from_static("Bearer"));
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }

    /// An elicitation, which in revision 2026-07-28 is a result of the request.
    fn elicitation_response(&self, elicitation: &Value) -> Response<BoxBody> {
        let id = self.request_id.as_ref().map(RequestId::to_value);
        let body = json!({ "jsonrpc": "2.0", "id": id, "result": elicitation }).to_string();
        let mut response = Response::new(full_body(body));
        set_json_headers(response.headers_mut());
        response
    }
}

fn set_json_headers(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// The message for the caller; it names the exchange, which a person can look up in the journal.
pub(super) fn refusal_message(refusal: &Refusal, exchange: ExchangeId) -> String {
    format!("durward: {} [exchange {exchange}]", refusal.message)
}

fn status_and_code(reason: RefusalReason, is_understood: bool) -> (StatusCode, i64) {
    let (status, code) = match reason {
        RefusalReason::MissingAuthentication | RefusalReason::InvalidToken | RefusalReason::ExpiredToken => {
            return (StatusCode::UNAUTHORIZED, error_codes::UNAUTHENTICATED);
        }
        RefusalReason::TooLarge => return (StatusCode::PAYLOAD_TOO_LARGE, error_codes::INVALID_REQUEST),
        RefusalReason::AccessDenied
        | RefusalReason::ApprovalRequired
        | RefusalReason::TagsUnavailable
        | RefusalReason::ClientDisconnected => (StatusCode::FORBIDDEN, error_codes::ACCESS_DENIED),
        RefusalReason::Upstream => (StatusCode::BAD_GATEWAY, error_codes::UPSTREAM_ERROR),
        RefusalReason::Busy | RefusalReason::PolicyChanged | RefusalReason::Internal => {
            (StatusCode::SERVICE_UNAVAILABLE, error_codes::INTERNAL_ERROR)
        }
        _ => return (StatusCode::BAD_REQUEST, error_codes::INVALID_REQUEST),
    };
    (if is_understood { StatusCode::OK } else { status }, code)
}

/// The code that [`McpRefusalContext::write_refusal`] gives a refusal of an understood request.
pub(super) fn json_rpc_code(reason: RefusalReason) -> i64 {
    status_and_code(reason, true).1
}

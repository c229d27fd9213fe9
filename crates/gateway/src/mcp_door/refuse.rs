//! Refusals as JSON-RPC errors, so that an SDK raises its own error with our words.
//!
//! What is wrong with a message or its sender has the HTTP status that MCP gives it. A request that was understood is
//! answered with 200, also when policy denies it: SDKs read a JSON-RPC error there and nowhere else for sure.

use super::told::Told;
use crate::body::{Body, full};
use durward_core::{ExchangeId, Reason, Refusal};
use durward_mcp::{Error, Id, code, error_body};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

/// A refusal together with what the wire says of it.
pub(super) struct Stopped {
    pub refusal: Refusal,
    /// The id of the request, where it could be read.
    pub id: Option<Id>,
    pub problem: Option<Box<Problem>>,
}

/// A status and a code that the reason alone does not tell.
#[derive(Clone)]
pub(super) struct Problem {
    pub status: StatusCode,
    pub code: i64,
    pub data: Option<Value>,
}

impl Stopped {
    pub fn new(refusal: Refusal, id: Option<&Id>) -> Self {
        Self { refusal, id: id.cloned(), problem: None }
    }

    pub fn status(mut self, status: StatusCode, code: i64) -> Self {
        self.problem = Some(Box::new(Problem { status, code, data: None }));
        self
    }
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        let problem = Problem { status: StatusCode::BAD_REQUEST, code: error.code, data: error.data() };
        Self {
            refusal: Refusal::new(Reason::Malformed, error.message),
            id: error.id,
            problem: Some(Box::new(problem)),
        }
    }
}

/// What a refusal of one request must look like.
#[derive(Clone)]
pub struct Shape {
    /// Where a client without a token learns about this server.
    metadata: String,
    pub(super) id: Option<Id>,
    pub(super) problem: Option<Box<Problem>>,
    /// What the client hears instead, when it is refused for now because people are asked.
    pub(super) told: Option<Box<Told>>,
}

impl Shape {
    pub(super) fn new(metadata: String) -> Self {
        Self { metadata, id: None, problem: None, told: None }
    }

    pub(super) fn refuse(&self, refusal: &Refusal, exchange: ExchangeId) -> Response<Body> {
        let (status, own) = status_of(refusal.reason, self.id.is_some());
        // Not in place of another refusal: that the journal cannot record this one, say.
        let told = self.told.as_deref().filter(|_told| refusal.reason == Reason::AccessDenied);
        let problem = match told {
            Some(Told::Question(question)) => return self.asks(question),
            Some(Told::Error(problem)) => Some(problem),
            None => self.problem.as_deref(),
        };
        let status = problem.map_or(status, |problem| problem.status);
        let mut data = json!({ "exchange": exchange.to_string() });
        if let (Value::Object(data), Some(Value::Object(more))) =
            (&mut data, problem.and_then(|problem| problem.data.as_ref()))
        {
            data.extend(more.clone());
        }
        let code = problem.map_or(own, |problem| problem.code);
        let mut response =
            Response::new(full(error_body(self.id.as_ref(), code, &words(refusal, exchange), Some(data))));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        as_json(headers);
        if status == StatusCode::UNAUTHORIZED {
            let error = match refusal.reason {
                Reason::MissingAuthentication => "",
                _ => r#"error="invalid_token", "#,
            };
            let challenge = format!(r#"Bearer {error}resource_metadata="{}""#, self.metadata);
            // A Host that cannot stand in a header leaves the challenge without the address.
            let challenge = HeaderValue::from_str(&challenge).unwrap_or(HeaderValue::from_static("Bearer"));
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }

    /// A question to the client, which is a result to its request.
    fn asks(&self, question: &Value) -> Response<Body> {
        let id = self.id.as_ref().map(Id::value);
        let body = json!({ "jsonrpc": "2.0", "id": id, "result": question }).to_string();
        let mut response = Response::new(full(body));
        as_json(response.headers_mut());
        response
    }
}

fn as_json(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// The message for the caller; it names the exchange, which a person can look up in the journal.
pub(super) fn words(refusal: &Refusal, exchange: ExchangeId) -> String {
    format!("durward: {} [exchange {exchange}]", refusal.message)
}

fn status_of(reason: Reason, understood: bool) -> (StatusCode, i64) {
    let (status, code) = match reason {
        Reason::MissingAuthentication | Reason::InvalidToken | Reason::ExpiredToken => {
            return (StatusCode::UNAUTHORIZED, code::UNAUTHENTICATED);
        }
        Reason::TooLarge => return (StatusCode::PAYLOAD_TOO_LARGE, code::INVALID_REQUEST),
        Reason::AccessDenied => (StatusCode::FORBIDDEN, code::DENIED),
        Reason::Upstream => (StatusCode::BAD_GATEWAY, code::UPSTREAM),
        Reason::Busy | Reason::Internal => (StatusCode::SERVICE_UNAVAILABLE, code::INTERNAL),
        _ => return (StatusCode::BAD_REQUEST, code::INVALID_REQUEST),
    };
    (if understood { StatusCode::OK } else { status }, code)
}

/// The code that [`Shape::refuse`] gives a refusal of an understood request.
pub(super) fn code_of(reason: Reason) -> i64 {
    status_of(reason, true).1
}

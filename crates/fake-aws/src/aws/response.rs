//! Responses and errors as AWS writes them.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

pub type FakeAwsResponse = Response<Full<Bytes>>;

/// An AWS error.
#[derive(Debug)]
pub struct FakeAwsError {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
}

impl FakeAwsError {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub fn denied(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    pub fn unknown_operation() -> Self {
        let message = "the fake AWS does not have this operation";
        Self::new(StatusCode::BAD_REQUEST, "UnknownOperationException", message)
    }

    /// As the JSON protocols or the XML protocols write it.
    pub fn into_response(self, as_json: bool) -> FakeAwsResponse {
        let Self { status, code, message } = self;
        if as_json {
            // The JSON protocols return every error of the client with 400.
            let body = json!({"__type": code, "message": message}).to_string();
            return response_of_type(StatusCode::BAD_REQUEST, "application/x-amz-json-1.1", body);
        }
        let body = format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error><RequestId>fake-aws</RequestId></ErrorResponse>"
        );
        response_of_type(status, "text/xml", body)
    }
}

pub fn plain_response(status: StatusCode, body: Bytes) -> FakeAwsResponse {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert("x-amz-request-id", HeaderValue::from_static("fake-aws"));
    response
}

pub fn xml_response(body: String) -> FakeAwsResponse {
    response_of_type(StatusCode::OK, "text/xml", body)
}

pub fn json_response(body: &Value) -> FakeAwsResponse {
    response_of_type(StatusCode::OK, "application/x-amz-json-1.0", body.to_string())
}

fn response_of_type(status: StatusCode, content_type: &'static str, body: String) -> FakeAwsResponse {
    let mut response = plain_response(status, body.into());
    response.headers_mut().insert("content-type", HeaderValue::from_static(content_type));
    response
}

//! JSON responses, errors, and the person of the bearer token as an argument of a handler.

use crate::{
    state::ConsoleState,
    users::{self, AuthenticationError},
};
use axum::{body::Body, extract::FromRequestParts};
use durward_approval::Approver;

use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;

pub fn json_response(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let (status, body) = match serde_json::to_vec(value) {
        Ok(body) => (status, body),
        Err(error) => {
            tracing::error!(%error, "a response of the admin API cannot be serialized");
            let body = b"{\"error\":\"internal\",\"message\":\"\"}".to_vec();
            (StatusCode::INTERNAL_SERVER_ERROR, body)
        }
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub fn error_response(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    json_response(status, &json!({"error": code, "message": message}))
}

pub fn not_found_response() -> Response<Body> {
    error_response(StatusCode::NOT_FOUND, "unknown_route", "no such route: see /api/v1/openapi.json")
}

pub fn method_not_allowed_response() -> Response<Body> {
    error_response(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", "see /api/v1/openapi.json")
}

/// The error goes to the log; the response does not show it.
pub fn internal_error_response(error: &dyn std::fmt::Display) -> Response<Body> {
    tracing::error!(%error, "the admin API failed");
    let message = "the gateway could not handle this request, and its log says why";
    error_response(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
}

/// The person whom the bearer token identifies.
pub struct BearerUser(pub Approver);

impl FromRequestParts<Arc<ConsoleState>> for BearerUser {
    type Rejection = Response<Body>;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<ConsoleState>,
    ) -> Result<Self, Self::Rejection> {
        match users::authenticate_bearer(state, &parts.headers).await {
            Ok(person) => Ok(Self(person)),
            Err(error) => Err(authentication_error_response(&error)),
        }
    }
}

fn authentication_error_response(error: &AuthenticationError) -> Response<Body> {
    let (status, code) = match error {
        AuthenticationError::MissingToken => (StatusCode::UNAUTHORIZED, "no_token"),
        AuthenticationError::MalformedHeader
        | AuthenticationError::InvalidToken(_)
        | AuthenticationError::NotAUserToken(_) => (StatusCode::UNAUTHORIZED, "token_refused"),
        AuthenticationError::NotAPerson(_) | AuthenticationError::NotAdmitted => {
            (StatusCode::FORBIDDEN, "not_admitted")
        }
        AuthenticationError::ProviderUnavailable(_) => (StatusCode::BAD_GATEWAY, "provider_unavailable"),
        AuthenticationError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    let mut response = error_response(status, code, &error.to_string());
    if status == StatusCode::UNAUTHORIZED {
        // RFC 9110 section 15.5.2: a 401 response must have this header.
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

//! The admin API under `/api/v1`: approval requests, votes, sessions and revocations for the command line and for programs.
//!
//! It accepts a person's bearer token and no cookie, so a page of another site cannot use it from a browser. An error is a JSON
//! object with `error`, a code for programs, and `message`, a text for people. `openapi.json` describes every route.

mod approval_requests;
mod responses;
mod sessions;

pub use self::responses::{method_not_allowed_response, not_found_response};

use self::responses::{BearerUser, error_response, internal_error_response, json_response};
use crate::{event_stream, health, logins::LOGIN_LIFETIME, state::ConsoleState, users};
use axum::{
    Router,
    body::Body,
    extract::State,
    routing::{MethodRouter, get, post},
};
use durward_core::timestamps::format_rfc3339;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;

const OPENAPI_DOCUMENT: &str = include_str!("openapi.json");

type ApiRoute = (&'static str, &'static str, MethodRouter<Arc<ConsoleState>>);

/// Every route: method, path and handler. A test compares the list with the OpenAPI document.
pub fn route_list() -> Vec<ApiRoute> {
    vec![
        ("get", "/api/v1/approval-requests", get(approval_requests::list_approval_requests)),
        ("get", "/api/v1/approval-requests/{id}", get(approval_requests::get_approval_request)),
        ("post", "/api/v1/approval-requests/{id}/votes", post(approval_requests::cast_vote)),
        ("get", "/api/v1/time-bound-grants", get(approval_requests::list_time_bound_grants)),
        ("get", "/api/v1/sessions", get(sessions::list_sessions)),
        ("get", "/api/v1/sessions/{id}", get(sessions::get_session)),
        ("post", "/api/v1/sessions/{id}/revoke", post(sessions::revoke_session)),
        ("post", "/api/v1/callers/revoke", post(sessions::revoke_caller)),
        ("get", "/api/v1/channels", get(list_channels)),
        ("get", "/api/v1/events", get(stream_changes)),
        ("get", "/api/v1/health", get(get_health)),
        ("get", "/api/v1/me", get(get_current_user)),
        ("get", "/api/v1/openapi.json", get(get_openapi_document)),
        ("get", "/api/v1/sign-in", get(list_sign_in_providers)),
    ]
}

pub fn routes() -> Router<Arc<ConsoleState>> {
    route_list()
        .into_iter()
        .fold(Router::new(), |router, (_method, path, handler)| router.route(path, handler))
        .method_not_allowed_fallback(|| async { method_not_allowed_response() })
}

/// The stream ends after an hour, as a login does, and when the person is no longer admitted. It names ids only; each request for the details needs a valid token.
async fn stream_changes(
    State(state): State<Arc<ConsoleState>>,
    BearerUser(person): BearerUser,
) -> Response<Body> {
    let Some(subscription) = state.event_subscribers.subscribe(&person.id) else {
        let message = "too many event streams are open, in total or for this person";
        return error_response(StatusCode::SERVICE_UNAVAILABLE, "busy", message);
    };
    let ends_at = (state.clock)() + LOGIN_LIFETIME;
    let changes = state.approvals.subscribe_changes();
    event_stream::stream_events(changes, subscription, move || {
        std::future::ready((state.clock)() < ends_at && users::is_admitted(&state, &person.groups))
    })
}

async fn get_health(
    State(state): State<Arc<ConsoleState>>,
    BearerUser(_person): BearerUser,
) -> Response<Body> {
    let report = health::run_health_checks(&state).await;
    let status = if report.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_response(
        status,
        &json!({
            "healthy": report.healthy,
            "version": state.settings.version,
            "time": format_rfc3339((state.clock)()),
            "checks": report.checks,
        }),
    )
}

async fn list_channels(
    State(state): State<Arc<ConsoleState>>,
    BearerUser(_person): BearerUser,
) -> Response<Body> {
    match state.channels.read_all().await {
        Ok(channels) => json_response(StatusCode::OK, &json!({"channels": channels})),
        Err(error) => internal_error_response(&error),
    }
}

async fn get_current_user(BearerUser(person): BearerUser) -> Response<Body> {
    json_response(StatusCode::OK, &person)
}

/// How the command line signs users in. It needs no token, because the command line has none yet; the response holds nothing
/// that the provider's sign-in page does not show.
async fn list_sign_in_providers(State(state): State<Arc<ConsoleState>>) -> Response<Body> {
    #[derive(Serialize)]
    struct CliSignInProvider<'a> {
        name: &'a str,
        issuer: &'a str,
        client_id: &'a str,
        scopes: &'a [String],
    }
    let providers = state.settings.api_token_providers.iter().filter_map(|provider| {
        let client = provider.cli_client.as_ref()?;
        Some(CliSignInProvider {
            name: &provider.provider.name,
            issuer: &provider.provider.issuer,
            client_id: &client.client_id,
            scopes: &client.scopes,
        })
    });
    json_response(StatusCode::OK, &json!({"providers": providers.collect::<Vec<_>>()}))
}

/// Needs no token: the document is part of the public source.
async fn get_openapi_document() -> Response<Body> {
    let mut response = Response::new(Body::from(OPENAPI_DOCUMENT));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
    response
}

//! The routes of both surfaces and the layers around them. The API's own routes are in [`crate::api`].

use crate::{api, pages, request_guard, state::ConsoleState};
use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Request, State},
    middleware,
    routing::{get, post},
};
use http::Response;
use std::sync::Arc;

/// Longest form or JSON body of a request. The largest part of one is the reason of a vote, of at most 4 KiB, and each of its bytes
/// may be percent-encoded.
const MAX_REQUEST_BODY_BYTES: usize = 64 << 10;

pub fn build_router(state: Arc<ConsoleState>) -> Router {
    let pages = Router::new()
        .route("/", get(pages::approvals::show_approvals))
        .route("/approvals/{id}", get(pages::approval_request::show_approval_request))
        .route("/approvals/{id}/votes", post(pages::approval_request::cast_vote))
        .route("/approvals/{id}/parameters.json", get(pages::approval_request::download_parameters))
        .route("/sessions", get(pages::sessions::list_sessions))
        .route("/sessions/{id}", get(pages::sessions::show_session))
        .route("/sessions/{id}/revoke", post(pages::sessions::revoke_session))
        .route("/policies", get(pages::policies::show_policies))
        .route("/connections", get(pages::overview::show_connections))
        .route("/health", get(pages::overview::show_health))
        .route("/events", get(pages::stream_changes))
        .route("/signin", get(pages::sign_in::show_sign_in))
        .route("/signin/start", get(pages::sign_in::start_sign_in))
        .route("/signin/callback", get(pages::sign_in::handle_callback))
        .route("/signout", post(pages::sign_in::sign_out))
        .route("/assets/{name}", get(pages::serve_asset))
        .fallback(handle_unknown_path)
        .method_not_allowed_fallback(handle_wrong_method)
        .layer(middleware::from_fn_with_state(state.clone(), request_guard::require_console_host));
    // The API needs no host check: it reads no cookie, so DNS rebinding gains nothing there.
    Router::new()
        .merge(api::routes())
        .merge(pages)
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BODY_BYTES))
        .layer(middleware::from_fn_with_state(state.clone(), request_guard::set_security_headers))
        .with_state(state)
}

async fn handle_unknown_path(State(state): State<Arc<ConsoleState>>, request: Request) -> Response<Body> {
    if is_api_path(&request) {
        return api::not_found_response();
    }
    pages::not_found_page(&state, request.headers()).await
}

async fn handle_wrong_method(State(state): State<Arc<ConsoleState>>, request: Request) -> Response<Body> {
    if is_api_path(&request) {
        return api::method_not_allowed_response();
    }
    pages::method_not_allowed_page(&state, request.headers()).await
}

fn is_api_path(request: &Request) -> bool {
    request.uri().path().starts_with("/api/")
}

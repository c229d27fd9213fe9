//! The pages. Each handler fills a template from a view; only the handlers of POST requests change anything.

pub mod approval_request;
pub mod approvals;
mod browser_user;
pub mod overview;
pub mod policies;
pub mod sessions;
pub mod sign_in;

use self::browser_user::BrowserUser;
use crate::{cookies::ConsoleCookie, event_stream, html::error_page, state::ConsoleState, users};
use axum::{
    body::Body,
    extract::{Path, State},
};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use std::sync::Arc;

/// Also for a visitor who is not signed in: the page is the same but for its frame.
pub async fn not_found_page(state: &ConsoleState, headers: &HeaderMap) -> Response<Body> {
    let user = users::find_signed_in_user(state, headers).await.unwrap_or_default();
    error_page(
        state,
        user.as_deref(),
        StatusCode::NOT_FOUND,
        "Page not found",
        "There is no page at this address.",
    )
}

pub async fn method_not_allowed_page(state: &ConsoleState, headers: &HeaderMap) -> Response<Body> {
    let user = users::find_signed_in_user(state, headers).await.unwrap_or_default();
    error_page(
        state,
        user.as_deref(),
        StatusCode::METHOD_NOT_ALLOWED,
        "Method not allowed",
        "Nothing was changed. This address only accepts the form of one of the console's pages.",
    )
}

/// `GET /events`: the stream with which pages stay up to date. It ends with the login.
pub async fn stream_changes(
    State(state): State<Arc<ConsoleState>>,
    BrowserUser(user): BrowserUser,
    headers: HeaderMap,
) -> Response<Body> {
    let Some(subscription) = state.event_subscribers.subscribe(&user.person.id) else {
        let mut response = Response::new(Body::from("too many pages are open: reload this one by hand\n"));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        return response;
    };
    let login_id =
        ConsoleCookie::Session.read_value(&headers, state.origin.uses_tls).unwrap_or_default().to_owned();
    let changes = state.approvals.subscribe_changes();
    event_stream::stream_events(changes, subscription, move || {
        let (state, login_id) = (state.clone(), login_id.clone());
        // Looked up for each event: the login may have ended, by expiry or by a revocation, since the stream was opened.
        async move { matches!(users::find_user_of_login(&state, &login_id).await, Ok(Some(_user))) }
    })
}

/// `GET /assets/{name}`. The name changes with the content, so browsers may keep the file for good.
pub async fn serve_asset(State(state): State<Arc<ConsoleState>>, Path(name): Path<String>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    match state.assets.find(&name) {
        Some(asset) => {
            *response.body_mut() = Body::from(asset.content);
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
            headers.insert(
                header::CACHE_CONTROL,
                HeaderValue::from_static("public, max-age=31536000, immutable"),
            );
        }
        None => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    response
}

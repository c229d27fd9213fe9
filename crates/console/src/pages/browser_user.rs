//! The signed-in user as an argument of a page's handler. Everybody else is sent to the sign-in page.

use super::sign_in::sign_in_link;
use crate::{
    html::{error_page, internal_error_page, redirect_see_other},
    logins::SignedInUser,
    state::ConsoleState,
    users,
};
use axum::{body::Body, extract::FromRequestParts};
use http::{Method, Response, StatusCode, request::Parts};
use std::sync::Arc;

/// A user whose browser is signed in.
pub struct BrowserUser(pub Arc<SignedInUser>);

impl FromRequestParts<Arc<ConsoleState>> for BrowserUser {
    type Rejection = Response<Body>;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<ConsoleState>,
    ) -> Result<Self, Self::Rejection> {
        match users::find_signed_in_user(state, &parts.headers).await {
            Ok(Some(user)) => return Ok(Self(user)),
            Ok(None) => {}
            Err(error) => return Err(internal_error_page(state, None, &error)),
        }
        // A script's `fetch` must see the failure; a redirect would give it the sign-in page with status 200.
        let is_fetch = parts.headers.get("sec-fetch-dest").is_some_and(|destination| destination == "empty");
        if parts.method != Method::GET || is_fetch {
            return Err(error_page(
                state,
                None,
                StatusCode::UNAUTHORIZED,
                "You are not signed in",
                "Nothing was changed. Sign in, then try again.",
            ));
        }
        let return_path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        Err(redirect_see_other(&sign_in_link(return_path)))
    }
}

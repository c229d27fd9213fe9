//! The sign-in pages. Passwords are the identity provider's business: the console never sees one.

use crate::{
    cookies::ConsoleCookie,
    display_text::{DisplayText, as_sentence},
    html::{PageFrame, error_page, internal_error_page, redirect_see_other, render_page},
    logins::LOGIN_LIFETIME,
    oidc_client::OidcClient,
    oidc_sign_in::{self, SIGN_IN_TIMEOUT, SignInError, local_path_or_root},
    request_guard,
    state::ConsoleState,
    users,
};
use askama::Template;
use axum::{
    Form,
    body::Body,
    extract::{Query, State, rejection::FormRejection},
};
use durward_identity::relying_party::AuthorizationResponse;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Deserialize)]
pub struct SignInQuery {
    /// The path to which the user returns.
    #[serde(default)]
    to: String,
    #[serde(default)]
    provider: String,
}

struct ProviderChoice {
    name: DisplayText,
    issuer: DisplayText,
    link: String,
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage {
    frame: PageFrame,
    choices: Vec<ProviderChoice>,
}

/// The address of the sign-in page that leads back to `return_path`.
pub fn sign_in_link(return_path: &str) -> String {
    match local_path_or_root(return_path) {
        "/" => "/signin".to_owned(),
        path => format!("/signin?to={}", utf8_percent_encode(path, NON_ALPHANUMERIC)),
    }
}

pub async fn show_sign_in(
    State(state): State<Arc<ConsoleState>>,
    headers: HeaderMap,
    Query(query): Query<SignInQuery>,
) -> Response<Body> {
    let return_path = local_path_or_root(&query.to);
    match users::find_signed_in_user(&state, &headers).await {
        Ok(Some(_user)) => return redirect_see_other(return_path),
        Ok(None) => {}
        Err(error) => return internal_error_page(&state, None, &error),
    }
    let choice = |client: &OidcClient| ProviderChoice {
        name: DisplayText::new(client.name()),
        issuer: DisplayText::new(&client.settings.provider.issuer),
        link: format!(
            "/signin/start?provider={}&to={}",
            utf8_percent_encode(client.name(), NON_ALPHANUMERIC),
            utf8_percent_encode(return_path, NON_ALPHANUMERIC)
        ),
    };
    let choices = state.oidc_clients.iter().map(choice).collect();
    render_page(StatusCode::OK, &SignInPage { frame: PageFrame::new(&state, None, ""), choices })
}

pub async fn start_sign_in(
    State(state): State<Arc<ConsoleState>>,
    Query(query): Query<SignInQuery>,
) -> Response<Body> {
    match oidc_sign_in::begin_sign_in(&state, &query.provider, &query.to).await {
        Ok((url, cookie)) => {
            let mut response = redirect_see_other(&url);
            let uses_tls = state.origin.uses_tls;
            add_cookie(&mut response, ConsoleCookie::SignIn.set_header(&cookie, SIGN_IN_TIMEOUT, uses_tls));
            response
        }
        Err(error) => sign_in_failed_page(&state, &error),
    }
}

pub async fn handle_callback(
    State(state): State<Arc<ConsoleState>>,
    headers: HeaderMap,
    Query(callback): Query<AuthorizationResponse>,
) -> Response<Body> {
    let uses_tls = state.origin.uses_tls;
    let cookie = ConsoleCookie::SignIn.read_value(&headers, uses_tls);
    let mut response = match oidc_sign_in::finish_sign_in(&state, cookie, &callback).await {
        Ok((login_id, return_path)) => {
            // One login per browser: the earlier one would live on in the store, although no cookie leads to it.
            if let Some(earlier) = ConsoleCookie::Session.read_value(&headers, uses_tls)
                && let Err(error) = state.logins.end_login(earlier).await
            {
                tracing::error!(%error, "an earlier login could not be ended");
            }
            let mut response = redirect_see_other(&return_path);
            add_cookie(&mut response, ConsoleCookie::Session.set_header(&login_id, LOGIN_LIFETIME, uses_tls));
            response
        }
        Err(error) => sign_in_failed_page(&state, &error),
    };
    // Also after a failure: the state of one sign-in must not serve for a second callback.
    add_cookie(&mut response, ConsoleCookie::SignIn.removal_header(uses_tls));
    response
}

fn sign_in_failed_page(state: &ConsoleState, error: &SignInError) -> Response<Body> {
    tracing::info!(%error, "a sign-in to the console failed");
    let status = match error {
        SignInError::NotAdmitted | SignInError::TooLong(_) => StatusCode::FORBIDDEN,
        SignInError::ProviderUnavailable(_) => StatusCode::BAD_GATEWAY,
        SignInError::TooManyLogins | SignInError::Internal => StatusCode::SERVICE_UNAVAILABLE,
        SignInError::UnknownProvider => StatusCode::NOT_FOUND,
        SignInError::NotStarted
        | SignInError::AuthorizationResponse(_)
        | SignInError::InvalidIdToken(_)
        | SignInError::AlreadyFinished
        | SignInError::Revoked => StatusCode::UNAUTHORIZED,
    };
    error_page(state, None, status, "You are not signed in", &as_sentence(&error.to_string()))
}

#[derive(Deserialize)]
pub struct SignOutForm {
    csrf: String,
}

pub async fn sign_out(
    State(state): State<Arc<ConsoleState>>,
    headers: HeaderMap,
    form: Result<Form<SignOutForm>, FormRejection>,
) -> Response<Body> {
    let uses_tls = state.origin.uses_tls;
    let user = match users::find_signed_in_user(&state, &headers).await {
        Ok(user) => user,
        Err(error) => return internal_error_page(&state, None, &error),
    };
    if let Some(user) = user {
        let token = form.map(|Form(form)| form.csrf).unwrap_or_default();
        // Also for a sign-out: another site could otherwise sign an approver out while a request waits.
        if let Err(error) = request_guard::verify_form(&state.origin, &headers, &user.csrf_token, &token) {
            let message = as_sentence(&error.to_string());
            return error_page(
                &state,
                Some(&user),
                StatusCode::FORBIDDEN,
                "You are still signed in",
                &message,
            );
        }
        if let Some(id) = ConsoleCookie::Session.read_value(&headers, uses_tls)
            && let Err(error) = state.logins.end_login(id).await
        {
            return internal_error_page(&state, Some(&user), &error);
        }
    }
    let mut response = redirect_see_other("/signin");
    add_cookie(&mut response, ConsoleCookie::Session.removal_header(uses_tls));
    response
}

fn add_cookie(response: &mut Response<Body>, cookie: Option<HeaderValue>) {
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

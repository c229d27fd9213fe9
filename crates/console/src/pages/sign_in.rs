//! Signing in and out. Nothing here knows a password; the identity provider does.

use super::{PageFrame, error_page, internal_error_page, redirect_see_other, render_page};
use crate::{
    ConsoleState,
    display_text::DisplayText,
    logins::ConsoleCookie,
    oidc_sign_in::{self, SignInError},
    request_guard, users,
};
use askama::Template;
use axum::{
    Form,
    body::Body,
    extract::{Query, State, rejection::FormRejection},
};
use durward_identity::relying_party::AuthorizationResponse;
use http::{HeaderMap, Response, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Deserialize)]
pub struct SignInQuery {
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

/// The sign-in page that leads back to `to`.
pub fn sign_in_link(to: &str) -> String {
    match oidc_sign_in::local_path_or_root(to) {
        "/" => "/signin".to_owned(),
        to => format!("/signin?to={}", utf8_percent_encode(to, NON_ALPHANUMERIC)),
    }
}

pub async fn show_sign_in(
    State(inner): State<Arc<ConsoleState>>,
    headers: HeaderMap,
    Query(wanted): Query<SignInQuery>,
) -> Response<Body> {
    match users::find_signed_in_user(&inner, &headers).await {
        Ok(Some(_session)) => return redirect_see_other(oidc_sign_in::local_path_or_root(&wanted.to)),
        Ok(None) => {}
        Err(error) => return internal_error_page(&inner, None, &error),
    }
    let to = oidc_sign_in::local_path_or_root(&wanted.to);
    let choice = |client: &oidc_sign_in::OidcClient| ProviderChoice {
        name: DisplayText::new(client.name()),
        issuer: DisplayText::new(&client.settings.provider.issuer),
        link: format!(
            "/signin/start?provider={}&to={}",
            utf8_percent_encode(client.name(), NON_ALPHANUMERIC),
            utf8_percent_encode(to, NON_ALPHANUMERIC)
        ),
    };
    let choices = inner.oidc_clients.iter().map(choice).collect();
    render_page(StatusCode::OK, &SignInPage { frame: PageFrame::new(&inner, None, ""), choices })
}

pub async fn start_sign_in(
    State(inner): State<Arc<ConsoleState>>,
    Query(wanted): Query<SignInQuery>,
) -> Response<Body> {
    match oidc_sign_in::begin_sign_in(&inner, &wanted.provider, &wanted.to).await {
        Ok((there, cookie)) => {
            let mut response = redirect_see_other(&there);
            set_cookie(&mut response, &inner, ConsoleCookie::SignIn, &cookie);
            response
        }
        Err(error) => sign_in_failed_page(&inner, &error),
    }
}

pub async fn handle_callback(
    State(inner): State<Arc<ConsoleState>>,
    headers: HeaderMap,
    Query(answer): Query<AuthorizationResponse>,
) -> Response<Body> {
    let cookie = ConsoleCookie::SignIn.read_value(&headers, inner.origin.is_tls);
    let mut response = match oidc_sign_in::finish_sign_in(&inner, cookie, &answer).await {
        Ok((session, to)) => {
            // Whoever was signed in before in this browser no longer is.
            if let Some(before) = ConsoleCookie::Session.read_value(&headers, inner.origin.is_tls)
                && let Err(error) = inner.logins.end_login(before).await
            {
                tracing::error!(%error, "an earlier sign-in could not be ended");
            }
            let mut response = redirect_see_other(&to);
            set_cookie(&mut response, &inner, ConsoleCookie::Session, &session);
            response
        }
        Err(error) => sign_in_failed_page(&inner, &error),
    };
    set_cookie(&mut response, &inner, ConsoleCookie::SignIn, "");
    response
}

fn sign_in_failed_page(inner: &ConsoleState, error: &SignInError) -> Response<Body> {
    tracing::info!(%error, "a sign-in to the console was refused");
    let status = match error {
        SignInError::NotAdmitted => StatusCode::FORBIDDEN,
        SignInError::ProviderUnavailable(_) => StatusCode::BAD_GATEWAY,
        SignInError::TooManyLogins | SignInError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        SignInError::UnknownProvider => StatusCode::NOT_FOUND,
        _ => StatusCode::UNAUTHORIZED,
    };
    let mut text = error.to_string();
    if let Some(first) = text.get(..1) {
        text = first.to_uppercase() + text.get(1..).unwrap_or_default();
    }
    error_page(inner, None, status, "You are not signed in", &format!("{text}."))
}

#[derive(Deserialize)]
pub struct SignOutForm {
    csrf: String,
}

pub async fn sign_out(
    State(inner): State<Arc<ConsoleState>>,
    headers: HeaderMap,
    form: Result<Form<SignOutForm>, FormRejection>,
) -> Response<Body> {
    let session = match users::find_signed_in_user(&inner, &headers).await {
        Ok(session) => session,
        Err(error) => return internal_error_page(&inner, None, &error),
    };
    if let Some(session) = session {
        let given = form.map(|Form(form)| form.csrf).unwrap_or_default();
        if let Err(why) = request_guard::verify_form(&inner, &headers, &session.csrf_token, &given) {
            return error_page(&inner, Some(&session), StatusCode::FORBIDDEN, "You are still signed in", why);
        }
        if let Some(id) = ConsoleCookie::Session.read_value(&headers, inner.origin.is_tls)
            && let Err(error) = inner.logins.end_login(id).await
        {
            return internal_error_page(&inner, Some(&session), &error);
        }
    }
    let mut response = redirect_see_other("/signin");
    set_cookie(&mut response, &inner, ConsoleCookie::Session, "");
    response
}

fn set_cookie(response: &mut Response<Body>, inner: &ConsoleState, cookie: ConsoleCookie, value: &str) {
    if let Some(value) = cookie.to_set_cookie(value, inner.origin.is_tls) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

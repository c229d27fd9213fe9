//! Signing in and out. Nothing here knows a password; the identity provider does.

use super::{Frame, broken, page, problem, see_other};
use crate::{
    Inner, guard,
    oidc::{self, SignInError},
    people,
    sessions::Cookie,
    text::Text,
};
use askama::Template;
use axum::{
    Form,
    body::Body,
    extract::{Query, State, rejection::FormRejection},
};
use durward_identity::relying_party::Answer;
use http::{HeaderMap, Response, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Deserialize)]
pub struct Wanted {
    #[serde(default)]
    to: String,
    #[serde(default)]
    provider: String,
}

struct Choice {
    name: Text,
    issuer: Text,
    link: String,
}

#[derive(Template)]
#[template(path = "signin.html")]
struct SignIn {
    frame: Frame,
    choices: Vec<Choice>,
}

/// The sign-in page that leads back to `to`.
pub fn link(to: &str) -> String {
    match oidc::local(to) {
        "/" => "/signin".to_owned(),
        to => format!("/signin?to={}", utf8_percent_encode(to, NON_ALPHANUMERIC)),
    }
}

pub async fn choose(
    State(inner): State<Arc<Inner>>,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Response<Body> {
    match people::signed_in(&inner, &headers).await {
        Ok(Some(_session)) => return see_other(oidc::local(&wanted.to)),
        Ok(None) => {}
        Err(error) => return broken(&inner, None, &error),
    }
    let to = oidc::local(&wanted.to);
    let choice = |client: &oidc::Client| Choice {
        name: Text::new(client.name()),
        issuer: Text::new(&client.options.provider.issuer),
        link: format!(
            "/signin/start?provider={}&to={}",
            utf8_percent_encode(client.name(), NON_ALPHANUMERIC),
            utf8_percent_encode(to, NON_ALPHANUMERIC)
        ),
    };
    let choices = inner.clients.iter().map(choice).collect();
    page(StatusCode::OK, &SignIn { frame: Frame::new(&inner, None, ""), choices })
}

pub async fn start(State(inner): State<Arc<Inner>>, Query(wanted): Query<Wanted>) -> Response<Body> {
    match oidc::begin(&inner, &wanted.provider, &wanted.to).await {
        Ok((there, cookie)) => {
            let mut response = see_other(&there);
            set(&mut response, &inner, Cookie::SignIn, &cookie);
            response
        }
        Err(error) => failed(&inner, &error),
    }
}

pub async fn callback(
    State(inner): State<Arc<Inner>>,
    headers: HeaderMap,
    Query(answer): Query<Answer>,
) -> Response<Body> {
    let cookie = Cookie::SignIn.read(&headers, inner.origin.tls);
    let mut response = match oidc::finish(&inner, cookie, &answer).await {
        Ok((session, to)) => {
            // Whoever was signed in before in this browser no longer is.
            if let Some(before) = Cookie::Session.read(&headers, inner.origin.tls)
                && let Err(error) = inner.sessions.end(before).await
            {
                tracing::error!(%error, "an earlier sign-in could not be ended");
            }
            let mut response = see_other(&to);
            set(&mut response, &inner, Cookie::Session, &session);
            response
        }
        Err(error) => failed(&inner, &error),
    };
    set(&mut response, &inner, Cookie::SignIn, "");
    response
}

fn failed(inner: &Inner, error: &SignInError) -> Response<Body> {
    tracing::info!(%error, "a sign-in to the console was refused");
    let status = match error {
        SignInError::NotAdmitted => StatusCode::FORBIDDEN,
        SignInError::Unavailable(_) => StatusCode::BAD_GATEWAY,
        SignInError::Full | SignInError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        SignInError::NoProvider => StatusCode::NOT_FOUND,
        _ => StatusCode::UNAUTHORIZED,
    };
    let mut text = error.to_string();
    if let Some(first) = text.get(..1) {
        text = first.to_uppercase() + text.get(1..).unwrap_or_default();
    }
    problem(inner, None, status, "You are not signed in", &format!("{text}."))
}

#[derive(Deserialize)]
pub struct Leaving {
    csrf: String,
}

pub async fn sign_out(
    State(inner): State<Arc<Inner>>,
    headers: HeaderMap,
    form: Result<Form<Leaving>, FormRejection>,
) -> Response<Body> {
    let session = match people::signed_in(&inner, &headers).await {
        Ok(session) => session,
        Err(error) => return broken(&inner, None, &error),
    };
    if let Some(session) = session {
        let given = form.map(|Form(form)| form.csrf).unwrap_or_default();
        if let Err(why) = guard::own_form(&inner, &headers, &session.csrf, &given) {
            return problem(&inner, Some(&session), StatusCode::FORBIDDEN, "You are still signed in", why);
        }
        if let Some(id) = Cookie::Session.read(&headers, inner.origin.tls)
            && let Err(error) = inner.sessions.end(id).await
        {
            return broken(&inner, Some(&session), &error);
        }
    }
    let mut response = see_other("/signin");
    set(&mut response, &inner, Cookie::Session, "");
    response
}

fn set(response: &mut Response<Body>, inner: &Inner, cookie: Cookie, value: &str) {
    if let Some(value) = cookie.write(value, inner.origin.tls) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

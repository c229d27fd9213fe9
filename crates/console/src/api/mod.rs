//! The admin API under `/api/v1`: the same asks and answers for the command line and for programs.
//!
//! It takes a bearer token of a person and no cookie, so no page of another site can use it in a browser. Errors are JSON
//! objects with `error`, a word for programs, and `message`, a text for people.

mod sessions;

use crate::{
    Inner, events,
    pages::{self, ask::status_of},
    people::{self, Unknown},
    view::stamp,
};
use axum::{
    Router,
    body::Body,
    extract::{FromRequestParts, Path, Query, State, rejection::QueryRejection},
    routing::{get, post},
};
use bytes::Bytes;
use durward_approval::{Answer, AnswerError, Ask, AskId, Filter, Person, State as AskState, StoreError};
use http::{HeaderName, HeaderValue, Response, StatusCode, header, request::Parts};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

const DOCUMENT: &str = include_str!("openapi.json");
/// Asks of one list unless the request says otherwise, and the most it can say.
const USUAL: usize = 100;
const MOST: usize = 1_000;

/// Every route, as the OpenAPI document must describe it.
#[cfg(test)]
pub const ROUTES: [(&str, &str); 13] = [
    ("get", "/api/v1/asks"),
    ("get", "/api/v1/asks/{id}"),
    ("post", "/api/v1/asks/{id}/answer"),
    ("post", "/api/v1/callers/revoke"),
    ("get", "/api/v1/channels"),
    ("get", "/api/v1/events"),
    ("get", "/api/v1/health"),
    ("get", "/api/v1/me"),
    ("get", "/api/v1/openapi.json"),
    ("get", "/api/v1/sessions"),
    ("get", "/api/v1/sessions/{id}"),
    ("post", "/api/v1/sessions/{id}/revoke"),
    ("get", "/api/v1/sign-in"),
];

pub fn routes() -> Router<Arc<Inner>> {
    Router::new()
        .route("/api/v1/asks", get(list))
        .route("/api/v1/asks/{id}", get(show))
        .route("/api/v1/asks/{id}/answer", post(answer))
        .route("/api/v1/sessions", get(sessions::list))
        .route("/api/v1/sessions/{id}", get(sessions::show))
        .route("/api/v1/sessions/{id}/revoke", post(sessions::revoke))
        .route("/api/v1/callers/revoke", post(sessions::revoke_caller))
        .route("/api/v1/channels", get(channels))
        .route("/api/v1/events", get(changes))
        .route("/api/v1/health", get(health))
        .route("/api/v1/me", get(me))
        .route("/api/v1/openapi.json", get(document))
        .route("/api/v1/sign-in", get(sign_in))
        .method_not_allowed_fallback(|| async { wrong_method() })
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let (status, text) = match serde_json::to_vec(value) {
        Ok(text) => (status, text),
        Err(_error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, b"{\"error\":\"internal\",\"message\":\"\"}".to_vec())
        }
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn error(status: StatusCode, word: &str, message: &str) -> Response<Body> {
    json(status, &json!({"error": word, "message": message}))
}

pub fn not_found() -> Response<Body> {
    error(StatusCode::NOT_FOUND, "not_found", "there is nothing here: see /api/v1/openapi.json")
}

pub fn wrong_method() -> Response<Body> {
    error(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", "see /api/v1/openapi.json")
}

fn broken(why: &StoreError) -> Response<Body> {
    tracing::error!(error = %why, "the admin API cannot answer");
    let text = "a part of the gateway failed; its log says which";
    error(StatusCode::INTERNAL_SERVER_ERROR, "internal", text)
}

/// The person whose token the request brings.
struct Bearer(Person);

impl FromRequestParts<Arc<Inner>> for Bearer {
    type Rejection = Response<Body>;

    async fn from_request_parts(parts: &mut Parts, inner: &Arc<Inner>) -> Result<Self, Self::Rejection> {
        let (status, word, message) = match people::bearer(inner, &parts.headers).await {
            Ok(person) => return Ok(Self(person)),
            Err(Unknown::Missing) => (
                StatusCode::UNAUTHORIZED,
                "no_token",
                "send `Authorization: Bearer <token>` with a token of your identity provider".to_owned(),
            ),
            Err(Unknown::Refused(why)) => (StatusCode::UNAUTHORIZED, "token_refused", why),
            Err(Unknown::NotAdmitted(why)) => (StatusCode::FORBIDDEN, "not_admitted", why),
            Err(Unknown::Unavailable(why)) => (StatusCode::BAD_GATEWAY, "provider_unavailable", why),
            Err(Unknown::Broken(why)) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", why),
        };
        let mut response = error(status, word, &message);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Err(response)
    }
}

/// An ask with what is worked out of it.
#[derive(Serialize)]
struct AskDocument<'a> {
    title: String,
    #[serde(flatten)]
    ask: &'a Ask,
    missing: Vec<Missing>,
    you: You,
}

#[derive(Serialize)]
struct Missing {
    group: String,
    people: u32,
}

/// What the ask is to whoever asks.
#[derive(Serialize)]
struct You {
    may_approve: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<String>,
}

fn document_of<'a>(ask: &'a Ask, person: &Person) -> AskDocument<'a> {
    let why_not = match ask.state {
        AskState::Pending => people::cannot_answer(ask, person),
        state => Some(format!("It is {}.", crate::view::state_word(state))),
    };
    AskDocument {
        title: ask.what.operation.title(),
        missing: ask.missing().into_iter().map(|(group, people)| Missing { group, people }).collect(),
        you: You { may_approve: why_not.is_none(), why_not },
        ask,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// States, with commas; or `all`.
    state: Option<String>,
    caller: Option<String>,
    limit: Option<usize>,
}

async fn list(
    State(inner): State<Arc<Inner>>,
    Bearer(person): Bearer,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Response<Body> {
    let Ok(Query(wanted)) = wanted else {
        return error(StatusCode::BAD_REQUEST, "bad_query", "the parameters are state, caller and limit");
    };
    let mut states = Vec::new();
    match wanted.state.as_deref() {
        None => states.push(AskState::Pending),
        Some("all") => {}
        Some(words) => {
            for word in words.split(',') {
                let Some(state) = AskState::parse(word) else {
                    let known: Vec<&str> = AskState::ALL.iter().map(|state| state.as_str()).collect();
                    let message = format!("a state is one of {}, or all", known.join(", "));
                    return error(StatusCode::BAD_REQUEST, "bad_query", &message);
                };
                states.push(state);
            }
        }
    }
    let limit = wanted.limit.unwrap_or(USUAL).min(MOST);
    match inner.approvals.list(Filter { states, caller: wanted.caller, limit }).await {
        Ok(asks) => {
            let asks: Vec<AskDocument<'_>> = asks.iter().map(|ask| document_of(ask, &person)).collect();
            json(StatusCode::OK, &json!({"asks": asks}))
        }
        Err(why) => broken(&why),
    }
}

async fn find(inner: &Inner, id: &str) -> Result<Ask, Box<Response<Body>>> {
    let missing = || Box::new(error(StatusCode::NOT_FOUND, "not_found", "there is no such ask"));
    let id: AskId = id.parse().map_err(|_error| missing())?;
    match inner.approvals.get(id).await {
        Ok(found) => found.ok_or_else(missing),
        Err(why) => Err(Box::new(broken(&why))),
    }
}

async fn show(
    State(inner): State<Arc<Inner>>,
    Bearer(person): Bearer,
    Path(id): Path<String>,
) -> Response<Body> {
    match find(&inner, &id).await {
        Ok(ask) => json(StatusCode::OK, &document_of(&ask, &person)),
        Err(response) => *response,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answered {
    answer: String,
    /// RFC 3339; for a window.
    until: Option<String>,
    reason: Option<String>,
}

async fn answer(
    State(inner): State<Arc<Inner>>,
    Bearer(person): Bearer,
    Path(id): Path<String>,
    body: Bytes,
) -> Response<Body> {
    let ask = match find(&inner, &id).await {
        Ok(ask) => ask,
        Err(response) => return *response,
    };
    let given = match given(&body) {
        Ok(given) => given,
        Err(why) => return error(StatusCode::BAD_REQUEST, "bad_answer", &why),
    };
    // The approval room judges membership, now and at use, by the latest that a provider said.
    if let Err(why) = inner.approvals.person_seen(&person).await {
        return broken(&why);
    }
    match inner.approvals.answer(ask.id, &person, given).await {
        Ok(ask) => json(StatusCode::OK, &document_of(&ask, &person)),
        Err(AnswerError::Store(why)) => broken(&why),
        Err(why) => error(status_of(&why), word_of(&why), &why.to_string()),
    }
}

fn given(body: &[u8]) -> Result<Answer, String> {
    let answered: Answered = serde_json::from_slice(body)
        .map_err(|error| format!("the body is not an answer in JSON: {error}"))?;
    let reason = answered.reason.unwrap_or_default().trim().to_owned();
    match (answered.answer.as_str(), answered.until) {
        ("approve_once", None) => Ok(Answer::ApproveOnce),
        ("deny", None) => Ok(Answer::Deny { reason }),
        ("break_glass", None) => Ok(Answer::BreakGlass { reason }),
        ("approve_window", Some(until)) => {
            let until = OffsetDateTime::parse(&until, &Rfc3339)
                .map_err(|_error| "`until` is not a time as 2026-11-21T18:00:00Z".to_owned())?;
            Ok(Answer::ApproveWindow { until })
        }
        ("approve_window", None) => Err("a window needs `until`".to_owned()),
        ("approve_once" | "deny" | "break_glass", Some(_)) => Err("only a window has `until`".to_owned()),
        _ => Err("`answer` is one of approve_once, approve_window, deny, break_glass".to_owned()),
    }
}

fn word_of(error: &AnswerError) -> &'static str {
    match error {
        AnswerError::NotFound => "not_found",
        AnswerError::NotPending(_) => "not_pending",
        AnswerError::NotAnApprover(_) => "not_an_approver",
        AnswerError::OwnRequest(_) => "own_request",
        AnswerError::AnsweredBefore => "answered_before",
        AnswerError::ReasonMissing => "reason_missing",
        AnswerError::TooLong { .. } => "too_long",
        AnswerError::Window(_) => "bad_window",
        AnswerError::Store(_) => "internal",
    }
}

async fn changes(State(inner): State<Arc<Inner>>, Bearer(person): Bearer) -> Response<Body> {
    let Some(place) = inner.listeners.place(&person.id) else {
        let why = "too many listen already, or too many of one person";
        return error(StatusCode::SERVICE_UNAVAILABLE, "busy", why);
    };
    // A stream says only that something changed; each look at what did needs a token that is good then.
    let end = (inner.now)() + crate::sessions::LIFETIME;
    let receiver = inner.approvals.changes();
    events::stream(receiver, place, move || std::future::ready((inner.now)() < end))
}

async fn health(State(inner): State<Arc<Inner>>, Bearer(_person): Bearer) -> Response<Body> {
    let parts = pages::parts(&inner).await;
    let good = parts.iter().all(|part| part.good);
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let now = stamp((inner.now)());
    json(status, &json!({"good": good, "version": inner.settings.version, "time": now, "parts": parts}))
}

/// The ways by which people are told of asks, and whether they work.
async fn channels(State(inner): State<Arc<Inner>>, Bearer(_person): Bearer) -> Response<Body> {
    match inner.channels.status().await {
        Ok(channels) => json(StatusCode::OK, &json!({"channels": channels})),
        Err(why) => broken(&why),
    }
}

async fn me(Bearer(person): Bearer) -> Response<Body> {
    json(StatusCode::OK, &person)
}

/// How the command line signs people in. It is asked before anybody has a token, and says only what the provider's
/// sign-in page says too.
async fn sign_in(State(inner): State<Arc<Inner>>) -> Response<Body> {
    #[derive(Serialize)]
    struct Way<'a> {
        name: &'a str,
        issuer: &'a str,
        client_id: &'a str,
        scopes: &'a [String],
    }
    let providers = inner.settings.people.iter().filter_map(|people| {
        let client = people.command_line.as_ref()?;
        Some(Way {
            name: &people.provider.name,
            issuer: &people.provider.issuer,
            client_id: &client.client_id,
            scopes: &client.scopes,
        })
    });
    json(StatusCode::OK, &json!({"providers": providers.collect::<Vec<_>>()}))
}

/// The document says nothing that the source does not: no token is needed.
async fn document() -> Response<Body> {
    let mut response = Response::new(Body::from(DOCUMENT));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(HeaderName::from_static("cache-control"), HeaderValue::from_static("max-age=300"));
    response
}

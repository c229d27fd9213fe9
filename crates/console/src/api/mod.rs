//! The admin API under `/api/v1`: the same asks and answers for the command line and for programs.
//!
//! It takes a bearer token of a person and no cookie, so no page of another site can use it in a browser. Errors are JSON
//! objects with `error`, a word for programs, and `message`, a text for people.

mod sessions;

use crate::{
    ConsoleState,
    approval_request_view::format_rfc3339,
    event_stream,
    pages::{self, approval_request::vote_error_status},
    users::{self, AuthenticationError},
};
use axum::{
    Router,
    body::Body,
    extract::{FromRequestParts, Path, Query, State, rejection::QueryRejection},
    routing::{get, post},
};
use bytes::Bytes;
use durward_approval::{
    ApprovalRequest, ApprovalRequestFilter, ApprovalRequestId, ApprovalState as AskState, Approver,
    StoreError, UpsertUserError, VoteChoice, VoteError,
};
use http::{HeaderName, HeaderValue, Response, StatusCode, header, request::Parts};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

const OPENAPI_DOCUMENT: &str = include_str!("openapi.json");
/// Asks of one list unless the request says otherwise, and the most it can say.
const DEFAULT_LIST_LIMIT: usize = 100;
const MAX_LIST_LIMIT: usize = 1_000;

/// Every route, as the OpenAPI document must describe it.
#[cfg(test)]
pub const API_ROUTES: [(&str, &str); 13] = [
    ("get", "/api/v1/approval-requests"),
    ("get", "/api/v1/approval-requests/{id}"),
    ("post", "/api/v1/approval-requests/{id}/votes"),
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

pub fn routes() -> Router<Arc<ConsoleState>> {
    Router::new()
        .route("/api/v1/approval-requests", get(list_approval_requests))
        .route("/api/v1/approval-requests/{id}", get(get_approval_request))
        .route("/api/v1/approval-requests/{id}/votes", post(cast_vote))
        .route("/api/v1/sessions", get(sessions::list_sessions))
        .route("/api/v1/sessions/{id}", get(sessions::get_session))
        .route("/api/v1/sessions/{id}/revoke", post(sessions::revoke_session))
        .route("/api/v1/callers/revoke", post(sessions::revoke_caller))
        .route("/api/v1/channels", get(list_channels))
        .route("/api/v1/events", get(stream_changes))
        .route("/api/v1/health", get(get_health))
        .route("/api/v1/me", get(get_current_user))
        .route("/api/v1/openapi.json", get(get_openapi_document))
        .route("/api/v1/sign-in", get(list_sign_in_providers))
        .method_not_allowed_fallback(|| async { method_not_allowed_response() })
}

fn json_response(status: StatusCode, value: &impl Serialize) -> Response<Body> {
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

fn error_response(status: StatusCode, word: &str, message: &str) -> Response<Body> {
    json_response(status, &json!({"error": word, "message": message}))
}

pub fn not_found_response() -> Response<Body> {
    error_response(StatusCode::NOT_FOUND, "not_found", "there is nothing here: see /api/v1/openapi.json")
}

pub fn method_not_allowed_response() -> Response<Body> {
    error_response(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", "see /api/v1/openapi.json")
}

fn store_error_response(why: &StoreError) -> Response<Body> {
    tracing::error!(error = %why, "the admin API failed");
    let text = "a part of the gateway failed; its log says which";
    error_response(StatusCode::INTERNAL_SERVER_ERROR, "internal", text)
}

/// The person whose token the request brings.
struct BearerUser(Approver);

impl FromRequestParts<Arc<ConsoleState>> for BearerUser {
    type Rejection = Response<Body>;

    async fn from_request_parts(
        parts: &mut Parts,
        inner: &Arc<ConsoleState>,
    ) -> Result<Self, Self::Rejection> {
        let (status, word, message) = match users::authenticate_bearer(inner, &parts.headers).await {
            Ok(person) => return Ok(Self(person)),
            Err(AuthenticationError::MissingToken) => (
                StatusCode::UNAUTHORIZED,
                "no_token",
                "send `Authorization: Bearer <token>` with a token of your identity provider".to_owned(),
            ),
            Err(AuthenticationError::TokenRefused(why)) => (StatusCode::UNAUTHORIZED, "token_refused", why),
            Err(AuthenticationError::NotAdmitted(why)) => (StatusCode::FORBIDDEN, "not_admitted", why),
            Err(AuthenticationError::ProviderUnavailable(why)) => {
                (StatusCode::BAD_GATEWAY, "provider_unavailable", why)
            }
            Err(AuthenticationError::Internal(why)) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", why),
        };
        let mut response = error_response(status, word, &message);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Err(response)
    }
}

/// An ask with what is worked out of it.
#[derive(Serialize)]
struct ApprovalRequestDocument<'a> {
    title: String,
    #[serde(flatten)]
    approval_request: &'a ApprovalRequest,
    missing_votes: Vec<MissingVotes>,
    voter: VoterPermission,
}

#[derive(Serialize)]
struct MissingVotes {
    group: String,
    count: u32,
}

/// What the ask is to whoever asks.
#[derive(Serialize)]
struct VoterPermission {
    may_approve: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
}

fn approval_request_document<'a>(ask: &'a ApprovalRequest, person: &Approver) -> ApprovalRequestDocument<'a> {
    let why_not = match ask.state {
        AskState::Pending => users::vote_refusal(ask, person),
        state => Some(format!("It is {}.", crate::approval_request_view::state_label(state))),
    };
    ApprovalRequestDocument {
        title: ask.details.operation.qualified_name(),
        missing_votes: ask
            .missing_approvals()
            .into_iter()
            .map(|(group, people)| MissingVotes { group, count: people })
            .collect(),
        voter: VoterPermission { may_approve: why_not.is_none(), refusal: why_not },
        approval_request: ask,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// States, with commas; or `all`.
    state: Option<String>,
    caller: Option<String>,
    limit: Option<usize>,
}

async fn list_approval_requests(
    State(inner): State<Arc<ConsoleState>>,
    BearerUser(person): BearerUser,
    wanted: Result<Query<ListQuery>, QueryRejection>,
) -> Response<Body> {
    let Ok(Query(wanted)) = wanted else {
        return error_response(
            StatusCode::BAD_REQUEST,
            "bad_query",
            "the parameters are state, caller and limit",
        );
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
                    return error_response(StatusCode::BAD_REQUEST, "bad_query", &message);
                };
                states.push(state);
            }
        }
    }
    let limit = wanted.limit.unwrap_or(DEFAULT_LIST_LIMIT).min(MAX_LIST_LIMIT);
    match inner.approvals.list(ApprovalRequestFilter { states, caller: wanted.caller, limit }).await {
        Ok(asks) => {
            let asks: Vec<ApprovalRequestDocument<'_>> =
                asks.iter().map(|ask| approval_request_document(ask, &person)).collect();
            json_response(StatusCode::OK, &json!({"approval_requests": asks}))
        }
        Err(why) => store_error_response(&why),
    }
}

async fn find_approval_request(
    inner: &ConsoleState,
    id: &str,
) -> Result<ApprovalRequest, Box<Response<Body>>> {
    let missing =
        || Box::new(error_response(StatusCode::NOT_FOUND, "not_found", "there is no such approval request"));
    let id: ApprovalRequestId = id.parse().map_err(|_error| missing())?;
    match inner.approvals.get(id).await {
        Ok(found) => found.ok_or_else(missing),
        Err(why) => Err(Box::new(store_error_response(&why))),
    }
}

async fn get_approval_request(
    State(inner): State<Arc<ConsoleState>>,
    BearerUser(person): BearerUser,
    Path(id): Path<String>,
) -> Response<Body> {
    match find_approval_request(&inner, &id).await {
        Ok(ask) => json_response(StatusCode::OK, &approval_request_document(&ask, &person)),
        Err(response) => *response,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VoteBody {
    vote: String,
    /// RFC 3339; for a window.
    until: Option<String>,
    reason: Option<String>,
}

async fn cast_vote(
    State(inner): State<Arc<ConsoleState>>,
    BearerUser(person): BearerUser,
    Path(id): Path<String>,
    body: Bytes,
) -> Response<Body> {
    let ask = match find_approval_request(&inner, &id).await {
        Ok(ask) => ask,
        Err(response) => return *response,
    };
    let given = match parse_vote_body(&body) {
        Ok(given) => given,
        Err(why) => return error_response(StatusCode::BAD_REQUEST, "bad_vote", &why),
    };
    // The approval room judges membership, now and at use, by the latest that a provider said.
    match inner.approvals.upsert_user(&person).await {
        Ok(()) => {}
        Err(UpsertUserError::Store(why)) => return store_error_response(&why),
        Err(why) => return error_response(StatusCode::BAD_REQUEST, "too_long", &why.to_string()),
    }
    match inner.approvals.cast_vote(ask.id, &person, given).await {
        Ok(ask) => json_response(StatusCode::OK, &approval_request_document(&ask, &person)),
        Err(VoteError::Store(why)) => store_error_response(&why),
        Err(why) => error_response(vote_error_status(&why), vote_error_code(&why), &why.to_string()),
    }
}

fn parse_vote_body(body: &[u8]) -> Result<VoteChoice, String> {
    let answered: VoteBody =
        serde_json::from_slice(body).map_err(|error| format!("the body is not a vote in JSON: {error}"))?;
    let reason = answered.reason.unwrap_or_default().trim().to_owned();
    match (answered.vote.as_str(), answered.until) {
        ("approve_once", None) => Ok(VoteChoice::ApproveOnce),
        ("deny", None) => Ok(VoteChoice::Deny { reason }),
        ("break_glass", None) => Ok(VoteChoice::BreakGlass { reason }),
        ("approve_time_bound", Some(until)) => {
            let until = OffsetDateTime::parse(&until, &Rfc3339)
                .map_err(|_error| "`until` is not a time as 2026-11-21T18:00:00Z".to_owned())?;
            Ok(VoteChoice::ApproveTimeBound { until })
        }
        ("approve_time_bound", None) => Err("a time-bound grant needs `until`".to_owned()),
        ("approve_once" | "deny" | "break_glass", Some(_)) => {
            Err("only a time-bound grant has `until`".to_owned())
        }
        _ => Err("`vote` is one of approve_once, approve_time_bound, deny, break_glass".to_owned()),
    }
}

fn vote_error_code(error: &VoteError) -> &'static str {
    match error {
        VoteError::NotFound => "not_found",
        VoteError::NotPending(_) => "not_pending",
        VoteError::NotAnApprover(_) => "not_an_approver",
        VoteError::OwnRequest(_) => "own_request",
        VoteError::AlreadyApproved => "already_voted",
        VoteError::ReasonMissing => "reason_missing",
        VoteError::TooLong { .. } => "too_long",
        VoteError::InvalidTimeBound(_) => "bad_time_bound",
        VoteError::Store(_) => "internal",
    }
}

async fn stream_changes(
    State(inner): State<Arc<ConsoleState>>,
    BearerUser(person): BearerUser,
) -> Response<Body> {
    let Some(place) = inner.event_subscribers.subscribe(&person.id) else {
        let why = "too many event streams are open, in total or for this person";
        return error_response(StatusCode::SERVICE_UNAVAILABLE, "busy", why);
    };
    // A stream says only that something changed; each look at what did needs a token that is good then.
    let end = (inner.clock)() + crate::logins::LOGIN_LIFETIME;
    let receiver = inner.approvals.subscribe_changes();
    event_stream::stream_events(receiver, place, move || std::future::ready((inner.clock)() < end))
}

async fn get_health(
    State(inner): State<Arc<ConsoleState>>,
    BearerUser(_person): BearerUser,
) -> Response<Body> {
    let parts = pages::run_health_checks(&inner).await;
    let good = parts.iter().all(|part| part.healthy);
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let now = format_rfc3339((inner.clock)());
    json_response(
        status,
        &json!({"healthy": good, "version": inner.settings.version, "time": now, "checks": parts}),
    )
}

/// The ways by which people are told of asks, and whether they work.
async fn list_channels(
    State(inner): State<Arc<ConsoleState>>,
    BearerUser(_person): BearerUser,
) -> Response<Body> {
    match inner.channels.read_all().await {
        Ok(channels) => json_response(StatusCode::OK, &json!({"channels": channels})),
        Err(why) => store_error_response(&why),
    }
}

async fn get_current_user(BearerUser(person): BearerUser) -> Response<Body> {
    json_response(StatusCode::OK, &person)
}

/// How the command line signs people in. It is asked before anybody has a token, and says only what the provider's
/// sign-in page says too.
async fn list_sign_in_providers(State(inner): State<Arc<ConsoleState>>) -> Response<Body> {
    #[derive(Serialize)]
    struct CliSignInProvider<'a> {
        name: &'a str,
        issuer: &'a str,
        client_id: &'a str,
        scopes: &'a [String],
    }
    let providers = inner.settings.api_token_providers.iter().filter_map(|people| {
        let client = people.cli_client.as_ref()?;
        Some(CliSignInProvider {
            name: &people.provider.name,
            issuer: &people.provider.issuer,
            client_id: &client.client_id,
            scopes: &client.scopes,
        })
    });
    json_response(StatusCode::OK, &json!({"providers": providers.collect::<Vec<_>>()}))
}

/// The document says nothing that the source does not: no token is needed.
async fn get_openapi_document() -> Response<Body> {
    let mut response = Response::new(Body::from(OPENAPI_DOCUMENT));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(HeaderName::from_static("cache-control"), HeaderValue::from_static("max-age=300"));
    response
}

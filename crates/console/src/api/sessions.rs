//! Sessions from the journal, and revocations. The JSON of sessions and exchanges is that of [`durward_journal::history`].

use super::responses::{BearerUser, error_response, internal_error_response, json_response};
use crate::{
    service::{self, RevocationError},
    session_list::SessionListQuery,
    state::ConsoleState,
};
use axum::{
    body::Body,
    extract::{Path, Query, State, rejection::QueryRejection},
};
use bytes::Bytes;
use durward_core::{Caller, SessionId};
use durward_identity::{RevocationTarget, RevokeError};
use durward_journal::history::SessionHistory;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

pub async fn list_sessions(
    State(state): State<Arc<ConsoleState>>,
    BearerUser(_person): BearerUser,
    query: Result<Query<SessionListQuery>, QueryRejection>,
) -> Response<Body> {
    let Ok(Query(query)) = query else {
        let message = "the parameters are caller, connection and state (active, expired or revoked)";
        return error_response(StatusCode::BAD_REQUEST, "bad_query", message);
    };
    match service::list_sessions(&state, query).await {
        Ok(list) => json_response(StatusCode::OK, &list),
        Err(error) => internal_error_response(&error),
    }
}

fn session_not_found_response() -> Response<Body> {
    error_response(
        StatusCode::NOT_FOUND,
        "not_found",
        "the journal of this gateway does not know this session",
    )
}

pub async fn get_session(
    State(state): State<Arc<ConsoleState>>,
    BearerUser(_person): BearerUser,
    Path(id): Path<String>,
) -> Response<Body> {
    let Ok(id) = id.parse::<SessionId>() else { return session_not_found_response() };
    match service::read_session(&state, id).await {
        Ok(detail) if detail.session.is_none() => session_not_found_response(),
        Ok(detail) => json_response(StatusCode::OK, &detail),
        Err(error) => internal_error_response(&error),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeSessionBody {
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeCallerBody {
    caller: String,
    #[serde(default)]
    reason: String,
}

/// Revokes first and reads the journal afterwards: the scan takes time, and a session that another replica opened is not in
/// this gateway's journal at all.
pub async fn revoke_session(
    State(state): State<Arc<ConsoleState>>,
    BearerUser(person): BearerUser,
    Path(id): Path<String>,
    body: Bytes,
) -> Response<Body> {
    let Ok(session) = id.parse::<SessionId>() else {
        return error_response(StatusCode::NOT_FOUND, "not_found", "this is not the id of a session");
    };
    let body: RevokeSessionBody = match serde_json::from_slice(&body) {
        Ok(body) => body,
        Err(error) => return malformed_revocation_response(&error),
    };
    let target = RevocationTarget::Session(session);
    if let Err(error) = service::revoke(&state, &person, &target, &body.reason).await {
        return revocation_error_response(&error);
    }
    let history = match service::read_session(&state, session).await {
        Ok(detail) => detail.session,
        // The revocation is in force all the same.
        Err(error) => {
            tracing::error!(%error, "the journal cannot be read");
            None
        }
    };
    let caller = history.as_ref().and_then(|history| history.caller.as_ref()).map(Caller::id);
    let started_at = history.as_ref().and_then(SessionHistory::started_at);
    let revocation = service::find_revocation(
        &state,
        session,
        caller.as_deref().unwrap_or_default(),
        started_at.unwrap_or_else(|| (state.clock)()),
    );
    let response = json!({
        "session": session, "known": history.is_some(), "caller": caller, "revocation": revocation,
    });
    json_response(StatusCode::OK, &response)
}

pub async fn revoke_caller(
    State(state): State<Arc<ConsoleState>>,
    BearerUser(person): BearerUser,
    body: Bytes,
) -> Response<Body> {
    let RevokeCallerBody { caller, reason } = match serde_json::from_slice(&body) {
        Ok(body) => body,
        Err(error) => return malformed_revocation_response(&error),
    };
    let target = RevocationTarget::Caller(caller.clone());
    if let Err(error) = service::revoke(&state, &person, &target, &reason).await {
        return revocation_error_response(&error);
    }
    let count = service::count_sessions_of_caller(&state, caller.clone()).await.unwrap_or_else(|error| {
        tracing::error!(%error, "the journal cannot be read");
        0
    });
    json_response(StatusCode::OK, &json!({"caller": caller, "sessions": count}))
}

fn malformed_revocation_response(error: &serde_json::Error) -> Response<Body> {
    let message = format!("the body is not a revocation in JSON: {error}");
    error_response(StatusCode::BAD_REQUEST, "bad_revocation", &message)
}

fn revocation_error_response(error: &RevocationError) -> Response<Body> {
    let (status, code) = match error {
        RevocationError::NotARevoker => (StatusCode::FORBIDDEN, "not_a_revoker"),
        RevocationError::Revoke(RevokeError::ReasonMissing) => (StatusCode::BAD_REQUEST, "reason_missing"),
        RevocationError::Revoke(RevokeError::TooLong { .. }) => (StatusCode::BAD_REQUEST, "too_long"),
        RevocationError::Revoke(RevokeError::MalformedCaller) => (StatusCode::BAD_REQUEST, "bad_caller"),
        RevocationError::Revoke(RevokeError::Store(error)) => return internal_error_response(error),
    };
    error_response(status, code, &error.to_string())
}

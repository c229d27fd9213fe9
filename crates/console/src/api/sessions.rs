//! Sessions as the journal tells them, and revoking them. A revocation does not wait for the journal: it holds first, then the
//! answer says whether such a session is known here.

use super::{BearerUser, error_response, json_response, store_error_response};
use crate::{
    ConsoleState,
    approval_request_view::format_rfc3339,
    history::{self, SessionHistory},
    pages::sessions::{find_revocation, read_journal},
    users,
};
use axum::{
    body::Body,
    extract::{Path, State},
};
use bytes::Bytes;
use durward_approval::Approver;
use durward_core::SessionId;
use durward_identity::{Revocation, RevocationTarget, RevokeError};
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;

#[derive(Serialize)]
struct SessionDocument<'a> {
    #[serde(flatten)]
    session: &'a SessionHistory,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<RevocationDocument>,
}

#[derive(Serialize)]
struct RevocationDocument {
    by: String,
    at: String,
    reason: String,
}

fn revocation_document(one: &Revocation) -> RevocationDocument {
    RevocationDocument {
        by: one.revoked_by.clone(),
        at: format_rfc3339(one.revoked_at),
        reason: one.reason.clone(),
    }
}

fn session_document<'a>(inner: &ConsoleState, session: &'a SessionHistory) -> SessionDocument<'a> {
    SessionDocument { session, revoked: find_revocation(inner, session).as_deref().map(revocation_document) }
}

fn journal_error_response(why: &str) -> Response<Body> {
    tracing::error!(why, "the admin API cannot read the journal");
    error_response(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "the journal cannot be read; the log says why",
    )
}

pub(super) async fn list_sessions(
    State(inner): State<Arc<ConsoleState>>,
    BearerUser(_person): BearerUser,
) -> Response<Body> {
    match read_journal(&inner, |dir| history::list_sessions(&dir)).await {
        Ok((sessions, reading)) => {
            let sessions: Vec<_> = sessions.iter().map(|session| session_document(&inner, session)).collect();
            json_response(StatusCode::OK, &json!({"sessions": sessions, "journal_scan": reading}))
        }
        Err(why) => journal_error_response(&why),
    }
}

fn session_not_found_response() -> Response<Body> {
    error_response(StatusCode::NOT_FOUND, "not_found", "the journal knows no such session")
}

pub(super) async fn get_session(
    State(inner): State<Arc<ConsoleState>>,
    BearerUser(_person): BearerUser,
    Path(id): Path<String>,
) -> Response<Body> {
    let Ok(id) = id.parse::<SessionId>() else { return session_not_found_response() };
    match read_journal(&inner, move |dir| history::session_history(&dir, id)).await {
        Ok((Some(session), exchanges, reading)) => {
            let session = session_document(&inner, &session);
            json_response(
                StatusCode::OK,
                &json!({"session": session, "exchanges": exchanges, "journal_scan": reading}),
            )
        }
        Ok((None, ..)) => session_not_found_response(),
        Err(why) => journal_error_response(&why),
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

pub(super) async fn revoke_session(
    State(inner): State<Arc<ConsoleState>>,
    BearerUser(person): BearerUser,
    Path(id): Path<String>,
    body: Bytes,
) -> Response<Body> {
    let Ok(session) = id.parse::<SessionId>() else {
        return error_response(StatusCode::NOT_FOUND, "not_found", "this is no session's id");
    };
    let why: RevokeSessionBody = match serde_json::from_slice(&body) {
        Ok(why) => why,
        Err(wrong) => return bad_revocation_response(&wrong),
    };
    if let Err(refused) =
        apply_revocation(&inner, &person, &RevocationTarget::Session(session), &why.reason).await
    {
        return *refused;
    }
    let known = match read_journal(&inner, move |dir| history::session_history(&dir, session)).await {
        Ok((known, ..)) => known,
        // It holds all the same.
        Err(why) => {
            tracing::error!(why, "the journal cannot be read");
            None
        }
    };
    let caller = known.as_ref().and_then(|known| known.caller.as_ref()).map(durward_core::Caller::id);
    let began = known.as_ref().map_or_else(|| (inner.clock)(), SessionHistory::started_at);
    let revoked = inner.revocations.find_revocation(session, caller.as_deref().unwrap_or_default(), began);
    let answer = json!({
        "session": session, "known": known.is_some(), "caller": caller, "revoked": revoked.as_deref().map(revocation_document),
    });
    json_response(StatusCode::OK, &answer)
}

pub(super) async fn revoke_caller(
    State(inner): State<Arc<ConsoleState>>,
    BearerUser(person): BearerUser,
    body: Bytes,
) -> Response<Body> {
    let RevokeCallerBody { caller, reason } = match serde_json::from_slice(&body) {
        Ok(wanted) => wanted,
        Err(wrong) => return bad_revocation_response(&wrong),
    };
    if let Err(refused) =
        apply_revocation(&inner, &person, &RevocationTarget::Caller(caller.clone()), &reason).await
    {
        return *refused;
    }
    let of = caller.clone();
    let known = read_journal(&inner, move |dir| history::count_sessions(&dir, &of)).await;
    let known = known.inspect_err(|why| tracing::error!(why, "the journal cannot be read")).unwrap_or(0);
    json_response(StatusCode::OK, &json!({"caller": caller, "sessions": known}))
}

fn bad_revocation_response(wrong: &serde_json::Error) -> Response<Body> {
    let text = format!("the body is not a revocation in JSON: {wrong}");
    error_response(StatusCode::BAD_REQUEST, "bad_revocation", &text)
}

async fn apply_revocation(
    inner: &ConsoleState,
    person: &Approver,
    what: &RevocationTarget,
    reason: &str,
) -> Result<(), Box<Response<Body>>> {
    if !users::may_revoke_sessions(inner, person) {
        let text = "you are in no group that may revoke sessions ([console] revoke_groups)";
        return Err(Box::new(error_response(StatusCode::FORBIDDEN, "not_a_revoker", text)));
    }
    let done = inner.revocations.revoke(what, &person.id, reason, (inner.clock)()).await;
    done.inspect(|()| tracing::warn!(person = person.id, ?what, "revoked")).map_err(|why| {
        let word = match &why {
            RevokeError::ReasonMissing => "reason_missing",
            RevokeError::TooLong { .. } => "too_long",
            RevokeError::MalformedCaller => "bad_caller",
            RevokeError::Store(why) => return Box::new(store_error_response(why)),
        };
        Box::new(error_response(StatusCode::BAD_REQUEST, word, &why.to_string()))
    })
}

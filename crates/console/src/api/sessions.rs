//! Sessions as the journal tells them, and revoking them. A revocation does not wait for the journal: it holds first, then the
//! answer says whether such a session is known here.

use super::{Bearer, broken, error, json};
use crate::{
    Inner,
    pages::sessions::{reading, revocation},
    people,
    recordings::{self, Session},
    view::stamp,
};
use axum::{
    body::Body,
    extract::{Path, State},
};
use bytes::Bytes;
use durward_approval::Person;
use durward_core::SessionId;
use durward_identity::{Revocation, RevokeError, Revoked};
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Serialize)]
struct SessionDocument<'a> {
    #[serde(flatten)]
    session: &'a Session,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<RevokedDocument>,
}

#[derive(Serialize)]
struct RevokedDocument {
    by: String,
    at: String,
    reason: String,
}

fn told(one: &Revocation) -> RevokedDocument {
    RevokedDocument { by: one.by.clone(), at: stamp(one.at), reason: one.reason.clone() }
}

fn document_of<'a>(inner: &Inner, session: &'a Session) -> SessionDocument<'a> {
    SessionDocument { session, revoked: revocation(inner, session).as_deref().map(told) }
}

fn unreadable(why: &str) -> Response<Body> {
    tracing::error!(why, "the admin API cannot read the journal");
    error(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the journal cannot be read; the log says why")
}

pub(super) async fn list(State(inner): State<Arc<Inner>>, Bearer(_person): Bearer) -> Response<Body> {
    match reading(&inner, |dir| recordings::sessions(&dir)).await {
        Ok((sessions, reading)) => {
            let sessions: Vec<_> = sessions.iter().map(|session| document_of(&inner, session)).collect();
            json(StatusCode::OK, &json!({"sessions": sessions, "reading": reading}))
        }
        Err(why) => unreadable(&why),
    }
}

fn missing() -> Response<Body> {
    error(StatusCode::NOT_FOUND, "not_found", "the journal knows no such session")
}

pub(super) async fn show(
    State(inner): State<Arc<Inner>>,
    Bearer(_person): Bearer,
    Path(id): Path<String>,
) -> Response<Body> {
    let Ok(id) = id.parse::<SessionId>() else { return missing() };
    match reading(&inner, move |dir| recordings::story(&dir, id)).await {
        Ok((Some(session), exchanges, reading)) => {
            let session = document_of(&inner, &session);
            json(StatusCode::OK, &json!({"session": session, "exchanges": exchanges, "reading": reading}))
        }
        Ok((None, ..)) => missing(),
        Err(why) => unreadable(&why),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Why {
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhoAndWhy {
    caller: String,
    #[serde(default)]
    reason: String,
}

pub(super) async fn revoke(
    State(inner): State<Arc<Inner>>,
    Bearer(person): Bearer,
    Path(id): Path<String>,
    body: Bytes,
) -> Response<Body> {
    let Ok(session) = id.parse::<SessionId>() else {
        return error(StatusCode::NOT_FOUND, "not_found", "this is no session's id");
    };
    let why: Why = match serde_json::from_slice(&body) {
        Ok(why) => why,
        Err(wrong) => return bad(&wrong),
    };
    if let Err(refused) = put(&inner, &person, &Revoked::Session(session), &why.reason).await {
        return *refused;
    }
    let known = match reading(&inner, move |dir| recordings::story(&dir, session)).await {
        Ok((known, ..)) => known,
        // It holds all the same.
        Err(why) => {
            tracing::error!(why, "the journal cannot be read");
            None
        }
    };
    let caller = known.as_ref().and_then(|known| known.caller.as_ref()).map(durward_core::Caller::id);
    let began = known.as_ref().map_or_else(|| (inner.now)(), Session::began);
    let revoked = inner.revocations.of(session, caller.as_deref().unwrap_or_default(), began);
    let answer = json!({
        "session": session, "known": known.is_some(), "caller": caller, "revoked": revoked.as_deref().map(told),
    });
    json(StatusCode::OK, &answer)
}

pub(super) async fn revoke_caller(
    State(inner): State<Arc<Inner>>,
    Bearer(person): Bearer,
    body: Bytes,
) -> Response<Body> {
    let WhoAndWhy { caller, reason } = match serde_json::from_slice(&body) {
        Ok(wanted) => wanted,
        Err(wrong) => return bad(&wrong),
    };
    if let Err(refused) = put(&inner, &person, &Revoked::Caller(caller.clone()), &reason).await {
        return *refused;
    }
    let of = caller.clone();
    let known = reading(&inner, move |dir| recordings::sessions_of(&dir, &of)).await;
    let known = known.inspect_err(|why| tracing::error!(why, "the journal cannot be read")).unwrap_or(0);
    json(StatusCode::OK, &json!({"caller": caller, "sessions": known}))
}

fn bad(wrong: &serde_json::Error) -> Response<Body> {
    let text = format!("the body is not a revocation in JSON: {wrong}");
    error(StatusCode::BAD_REQUEST, "bad_revocation", &text)
}

async fn put(
    inner: &Inner,
    person: &Person,
    what: &Revoked,
    reason: &str,
) -> Result<(), Box<Response<Body>>> {
    if !people::may_revoke(inner, person) {
        let text = "you are in no group that may revoke sessions ([console] revoke_groups)";
        return Err(Box::new(error(StatusCode::FORBIDDEN, "not_a_revoker", text)));
    }
    let done = inner.revocations.revoke(what, &person.id, reason, (inner.now)()).await;
    done.inspect(|()| tracing::warn!(person = person.id, ?what, "revoked")).map_err(|why| {
        let word = match &why {
            RevokeError::ReasonMissing => "reason_missing",
            RevokeError::TooLong { .. } => "too_long",
            RevokeError::Caller => "bad_caller",
            RevokeError::Store(why) => return Box::new(broken(why)),
        };
        Box::new(error(StatusCode::BAD_REQUEST, word, &why.to_string()))
    })
}

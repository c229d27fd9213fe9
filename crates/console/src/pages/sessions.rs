//! `/sessions` and `/sessions/{id}`: what the journal tells of who did what, and the button that ends it. Only the POST
//! revokes.

use super::{Frame, broken, page, problem, see_other};
use crate::{
    Inner, guard,
    people::{self, Visitor},
    recordings::{self, Exchange, Reading, Session, who},
    sessions::SignedIn,
    text::Text,
    view::{moment, moment_of},
};
use askama::Template;
use axum::{
    Form,
    body::Body,
    extract::{Path, Query, State, rejection::FormRejection},
};
use durward_core::SessionId;
use durward_identity::{Revocation, RevokeError, Revoked};
use http::{HeaderMap, Response, StatusCode};
use serde::Deserialize;
use std::{collections::VecDeque, path::PathBuf, sync::Arc};

/// A session as people read it.
struct Line {
    id: SessionId,
    caller: Text,
    groups: Text,
    connection: Text,
    opened: Text,
    expires: Text,
    last: Text,
    allowed: u64,
    refused: u64,
    revoked: Option<RevokedView>,
}

struct RevokedView {
    by: Text,
    at: Text,
    reason: Text,
    /// With all of the caller's.
    of_caller: bool,
}

impl Line {
    fn of(inner: &Inner, session: &Session) -> Self {
        let time = |time: &Option<String>| time.as_deref().map_or_else(|| Text::new("-"), moment_of);
        let revoked = revocation(inner, session).map(|one| RevokedView {
            by: Text::new(&one.by),
            at: moment(one.at),
            reason: Text::new(&one.reason),
            of_caller: matches!(one.what, Revoked::Caller(_)),
        });
        Self {
            id: session.id,
            caller: session.caller.as_ref().map_or_else(|| Text::new("-"), who),
            groups: Text::new(
                session.caller.as_ref().map(|caller| caller.groups.join(", ")).unwrap_or_default(),
            ),
            connection: Text::new(session.connection.as_deref().unwrap_or("-")),
            opened: time(&session.opened),
            expires: time(&session.expires),
            last: time(&session.last),
            allowed: session.allowed,
            refused: session.refused,
            revoked,
        }
    }
}

/// What revoked the session, if something did.
pub fn revocation(inner: &Inner, session: &Session) -> Option<Arc<Revocation>> {
    let caller = session.caller.as_ref().map(durward_core::Caller::id).unwrap_or_default();
    inner.revocations.of(session.id, &caller, session.began())
}

#[derive(Template)]
#[template(path = "sessions.html")]
struct List {
    frame: Frame,
    sessions: Vec<Line>,
    reading: Reading,
}

#[derive(Template)]
#[template(path = "session.html")]
struct Story {
    frame: Frame,
    session: Line,
    exchanges: VecDeque<Exchange>,
    reading: Reading,
    csrf: String,
    may_revoke: bool,
    notice: Option<&'static str>,
    wrong: Option<Text>,
}

/// Reads the journal on a thread of its own, one reader at a time.
pub async fn reading<T: Send + 'static>(
    inner: &Arc<Inner>,
    work: impl FnOnce(PathBuf) -> T + Send + 'static,
) -> Result<T, String> {
    let place = inner.reading.clone().acquire_owned().await.map_err(|error| error.to_string())?;
    let dir = inner.settings.journal_dir.clone();
    let task = tokio::task::spawn_blocking(move || {
        let read = work(dir);
        drop(place);
        read
    });
    task.await.map_err(|error| error.to_string())
}

pub async fn list(State(inner): State<Arc<Inner>>, Visitor(visitor): Visitor) -> Response<Body> {
    let frame = Frame::new(&inner, Some(&visitor), "sessions");
    match reading(&inner, |dir| recordings::sessions(&dir)).await {
        Ok((sessions, reading)) => {
            let sessions = sessions.iter().map(|session| Line::of(&inner, session)).collect();
            page(StatusCode::OK, &List { frame, sessions, reading })
        }
        Err(error) => broken(&inner, Some(&visitor), &error),
    }
}

#[derive(Deserialize)]
pub struct After {
    done: Option<String>,
}

pub async fn show(
    State(inner): State<Arc<Inner>>,
    Visitor(visitor): Visitor,
    Path(id): Path<String>,
    Query(after): Query<After>,
) -> Response<Body> {
    let notice = after.done.and_then(|done| match done.as_str() {
        "session" => Some("The session is revoked. What it asks from now on is refused."),
        "caller" => Some("All sessions of this caller that began until now are revoked."),
        _ => None,
    });
    shown(&inner, &visitor, &id, notice, None, StatusCode::OK).await
}

async fn shown(
    inner: &Arc<Inner>,
    visitor: &SignedIn,
    id: &str,
    notice: Option<&'static str>,
    wrong: Option<Text>,
    status: StatusCode,
) -> Response<Body> {
    let Ok(id) = id.parse::<SessionId>() else { return missing(inner, visitor) };
    match reading(inner, move |dir| recordings::story(&dir, id)).await {
        Ok((Some(session), exchanges, reading)) => {
            let session = Line::of(inner, &session);
            // An old link may say so of one that is not.
            let notice = notice.filter(|_notice| session.revoked.is_some());
            let story = Story {
                frame: Frame::new(inner, Some(visitor), "sessions"),
                session,
                exchanges,
                reading,
                csrf: visitor.csrf.clone(),
                may_revoke: people::may_revoke(inner, &visitor.person),
                notice,
                wrong,
            };
            page(status, &story)
        }
        Ok((None, ..)) => missing(inner, visitor),
        Err(error) => broken(inner, Some(visitor), &error),
    }
}

fn missing(inner: &Inner, visitor: &SignedIn) -> Response<Body> {
    problem(
        inner,
        Some(visitor),
        StatusCode::NOT_FOUND,
        "There is no such session",
        "The journal does not know it. The sessions page lists those it knows.",
    )
}

#[derive(Deserialize)]
pub struct Revoking {
    csrf: String,
    /// `session`, or `caller` for all of its caller.
    what: String,
    #[serde(default)]
    reason: String,
}

/// `POST /sessions/{id}/revoke`.
pub async fn revoke(
    State(inner): State<Arc<Inner>>,
    Visitor(visitor): Visitor,
    Path(id): Path<String>,
    headers: HeaderMap,
    form: Result<Form<Revoking>, FormRejection>,
) -> Response<Body> {
    let refused = |status, text: &str| problem(&inner, Some(&visitor), status, "Nothing was revoked", text);
    let Ok(Form(form)) = form else {
        return refused(StatusCode::BAD_REQUEST, "The form is not complete. Go back and reload the page.");
    };
    if let Err(why) = guard::own_form(&inner, &headers, &visitor.csrf, &form.csrf) {
        tracing::warn!(
            person = visitor.person.id,
            why,
            "a revocation was refused: it did not come from our page"
        );
        return refused(StatusCode::FORBIDDEN, &format!("{why}. Open the session here and use its button."));
    }
    if !people::may_revoke(&inner, &visitor.person) {
        return refused(StatusCode::FORBIDDEN, "You are in no group that may revoke sessions.");
    }
    let Ok(session) = id.parse::<SessionId>() else { return missing(&inner, &visitor) };
    let what = match form.what.as_str() {
        "session" => Revoked::Session(session),
        "caller" => match reading(&inner, move |dir| recordings::story(&dir, session)).await {
            Ok((Some(Session { caller: Some(caller), .. }), ..)) => Revoked::Caller(caller.id()),
            Ok(_unknown) => return missing(&inner, &visitor),
            Err(error) => return broken(&inner, Some(&visitor), &error),
        },
        _ => return refused(StatusCode::BAD_REQUEST, "Choose the session or all sessions of its caller."),
    };
    match inner.revocations.revoke(&what, &visitor.person.id, &form.reason, (inner.now)()).await {
        Ok(()) => {
            tracing::warn!(person = visitor.person.id, ?what, "revoked");
            see_other(&format!("/sessions/{session}?done={}", form.what))
        }
        Err(RevokeError::Store(error)) => broken(&inner, Some(&visitor), &error),
        Err(error) => {
            let wrong = Some(Text::new(error.to_string()));
            shown(&inner, &visitor, &id, None, wrong, StatusCode::BAD_REQUEST).await
        }
    }
}

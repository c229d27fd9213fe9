//! `/sessions` and `/sessions/{id}`: what the journal tells of who did what, and the button that ends it. Only the POST
//! revokes.

use super::{PageFrame, error_page, internal_error_page, redirect_see_other, render_page};
use crate::{
    ConsoleState,
    approval_request_view::{format_rfc3339_as_utc, format_utc},
    display_text::DisplayText,
    history::{self, ExchangeHistory, JournalScan, SessionHistory, describe_caller},
    logins::SignedInUser,
    request_guard,
    users::{self, BrowserUser},
};
use askama::Template;
use axum::{
    Form,
    body::Body,
    extract::{Path, Query, State, rejection::FormRejection},
};
use durward_core::SessionId;
use durward_identity::{Revocation, RevocationTarget, RevokeError};
use http::{HeaderMap, Response, StatusCode};
use serde::Deserialize;
use std::{collections::VecDeque, path::PathBuf, sync::Arc};

/// A session as people read it.
struct SessionView {
    id: SessionId,
    caller: DisplayText,
    groups: DisplayText,
    connection: DisplayText,
    opened: DisplayText,
    expires: DisplayText,
    last_exchange: DisplayText,
    allowed: u64,
    refused: u64,
    revoked: Option<RevocationView>,
}

struct RevocationView {
    by: DisplayText,
    at: DisplayText,
    reason: DisplayText,
    /// With all of the caller's.
    is_for_caller: bool,
}

impl SessionView {
    fn from_history(inner: &ConsoleState, session: &SessionHistory) -> Self {
        let time = |time: &Option<String>| {
            time.as_deref().map_or_else(|| DisplayText::new("-"), format_rfc3339_as_utc)
        };
        let revoked = find_revocation(inner, session).map(|one| RevocationView {
            by: DisplayText::new(&one.revoked_by),
            at: format_utc(one.revoked_at),
            reason: DisplayText::new(&one.reason),
            is_for_caller: matches!(one.target, RevocationTarget::Caller(_)),
        });
        Self {
            id: session.id,
            caller: session.caller.as_ref().map_or_else(|| DisplayText::new("-"), describe_caller),
            groups: DisplayText::new(
                session.caller.as_ref().map(|caller| caller.groups.join(", ")).unwrap_or_default(),
            ),
            connection: DisplayText::new(session.connection.as_deref().unwrap_or("-")),
            opened: time(&session.opened),
            expires: time(&session.expires),
            last_exchange: time(&session.last_exchange),
            allowed: session.allowed,
            refused: session.refused,
            revoked,
        }
    }
}

/// What revoked the session, if something did.
pub fn find_revocation(inner: &ConsoleState, session: &SessionHistory) -> Option<Arc<Revocation>> {
    let caller = session.caller.as_ref().map(durward_core::Caller::id).unwrap_or_default();
    inner.revocations.find_revocation(session.id, &caller, session.started_at())
}

#[derive(Template)]
#[template(path = "sessions.html")]
struct SessionsPage {
    frame: PageFrame,
    sessions: Vec<SessionView>,
    journal_scan: JournalScan,
}

#[derive(Template)]
#[template(path = "session.html")]
struct SessionPage {
    frame: PageFrame,
    session: SessionView,
    exchanges: VecDeque<ExchangeHistory>,
    journal_scan: JournalScan,
    csrf_token: String,
    may_revoke: bool,
    notice: Option<&'static str>,
    error: Option<DisplayText>,
}

/// Reads the journal on a thread of its own, one reader at a time.
pub async fn read_journal<T: Send + 'static>(
    inner: &Arc<ConsoleState>,
    work: impl FnOnce(PathBuf) -> T + Send + 'static,
) -> Result<T, String> {
    let place = inner.journal_read_limit.clone().acquire_owned().await.map_err(|error| error.to_string())?;
    let dir = inner.settings.journal_dir.clone();
    let task = tokio::task::spawn_blocking(move || {
        let read = work(dir);
        drop(place);
        read
    });
    task.await.map_err(|error| error.to_string())
}

pub async fn list_sessions(
    State(inner): State<Arc<ConsoleState>>,
    BrowserUser(visitor): BrowserUser,
) -> Response<Body> {
    let frame = PageFrame::new(&inner, Some(&visitor), "sessions");
    match read_journal(&inner, |dir| history::list_sessions(&dir)).await {
        Ok((sessions, reading)) => {
            let sessions =
                sessions.iter().map(|session| SessionView::from_history(&inner, session)).collect();
            render_page(StatusCode::OK, &SessionsPage { frame, sessions, journal_scan: reading })
        }
        Err(error) => internal_error_page(&inner, Some(&visitor), &error),
    }
}

#[derive(Deserialize)]
pub struct RevocationNoticeQuery {
    done: Option<String>,
}

pub async fn show_session(
    State(inner): State<Arc<ConsoleState>>,
    BrowserUser(visitor): BrowserUser,
    Path(id): Path<String>,
    Query(after): Query<RevocationNoticeQuery>,
) -> Response<Body> {
    let notice = after.done.and_then(|done| match done.as_str() {
        "session" => Some("The session is revoked. Its requests are refused from now on."),
        "caller" => Some("All sessions that this caller started before now are revoked."),
        _ => None,
    });
    render_session(&inner, &visitor, &id, notice, None, StatusCode::OK).await
}

async fn render_session(
    inner: &Arc<ConsoleState>,
    visitor: &SignedInUser,
    id: &str,
    notice: Option<&'static str>,
    wrong: Option<DisplayText>,
    status: StatusCode,
) -> Response<Body> {
    let Ok(id) = id.parse::<SessionId>() else { return session_not_found_page(inner, visitor) };
    match read_journal(inner, move |dir| history::session_history(&dir, id)).await {
        Ok((Some(session), exchanges, reading)) => {
            let session = SessionView::from_history(inner, &session);
            // An old link may say so of one that is not.
            let notice = notice.filter(|_notice| session.revoked.is_some());
            let story = SessionPage {
                frame: PageFrame::new(inner, Some(visitor), "sessions"),
                session,
                exchanges,
                journal_scan: reading,
                csrf_token: visitor.csrf_token.clone(),
                may_revoke: users::may_revoke_sessions(inner, &visitor.person),
                notice,
                error: wrong,
            };
            render_page(status, &story)
        }
        Ok((None, ..)) => session_not_found_page(inner, visitor),
        Err(error) => internal_error_page(inner, Some(visitor), &error),
    }
}

fn session_not_found_page(inner: &ConsoleState, visitor: &SignedInUser) -> Response<Body> {
    error_page(
        inner,
        Some(visitor),
        StatusCode::NOT_FOUND,
        "There is no such session",
        "The journal does not know it. The sessions page lists those it knows.",
    )
}

#[derive(Deserialize)]
pub struct RevocationForm {
    csrf: String,
    /// `session`, or `caller` for all of its caller.
    target: String,
    #[serde(default)]
    reason: String,
}

/// `POST /sessions/{id}/revoke`.
pub async fn revoke_session(
    State(inner): State<Arc<ConsoleState>>,
    BrowserUser(visitor): BrowserUser,
    Path(id): Path<String>,
    headers: HeaderMap,
    form: Result<Form<RevocationForm>, FormRejection>,
) -> Response<Body> {
    let refused =
        |status, text: &str| error_page(&inner, Some(&visitor), status, "Nothing was revoked", text);
    let Ok(Form(form)) = form else {
        return refused(StatusCode::BAD_REQUEST, "The form is not complete. Go back and reload the page.");
    };
    if let Err(why) = request_guard::verify_form(&inner, &headers, &visitor.csrf_token, &form.csrf) {
        tracing::warn!(
            person = visitor.person.id,
            why,
            "a revocation was refused: it did not come from our page"
        );
        return refused(StatusCode::FORBIDDEN, &format!("{why}. Open the session here and use its button."));
    }
    if !users::may_revoke_sessions(&inner, &visitor.person) {
        return refused(StatusCode::FORBIDDEN, "You are in no group that may revoke sessions.");
    }
    let Ok(session) = id.parse::<SessionId>() else { return session_not_found_page(&inner, &visitor) };
    let what = match form.target.as_str() {
        "session" => RevocationTarget::Session(session),
        "caller" => match read_journal(&inner, move |dir| history::session_history(&dir, session)).await {
            Ok((Some(SessionHistory { caller: Some(caller), .. }), ..)) => {
                RevocationTarget::Caller(caller.id())
            }
            Ok(_unknown) => return session_not_found_page(&inner, &visitor),
            Err(error) => return internal_error_page(&inner, Some(&visitor), &error),
        },
        _ => return refused(StatusCode::BAD_REQUEST, "Choose the session or all sessions of its caller."),
    };
    match inner.revocations.revoke(&what, &visitor.person.id, &form.reason, (inner.clock)()).await {
        Ok(()) => {
            tracing::warn!(person = visitor.person.id, ?what, "revoked");
            redirect_see_other(&format!("/sessions/{session}?done={}", form.target))
        }
        Err(RevokeError::Store(error)) => internal_error_page(&inner, Some(&visitor), &error),
        Err(error) => {
            let wrong = Some(DisplayText::new(error.to_string()));
            render_session(&inner, &visitor, &id, None, wrong, StatusCode::BAD_REQUEST).await
        }
    }
}

//! `/sessions` and `/sessions/{id}`: callers' sessions from the journal, and the buttons to revoke. Only the POST revokes.

use super::BrowserUser;
use crate::{
    display_text::DisplayText,
    html::{
        PageFrame, PageLink, error_page, error_page_with_link, internal_error_page, redirect_see_other,
        render_page,
    },
    logins::SignedInUser,
    request_guard,
    service::{self, RevocationError},
    session_list::{SessionListQuery, SessionState},
    session_view::{ExchangeView, JournalScanView, SessionView},
    state::ConsoleState,
    template_filters as filters, users,
};
use askama::Template;
use axum::{
    Form,
    body::Body,
    extract::{
        Path, Query, State,
        rejection::{FormRejection, QueryRejection},
    },
};
use durward_core::SessionId;
use durward_identity::{RevocationTarget, RevokeError};
use http::{HeaderMap, Response, StatusCode};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "sessions.html")]
struct SessionsPage {
    frame: PageFrame,
    sessions: Vec<SessionView>,
    journal_scan: JournalScanView,
    form: SessionListForm,
}

/// The form above the list, as it was filled in.
struct SessionListForm {
    caller: DisplayText,
    connection: DisplayText,
    states: Vec<StateOption>,
    /// The names of the configured connections, to choose from.
    connections: Vec<DisplayText>,
    is_filtered: bool,
}

struct StateOption {
    word: &'static str,
    is_chosen: bool,
}

impl SessionListForm {
    fn new(state: &ConsoleState, query: &SessionListQuery) -> Self {
        let text = |text: &Option<String>| DisplayText::new(text.as_deref().unwrap_or_default());
        let option =
            |one: SessionState| StateOption { word: one.as_str(), is_chosen: query.state == Some(one) };
        let names = state.settings.connections.iter();
        let is_given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        Self {
            caller: text(&query.caller),
            connection: text(&query.connection),
            states: SessionState::ALL.into_iter().map(option).collect(),
            connections: names.map(|one| DisplayText::new(&one.name)).collect(),
            is_filtered: is_given(&query.caller) || is_given(&query.connection) || query.state.is_some(),
        }
    }
}

#[derive(Template)]
#[template(path = "session.html")]
struct SessionPage {
    frame: PageFrame,
    session: SessionView,
    exchanges: Vec<ExchangeView>,
    journal_scan: JournalScanView,
    csrf_token: String,
    may_revoke: bool,
    notice: Option<&'static str>,
    rejected: Option<RejectedRevocation>,
}

/// A revocation that was not accepted. The page says why, and keeps the reason that was entered.
struct RejectedRevocation {
    error: DisplayText,
    reason: DisplayText,
}

pub async fn list_sessions(
    State(state): State<Arc<ConsoleState>>,
    BrowserUser(user): BrowserUser,
    query: Result<Query<SessionListQuery>, QueryRejection>,
) -> Response<Body> {
    // A state that there is not lists every session: the form shows what was chosen.
    let query = query.map(|Query(query)| query).unwrap_or_default();
    let form = SessionListForm::new(&state, &query);
    match service::list_sessions(&state, query).await {
        Ok(list) => {
            let page = SessionsPage {
                form,
                frame: PageFrame::new(&state, Some(&user), "sessions"),
                sessions: list.sessions.iter().map(SessionView::from_history).collect(),
                journal_scan: JournalScanView::new(&list.journal_scan, list.omitted_sessions),
            };
            render_page(StatusCode::OK, &page)
        }
        Err(error) => internal_error_page(&state, Some(&user), &error),
    }
}

#[derive(Deserialize)]
pub struct RevocationNoticeQuery {
    /// The target that was just revoked.
    done: Option<String>,
}

pub async fn show_session(
    State(state): State<Arc<ConsoleState>>,
    BrowserUser(user): BrowserUser,
    Path(id): Path<String>,
    Query(query): Query<RevocationNoticeQuery>,
) -> Response<Body> {
    let notice = query.done.and_then(|target| match target.as_str() {
        "session" => Some("The session is revoked. Its requests are refused from now on."),
        "caller" => Some("All existing sessions of this caller are revoked."),
        _ => None,
    });
    render_session(&state, &user, &id, notice, None, StatusCode::OK).await
}

async fn render_session(
    state: &ConsoleState,
    user: &SignedInUser,
    id: &str,
    notice: Option<&'static str>,
    rejected: Option<RejectedRevocation>,
    status: StatusCode,
) -> Response<Body> {
    let Ok(id) = id.parse::<SessionId>() else { return session_not_found_page(state, user) };
    let detail = match service::read_session(state, id).await {
        Ok(detail) => detail,
        Err(error) => return internal_error_page(state, Some(user), &error),
    };
    let Some(session) = &detail.session else { return session_not_found_page(state, user) };
    let session = SessionView::from_history(session);
    // The notice comes with the URL, so a link could claim it of any session.
    let notice = notice.filter(|_notice| session.revocation.is_some());
    let page = SessionPage {
        frame: PageFrame::new(state, Some(user), "sessions"),
        session,
        exchanges: detail.exchanges.iter().map(ExchangeView::from_history).collect(),
        journal_scan: JournalScanView::new(&detail.journal_scan, detail.omitted_exchanges),
        csrf_token: user.csrf_token.clone(),
        may_revoke: users::may_revoke_sessions(state, &user.person),
        notice,
        rejected,
    };
    render_page(status, &page)
}

fn session_not_found_page(state: &ConsoleState, user: &SignedInUser) -> Response<Body> {
    error_page_with_link(
        state,
        Some(user),
        StatusCode::NOT_FOUND,
        "Session not found",
        "This gateway's journal has no such session.",
        PageLink { path: "/sessions", text: "Go to sessions" },
    )
}

#[derive(Deserialize)]
pub struct RevocationForm {
    csrf: String,
    /// `session`, or `caller` for all sessions of its caller.
    target: String,
    #[serde(default)]
    reason: String,
}

/// `POST /sessions/{id}/revoke`.
pub async fn revoke_session(
    State(state): State<Arc<ConsoleState>>,
    BrowserUser(user): BrowserUser,
    Path(id): Path<String>,
    headers: HeaderMap,
    form: Result<Form<RevocationForm>, FormRejection>,
) -> Response<Body> {
    let refuse =
        |status, message: &str| error_page(&state, Some(&user), status, "Nothing was revoked", message);
    let Ok(Form(form)) = form else {
        return refuse(StatusCode::BAD_REQUEST, "The form is not complete. Go back and reload the page.");
    };
    if let Err(error) = request_guard::verify_form(&state.origin, &headers, &user.csrf_token, &form.csrf) {
        tracing::warn!(
            person = user.person.id,
            %error,
            "a revocation was refused: it did not come from a console page"
        );
        let message =
            format!("This revocation was refused: {error}. Open the session again and revoke it there.");
        return refuse(StatusCode::FORBIDDEN, &message);
    }
    let Ok(session) = id.parse::<SessionId>() else { return session_not_found_page(&state, &user) };
    let target = match form.target.as_str() {
        "session" => RevocationTarget::Session(session),
        "caller" => match service::read_session(&state, session).await {
            Ok(detail) => match detail.session.and_then(|session| session.caller) {
                Some(caller) => RevocationTarget::Caller(caller.id()),
                None => return session_not_found_page(&state, &user),
            },
            Err(error) => return internal_error_page(&state, Some(&user), &error),
        },
        _ => return refuse(StatusCode::BAD_REQUEST, "Choose this session or all sessions of its caller."),
    };
    match service::revoke(&state, &user.person, &target, &form.reason).await {
        Ok(()) => redirect_see_other(&format!("/sessions/{session}?done={}", form.target)),
        Err(RevocationError::NotARevoker) => {
            refuse(StatusCode::FORBIDDEN, "You are in no group that may revoke sessions.")
        }
        Err(RevocationError::Revoke(RevokeError::Store(error))) => {
            internal_error_page(&state, Some(&user), &error)
        }
        Err(RevocationError::Revoke(error)) => {
            let rejected = RejectedRevocation {
                error: DisplayText::new(error.to_string()),
                reason: DisplayText::new(&form.reason),
            };
            render_session(&state, &user, &id, None, Some(rejected), StatusCode::BAD_REQUEST).await
        }
    }
}

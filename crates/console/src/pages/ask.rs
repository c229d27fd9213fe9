//! `/asks/{id}`: one ask on one page, and the buttons. Only the POST decides.

use super::{Frame, broken, page, problem, see_other};
use crate::{
    Inner, guard,
    people::{self, Visitor},
    sessions::SignedIn,
    text::Text,
    view::{Answering, AskView, length},
};
use askama::Template;
use axum::{
    Form,
    body::Body,
    extract::{Path, Query, State, rejection::FormRejection},
};
use durward_approval::{Answer, AnswerError, Ask, AskId, State as AskState};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde::Deserialize;
use std::{sync::Arc, time::Duration};

/// Past asks of the same kind that an approver sees.
const SIMILAR: usize = 5;
/// The windows on offer, in minutes; those longer than the operator permits are left out.
const WINDOWS: [u64; 5] = [15, 60, 240, 480, 1_440];

#[derive(Template)]
#[template(path = "ask.html")]
struct AskPage {
    frame: Frame,
    ask: AskView,
    csrf: String,
    notice: Option<&'static str>,
    wrong: Option<Text>,
}

/// For how long a page says that an answer was just given.
const JUST: time::Duration = time::Duration::MINUTE;

/// What the visitor just did, if it still holds: their answer stands, and nothing has gone against it since.
fn notice(
    ask: &Ask,
    person: &durward_approval::Person,
    done: &str,
    now: time::OffsetDateTime,
) -> Option<&'static str> {
    let vote = ask.votes.iter().rfind(|vote| vote.by.id == person.id && vote.at + JUST > now)?;
    let denied = matches!(ask.state, AskState::Denied | AskState::TimedOut);
    match (done, vote.approve, vote.break_glass) {
        ("approve_once" | "approve_window", true, false) if !denied => Some("Your approval is recorded."),
        ("deny", false, _) if ask.window => Some("The window is closed."),
        ("deny", false, _) => Some("Your denial is recorded."),
        ("break_glass", true, true) if !denied => {
            Some("You broke the glass. It is recorded and will be reviewed.")
        }
        _ => None,
    }
}

#[derive(Deserialize)]
pub struct After {
    done: Option<String>,
}

pub async fn show(
    State(inner): State<Arc<Inner>>,
    Visitor(session): Visitor,
    Path(id): Path<String>,
    Query(after): Query<After>,
) -> Response<Body> {
    match find(&inner, &session, &id).await {
        Ok(ask) => {
            let done = after.done.unwrap_or_default();
            let notice = notice(&ask, &session.person, &done, (inner.now)());
            shown(&inner, &session, &ask, notice, None, StatusCode::OK).await
        }
        Err(response) => *response,
    }
}

/// What the visitor may do now.
pub fn answering(inner: &Inner, session: &SignedIn, ask: &Ask) -> Answering {
    let person = &session.person;
    let barred = people::cannot_answer(ask, person);
    let pending = ask.state == AskState::Pending;
    let entitled = people::is_entitled(ask, person);
    let own = people::is_own(ask, person);
    let in_glass_group =
        inner.settings.break_glass_group.as_ref().is_some_and(|group| person.groups.contains(group));
    let most = inner.settings.max_window.as_secs() / 60;
    Answering {
        approve: pending && barred.is_none(),
        deny: pending && entitled,
        withdraw: ask.state == AskState::Approved && entitled,
        break_glass: pending && in_glass_group && !own,
        windows: WINDOWS
            .into_iter()
            .filter(|minutes| *minutes <= most)
            .map(|minutes| (minutes, length(Duration::from_mins(minutes))))
            .collect(),
        barred: barred.filter(|_| pending).map(Text::new),
    }
}

async fn shown(
    inner: &Inner,
    session: &SignedIn,
    ask: &Ask,
    notice: Option<&'static str>,
    wrong: Option<Text>,
    status: StatusCode,
) -> Response<Body> {
    let similar = match inner.approvals.similar(ask, SIMILAR).await {
        Ok(similar) => similar,
        Err(error) => return broken(inner, Some(session), &error),
    };
    let answering = answering(inner, session, ask);
    let view = AskView::of(ask, &similar, &session.person, answering, (inner.now)());
    let frame = Frame::new(inner, Some(session), "approvals");
    page(status, &AskPage { frame, ask: view, csrf: session.csrf.clone(), notice, wrong })
}

async fn find(inner: &Inner, session: &SignedIn, id: &str) -> Result<Ask, Box<Response<Body>>> {
    let missing = || {
        Box::new(problem(
            inner,
            Some(session),
            StatusCode::NOT_FOUND,
            "There is no such ask",
            "Its link may be cut off. The approvals page lists the asks there are.",
        ))
    };
    let id: AskId = id.parse().map_err(|_error| missing())?;
    match inner.approvals.get(id).await {
        Ok(found) => found.ok_or_else(missing),
        Err(error) => Err(Box::new(broken(inner, Some(session), &error))),
    }
}

#[derive(Deserialize)]
pub struct Answered {
    csrf: String,
    answer: String,
    #[serde(default)]
    minutes: String,
    #[serde(default)]
    reason: String,
}

/// `POST /asks/{id}/answer`.
pub async fn answer(
    State(inner): State<Arc<Inner>>,
    Visitor(session): Visitor,
    Path(id): Path<String>,
    headers: HeaderMap,
    form: Result<Form<Answered>, FormRejection>,
) -> Response<Body> {
    let refused = |status, text: &str| problem(&inner, Some(&session), status, "Nothing was answered", text);
    let Ok(Form(form)) = form else {
        return refused(
            StatusCode::BAD_REQUEST,
            "The form is not complete. Go back, reload the page and answer again.",
        );
    };
    if let Err(why) = guard::own_form(&inner, &headers, &session.csrf, &form.csrf) {
        tracing::warn!(
            person = session.person.id,
            why,
            "an answer was refused: it did not come from our page"
        );
        return refused(
            StatusCode::FORBIDDEN,
            &format!("{why}. Open the ask here and answer with its buttons."),
        );
    }
    let ask = match find(&inner, &session, &id).await {
        Ok(ask) => ask,
        Err(response) => return *response,
    };
    let given = match given(&inner, &form) {
        Ok(given) => given,
        Err(why) => {
            return shown(&inner, &session, &ask, None, Some(Text::new(why)), StatusCode::BAD_REQUEST).await;
        }
    };
    match inner.approvals.answer(ask.id, &session.person, given).await {
        Ok(_ask) => see_other(&format!("/asks/{}?done={}", ask.id, form.answer)),
        Err(AnswerError::Store(error)) => broken(&inner, Some(&session), &error),
        Err(error) => {
            // What changed since the page was drawn is on it now.
            let now = inner.approvals.get(ask.id).await.ok().flatten().unwrap_or(ask);
            let status = status_of(&error);
            shown(&inner, &session, &now, None, Some(Text::new(error.to_string())), status).await
        }
    }
}

/// The answer that the form means.
fn given(inner: &Inner, form: &Answered) -> Result<Answer, &'static str> {
    let reason = form.reason.trim().to_owned();
    match form.answer.as_str() {
        "approve_once" => Ok(Answer::ApproveOnce),
        "approve_window" => {
            let minutes: i64 =
                form.minutes.parse().map_err(|_error| "choose how long the approval is good")?;
            Ok(Answer::ApproveWindow {
                until: (inner.now)() + time::Duration::minutes(minutes.clamp(1, 10_080)),
            })
        }
        "deny" => Ok(Answer::Deny { reason }),
        "break_glass" => Ok(Answer::BreakGlass { reason }),
        _ => Err("answer with one of the buttons"),
    }
}

pub fn status_of(error: &AnswerError) -> StatusCode {
    match error {
        AnswerError::NotFound => StatusCode::NOT_FOUND,
        AnswerError::NotPending(_) | AnswerError::AnsweredBefore => StatusCode::CONFLICT,
        AnswerError::NotAnApprover(_) | AnswerError::OwnRequest(_) => StatusCode::FORBIDDEN,
        AnswerError::ReasonMissing | AnswerError::TooLong { .. } | AnswerError::Window(_) => {
            StatusCode::BAD_REQUEST
        }
        AnswerError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// `GET /asks/{id}/parameters.json`: the parameters whole, as they were recorded, to be saved and not to be shown.
pub async fn parameters(
    State(inner): State<Arc<Inner>>,
    Visitor(session): Visitor,
    Path(id): Path<String>,
) -> Response<Body> {
    let ask = match find(&inner, &session, &id).await {
        Ok(ask) => ask,
        Err(response) => return *response,
    };
    let mut response = Response::new(Body::from(ask.what.operation.parameters.to_string()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        header::CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment; filename=\"parameters.json\""),
    );
    response
}

//! `/approvals/{id}`: one ask on one page, and the buttons. Only the POST decides.

use super::{PageFrame, error_page, internal_error_page, redirect_see_other, render_page};
use crate::{
    ConsoleState,
    approval_request_view::{ApprovalRequestView, VotingOptions, format_duration},
    display_text::DisplayText,
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
use durward_approval::{
    ApprovalRequest, ApprovalRequestId, ApprovalState as AskState, VoteChoice, VoteError,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde::Deserialize;
use std::{sync::Arc, time::Duration};

/// Past asks of the same kind that an approver sees.
const MAX_SIMILAR_REQUESTS: usize = 5;
/// The windows on offer, in minutes; those longer than the operator permits are left out.
const GRANT_DURATIONS_MINUTES: [u64; 5] = [15, 60, 240, 480, 1_440];

#[derive(Template)]
#[template(path = "approval_request.html")]
struct ApprovalRequestPage {
    frame: PageFrame,
    approval_request: ApprovalRequestView,
    csrf_token: String,
    notice: Option<&'static str>,
    error: Option<DisplayText>,
}

/// For how long a page says that an answer was just given.
const NOTICE_DURATION: time::Duration = time::Duration::MINUTE;

/// What the visitor just did, if it still holds: their answer stands, and nothing has gone against it since.
fn recent_vote_notice(
    ask: &ApprovalRequest,
    person: &durward_approval::Approver,
    done: &str,
    now: time::OffsetDateTime,
) -> Option<&'static str> {
    let vote = ask.votes.iter().rfind(|vote| vote.by.id == person.id && vote.at + NOTICE_DURATION > now)?;
    let denied = matches!(ask.state, AskState::Denied | AskState::TimedOut);
    match (done, vote.is_approval, vote.break_glass) {
        ("approve_once" | "approve_time_bound", true, false) if !denied => Some("Your approval is recorded."),
        ("deny", false, _) if ask.time_bound => Some("The grant is revoked."),
        ("deny", false, _) => Some("Your denial is recorded."),
        ("break_glass", true, true) if !denied => {
            Some("You used break-glass. It is recorded and will be reviewed.")
        }
        _ => None,
    }
}

#[derive(Deserialize)]
pub struct VoteNoticeQuery {
    done: Option<String>,
}

pub async fn show_approval_request(
    State(inner): State<Arc<ConsoleState>>,
    BrowserUser(session): BrowserUser,
    Path(id): Path<String>,
    Query(after): Query<VoteNoticeQuery>,
) -> Response<Body> {
    match find_approval_request(&inner, &session, &id).await {
        Ok(ask) => {
            let done = after.done.unwrap_or_default();
            let notice = recent_vote_notice(&ask, &session.person, &done, (inner.clock)());
            render_approval_request(&inner, &session, &ask, notice, None, StatusCode::OK).await
        }
        Err(response) => *response,
    }
}

/// What the visitor may do now.
pub fn voting_options(inner: &ConsoleState, session: &SignedInUser, ask: &ApprovalRequest) -> VotingOptions {
    let person = &session.person;
    let barred = users::vote_refusal(ask, person);
    let pending = ask.state == AskState::Pending;
    let entitled = users::is_approver(ask, person);
    let own = users::is_own_request(ask, person);
    let in_glass_group =
        inner.settings.break_glass_group.as_ref().is_some_and(|group| person.groups.contains(group));
    let most = inner.settings.max_grant_duration.as_secs() / 60;
    VotingOptions {
        may_approve: pending && barred.is_none(),
        may_deny: pending && entitled,
        may_withdraw: ask.state == AskState::Approved && entitled,
        may_break_glass: pending && in_glass_group && !own,
        grant_durations: GRANT_DURATIONS_MINUTES
            .into_iter()
            .filter(|minutes| *minutes <= most)
            .map(|minutes| (minutes, format_duration(Duration::from_mins(minutes))))
            .collect(),
        approve_refusal: barred.filter(|_| pending).map(DisplayText::new),
    }
}

async fn render_approval_request(
    inner: &ConsoleState,
    session: &SignedInUser,
    ask: &ApprovalRequest,
    notice: Option<&'static str>,
    wrong: Option<DisplayText>,
    status: StatusCode,
) -> Response<Body> {
    let similar = match inner.approvals.similar_requests(ask, MAX_SIMILAR_REQUESTS).await {
        Ok(similar) => similar,
        Err(error) => return internal_error_page(inner, Some(session), &error),
    };
    let answering = voting_options(inner, session, ask);
    let view = ApprovalRequestView::from_approval_request(
        ask,
        &similar,
        &session.person,
        answering,
        (inner.clock)(),
    );
    let frame = PageFrame::new(inner, Some(session), "approvals");
    render_page(
        status,
        &ApprovalRequestPage {
            frame,
            approval_request: view,
            csrf_token: session.csrf_token.clone(),
            notice,
            error: wrong,
        },
    )
}

async fn find_approval_request(
    inner: &ConsoleState,
    session: &SignedInUser,
    id: &str,
) -> Result<ApprovalRequest, Box<Response<Body>>> {
    let missing = || {
        Box::new(error_page(
            inner,
            Some(session),
            StatusCode::NOT_FOUND,
            "There is no such approval request",
            "Its link may be incomplete. The approvals page lists all requests.",
        ))
    };
    let id: ApprovalRequestId = id.parse().map_err(|_error| missing())?;
    match inner.approvals.get(id).await {
        Ok(found) => found.ok_or_else(missing),
        Err(error) => Err(Box::new(internal_error_page(inner, Some(session), &error))),
    }
}

#[derive(Deserialize)]
pub struct VoteForm {
    csrf: String,
    vote: String,
    #[serde(default)]
    minutes: String,
    #[serde(default)]
    reason: String,
}

/// `POST /approvals/{id}/votes`.
pub async fn cast_vote(
    State(inner): State<Arc<ConsoleState>>,
    BrowserUser(session): BrowserUser,
    Path(id): Path<String>,
    headers: HeaderMap,
    form: Result<Form<VoteForm>, FormRejection>,
) -> Response<Body> {
    let refused =
        |status, text: &str| error_page(&inner, Some(&session), status, "No vote was recorded", text);
    let Ok(Form(form)) = form else {
        return refused(
            StatusCode::BAD_REQUEST,
            "The form is not complete. Go back, reload the page and vote again.",
        );
    };
    if let Err(why) = request_guard::verify_form(&inner, &headers, &session.csrf_token, &form.csrf) {
        tracing::warn!(person = session.person.id, why, "a vote was refused: it did not come from our page");
        return refused(
            StatusCode::FORBIDDEN,
            &format!("{why}. Open the approval request here and vote with its buttons."),
        );
    }
    let ask = match find_approval_request(&inner, &session, &id).await {
        Ok(ask) => ask,
        Err(response) => return *response,
    };
    let given = match parse_vote_form(&inner, &form) {
        Ok(given) => given,
        Err(why) => {
            return render_approval_request(
                &inner,
                &session,
                &ask,
                None,
                Some(DisplayText::new(why)),
                StatusCode::BAD_REQUEST,
            )
            .await;
        }
    };
    match inner.approvals.cast_vote(ask.id, &session.person, given).await {
        Ok(_ask) => redirect_see_other(&format!("/approvals/{}?done={}", ask.id, form.vote)),
        Err(VoteError::Store(error)) => internal_error_page(&inner, Some(&session), &error),
        Err(error) => {
            // What changed since the page was drawn is on it now.
            let now = inner.approvals.get(ask.id).await.ok().flatten().unwrap_or(ask);
            let status = vote_error_status(&error);
            render_approval_request(
                &inner,
                &session,
                &now,
                None,
                Some(DisplayText::new(error.to_string())),
                status,
            )
            .await
        }
    }
}

/// The answer that the form means.
fn parse_vote_form(inner: &ConsoleState, form: &VoteForm) -> Result<VoteChoice, &'static str> {
    let reason = form.reason.trim().to_owned();
    match form.vote.as_str() {
        "approve_once" => Ok(VoteChoice::ApproveOnce),
        "approve_time_bound" => {
            let minutes: i64 =
                form.minutes.parse().map_err(|_error| "choose how long the approval is good")?;
            Ok(VoteChoice::ApproveTimeBound {
                until: (inner.clock)() + time::Duration::minutes(minutes.clamp(1, 10_080)),
            })
        }
        "deny" => Ok(VoteChoice::Deny { reason }),
        "break_glass" => Ok(VoteChoice::BreakGlass { reason }),
        _ => Err("vote with one of the buttons"),
    }
}

pub fn vote_error_status(error: &VoteError) -> StatusCode {
    match error {
        VoteError::NotFound => StatusCode::NOT_FOUND,
        VoteError::NotPending(_) | VoteError::AlreadyApproved => StatusCode::CONFLICT,
        VoteError::NotAnApprover(_) | VoteError::OwnRequest(_) => StatusCode::FORBIDDEN,
        VoteError::ReasonMissing | VoteError::TooLong { .. } | VoteError::InvalidTimeBound(_) => {
            StatusCode::BAD_REQUEST
        }
        VoteError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// `GET /approvals/{id}/parameters.json`: the parameters whole, as they were recorded, to be saved and not to be shown.
pub async fn download_parameters(
    State(inner): State<Arc<ConsoleState>>,
    BrowserUser(session): BrowserUser,
    Path(id): Path<String>,
) -> Response<Body> {
    let ask = match find_approval_request(&inner, &session, &id).await {
        Ok(ask) => ask,
        Err(response) => return *response,
    };
    let mut response = Response::new(Body::from(ask.details.operation.parameters.to_string()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        header::CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment; filename=\"parameters.json\""),
    );
    response
}

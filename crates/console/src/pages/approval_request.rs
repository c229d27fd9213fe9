//! `/approvals/{id}`: one approval request and the buttons to vote. Only the POST casts a vote.

use super::BrowserUser;
use crate::{
    approval_request_view::{ApprovalRequestView, RequestProgress, VotingOptions},
    display_text::DisplayText,
    eligibility::approval_refusal_text,
    html::{PageFrame, error_page, internal_error_page, redirect_see_other, render_page},
    logins::SignedInUser,
    request_guard,
    service::{self, vote_error_status},
    session_view::outcome_text,
    state::ConsoleState,
    template_filters as filters,
    time_view::format_duration,
};
use askama::Template;
use axum::{
    Form,
    body::Body,
    extract::{Path, Query, State, rejection::FormRejection},
};
use durward_approval::{ApprovalRequest, ApprovalState, Approver, VoteChoice, VoteError};
use durward_core::limits::MAX_VOTE_REASON_BYTES;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde::Deserialize;
use std::{sync::Arc, time::Duration};
use time::OffsetDateTime;

/// Most earlier requests for the same actions that an approver sees.
const MAX_SIMILAR_REQUESTS: usize = 5;
/// The durations of time-bound grants on offer, in minutes. The page leaves out those above the operator's maximum.
const GRANT_DURATIONS_MINUTES: [u64; 5] = [15, 60, 240, 480, 1_440];
/// The time for which the page confirms a vote that was just cast. The link to it may be opened much later, or by others.
const NOTICE_DURATION: time::Duration = time::Duration::MINUTE;
/// The time in which the page finds the outcome of the operation. A large journal takes longer.
const OUTCOME_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Template)]
#[template(path = "approval_request.html")]
struct ApprovalRequestPage {
    frame: PageFrame,
    approval_request: ApprovalRequestView,
    csrf_token: String,
    notice: Option<&'static str>,
    rejected_vote: Option<RejectedVote>,
    max_reason_bytes: usize,
}

impl ApprovalRequestPage {
    /// The rejected vote, if it was this one.
    fn rejected_vote_for(&self, vote: &str) -> Option<&RejectedVote> {
        self.rejected_vote.as_ref().filter(|rejected| rejected.vote == vote)
    }

    /// The rejected vote, if it was an approval.
    fn rejected_approval(&self) -> Option<&RejectedVote> {
        self.rejected_vote_for("approve_once").or_else(|| self.rejected_vote_for("approve_time_bound"))
    }
}

/// A vote that was not accepted. The page says why, and keeps the reason that was entered.
struct RejectedVote {
    error: DisplayText,
    vote: String,
    reason: DisplayText,
}

impl RejectedVote {
    fn new(form: VoteForm, error: &dyn std::fmt::Display) -> Self {
        Self {
            error: DisplayText::new(error.to_string()),
            vote: form.vote,
            reason: DisplayText::new(form.reason),
        }
    }
}

/// The confirmation of the viewer's own recent vote, if the vote is still in force.
fn recent_vote_notice(
    request: &ApprovalRequest,
    viewer: &Approver,
    choice: &str,
    now: OffsetDateTime,
) -> Option<&'static str> {
    let mut votes = request.votes.iter();
    // The vote is looked up: the query alone proves nothing, and a forged link would show a confirmation of a vote that was never
    // cast.
    let vote = votes.rfind(|vote| vote.by.id == viewer.id && vote.at + NOTICE_DURATION > now)?;
    let is_denied = matches!(request.state, ApprovalState::Denied | ApprovalState::TimedOut);
    match (choice, vote.is_approval, vote.break_glass) {
        ("approve_once" | "approve_time_bound", true, false) if !is_denied => {
            Some("Your approval is recorded.")
        }
        ("deny", false, _) if request.time_bound => Some("The grant is revoked."),
        ("deny", false, _) if request.is_withdrawn() => Some("The approval is withdrawn."),
        ("deny", false, _) => Some("Your denial is recorded."),
        ("break_glass", true, true) if !is_denied => {
            Some("You used break-glass. It is recorded and will be reviewed.")
        }
        _ => None,
    }
}

#[derive(Deserialize)]
pub struct VoteNoticeQuery {
    /// The vote that was just cast.
    done: Option<String>,
}

pub async fn show_approval_request(
    State(state): State<Arc<ConsoleState>>,
    BrowserUser(user): BrowserUser,
    Path(id): Path<String>,
    Query(query): Query<VoteNoticeQuery>,
) -> Response<Body> {
    match find_approval_request(&state, &user, &id).await {
        Ok(request) => {
            let choice = query.done.unwrap_or_default();
            let notice = recent_vote_notice(&request, &user.person, &choice, (state.clock)());
            render_approval_request(&state, &user, &request, notice, None, StatusCode::OK).await
        }
        Err(response) => *response,
    }
}

/// Whether the caller still waits, and how the operation ended.
async fn read_progress(state: &ConsoleState, request: &ApprovalRequest) -> RequestProgress {
    let is_awaited = request.state == ApprovalState::Pending && state.approvals.is_awaited(request.id);
    let outcome =
        if request.state == ApprovalState::Consumed { find_outcome(state, request).await } else { None };
    RequestProgress { is_awaited, outcome }
}

/// The outcome of the exchange that used the approval. `None`: it is not over, another replica has it, or the journal is slow; the
/// page links to the session.
async fn find_outcome(state: &ConsoleState, request: &ApprovalRequest) -> Option<DisplayText> {
    let read = service::read_session(state, request.details.session);
    let detail = tokio::time::timeout(OUTCOME_TIMEOUT, read).await.ok()?.ok()?;
    let id = request.id.to_string();
    let mut exchanges = detail.exchanges.iter().rev();
    let executed = exchanges
        .find(|exchange| exchange.approval_request.as_ref() == Some(&id) && exchange.outcome.is_some())?;
    Some(DisplayText::new(outcome_text(executed)))
}

/// The choices of the viewer now. Everything here is checked again when the vote is cast.
fn voting_options(state: &ConsoleState, viewer: &Approver, request: &ApprovalRequest) -> VotingOptions {
    let refusal = approval_refusal_text(request, viewer);
    let is_pending = request.state == ApprovalState::Pending;
    let is_approver = request.has_approver(viewer);
    let may_use_break_glass =
        state.settings.break_glass_group.as_ref().is_some_and(|group| viewer.groups.contains(group));
    let max_minutes = state.settings.max_grant_duration.as_secs() / 60;
    VotingOptions {
        may_approve: is_pending && refusal.is_none(),
        may_deny: is_pending && is_approver,
        may_withdraw: request.state == ApprovalState::Approved && is_approver,
        may_break_glass: is_pending && may_use_break_glass && !request.is_own_request_of(viewer),
        grant_durations: GRANT_DURATIONS_MINUTES
            .into_iter()
            .filter(|minutes| *minutes <= max_minutes)
            .map(|minutes| (minutes, format_duration(Duration::from_mins(minutes))))
            .collect(),
        approve_refusal: refusal.filter(|_refusal| is_pending).map(DisplayText::new),
    }
}

async fn render_approval_request(
    state: &ConsoleState,
    user: &SignedInUser,
    request: &ApprovalRequest,
    notice: Option<&'static str>,
    rejected_vote: Option<RejectedVote>,
    status: StatusCode,
) -> Response<Body> {
    let similar = match state.approvals.similar_requests(request, MAX_SIMILAR_REQUESTS).await {
        Ok(similar) => similar,
        Err(error) => return internal_error_page(state, Some(user), &error),
    };
    let voting = voting_options(state, &user.person, request);
    let progress = read_progress(state, request).await;
    let view = ApprovalRequestView::new(request, &similar, &user.person, voting, progress, (state.clock)());
    let page = ApprovalRequestPage {
        frame: PageFrame::new(state, Some(user), "approvals"),
        approval_request: view,
        csrf_token: user.csrf_token.clone(),
        notice,
        rejected_vote,
        max_reason_bytes: MAX_VOTE_REASON_BYTES,
    };
    render_page(status, &page)
}

async fn find_approval_request(
    state: &ConsoleState,
    user: &SignedInUser,
    id: &str,
) -> Result<ApprovalRequest, Box<Response<Body>>> {
    match service::find_approval_request(state, id).await {
        Ok(Some(request)) => Ok(request),
        Ok(None) => Err(Box::new(error_page(
            state,
            Some(user),
            StatusCode::NOT_FOUND,
            "Approval request not found",
            "The link may be incomplete. The approvals page lists the requests.",
        ))),
        Err(error) => Err(Box::new(internal_error_page(state, Some(user), &error))),
    }
}

#[derive(Deserialize)]
pub struct VoteForm {
    csrf: String,
    vote: String,
    /// The duration of a time-bound grant.
    #[serde(default)]
    minutes: String,
    #[serde(default)]
    reason: String,
}

/// `POST /approvals/{id}/votes`.
pub async fn cast_vote(
    State(state): State<Arc<ConsoleState>>,
    BrowserUser(user): BrowserUser,
    Path(id): Path<String>,
    headers: HeaderMap,
    form: Result<Form<VoteForm>, FormRejection>,
) -> Response<Body> {
    let refuse =
        |status, message: &str| error_page(&state, Some(&user), status, "No vote was recorded", message);
    let Ok(Form(form)) = form else {
        let message = "The form is not complete. Go back, reload the page and vote again.";
        return refuse(StatusCode::BAD_REQUEST, message);
    };
    if let Err(error) = request_guard::verify_form(&state.origin, &headers, &user.csrf_token, &form.csrf) {
        tracing::warn!(person = user.person.id, %error, "a vote was refused: it did not come from a console page");
        let message =
            format!("This vote was refused: {error}. Open the approval request again and vote there.");
        return refuse(StatusCode::FORBIDDEN, &message);
    }
    let request = match find_approval_request(&state, &user, &id).await {
        Ok(request) => request,
        Err(response) => return *response,
    };
    let choice = match parse_vote_form(&form, (state.clock)()) {
        Ok(choice) => choice,
        Err(error) => {
            let rejected = Some(RejectedVote::new(form, &error));
            return render_approval_request(&state, &user, &request, None, rejected, StatusCode::BAD_REQUEST)
                .await;
        }
    };
    let comment = Some(single_line(&form.reason));
    match state.approvals.cast_vote_with_comment(request.id, &user.person, choice, comment).await {
        Ok(_request) => {
            // With an empty fragment: without one, browsers keep that of the form (Fetch standard, "HTTP-redirect fetch").
            redirect_see_other(&format!("/approvals/{}?done={}#", request.id, form.vote))
        }
        Err(VoteError::Store(error)) => internal_error_page(&state, Some(&user), &error),
        Err(error) => {
            // Read again: the page then shows the change that made the vote invalid.
            let current = state.approvals.get(request.id).await.ok().flatten().unwrap_or(request);
            let rejected = Some(RejectedVote::new(form, &error));
            render_approval_request(&state, &user, &current, None, rejected, vote_error_status(&error)).await
        }
    }
}

/// Why a form is not a vote.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum VoteFormError {
    #[error("choose how long the approval lasts")]
    NoDuration,
    #[error("choose one of the votes on this page")]
    UnknownVote,
}

/// The text of a field of several lines as one line: the history has one line for each event.
fn single_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn parse_vote_form(form: &VoteForm, now: OffsetDateTime) -> Result<VoteChoice, VoteFormError> {
    let reason = form.reason.trim().to_owned();
    match form.vote.as_str() {
        "approve_once" => Ok(VoteChoice::ApproveOnce),
        "approve_time_bound" => {
            let minutes: u32 = form.minutes.parse().map_err(|_malformed| VoteFormError::NoDuration)?;
            // The approval crate refuses durations of zero and those above the operator's maximum.
            let until = now.checked_add(time::Duration::minutes(minutes.into()));
            Ok(VoteChoice::ApproveTimeBound { until: until.ok_or(VoteFormError::NoDuration)? })
        }
        "deny" => Ok(VoteChoice::Deny { reason }),
        "break_glass" => Ok(VoteChoice::BreakGlass { reason }),
        _ => Err(VoteFormError::UnknownVote),
    }
}

/// `GET /approvals/{id}/parameters.json`: the whole parameters, as they were recorded.
///
/// As an attachment: a browser must not render text that the caller wrote as a document of the console's origin.
pub async fn download_parameters(
    State(state): State<Arc<ConsoleState>>,
    BrowserUser(user): BrowserUser,
    Path(id): Path<String>,
) -> Response<Body> {
    let request = match find_approval_request(&state, &user, &id).await {
        Ok(request) => request,
        Err(response) => return *response,
    };
    let mut response = Response::new(Body::from(request.details.operation.parameters.to_string()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        header::CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment; filename=\"parameters.json\""),
    );
    response
}

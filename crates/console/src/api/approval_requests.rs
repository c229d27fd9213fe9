//! Approval requests, votes and time-bound grants.

use super::responses::{BearerUser, error_response, internal_error_response, json_response};
use crate::{
    approval_request_list::state_label,
    eligibility::approval_refusal_text,
    service::{self, vote_error_status},
    state::ConsoleState,
    time_bound_grants::list_active_grants,
};
use axum::{
    body::Body,
    extract::{Path, Query, State, rejection::QueryRejection},
};
use bytes::Bytes;
use durward_approval::{
    ApprovalRequest, ApprovalRequestFilter, ApprovalState, Approver, UpsertUserError, VoteChoice, VoteError,
};
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Length of a list without `limit`.
const DEFAULT_LIST_LIMIT: usize = 100;
/// Longest list, whatever `limit` says: the most that the approval crate lists.
const MAX_LIST_LIMIT: usize = 1_000;

/// An approval request with fields that are derived from it for the person of the token.
#[derive(Serialize)]
struct ApprovalRequestDocument<'a> {
    title: String,
    #[serde(flatten)]
    approval_request: &'a ApprovalRequest,
    missing_votes: Vec<MissingVotes>,
    /// This gateway holds a request of the caller that waits for the decision.
    caller_is_waiting: bool,
    voter: VoterPermission,
}

#[derive(Serialize)]
struct MissingVotes {
    group: String,
    count: u32,
}

/// Whether the person of the token may approve.
#[derive(Serialize)]
struct VoterPermission {
    may_approve: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
}

impl<'a> ApprovalRequestDocument<'a> {
    fn new(state: &ConsoleState, request: &'a ApprovalRequest, person: &Approver) -> Self {
        let refusal = match request.state {
            ApprovalState::Pending => approval_refusal_text(request, person),
            state => Some(format!("It is {}.", state_label(state))),
        };
        let missing = request.missing_approvals().into_iter();
        Self {
            title: request.details.operation.qualified_name(),
            caller_is_waiting: request.state == ApprovalState::Pending
                && state.approvals.is_awaited(request.id),
            missing_votes: missing.map(|(group, count)| MissingVotes { group, count }).collect(),
            voter: VoterPermission { may_approve: refusal.is_none(), refusal },
            approval_request: request,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// States separated by commas, or `all`.
    state: Option<String>,
    caller: Option<String>,
    limit: Option<usize>,
}

/// The states of the query parameter. Empty: all.
fn parse_states(parameter: Option<&str>) -> Result<Vec<ApprovalState>, UnknownStateError> {
    match parameter {
        None => Ok(vec![ApprovalState::Pending]),
        Some("all") => Ok(Vec::new()),
        Some(words) => {
            words.split(',').map(|word| ApprovalState::parse(word).ok_or(UnknownStateError)).collect()
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a state is one of {}, or all", ApprovalState::ALL.map(ApprovalState::as_str).join(", "))]
struct UnknownStateError;

pub async fn list_approval_requests(
    State(state): State<Arc<ConsoleState>>,
    BearerUser(person): BearerUser,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Response<Body> {
    let Ok(Query(query)) = query else {
        let message = "the parameters are state, caller and limit";
        return error_response(StatusCode::BAD_REQUEST, "bad_query", message);
    };
    let states = match parse_states(query.state.as_deref()) {
        Ok(states) => states,
        Err(error) => return error_response(StatusCode::BAD_REQUEST, "bad_query", &error.to_string()),
    };
    let limit = query.limit.unwrap_or(DEFAULT_LIST_LIMIT).min(MAX_LIST_LIMIT);
    match state.approvals.list(ApprovalRequestFilter { states, caller: query.caller, limit }).await {
        Ok(requests) => {
            let documents =
                requests.iter().map(|request| ApprovalRequestDocument::new(&state, request, &person));
            let body = json!({"approval_requests": documents.collect::<Vec<_>>()});
            json_response(StatusCode::OK, &body)
        }
        Err(error) => internal_error_response(&error),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantListQuery {
    caller: Option<String>,
}

/// Each grant is the approval request that created it, the grant that ends first at the top.
pub async fn list_time_bound_grants(
    State(state): State<Arc<ConsoleState>>,
    BearerUser(person): BearerUser,
    query: Result<Query<GrantListQuery>, QueryRejection>,
) -> Response<Body> {
    let Ok(Query(query)) = query else {
        return error_response(StatusCode::BAD_REQUEST, "bad_query", "the only parameter is caller");
    };
    match list_active_grants(&state.approvals, query.caller, (state.clock)()).await {
        Ok(active) => {
            let documents = active
                .grants
                .iter()
                .map(|grant| ApprovalRequestDocument::new(&state, &grant.approval_request, &person));
            let body = json!({
                "time_bound_grants": documents.collect::<Vec<_>>(),
                "may_be_incomplete": active.may_be_incomplete,
            });
            json_response(StatusCode::OK, &body)
        }
        Err(error) => internal_error_response(&error),
    }
}

async fn find_approval_request(
    state: &ConsoleState,
    id: &str,
) -> Result<ApprovalRequest, Box<Response<Body>>> {
    match service::find_approval_request(state, id).await {
        Ok(Some(request)) => Ok(request),
        Ok(None) => {
            let message = "there is no such approval request";
            Err(Box::new(error_response(StatusCode::NOT_FOUND, "not_found", message)))
        }
        Err(error) => Err(Box::new(internal_error_response(&error))),
    }
}

pub async fn get_approval_request(
    State(state): State<Arc<ConsoleState>>,
    BearerUser(person): BearerUser,
    Path(id): Path<String>,
) -> Response<Body> {
    match find_approval_request(&state, &id).await {
        Ok(request) => {
            json_response(StatusCode::OK, &ApprovalRequestDocument::new(&state, &request, &person))
        }
        Err(response) => *response,
    }
}

/// The body of a vote. Unknown members are refused, so that a misunderstanding of the API is an error and not another vote.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VoteBody {
    vote: String,
    /// RFC 3339; for a time-bound grant only.
    until: Option<String>,
    reason: Option<String>,
}

pub async fn cast_vote(
    State(state): State<Arc<ConsoleState>>,
    BearerUser(person): BearerUser,
    Path(id): Path<String>,
    body: Bytes,
) -> Response<Body> {
    let request = match find_approval_request(&state, &id).await {
        Ok(request) => request,
        Err(response) => return *response,
    };
    let (choice, comment) = match parse_vote_body(&body) {
        Ok(vote) => vote,
        Err(error) => return error_response(StatusCode::BAD_REQUEST, "bad_vote", &error.to_string()),
    };
    // The approval crate checks membership by the provider's latest statement, now and when the grant is consumed. A browser's
    // sign-in stores that statement; a token brings it with each vote.
    match state.approvals.upsert_user(&person).await {
        Ok(()) => {}
        Err(UpsertUserError::Store(error)) => return internal_error_response(&error),
        Err(error) => return error_response(StatusCode::BAD_REQUEST, "too_long", &error.to_string()),
    }
    match state.approvals.cast_vote_with_comment(request.id, &person, choice, comment).await {
        Ok(request) => {
            json_response(StatusCode::OK, &ApprovalRequestDocument::new(&state, &request, &person))
        }
        Err(VoteError::Store(error)) => internal_error_response(&error),
        Err(error) => error_response(vote_error_status(&error), vote_error_code(&error), &error.to_string()),
    }
}

/// Why a body is not a vote.
#[derive(Debug, thiserror::Error)]
enum VoteBodyError {
    #[error("the body is not a vote in JSON: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("`until` is not a time like 2026-11-21T18:00:00Z")]
    MalformedUntil,
    #[error("approve_time_bound needs `until`")]
    MissingUntil,
    #[error("only approve_time_bound has `until`")]
    UnexpectedUntil,
    #[error("`vote` is one of approve_once, approve_time_bound, deny, break_glass")]
    UnknownVote,
}

/// The vote, and the comment with it if it is an approval.
fn parse_vote_body(body: &[u8]) -> Result<(VoteChoice, Option<String>), VoteBodyError> {
    let body: VoteBody = serde_json::from_slice(body)?;
    let reason = body.reason.unwrap_or_default().trim().to_owned();
    match (body.vote.as_str(), body.until) {
        ("approve_once", None) => Ok((VoteChoice::ApproveOnce, Some(reason))),
        ("deny", None) => Ok((VoteChoice::Deny { reason }, None)),
        ("break_glass", None) => Ok((VoteChoice::BreakGlass { reason }, None)),
        ("approve_time_bound", Some(until)) => {
            let until = OffsetDateTime::parse(&until, &Rfc3339);
            let until = until.map_err(|_malformed| VoteBodyError::MalformedUntil)?;
            Ok((VoteChoice::ApproveTimeBound { until }, Some(reason)))
        }
        ("approve_time_bound", None) => Err(VoteBodyError::MissingUntil),
        ("approve_once" | "deny" | "break_glass", Some(_)) => Err(VoteBodyError::UnexpectedUntil),
        _ => Err(VoteBodyError::UnknownVote),
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

//! `/`: the asks that wait for people, the windows that are open, then the asks that were answered lately.

use super::{PageFrame, internal_error_page, render_page};
use crate::{
    ConsoleState,
    approval_request_view::ApprovalRequestListItem,
    time_bound_grants::{self, TimeBoundGrantView},
    users::BrowserUser,
};
use askama::Template;
use axum::{body::Body, extract::State};
use durward_approval::{ApprovalRequestFilter, ApprovalState as AskState};
use http::{Response, StatusCode};
use std::sync::Arc;

/// Waiting asks of the page; the caps of the approval room are of this order.
const MAX_PENDING_REQUESTS: usize = 200;
/// Answered asks of the page.
const MAX_RECENT_REQUESTS: usize = 25;

#[derive(Template)]
#[template(path = "approvals.html")]
struct ApprovalsPage {
    frame: PageFrame,
    /// Those the visitor can answer.
    for_viewer: Vec<ApprovalRequestListItem>,
    for_others: Vec<ApprovalRequestListItem>,
    time_bound_grants: Vec<TimeBoundGrantView>,
    may_have_more_grants: bool,
    recent_requests: Vec<ApprovalRequestListItem>,
    has_more_pending: bool,
}

pub async fn show_approvals(
    State(inner): State<Arc<ConsoleState>>,
    BrowserUser(session): BrowserUser,
) -> Response<Body> {
    let filter = |states: Vec<AskState>, limit| ApprovalRequestFilter { states, caller: None, limit };
    let answered = [
        AskState::Approved,
        AskState::Denied,
        AskState::TimedOut,
        AskState::Consumed,
        AskState::Expired,
        AskState::Corrupt,
    ];
    let now = (inner.clock)();
    let listed = tokio::try_join!(
        inner.approvals.list(filter(vec![AskState::Pending], MAX_PENDING_REQUESTS)),
        inner.approvals.list(filter(answered.to_vec(), MAX_RECENT_REQUESTS)),
        time_bound_grants::list_active_grants(&inner.approvals, now),
    );
    let (mut waiting, mut answered, open) = match listed {
        Ok(listed) => listed,
        Err(error) => return internal_error_page(&inner, Some(&session), &error),
    };
    let more = waiting.len() == MAX_PENDING_REQUESTS;
    // Whose time runs out first comes first.
    waiting.sort_by_key(|ask| ask.deadline);
    let line = |ask: &durward_approval::ApprovalRequest| {
        ApprovalRequestListItem::from_approval_request(ask, &session.person, now)
    };
    let (yours, others) = waiting.iter().map(line).partition(|line: &ApprovalRequestListItem| line.may_vote);
    // Those are a section of their own.
    answered.retain(|ask| open.approval_requests.iter().all(|window| window.id != ask.id));
    let answered = answered.iter().map(line).collect();
    let windows = open
        .approval_requests
        .iter()
        .filter_map(|ask| TimeBoundGrantView::from_approval_request(ask, &session.person, now))
        .collect();
    let frame = PageFrame::new(&inner, Some(&session), "approvals");
    render_page(
        StatusCode::OK,
        &ApprovalsPage {
            frame,
            for_viewer: yours,
            for_others: others,
            time_bound_grants: windows,
            may_have_more_grants: open.may_be_incomplete,
            recent_requests: answered,
            has_more_pending: more,
        },
    )
}

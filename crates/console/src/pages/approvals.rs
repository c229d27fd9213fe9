//! `/`: the pending approval requests, the active time-bound grants, then the requests that were decided lately.

use super::BrowserUser;
use crate::{
    approval_request_list::ApprovalRequestListItem,
    html::{PageFrame, internal_error_page, render_page},
    state::ConsoleState,
    template_filters as filters,
    time_bound_grants::{ActiveTimeBoundGrants, TimeBoundGrantView, list_active_grants},
};
use askama::Template;
use axum::{body::Body, extract::State};
use durward_approval::{ApprovalRequest, ApprovalRequestFilter, ApprovalState, Approvals, StoreError};
use http::{Response, StatusCode};
use std::sync::Arc;
use time::OffsetDateTime;

/// Most pending requests on the page. The approval crate's own limits on pending requests are of this order.
const MAX_PENDING_REQUESTS: usize = 200;
/// Most decided requests on the page.
const MAX_RECENT_REQUESTS: usize = 25;

#[derive(Template)]
#[template(path = "approvals.html")]
struct ApprovalsPage {
    frame: PageFrame,
    /// The pending requests that the viewer can approve.
    for_viewer: Vec<ApprovalRequestListItem>,
    for_others: Vec<ApprovalRequestListItem>,
    time_bound_grants: Vec<TimeBoundGrantView>,
    may_have_more_grants: bool,
    recent_requests: Vec<ApprovalRequestListItem>,
    has_more_pending: bool,
}

struct ApprovalsLists {
    pending: Vec<ApprovalRequest>,
    active: ActiveTimeBoundGrants,
    recent: Vec<ApprovalRequest>,
}

async fn load_lists(approvals: &Approvals, now: OffsetDateTime) -> Result<ApprovalsLists, StoreError> {
    let list = |states: Vec<ApprovalState>, limit| {
        approvals.list(ApprovalRequestFilter { states, caller: None, limit })
    };
    let (mut pending, active) = tokio::try_join!(
        list(vec![ApprovalState::Pending], MAX_PENDING_REQUESTS),
        list_active_grants(approvals, None, now)
    )?;
    // The request whose deadline is the nearest comes first.
    pending.sort_by_key(|request| request.deadline);
    let decided = ApprovalState::ALL.into_iter().filter(|state| *state != ApprovalState::Pending).collect();
    // Active grants have a section of their own. They are taken out of the recent requests, so as many more are listed.
    let mut recent = list(decided, MAX_RECENT_REQUESTS + active.grants.len()).await?;
    recent.retain(|request| active.grants.iter().all(|grant| grant.approval_request.id != request.id));
    recent.truncate(MAX_RECENT_REQUESTS);
    Ok(ApprovalsLists { pending, active, recent })
}

pub async fn show_approvals(
    State(state): State<Arc<ConsoleState>>,
    BrowserUser(user): BrowserUser,
) -> Response<Body> {
    let now = (state.clock)();
    let ApprovalsLists { pending, active, recent } = match load_lists(&state.approvals, now).await {
        Ok(lists) => lists,
        Err(error) => return internal_error_page(&state, Some(&user), &error),
    };
    let list_item = |request: &ApprovalRequest| {
        ApprovalRequestListItem::from_approval_request(request, &user.person, now)
    };
    let (for_viewer, for_others) =
        pending.iter().map(list_item).partition(|item: &ApprovalRequestListItem| item.may_vote);
    let grants = active.grants.iter();
    render_page(
        StatusCode::OK,
        &ApprovalsPage {
            frame: PageFrame::new(&state, Some(&user), "approvals"),
            for_viewer,
            for_others,
            time_bound_grants: grants
                .map(|grant| TimeBoundGrantView::from_grant(grant, &user.person, now))
                .collect(),
            may_have_more_grants: active.may_be_incomplete,
            recent_requests: recent.iter().map(list_item).collect(),
            has_more_pending: pending.len() == MAX_PENDING_REQUESTS,
        },
    )
}

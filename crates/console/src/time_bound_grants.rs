//! The active time-bound grants: their callers, actions and ends, and the people who approved them.

use crate::{
    approval_request_list::{account_and_region, resource_names, split_at_most},
    display_text::DisplayText,
    time_view::TimeView,
};
use durward_approval::{
    ApprovalRequest, ApprovalRequestFilter, ApprovalRequestId, ApprovalState, Approvals, Approver, StoreError,
};
use time::OffsetDateTime;

/// Most approved requests that are searched for active grants: the most that one listing returns.
const MAX_SCANNED_APPROVALS: usize = 1_000;
/// Most actions, and most resources, that the list names of one grant.
const MAX_NAMED_ITEMS: usize = 3;

/// An approval request whose time-bound grant is active.
pub struct ActiveTimeBoundGrant {
    pub approval_request: ApprovalRequest,
    pub until: OffsetDateTime,
}

/// A list of active grants.
pub struct ActiveTimeBoundGrants {
    pub grants: Vec<ActiveTimeBoundGrant>,
    /// There are more approved requests than were searched.
    pub may_be_incomplete: bool,
}

/// Lists the active grants, of one caller or of all. The grant that ends first comes first.
pub async fn list_active_grants(
    approvals: &Approvals,
    caller: Option<String>,
    now: OffsetDateTime,
) -> Result<ActiveTimeBoundGrants, StoreError> {
    let filter =
        ApprovalRequestFilter { states: vec![ApprovalState::Approved], caller, limit: MAX_SCANNED_APPROVALS };
    let approved = approvals.list(filter).await?;
    let may_be_incomplete = approved.len() == MAX_SCANNED_APPROVALS;
    let active = approved.into_iter().filter_map(|approval_request| {
        let until = approval_request.grant_until.filter(|until| *until > now)?;
        let is_active = approval_request.time_bound && approval_request.state == ApprovalState::Approved;
        is_active.then_some(ActiveTimeBoundGrant { approval_request, until })
    });
    let mut grants: Vec<_> = active.collect();
    grants.sort_by_key(|grant| grant.until);
    Ok(ActiveTimeBoundGrants { grants, may_be_incomplete })
}

/// One grant in the list.
pub struct TimeBoundGrantView {
    pub id: ApprovalRequestId,
    pub title: DisplayText,
    /// Without the action that is the title.
    pub actions: Vec<DisplayText>,
    pub more_actions: usize,
    pub resources: Vec<DisplayText>,
    pub more_resources: usize,
    pub caller: DisplayText,
    pub connection: DisplayText,
    pub location: Vec<DisplayText>,
    pub until: TimeView,
    pub use_count: u64,
    pub granted_by: DisplayText,
    /// True if the viewer may revoke it.
    pub may_revoke: bool,
}

impl TimeBoundGrantView {
    pub fn from_grant(grant: &ActiveTimeBoundGrant, viewer: &Approver, now: OffsetDateTime) -> Self {
        let request = &grant.approval_request;
        let title = DisplayText::new(request.details.operation.qualified_name());
        let mut actions: Vec<DisplayText> = Vec::new();
        for permission in &request.details.operation.required_permissions {
            let action = DisplayText::new(&permission.action);
            if action != title && !actions.contains(&action) {
                actions.push(action);
            }
        }
        let (actions, more_actions) = split_at_most(actions, MAX_NAMED_ITEMS);
        let (resources, more_resources) = split_at_most(resource_names(request), MAX_NAMED_ITEMS);
        let approvers: Vec<&str> =
            request.votes.iter().filter(|vote| vote.is_approval).map(|vote| vote.by.id.as_str()).collect();
        Self {
            id: request.id,
            title,
            actions,
            more_actions,
            resources,
            more_resources,
            caller: DisplayText::from_caller(&request.details.caller),
            connection: DisplayText::new(&request.details.connection),
            location: account_and_region(request),
            until: TimeView::new(grant.until, now),
            use_count: request.uses,
            granted_by: DisplayText::new(approvers.join(", ")),
            may_revoke: request.has_approver(viewer),
        }
    }
}

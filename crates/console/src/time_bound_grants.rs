//! The windows that are open: what passes now without anybody being asked, by whose word, until when.

use crate::{
    approval_request_view::{TimeView, account_and_region, resource_names},
    display_text::DisplayText,
    history::describe_caller,
    users,
};
use durward_approval::{
    ApprovalRequest, ApprovalRequestFilter, ApprovalRequestId, ApprovalState, Approvals, Approver, StoreError,
};
use time::OffsetDateTime;

/// Approved asks that are looked through: the most that the approval room lists.
const MAX_SCANNED_APPROVALS: usize = 1_000;
/// Actions and resources of a window that a list names.
const MAX_NAMED_ITEMS: usize = 3;

/// All that are open, and whether there may be more than could be looked through.
pub struct ActiveTimeBoundGrants {
    pub approval_requests: Vec<ApprovalRequest>,
    pub may_be_incomplete: bool,
}

/// Which close first comes first.
pub async fn list_active_grants(
    approvals: &Approvals,
    now: OffsetDateTime,
) -> Result<ActiveTimeBoundGrants, StoreError> {
    let filter = ApprovalRequestFilter {
        states: vec![ApprovalState::Approved],
        caller: None,
        limit: MAX_SCANNED_APPROVALS,
    };
    let mut asks = approvals.list(filter).await?;
    let more = asks.len() == MAX_SCANNED_APPROVALS;
    asks.retain(|ask| {
        ask.state == ApprovalState::Approved && ask.time_bound && ask.grant_until.is_some_and(|end| end > now)
    });
    asks.sort_by_key(|ask| ask.grant_until);
    Ok(ActiveTimeBoundGrants { approval_requests: asks, may_be_incomplete: more })
}

/// A window in the list.
pub struct TimeBoundGrantView {
    pub id: ApprovalRequestId,
    pub title: DisplayText,
    /// Without the one that the title is.
    pub actions: Vec<DisplayText>,
    pub more_actions: usize,
    pub resources: Vec<DisplayText>,
    pub more_resources: usize,
    pub caller: DisplayText,
    pub connection: DisplayText,
    pub location: DisplayText,
    pub until: TimeView,
    pub use_count: u64,
    pub granted_by: DisplayText,
    /// Whether this visitor may close it.
    pub may_revoke: bool,
}

impl TimeBoundGrantView {
    /// None: it has no end, so that it is none.
    pub fn from_approval_request(
        ask: &ApprovalRequest,
        person: &Approver,
        now: OffsetDateTime,
    ) -> Option<Self> {
        let title = DisplayText::new(ask.details.operation.qualified_name());
        let mut actions: Vec<DisplayText> = Vec::new();
        for demand in &ask.details.operation.required_permissions {
            let action = DisplayText::new(&demand.action);
            if action != title && !actions.contains(&action) {
                actions.push(action);
            }
        }
        let mut resources = resource_names(ask);
        let (more_actions, more_resources) =
            (actions.len().saturating_sub(MAX_NAMED_ITEMS), resources.len().saturating_sub(MAX_NAMED_ITEMS));
        actions.truncate(MAX_NAMED_ITEMS);
        resources.truncate(MAX_NAMED_ITEMS);
        let opened: Vec<&str> =
            ask.votes.iter().filter(|vote| vote.is_approval).map(|vote| vote.by.id.as_str()).collect();
        Some(Self {
            id: ask.id,
            title,
            actions,
            more_actions,
            resources,
            more_resources,
            caller: describe_caller(&ask.details.caller),
            connection: DisplayText::new(&ask.details.connection),
            location: account_and_region(ask),
            until: TimeView::new(ask.grant_until?, now),
            use_count: ask.uses,
            granted_by: DisplayText::new(opened.join(", ")),
            may_revoke: users::is_approver(ask, person),
        })
    }
}

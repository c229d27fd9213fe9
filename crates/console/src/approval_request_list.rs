//! Approval requests in lists: one line each, on the approvals page and below a request.

use crate::{
    display_text::{DisplayText, capitalize_first},
    time_view::TimeView,
};
use durward_approval::{ApprovalRequest, ApprovalRequestId, ApprovalState, Approver};
use time::OffsetDateTime;

/// Most resources that one line names.
const MAX_NAMED_RESOURCES: usize = 3;

/// The risk, as a word beside the number: colour alone says nothing to many people.
pub struct RiskView {
    pub score: u8,
    pub level: &'static str,
    pub reasons: Vec<DisplayText>,
    /// The broad grants of the request, with their positions in it.
    pub broad_grants: Vec<DisplayText>,
}

impl RiskView {
    pub fn from_approval_request(request: &ApprovalRequest) -> Self {
        let reasons = request.risk.reasons.iter().map(DisplayText::new).collect();
        let broad_grants =
            request.risk.broad_grants().map(|grant| DisplayText::new(capitalize_first(grant))).collect();
        Self { score: request.risk.score, level: request.risk.level(), reasons, broad_grants }
    }
}

/// The state in words.
pub fn state_label(state: ApprovalState) -> &'static str {
    match state {
        ApprovalState::Pending => "pending",
        ApprovalState::Approved => "approved",
        ApprovalState::Denied => "denied",
        ApprovalState::TimedOut => "timed out",
        ApprovalState::Consumed => "consumed",
        ApprovalState::Expired => "expired",
        ApprovalState::Corrupt => "corrupt",
    }
}

/// The state in words; for an approval, what became of its grant.
fn display_state(request: &ApprovalRequest) -> &'static str {
    match request.state {
        ApprovalState::Approved if request.time_bound => "grant active",
        ApprovalState::Denied if request.time_bound => "revoked",
        ApprovalState::Denied if request.is_withdrawn() => "withdrawn",
        ApprovalState::Expired if request.time_bound => "grant ended",
        state => state_label(state),
    }
}

/// One approval request in a list.
pub struct ApprovalRequestListItem {
    pub id: ApprovalRequestId,
    pub title: DisplayText,
    pub resources: Vec<DisplayText>,
    pub more_resources: usize,
    pub caller: DisplayText,
    pub connection: DisplayText,
    /// The account and the region, as far as they are known.
    pub location: Vec<DisplayText>,
    pub created: TimeView,
    pub deadline: TimeView,
    pub state: &'static str,
    /// The CSS class of the state.
    pub state_class: &'static str,
    pub is_pending: bool,
    pub risk: RiskView,
    pub missing_votes: Vec<MissingVotesView>,
    /// True if the viewer can approve it.
    pub may_vote: bool,
    pub has_uninspected_parts: bool,
    pub attempts: u64,
    pub is_break_glass: bool,
}

/// The number of further members of one group who have to approve.
pub struct MissingVotesView {
    pub group: DisplayText,
    pub count: u32,
}

impl ApprovalRequestListItem {
    pub fn from_approval_request(request: &ApprovalRequest, viewer: &Approver, now: OffsetDateTime) -> Self {
        let (resources, more_resources) = split_at_most(resource_names(request), MAX_NAMED_RESOURCES);
        let is_pending = request.state == ApprovalState::Pending;
        let missing = request.missing_approvals().into_iter();
        Self {
            id: request.id,
            title: DisplayText::new(request.details.operation.qualified_name()),
            resources,
            more_resources,
            caller: DisplayText::from_caller(&request.details.caller),
            connection: DisplayText::new(&request.details.connection),
            location: account_and_region(request),
            created: TimeView::new(request.created, now),
            deadline: TimeView::new(request.deadline, now),
            state: display_state(request),
            state_class: request.state.as_str(),
            is_pending,
            risk: RiskView::from_approval_request(request),
            missing_votes: missing
                .map(|(group, count)| MissingVotesView { group: DisplayText::new(group), count })
                .collect(),
            may_vote: is_pending && request.approval_refusal(viewer).is_none(),
            has_uninspected_parts: !request.details.operation.uninspected_parts.is_empty(),
            attempts: request.attempts,
            is_break_glass: request.break_glass,
        }
    }
}

/// The first `max` items, and the number of the others.
pub fn split_at_most(mut items: Vec<DisplayText>, max: usize) -> (Vec<DisplayText>, usize) {
    let others = items.len().saturating_sub(max);
    items.truncate(max);
    (items, others)
}

/// The resources of the required permissions, each once.
pub fn resource_names(request: &ApprovalRequest) -> Vec<DisplayText> {
    let mut resources: Vec<DisplayText> = Vec::new();
    for permission in &request.details.operation.required_permissions {
        let resource = DisplayText::new(permission.resource.to_text());
        if !resources.contains(&resource) {
            resources.push(resource);
        }
    }
    resources
}

/// The account and the region of the operation, as far as they are known.
pub fn account_and_region(request: &ApprovalRequest) -> Vec<DisplayText> {
    let operation = &request.details.operation;
    [&operation.account, &operation.region].into_iter().flatten().map(DisplayText::new).collect()
}

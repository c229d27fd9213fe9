//! Messages for programs: the JSON of webhooks.
//!
//! Unlike the messages for people, the JSON holds texts as the caller wrote them: the program that shows them must escape them.

use crate::NotificationEvent;
use crate::request_summary::{BatchSummary, RequestHeadline, RequestSummary};
use durward_approval::{ApprovalRequest, ApprovalRequirement, Vote};
use durward_core::RequiredPermission;
use durward_core::timestamps::format_rfc3339;
use serde_json::{Value, json};
use time::OffsetDateTime;

/// Requests that a batch names for each of its two events.
const MAX_NAMED_REQUESTS: usize = 100;

/// The JSON of one event.
pub(crate) fn render_request(
    request: &ApprovalRequest,
    summary: &RequestSummary,
    event: NotificationEvent,
) -> Value {
    let details = &request.details;
    let operation = &details.operation;
    let permission = |permission: &RequiredPermission| {
        json!({
            "action": permission.action,
            "resource": permission.resource.to_text(),
            "access_level": permission.access_level.as_str(),
        })
    };
    let requirement = |requirement: &ApprovalRequirement| {
        json!({
            "policy": requirement.policy,
            "group": requirement.group,
            "quorum": requirement.quorum,
        })
    };
    let vote = |vote: &Vote| {
        json!({
            "by": vote.by.id,
            "is_approval": vote.is_approval,
            "break_glass": vote.break_glass,
            "reason": vote.reason,
        })
    };
    let missing = |(group, count): (String, u32)| json!({"group": group, "count": count});
    let at = match event {
        NotificationEvent::Opened => request.created,
        NotificationEvent::Closed | NotificationEvent::BreakGlass => request.ended_at(),
    };
    json!({
        "type": event.as_str(),
        "timestamp": format_rfc3339(at),
        "data": {
            "summary": summary.headline(),
            "url": summary.url,
            "approval_request": {
                "id": request.id.to_string(),
                "state": request.state.as_str(),
                "title": operation.qualified_name(),
                "required_permissions":
                    operation.required_permissions.iter().map(permission).collect::<Vec<_>>(),
                "tags": details.tags,
                "account": operation.account,
                "region": operation.region,
                "connection": details.connection,
                "uninspected_parts": operation.uninspected_parts,
                "caller": {
                    "id": details.caller.id(),
                    "kind": details.caller.kind.as_str(),
                    "act": details.caller.act,
                },
                "risk": {"score": request.risk.score, "reasons": request.risk.reasons},
                "reason": details.reason,
                "requirements": details.requirements.iter().map(requirement).collect::<Vec<_>>(),
                "missing_votes":
                    request.missing_approvals().into_iter().map(missing).collect::<Vec<_>>(),
                "votes": request.votes.iter().map(vote).collect::<Vec<_>>(),
                "created": format_rfc3339(request.created),
                "deadline": format_rfc3339(request.deadline),
                "break_glass": request.break_glass,
            },
        },
    })
}

/// The JSON of several events in one message.
pub(crate) fn render_batch(batch: &BatchSummary, now: OffsetDateTime) -> Value {
    let named = |headlines: &[RequestHeadline]| {
        let headline = |headline: &RequestHeadline| {
            json!({
                "id": headline.approval_request,
                "url": headline.url,
                "summary": headline.headline,
            })
        };
        headlines.iter().take(MAX_NAMED_REQUESTS).map(headline).collect::<Vec<_>>()
    };
    json!({
        "type": "approval_requests.summary",
        "timestamp": format_rfc3339(now),
        "data": {
            "url": batch.queue_url,
            "opened": {"count": batch.opened.len(), "approval_requests": named(&batch.opened)},
            "closed": {"count": batch.closed.len(), "approval_requests": named(&batch.closed)},
        },
    })
}

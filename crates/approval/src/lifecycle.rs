//! The beginning of an approval request, and its end by time. Pure: the time comes in as an argument.

use crate::clock::add_duration;
use crate::{ApprovalEventKind, ApprovalRequest, ApprovalRequestId, ApprovalState, NewApprovalRequest};
use durward_core::limits::QUEUED_REQUEST_TTL;
use durward_core::timestamps::{from_unix_millis, to_unix_millis};
use std::sync::Arc;

/// A pending approval request that is not stored yet.
pub(crate) fn new_approval_request(new: NewApprovalRequest, now: i64) -> ApprovalRequest {
    // The shortest time-out applies: one policy cannot extend the time that another one permits.
    let hold = new.requirements.iter().map(|requirement| requirement.timeout).min().unwrap_or_default();
    let caller = new.caller.id();
    let note = Some(new.reason.clone()).filter(|reason| !reason.is_empty());
    let mut request = ApprovalRequest {
        id: ApprovalRequestId::new(),
        state: ApprovalState::Pending,
        created: from_unix_millis(now),
        deadline: from_unix_millis(add_duration(now, hold)),
        grant_until: None,
        time_bound: false,
        break_glass: false,
        risk: new.risk.clone(),
        details: Arc::new(new),
        votes: Vec::new(),
        history: Vec::new(),
        attempts: 1,
        uses: 0,
    };
    request.push_event(ApprovalEventKind::Requested, Some(&caller), note, now);
    request
}

/// The time until which people may vote.
pub(crate) fn voting_deadline(request: &ApprovalRequest) -> i64 {
    let deadline = to_unix_millis(request.deadline);
    if request.details.is_queued_on_timeout() {
        deadline.max(add_duration(to_unix_millis(request.created), QUEUED_REQUEST_TTL))
    } else {
        deadline
    }
}

/// Moves a request whose time is over to the state that it then has. Returns whether it did.
pub(crate) fn expire_if_due(request: &mut ApprovalRequest, now: i64) -> bool {
    let (state, kind, at) = match (request.state, request.grant_until.map(to_unix_millis)) {
        (ApprovalState::Pending, _) if voting_deadline(request) <= now => {
            if request.details.is_queued_on_timeout() {
                (ApprovalState::Expired, ApprovalEventKind::Expired, voting_deadline(request))
            } else {
                (ApprovalState::TimedOut, ApprovalEventKind::TimedOut, voting_deadline(request))
            }
        }
        (ApprovalState::Approved, Some(until)) if until <= now => {
            (ApprovalState::Expired, ApprovalEventKind::Expired, until)
        }
        _ => return false,
    };
    request.state = state;
    request.push_event(kind, None, None, at);
    true
}

/// Ends a request before its time, for the reason in `note`; if its time is over, as time ends it.
pub(crate) fn expire_now(request: &mut ApprovalRequest, kind: ApprovalEventKind, note: &str, now: i64) {
    if !expire_if_due(request, now) {
        request.state = ApprovalState::Expired;
        request.push_event(kind, None, Some(note.to_owned()), now);
    }
}

//! The rules of voting: the eligibility of a voter, and the effect of a vote. Pure: the time and the groups come in as arguments.

use crate::clock::add_duration;
use crate::size_limits::{TooLong, check_approver_size, check_reason_size};
use crate::{
    ApprovalEventKind, ApprovalLimits, ApprovalRequest, ApprovalState, Approver, Vote, VoteChoice, VoteError,
};
use durward_core::Caller;
use durward_core::timestamps::{format_rfc3339, from_unix_millis, to_unix_millis};
use std::time::Duration;

/// Applies a vote to a request that `expire_if_due` has seen. After an error the request must not be stored.
pub(crate) fn apply_vote(
    request: &mut ApprovalRequest,
    by: &Approver,
    choice: VoteChoice,
    comment: Option<String>,
    limits: &ApprovalLimits,
    now: i64,
) -> Result<(), VoteError> {
    let comment = comment.filter(|comment| !comment.trim().is_empty());
    check_vote_texts(by, &choice, comment.as_deref())?;
    // A denial after the approval is possible until the grant is used: an approver who made a mistake must be able to stop the
    // operation.
    let ends_grant = request.state == ApprovalState::Approved && matches!(choice, VoteChoice::Deny { .. });
    if request.state != ApprovalState::Pending && !ends_grant {
        return Err(VoteError::NotPending(request.state));
    }
    match choice {
        VoteChoice::Deny { reason } => apply_denial(request, by, reason, now),
        VoteChoice::ApproveOnce => apply_approval(request, by, None, comment, limits, now),
        VoteChoice::ApproveTimeBound { until } => {
            let until = to_unix_millis(until);
            if until <= now {
                return Err(VoteError::InvalidTimeBound(
                    "a time-bound grant must end in the future".to_owned(),
                ));
            }
            if until > add_duration(now, limits.max_time_bound) {
                let longest = duration_in_words(limits.max_time_bound);
                return Err(VoteError::InvalidTimeBound(format!(
                    "a time-bound grant lasts at most {longest}"
                )));
            }
            apply_approval(request, by, Some(until), comment, limits, now)
        }
        VoteChoice::BreakGlass { reason } => apply_break_glass(request, by, reason, limits, now),
    }
}

/// `8 hours`, `90 minutes`.
fn duration_in_words(duration: Duration) -> String {
    let minutes = duration.as_secs() / 60;
    match (minutes / 60, minutes % 60) {
        (1, 0) => "1 hour".to_owned(),
        (hours, 0) if hours > 0 => format!("{hours} hours"),
        _ if minutes == 1 => "1 minute".to_owned(),
        _ => format!("{minutes} minutes"),
    }
}

fn check_vote_texts(by: &Approver, choice: &VoteChoice, comment: Option<&str>) -> Result<(), VoteError> {
    let too_long = |TooLong { field, limit }| VoteError::TooLong { field, limit };
    check_approver_size(by).map_err(too_long)?;
    check_reason_size(comment.unwrap_or_default()).map_err(too_long)?;
    if let VoteChoice::Deny { reason } | VoteChoice::BreakGlass { reason } = choice {
        check_reason_size(reason).map_err(too_long)?;
        if reason.trim().is_empty() {
            return Err(VoteError::ReasonMissing);
        }
    }
    Ok(())
}

/// The groups of the voter that the request names.
fn entitling_groups(request: &ApprovalRequest, by: &Approver) -> Result<Vec<String>, VoteError> {
    let mut named: Vec<&String> =
        request.details.requirements.iter().map(|requirement| &requirement.group).collect();
    named.sort_unstable();
    named.dedup();
    let entitling: Vec<String> =
        named.iter().filter(|group| by.groups.contains(*group)).map(|group| (*group).clone()).collect();
    if entitling.is_empty() {
        let named: Vec<&str> = named.iter().map(|group| group.as_str()).collect();
        return Err(VoteError::NotAnApprover(format!("members of {}", named.join(", "))));
    }
    Ok(entitling)
}

/// Returns true if two approvers are one human, as far as can be told.
///
/// The same subject at two providers counts as one person: otherwise one human with an account at each could fill a quorum
/// of two alone.
fn is_same_person(one: &Approver, other: &Approver) -> bool {
    // Without regard to case, on the safe side: two spellings of an e-mail address are one person.
    one.id == other.id || one.subject.eq_ignore_ascii_case(&other.subject)
}

fn refuse_own_request(caller: &Caller, by: &Approver) -> Result<(), VoteError> {
    if by.id == caller.id() || by.subject.eq_ignore_ascii_case(&caller.subject) {
        return Err(VoteError::OwnRequest("you made this request"));
    }
    let is_voter = |subject: &String| *subject == by.id || subject.eq_ignore_ascii_case(&by.subject);
    // An agent that acts for a person is that person as far as approval goes: the second pair of eyes must be another one.
    if caller.act.iter().any(is_voter) {
        return Err(VoteError::OwnRequest("the caller acts on your behalf"));
    }
    Ok(())
}

/// A vote of this person now; its other fields are those of a denial.
fn new_vote(by: &Approver, counted_groups: Vec<String>, reason: Option<String>, now: i64) -> Vote {
    Vote {
        by: by.clone(),
        at: from_unix_millis(now),
        is_approval: false,
        reason,
        counted_groups,
        time_bound_until: None,
        break_glass: false,
    }
}

fn apply_denial(
    request: &mut ApprovalRequest,
    by: &Approver,
    reason: String,
    now: i64,
) -> Result<(), VoteError> {
    let groups = entitling_groups(request, by)?;
    let kind = if request.state == ApprovalState::Approved {
        ApprovalEventKind::Withdrawn
    } else {
        ApprovalEventKind::Deny
    };
    request.push_event(kind, Some(&by.id), Some(reason.clone()), now);
    // The person may have approved before: only the newest vote of a person stands.
    request.votes.retain(|vote| !is_same_person(&vote.by, by));
    request.votes.push(new_vote(by, groups, Some(reason), now));
    request.state = ApprovalState::Denied;
    request.grant_until = None;
    Ok(())
}

/// Ends the grant of an older request for an operation that was denied now.
pub(crate) fn withdraw_grant(older: &mut ApprovalRequest, denied: &ApprovalRequest, now: i64) {
    let Some(denial) = denied.last_denial() else { return };
    let reason = denial.reason.as_deref().unwrap_or_default();
    let note = format!("{reason} (the same operation was denied: approval request {})", denied.id);
    older.push_event(ApprovalEventKind::Withdrawn, Some(&denial.by.id), Some(note), now);
    older.votes.retain(|vote| !is_same_person(&vote.by, &denial.by));
    older.votes.push(denial.clone());
    older.state = ApprovalState::Denied;
    older.grant_until = None;
}

/// The eligibility of a person, for surfaces that show it in advance. `apply_vote` decides by the same rules.
impl ApprovalRequest {
    /// Why this person cannot approve, if they cannot. The state of the request plays no part.
    pub fn approval_refusal(&self, by: &Approver) -> Option<VoteError> {
        check_may_approve(self, by).err()
    }

    /// Returns true if the person is in a group whose members vote on the request.
    pub fn has_approver(&self, person: &Approver) -> bool {
        entitling_groups(self, person).is_ok()
    }

    /// Returns true if the request is the person's own, or that of an agent that acts for them.
    pub fn is_own_request_of(&self, person: &Approver) -> bool {
        refuse_own_request(&self.details.caller, person).is_err()
    }
}

/// The groups for which an approval of this person counts.
fn check_may_approve(request: &ApprovalRequest, by: &Approver) -> Result<Vec<String>, VoteError> {
    let groups = entitling_groups(request, by)?;
    refuse_own_request(&request.details.caller, by)?;
    if request.votes.iter().any(|vote| vote.is_approval && is_same_person(&vote.by, by)) {
        return Err(VoteError::AlreadyApproved);
    }
    Ok(groups)
}

fn apply_approval(
    request: &mut ApprovalRequest,
    by: &Approver,
    time_bound_until: Option<i64>,
    comment: Option<String>,
    limits: &ApprovalLimits,
    now: i64,
) -> Result<(), VoteError> {
    let groups = check_may_approve(request, by)?;
    request.votes.push(Vote {
        is_approval: true,
        time_bound_until: time_bound_until.map(from_unix_millis),
        ..new_vote(by, groups, comment.clone(), now)
    });
    let kind = if time_bound_until.is_some() {
        ApprovalEventKind::ApproveTimeBound
    } else {
        ApprovalEventKind::ApproveOnce
    };
    let until = time_bound_until.map(format_until);
    // The end comes first: what reads it back stops at the first semicolon.
    let note = match (until, comment) {
        (Some(until), Some(comment)) => Some(format!("{until}; {comment}")),
        (until, comment) => until.or(comment),
    };
    request.push_event(kind, Some(&by.id), note, now);
    if request.missing_approvals().is_empty() {
        // Time-bound only if every approver chose it, and no longer than the most cautious of them chose.
        let ends: Option<Vec<i64>> =
            request.votes.iter().map(|vote| vote.time_bound_until.map(to_unix_millis)).collect();
        let until = ends.and_then(|ends| ends.into_iter().min());
        if until.is_some_and(|until| until <= now) {
            let text = "the time-bound approval of another person has already ended; request approval again";
            return Err(VoteError::InvalidTimeBound(text.to_owned()));
        }
        request.time_bound = until.is_some();
        create_grant(request, until.unwrap_or_else(|| add_duration(now, limits.grant_ttl)), now);
    }
    Ok(())
}

fn apply_break_glass(
    request: &mut ApprovalRequest,
    by: &Approver,
    reason: String,
    limits: &ApprovalLimits,
    now: i64,
) -> Result<(), VoteError> {
    let Some(group) = &limits.break_glass_group else {
        return Err(VoteError::NotAnApprover(
            "members of a break-glass group, and none is configured,".to_owned(),
        ));
    };
    if !by.groups.contains(group) {
        return Err(VoteError::NotAnApprover(format!("members of {group}")));
    }
    refuse_own_request(&request.details.caller, by)?;
    request.push_event(ApprovalEventKind::BreakGlass, Some(&by.id), Some(reason.clone()), now);
    request.votes.push(Vote {
        is_approval: true,
        break_glass: true,
        ..new_vote(by, vec![group.clone()], Some(reason), now)
    });
    request.break_glass = true;
    // Break-glass is for the one operation in front of a person in an emergency: it never opens a period.
    request.time_bound = false;
    create_grant(request, add_duration(now, limits.grant_ttl), now);
    Ok(())
}

fn create_grant(request: &mut ApprovalRequest, until: i64, now: i64) {
    request.state = ApprovalState::Approved;
    request.grant_until = Some(from_unix_millis(until));
    request.push_event(ApprovalEventKind::Granted, None, Some(format_until(until)), now);
}

/// A time for the notes of the history.
fn format_until(until: i64) -> String {
    format!("until {}", format_rfc3339(from_unix_millis(until)))
}

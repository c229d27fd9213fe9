//! What an answer does to an ask: who may give it, what it changes. Pure: time and groups come in as arguments.

use crate::clock::{add_duration, from_unix_millis, to_unix_millis};
use crate::{
    ApprovalEvent, ApprovalLimits, ApprovalRequest, ApprovalState, Approver, Vote, VoteChoice, VoteError,
    size_limits,
};
use durward_core::Caller;
use time::format_description::well_known::Rfc3339;

/// Applies an answer to an ask whose time was settled. On an error the ask is not to be kept.
pub(crate) fn apply_vote(
    ask: &mut ApprovalRequest,
    by: &Approver,
    answer: VoteChoice,
    limits: &ApprovalLimits,
    now: i64,
) -> Result<(), VoteError> {
    check_vote_lengths(by, &answer)?;
    let may_end = ask.state == ApprovalState::Approved && matches!(answer, VoteChoice::Deny { .. });
    if ask.state != ApprovalState::Pending && !may_end {
        return Err(VoteError::NotPending(ask.state));
    }
    match answer {
        VoteChoice::Deny { reason } => apply_denial(ask, by, reason, now),
        VoteChoice::ApproveOnce => apply_approval(ask, by, None, limits, now),
        VoteChoice::ApproveTimeBound { until } => {
            let until = to_unix_millis(until);
            if until <= now {
                return Err(VoteError::InvalidTimeBound("the window would end in the past".to_owned()));
            }
            if until > add_duration(now, limits.max_time_bound) {
                let minutes = limits.max_time_bound.as_secs() / 60;
                return Err(VoteError::InvalidTimeBound(format!(
                    "a window is at most {minutes} minutes long"
                )));
            }
            apply_approval(ask, by, Some(until), limits, now)
        }
        VoteChoice::BreakGlass { reason } => apply_break_glass(ask, by, reason, limits, now),
    }
}

fn check_vote_lengths(by: &Approver, answer: &VoteChoice) -> Result<(), VoteError> {
    size_limits::check_approver_size(by)
        .map_err(|(what, limit)| VoteError::TooLong { field: what, limit })?;
    if let VoteChoice::Deny { reason } | VoteChoice::BreakGlass { reason } = answer {
        if reason.len() > size_limits::MAX_REASON_BYTES {
            return Err(VoteError::TooLong { field: "the reason", limit: size_limits::MAX_REASON_BYTES });
        }
        if reason.trim().is_empty() {
            return Err(VoteError::ReasonMissing);
        }
    }
    Ok(())
}

/// Those of the person's groups that the ask names.
fn entitling_groups(ask: &ApprovalRequest, by: &Approver) -> Result<Vec<String>, VoteError> {
    let mut named: Vec<&String> =
        ask.details.requirements.iter().map(|requirement| &requirement.group).collect();
    named.sort_unstable();
    named.dedup();
    let mine: Vec<String> =
        named.iter().filter(|group| by.groups.contains(*group)).map(|group| (*group).clone()).collect();
    if mine.is_empty() {
        let named: Vec<&str> = named.iter().map(|group| group.as_str()).collect();
        return Err(VoteError::NotAnApprover(format!("members of {}", named.join(", "))));
    }
    Ok(mine)
}

/// Whether these are one human, as far as can be told: the same subject at two providers is taken for one person.
fn is_same_person(one: &Approver, other: &Approver) -> bool {
    one.id == other.id || one.subject.eq_ignore_ascii_case(&other.subject)
}

fn refuse_own_request(caller: &Caller, by: &Approver) -> Result<(), VoteError> {
    if by.id == caller.id() || by.subject.eq_ignore_ascii_case(&caller.subject) {
        return Err(VoteError::OwnRequest("you asked for this".to_owned()));
    }
    let is_me = |subject: &String| *subject == by.id || subject.eq_ignore_ascii_case(&by.subject);
    if caller.act.iter().any(is_me) {
        return Err(VoteError::OwnRequest("the caller acts for you".to_owned()));
    }
    Ok(())
}

fn push_event(ask: &mut ApprovalRequest, by: Option<&Approver>, kind: &str, note: Option<String>, now: i64) {
    let event = ApprovalEvent {
        at: from_unix_millis(now),
        kind: kind.to_owned(),
        by: by.map(|person| person.id.clone()),
        note,
    };
    ask.history.push(event);
}

fn apply_denial(ask: &mut ApprovalRequest, by: &Approver, reason: String, now: i64) -> Result<(), VoteError> {
    let groups = entitling_groups(ask, by)?;
    let kind = if ask.state == ApprovalState::Approved { "withdrawn" } else { "deny" };
    push_event(ask, Some(by), kind, Some(reason.clone()), now);
    ask.votes.retain(|vote| !is_same_person(&vote.by, by));
    ask.votes.push(Vote {
        by: by.clone(),
        at: from_unix_millis(now),
        is_approval: false,
        reason: Some(reason),
        counted_groups: groups,
        time_bound_until: None,
        break_glass: false,
    });
    ask.state = ApprovalState::Denied;
    ask.grant_until = None;
    Ok(())
}

/// Ends an older approval of an operation that was denied now.
pub(crate) fn withdraw_grant(older: &mut ApprovalRequest, denied: &ApprovalRequest, now: i64) {
    let Some(denial) = denied.last_denial() else { return };
    let reason = denial.reason.as_deref().unwrap_or_default();
    push_event(
        older,
        Some(&denial.by),
        "withdrawn",
        Some(format!("{reason} (the same was denied: ask {})", denied.id)),
        now,
    );
    older.votes.retain(|vote| !is_same_person(&vote.by, &denial.by));
    older.votes.push(denial.clone());
    older.state = ApprovalState::Denied;
    older.grant_until = None;
}

fn apply_approval(
    ask: &mut ApprovalRequest,
    by: &Approver,
    window: Option<i64>,
    limits: &ApprovalLimits,
    now: i64,
) -> Result<(), VoteError> {
    let groups = entitling_groups(ask, by)?;
    refuse_own_request(&ask.details.caller, by)?;
    if ask.votes.iter().any(|vote| vote.is_approval && is_same_person(&vote.by, by)) {
        return Err(VoteError::AlreadyApproved);
    }
    ask.votes.push(Vote {
        by: by.clone(),
        at: from_unix_millis(now),
        is_approval: true,
        reason: None,
        counted_groups: groups,
        time_bound_until: window.map(from_unix_millis),
        break_glass: false,
    });
    let kind = if window.is_some() { "approve_window" } else { "approve" };
    let note = window.map(format_until);
    push_event(ask, Some(by), kind, note, now);
    if ask.missing_approvals().is_empty() {
        // a window only if everybody said so, and no longer than the most cautious said
        let windows: Option<Vec<i64>> =
            ask.votes.iter().map(|vote| vote.time_bound_until.map(to_unix_millis)).collect();
        let until = windows.and_then(|windows| windows.into_iter().min());
        if until.is_some_and(|until| until <= now) {
            let text = "the window that another person approved has ended; have it asked again";
            return Err(VoteError::InvalidTimeBound(text.to_owned()));
        }
        ask.time_bound = until.is_some();
        create_grant(ask, until.unwrap_or_else(|| add_duration(now, limits.grant_ttl)), now);
    }
    Ok(())
}

fn apply_break_glass(
    ask: &mut ApprovalRequest,
    by: &Approver,
    reason: String,
    limits: &ApprovalLimits,
    now: i64,
) -> Result<(), VoteError> {
    let Some(group) = &limits.break_glass_group else {
        return Err(VoteError::NotAnApprover("nobody (no break-glass group is configured)".to_owned()));
    };
    if !by.groups.contains(group) {
        return Err(VoteError::NotAnApprover(format!("members of {group}")));
    }
    refuse_own_request(&ask.details.caller, by)?;
    push_event(ask, Some(by), "BREAK_GLASS", Some(reason.clone()), now);
    ask.votes.push(Vote {
        by: by.clone(),
        at: from_unix_millis(now),
        is_approval: true,
        reason: Some(reason),
        counted_groups: vec![group.clone()],
        time_bound_until: None,
        break_glass: true,
    });
    ask.break_glass = true;
    ask.time_bound = false;
    create_grant(ask, add_duration(now, limits.grant_ttl), now);
    Ok(())
}

fn create_grant(ask: &mut ApprovalRequest, until: i64, now: i64) {
    ask.state = ApprovalState::Approved;
    ask.grant_until = Some(from_unix_millis(until));
    push_event(ask, None, "granted", Some(format_until(until)), now);
}

/// A moment as the history's notes have it.
fn format_until(until: i64) -> String {
    format!("until {}", from_unix_millis(until).format(&Rfc3339).unwrap_or_default())
}

//! What an answer does to an ask: who may give it, what it changes. Pure: time and groups come in as arguments.

use crate::moment::{from_millis, later, millis};
use crate::{Answer, AnswerError, Ask, Event, Limits, Person, State, Vote, bounds};
use durward_core::Caller;
use time::format_description::well_known::Rfc3339;

/// Applies an answer to an ask whose time was settled. On an error the ask is not to be kept.
pub(crate) fn apply(
    ask: &mut Ask,
    by: &Person,
    answer: Answer,
    limits: &Limits,
    now: i64,
) -> Result<(), AnswerError> {
    check_lengths(by, &answer)?;
    let may_end = ask.state == State::Approved && matches!(answer, Answer::Deny { .. });
    if ask.state != State::Pending && !may_end {
        return Err(AnswerError::NotPending(ask.state));
    }
    match answer {
        Answer::Deny { reason } => deny(ask, by, reason, now),
        Answer::ApproveOnce => approve(ask, by, None, limits, now),
        Answer::ApproveWindow { until } => {
            let until = millis(until);
            if until <= now {
                return Err(AnswerError::Window("the window would end in the past".to_owned()));
            }
            if until > later(now, limits.max_window) {
                let minutes = limits.max_window.as_secs() / 60;
                return Err(AnswerError::Window(format!("a window is at most {minutes} minutes long")));
            }
            approve(ask, by, Some(until), limits, now)
        }
        Answer::BreakGlass { reason } => break_glass(ask, by, reason, limits, now),
    }
}

fn check_lengths(by: &Person, answer: &Answer) -> Result<(), AnswerError> {
    bounds::person(by).map_err(|(what, limit)| AnswerError::TooLong { what, limit })?;
    if let Answer::Deny { reason } | Answer::BreakGlass { reason } = answer {
        if reason.len() > bounds::REASON {
            return Err(AnswerError::TooLong { what: "the reason", limit: bounds::REASON });
        }
        if reason.trim().is_empty() {
            return Err(AnswerError::ReasonMissing);
        }
    }
    Ok(())
}

/// Those of the person's groups that the ask names.
fn entitling(ask: &Ask, by: &Person) -> Result<Vec<String>, AnswerError> {
    let mut named: Vec<&String> =
        ask.what.requirements.iter().map(|requirement| &requirement.group).collect();
    named.sort_unstable();
    named.dedup();
    let mine: Vec<String> =
        named.iter().filter(|group| by.groups.contains(*group)).map(|group| (*group).clone()).collect();
    if mine.is_empty() {
        let named: Vec<&str> = named.iter().map(|group| group.as_str()).collect();
        return Err(AnswerError::NotAnApprover(format!("members of {}", named.join(", "))));
    }
    Ok(mine)
}

/// Whether these are one human, as far as can be told: the same subject at two providers is taken for one person.
fn same_person(one: &Person, other: &Person) -> bool {
    one.id == other.id || one.subject.eq_ignore_ascii_case(&other.subject)
}

fn refuse_own(caller: &Caller, by: &Person) -> Result<(), AnswerError> {
    if by.id == caller.id() || by.subject.eq_ignore_ascii_case(&caller.subject) {
        return Err(AnswerError::OwnRequest("you asked for this".to_owned()));
    }
    let is_me = |subject: &String| *subject == by.id || subject.eq_ignore_ascii_case(&by.subject);
    if caller.act.iter().any(is_me) {
        return Err(AnswerError::OwnRequest("the caller acts for you".to_owned()));
    }
    Ok(())
}

fn record(ask: &mut Ask, by: Option<&Person>, kind: &str, note: Option<String>, now: i64) {
    let event =
        Event { at: from_millis(now), kind: kind.to_owned(), by: by.map(|person| person.id.clone()), note };
    ask.history.push(event);
}

fn deny(ask: &mut Ask, by: &Person, reason: String, now: i64) -> Result<(), AnswerError> {
    let groups = entitling(ask, by)?;
    let kind = if ask.state == State::Approved { "withdrawn" } else { "deny" };
    record(ask, Some(by), kind, Some(reason.clone()), now);
    ask.votes.retain(|vote| !same_person(&vote.by, by));
    ask.votes.push(Vote {
        by: by.clone(),
        at: from_millis(now),
        approve: false,
        reason: Some(reason),
        groups,
        window: None,
        break_glass: false,
    });
    ask.state = State::Denied;
    ask.grant_until = None;
    Ok(())
}

/// Ends an older approval of an operation that was denied now.
pub(crate) fn withdraw(older: &mut Ask, denied: &Ask, now: i64) {
    let Some(denial) = denied.denial() else { return };
    let reason = denial.reason.as_deref().unwrap_or_default();
    record(
        older,
        Some(&denial.by),
        "withdrawn",
        Some(format!("{reason} (the same was denied: ask {})", denied.id)),
        now,
    );
    older.votes.retain(|vote| !same_person(&vote.by, &denial.by));
    older.votes.push(denial.clone());
    older.state = State::Denied;
    older.grant_until = None;
}

fn approve(
    ask: &mut Ask,
    by: &Person,
    window: Option<i64>,
    limits: &Limits,
    now: i64,
) -> Result<(), AnswerError> {
    let groups = entitling(ask, by)?;
    refuse_own(&ask.what.caller, by)?;
    if ask.votes.iter().any(|vote| vote.approve && same_person(&vote.by, by)) {
        return Err(AnswerError::AnsweredBefore);
    }
    ask.votes.push(Vote {
        by: by.clone(),
        at: from_millis(now),
        approve: true,
        reason: None,
        groups,
        window: window.map(from_millis),
        break_glass: false,
    });
    let kind = if window.is_some() { "approve_window" } else { "approve" };
    let note = window.map(until_text);
    record(ask, Some(by), kind, note, now);
    if ask.missing().is_empty() {
        // a window only if everybody said so, and no longer than the most cautious said
        let windows: Option<Vec<i64>> = ask.votes.iter().map(|vote| vote.window.map(millis)).collect();
        let until = windows.and_then(|windows| windows.into_iter().min());
        if until.is_some_and(|until| until <= now) {
            let text = "the window that another person approved has ended; have it asked again";
            return Err(AnswerError::Window(text.to_owned()));
        }
        ask.window = until.is_some();
        grant(ask, until.unwrap_or_else(|| later(now, limits.grant_for)), now);
    }
    Ok(())
}

fn break_glass(
    ask: &mut Ask,
    by: &Person,
    reason: String,
    limits: &Limits,
    now: i64,
) -> Result<(), AnswerError> {
    let Some(group) = &limits.break_glass_group else {
        return Err(AnswerError::NotAnApprover("nobody (no break-glass group is configured)".to_owned()));
    };
    if !by.groups.contains(group) {
        return Err(AnswerError::NotAnApprover(format!("members of {group}")));
    }
    refuse_own(&ask.what.caller, by)?;
    record(ask, Some(by), "BREAK_GLASS", Some(reason.clone()), now);
    ask.votes.push(Vote {
        by: by.clone(),
        at: from_millis(now),
        approve: true,
        reason: Some(reason),
        groups: vec![group.clone()],
        window: None,
        break_glass: true,
    });
    ask.break_glass = true;
    ask.window = false;
    grant(ask, later(now, limits.grant_for), now);
    Ok(())
}

fn grant(ask: &mut Ask, until: i64, now: i64) {
    ask.state = State::Approved;
    ask.grant_until = Some(from_millis(until));
    record(ask, None, "granted", Some(until_text(until)), now);
}

/// A moment as the history's notes have it.
fn until_text(until: i64) -> String {
    format!("until {}", from_millis(until).format(&Rfc3339).unwrap_or_default())
}

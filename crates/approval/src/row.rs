//! Asks to rows and back. A row that does not say one consistent thing is damage, and nothing passes on it.

use crate::moment::{from_millis, later, millis};
use crate::{Ask, AskId, Event, NewAsk, Risk, State, Vote};
use durward_core::{Caller, OnTimeout, Operation};
use durward_store::{AskRow, StoreError};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// How long a queued ask may still be answered.
const QUEUED: Duration = Duration::from_hours(24);

fn damaged(what: &str, id: &str, error: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(format!("the {what} of ask {id}: {error}"))
}

fn parse<T: serde::de::DeserializeOwned>(what: &str, id: &str, json: &str) -> Result<T, StoreError> {
    serde_json::from_str(json).map_err(|error| damaged(what, id, error))
}

fn json<T: serde::Serialize>(what: &str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Database(format!("the {what} cannot be written as JSON: {error}")))
}

/// Everything of a caller that an approval is bound to. Groups may change between the ask and its use; who is asking, and on
/// whose behalf, may not.
pub(crate) fn bound_to(caller: &Caller) -> String {
    serde_json::json!([caller.provider, caller.issuer, caller.subject, caller.kind.as_str(), caller.act])
        .to_string()
}

/// The distinct actions of an operation, sorted.
pub(crate) fn actions(operation: &Operation) -> String {
    let actions: BTreeSet<&str> = operation.demands.iter().map(|demand| demand.action.as_str()).collect();
    actions.into_iter().collect::<Vec<_>>().join(" ")
}

/// A new ask, not yet stored.
pub(crate) fn new_ask(what: NewAsk, now: i64) -> Ask {
    let created = from_millis(now);
    let hold = what.requirements.iter().map(|requirement| requirement.timeout).min().unwrap_or_default();
    Ask {
        id: AskId::new(),
        state: State::Pending,
        created,
        deadline: from_millis(later(now, hold)),
        grant_until: None,
        window: false,
        break_glass: false,
        history: vec![Event {
            at: created,
            kind: "asked".to_owned(),
            by: Some(what.caller.id()),
            note: Some(what.reason.clone()).filter(|reason| !reason.is_empty()),
        }],
        risk: what.risk.clone(),
        what: Arc::new(what),
        votes: Vec::new(),
        attempts: 1,
        uses: 0,
    }
}

/// Whether people may still answer after the deadline.
pub(crate) fn queues(what: &NewAsk) -> bool {
    what.requirements.iter().all(|requirement| requirement.on_timeout == OnTimeout::Queue)
}

/// Until when it may be answered.
fn ends(ask: &Ask) -> i64 {
    let deadline = millis(ask.deadline);
    if queues(&ask.what) { deadline.max(later(millis(ask.created), QUEUED)) } else { deadline }
}

pub(crate) fn to_row(ask: &Ask, change: i64) -> Result<AskRow, StoreError> {
    Ok(AskRow {
        id: ask.id.to_string(),
        state: ask.state.as_str().to_owned(),
        created: millis(ask.created),
        deadline: millis(ask.deadline),
        ends: ends(ask),
        grant_until: ask.grant_until.map(millis),
        is_window: ask.window,
        caller: ask.what.caller.id(),
        bound_to: bound_to(&ask.what.caller),
        connection: ask.what.connection.clone(),
        digest: ask.what.digest.to_vec(),
        actions: actions(&ask.what.operation),
        what: json("operation", ask.what.as_ref())?,
        risk: json("risk", &ask.risk)?,
        votes: json("answers", &ask.votes)?,
        history: json("history", &ask.history)?,
        events: i64::try_from(ask.history.len()).unwrap_or(i64::MAX),
        attempts: i64::try_from(ask.attempts).unwrap_or(i64::MAX),
        uses: i64::try_from(ask.uses).unwrap_or(i64::MAX),
        change,
    })
}

pub(crate) fn from_row(row: &AskRow) -> Result<Ask, StoreError> {
    let id = &row.id;
    let risk: Risk = parse("risk", id, &row.risk)?;
    let what = NewAsk { risk: risk.clone(), ..parse("operation", id, &row.what)? };
    let votes: Vec<Vote> = parse("answers", id, &row.votes)?;
    let same = what.digest.as_slice() == row.digest
        && what.connection == row.connection
        && bound_to(&what.caller) == row.bound_to;
    if !same {
        return Err(damaged("operation", id, "it is not the one the row is kept under"));
    }
    let state = State::parse(&row.state).ok_or_else(|| damaged("state", id, "it is not known"))?;
    if (state == State::Approved) && row.grant_until.is_none() {
        return Err(damaged("approval", id, "it has no end"));
    }
    Ok(Ask {
        id: id.parse().map_err(|error| damaged("id", id, error))?,
        state,
        created: from_millis(row.created),
        deadline: from_millis(row.deadline),
        grant_until: row.grant_until.map(from_millis),
        window: row.is_window,
        break_glass: votes.iter().any(|vote| vote.approve && vote.break_glass),
        what: Arc::new(what),
        risk,
        votes,
        history: parse("history", id, &row.history)?,
        attempts: u64::try_from(row.attempts).map_err(|error| damaged("counter", id, error))?,
        uses: u64::try_from(row.uses).map_err(|error| damaged("counter", id, error))?,
    })
}

/// Moves an ask whose time is over to the state it then has. True if it did.
pub(crate) fn settle(ask: &mut Ask, now: i64) -> bool {
    let (state, kind, at) = match (ask.state, ask.grant_until.map(millis)) {
        (State::Pending, _) if ends(ask) <= now => {
            if queues(&ask.what) {
                (State::Expired, "expired", ends(ask))
            } else {
                (State::TimedOut, "timed_out", ends(ask))
            }
        }
        (State::Approved, Some(until)) if until <= now => (State::Expired, "expired", until),
        _ => return false,
    };
    ask.state = state;
    ask.history.push(Event { at: from_millis(at), kind: kind.to_owned(), by: None, note: None });
    true
}

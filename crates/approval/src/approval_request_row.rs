//! Asks to rows and back. A row that does not say one consistent thing is damage, and nothing passes on it.

use crate::clock::{add_duration, from_unix_millis, to_unix_millis};
use crate::{
    ApprovalEvent, ApprovalRequest, ApprovalRequestId, ApprovalState, NewApprovalRequest, RiskAssessment,
    Vote,
};
use durward_core::{Caller, Operation, TimeoutAction};
use durward_store::{ApprovalRequestRow, StoreError};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// How long a queued ask may still be answered.
const QUEUED_REQUEST_TTL: Duration = Duration::from_hours(24);

fn corrupt_field(what: &str, id: &str, error: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(format!("the {what} of ask {id}: {error}"))
}

fn parse_json_field<T: serde::de::DeserializeOwned>(
    what: &str,
    id: &str,
    json: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(json).map_err(|error| corrupt_field(what, id, error))
}

fn write_json_field<T: serde::Serialize>(what: &str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Database(format!("the {what} cannot be written as JSON: {error}")))
}

/// Everything of a caller that an approval is bound to. Groups may change between the ask and its use; who is asking, and on
/// whose behalf, may not.
pub(crate) fn caller_binding(caller: &Caller) -> String {
    serde_json::json!([caller.provider, caller.issuer, caller.subject, caller.kind.as_str(), caller.act])
        .to_string()
}

/// The distinct actions of an operation, sorted.
pub(crate) fn distinct_actions(operation: &Operation) -> String {
    let actions: BTreeSet<&str> =
        operation.required_permissions.iter().map(|demand| demand.action.as_str()).collect();
    actions.into_iter().collect::<Vec<_>>().join(" ")
}

/// A new ask, not yet stored.
pub(crate) fn new_approval_request(what: NewApprovalRequest, now: i64) -> ApprovalRequest {
    let created = from_unix_millis(now);
    let hold = what.requirements.iter().map(|requirement| requirement.timeout).min().unwrap_or_default();
    ApprovalRequest {
        id: ApprovalRequestId::new(),
        state: ApprovalState::Pending,
        created,
        deadline: from_unix_millis(add_duration(now, hold)),
        grant_until: None,
        time_bound: false,
        break_glass: false,
        history: vec![ApprovalEvent {
            at: created,
            kind: "asked".to_owned(),
            by: Some(what.caller.id()),
            note: Some(what.reason.clone()).filter(|reason| !reason.is_empty()),
        }],
        risk: what.risk.clone(),
        details: Arc::new(what),
        votes: Vec::new(),
        attempts: 1,
        uses: 0,
    }
}

/// Whether people may still answer after the deadline.
pub(crate) fn is_queued_on_timeout(what: &NewApprovalRequest) -> bool {
    what.requirements.iter().all(|requirement| requirement.on_timeout == TimeoutAction::Queue)
}

/// Until when it may be answered.
fn voting_deadline(ask: &ApprovalRequest) -> i64 {
    let deadline = to_unix_millis(ask.deadline);
    if is_queued_on_timeout(&ask.details) {
        deadline.max(add_duration(to_unix_millis(ask.created), QUEUED_REQUEST_TTL))
    } else {
        deadline
    }
}

pub(crate) fn to_row(ask: &ApprovalRequest, change: i64) -> Result<ApprovalRequestRow, StoreError> {
    Ok(ApprovalRequestRow {
        id: ask.id.to_string(),
        state: ask.state.as_str().to_owned(),
        created_at: to_unix_millis(ask.created),
        hold_deadline: to_unix_millis(ask.deadline),
        vote_deadline: voting_deadline(ask),
        grant_until: ask.grant_until.map(to_unix_millis),
        is_time_bound: ask.time_bound,
        caller: ask.details.caller.id(),
        caller_binding: caller_binding(&ask.details.caller),
        connection: ask.details.connection.clone(),
        digest: ask.details.digest.to_vec(),
        actions: distinct_actions(&ask.details.operation),
        details: write_json_field("operation", ask.details.as_ref())?,
        risk: write_json_field("risk", &ask.risk)?,
        votes: write_json_field("answers", &ask.votes)?,
        history: write_json_field("history", &ask.history)?,
        event_count: i64::try_from(ask.history.len()).unwrap_or(i64::MAX),
        attempt_count: i64::try_from(ask.attempts).unwrap_or(i64::MAX),
        use_count: i64::try_from(ask.uses).unwrap_or(i64::MAX),
        change_number: change,
    })
}

pub(crate) fn from_row(row: &ApprovalRequestRow) -> Result<ApprovalRequest, StoreError> {
    let id = &row.id;
    let risk: RiskAssessment = parse_json_field("risk", id, &row.risk)?;
    let what = NewApprovalRequest { risk: risk.clone(), ..parse_json_field("operation", id, &row.details)? };
    let votes: Vec<Vote> = parse_json_field("answers", id, &row.votes)?;
    let same = what.digest.as_slice() == row.digest
        && what.connection == row.connection
        && caller_binding(&what.caller) == row.caller_binding;
    if !same {
        return Err(corrupt_field("operation", id, "it is not the one the row is kept under"));
    }
    let state =
        ApprovalState::parse(&row.state).ok_or_else(|| corrupt_field("state", id, "it is not known"))?;
    if (state == ApprovalState::Approved) && row.grant_until.is_none() {
        return Err(corrupt_field("approval", id, "it has no end"));
    }
    Ok(ApprovalRequest {
        id: id.parse().map_err(|error| corrupt_field("id", id, error))?,
        state,
        created: from_unix_millis(row.created_at),
        deadline: from_unix_millis(row.hold_deadline),
        grant_until: row.grant_until.map(from_unix_millis),
        time_bound: row.is_time_bound,
        break_glass: votes.iter().any(|vote| vote.is_approval && vote.break_glass),
        details: Arc::new(what),
        risk,
        votes,
        history: parse_json_field("history", id, &row.history)?,
        attempts: u64::try_from(row.attempt_count).map_err(|error| corrupt_field("counter", id, error))?,
        uses: u64::try_from(row.use_count).map_err(|error| corrupt_field("counter", id, error))?,
    })
}

/// Moves an ask whose time is over to the state it then has. True if it did.
pub(crate) fn expire_if_due(ask: &mut ApprovalRequest, now: i64) -> bool {
    let (state, kind, at) = match (ask.state, ask.grant_until.map(to_unix_millis)) {
        (ApprovalState::Pending, _) if voting_deadline(ask) <= now => {
            if is_queued_on_timeout(&ask.details) {
                (ApprovalState::Expired, "expired", voting_deadline(ask))
            } else {
                (ApprovalState::TimedOut, "timed_out", voting_deadline(ask))
            }
        }
        (ApprovalState::Approved, Some(until)) if until <= now => (ApprovalState::Expired, "expired", until),
        _ => return false,
    };
    ask.state = state;
    ask.history.push(ApprovalEvent { at: from_unix_millis(at), kind: kind.to_owned(), by: None, note: None });
    true
}

//! Approval requests to rows of the store and back. A row that contradicts itself is corrupt and grants nothing.

use crate::binding::{caller_binding, distinct_actions};
use crate::lifecycle::voting_deadline;
use crate::{ApprovalRequest, ApprovalState, NewApprovalRequest, RiskAssessment, Vote};
use durward_core::timestamps::{from_unix_millis, to_unix_millis};
use durward_store::{ApprovalRequestRow, StoreError};
use std::sync::Arc;

fn corrupt_field(field: &str, id: &str, error: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(format!("the {field} of approval request {id}: {error}"))
}

fn parse_json_field<T: serde::de::DeserializeOwned>(
    field: &str,
    id: &str,
    json: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(json).map_err(|error| corrupt_field(field, id, error))
}

fn write_json_field<T: serde::Serialize>(field: &str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Database(format!("the {field} cannot be written as JSON: {error}")))
}

pub(crate) fn to_row(
    request: &ApprovalRequest,
    change_number: i64,
) -> Result<ApprovalRequestRow, StoreError> {
    Ok(ApprovalRequestRow {
        id: request.id.to_string(),
        state: request.state.as_str().to_owned(),
        created_at: to_unix_millis(request.created),
        hold_deadline: to_unix_millis(request.deadline),
        vote_deadline: voting_deadline(request),
        grant_until: request.grant_until.map(to_unix_millis),
        is_time_bound: request.time_bound,
        caller: request.details.caller.id(),
        caller_binding: caller_binding(&request.details.caller),
        connection: request.details.connection.clone(),
        digest: request.details.digest.to_vec(),
        actions: distinct_actions(&request.details.operation),
        details: write_json_field("details", request.details.as_ref())?,
        risk: write_json_field("risk", &request.risk)?,
        votes: write_json_field("votes", &request.votes)?,
        history: write_json_field("history", &request.history)?,
        event_count: i64::try_from(request.history.len()).unwrap_or(i64::MAX),
        attempt_count: i64::try_from(request.attempts).unwrap_or(i64::MAX),
        use_count: i64::try_from(request.uses).unwrap_or(i64::MAX),
        change_number,
    })
}

pub(crate) fn from_row(row: &ApprovalRequestRow) -> Result<ApprovalRequest, StoreError> {
    let id = &row.id;
    let risk: RiskAssessment = parse_json_field("risk", id, &row.risk)?;
    let details = NewApprovalRequest { risk: risk.clone(), ..parse_json_field("details", id, &row.details)? };
    let votes: Vec<Vote> = parse_json_field("votes", id, &row.votes)?;
    // SQL finds a row by its columns, people approved its JSON: a row where they differ would grant one operation with the
    // approval of another.
    let is_consistent = details.digest.as_slice() == row.digest
        && details.connection == row.connection
        && caller_binding(&details.caller) == row.caller_binding;
    if !is_consistent {
        return Err(corrupt_field("details", id, "they differ from the columns of the row"));
    }
    let state =
        ApprovalState::parse(&row.state).ok_or_else(|| corrupt_field("state", id, "it is unknown"))?;
    // Without an end, the grant would never expire.
    if (state == ApprovalState::Approved) && row.grant_until.is_none() {
        return Err(corrupt_field("grant", id, "it has no end"));
    }
    Ok(ApprovalRequest {
        id: id.parse().map_err(|error| corrupt_field("id", id, error))?,
        state,
        created: from_unix_millis(row.created_at),
        deadline: from_unix_millis(row.hold_deadline),
        grant_until: row.grant_until.map(from_unix_millis),
        time_bound: row.is_time_bound,
        break_glass: votes.iter().any(|vote| vote.is_approval && vote.break_glass),
        details: Arc::new(details),
        risk,
        votes,
        history: parse_json_field("history", id, &row.history)?,
        attempts: u64::try_from(row.attempt_count).map_err(|error| corrupt_field("attempts", id, error))?,
        uses: u64::try_from(row.use_count).map_err(|error| corrupt_field("uses", id, error))?,
    })
}

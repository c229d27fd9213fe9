//! The step between decide and record: an operation that policy asks about waits for people.
//!
//! An approval is used at most once, for exactly the operation it was given for, and only if it lifts every forbid that asks at
//! the moment of use: policy is evaluated again when the waiting ends. The caller is held open for a while, so that a quick
//! answer looks like a slow call; after that the refusal names the ask, and the same request passes once when it is approved.

use super::{Asked, Door, Exchange, Permitted, Wire, decision_of};
use crate::interim::rhythm;
use crate::rooms::Rooms;
use durward_approval::{Ask, AskError, AskId, Granted, NewAsk, Requirement, State};
use durward_core::{Decision, Reason, Refusal, Verdict};
use durward_journal::Record;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::time::Instant;

/// What of an approval goes on record with the exchange that uses it.
#[derive(Debug, Clone)]
pub(super) struct Lifted {
    pub ask: AskId,
    pub approvers: Vec<String>,
    pub window: bool,
    pub break_glass: bool,
}

pub(super) async fn approve<D: Door>(
    rooms: &Rooms,
    exchange: &Exchange,
    asked: Asked<D::Wire>,
) -> Result<Permitted<D::Wire>, Refusal> {
    if let Some(granted) = take(rooms, &asked, &asked.decision).await? {
        return Ok(lifted(asked, granted));
    }
    let ask = ask::<D>(rooms, exchange, &asked).await?;
    // A held request keeps its body and its connection: so many and no more, the others are told to come again.
    let weight = 16 + asked.decoded.operation.canonical().len() * 3 / 1024;
    let ask = match rooms.held.try_acquire_many(u32::try_from(weight).unwrap_or(u32::MAX)) {
        Ok(_place) => hold(rooms, exchange, ask).await?,
        Err(_full) => ask,
    };
    match ask.state {
        State::Approved => use_now(rooms, exchange, asked, ask.id).await,
        State::Denied => Err(denied(&ask)),
        State::Pending => Err(Refusal::new(
            Reason::AccessDenied,
            format!(
                "{}; the approval is pending: ask {}; send the same request again once it is approved",
                asked.decision.reason, ask.id
            ),
        )),
        State::Used => Err(Refusal::new(
            Reason::AccessDenied,
            format!(
                "{}; ask {} was approved, and another request used that approval",
                asked.decision.reason, ask.id
            ),
        )),
        State::TimedOut | State::Expired => Err(Refusal::new(
            Reason::AccessDenied,
            format!("{}; nobody approved it in time: ask {}", asked.decision.reason, ask.id),
        )),
    }
}

/// Policy of this moment decides what the approval must lift; then the approval is used up.
async fn use_now<W: Wire>(
    rooms: &Rooms,
    exchange: &Exchange,
    mut asked: Asked<W>,
    id: AskId,
) -> Result<Permitted<W>, Refusal> {
    let at = Exchange { at: OffsetDateTime::now_utc(), ..exchange.clone() };
    let now = decision_of(rooms, &at, &asked.decoded);
    match now.verdict {
        Verdict::Deny => Err(Refusal::new(Reason::AccessDenied, now.reason)),
        Verdict::Allow => {
            asked.decision = now;
            Ok(asked.permitted(None))
        }
        Verdict::Ask => match take(rooms, &asked, &now).await? {
            Some(granted) => {
                asked.decision = now;
                Ok(lifted(asked, granted))
            }
            None => Err(Refusal::new(
                Reason::AccessDenied,
                format!(
                    "{}; ask {id} was approved, but that approval was used by another request or does not lift what forbids \
                     this one now",
                    now.reason
                ),
            )),
        },
    }
}

async fn take<W: Wire>(
    rooms: &Rooms,
    asked: &Asked<W>,
    decision: &Decision,
) -> Result<Option<Granted>, Refusal> {
    let identity = &asked.decoded.identity;
    let requirements = requirements(rooms, decision)?;
    let operation = &asked.decoded.operation;
    rooms
        .approvals
        .take(&identity.caller, &identity.connection, operation, &asked.digest, &requirements)
        .await
        .map_err(unavailable)
}

/// What people must give so that each forbid that asks is lifted.
fn requirements(rooms: &Rooms, decision: &Decision) -> Result<Vec<Requirement>, Refusal> {
    let policies = rooms.policies.current();
    let requirement = |policy: &String| {
        let approval = policies.approval(policy).ok_or_else(|| {
            // A reload came between the decision and here.
            Refusal::new(Reason::AccessDenied, "the policies changed while this was decided; send it again")
        })?;
        Ok(Requirement {
            policy: policy.clone(),
            group: approval.group.clone(),
            quorum: approval.quorum,
            timeout: approval.timeout.unwrap_or(rooms.hold),
            on_timeout: approval.on_timeout,
        })
    };
    decision.policies.iter().map(requirement).collect()
}

fn lifted<W: Wire>(mut asked: Asked<W>, granted: Granted) -> Permitted<W> {
    asked.decision.verdict = Verdict::Allow;
    asked.decision.reason = format!("approved by {}: ask {}", granted.approvers.join(", "), granted.ask);
    let lifted = Lifted {
        ask: granted.ask,
        approvers: granted.approvers,
        window: granted.window,
        break_glass: granted.break_glass,
    };
    asked.permitted(Some(lifted))
}

async fn ask<D: Door>(rooms: &Rooms, exchange: &Exchange, asked: &Asked<D::Wire>) -> Result<Ask, Refusal> {
    let identity = &asked.decoded.identity;
    let new = NewAsk {
        caller: identity.caller.clone(),
        session: identity.session,
        connection: identity.connection.clone(),
        exchange: exchange.id,
        operation: asked.recorded.clone(),
        digest: asked.digest,
        requirements: requirements(rooms, &asked.decision)?,
        reason: asked.decision.reason.clone(),
        policy_set: asked.decision.policy_set.clone(),
        source_address: exchange.source.ip(),
        user_agent: exchange.user_agent.clone(),
    };
    let ask = rooms.approvals.ask(new).await.map_err(|error| match error {
        AskError::Store(error) => unavailable(error),
        error => Refusal::new(Reason::AccessDenied, format!("{}; {error}", asked.decision.reason)),
    })?;
    let record = Record::Asked {
        exchange: exchange.id,
        ask: ask.id.to_string(),
        session: identity.session,
        caller: identity.caller.clone(),
        door: D::KIND,
        connection: identity.connection.clone(),
        operation: asked.recorded.clone(),
        digest: durward_aws::sigv4::hex(&asked.digest),
        decision: asked.decision.clone(),
        source_address: exchange.source.ip(),
    };
    rooms.journal.record(record).await.map_err(|error| {
        Refusal::new(Reason::Internal, "the journal cannot record this request, so it was not sent")
            .detail(error)
    })?;
    Ok(ask)
}

/// Waits for the answer, with signs of life for clients that need them.
async fn hold(rooms: &Rooms, exchange: &Exchange, ask: Ask) -> Result<Ask, Refusal> {
    let left = (ask.deadline - OffsetDateTime::now_utc()).try_into().unwrap_or(Duration::ZERO);
    // A little longer than the deadline, so that the ask has ended by then.
    let end = Instant::now() + rooms.hold.min(left + Duration::from_millis(100));
    let (every, mut left) = exchange.user_agent.as_deref().and_then(rhythm).unwrap_or((rooms.hold, 0));
    let mut ask = ask;
    loop {
        let next = if left > 0 { end.min(Instant::now() + every) } else { end };
        ask = rooms.approvals.wait(ask.id, next).await.map_err(unavailable)?;
        if ask.state != State::Pending || Instant::now() >= end {
            return Ok(ask);
        }
        if left > 0 {
            left -= 1;
            exchange.interim.ask();
        }
    }
}

fn denied(ask: &Ask) -> Refusal {
    let denial = ask.votes.iter().rev().find(|vote| !vote.approve);
    let by = denial.map_or_else(String::new, |vote| format!(" by {}", vote.by.id));
    let why =
        denial.and_then(|vote| vote.reason.as_deref()).map_or_else(String::new, |why| format!(": {why}"));
    Refusal::new(Reason::AccessDenied, format!("{}; denied{by}{why} [ask {}]", ask.what.reason, ask.id))
}

fn unavailable(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Reason::Internal, "approvals cannot be read or written, so this was not sent").detail(error)
}

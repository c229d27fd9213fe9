//! The step between decide and record: an operation that policy asks about waits for people.
//!
//! An approval is used at most once, for exactly the operation it was given for, and only if it lifts every forbid that asks at
//! the moment of use: policy is evaluated again when the waiting ends. The caller is held open for a while, so that a quick
//! answer looks like a slow call; after that the refusal names the ask, and the same request passes once when it is approved.

use super::once::{Use, Used, join, use_up};
use super::{
    Asked, Decoded, Door, Exchange, Identity, Known, Permitted, Wire, carry_out, decision_of, facts,
};
use crate::body::Body;
use crate::held::Place;
use crate::interim::rhythm;
use crate::rooms::Rooms;
use crate::tags::Freshness;
use durward_approval::{Ask, AskError, AskId, Granted, NewAsk, Requirement, State};
use durward_core::{Decision, Operation, Reason, Refusal, ResourceTags, Verdict};
use durward_journal::Record;
use durward_policy::{Ask::Connect, Question};
use http::Response;
use std::future::Future;
use std::sync::Arc;
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

/// Waits until people permit it, and has it carried out; or gives it the answer of another attempt.
pub(super) async fn approve<D: Door>(
    door: &Arc<D>,
    rooms: &Arc<Rooms>,
    exchange: &Exchange,
    asked: Box<Asked<D::Wire>>,
    known: &mut Known<D::Shape>,
) -> Result<Response<Body>, Refusal> {
    // Mostly people are yet to be asked. That is found out first, without the room that an execution takes.
    let mut asked = if Box::pin(is_new(rooms, exchange, &asked)).await? {
        asked
    } else {
        let mut asked = asked;
        refresh(rooms, exchange, &mut asked).await?;
        match Box::pin(use_up(door, rooms, exchange, *asked, None, known)).await? {
            Use::Break(used) => return Box::pin(used_up(door, rooms, exchange, used, known)).await,
            Use::Continue(asked) => asked,
        }
    };
    asked.decoded.wire.compact();
    let ask = Box::pin(ask::<D>(rooms, exchange, &asked)).await?;
    if ask.state == State::Pending
        && let Some(told) = door.asked(rooms, exchange, &asked.decoded.wire, &ask, &mut known.shape)
    {
        return Err(told);
    }
    let ask = match place(rooms, &asked) {
        Some(_place) => hold(rooms, exchange, &asked.decoded.identity, ask).await?,
        None => Arc::new(ask),
    };
    match ask.state {
        State::Approved | State::Used => {
            Box::pin(use_now(door, rooms, exchange, *asked, ask.id, known)).await
        }
        State::Denied => Err(denied(&ask)),
        State::Pending => Err(Refusal::new(
            Reason::AccessDenied,
            format!(
                "{}; the approval is pending: {}; send the same request again once it is approved",
                asked.decision.reason,
                rooms.ask_name(ask.id)
            ),
        )),
        State::TimedOut | State::Expired => Err(Refusal::new(
            Reason::AccessDenied,
            format!("{}; nobody approved it in time: {}", asked.decision.reason, rooms.ask_name(ask.id)),
        )),
        State::Damaged => Err(unavailable(format!("ask {} is damaged", ask.id))),
    }
}

/// Policy of this moment decides what the approval must lift; then the approval is used up, unless another attempt has.
async fn use_now<D: Door>(
    door: &Arc<D>,
    rooms: &Arc<Rooms>,
    exchange: &Exchange,
    mut asked: Asked<D::Wire>,
    id: AskId,
    known: &mut Known<D::Shape>,
) -> Result<Response<Body>, Refusal> {
    let at = Exchange { at: OffsetDateTime::now_utc(), ..exchange.clone() };
    still_admitted(rooms, &at, &asked.decoded.identity)?;
    let now = decision_of(rooms, &at, &asked.decoded, Freshness::Now).await?;
    match now.verdict {
        Verdict::Deny => Err(Refusal::new(Reason::AccessDenied, now.reason)),
        Verdict::Allow => {
            if let Some(entry) = rooms.stored.used(&asked.key(), exchange.call.name(), Some(id)).await {
                return join::<D>(rooms, exchange, &asked, &entry).await;
            }
            // Or it would stay good for something else that is the same.
            rooms.approvals.not_needed(id).await.map_err(unavailable)?;
            asked.decision = now;
            carry_out(&**door, rooms, exchange, asked.permitted(None), known).await
        }
        Verdict::Ask => {
            asked.decision = now;
            match use_up(door, rooms, exchange, asked, Some(id), known).await? {
                Use::Break(used) => used_up(door, rooms, exchange, used, known).await,
                Use::Continue(asked) => Err(Refusal::new(
                    Reason::AccessDenied,
                    format!(
                        "{}; ask {id} was approved, but that approval was used by another request or does not lift what \
                         forbids this one now",
                        asked.decision.reason
                    ),
                )),
            }
        }
    }
}

/// The answer for this attempt once it is clear who uses the approval.
async fn used_up<D: Door>(
    door: &Arc<D>,
    rooms: &Arc<Rooms>,
    exchange: &Exchange,
    used: Used<D::Wire>,
    known: &mut Known<D::Shape>,
) -> Result<Response<Body>, Refusal> {
    match used {
        Used::Answered(answer) => Ok(answer),
        Used::Permitted(permitted) => carry_out(&**door, rooms, exchange, *permitted, known).await,
        Used::Before(asked, entry) => join::<D>(rooms, exchange, &asked, &entry).await,
    }
}

/// Much may have happened while the request was held: a credential ends, a session is revoked, and policy may close the
/// connection.
fn still_admitted(rooms: &Rooms, at: &Exchange, identity: &Identity) -> Result<(), Refusal> {
    rooms.revocations.check(identity.session, &identity.caller, identity.began)?;
    if at.at >= identity.expires {
        return Err(Refusal::new(
            Reason::ExpiredToken,
            "the credential expired while people were asked: sign in again and send the request again",
        ));
    }
    let question = Question {
        caller: &identity.caller,
        ask: Connect { connection: &identity.connection },
        facts: facts(at, identity),
    };
    let connect = rooms.policies.current().decide(&question);
    if connect.verdict == Verdict::Allow {
        return Ok(());
    }
    let text = format!("{} may no longer use `{}`", identity.caller.id(), identity.connection);
    Err(Refusal::new(Reason::AccessDenied, text).detail(connect.reason))
}

/// Where policy read tags, it is asked again with those of now: an approval is about to be used.
async fn refresh<W: Wire>(rooms: &Rooms, exchange: &Exchange, asked: &mut Asked<W>) -> Result<(), Refusal> {
    if asked.decision.tags.is_empty() {
        return Ok(());
    }
    let now = Box::pin(decision_of(rooms, exchange, &asked.decoded, Freshness::Now)).await?;
    if now.verdict != Verdict::Ask {
        let what = "the tags that policy reads have just changed: send it again";
        return Err(Refusal::new(Reason::AccessDenied, what).detail(now.reason));
    }
    asked.decision = now;
    Ok(())
}

/// Whether neither an earlier attempt of this call was executed nor people have permitted it. Nothing is used.
async fn is_new<W: Wire>(rooms: &Rooms, exchange: &Exchange, asked: &Asked<W>) -> Result<bool, Refusal> {
    if rooms.stored.used(&asked.key(), exchange.call.name(), None).await.is_some() {
        return Ok(false);
    }
    let Decoded { identity, operation, .. } = &asked.decoded;
    let requirements = requirements(rooms, &asked.decision)?;
    let grant = rooms.approvals.grant(
        &identity.caller,
        &identity.connection,
        operation,
        &asked.digest,
        &requirements,
    );
    Ok(grant.await.map_err(unavailable)?.is_none())
}

pub(super) async fn take<W: Wire>(
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
    // A reload came between the decision and here: what it now takes is not what was decided on.
    let changed =
        || Refusal::new(Reason::AccessDenied, "the policies changed while this was decided; send it again");
    if decision.policy_set != policies.version() {
        return Err(changed());
    }
    let requirement = |policy: &String| {
        let approval = policies.approval(policy).ok_or_else(changed)?;
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

pub(super) fn lifted<W: Wire>(mut asked: Asked<W>, granted: Granted) -> Permitted<W> {
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

/// The tags that policy read, or where some make an operation riskier, all.
async fn tags_for_people<W: Wire>(
    rooms: &Rooms,
    exchange: &Exchange,
    asked: &Asked<W>,
) -> Result<ResourceTags, Refusal> {
    if rooms.risky_tags.is_empty() {
        return Ok(asked.decision.tags.clone());
    }
    let Decoded { identity, operation, .. } = &asked.decoded;
    rooms.tags.read(rooms, exchange, identity, operation, &operation.arns(), Freshness::Recent).await
}

async fn ask<D: Door>(rooms: &Rooms, exchange: &Exchange, asked: &Asked<D::Wire>) -> Result<Ask, Refusal> {
    let identity = &asked.decoded.identity;
    let tags = tags_for_people(rooms, exchange, asked).await?;
    let new = NewAsk {
        caller: identity.caller.clone(),
        session: identity.session,
        connection: identity.connection.clone(),
        exchange: exchange.id,
        operation: Operation::clone(&asked.recorded),
        digest: asked.digest,
        requirements: requirements(rooms, &asked.decision)?,
        risk: rooms.risk(&identity.caller, &asked.decoded.operation, &tags).await?,
        tags,
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
        operation: Operation::clone(&asked.recorded),
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

/// A held request keeps its body and its connection: so many and no more, the others are told to come again.
pub(super) fn place<'r, W: Wire>(rooms: &'r Rooms, asked: &Asked<W>) -> Option<Place<'r>> {
    let Decoded { identity, operation, wire } = &asked.decoded;
    rooms.held.place(&identity.caller, operation, wire.held_bytes())
}

/// Waits for people's answer. The ask stays when the caller leaves or is sent away: it is the caller's, and their other
/// requests may wait for it.
async fn hold(
    rooms: &Rooms,
    exchange: &Exchange,
    identity: &Identity,
    ask: Ask,
) -> Result<Arc<Ask>, Refusal> {
    let time_left = (ask.deadline - OffsetDateTime::now_utc()).try_into().unwrap_or(Duration::ZERO);
    // A little longer than the deadline, so that the ask has ended by then.
    let end = Instant::now() + rooms.hold.min(time_left + Duration::from_millis(100));
    let mut waiter = Box::pin(rooms.approvals.waiter(ask.id)).await.map_err(unavailable)?;
    // All who wait for it share the waiter's copy.
    drop(ask);
    let ended = held_open(rooms, exchange, identity, waiter.ended(end)).await?;
    Ok(ended.unwrap_or_else(|| waiter.now()))
}

/// Waits for `news`, with signs of life for clients that need them, as long as the caller is there and admitted.
pub(super) async fn held_open<T>(
    rooms: &Rooms,
    exchange: &Exchange,
    identity: &Identity,
    news: impl Future<Output = T>,
) -> Result<T, Refusal> {
    let revoked = rooms.revocations.revoked(identity.session, &identity.caller, identity.began);
    let gone = exchange.interim.left();
    tokio::pin!(revoked, gone, news);
    let (every, mut signs) = exchange.user_agent.as_deref().and_then(rhythm).unwrap_or((rooms.hold, 0));
    loop {
        tokio::select! {
            biased;
            refusal = &mut revoked => return Err(refusal),
            () = &mut gone => {
                return Err(Refusal::new(Reason::AccessDenied, "the caller went away while people were asked"));
            }
            news = &mut news => return Ok(news),
            () = tokio::time::sleep(every), if signs > 0 => {
                signs -= 1;
                exchange.interim.ask();
            }
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

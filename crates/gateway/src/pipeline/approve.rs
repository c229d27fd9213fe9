//! The step between decide and record: an operation that policy asks about waits for people.
//!
//! An approval is used at most once, for exactly the operation it was given for, and only if it lifts every forbid that asks at
//! the moment of use: policy is evaluated again when the waiting ends. The caller is held open for a while, so that a quick
//! answer looks like a slow call; after that the refusal names the ask, and the same request passes once when it is approved.

use super::consume::{ConsumptionFlow, ConsumptionResult, coalesce_attempt, consume_or_coalesce};
use super::{
    ApprovalRequired, Authorized, Decoded, Exchange, FrontEnd, FrontEndRequest, Identity, RequestProgress,
    evaluate_policy, execute_authorized, request_context,
};
use crate::body::BoxBody;
use crate::gateway_services::GatewayServices;
use crate::held_requests::HeldRequestPermit;
use crate::keep_alive::keep_alive_interval;
use crate::resource_tags::TagFreshness;
use durward_approval::{
    ApprovalRequest, ApprovalRequestError, ApprovalRequestId, ApprovalRequirement, ApprovalState, Grant,
    NewApprovalRequest,
};
use durward_core::{Decision, Operation, Refusal, RefusalReason, ResourceTags, Verdict};
use durward_journal::JournalRecord;
use durward_policy::{AuthorizationRequest, PolicyQuery::Connect};
use http::Response;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::time::Instant;

/// What of an approval goes on record with the exchange that uses it.
#[derive(Debug, Clone)]
pub(super) struct AppliedGrant {
    pub approval_request: ApprovalRequestId,
    pub approvers: Vec<String>,
    pub is_time_bound: bool,
    pub is_break_glass: bool,
}

/// Waits until people permit it, and has it carried out; or gives it the answer of another attempt.
pub(super) async fn await_approval<D: FrontEnd>(
    door: &Arc<D>,
    rooms: &Arc<GatewayServices>,
    exchange: &Exchange,
    asked: Box<ApprovalRequired<D::Request>>,
    known: &mut RequestProgress<D::RefusalContext>,
) -> Result<Response<BoxBody>, Refusal> {
    // Mostly people are yet to be asked. That is found out first, without the room that an execution takes.
    let mut asked = if Box::pin(needs_approval_request(rooms, exchange, &asked)).await? {
        asked
    } else {
        let mut asked = asked;
        refresh_decision(rooms, exchange, &mut asked).await?;
        match Box::pin(consume_or_coalesce(door, rooms, exchange, *asked, None, known)).await? {
            ConsumptionFlow::Break(used) => {
                return Box::pin(respond_after_consumption(door, rooms, exchange, used, known)).await;
            }
            ConsumptionFlow::Continue(asked) => asked,
        }
    };
    asked.decoded.request.compact();
    let ask = Box::pin(create_approval_request::<D>(rooms, exchange, &asked)).await?;
    if ask.state == ApprovalState::Pending
        && let Some(told) =
            door.approval_requested(rooms, exchange, &asked.decoded.request, &ask, &mut known.refusal_context)
    {
        return Err(told);
    }
    let ask = match admit_held_request(rooms, &asked) {
        Some(_place) => hold_until_decided(rooms, exchange, &asked.decoded.identity, ask).await?,
        None => Arc::new(ask),
    };
    match ask.state {
        ApprovalState::Approved | ApprovalState::Consumed => {
            Box::pin(consume_after_vote(door, rooms, exchange, *asked, ask.id, known)).await
        }
        ApprovalState::Denied => Err(denial_refusal(&ask)),
        ApprovalState::Pending => Err(Refusal::new(
            RefusalReason::AccessDenied,
            format!(
                "{}; the approval is pending: {}; send the same request again once it is approved",
                asked.decision.reason,
                rooms.approval_request_label(ask.id)
            ),
        )),
        ApprovalState::TimedOut | ApprovalState::Expired => Err(Refusal::new(
            RefusalReason::AccessDenied,
            format!(
                "{}; nobody approved it in time: {}",
                asked.decision.reason,
                rooms.approval_request_label(ask.id)
            ),
        )),
        ApprovalState::Corrupt => Err(approvals_unavailable(format!("ask {} is damaged", ask.id))),
    }
}

/// Policy of this moment decides what the approval must lift; then the approval is used up, unless another attempt has.
async fn consume_after_vote<D: FrontEnd>(
    door: &Arc<D>,
    rooms: &Arc<GatewayServices>,
    exchange: &Exchange,
    mut asked: ApprovalRequired<D::Request>,
    id: ApprovalRequestId,
    known: &mut RequestProgress<D::RefusalContext>,
) -> Result<Response<BoxBody>, Refusal> {
    let at = Exchange { time: OffsetDateTime::now_utc(), ..exchange.clone() };
    check_still_admitted(rooms, &at, &asked.decoded.identity)?;
    let now = evaluate_policy(rooms, &at, &asked.decoded, TagFreshness::Current).await?;
    match now.verdict {
        Verdict::Deny => Err(Refusal::new(RefusalReason::AccessDenied, now.reason)),
        Verdict::Allow => {
            if let Some(entry) = rooms
                .response_cache
                .find_entry_locked(&asked.cache_key(), exchange.retry_key.known_key(), Some(id))
                .await
            {
                return coalesce_attempt::<D>(rooms, exchange, &asked, &entry).await;
            }
            // Or it would stay good for something else that is the same.
            rooms.approvals.cancel_unneeded_grant(id).await.map_err(approvals_unavailable)?;
            asked.decision = now;
            execute_authorized(&**door, rooms, exchange, asked.into_authorized(None), known).await
        }
        Verdict::RequireApproval => {
            asked.decision = now;
            match consume_or_coalesce(door, rooms, exchange, asked, Some(id), known).await? {
                ConsumptionFlow::Break(used) => {
                    respond_after_consumption(door, rooms, exchange, used, known).await
                }
                ConsumptionFlow::Continue(asked) => Err(Refusal::new(
                    RefusalReason::AccessDenied,
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
async fn respond_after_consumption<D: FrontEnd>(
    door: &Arc<D>,
    rooms: &Arc<GatewayServices>,
    exchange: &Exchange,
    used: ConsumptionResult<D::Request>,
    known: &mut RequestProgress<D::RefusalContext>,
) -> Result<Response<BoxBody>, Refusal> {
    match used {
        ConsumptionResult::Executed(answer) => Ok(answer),
        ConsumptionResult::Authorized(permitted) => {
            execute_authorized(&**door, rooms, exchange, *permitted, known).await
        }
        ConsumptionResult::ExecutedElsewhere(asked, entry) => {
            coalesce_attempt::<D>(rooms, exchange, &asked, &entry).await
        }
    }
}

/// Much may have happened while the request was held: a credential ends, a session is revoked, and policy may close the
/// connection.
fn check_still_admitted(rooms: &GatewayServices, at: &Exchange, identity: &Identity) -> Result<(), Refusal> {
    rooms.revocations.check_session(identity.session, &identity.caller, identity.session_started_at)?;
    if at.time >= identity.expires_at {
        return Err(Refusal::new(
            RefusalReason::ExpiredToken,
            "the credential expired while people were asked: sign in again and send the request again",
        ));
    }
    let question = AuthorizationRequest {
        caller: &identity.caller,
        query: Connect { connection: &identity.connection },
        context: request_context(at, identity),
    };
    let connect = rooms.policies.current().decide(&question);
    if connect.verdict == Verdict::Allow {
        return Ok(());
    }
    let text = format!("{} may no longer use `{}`", identity.caller.id(), identity.connection);
    Err(Refusal::new(RefusalReason::AccessDenied, text).with_detail(connect.reason))
}

/// Where policy read tags, it is asked again with those of now: an approval is about to be used.
async fn refresh_decision<W: FrontEndRequest>(
    rooms: &GatewayServices,
    exchange: &Exchange,
    asked: &mut ApprovalRequired<W>,
) -> Result<(), Refusal> {
    if asked.decision.tags.is_empty() {
        return Ok(());
    }
    let now = Box::pin(evaluate_policy(rooms, exchange, &asked.decoded, TagFreshness::Current)).await?;
    if now.verdict != Verdict::RequireApproval {
        let what = "the tags that policy reads have just changed: send it again";
        return Err(Refusal::new(RefusalReason::AccessDenied, what).with_detail(now.reason));
    }
    asked.decision = now;
    Ok(())
}

/// Whether neither an earlier attempt of this call was executed nor people have permitted it. Nothing is used.
async fn needs_approval_request<W: FrontEndRequest>(
    rooms: &GatewayServices,
    exchange: &Exchange,
    asked: &ApprovalRequired<W>,
) -> Result<bool, Refusal> {
    if rooms
        .response_cache
        .find_entry_locked(&asked.cache_key(), exchange.retry_key.known_key(), None)
        .await
        .is_some()
    {
        return Ok(false);
    }
    let Decoded { identity, operation, .. } = &asked.decoded;
    let requirements = approval_requirements(rooms, &asked.decision)?;
    let grant = rooms.approvals.find_grant(
        &identity.caller,
        &identity.connection,
        operation,
        &asked.digest,
        &requirements,
    );
    Ok(grant.await.map_err(approvals_unavailable)?.is_none())
}

pub(super) async fn consume_grant<W: FrontEndRequest>(
    rooms: &GatewayServices,
    asked: &ApprovalRequired<W>,
    decision: &Decision,
) -> Result<Option<Grant>, Refusal> {
    let identity = &asked.decoded.identity;
    let requirements = approval_requirements(rooms, decision)?;
    let operation = &asked.decoded.operation;
    rooms
        .approvals
        .consume_grant(&identity.caller, &identity.connection, operation, &asked.digest, &requirements)
        .await
        .map_err(approvals_unavailable)
}

/// What people must give so that each forbid that asks is lifted.
fn approval_requirements(
    rooms: &GatewayServices,
    decision: &Decision,
) -> Result<Vec<ApprovalRequirement>, Refusal> {
    let policies = rooms.policies.current();
    // A reload came between the decision and here: what it now takes is not what was decided on.
    let changed = || {
        Refusal::new(
            RefusalReason::AccessDenied,
            "the policies changed while this was decided; send it again",
        )
    };
    if decision.policy_set != policies.version() {
        return Err(changed());
    }
    let requirement = |policy: &String| {
        let approval = policies.approval_rule(policy).ok_or_else(changed)?;
        Ok(ApprovalRequirement {
            policy: policy.clone(),
            group: approval.group.clone(),
            quorum: approval.quorum,
            timeout: approval.timeout.unwrap_or(rooms.hold_timeout),
            on_timeout: approval.on_timeout,
        })
    };
    decision.policies.iter().map(requirement).collect()
}

pub(super) fn apply_grant<W: FrontEndRequest>(
    mut asked: ApprovalRequired<W>,
    granted: Grant,
) -> Authorized<W> {
    asked.decision.verdict = Verdict::Allow;
    asked.decision.reason =
        format!("approved by {}: ask {}", granted.approvers.join(", "), granted.approval_request);
    let lifted = AppliedGrant {
        approval_request: granted.approval_request,
        approvers: granted.approvers,
        is_time_bound: granted.time_bound,
        is_break_glass: granted.break_glass,
    };
    asked.into_authorized(Some(lifted))
}

/// The tags that policy read, or where some make an operation riskier, all.
async fn tags_for_approvers<W: FrontEndRequest>(
    rooms: &GatewayServices,
    exchange: &Exchange,
    asked: &ApprovalRequired<W>,
) -> Result<ResourceTags, Refusal> {
    if rooms.risky_tags.is_empty() {
        return Ok(asked.decision.tags.clone());
    }
    let Decoded { identity, operation, .. } = &asked.decoded;
    rooms
        .tag_reader
        .read_tags(rooms, exchange, identity, operation, &operation.resource_arns(), TagFreshness::Recent)
        .await
}

async fn create_approval_request<D: FrontEnd>(
    rooms: &GatewayServices,
    exchange: &Exchange,
    asked: &ApprovalRequired<D::Request>,
) -> Result<ApprovalRequest, Refusal> {
    let identity = &asked.decoded.identity;
    let tags = tags_for_approvers(rooms, exchange, asked).await?;
    let new = NewApprovalRequest {
        caller: identity.caller.clone(),
        session: identity.session,
        connection: identity.connection.clone(),
        exchange: exchange.id,
        operation: Operation::clone(&asked.recorded_operation),
        digest: asked.digest,
        requirements: approval_requirements(rooms, &asked.decision)?,
        risk: rooms.assess_operation_risk(&identity.caller, &asked.decoded.operation, &tags).await?,
        tags,
        reason: asked.decision.reason.clone(),
        policy_set: asked.decision.policy_set.clone(),
        source_address: exchange.source.ip(),
        user_agent: exchange.user_agent.clone(),
    };
    let ask = rooms.approvals.request_approval(new).await.map_err(|error| match error {
        ApprovalRequestError::Store(error) => approvals_unavailable(error),
        error => Refusal::new(RefusalReason::AccessDenied, format!("{}; {error}", asked.decision.reason)),
    })?;
    let record = JournalRecord::ApprovalRequested {
        exchange: exchange.id,
        approval_request: ask.id.to_string(),
        session: identity.session,
        caller: identity.caller.clone(),
        front_end: D::KIND,
        connection: identity.connection.clone(),
        operation: Operation::clone(&asked.recorded_operation),
        digest: durward_core::encode_hex(&asked.digest),
        decision: asked.decision.clone(),
        source_address: exchange.source.ip(),
    };
    rooms.journal.append(record).await.map_err(|error| {
        Refusal::new(RefusalReason::Internal, "the journal cannot record this request, so it was not sent")
            .with_detail(error)
    })?;
    Ok(ask)
}

/// A held request keeps its body and its connection: so many and no more, the others are told to come again.
pub(super) fn admit_held_request<'r, W: FrontEndRequest>(
    rooms: &'r GatewayServices,
    asked: &ApprovalRequired<W>,
) -> Option<HeldRequestPermit<'r>> {
    let Decoded { identity, operation, request: wire } = &asked.decoded;
    rooms.held_requests.admit(&identity.caller, operation, wire.held_bytes())
}

/// Waits for people's answer. The ask stays when the caller leaves or is sent away: it is the caller's, and their other
/// requests may wait for it.
async fn hold_until_decided(
    rooms: &GatewayServices,
    exchange: &Exchange,
    identity: &Identity,
    ask: ApprovalRequest,
) -> Result<Arc<ApprovalRequest>, Refusal> {
    let time_left = (ask.deadline - OffsetDateTime::now_utc()).try_into().unwrap_or(Duration::ZERO);
    // A little longer than the deadline, so that the ask has ended by then.
    let end = Instant::now() + rooms.hold_timeout.min(time_left + Duration::from_millis(100));
    let mut waiter = Box::pin(rooms.approvals.end_waiter(ask.id)).await.map_err(approvals_unavailable)?;
    // All who wait for it share the waiter's copy.
    drop(ask);
    let ended = wait_while_connected(rooms, exchange, identity, waiter.wait_until(end)).await?;
    Ok(ended.unwrap_or_else(|| waiter.current_request()))
}

/// Waits for `news`, with signs of life for clients that need them, as long as the caller is there and admitted.
pub(super) async fn wait_while_connected<T>(
    rooms: &GatewayServices,
    exchange: &Exchange,
    identity: &Identity,
    news: impl Future<Output = T>,
) -> Result<T, Refusal> {
    let revoked =
        rooms.revocations.wait_until_revoked(identity.session, &identity.caller, identity.session_started_at);
    let gone = exchange.interim_responder.client_disconnected();
    tokio::pin!(revoked, gone, news);
    let (every, mut signs) =
        exchange.user_agent.as_deref().and_then(keep_alive_interval).unwrap_or((rooms.hold_timeout, 0));
    loop {
        tokio::select! {
            biased;
            refusal = &mut revoked => return Err(refusal),
            () = &mut gone => {
                return Err(Refusal::new(RefusalReason::AccessDenied, "the caller went away while people were asked"));
            }
            news = &mut news => return Ok(news),
            () = tokio::time::sleep(every), if signs > 0 => {
                signs -= 1;
                exchange.interim_responder.request_interim();
            }
        }
    }
}

fn denial_refusal(ask: &ApprovalRequest) -> Refusal {
    let denial = ask.votes.iter().rev().find(|vote| !vote.is_approval);
    let by = denial.map_or_else(String::new, |vote| format!(" by {}", vote.by.id));
    let why =
        denial.and_then(|vote| vote.reason.as_deref()).map_or_else(String::new, |why| format!(": {why}"));
    Refusal::new(
        RefusalReason::AccessDenied,
        format!("{}; denied{by}{why} [ask {}]", ask.details.reason, ask.id),
    )
}

fn approvals_unavailable(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(RefusalReason::Internal, "approvals cannot be read or written, so this was not sent")
        .with_detail(error)
}

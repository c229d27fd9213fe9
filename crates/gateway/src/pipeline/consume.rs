//! The use of an approval, which happens once: this attempt is executed, or it gets the answer of the attempt that was.
//!
//! From the use on the execution belongs to nobody's connection: it runs to its end in a task of its own, so that a client
//! whose connection broke finds the answer when it tries again.

use super::approve::{admit_held_request, apply_grant, consume_grant, wait_while_connected};
use super::response_cache::{CacheEntry, CacheKey, ExecutionEnd, store_response};
use super::{
    ApprovalRequired, Authorized, Exchange, FrontEnd, RequestProgress, RetryKey, execute_authorized,
    refuse_request,
};
use crate::body::BoxBody;
use crate::gateway_services::GatewayServices;
use crate::response_masker::caller_may_reveal;
use durward_approval::ApprovalRequestId;
use durward_core::{Operation, Refusal, RefusalReason};
use durward_journal::JournalRecord;
use http::Response;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::time::Instant;

/// What lets an attempt go on, or not.
pub(super) enum ConsumptionResult<W> {
    /// Its own execution: this is the answer.
    Executed(Response<BoxBody>),
    /// A window that stays open: it is executed as whatever is permitted.
    Authorized(Box<Authorized<W>>),
    /// The execution of another attempt.
    ExecutedElsewhere(Box<ApprovalRequired<W>>, Arc<CacheEntry>),
}

/// Who uses it, or `Continue` with the request when there is no approval for it.
pub(super) type ConsumptionFlow<W> = ControlFlow<ConsumptionResult<W>, Box<ApprovalRequired<W>>>;

impl<W> ApprovalRequired<W> {
    pub fn cache_key(&self) -> CacheKey {
        CacheKey { session: self.decoded.identity.session, digest: self.digest }
    }

    /// Whether its answer may be another attempt's: not if it names the request that it answers, nor if the two may differ in
    /// what was not looked into.
    fn is_shareable(&self, exchange: &Exchange) -> bool {
        exchange.retry_key != RetryKey::None && self.decoded.operation.body_sha256.is_some()
    }
}

/// Uses an approval for this request and executes it, unless another attempt has. `ask` is the one it waited for.
pub(super) async fn consume_or_coalesce<D: FrontEnd>(
    door: &Arc<D>,
    rooms: &Arc<GatewayServices>,
    exchange: &Exchange,
    asked: ApprovalRequired<D::Request>,
    ask: Option<ApprovalRequestId>,
    known: &RequestProgress<D::RefusalContext>,
) -> Result<ConsumptionFlow<D::Request>, Refusal> {
    let mine = consume_and_execute(door.clone(), rooms.clone(), exchange.clone(), asked, ask, known.clone());
    if exchange.retry_key == RetryKey::None {
        return mine.await;
    }
    tokio::spawn(mine).await.map_err(|panicked| {
        Refusal::new(RefusalReason::Internal, "the gateway failed; the operation may have been executed")
            .with_detail(panicked)
    })?
}

async fn consume_and_execute<D: FrontEnd>(
    door: Arc<D>,
    rooms: Arc<GatewayServices>,
    exchange: Exchange,
    asked: ApprovalRequired<D::Request>,
    ask: Option<ApprovalRequestId>,
    mut known: RequestProgress<D::RefusalContext>,
) -> Result<ConsumptionFlow<D::Request>, Refusal> {
    let key = asked.cache_key();
    let turn = rooms.response_cache.lock_key(&key).await;
    if let Some(entry) =
        rooms.response_cache.find_entry(&key, exchange.retry_key.known_key(), ask, std::time::Instant::now())
    {
        return Ok(ConsumptionFlow::Break(ConsumptionResult::ExecutedElsewhere(Box::new(asked), entry)));
    }
    let Some(granted) = consume_grant(&rooms, &asked, &asked.decision).await? else {
        return Ok(ConsumptionFlow::Continue(Box::new(asked)));
    };
    let (used, window, shared) =
        (granted.approval_request, granted.time_bound, asked.is_shareable(&exchange));
    let permitted = apply_grant(asked, granted);
    if window {
        return Ok(ConsumptionFlow::Break(ConsumptionResult::Authorized(Box::new(permitted))));
    }
    let policy_set = permitted.decision.policy_set.clone();
    let call = exchange.retry_key.known_key().map(str::to_owned);
    let running =
        rooms.response_cache.begin_execution(key, call, used, exchange.id, std::time::Instant::now());
    drop(turn);
    let answer = match execute_authorized(&*door, &rooms, &exchange, permitted, &mut known).await {
        Ok(answer) if shared => {
            let (answer, ending) = store_response(answer, policy_set).await;
            running.finish(ending);
            answer
        }
        Ok(answer) => {
            running.finish(ExecutionEnd::NotStored);
            answer
        }
        Err(mut refusal) => {
            let (ending, what) = if known.may_have_been_sent {
                (ExecutionEnd::Unknown, "may have been executed: look before you ask anew")
            } else {
                (ExecutionEnd::NotSent, "was not sent: ask anew")
            };
            running.finish(ending);
            refusal.message =
                format!("{}; the approval [ask {used}] is used, and this {what}", refusal.message);
            refuse_request(&*door, &rooms, &exchange, refusal, known).await
        }
    };
    Ok(ConsumptionFlow::Break(ConsumptionResult::Executed(answer)))
}

/// The answer of another attempt, when it is there; never an execution.
pub(super) async fn coalesce_attempt<D: FrontEnd>(
    rooms: &GatewayServices,
    exchange: &Exchange,
    asked: &ApprovalRequired<D::Request>,
    entry: &CacheEntry,
) -> Result<Response<BoxBody>, Refusal> {
    let (ask, by) = (entry.approval_request, entry.executed_by);
    let refused = |what: String| {
        Refusal::new(
            RefusalReason::AccessDenied,
            format!("{}; ask {ask} was approved, and {what}", asked.decision.reason),
        )
    };
    if !asked.is_shareable(exchange) {
        return Err(refused(format!(
            "exchange {by} used that approval; its answer is for that request alone; this one was not executed"
        )));
    }
    let place = admit_held_request(rooms, asked);
    // Without a place, only what is there already.
    let end = Instant::now() + if place.is_some() { rooms.hold_timeout } else { Duration::ZERO };
    let ended = tokio::time::timeout_at(end, entry.wait_for_end());
    let Ok(ended) = wait_while_connected(rooms, exchange, &asked.decoded.identity, ended).await? else {
        return Err(refused(format!(
            "exchange {by} is still executing it; it is not executed twice: try the same call again for its answer"
        )));
    };
    let executed = |why: &str| {
        refused(format!("exchange {by} executed it once; its answer {why}, and it is not executed again"))
    };
    match ended {
        ExecutionEnd::Responded(kept) => {
            let now = Exchange { time: OffsetDateTime::now_utc(), ..exchange.clone() };
            let sees = |class: &str| caller_may_reveal(rooms, &now, &asked.decoded.identity, class);
            if !kept.is_valid_for(rooms.policies.current().version(), sees) {
                return Err(executed("was for what policy said of it then, which has changed"));
            }
            record_coalesced::<D>(rooms, exchange, asked, entry, &kept).await?;
            Ok(kept.to_response())
        }
        ExecutionEnd::NotStored => Err(executed("is too large to be kept or came as a stream")),
        ExecutionEnd::Unknown => Err(refused(format!(
            "exchange {by} may have executed it: no answer came back, and it is not executed again; look before you ask anew"
        ))),
        ExecutionEnd::NotSent => Err(refused(format!(
            "exchange {by} used that approval but could not send it, so it was not executed; ask anew"
        ))),
    }
}

/// On record before the answer goes out, or it does not go out.
async fn record_coalesced<D: FrontEnd>(
    rooms: &GatewayServices,
    exchange: &Exchange,
    asked: &ApprovalRequired<D::Request>,
    entry: &CacheEntry,
    kept: &super::response_cache::StoredResponse,
) -> Result<(), Refusal> {
    let identity = &asked.decoded.identity;
    let record = JournalRecord::Coalesced {
        exchange: exchange.id,
        approval_request: entry.approval_request.to_string(),
        executed_by: entry.executed_by,
        session: identity.session,
        caller: identity.caller.clone(),
        front_end: D::KIND,
        connection: identity.connection.clone(),
        operation: Operation::clone(&asked.recorded_operation),
        digest: durward_core::encode_hex(&asked.digest),
        decision: asked.decision.clone(),
        source_address: exchange.source.ip(),
        user_agent: exchange.user_agent.clone(),
        status: kept.status.as_u16(),
        response_bytes: kept.bytes.len() as u64,
        duration_us: u64::try_from(exchange.started_at.elapsed().as_micros()).unwrap_or(u64::MAX),
    };
    rooms.journal.append(record).await.map(|_position| ()).map_err(|error| {
        Refusal::new(RefusalReason::Internal, "the journal cannot record the answer, so it is withheld")
            .with_detail(error)
    })
}

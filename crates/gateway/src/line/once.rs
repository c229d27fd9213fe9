//! The use of an approval, which happens once: this attempt is executed, or it gets the answer of the attempt that was.
//!
//! From the use on the execution belongs to nobody's connection: it runs to its end in a task of its own, so that a client
//! whose connection broke finds the answer when it tries again.

use super::approve::{held_open, lifted, place, take};
use super::stored::{Ending, Entry, Key, keep};
use super::{Asked, Call, Door, Exchange, Known, Permitted, carry_out, stop};
use crate::body::Body;
use crate::rooms::Rooms;
use crate::viewer::reveals;
use durward_approval::AskId;
use durward_core::{Operation, Reason, Refusal};
use durward_journal::Record;
use http::Response;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::time::Instant;

/// What lets an attempt go on, or not.
pub(super) enum Used<W> {
    /// Its own execution: this is the answer.
    Answered(Response<Body>),
    /// A window that stays open: it is executed as whatever is permitted.
    Permitted(Box<Permitted<W>>),
    /// The execution of another attempt.
    Before(Box<Asked<W>>, Arc<Entry>),
}

/// Who uses it, or `Continue` with the request when there is no approval for it.
pub(super) type Use<W> = ControlFlow<Used<W>, Box<Asked<W>>>;

impl<W> Asked<W> {
    pub fn key(&self) -> Key {
        Key { session: self.decoded.identity.session, digest: self.digest }
    }

    /// Whether its answer may be another attempt's: not if it names the request that it answers, nor if the two may differ in
    /// what was not looked into.
    fn is_shared(&self, exchange: &Exchange) -> bool {
        exchange.call != Call::Alone && self.decoded.operation.body_sha256.is_some()
    }
}

/// Uses an approval for this request and executes it, unless another attempt has. `ask` is the one it waited for.
pub(super) async fn use_up<D: Door>(
    door: &Arc<D>,
    rooms: &Arc<Rooms>,
    exchange: &Exchange,
    asked: Asked<D::Wire>,
    ask: Option<AskId>,
    known: &Known<D::Shape>,
) -> Result<Use<D::Wire>, Refusal> {
    let mine = once(door.clone(), rooms.clone(), exchange.clone(), asked, ask, known.clone());
    if exchange.call == Call::Alone {
        return mine.await;
    }
    tokio::spawn(mine).await.map_err(|panicked| {
        Refusal::new(Reason::Internal, "the gateway failed; the operation may have been executed")
            .detail(panicked)
    })?
}

async fn once<D: Door>(
    door: Arc<D>,
    rooms: Arc<Rooms>,
    exchange: Exchange,
    asked: Asked<D::Wire>,
    ask: Option<AskId>,
    mut known: Known<D::Shape>,
) -> Result<Use<D::Wire>, Refusal> {
    let key = asked.key();
    let turn = rooms.stored.turn(&key).await;
    if let Some(entry) = rooms.stored.find(&key, exchange.call.name(), ask, std::time::Instant::now()) {
        return Ok(Use::Break(Used::Before(Box::new(asked), entry)));
    }
    let Some(granted) = take(&rooms, &asked, &asked.decision).await? else {
        return Ok(Use::Continue(Box::new(asked)));
    };
    let (used, window, shared) = (granted.ask, granted.window, asked.is_shared(&exchange));
    let permitted = lifted(asked, granted);
    if window {
        return Ok(Use::Break(Used::Permitted(Box::new(permitted))));
    }
    let policy_set = permitted.decision.policy_set.clone();
    let call = exchange.call.name().map(str::to_owned);
    let running = rooms.stored.begin(key, call, used, exchange.id, std::time::Instant::now());
    drop(turn);
    let answer = match carry_out(&*door, &rooms, &exchange, permitted, &mut known).await {
        Ok(answer) if shared => {
            let (answer, ending) = keep(answer, policy_set).await;
            running.end(ending);
            answer
        }
        Ok(answer) => {
            running.end(Ending::NotKept);
            answer
        }
        Err(mut refusal) => {
            let (ending, what) = if known.sent {
                (Ending::Unknown, "may have been executed: look before you ask anew")
            } else {
                (Ending::NotSent, "was not sent: ask anew")
            };
            running.end(ending);
            refusal.message =
                format!("{}; the approval [ask {used}] is used, and this {what}", refusal.message);
            stop(&*door, &rooms, &exchange, refusal, known).await
        }
    };
    Ok(Use::Break(Used::Answered(answer)))
}

/// The answer of another attempt, when it is there; never an execution.
pub(super) async fn join<D: Door>(
    rooms: &Rooms,
    exchange: &Exchange,
    asked: &Asked<D::Wire>,
    entry: &Entry,
) -> Result<Response<Body>, Refusal> {
    let (ask, by) = (entry.ask, entry.executed_by);
    let refused = |what: String| {
        Refusal::new(
            Reason::AccessDenied,
            format!("{}; ask {ask} was approved, and {what}", asked.decision.reason),
        )
    };
    if !asked.is_shared(exchange) {
        return Err(refused(format!(
            "exchange {by} used that approval; its answer is for that request alone; this one was not executed"
        )));
    }
    let place = place(rooms, asked);
    // Without a place, only what is there already.
    let end = Instant::now() + if place.is_some() { rooms.hold } else { Duration::ZERO };
    let ended = tokio::time::timeout_at(end, entry.ended());
    let Ok(ended) = held_open(rooms, exchange, &asked.decoded.identity, ended).await? else {
        return Err(refused(format!(
            "exchange {by} is still executing it; it is not executed twice: try the same call again for its answer"
        )));
    };
    let executed = |why: &str| {
        refused(format!("exchange {by} executed it once; its answer {why}, and it is not executed again"))
    };
    match ended {
        Ending::Answered(kept) => {
            let now = Exchange { at: OffsetDateTime::now_utc(), ..exchange.clone() };
            let sees = |class: &str| reveals(rooms, &now, &asked.decoded.identity, class);
            if !kept.is_good_for(rooms.policies.current().version(), sees) {
                return Err(executed("was for what policy said of it then, which has changed"));
            }
            record_joined::<D>(rooms, exchange, asked, entry, &kept).await?;
            Ok(kept.response())
        }
        Ending::NotKept => Err(executed("is too large to be kept or came as a stream")),
        Ending::Unknown => Err(refused(format!(
            "exchange {by} may have executed it: no answer came back, and it is not executed again; look before you ask anew"
        ))),
        Ending::NotSent => Err(refused(format!(
            "exchange {by} used that approval but could not send it, so it was not executed; ask anew"
        ))),
    }
}

/// On record before the answer goes out, or it does not go out.
async fn record_joined<D: Door>(
    rooms: &Rooms,
    exchange: &Exchange,
    asked: &Asked<D::Wire>,
    entry: &Entry,
    kept: &super::stored::Kept,
) -> Result<(), Refusal> {
    let identity = &asked.decoded.identity;
    let record = Record::Joined {
        exchange: exchange.id,
        ask: entry.ask.to_string(),
        executed_by: entry.executed_by,
        session: identity.session,
        caller: identity.caller.clone(),
        door: D::KIND,
        connection: identity.connection.clone(),
        operation: Operation::clone(&asked.recorded),
        digest: durward_aws::sigv4::hex(&asked.digest),
        decision: asked.decision.clone(),
        source_address: exchange.source.ip(),
        user_agent: exchange.user_agent.clone(),
        status: kept.status.as_u16(),
        response_bytes: kept.bytes.len() as u64,
        duration_us: u64::try_from(exchange.started.elapsed().as_micros()).unwrap_or(u64::MAX),
    };
    rooms.journal.record(record).await.map(|_position| ()).map_err(|error| {
        Refusal::new(Reason::Internal, "the journal cannot record the answer, so it is withheld")
            .detail(error)
    })
}

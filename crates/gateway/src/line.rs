//! The line of DESIGN section 2. [`walk`] reads like the list; each step takes the proof of the step before and makes
//! its own, and only this module can make them: an operation that was not decided, or whose intent is not durable,
//! cannot be forwarded because the [`Lent`] it would need does not exist.
//!
//! ```text
//! accept -> identify -> decode -> decide -> (approve) -> record intent -> lend credential
//!        -> forward -> mask -> record outcome -> answer
//! ```

mod approve;
mod once;
mod stored;

use approve::{Lifted, approve};
pub use stored::Stored;

use crate::answer::{Answer, AnswerBody, recorded_stream};
use crate::body::{Body, full};
use crate::events::masked_events;
use crate::interim::Interim;
use crate::rooms::Rooms;
use crate::tags::Freshness;
use crate::viewer::{Counts, Viewer};
use aws_lc_rs::digest::{SHA256, digest};
use durward_approval::Ask;
use durward_core::{Caller, Decision, ExchangeId, Operation, Reason, Refusal, SessionId, Verdict};
use durward_credential::LendRequest;
use durward_journal::{LentScope, Masked as MaskedCount, Record, UsedApproval};
use durward_policy::{Facts, Reads};
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use time::OffsetDateTime;

/// One request and its response passing through: what is known before anyone looks inside.
#[derive(Debug, Clone)]
pub struct Exchange {
    pub id: ExchangeId,
    pub source: SocketAddr,
    pub at: OffsetDateTime,
    pub started: Instant,
    pub user_agent: Option<String>,
    pub call: Call,
    /// For signs of life while people are asked.
    pub interim: Interim,
}

/// Which call of its client a request is an attempt of, by the client's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Every request is one by itself: its answer names it.
    Alone,
    /// It may be an attempt of any.
    Unnamed,
    Named(String),
}

impl Call {
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Named(name) => Some(name),
            Self::Alone | Self::Unnamed => None,
        }
    }
}

/// Who asks, as a door has verified it.
#[derive(Debug, Clone)]
pub struct Identity {
    pub caller: Caller,
    pub session: SessionId,
    /// When the session began: what is revoked of a caller is what began until then.
    pub began: OffsetDateTime,
    /// The connection (AWS role or MCP server) that the request is for.
    pub connection: String,
    /// From then on the credential or token that the request came with is not accepted.
    pub expires: OffsetDateTime,
}

/// What a door keeps of a request between decode and forward.
pub trait Wire: Send + Sync + 'static {
    /// A digest of everything that will be sent. Taken when the operation is decided and again when it is sent.
    fn fingerprint(&self) -> [u8; 32];
    /// Gives back what memory it holds beyond its own: it may be held for an hour, as one of thousands.
    fn compact(&mut self) {}
    /// What it takes in memory, in bytes: as much as the caller sent, for what decodes to little may be long.
    fn held_bytes(&self) -> usize;
}

/// A small adapter between one protocol and the line.
pub trait Door: Send + Sync + 'static {
    type Wire: Wire;
    /// What a refusal must look like for this client, learnt as the request is read.
    type Shape: Clone + Send + Sync + 'static;
    const KIND: durward_core::Door;

    fn shape(&self, head: &http::request::Parts) -> Self::Shape;
    fn call(&self, _head: &http::request::Parts) -> Call {
        Call::Alone
    }
    fn identify(
        &self,
        rooms: &Rooms,
        exchange: &Exchange,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<(Identity, Self::Wire), Refusal>> + Send;
    fn decode(
        &self,
        rooms: &Rooms,
        identity: &Identity,
        wire: Self::Wire,
        shape: &mut Self::Shape,
    ) -> impl Future<Output = Result<(Operation, Self::Wire), Refusal>> + Send;
    fn forward(
        &self,
        rooms: &Rooms,
        lent: Lent<Self::Wire>,
    ) -> impl Future<Output = Result<Answer, Refusal>> + Send;
    fn refuse(&self, exchange: &Exchange, refusal: &Refusal, shape: &Self::Shape) -> Response<Body>;
    /// Hears that people are asked about a request, before it is held for them. `Some` ends it with what its protocol has to tell
    /// a client in this case; the ask stays.
    fn asked(
        &self,
        _rooms: &Rooms,
        _exchange: &Exchange,
        _wire: &Self::Wire,
        _ask: &Ask,
        _shape: &mut Self::Shape,
    ) -> Option<Refusal> {
        None
    }
    /// Where the protocol has a word of its own for a session that is no more, the refusal gets it.
    fn revoked(&self, _wire: &Self::Wire, _shape: &mut Self::Shape) {}
    /// Whether the upstream wants an AWS credential.
    fn lends(&self) -> bool;
}

/// A request as accepted.
struct Received(Request<Incoming>);

/// A request whose caller is known.
struct Identified<W> {
    identity: Identity,
    wire: W,
}

/// A request whose operation is known.
struct Decoded<W> {
    identity: Identity,
    operation: Arc<Operation>,
    wire: W,
}

/// What policy made of an operation that it did not deny.
enum Decided<W> {
    Permitted(Box<Permitted<W>>),
    Asked(Box<Asked<W>>),
}

/// An operation that policy permits if people lift what forbids it.
struct Asked<W> {
    decoded: Decoded<W>,
    decision: Decision,
    digest: [u8; 32],
    fingerprint: [u8; 32],
    /// As it may be shown: sensitive parameters masked.
    recorded: Arc<Operation>,
}

impl<W> Asked<W> {
    fn permitted(self, lifted: Option<Lifted>) -> Permitted<W> {
        let Self { decoded, decision, digest, fingerprint, recorded: _ } = self;
        Permitted { decoded, decision, digest, fingerprint, lifted }
    }
}

/// An operation that policy permits, bound to its digest and to the bytes that were decided.
struct Permitted<W> {
    decoded: Decoded<W>,
    decision: Decision,
    digest: [u8; 32],
    fingerprint: [u8; 32],
    /// The approval that was used up for it.
    lifted: Option<Lifted>,
}

/// A permitted operation whose intent is durable in the journal.
struct Intended<W>(Permitted<W>);

/// A recorded operation with the credential to execute it: the only thing a door forwards.
pub struct Lent<W> {
    intended: Intended<W>,
    credential: Option<Arc<durward_credential::Lent>>,
}

/// What a door gets to forward.
pub struct Forwardable<W> {
    pub identity: Identity,
    pub operation: Arc<Operation>,
    pub wire: W,
    pub credential: Option<Arc<durward_credential::Lent>>,
}

impl<W: Wire> Lent<W> {
    /// Opens the proof for sending; refuses if anything differs from what was decided (DESIGN section 12, promise 3).
    pub fn open(self) -> Result<Forwardable<W>, Refusal> {
        let Permitted { decoded: Decoded { identity, operation, wire }, digest, fingerprint, .. } =
            self.intended.0;
        if digest_of(&operation) != digest || wire.fingerprint() != fingerprint {
            return Err(Refusal::new(
                Reason::Internal,
                "the request to be sent is not the request that was decided",
            ));
        }
        Ok(Forwardable { identity, operation, wire, credential: self.credential })
    }
}

/// What the journal and the error shape need when the line stops, wherever it stops.
#[derive(Clone)]
pub(crate) struct Known<S> {
    pub shape: S,
    pub identity: Option<Identity>,
    /// As recorded: sensitive parameters masked.
    pub operation: Option<Arc<Operation>>,
    pub decision: Option<Decision>,
    pub intended: bool,
    /// It may have reached the upstream.
    pub sent: bool,
}

/// Takes one request down the line and answers it, whatever happens.
pub async fn pass<D: Door>(
    door: &Arc<D>,
    rooms: &Arc<Rooms>,
    source: SocketAddr,
    request: Request<Incoming>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let exchange = Exchange {
        id: ExchangeId::new(),
        source,
        at: OffsetDateTime::now_utc(),
        started: Instant::now(),
        user_agent: head.headers.get("user-agent").and_then(|value| value.to_str().ok()).map(str::to_owned),
        call: door.call(&head),
        interim: head.extensions.get().cloned().unwrap_or_default(),
    };
    let mut known = Known {
        shape: door.shape(&head),
        identity: None,
        operation: None,
        decision: None,
        intended: false,
        sent: false,
    };
    let received = Received(Request::from_parts(head, body));
    match walk(door, rooms, &exchange, received, &mut known).await {
        Ok(response) => response,
        Err(refusal) => stop(&**door, rooms, &exchange, refusal, known).await,
    }
}

async fn walk<D: Door>(
    door: &Arc<D>,
    rooms: &Arc<Rooms>,
    exchange: &Exchange,
    received: Received,
    known: &mut Known<D::Shape>,
) -> Result<Response<Body>, Refusal> {
    // Boxed, all: a request that is held would carry room for all of the line.
    match Box::pin(decided(&**door, rooms, exchange, received, known)).await? {
        Decided::Permitted(permitted) => {
            Box::pin(carry_out(&**door, rooms, exchange, *permitted, known)).await
        }
        // It carries out what people permit.
        Decided::Asked(asked) => Box::pin(approve(door, rooms, exchange, asked, known)).await,
    }
}

/// The line up to decide.
async fn decided<D: Door>(
    door: &D,
    rooms: &Rooms,
    exchange: &Exchange,
    received: Received,
    known: &mut Known<D::Shape>,
) -> Result<Decided<D::Wire>, Refusal> {
    let identified = identify(door, rooms, exchange, received, known).await?;
    let decoded = decode(door, rooms, identified, known).await?;
    decide(rooms, exchange, decoded, known).await
}

/// The line from record intent on.
async fn carry_out<D: Door>(
    door: &D,
    rooms: &Arc<Rooms>,
    exchange: &Exchange,
    permitted: Permitted<D::Wire>,
    known: &mut Known<D::Shape>,
) -> Result<Response<Body>, Refusal> {
    known.decision = Some(permitted.decision.clone());
    let intended = record_intent::<D>(rooms, exchange, permitted, known).await?;
    let mut unfinished =
        Unfinished { rooms: rooms.clone(), exchange: exchange.id, started: exchange.started, armed: true };
    let answered = execute(door, rooms, exchange, intended, known).await;
    unfinished.armed = false;
    answered
}

async fn execute<D: Door>(
    door: &D,
    rooms: &Arc<Rooms>,
    exchange: &Exchange,
    intended: Intended<D::Wire>,
    known: &mut Known<D::Shape>,
) -> Result<Response<Body>, Refusal> {
    let passing = rooms.tags.passing(&intended.0.decoded.operation);
    let lent = lend(door, rooms, exchange, intended).await?;
    known.sent = true;
    // Boxed, for it is large: a request that is held need not carry room for it.
    let answer = Box::pin(door.forward(rooms, lent)).await?;
    drop(passing);
    let masked = mask(rooms, exchange, answer, known)?;
    record_outcome(rooms, exchange, masked).await
}

/// An exchange that may have gone upstream and whose outcome is not on record. A caller who leaves takes its future along:
/// then this is what is left to record how it ended.
struct Unfinished {
    rooms: Arc<Rooms>,
    exchange: ExchangeId,
    started: Instant,
    armed: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let outcome = Outcome {
            exchange: self.exchange,
            started: self.started,
            // What proxies log for a client that closed its connection; nobody got this answer.
            status: StatusCode::from_u16(499).unwrap_or(StatusCode::REQUEST_TIMEOUT),
            error_code: None,
            request_bytes: 0,
            upstream_request_id: None,
            masked: Vec::new(),
        };
        let record = outcome.record(0, None, Some("the caller went away before the answer came".to_owned()));
        let rooms = self.rooms.clone();
        tokio::spawn(async move {
            if let Err(error) = rooms.journal.record(record).await {
                tracing::error!(%error, "the journal cannot record an outcome");
            }
        });
    }
}

async fn identify<D: Door>(
    door: &D,
    rooms: &Rooms,
    exchange: &Exchange,
    received: Received,
    known: &mut Known<D::Shape>,
) -> Result<Identified<D::Wire>, Refusal> {
    let (identity, wire) = door.identify(rooms, exchange, received.0).await?;
    known.identity = Some(identity.clone());
    if let Err(refusal) = rooms.revocations.check(identity.session, &identity.caller, identity.began) {
        if refusal.reason == Reason::InvalidToken {
            door.revoked(&wire, &mut known.shape);
        }
        return Err(refusal);
    }
    Ok(Identified { identity, wire })
}

async fn decode<D: Door>(
    door: &D,
    rooms: &Rooms,
    identified: Identified<D::Wire>,
    known: &mut Known<D::Shape>,
) -> Result<Decoded<D::Wire>, Refusal> {
    let Identified { identity, wire } = identified;
    let (operation, wire) = door.decode(rooms, &identity, wire, &mut known.shape).await?;
    let mut recorded = operation.clone();
    rooms.masker.mask_value(&mut recorded.parameters, &operation.sensitive, &|_class| false);
    // Mostly there is nothing to mask, and one copy is enough for as long as a request may be held.
    let same = recorded == operation;
    let operation = Arc::new(operation);
    known.operation = Some(if same { operation.clone() } else { Arc::new(recorded) });
    Ok(Decoded { identity, operation, wire })
}

async fn decide<W: Wire, S>(
    rooms: &Rooms,
    exchange: &Exchange,
    decoded: Decoded<W>,
    known: &mut Known<S>,
) -> Result<Decided<W>, Refusal> {
    let decision = decision_of(rooms, exchange, &decoded, Freshness::Recent).await?;
    known.decision = Some(decision.clone());
    if decision.verdict == Verdict::Deny {
        return Err(Refusal::new(Reason::AccessDenied, decision.reason));
    }
    let digest = digest_of(&decoded.operation);
    let fingerprint = decoded.wire.fingerprint();
    if decision.verdict == Verdict::Ask {
        let recorded = known.operation.clone().unwrap_or_else(|| decoded.operation.clone());
        let asked = Asked { decoded, decision, digest, fingerprint, recorded };
        return Ok(Decided::Asked(Box::new(asked)));
    }
    Ok(Decided::Permitted(Box::new(Permitted { decoded, decision, digest, fingerprint, lifted: None })))
}

/// What policy says at this moment. What it reads beside the request itself is found out first.
async fn decision_of<W>(
    rooms: &Rooms,
    exchange: &Exchange,
    decoded: &Decoded<W>,
    freshness: Freshness,
) -> Result<Decision, Refusal> {
    let Decoded { identity, operation, .. } = decoded;
    let policies = rooms.policies.current();
    let facts = facts(exchange, identity);
    let reads = policies.reads(&identity.caller, operation, facts);
    if reads == Reads::default() {
        return Ok(policies.decide_operation(&identity.caller, operation, facts));
    }
    rooms.tags.refuse_unnamed(rooms.catalog, &reads.unnamed)?;
    let mut of = reads.tags_of;
    if reads.risk && !rooms.risky_tags.is_empty() {
        of.extend(operation.arns());
        of.sort_unstable();
        of.dedup();
    }
    // Boxed, for it is large and rare.
    let tags = Box::pin(rooms.tags.read(rooms, exchange, identity, operation, &of, freshness)).await?;
    let risk =
        if reads.risk { Some(rooms.risk(&identity.caller, operation, &tags).await?.score) } else { None };
    let facts = Facts { tags: Some(&tags), risk, ..facts };
    Ok(policies.decide_operation(&identity.caller, operation, facts))
}

async fn record_intent<D: Door>(
    rooms: &Rooms,
    exchange: &Exchange,
    permitted: Permitted<D::Wire>,
    known: &mut Known<D::Shape>,
) -> Result<Intended<D::Wire>, Refusal> {
    let identity = &permitted.decoded.identity;
    let record = Record::Intent {
        exchange: exchange.id,
        session: Some(identity.session),
        caller: Some(identity.caller.clone()),
        door: D::KIND,
        connection: identity.connection.clone(),
        operation: Operation::clone(known.operation.as_ref().unwrap_or(&permitted.decoded.operation)),
        digest: durward_aws::sigv4::hex(&permitted.digest),
        decision: permitted.decision.clone(),
        source_address: exchange.source.ip(),
        user_agent: exchange.user_agent.clone(),
        approval: permitted.lifted.as_ref().map(|lifted| UsedApproval {
            ask: lifted.ask.to_string(),
            approvers: lifted.approvers.clone(),
            window: lifted.window,
            break_glass: lifted.break_glass,
        }),
        link_to: None,
    };
    rooms.journal.record_durable(record).await.map_err(|error| {
        Refusal::new(Reason::Internal, "the journal cannot record this request, so it was not sent")
            .detail(error)
    })?;
    known.intended = true;
    rooms.novelty.note(&permitted.decoded.identity.caller, &permitted.decoded.operation);
    Ok(Intended(permitted))
}

async fn lend<D: Door>(
    door: &D,
    rooms: &Rooms,
    exchange: &Exchange,
    intended: Intended<D::Wire>,
) -> Result<Lent<D::Wire>, Refusal> {
    if !door.lends() {
        return Ok(Lent { intended, credential: None });
    }
    let Decoded { identity, operation, .. } = &intended.0.decoded;
    let connection = rooms.connection(&identity.connection)?;
    let ask = LendRequest {
        connection,
        caller: &identity.caller,
        session: identity.session,
        exchange: exchange.id,
        operation,
    };
    let credential = rooms.lender.lend(&ask).await.map_err(|error| {
        Refusal::new(Reason::Upstream, "the gateway could not obtain a credential for this operation")
            .detail(error)
    })?;
    let record = Record::Lent {
        exchange: exchange.id,
        access_key_id: credential.access_key_id.clone(),
        scope: match credential.scope {
            durward_credential::Scope::Operation => LentScope::Operation,
            durward_credential::Scope::Actions => LentScope::Actions,
            durward_credential::Scope::Session => LentScope::Session,
        },
        session_policy_sha256: credential.policy_sha256.clone(),
        expires: credential.expires,
    };
    rooms.journal.record(record).await.map_err(|error| {
        Refusal::new(Reason::Internal, "the journal cannot record this request, so it was not sent")
            .detail(error)
    })?;
    Ok(Lent { intended, credential: Some(credential) })
}

/// An answer that the caller may see.
struct Masked {
    answer: Answer,
    counts: Vec<MaskedCount>,
    viewer: Viewer,
}

fn mask<S>(
    rooms: &Arc<Rooms>,
    exchange: &Exchange,
    mut answer: Answer,
    known: &mut Known<S>,
) -> Result<Masked, Refusal> {
    let mut counts = Counts::default();
    // An outcome, which is all that can still be recorded, does not name the caller.
    let viewer = Viewer { rooms: rooms.clone(), exchange: exchange.clone(), identity: known.identity.take() };
    viewer.mask_answer(&mut answer, &mut counts)?;
    Ok(Masked { answer, counts: counts.into_list(), viewer })
}

async fn record_outcome(
    rooms: &Arc<Rooms>,
    exchange: &Exchange,
    masked: Masked,
) -> Result<Response<Body>, Refusal> {
    let Masked { answer, counts, viewer } = masked;
    let outcome = Outcome {
        exchange: exchange.id,
        started: exchange.started,
        status: answer.head.status,
        error_code: answer.error_code.clone(),
        request_bytes: answer.request_bytes,
        upstream_request_id: answer.upstream_request_id.clone(),
        masked: counts,
    };
    // An empty object is not polled for by whoever sends it on: its outcome is recorded here.
    let body = match answer.body {
        AnswerBody::Stream(body) if body.is_end_stream() => AnswerBody::empty(),
        body => body,
    };
    match body {
        AnswerBody::Whole { bytes, .. } => {
            let sha256 = Some(durward_aws::sigv4::hex(digest(&SHA256, &bytes).as_ref()));
            let record = outcome.record(bytes.len() as u64, sha256, None);
            rooms.journal.record(record).await.map_err(|error| {
                Refusal::new(Reason::Internal, "the journal cannot record the answer, so it is withheld")
                    .detail(error)
            })?;
            Ok(Response::from_parts(answer.head, full(bytes)))
        }
        AnswerBody::Stream(body) => {
            Ok(Response::from_parts(answer.head, recorded_stream(body, rooms.clone(), outcome)))
        }
        AnswerBody::Events(events) => {
            Ok(Response::from_parts(answer.head, masked_events(events, viewer, outcome)))
        }
    }
}

/// An outcome whose last figures are known when the answer ends.
pub(crate) struct Outcome {
    exchange: ExchangeId,
    started: Instant,
    status: StatusCode,
    error_code: Option<String>,
    request_bytes: u64,
    upstream_request_id: Option<String>,
    masked: Vec<MaskedCount>,
}

impl Outcome {
    /// Adds what is known of an answer only when it has ended.
    pub fn ended(&mut self, masked: Counts, error_code: Option<String>) {
        self.masked = masked.and(std::mem::take(&mut self.masked)).into_list();
        self.error_code = error_code;
    }

    pub fn record(
        self,
        response_bytes: u64,
        response_sha256: Option<String>,
        failure: Option<String>,
    ) -> Record {
        Record::Outcome {
            exchange: self.exchange,
            status: self.status.as_u16(),
            error_code: self.error_code,
            request_bytes: self.request_bytes,
            response_bytes,
            response_sha256,
            masked: self.masked,
            upstream_request_id: self.upstream_request_id,
            duration_us: u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            failure,
        }
    }
}

/// The line stopped: record it, then refuse in the caller's protocol.
async fn stop<D: Door>(
    door: &D,
    rooms: &Rooms,
    exchange: &Exchange,
    refusal: Refusal,
    known: Known<D::Shape>,
) -> Response<Body> {
    tracing::info!(exchange = %exchange.id, reason = ?refusal.reason, detail = %refusal.detail, "refused: {}", refusal.message);
    let mut response = door.refuse(exchange, &refusal, &known.shape);
    let record = if known.intended {
        let outcome = Outcome {
            exchange: exchange.id,
            started: exchange.started,
            status: response.status(),
            error_code: Some(format!("{:?}", refusal.reason)),
            request_bytes: 0,
            upstream_request_id: None,
            masked: Vec::new(),
        };
        outcome.record(0, None, Some(refusal.to_string()))
    } else {
        let identity = known.identity;
        Record::Refused {
            exchange: exchange.id,
            session: identity.as_ref().map(|identity| identity.session),
            caller: identity.as_ref().map(|identity| identity.caller.clone()),
            door: D::KIND,
            connection: identity.map(|identity| identity.connection),
            operation: known.operation.map(Arc::unwrap_or_clone),
            decision: known.decision,
            reason: refusal.reason,
            message: refusal.to_string(),
            source_address: exchange.source.ip(),
        }
    };
    if let Err(error) = rooms.journal.record(record).await {
        tracing::error!(exchange = %exchange.id, %error, "the journal cannot record a refusal");
        // A refusal widens nothing; but say the true state of the gateway instead of the policy's words.
        let failed = Refusal::new(Reason::Internal, "the journal cannot record this request");
        response = door.refuse(exchange, &failed, &known.shape);
    }
    response
}

pub(crate) fn facts<'a>(exchange: &Exchange, identity: &'a Identity) -> Facts<'a> {
    Facts {
        connection: Some(&identity.connection),
        source_ip: exchange.source.ip(),
        now: exchange.at,
        tags: None,
        risk: None,
    }
}

pub(crate) fn digest_of(operation: &Operation) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, &operation.canonical()).as_ref());
    bytes
}

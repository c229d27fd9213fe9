//! The line of DESIGN section 2. [`walk`] reads like the list; each step takes the proof of the step before and makes
//! its own, and only this module can make them: an operation that was not decided, or whose intent is not durable,
//! cannot be forwarded because the [`Lent`] it would need does not exist.
//!
//! ```text
//! accept -> identify -> decode -> decide -> (approve) -> record intent -> lend credential
//!        -> forward -> mask -> record outcome -> answer
//! ```

mod approve;
mod consume;
mod response_cache;

use approve::{AppliedGrant, await_approval};
pub use response_cache::IdempotencyCache;

use crate::body::{BoxBody, full_body};
use crate::event_stream::mask_event_stream;
use crate::gateway_services::GatewayServices;
use crate::keep_alive::InterimResponder;
use crate::resource_tags::TagFreshness;
use crate::response_masker::{MaskedCounts, ResponseMasker};
use crate::upstream_response::{UpstreamBody, UpstreamResponse, record_outcome_at_end};
use aws_lc_rs::digest::{SHA256, digest};
use durward_approval::ApprovalRequest;
use durward_core::{Caller, Decision, ExchangeId, Operation, Refusal, RefusalReason, SessionId, Verdict};
use durward_credential::CredentialRequest;
use durward_journal::{ConsumedGrant, JournalRecord, MaskedCount};
use durward_policy::{AttributeReads, RequestContext};
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
    pub time: OffsetDateTime,
    pub started_at: Instant,
    pub user_agent: Option<String>,
    pub retry_key: RetryKey,
    /// For signs of life while people are asked.
    pub interim_responder: InterimResponder,
}

/// Which call of its client a request is an attempt of, by the client's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetryKey {
    /// Every request is one by itself: its answer names it.
    None,
    /// It may be an attempt of any.
    Unknown,
    Key(String),
}

impl RetryKey {
    pub fn known_key(&self) -> Option<&str> {
        match self {
            Self::Key(name) => Some(name),
            Self::None | Self::Unknown => None,
        }
    }
}

/// Who asks, as a door has verified it.
#[derive(Debug, Clone)]
pub struct Identity {
    pub caller: Caller,
    pub session: SessionId,
    /// When the session began: what is revoked of a caller is what began until then.
    pub session_started_at: OffsetDateTime,
    /// The connection (AWS role or MCP server) that the request is for.
    pub connection: String,
    /// From then on the credential or token that the request came with is not accepted.
    pub expires_at: OffsetDateTime,
}

/// What a door keeps of a request between decode and forward.
pub trait FrontEndRequest: Send + Sync + 'static {
    /// A digest of everything that will be sent. Taken when the operation is decided and again when it is sent.
    fn fingerprint(&self) -> [u8; 32];
    /// Gives back what memory it holds beyond its own: it may be held for an hour, as one of thousands.
    fn compact(&mut self) {}
    /// What it takes in memory, in bytes: as much as the caller sent, for what decodes to little may be long.
    fn held_bytes(&self) -> usize;
}

/// A small adapter between one protocol and the line.
pub trait FrontEnd: Send + Sync + 'static {
    type Request: FrontEndRequest;
    /// What a refusal must look like for this client, learnt as the request is read.
    type RefusalContext: Clone + Send + Sync + 'static;
    const KIND: durward_core::FrontEndKind;

    fn refusal_context(&self, head: &http::request::Parts) -> Self::RefusalContext;
    fn retry_key(&self, _head: &http::request::Parts) -> RetryKey {
        RetryKey::None
    }
    fn authenticate(
        &self,
        rooms: &GatewayServices,
        exchange: &Exchange,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<(Identity, Self::Request), Refusal>> + Send;
    fn decode(
        &self,
        rooms: &GatewayServices,
        identity: &Identity,
        wire: Self::Request,
        shape: &mut Self::RefusalContext,
    ) -> impl Future<Output = Result<(Operation, Self::Request), Refusal>> + Send;
    fn forward(
        &self,
        rooms: &GatewayServices,
        lent: Credentialed<Self::Request>,
    ) -> impl Future<Output = Result<UpstreamResponse, Refusal>> + Send;
    fn refusal_response(
        &self,
        exchange: &Exchange,
        refusal: &Refusal,
        shape: &Self::RefusalContext,
    ) -> Response<BoxBody>;
    /// Hears that people are asked about a request, before it is held for them. `Some` ends it with what its protocol has to tell
    /// a client in this case; the ask stays.
    fn approval_requested(
        &self,
        _rooms: &GatewayServices,
        _exchange: &Exchange,
        _wire: &Self::Request,
        _ask: &ApprovalRequest,
        _shape: &mut Self::RefusalContext,
    ) -> Option<Refusal> {
        None
    }
    /// Where the protocol has a word of its own for a session that is no more, the refusal gets it.
    fn session_revoked(&self, _wire: &Self::Request, _shape: &mut Self::RefusalContext) {}
    /// Whether the upstream wants an AWS credential.
    fn needs_aws_credential(&self) -> bool;
}

/// A request as accepted.
struct Received(Request<Incoming>);

/// A request whose caller is known.
struct Authenticated<W> {
    identity: Identity,
    request: W,
}

/// A request whose operation is known.
struct Decoded<W> {
    identity: Identity,
    operation: Arc<Operation>,
    request: W,
}

/// What policy made of an operation that it did not deny.
enum AuthorizationOutcome<W> {
    Authorized(Box<Authorized<W>>),
    ApprovalRequired(Box<ApprovalRequired<W>>),
}

/// An operation that policy permits if people lift what forbids it.
struct ApprovalRequired<W> {
    decoded: Decoded<W>,
    decision: Decision,
    digest: [u8; 32],
    fingerprint: [u8; 32],
    /// As it may be shown: sensitive parameters masked.
    recorded_operation: Arc<Operation>,
}

impl<W> ApprovalRequired<W> {
    fn into_authorized(self, lifted: Option<AppliedGrant>) -> Authorized<W> {
        let Self { decoded, decision, digest, fingerprint, recorded_operation: _ } = self;
        Authorized { decoded, decision, digest, fingerprint, applied_grant: lifted }
    }
}

/// An operation that policy permits, bound to its digest and to the bytes that were decided.
struct Authorized<W> {
    decoded: Decoded<W>,
    decision: Decision,
    digest: [u8; 32],
    fingerprint: [u8; 32],
    /// The approval that was used up for it.
    applied_grant: Option<AppliedGrant>,
}

/// A permitted operation whose intent is durable in the journal.
struct Recorded<W>(Authorized<W>);

/// A recorded operation with the credential to execute it: the only thing a door forwards.
pub struct Credentialed<W> {
    recorded: Recorded<W>,
    credential: Option<Arc<durward_credential::IssuedCredential>>,
}

/// What a door gets to forward.
pub struct ForwardableRequest<W> {
    pub identity: Identity,
    pub operation: Arc<Operation>,
    pub request: W,
    pub credential: Option<Arc<durward_credential::IssuedCredential>>,
}

impl<W: FrontEndRequest> Credentialed<W> {
    /// Opens the proof for sending; refuses if anything differs from what was decided (DESIGN section 12, promise 3).
    pub fn into_forwardable(self) -> Result<ForwardableRequest<W>, Refusal> {
        let Authorized {
            decoded: Decoded { identity, operation, request: wire }, digest, fingerprint, ..
        } = self.recorded.0;
        if operation_digest(&operation) != digest || wire.fingerprint() != fingerprint {
            return Err(Refusal::new(
                RefusalReason::Internal,
                "the request to be sent is not the request that was decided",
            ));
        }
        Ok(ForwardableRequest { identity, operation, request: wire, credential: self.credential })
    }
}

/// What the journal and the error shape need when the line stops, wherever it stops.
#[derive(Clone)]
pub(crate) struct RequestProgress<S> {
    pub refusal_context: S,
    pub identity: Option<Identity>,
    /// As recorded: sensitive parameters masked.
    pub operation: Option<Arc<Operation>>,
    pub decision: Option<Decision>,
    pub has_intent_recorded: bool,
    /// It may have reached the upstream.
    pub may_have_been_sent: bool,
}

/// Takes one request down the line and answers it, whatever happens.
pub async fn handle_request<D: FrontEnd>(
    door: &Arc<D>,
    rooms: &Arc<GatewayServices>,
    source: SocketAddr,
    request: Request<Incoming>,
) -> Response<BoxBody> {
    let (head, body) = request.into_parts();
    let exchange = Exchange {
        id: ExchangeId::new(),
        source,
        time: OffsetDateTime::now_utc(),
        started_at: Instant::now(),
        user_agent: head.headers.get("user-agent").and_then(|value| value.to_str().ok()).map(str::to_owned),
        retry_key: door.retry_key(&head),
        interim_responder: head.extensions.get().cloned().unwrap_or_default(),
    };
    let mut known = RequestProgress {
        refusal_context: door.refusal_context(&head),
        identity: None,
        operation: None,
        decision: None,
        has_intent_recorded: false,
        may_have_been_sent: false,
    };
    let received = Received(Request::from_parts(head, body));
    match run_pipeline(door, rooms, &exchange, received, &mut known).await {
        Ok(response) => response,
        Err(refusal) => refuse_request(&**door, rooms, &exchange, refusal, known).await,
    }
}

async fn run_pipeline<D: FrontEnd>(
    door: &Arc<D>,
    rooms: &Arc<GatewayServices>,
    exchange: &Exchange,
    received: Received,
    known: &mut RequestProgress<D::RefusalContext>,
) -> Result<Response<BoxBody>, Refusal> {
    // Boxed, all: a request that is held would carry room for all of the line.
    match Box::pin(run_until_authorized(&**door, rooms, exchange, received, known)).await? {
        AuthorizationOutcome::Authorized(permitted) => {
            Box::pin(execute_authorized(&**door, rooms, exchange, *permitted, known)).await
        }
        // It carries out what people permit.
        AuthorizationOutcome::ApprovalRequired(asked) => {
            Box::pin(await_approval(door, rooms, exchange, asked, known)).await
        }
    }
}

/// The line up to decide.
async fn run_until_authorized<D: FrontEnd>(
    door: &D,
    rooms: &GatewayServices,
    exchange: &Exchange,
    received: Received,
    known: &mut RequestProgress<D::RefusalContext>,
) -> Result<AuthorizationOutcome<D::Request>, Refusal> {
    let identified = authenticate_caller(door, rooms, exchange, received, known).await?;
    let decoded = decode_operation(door, rooms, identified, known).await?;
    authorize_operation(rooms, exchange, decoded, known).await
}

/// The line from record intent on.
async fn execute_authorized<D: FrontEnd>(
    door: &D,
    rooms: &Arc<GatewayServices>,
    exchange: &Exchange,
    permitted: Authorized<D::Request>,
    known: &mut RequestProgress<D::RefusalContext>,
) -> Result<Response<BoxBody>, Refusal> {
    known.decision = Some(permitted.decision.clone());
    let intended = record_intent::<D>(rooms, exchange, permitted, known).await?;
    let mut unfinished = OutcomeGuard {
        services: rooms.clone(),
        exchange: exchange.id,
        started_at: exchange.started_at,
        is_armed: true,
    };
    let answered = execute_recorded(door, rooms, exchange, intended, known).await;
    unfinished.is_armed = false;
    answered
}

async fn execute_recorded<D: FrontEnd>(
    door: &D,
    rooms: &Arc<GatewayServices>,
    exchange: &Exchange,
    intended: Recorded<D::Request>,
    known: &mut RequestProgress<D::RefusalContext>,
) -> Result<Response<BoxBody>, Refusal> {
    let passing = rooms.tag_reader.begin_tag_change(&intended.0.decoded.operation);
    let lent = issue_credential(door, rooms, exchange, intended).await?;
    known.may_have_been_sent = true;
    // Boxed, for it is large: a request that is held need not carry room for it.
    let answer = Box::pin(door.forward(rooms, lent)).await?;
    drop(passing);
    let masked = mask_response(rooms, exchange, answer, known)?;
    record_outcome(rooms, exchange, masked).await
}

/// An exchange that may have gone upstream and whose outcome is not on record. A caller who leaves takes its future along:
/// then this is what is left to record how it ended.
struct OutcomeGuard {
    services: Arc<GatewayServices>,
    exchange: ExchangeId,
    started_at: Instant,
    is_armed: bool,
}

impl Drop for OutcomeGuard {
    fn drop(&mut self) {
        if !self.is_armed {
            return;
        }
        let outcome = PendingOutcome {
            exchange: self.exchange,
            started_at: self.started_at,
            // What proxies log for a client that closed its connection; nobody got this answer.
            status: StatusCode::from_u16(499).unwrap_or(StatusCode::REQUEST_TIMEOUT),
            error_code: None,
            request_bytes: 0,
            upstream_request_id: None,
            masked_counts: Vec::new(),
        };
        let record =
            outcome.into_record(0, None, Some("the caller went away before the answer came".to_owned()));
        let rooms = self.services.clone();
        tokio::spawn(async move {
            if let Err(error) = rooms.journal.append(record).await {
                tracing::error!(%error, "the journal cannot record an outcome");
            }
        });
    }
}

async fn authenticate_caller<D: FrontEnd>(
    door: &D,
    rooms: &GatewayServices,
    exchange: &Exchange,
    received: Received,
    known: &mut RequestProgress<D::RefusalContext>,
) -> Result<Authenticated<D::Request>, Refusal> {
    let (identity, wire) = door.authenticate(rooms, exchange, received.0).await?;
    known.identity = Some(identity.clone());
    if let Err(refusal) =
        rooms.revocations.check_session(identity.session, &identity.caller, identity.session_started_at)
    {
        if refusal.reason == RefusalReason::InvalidToken {
            door.session_revoked(&wire, &mut known.refusal_context);
        }
        return Err(refusal);
    }
    Ok(Authenticated { identity, request: wire })
}

async fn decode_operation<D: FrontEnd>(
    door: &D,
    rooms: &GatewayServices,
    identified: Authenticated<D::Request>,
    known: &mut RequestProgress<D::RefusalContext>,
) -> Result<Decoded<D::Request>, Refusal> {
    let Authenticated { identity, request: wire } = identified;
    let (operation, wire) = door.decode(rooms, &identity, wire, &mut known.refusal_context).await?;
    let mut recorded = operation.clone();
    rooms.masker.mask_value(&mut recorded.parameters, &operation.sensitive_pointers, &|_class| false);
    // Mostly there is nothing to mask, and one copy is enough for as long as a request may be held.
    let same = recorded == operation;
    let operation = Arc::new(operation);
    known.operation = Some(if same { operation.clone() } else { Arc::new(recorded) });
    Ok(Decoded { identity, operation, request: wire })
}

async fn authorize_operation<W: FrontEndRequest, S>(
    rooms: &GatewayServices,
    exchange: &Exchange,
    decoded: Decoded<W>,
    known: &mut RequestProgress<S>,
) -> Result<AuthorizationOutcome<W>, Refusal> {
    let decision = evaluate_policy(rooms, exchange, &decoded, TagFreshness::Recent).await?;
    known.decision = Some(decision.clone());
    if decision.verdict == Verdict::Deny {
        return Err(Refusal::new(RefusalReason::AccessDenied, decision.reason));
    }
    let digest = operation_digest(&decoded.operation);
    let fingerprint = decoded.request.fingerprint();
    if decision.verdict == Verdict::RequireApproval {
        let recorded = known.operation.clone().unwrap_or_else(|| decoded.operation.clone());
        let asked = ApprovalRequired { decoded, decision, digest, fingerprint, recorded_operation: recorded };
        return Ok(AuthorizationOutcome::ApprovalRequired(Box::new(asked)));
    }
    Ok(AuthorizationOutcome::Authorized(Box::new(Authorized {
        decoded,
        decision,
        digest,
        fingerprint,
        applied_grant: None,
    })))
}

/// What policy says at this moment. What it reads beside the request itself is found out first.
async fn evaluate_policy<W>(
    rooms: &GatewayServices,
    exchange: &Exchange,
    decoded: &Decoded<W>,
    freshness: TagFreshness,
) -> Result<Decision, Refusal> {
    let Decoded { identity, operation, .. } = decoded;
    let policies = rooms.policies.current();
    let facts = request_context(exchange, identity);
    let reads = policies.attribute_reads(&identity.caller, operation, facts);
    if reads == AttributeReads::default() {
        return Ok(policies.decide_operation(&identity.caller, operation, facts));
    }
    rooms.tag_reader.refuse_unnamed_resources(rooms.catalog, &reads.unnamed_resource_actions)?;
    let mut of = reads.tag_lookup_arns;
    if reads.reads_risk && !rooms.risky_tags.is_empty() {
        of.extend(operation.resource_arns());
        of.sort_unstable();
        of.dedup();
    }
    // Boxed, for it is large and rare.
    let tags =
        Box::pin(rooms.tag_reader.read_tags(rooms, exchange, identity, operation, &of, freshness)).await?;
    let risk = if reads.reads_risk {
        Some(rooms.assess_operation_risk(&identity.caller, operation, &tags).await?.score)
    } else {
        None
    };
    let facts = RequestContext { tags: Some(&tags), risk, ..facts };
    Ok(policies.decide_operation(&identity.caller, operation, facts))
}

async fn record_intent<D: FrontEnd>(
    rooms: &GatewayServices,
    exchange: &Exchange,
    permitted: Authorized<D::Request>,
    known: &mut RequestProgress<D::RefusalContext>,
) -> Result<Recorded<D::Request>, Refusal> {
    let identity = &permitted.decoded.identity;
    let record = JournalRecord::Intent {
        exchange: exchange.id,
        session: Some(identity.session),
        caller: Some(identity.caller.clone()),
        front_end: D::KIND,
        connection: identity.connection.clone(),
        operation: Operation::clone(known.operation.as_ref().unwrap_or(&permitted.decoded.operation)),
        digest: durward_core::encode_hex(&permitted.digest),
        decision: permitted.decision.clone(),
        source_address: exchange.source.ip(),
        user_agent: exchange.user_agent.clone(),
        grant: permitted.applied_grant.as_ref().map(|lifted| ConsumedGrant {
            approval_request: lifted.approval_request.to_string(),
            approvers: lifted.approvers.clone(),
            time_bound: lifted.is_time_bound,
            break_glass: lifted.is_break_glass,
        }),
        caused_by: None,
    };
    rooms.journal.append_durable(record).await.map_err(|error| {
        Refusal::new(RefusalReason::Internal, "the journal cannot record this request, so it was not sent")
            .with_detail(error)
    })?;
    known.has_intent_recorded = true;
    rooms.first_seen.record_operation(&permitted.decoded.identity.caller, &permitted.decoded.operation);
    Ok(Recorded(permitted))
}

async fn issue_credential<D: FrontEnd>(
    door: &D,
    rooms: &GatewayServices,
    exchange: &Exchange,
    intended: Recorded<D::Request>,
) -> Result<Credentialed<D::Request>, Refusal> {
    if !door.needs_aws_credential() {
        return Ok(Credentialed { recorded: intended, credential: None });
    }
    let Decoded { identity, operation, .. } = &intended.0.decoded;
    let connection = rooms.find_connection(&identity.connection)?;
    let ask = CredentialRequest {
        connection,
        caller: &identity.caller,
        session: identity.session,
        exchange: exchange.id,
        operation,
    };
    let credential = rooms.credential_issuer.issue_credential(&ask).await.map_err(|error| {
        Refusal::new(RefusalReason::Upstream, "the gateway could not obtain a credential for this operation")
            .with_detail(error)
    })?;
    let record = JournalRecord::CredentialIssued {
        exchange: exchange.id,
        access_key_id: credential.access_key_id.clone(),
        scope: credential.scope,
        session_policy_sha256: credential.policy_sha256.clone(),
        expires: credential.expires_at,
    };
    rooms.journal.append(record).await.map_err(|error| {
        Refusal::new(RefusalReason::Internal, "the journal cannot record this request, so it was not sent")
            .with_detail(error)
    })?;
    Ok(Credentialed { recorded: intended, credential: Some(credential) })
}

/// An answer that the caller may see.
struct MaskedResponse {
    response: UpstreamResponse,
    masked_counts: Vec<MaskedCount>,
    masker: ResponseMasker,
}

fn mask_response<S>(
    rooms: &Arc<GatewayServices>,
    exchange: &Exchange,
    mut answer: UpstreamResponse,
    known: &mut RequestProgress<S>,
) -> Result<MaskedResponse, Refusal> {
    let mut counts = MaskedCounts::default();
    // An outcome, which is all that can still be recorded, does not name the caller.
    let viewer = ResponseMasker {
        services: rooms.clone(),
        exchange: exchange.clone(),
        identity: known.identity.take(),
    };
    viewer.mask_response(&mut answer, &mut counts)?;
    Ok(MaskedResponse { response: answer, masked_counts: counts.into_list(), masker: viewer })
}

async fn record_outcome(
    rooms: &Arc<GatewayServices>,
    exchange: &Exchange,
    masked: MaskedResponse,
) -> Result<Response<BoxBody>, Refusal> {
    let MaskedResponse { response: answer, masked_counts: counts, masker: viewer } = masked;
    let outcome = PendingOutcome {
        exchange: exchange.id,
        started_at: exchange.started_at,
        status: answer.head.status,
        error_code: answer.error_code.clone(),
        request_bytes: answer.request_bytes,
        upstream_request_id: answer.upstream_request_id.clone(),
        masked_counts: counts,
    };
    // An empty object is not polled for by whoever sends it on: its outcome is recorded here.
    let body = match answer.body {
        UpstreamBody::Stream(body) if body.is_end_stream() => UpstreamBody::empty(),
        body => body,
    };
    match body {
        UpstreamBody::Buffered { bytes, .. } => {
            let sha256 = Some(durward_core::encode_hex(digest(&SHA256, &bytes).as_ref()));
            let record = outcome.into_record(bytes.len() as u64, sha256, None);
            rooms.journal.append(record).await.map_err(|error| {
                Refusal::new(
                    RefusalReason::Internal,
                    "the journal cannot record the answer, so it is withheld",
                )
                .with_detail(error)
            })?;
            Ok(Response::from_parts(answer.head, full_body(bytes)))
        }
        UpstreamBody::Stream(body) => {
            Ok(Response::from_parts(answer.head, record_outcome_at_end(body, rooms.clone(), outcome)))
        }
        UpstreamBody::Events(events) => {
            Ok(Response::from_parts(answer.head, mask_event_stream(events, viewer, outcome)))
        }
    }
}

/// An outcome whose last figures are known when the answer ends.
pub(crate) struct PendingOutcome {
    exchange: ExchangeId,
    started_at: Instant,
    status: StatusCode,
    error_code: Option<String>,
    request_bytes: u64,
    upstream_request_id: Option<String>,
    masked_counts: Vec<MaskedCount>,
}

impl PendingOutcome {
    /// Adds what is known of an answer only when it has ended.
    pub fn complete_stream(&mut self, masked: MaskedCounts, error_code: Option<String>) {
        self.masked_counts = masked.merge(std::mem::take(&mut self.masked_counts)).into_list();
        self.error_code = error_code;
    }

    pub fn into_record(
        self,
        response_bytes: u64,
        response_sha256: Option<String>,
        failure: Option<String>,
    ) -> JournalRecord {
        JournalRecord::Outcome {
            exchange: self.exchange,
            status: self.status.as_u16(),
            error_code: self.error_code,
            request_bytes: self.request_bytes,
            response_bytes,
            response_sha256,
            masked: self.masked_counts,
            upstream_request_id: self.upstream_request_id,
            duration_us: u64::try_from(self.started_at.elapsed().as_micros()).unwrap_or(u64::MAX),
            failure,
        }
    }
}

/// The line stopped: record it, then refuse in the caller's protocol.
async fn refuse_request<D: FrontEnd>(
    door: &D,
    rooms: &GatewayServices,
    exchange: &Exchange,
    refusal: Refusal,
    known: RequestProgress<D::RefusalContext>,
) -> Response<BoxBody> {
    tracing::info!(exchange = %exchange.id, reason = ?refusal.reason, detail = %refusal.detail, "refused: {}", refusal.message);
    let mut response = door.refusal_response(exchange, &refusal, &known.refusal_context);
    let record = if known.has_intent_recorded {
        let outcome = PendingOutcome {
            exchange: exchange.id,
            started_at: exchange.started_at,
            status: response.status(),
            error_code: Some(format!("{:?}", refusal.reason)),
            request_bytes: 0,
            upstream_request_id: None,
            masked_counts: Vec::new(),
        };
        outcome.into_record(0, None, Some(refusal.to_string()))
    } else {
        let identity = known.identity;
        JournalRecord::Refused {
            exchange: exchange.id,
            session: identity.as_ref().map(|identity| identity.session),
            caller: identity.as_ref().map(|identity| identity.caller.clone()),
            front_end: D::KIND,
            connection: identity.map(|identity| identity.connection),
            operation: known.operation.map(Arc::unwrap_or_clone),
            decision: known.decision,
            reason: refusal.reason,
            message: refusal.to_string(),
            source_address: exchange.source.ip(),
        }
    };
    if let Err(error) = rooms.journal.append(record).await {
        tracing::error!(exchange = %exchange.id, %error, "the journal cannot record a refusal");
        // A refusal widens nothing; but say the true state of the gateway instead of the policy's words.
        let failed = Refusal::new(RefusalReason::Internal, "the journal cannot record this request");
        response = door.refusal_response(exchange, &failed, &known.refusal_context);
    }
    response
}

pub(crate) fn request_context<'a>(exchange: &Exchange, identity: &'a Identity) -> RequestContext<'a> {
    RequestContext {
        connection: Some(&identity.connection),
        source_ip: exchange.source.ip(),
        now: exchange.time,
        tags: None,
        risk: None,
    }
}

pub(crate) fn operation_digest(operation: &Operation) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, &operation.canonical_json()).as_ref());
    bytes
}

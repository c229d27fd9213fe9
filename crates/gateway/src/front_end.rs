//! The adapter between one wire protocol and the pipeline.
//!
//! A front end speaks its protocol and nothing else: it verifies the caller of a request, reads the operation in it, sends it
//! upstream and writes refusals. It never decides. Its methods have other names than the pipeline's steps, which call them.

use crate::body::BoxBody;
use crate::exchange::{Exchange, Identity, RetryKey};
use crate::pipeline::Forwardable;
use crate::upstream_response::UpstreamResponse;
use durward_approval::ApprovalRequest;
use durward_core::{ExchangeId, FrontEndKind, Operation, Refusal};
use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use std::future::Future;

/// The path of the health check, at the address of each front end. No bucket name begins with a dot (S3 User Guide, "Bucket
/// naming rules"), so no S3 request has it.
pub const HEALTH_PATH: &str = "/.durward/health";

/// One protocol, plugged into the pipeline.
pub trait FrontEnd: Send + Sync + 'static {
    const KIND: FrontEndKind;
    /// True if requests go upstream with an AWS credential that the gateway issues.
    const NEEDS_AWS_CREDENTIAL: bool;
    type Request: FrontEndRequest;

    /// The context of a refusal when nothing is known about the request but its head.
    fn refusal_context(&self, head: &Parts) -> RefusalContextOf<Self>;

    /// The client's key for the attempts of one call.
    fn retry_key(&self, _head: &Parts) -> RetryKey {
        RetryKey::None
    }

    /// Verifies the proof of identity that the request carries, and nothing else.
    fn verify_caller(
        &self,
        exchange: &Exchange,
        request: Request<Incoming>,
        refusal_context: RefusalContextOf<Self>,
    ) -> impl Future<Output = Result<(Identity, Self::Request), ProtocolRefusal<RefusalContextOf<Self>>>> + Send;

    /// Refuses a verified request that is not admitted: the refusal counts for its session.
    fn check_admission(
        &self,
        _exchange: &Exchange,
        _identity: &Identity,
        _request: &Self::Request,
    ) -> Result<(), Refusal> {
        Ok(())
    }

    /// Reads the operation that the request contains. A request that opens a session gets an identity with that session.
    fn read_operation(
        &self,
        exchange: &Exchange,
        identity: Identity,
        request: Self::Request,
    ) -> impl Future<Output = Result<ReadOperation<Self::Request>, ProtocolRefusal<RefusalContextOf<Self>>>> + Send;

    /// Called when approval has been requested, before the request is held. `Some` refuses the request at once, in the
    /// protocol's own form for "a person must look at this"; the approval request stays.
    fn approval_notice(
        &self,
        _exchange: &Exchange,
        _identity: &Identity,
        _request: &Self::Request,
        _approval_request: &ApprovalRequest,
    ) -> Option<ProtocolRefusal<RefusalContextOf<Self>>> {
        None
    }

    /// Sends what was decided, and reads the head of the response.
    fn send_upstream(
        &self,
        exchange: &Exchange,
        forwardable: Forwardable<Self::Request>,
    ) -> impl Future<Output = Result<UpstreamResponse, Refusal>> + Send;

    /// A refusal in the client's protocol.
    fn write_refusal(
        &self,
        exchange: ExchangeId,
        refusal: &Refusal,
        context: &RefusalContextOf<Self>,
    ) -> Response<BoxBody>;
}

/// A request in its protocol's form, between authenticate and forward.
pub trait FrontEndRequest: Send + Sync + 'static {
    /// The facts that a refusal of this request is written with: its encoding, its id.
    type RefusalContext: Clone + Send + Sync + 'static;

    fn refusal_context(&self) -> Self::RefusalContext;

    /// The context for a session that was revoked, where the protocol has an error of its own for that. The id of the request may
    /// still be unread.
    fn revoked_session_context(self) -> impl Future<Output = Self::RefusalContext> + Send
    where
        Self: Sized,
    {
        let context = self.refusal_context();
        async move { context }
    }

    /// A digest of everything that will be sent. Taken when the operation is decided and again when it is sent.
    fn fingerprint(&self) -> [u8; 32];

    /// Gives back memory beyond what is needed to send it: it may be held for an hour, as one of thousands.
    fn compact(&mut self) {}

    /// The memory that it takes, in bytes: at least what the caller sent, for what decodes to little may be long.
    fn held_bytes(&self) -> usize;
}

/// The refusal context of a front end.
pub type RefusalContextOf<F> = <<F as FrontEnd>::Request as FrontEndRequest>::RefusalContext;

/// A request whose operation was read.
pub struct ReadOperation<R> {
    pub identity: Identity,
    pub operation: Operation,
    pub request: R,
}

/// A refusal with the context that its protocol needs to write it.
pub struct ProtocolRefusal<C> {
    pub refusal: Refusal,
    /// `None`: the head of the request is all that is known.
    pub context: Option<C>,
}

impl<C> ProtocolRefusal<C> {
    pub fn new(refusal: Refusal, context: C) -> Self {
        Self { refusal, context: Some(context) }
    }
}

impl<C> From<Refusal> for ProtocolRefusal<C> {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, context: None }
    }
}

//! decode: from bytes to the operation in them. A request that cannot be read unambiguously is refused, never guessed.

use super::StepResult;
use super::authenticate::Authenticated;
use super::stopped::Stopped;
use crate::exchange::{Exchange, Identity};
use crate::front_end::{FrontEnd, FrontEndRequest, ProtocolRefusal, ReadOperation};
use crate::response_masker::ResponseMasker;
use durward_core::{Decision, Operation, Refusal};
use durward_identity::Revocations;
use std::sync::Arc;

/// A request whose operation is known.
pub struct Decoded<R> {
    identity: Arc<Identity>,
    operation: Arc<Operation>,
    /// As it may be shown and recorded: sensitive parameters masked.
    recorded_operation: Arc<Operation>,
    request: R,
}

pub(super) async fn decode<F: FrontEnd>(
    front_end: &F,
    masker: &ResponseMasker,
    revocations: &Revocations,
    exchange: &Exchange,
    authenticated: Authenticated<F::Request>,
) -> StepResult<Decoded<F::Request>, F> {
    let (authenticated, request) = authenticated.into_parts();
    let read = front_end.read_operation(exchange, Identity::clone(&authenticated), request).await;
    let ReadOperation { identity, operation, request } =
        read.map_err(|ProtocolRefusal { refusal, context }| {
            Stopped::identified(refusal, context, authenticated.clone())
        })?;
    // Authenticate checked the session that the head of the request names; the message may belong to another.
    if identity.session != authenticated.session
        && let Err(refusal) =
            revocations.check_session(identity.session, &identity.caller, identity.valid_since)
    {
        let context = request.revoked_session_context().await;
        return Err(Stopped::identified(refusal, Some(context), Arc::new(identity)));
    }
    let masked = masker.mask_parameters(&operation);
    let operation = Arc::new(operation);
    // Mostly there is nothing to mask, and one copy is enough for as long as a request may be held.
    let recorded_operation = masked.map_or_else(|| operation.clone(), Arc::new);
    Ok(Decoded { identity: Arc::new(identity), operation, recorded_operation, request })
}

impl<R> Decoded<R> {
    pub(crate) fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    pub(crate) fn operation(&self) -> &Arc<Operation> {
        &self.operation
    }

    pub(crate) fn recorded_operation(&self) -> &Arc<Operation> {
        &self.recorded_operation
    }

    pub(crate) fn request(&self) -> &R {
        &self.request
    }

    pub(super) fn request_mut(&mut self) -> &mut R {
        &mut self.request
    }

    pub(super) fn into_parts(self) -> (Arc<Identity>, Arc<Operation>, R) {
        (self.identity, self.operation, self.request)
    }
}

impl<R: FrontEndRequest> Decoded<R> {
    /// Stops the request, which was not sent.
    pub(super) fn stop(
        &self,
        refusal: Refusal,
        decision: Option<&Decision>,
    ) -> Box<Stopped<R::RefusalContext>> {
        Stopped::with_operation(
            refusal,
            self.request.refusal_context(),
            self.identity.clone(),
            self.recorded_operation.clone(),
            decision,
        )
    }
}

//! authenticate: the caller of the request, as its front end has verified it, and the check that it was not revoked.

use super::stopped::Stopped;
use super::{Received, StepResult};
use crate::aws_client::AwsClient;
use crate::exchange::{Exchange, Identity};
use crate::front_end::{FrontEnd, FrontEndRequest, ProtocolRefusal, RefusalContextOf};
use durward_core::RefusalReason;
use durward_identity::Revocations;
use std::sync::Arc;

/// A request whose caller is known and not revoked.
pub struct Authenticated<R> {
    identity: Arc<Identity>,
    request: R,
}

pub(super) async fn authenticate<F: FrontEnd>(
    front_end: &F,
    revocations: &Revocations,
    aws_client: &AwsClient,
    exchange: &Exchange,
    received: Received,
    refusal_context: RefusalContextOf<F>,
) -> StepResult<Authenticated<F::Request>, F> {
    let (identity, request) = front_end
        .verify_caller(exchange, received.0, refusal_context)
        .await
        .map_err(|ProtocolRefusal { refusal, context }| Stopped::unidentified(refusal, context))?;
    let identity = Arc::new(identity);
    if let Err(refusal) = revocations.check_session(identity.session, &identity.caller, identity.valid_since)
    {
        // A credential that was issued to an ended session must not stay in a cache until it expires.
        aws_client.forget_session(identity.session);
        let is_revoked = refusal.reason == RefusalReason::InvalidToken;
        let context =
            if is_revoked { request.revoked_session_context().await } else { request.refusal_context() };
        return Err(Stopped::identified(refusal, Some(context), identity));
    }
    match front_end.check_admission(exchange, &identity, &request) {
        Ok(()) => Ok(Authenticated { identity, request }),
        Err(refusal) => Err(Stopped::identified(refusal, Some(request.refusal_context()), identity)),
    }
}

impl<R> Authenticated<R> {
    pub(super) fn into_parts(self) -> (Arc<Identity>, R) {
        (self.identity, self.request)
    }
}

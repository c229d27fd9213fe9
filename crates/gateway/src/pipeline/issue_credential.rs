//! issue credential: cut to the decoded operation, recorded, and the only way to any AWS call.

use super::StepResult;
use super::consume_grant::Permitted;
use super::forwardable::Forwardable;
use super::record_intent::Recorded;
use super::stopped::Stopped;
use crate::aws_client::AwsClient;
use crate::exchange::Exchange;
use crate::front_end::{FrontEnd, FrontEndRequest};
use crate::outcome::PendingOutcome;
use durward_credential::IssuedCredential;
use std::sync::Arc;

/// A recorded operation with the credential to execute it: the only thing that is forwarded.
pub struct Credentialed<R> {
    recorded: Recorded<R>,
    credential: Option<Arc<IssuedCredential>>,
}

pub(super) async fn issue_credential<F: FrontEnd>(
    aws_client: &AwsClient,
    exchange: &Exchange,
    permitted: Permitted<F::Request>,
) -> StepResult<Credentialed<F::Request>, F> {
    let recorded = permitted.into_recorded();
    if !F::NEEDS_AWS_CREDENTIAL {
        return Ok(Credentialed { recorded, credential: None });
    }
    let decoded = recorded.bound().decoded();
    let issued = aws_client.issue_for_operation(exchange, decoded.identity(), decoded.operation()).await;
    match issued {
        Ok(credential) => Ok(Credentialed { recorded, credential: Some(credential) }),
        Err(refusal) => Err(recorded.stop(refusal)),
    }
}

/// The request to send, and the parts with which its outcome is recorded.
pub(super) type OpenedProof<R> = (Forwardable<R>, <R as FrontEndRequest>::RefusalContext, PendingOutcome);

impl<R: FrontEndRequest> Credentialed<R> {
    /// Opens the proof for sending; refuses if anything differs from what was decided.
    pub(super) fn open(self) -> Result<OpenedProof<R>, Box<Stopped<R::RefusalContext>>> {
        let Self { recorded, credential } = self;
        let context = recorded.bound().decoded().request().refusal_context();
        let (bound, pending) = recorded.into_parts();
        let decoded = match bound.into_unchanged() {
            Ok(decoded) => decoded,
            Err(refusal) => return Err(Stopped::after_intent(refusal, context, pending)),
        };
        let (identity, operation, request) = decoded.into_parts();
        Ok((Forwardable::new(identity, operation, request, credential), context, pending))
    }
}

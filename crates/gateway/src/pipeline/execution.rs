//! The one execution of a consumed grant, and the attempts that share it.

use super::decode::Decoded;
use super::idempotency_cache::{ExecutionEnd, RunningExecution, store_response};
use super::stopped::Stopped;
use crate::body::BoxBody;
use crate::exchange::{Exchange, RetryKey};
use durward_approval::ApprovalRequestId;
use durward_core::Decision;
use http::Response;

/// An attempt whose grant another attempt consumed.
pub(super) struct ExecutedElsewhere<R> {
    pub decoded: Decoded<R>,
    pub decision: Decision,
    pub digest: [u8; 32],
}

/// Returns true if attempts of one operation may share a response: not if the response names its request, and not if the attempts
/// may differ in a part that was not inspected.
pub(super) fn is_shareable<R>(exchange: &Exchange, decoded: &Decoded<R>) -> bool {
    exchange.retry_key != RetryKey::None && decoded.operation().body_sha256.is_some()
}

/// The one execution of a consumed grant, which other attempts of the same call wait for.
pub(super) struct Execution {
    pub running: RunningExecution,
    pub approval_request: ApprovalRequestId,
    pub is_shared: bool,
    pub policy_set: String,
}

impl Execution {
    /// Ends it before its grant was consumed: other attempts, and the caller's next one, may still use the grant.
    pub fn abandon<C>(self, stopped: &mut Stopped<C>) {
        self.running.finish(ExecutionEnd::NotConsumed);
        stopped.refusal.message = format!(
            "{}; its grant was not consumed [approval request {}]: while it is good, the same request can be sent again",
            stopped.refusal.message, self.approval_request
        );
    }

    /// Tells other attempts how the execution ended, and returns its result.
    pub async fn share<C>(
        self,
        result: Result<Response<BoxBody>, Box<Stopped<C>>>,
    ) -> Result<Response<BoxBody>, Box<Stopped<C>>> {
        let Self { running, approval_request, is_shared, policy_set } = self;
        match result {
            Ok(response) if is_shared => {
                let (response, end) = store_response(response, policy_set).await;
                running.finish(end);
                Ok(response)
            }
            Ok(response) => {
                running.finish(ExecutionEnd::NotStored);
                Ok(response)
            }
            Err(mut stopped) => {
                let (end, advice) = if stopped.may_have_been_sent() {
                    (ExecutionEnd::Unknown, "may have been executed: check before requesting approval again")
                } else {
                    (ExecutionEnd::NotSent, "was not sent: request approval again")
                };
                running.finish(end);
                stopped.refusal.message = format!(
                    "{}; its grant is consumed [approval request {approval_request}], and this {advice}",
                    stopped.refusal.message
                );
                Err(stopped)
            }
        }
    }
}

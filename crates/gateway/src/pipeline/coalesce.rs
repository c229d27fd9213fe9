//! A retry gets the response of the attempt that was executed. Nothing is executed here.

use super::StepResult;
use super::approval_step::ApprovalStep;
use super::execution::{ExecutedElsewhere, is_shareable};
use super::idempotency_cache::{CacheEntry, ExecutionEnd, StoredResponse};
use crate::body::BoxBody;
use crate::exchange::Exchange;
use crate::front_end::FrontEnd;
use crate::outcome::withheld_response;
use durward_core::{Operation, Refusal, RefusalReason, encode_hex};
use durward_journal::JournalRecord;
use http::Response;
use std::time::Duration;
use tokio::time::Instant;

impl ApprovalStep {
    /// The stored response of the execution, when it is there.
    pub(super) async fn coalesce<F: FrontEnd>(
        &self,
        exchange: &Exchange,
        attempt: &ExecutedElsewhere<F::Request>,
        execution: &CacheEntry,
    ) -> StepResult<Response<BoxBody>, F> {
        self.stored_response::<F>(exchange, attempt, execution)
            .await
            .map_err(|refusal| attempt.decoded.stop(refusal, Some(&attempt.decision)))
    }

    async fn stored_response<F: FrontEnd>(
        &self,
        exchange: &Exchange,
        attempt: &ExecutedElsewhere<F::Request>,
        execution: &CacheEntry,
    ) -> Result<Response<BoxBody>, Refusal> {
        let (id, executed_by) = (execution.approval_request, execution.executed_by);
        let refused = |what: String| {
            Refusal::new(
                RefusalReason::ApprovalRequired,
                format!("{}; approval request {id} was approved, and {what}", attempt.decision.reason),
            )
        };
        if !is_shareable(exchange, &attempt.decoded) {
            return Err(refused(format!(
                "exchange {executed_by} consumed its grant; the response belongs to that request alone; this one was not \
                 executed"
            )));
        }
        let permit = self.holder.admit(&attempt.decoded);
        // Without a permit, only a response that is there already.
        let end = Instant::now() + if permit.is_some() { self.holder.hold_timeout() } else { Duration::ZERO };
        let ended = tokio::time::timeout_at(end, execution.wait_for_end());
        let identity = attempt.decoded.identity();
        let Ok(ended) = self.holder.wait_while_connected(exchange, identity, ended).await? else {
            return Err(refused(format!(
                "exchange {executed_by} is still executing it; it is not executed twice: send the same request again for \
                 its response"
            )));
        };
        let executed = |why: &str| {
            refused(format!(
                "exchange {executed_by} executed it once; its response {why}, and it is not executed again"
            ))
        };
        match ended {
            ExecutionEnd::Responded(stored) => {
                let now = exchange.at_current_time();
                let may_reveal = |class: &str| self.response_masker.may_reveal(&now, identity, class);
                if !stored.is_valid_for(self.policies.current().version(), may_reveal) {
                    return Err(executed("was masked by policies that have changed since"));
                }
                self.record_coalesced::<F>(exchange, attempt, execution, &stored).await?;
                Ok(stored.to_response())
            }
            ExecutionEnd::NotStored => Err(executed("was too large to be stored or came as a stream")),
            ExecutionEnd::Unknown => Err(refused(format!(
                "exchange {executed_by} may have executed it: no response came back, and it is not executed again; check \
                 before requesting approval again"
            ))),
            ExecutionEnd::NotConsumed => Err(refused(format!(
                "exchange {executed_by} could not use its grant, so it was not executed; send the same request again"
            ))),
            ExecutionEnd::NotSent => Err(refused(format!(
                "exchange {executed_by} consumed its grant but could not send it, so it was not executed; request approval \
                 again"
            ))),
        }
    }

    /// Records the response before it goes out; if that fails, it does not go out.
    async fn record_coalesced<F: FrontEnd>(
        &self,
        exchange: &Exchange,
        attempt: &ExecutedElsewhere<F::Request>,
        execution: &CacheEntry,
        stored: &StoredResponse,
    ) -> Result<(), Refusal> {
        let identity = attempt.decoded.identity();
        let record = JournalRecord::Coalesced {
            exchange: exchange.id,
            approval_request: execution.approval_request.to_string(),
            executed_by: execution.executed_by,
            session: identity.session,
            caller: identity.caller.clone(),
            front_end: F::KIND,
            connection: identity.connection.clone(),
            operation: Operation::clone(attempt.decoded.recorded_operation()),
            digest: encode_hex(&attempt.digest),
            decision: attempt.decision.clone(),
            source_address: exchange.source.ip(),
            user_agent: exchange.user_agent.clone(),
            status: stored.status.as_u16(),
            response_bytes: stored.bytes.len() as u64,
            duration_us: exchange.elapsed_micros(),
        };
        self.journal.append(record).await.map_err(|error| withheld_response(&error))
    }
}

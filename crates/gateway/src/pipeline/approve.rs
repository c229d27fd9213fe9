//! approve: an operation that policy requires approval for is parked until people have decided. The step gives the same proof
//! that authorize gives, and never finishes a request.
//!
//! A grant is consumed at most once, for exactly the operation that it was given for, and only if it overrides every forbid that
//! requires approval at that moment: policy is evaluated again when the waiting ends, for an approval is no reason to skip a
//! policy that was written meanwhile (docs/adr/0003-reauthorize-after-approval.md). The caller is held open for a while, so that
//! a quick vote looks like a slow call; after that the refusal names the approval request, and the same request passes once when
//! it is approved.

use super::StepResult;
use super::approval_step::{ApprovalStep, approvals_unavailable};
use super::authorize::{ApprovalRequired, Authorization, Authorizer};
use super::claim_grant::{ApprovalOutcome, GrantClaim};
use super::stopped::Stopped;
use crate::connect_policy::decide_connect;
use crate::exchange::{Exchange, Identity};
use crate::front_end::{FrontEnd, FrontEndRequest};
use durward_approval::{
    ApprovalRequest, ApprovalRequestError, ApprovalRequestId, ApprovalState, NewApprovalRequest,
};
use durward_core::{Decision, Operation, Refusal, RefusalReason, Verdict, encode_hex};
use durward_journal::JournalRecord;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::time::Instant;

/// Added to the wait for a request's deadline, so that the expiry sweep has ended the request by then.
const DEADLINE_SLACK: Duration = Duration::from_millis(100);

impl ApprovalStep {
    pub(super) async fn approve<F: FrontEnd>(
        &self,
        front_end: &F,
        authorizer: &Authorizer,
        exchange: &Exchange,
        required: Box<ApprovalRequired<F::Request>>,
    ) -> StepResult<ApprovalOutcome<F::Request>, F> {
        // Mostly there is no grant yet. That is checked first, without the memory that claiming one takes.
        let mut required = if Box::pin(self.is_undecided(exchange, &required)).await? {
            required
        } else {
            match Box::pin(self.authorize_and_claim(authorizer, exchange, required, None)).await? {
                GrantClaim::Outcome(outcome) => return Ok(outcome),
                GrantClaim::NoGrant(required) => required,
            }
        };
        required.request_mut().compact();
        let request = Box::pin(self.request_approval::<F>(authorizer, exchange, &required)).await?;
        if request.state == ApprovalState::Pending
            && let Some(notice) = front_end.approval_notice(
                exchange,
                required.decoded().identity(),
                required.decoded().request(),
                &request,
            )
        {
            let stopped = required.stop(notice.refusal);
            return Err(stopped.with_context(notice.context));
        }
        let request = match self.holder.admit(required.decoded()) {
            Some(_permit) => self.hold_until_decided(exchange, &required, request).await?,
            None => Arc::new(request),
        };
        match request.state {
            ApprovalState::Approved | ApprovalState::Consumed => {
                Box::pin(self.claim_after_vote(authorizer, exchange, required, request.id)).await
            }
            state => Err(required.stop(self.undecided_refusal(state, &request, required.decision()))),
        }
    }

    /// The refusal of a request that was not approved while it was held.
    fn undecided_refusal(
        &self,
        state: ApprovalState,
        request: &ApprovalRequest,
        decision: &Decision,
    ) -> Refusal {
        let (reason, link) = (&decision.reason, self.links.describe(request.id));
        match state {
            ApprovalState::Denied => denial_refusal(request),
            ApprovalState::TimedOut | ApprovalState::Expired => Refusal::new(
                RefusalReason::ApprovalRequired,
                format!("{reason}; it was not approved in time: {link}"),
            ),
            ApprovalState::Corrupt => {
                approvals_unavailable(format!("approval request {} is corrupt", request.id))
            }
            ApprovalState::Pending | ApprovalState::Approved | ApprovalState::Consumed => Refusal::new(
                RefusalReason::ApprovalRequired,
                format!(
                    "{reason}; the approval is pending: {link}; send the same request again once it is approved"
                ),
            ),
        }
    }

    /// Returns true if no earlier attempt of this call was executed and there is no grant for it. Nothing is consumed.
    async fn is_undecided<R: FrontEndRequest>(
        &self,
        exchange: &Exchange,
        required: &ApprovalRequired<R>,
    ) -> Result<bool, Box<Stopped<R::RefusalContext>>> {
        let key = required.cache_key();
        if self.executions.find_entry_locked(&key, exchange.retry_key.known_key(), None).await.is_some() {
            return Ok(false);
        }
        let requirements =
            self.requirements(required.decision()).map_err(|refusal| required.stop(refusal))?;
        let query = required.grant_query(&requirements);
        let grant = self
            .approvals
            .find_grant(&query)
            .await
            .map_err(|error| required.stop(approvals_unavailable(error)))?;
        Ok(grant.is_none())
    }

    /// People have approved: the policies of this moment decide what the grant must override; then it is claimed, unless another
    /// attempt has.
    async fn claim_after_vote<R: FrontEndRequest>(
        &self,
        authorizer: &Authorizer,
        exchange: &Exchange,
        required: Box<ApprovalRequired<R>>,
        id: ApprovalRequestId,
    ) -> Result<ApprovalOutcome<R>, Box<Stopped<R::RefusalContext>>> {
        let now = exchange.at_current_time();
        self.check_still_admitted(&now, required.decoded().identity())
            .map_err(|refusal| required.stop(refusal))?;
        match self.authorize_and_claim(authorizer, &now, required, Some(id)).await? {
            GrantClaim::Outcome(outcome) => Ok(outcome),
            GrantClaim::NoGrant(required) => {
                let refusal = Refusal::new(
                    RefusalReason::ApprovalRequired,
                    format!(
                        "{}; approval request {id} was approved, but its grant was consumed by another request or does \
                         not cover what forbids this one now",
                        required.decision().reason
                    ),
                );
                Err(required.stop(refusal))
            }
        }
    }

    async fn authorize_and_claim<R: FrontEndRequest>(
        &self,
        authorizer: &Authorizer,
        exchange: &Exchange,
        required: Box<ApprovalRequired<R>>,
        waited_for: Option<ApprovalRequestId>,
    ) -> Result<GrantClaim<R>, Box<Stopped<R::RefusalContext>>> {
        match authorizer.authorize_again(exchange, *required).await? {
            Authorization::ApprovalRequired(required) => {
                self.claim_grant(exchange, *required, waited_for).await
            }
            Authorization::Authorized(authorized) => {
                let (key, retry_key) = (authorized.cache_key(), exchange.retry_key.known_key());
                if let Some(entry) = self.executions.find_entry_locked(&key, retry_key, waited_for).await {
                    let attempt = Box::new(authorized.into_attempt());
                    return Ok(GrantClaim::Outcome(ApprovalOutcome::ExecutedElsewhere(attempt, entry)));
                }
                // Policy allows it without the grant, which would otherwise stay good for the same operation sent again.
                if let Some(id) = waited_for {
                    let cancelled = self.approvals.cancel_unneeded_grant(id).await;
                    cancelled.map_err(|error| {
                        let refusal = approvals_unavailable(error);
                        authorized.decoded().stop(refusal, Some(authorized.decision()))
                    })?;
                }
                Ok(GrantClaim::Outcome(ApprovalOutcome::Authorized(authorized)))
            }
        }
    }

    /// Much may have happened while the request was held: its credential expired, its session was revoked, policy closed the
    /// connection.
    fn check_still_admitted(&self, now: &Exchange, identity: &Identity) -> Result<(), Refusal> {
        self.holder.check_not_revoked(identity)?;
        if now.time >= identity.expires_at {
            return Err(Refusal::new(
                RefusalReason::ExpiredToken,
                "the credential expired while the request waited for approval: sign in again and send it again",
            ));
        }
        let connect =
            decide_connect(&self.policies, &identity.caller, &identity.connection, now.source.ip(), now.time);
        if connect.verdict == Verdict::Allow {
            return Ok(());
        }
        let text = format!("{} may no longer use `{}`", identity.caller.id(), identity.connection);
        Err(Refusal::new(RefusalReason::AccessDenied, text).with_detail(connect.reason))
    }

    /// Requests approval, or joins the pending request of the same operation.
    async fn request_approval<F: FrontEnd>(
        &self,
        authorizer: &Authorizer,
        exchange: &Exchange,
        required: &ApprovalRequired<F::Request>,
    ) -> StepResult<ApprovalRequest, F> {
        self.create_approval_request::<F>(authorizer, exchange, required)
            .await
            .map_err(|refusal| required.stop(refusal))
    }

    async fn create_approval_request<F: FrontEnd>(
        &self,
        authorizer: &Authorizer,
        exchange: &Exchange,
        required: &ApprovalRequired<F::Request>,
    ) -> Result<ApprovalRequest, Refusal> {
        let (decoded, decision) = (required.decoded(), required.decision());
        let identity = decoded.identity();
        let (risk, tags) = authorizer.assess_for_approvers(exchange, required).await?;
        let new = NewApprovalRequest {
            caller: identity.caller.clone(),
            session: identity.session,
            connection: identity.connection.clone(),
            exchange: exchange.id,
            operation: Operation::clone(decoded.recorded_operation()),
            digest: *required.digest(),
            requirements: self.requirements(decision)?,
            risk,
            tags,
            reason: decision.reason.clone(),
            policy_set: decision.policy_set.clone(),
            source_address: exchange.source.ip(),
            user_agent: exchange.user_agent.clone(),
        };
        let request = self.approvals.request_approval(new).await.map_err(|error| match error {
            ApprovalRequestError::Store(error) => approvals_unavailable(error),
            error => Refusal::new(RefusalReason::ApprovalRequired, format!("{}; {error}", decision.reason)),
        })?;
        let record = JournalRecord::ApprovalRequested {
            exchange: exchange.id,
            approval_request: request.id.to_string(),
            session: identity.session,
            caller: identity.caller.clone(),
            front_end: F::KIND,
            connection: identity.connection.clone(),
            operation: Operation::clone(decoded.recorded_operation()),
            digest: encode_hex(required.digest()),
            decision: decision.clone(),
            source_address: exchange.source.ip(),
        };
        self.journal.append(record).await.map_err(|error| error.refusal())?;
        Ok(request)
    }

    /// Waits for the decision. The approval request stays when the client leaves or is sent away: other attempts may wait for it.
    async fn hold_until_decided<R: FrontEndRequest>(
        &self,
        exchange: &Exchange,
        required: &ApprovalRequired<R>,
        request: ApprovalRequest,
    ) -> Result<Arc<ApprovalRequest>, Box<Stopped<R::RefusalContext>>> {
        let time_left = (request.deadline - OffsetDateTime::now_utc()).try_into().unwrap_or(Duration::ZERO);
        let end = Instant::now() + self.holder.hold_timeout().min(time_left + DEADLINE_SLACK);
        let mut waiter = Box::pin(self.approvals.end_waiter(request.id))
            .await
            .map_err(|error| required.stop(approvals_unavailable(error)))?;
        // Every attempt that waits for it shares the waiter's copy.
        drop(request);
        let ended = self
            .holder
            .wait_while_connected(exchange, required.decoded().identity(), waiter.wait_until(end))
            .await
            .map_err(|refusal| required.stop(refusal))?;
        Ok(ended.unwrap_or_else(|| waiter.current_request()))
    }
}

fn denial_refusal(request: &ApprovalRequest) -> Refusal {
    let denial = request.votes.iter().rev().find(|vote| !vote.is_approval);
    let by = denial.map_or_else(String::new, |vote| format!(" by {}", vote.by.id));
    let why =
        denial.and_then(|vote| vote.reason.as_deref()).map_or_else(String::new, |why| format!(": {why}"));
    Refusal::new(
        RefusalReason::AccessDenied,
        format!("{}; denied{by}{why} [approval request {}]", request.details.reason, request.id),
    )
}

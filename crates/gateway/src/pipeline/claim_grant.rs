//! The claim to a grant: the part of approve that gives this attempt the grant, or the response of the attempt that has it.
//!
//! A claim consumes nothing. The grant is consumed once the intent is durable (`consume_grant`).

use super::approval_step::{ApprovalStep, approvals_unavailable};
use super::authorize::{ApprovalRequired, Authorized};
use super::execution::{ExecutedElsewhere, Execution, is_shareable};
use super::idempotency_cache::{CacheEntry, CacheKey};
use super::stopped::Stopped;
use crate::exchange::Exchange;
use crate::front_end::FrontEndRequest;
use durward_approval::{ApprovalRequestId, ApprovalRequirement, Grant, GrantQuery};
use std::sync::Arc;
use std::time::Instant;

/// The result of approve when it does not refuse.
pub(super) enum ApprovalOutcome<R> {
    Authorized(Box<Authorized<R>>),
    /// Another attempt of the same call has the grant: its response is this attempt's, too.
    ExecutedElsewhere(Box<ExecutedElsewhere<R>>, Arc<CacheEntry>),
}

/// The result of an attempt to claim a grant.
pub(super) enum GrantClaim<R> {
    Outcome(ApprovalOutcome<R>),
    /// There is no grant for this operation, so approval must be requested.
    NoGrant(Box<ApprovalRequired<R>>),
}

/// A grant that covers an operation, and the requirements that it must still meet when it is consumed.
pub(super) struct ClaimedGrant {
    pub grant: Grant,
    pub requirements: Vec<ApprovalRequirement>,
}

impl<R> ApprovalRequired<R> {
    pub(super) fn cache_key(&self) -> CacheKey {
        CacheKey { session: self.decoded().identity().session, digest: *self.digest() }
    }
}

impl<R> Authorized<R> {
    pub(super) fn cache_key(&self) -> CacheKey {
        CacheKey { session: self.decoded().identity().session, digest: *self.digest() }
    }
}

impl<R: FrontEndRequest> ApprovalRequired<R> {
    /// The question for a grant for this request.
    pub(super) fn grant_query<'a>(&'a self, requirements: &'a [ApprovalRequirement]) -> GrantQuery<'a> {
        let identity = self.decoded().identity();
        GrantQuery::new(
            &identity.caller,
            &identity.connection,
            self.decoded().operation(),
            self.digest(),
            requirements,
        )
    }
}

impl ApprovalStep {
    /// Claims a grant for this request, unless another attempt has. `waited_for` is the request that it was held for.
    pub(super) async fn claim_grant<R: FrontEndRequest>(
        &self,
        exchange: &Exchange,
        required: ApprovalRequired<R>,
        waited_for: Option<ApprovalRequestId>,
    ) -> Result<GrantClaim<R>, Box<Stopped<R::RefusalContext>>> {
        let (key, retry_key) = (required.cache_key(), exchange.retry_key.known_key());
        // Under this lock nobody else claims a grant of this operation between the lookup and the new entry.
        let _lock = self.executions.lock_key(&key).await;
        if let Some(entry) = self.executions.find_entry(&key, retry_key, waited_for, Instant::now()) {
            let attempt = Box::new(required.into_attempt());
            return Ok(GrantClaim::Outcome(ApprovalOutcome::ExecutedElsewhere(attempt, entry)));
        }
        let requirements =
            self.requirements(required.decision()).map_err(|refusal| required.stop(refusal))?;
        let query = required.grant_query(&requirements);
        let found = self.approvals.find_grant(&query).await;
        let found = found.map_err(|error| required.stop(approvals_unavailable(error)))?;
        let Some(grant) = found.filter(|grant| !self.executions.is_claimed(grant.approval_request)) else {
            return Ok(GrantClaim::NoGrant(Box::new(required)));
        };
        let (approval_request, is_time_bound) = (grant.approval_request, grant.time_bound);
        let is_shared = is_shareable(exchange, required.decoded());
        let authorized = required.into_authorized(ClaimedGrant { grant, requirements });
        if is_time_bound {
            // It stays good until its time, so there is nothing that attempts must share.
            return Ok(GrantClaim::Outcome(ApprovalOutcome::Authorized(Box::new(authorized))));
        }
        let policy_set = authorized.decision().policy_set.clone();
        let running = self.executions.begin_execution(
            key,
            retry_key.map(str::to_owned),
            approval_request,
            exchange.id,
            Instant::now(),
        );
        let execution = Execution { running, approval_request, is_shared, policy_set };
        let authorized = Box::new(authorized.with_execution(execution));
        Ok(GrantClaim::Outcome(ApprovalOutcome::Authorized(authorized)))
    }
}

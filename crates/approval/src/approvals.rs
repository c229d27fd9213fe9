//! The asks, the answers, and the one way to use an approval, for the other rooms.

use crate::approval_request_row::{caller_binding, distinct_actions};
use crate::ledger::{ApprovalLedger, upsert_and_load_user, user_row};
use crate::subscriptions::EndWaiter;
use crate::{
    ApprovalRequest, ApprovalRequestError, ApprovalRequestFilter, ApprovalRequestId, ApprovalRequirement,
    ApprovalState, Approver, Clock, Grant, NewApprovalRequest, VoteChoice, VoteError, expiry_sweep,
    size_limits,
};
use durward_core::{Caller, Operation};
use durward_store::{Store, StoreError};
use std::{sync::Arc, time::Duration};
use tokio::sync::broadcast;

/// The most that one list gives.
const MAX_LISTED_REQUESTS: usize = 1_000;

/// What is allowed at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalLimits {
    /// Asks of one caller that wait for people.
    pub max_pending_per_caller: usize,
    /// Asks of everybody that wait for people.
    pub max_pending_total: usize,
    /// How long an approval may wait for its use.
    pub grant_ttl: Duration,
    /// Who may use break-glass; none: nobody.
    pub break_glass_group: Option<String>,
    /// The longest window a person may open.
    pub max_time_bound: Duration,
}

impl Default for ApprovalLimits {
    fn default() -> Self {
        Self {
            max_pending_per_caller: 20,
            max_pending_total: 1_000,
            grant_ttl: Duration::from_mins(10),
            break_glass_group: None,
            max_time_bound: Duration::from_hours(8),
        }
    }
}

/// All asks and answers. Put it in an `Arc`.
pub struct Approvals {
    pub(crate) ledger: Arc<ApprovalLedger>,
    expiry_sweep: tokio::task::JoinHandle<()>,
}

impl Drop for Approvals {
    fn drop(&mut self) {
        self.expiry_sweep.abort();
    }
}

impl Approvals {
    /// Reads what is stored and starts to keep it; needs a Tokio runtime.
    pub async fn open(store: Store, limits: ApprovalLimits, clock: Clock) -> Result<Self, StoreError> {
        let ledger = Arc::new(ApprovalLedger::open(store, limits, clock).await?);
        let keeper = tokio::spawn(expiry_sweep::run_sweep(Arc::downgrade(&ledger)));
        Ok(Self { ledger, expiry_sweep: keeper })
    }

    /// Asks people. A repeat of what already waits joins it; what was just denied stays denied.
    pub async fn request_approval(
        &self,
        mut new: NewApprovalRequest,
    ) -> Result<ApprovalRequest, ApprovalRequestError> {
        if new.requirements.is_empty() {
            return Err(ApprovalRequestError::NoRequirements);
        }
        size_limits::enforce_size_limits(&mut new)?;
        // boxed, so that a held request is small while it waits
        if let Some(ask) = Box::pin(self.ledger.join_existing(&new)).await? {
            return Ok(ask);
        }
        Box::pin(self.ledger.create_request(new)).await
    }

    /// Waits for an ask for as long as a request likes.
    pub async fn end_waiter(&self, id: ApprovalRequestId) -> Result<EndWaiter, StoreError> {
        EndWaiter::subscribe(&self.ledger, id).await
    }

    /// Returns as soon as the ask is not pending, or at `until` as it is then.
    pub async fn wait_for_end(
        &self,
        id: ApprovalRequestId,
        until: tokio::time::Instant,
    ) -> Result<ApprovalRequest, StoreError> {
        match self.end_waiter(id).await?.wait_until(until).await {
            Some(ask) => Ok(ApprovalRequest::clone(&ask)),
            None => Box::pin(self.get(id)).await?.ok_or(StoreError::NotFound),
        }
    }

    /// Takes a person's answer.
    pub async fn cast_vote(
        &self,
        id: ApprovalRequestId,
        by: &Approver,
        answer: VoteChoice,
    ) -> Result<ApprovalRequest, VoteError> {
        let ask = self.ledger.cast_vote(id, by, answer).await?;
        self.ledger.announce_changes().await;
        Ok(ask)
    }

    /// Ends an approval that is not needed any more: policy allows its operation without it, and it was sent so.
    pub async fn cancel_unneeded_grant(&self, id: ApprovalRequestId) -> Result<(), StoreError> {
        self.ledger.cancel_unneeded_grant(id).await?;
        self.ledger.announce_changes().await;
        Ok(())
    }

    /// Uses an approval, once, or a window for this operation, if it lifts every forbid in `required` (the requirements of
    /// the decision made now), is not expired, and enough of its approvers still are in their groups. None otherwise.
    pub async fn consume_grant(
        &self,
        caller: &Caller,
        connection: &str,
        operation: &Operation,
        digest: &[u8; 32],
        required: &[ApprovalRequirement],
    ) -> Result<Option<Grant>, StoreError> {
        let Some(grant) = self.find_grant(caller, connection, operation, digest, required).await? else {
            return Ok(None);
        };
        if grant.time_bound {
            self.ledger.add_counts(grant.approval_request, 0, 1);
            return Ok(Some(grant));
        }
        let bound_to = caller_binding(caller);
        let grant = self.ledger.consume_once(&bound_to, connection, operation, digest, required).await?;
        self.ledger.announce_changes().await;
        Ok(grant)
    }

    /// What [`Approvals::take`] would use now; nothing is used.
    pub async fn find_grant(
        &self,
        caller: &Caller,
        connection: &str,
        operation: &Operation,
        digest: &[u8; 32],
        required: &[ApprovalRequirement],
    ) -> Result<Option<Grant>, StoreError> {
        let bound_to = caller_binding(caller);
        let mut transaction = self.ledger.store.begin_read().await?;
        let now = self.ledger.clock.now();
        let grant =
            self.ledger.find_grant(&mut transaction, &bound_to, connection, operation, digest, required, now);
        Ok(grant.await?.map(|(_ask, _change, grant)| grant))
    }

    pub async fn get(&self, id: ApprovalRequestId) -> Result<Option<ApprovalRequest>, StoreError> {
        self.ledger.find_request(id).await
    }

    /// Newest first; a damaged one is in every list that its row is in. An ask whose time has just ended is in no state's list until that is written, half a second later.
    pub async fn list(&self, filter: ApprovalRequestFilter) -> Result<Vec<ApprovalRequest>, StoreError> {
        let limit = filter.limit.min(MAX_LISTED_REQUESTS) as i64;
        let mut states: Vec<&str> = filter.states.iter().map(|state| state.as_str()).collect();
        states.sort_unstable();
        states.dedup();
        let mut transaction = self.ledger.store.begin_read().await?;
        let rows = transaction.list_approval_requests(&states, filter.caller.as_deref(), limit).await?;
        let mut asks = self.ledger.current_requests(&rows);
        let wanted = |state: ApprovalState| state == ApprovalState::Corrupt || filter.states.contains(&state);
        asks.retain(|ask| filter.states.is_empty() || wanted(ask.state));
        Ok(asks)
    }

    /// Earlier asks for the same actions, by anybody, newest first.
    pub async fn similar_requests(
        &self,
        ask: &ApprovalRequest,
        limit: usize,
    ) -> Result<Vec<ApprovalRequest>, StoreError> {
        let actions = distinct_actions(&ask.details.operation);
        let mut transaction = self.ledger.store.begin_read().await?;
        let rows = transaction
            .similar_approval_requests(&actions, &ask.id.to_string(), limit.min(MAX_LISTED_REQUESTS) as i64)
            .await?;
        Ok(self.ledger.current_requests(&rows))
    }

    /// The id of each ask that changes, after the change is on disk. Who lags misses some, and should list anew.
    pub fn subscribe_changes(&self) -> broadcast::Receiver<ApprovalRequestId> {
        self.ledger.subscriptions.subscribe_changes()
    }

    /// Notes the groups a person has now. Approvals are judged by the latest.
    pub async fn upsert_user(&self, person: &Approver) -> Result<(), StoreError> {
        size_limits::check_approver_size(person)
            .map_err(|(what, limit)| StoreError::Database(format!("{what} is longer than {limit} bytes")))?;
        // a console calls this for every page: nothing is written unless something changed
        let known = self.ledger.store.begin_read().await?.find_user(&person.id).await?;
        let seen = user_row(person)?;
        if known.is_some_and(|known| known == seen || known.groups_as_of > seen.groups_as_of) {
            return Ok(());
        }
        let (mut transaction, _now) = self.ledger.begin_write().await?;
        upsert_and_load_user(&mut transaction, person).await?;
        transaction.commit().await
    }
}

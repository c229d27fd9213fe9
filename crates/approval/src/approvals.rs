//! The interface of this crate: request an approval, vote, wait for the decision, consume the grant.

use crate::binding::distinct_actions;
use crate::end_waiter::EndWaiter;
use crate::ledger::{ApprovalLedger, store_approver, user_row};
use crate::size_limits::{TooLong, check_approver_size, enforce_size_limits};
use crate::{
    ApprovalLimits, ApprovalRequest, ApprovalRequestError, ApprovalRequestFilter, ApprovalRequestId,
    ApprovalState, Approver, Clock, Grant, GrantQuery, NewApprovalRequest, UpsertUserError, VoteChoice,
    VoteError, expiry_sweep,
};
use durward_core::ExchangeId;
use durward_store::{Store, StoreError};
use std::sync::Arc;
use tokio::sync::broadcast;

/// Approval requests in one list.
const MAX_LISTED_REQUESTS: usize = 1_000;

/// All approval requests of a store. Share it in an `Arc`.
pub struct Approvals {
    pub(crate) ledger: Arc<ApprovalLedger>,
    expiry_sweep: tokio::task::JoinHandle<()>,
}

impl Drop for Approvals {
    fn drop(&mut self) {
        // Dropping a `JoinHandle` detaches the task and does not end it.
        self.expiry_sweep.abort();
    }
}

impl Approvals {
    /// Opens the approvals in a store and starts their expiry sweep; needs a Tokio runtime.
    pub async fn open(store: Store, limits: ApprovalLimits, clock: Clock) -> Result<Self, StoreError> {
        let ledger = Arc::new(ApprovalLedger::open(store, limits, clock).await?);
        let expiry_sweep = tokio::spawn(expiry_sweep::run_sweep(Arc::downgrade(&ledger)));
        Ok(Self { ledger, expiry_sweep })
    }

    /// Requests an approval. A repeat of a pending request joins it; a repeat of one that was just denied stays denied.
    pub async fn request_approval(
        &self,
        mut new: NewApprovalRequest,
    ) -> Result<ApprovalRequest, ApprovalRequestError> {
        if new.requirements.is_empty() {
            return Err(ApprovalRequestError::NoRequirements);
        }
        enforce_size_limits(&mut new)?;
        // Boxed, so that the future of a held request stays small while it waits.
        if let Some(request) = Box::pin(self.ledger.join_existing(&new)).await? {
            return Ok(request);
        }
        Box::pin(self.ledger.create_request(new)).await
    }

    /// A waiter for the decision on a request.
    pub async fn end_waiter(&self, id: ApprovalRequestId) -> Result<EndWaiter, StoreError> {
        EndWaiter::subscribe(&self.ledger, id).await
    }

    /// Casts the vote of a person.
    pub async fn cast_vote(
        &self,
        id: ApprovalRequestId,
        by: &Approver,
        choice: VoteChoice,
    ) -> Result<ApprovalRequest, VoteError> {
        self.cast_vote_with_comment(id, by, choice, None).await
    }

    /// Casts the vote of a person who may say something with an approval. A denial and break-glass have their reasons instead.
    pub async fn cast_vote_with_comment(
        &self,
        id: ApprovalRequestId,
        by: &Approver,
        choice: VoteChoice,
        comment: Option<String>,
    ) -> Result<ApprovalRequest, VoteError> {
        let request = self.ledger.cast_vote(id, by, choice, comment).await?;
        self.ledger.announce_changes().await;
        Ok(request)
    }

    /// Returns true if this gateway holds a request of a caller that waits for the decision. Another replica may hold one, too.
    pub fn is_awaited(&self, id: ApprovalRequestId) -> bool {
        self.ledger.subscriptions.has_subscribers(id)
    }

    /// Ends a single-use grant that is no longer needed: policy now allows the operation, and it passed without the grant.
    pub async fn cancel_unneeded_grant(&self, id: ApprovalRequestId) -> Result<(), StoreError> {
        self.ledger.cancel_unneeded_grant(id).await?;
        self.ledger.announce_changes().await;
        Ok(())
    }

    /// The grant that covers every forbid in the query's requirements (those of the decision made now) with enough approvers who
    /// are still in their groups. Nothing is consumed.
    pub async fn find_grant(&self, query: &GrantQuery<'_>) -> Result<Option<Grant>, StoreError> {
        self.ledger.find_grant(query).await
    }

    /// Consumes a single-use grant that was found for this operation, or counts a use of a time-bound one. `false`: it does not
    /// cover the operation any more, because it was consumed, withdrawn or ended meanwhile, or somebody has left a group.
    pub async fn consume_grant(
        &self,
        grant: &Grant,
        query: &GrantQuery<'_>,
        exchange: ExchangeId,
    ) -> Result<bool, StoreError> {
        if grant.time_bound {
            self.ledger.add_counts(grant.approval_request, 0, 1);
            return Ok(true);
        }
        let is_consumed = self.ledger.consume_once(grant.approval_request, query, exchange).await?;
        if is_consumed {
            self.ledger.announce_changes().await;
        }
        Ok(is_consumed)
    }

    pub async fn get(&self, id: ApprovalRequestId) -> Result<Option<ApprovalRequest>, StoreError> {
        self.ledger.find_request(id).await
    }

    /// Approval requests, newest first. A corrupt one is in every list that its row is in. One whose time has just ended is in
    /// the list of neither state until the expiry sweep writes it, at most half a second later.
    pub async fn list(&self, filter: ApprovalRequestFilter) -> Result<Vec<ApprovalRequest>, StoreError> {
        let limit = filter.limit.min(MAX_LISTED_REQUESTS) as i64;
        let mut states: Vec<&str> = filter.states.iter().map(|state| state.as_str()).collect();
        states.sort_unstable();
        states.dedup();
        let mut transaction = self.ledger.store.begin_read().await?;
        let rows = transaction.list_approval_requests(&states, filter.caller.as_deref(), limit).await?;
        let mut requests = self.ledger.current_requests(&rows);
        let is_wanted =
            |state: ApprovalState| state == ApprovalState::Corrupt || filter.states.contains(&state);
        requests.retain(|request| filter.states.is_empty() || is_wanted(request.state));
        Ok(requests)
    }

    /// Earlier requests of any caller for the same actions, newest first.
    pub async fn similar_requests(
        &self,
        request: &ApprovalRequest,
        limit: usize,
    ) -> Result<Vec<ApprovalRequest>, StoreError> {
        let actions = distinct_actions(&request.details.operation);
        let limit = limit.min(MAX_LISTED_REQUESTS) as i64;
        let mut transaction = self.ledger.store.begin_read().await?;
        let rows = transaction.similar_approval_requests(&actions, &request.id.to_string(), limit).await?;
        Ok(self.ledger.current_requests(&rows))
    }

    /// The id of each request that changes, after the change is on disk. A receiver that lags misses some and must list again.
    pub fn subscribe_changes(&self) -> broadcast::Receiver<ApprovalRequestId> {
        self.ledger.subscriptions.subscribe_changes()
    }

    /// Stores the current groups of a person. Votes count by the latest groups.
    pub async fn upsert_user(&self, approver: &Approver) -> Result<(), UpsertUserError> {
        check_approver_size(approver)
            .map_err(|TooLong { field, limit }| UpsertUserError::TooLong { field, limit })?;
        self.store_newer_user(approver, true).await
    }

    /// Stores what a provider now says about a person who voted or signed in before, and nothing about anybody else: a membership
    /// that ended must end the person's votes, also if the person may no longer use the console.
    pub async fn update_known_user(&self, approver: &Approver) -> Result<(), UpsertUserError> {
        check_approver_size(approver)
            .map_err(|TooLong { field, limit }| UpsertUserError::TooLong { field, limit })?;
        self.store_newer_user(approver, false).await
    }

    async fn store_newer_user(&self, approver: &Approver, adds_user: bool) -> Result<(), UpsertUserError> {
        // The console calls this for every page: nothing is written unless something changed.
        let stored = self.ledger.store.begin_read().await?.find_user(&approver.id).await?;
        let row = user_row(approver)?;
        let is_newer =
            stored.map_or(adds_user, |stored| stored != row && stored.groups_as_of <= row.groups_as_of);
        if !is_newer {
            return Ok(());
        }
        let (mut transaction, _now) = self.ledger.begin_write().await?;
        store_approver(&mut transaction, approver).await?;
        Ok(transaction.commit().await?)
    }
}

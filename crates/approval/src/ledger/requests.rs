//! Creating approval requests and voting on them.

use super::users::store_approver;
use super::{ApprovalLedger, update_request};
use crate::approval_request_row::to_row;
use crate::binding::caller_binding;
use crate::clock::add_duration;
use crate::grant::GrantQuery;
use crate::lifecycle::{expire_if_due, expire_now, new_approval_request};
use crate::{
    ApprovalEventKind, ApprovalLimits, ApprovalRequest, ApprovalRequestError, ApprovalRequestId,
    ApprovalRequirement, ApprovalState, Approver, NewApprovalRequest, PendingLimitScope, VoteChoice,
    VoteError, voting,
};
use durward_core::Caller;
use durward_core::limits::DENIAL_TTL;
use durward_core::timestamps::to_unix_millis;
use durward_store::{ApprovalRequestRow, RequestOwner, StoreError, StoreTransaction};

/// Returns true if the votes on `request` can decide everything that is required now. `grant::evaluate_grant` checks the same for
/// the votes that were cast.
fn is_covered_by(request: &ApprovalRequest, required: &[ApprovalRequirement]) -> bool {
    required.iter().all(|requirement| {
        request.details.requirements.iter().any(|shown| {
            shown.policy == requirement.policy
                // Votes of another group, or fewer of them, could not satisfy what policy requires by now: a new request replaces
                // this one.
                && shown.group == requirement.group
                && shown.quorum >= requirement.quorum
        })
    })
}

/// Returns true if a repeat of the operation joins this request instead of creating one.
fn is_reusable(request: &ApprovalRequest, now: i64) -> bool {
    match request.state {
        ApprovalState::Pending => true,
        ApprovalState::Denied => {
            request.last_denial().is_some_and(|vote| now < add_duration(to_unix_millis(vote.at), DENIAL_TTL))
        }
        _ => false,
    }
}

impl ApprovalLedger {
    /// The request that a repeat joins, without writing. The limits are checked here too, so that a flood stops before the
    /// write lock.
    pub(crate) async fn join_existing(
        &self,
        new: &NewApprovalRequest,
    ) -> Result<Option<ApprovalRequest>, ApprovalRequestError> {
        let mut transaction = self.store.begin_read().await?;
        let row = transaction
            .latest_approval_request(&caller_binding(&new.caller), &new.connection, &new.digest)
            .await?;
        let is_pending_row = row.as_ref().is_some_and(|row| row.state == ApprovalState::Pending.as_str());
        let latest = row.and_then(|row| self.current_request(&row));
        // The new request replaces a pending one, also a corrupt one, and so does not add to the count.
        let replaces_pending = latest.as_ref().is_some_and(|request| match request.state {
            ApprovalState::Pending => true,
            ApprovalState::Corrupt => is_pending_row,
            _ => false,
        });
        if let Some(request) = latest
            && let Some(joined) = self.join_if_reusable(request, new, self.clock.now())
        {
            return Ok(Some(joined));
        }
        if !replaces_pending {
            self.check_pending_limits(&mut transaction, &new.caller).await?;
        }
        Ok(None)
    }

    /// The request with one more attempt, if `new` can join it.
    fn join_if_reusable(
        &self,
        mut request: ApprovalRequest,
        new: &NewApprovalRequest,
        now: i64,
    ) -> Option<ApprovalRequest> {
        if !is_reusable(&request, now) || !is_covered_by(&request, &new.requirements) {
            return None;
        }
        self.add_counts(request.id, 1, 0);
        request.attempts = request.attempts.saturating_add(1);
        Some(request)
    }

    async fn check_pending_limits(
        &self,
        transaction: &mut StoreTransaction,
        caller: &Caller,
    ) -> Result<(), ApprovalRequestError> {
        let ApprovalLimits { max_pending_per_caller, max_pending_per_provider, max_pending_total, .. } =
            self.limits;
        let caller_id = caller.id();
        for (owner, limit, scope) in [
            (RequestOwner::Caller(&caller_id), max_pending_per_caller, PendingLimitScope::Caller),
            (RequestOwner::Provider(&caller.provider), max_pending_per_provider, PendingLimitScope::Provider),
            (RequestOwner::Anyone, max_pending_total, PendingLimitScope::Gateway),
        ] {
            let count = transaction.count_pending_requests(owner).await?;
            if usize::try_from(count).unwrap_or(usize::MAX) >= limit {
                return Err(ApprovalRequestError::TooManyPending { limit, scope });
            }
        }
        Ok(())
    }

    pub(crate) async fn create_request(
        &self,
        new: NewApprovalRequest,
    ) -> Result<ApprovalRequest, ApprovalRequestError> {
        let (mut transaction, now) = self.begin_write().await?;
        let query =
            GrantQuery::new(&new.caller, &new.connection, &new.operation, &new.digest, &new.requirements);
        // Again, under the write lock: another task may have created or decided a request since the first look.
        let latest =
            transaction.latest_approval_request(&query.caller_binding, &new.connection, &new.digest).await?;
        if let Some(row) = latest {
            if let Some(request) = self.current_request(&row)
                && let Some(joined) = self.join_if_reusable(request, &new, now)
            {
                return Ok(joined);
            }
            if row.state == ApprovalState::Pending.as_str() {
                self.end_pending(&mut transaction, &row, now).await?;
            }
        }
        // The request may have been approved since the decision: the caller uses that grant instead of waiting for a second
        // approval.
        if let Some(found) = self.find_grant_in(&mut transaction, &query, now).await? {
            return Ok(found.request);
        }
        self.check_pending_limits(&mut transaction, &new.caller).await?;
        let request = new_approval_request(new, now);
        transaction.insert_approval_request(&to_row(&request, 0)?).await?;
        transaction.commit().await?;
        self.announce_changes().await;
        Ok(request)
    }

    /// Ends a pending request that a new one for the same operation replaces: its time is over, or policies now require
    /// something else.
    async fn end_pending(
        &self,
        transaction: &mut StoreTransaction,
        row: &ApprovalRequestRow,
        now: i64,
    ) -> Result<(), StoreError> {
        let Some(mut request) = self.corruption_log.decode_row(row) else {
            return transaction.mark_request_corrupt(&row.id).await;
        };
        let note = "superseded: the policies that require approval have changed";
        expire_now(&mut request, ApprovalEventKind::Superseded, note, now);
        update_request(transaction, &request, row.change_number, ApprovalState::Pending).await
    }

    pub(crate) async fn cast_vote(
        &self,
        id: ApprovalRequestId,
        by: &Approver,
        choice: VoteChoice,
        comment: Option<String>,
    ) -> Result<ApprovalRequest, VoteError> {
        let (mut transaction, now) = self.begin_write().await?;
        let Some(row) = transaction.find_approval_request(&id.to_string()).await? else {
            return Err(VoteError::NotFound);
        };
        let Some(mut request) = self.corruption_log.decode_row(&row) else {
            return Err(VoteError::NotPending(ApprovalState::Corrupt));
        };
        let from = request.state;
        expire_if_due(&mut request, now);
        let breaks_glass = matches!(choice, VoteChoice::BreakGlass { .. });
        // A session from before a person left a group still claims the membership: the newest groups count.
        let by = &store_approver(&mut transaction, by).await?;
        voting::apply_vote(&mut request, by, choice, comment, &self.limits, now)?;
        update_request(&mut transaction, &request, row.change_number, from).await?;
        if request.state == ApprovalState::Denied {
            self.withdraw_other_grants(&mut transaction, &row, &request, now).await?;
        }
        transaction.commit().await?;
        if breaks_glass {
            tracing::warn!(approval_request = %id, by = %by.id, "break-glass used; review it");
        }
        Ok(request)
    }

    /// Ends every other unused grant for the denied operation. There can be an older one that did not cover what policies
    /// required when the denied request was made.
    async fn withdraw_other_grants(
        &self,
        transaction: &mut StoreTransaction,
        row: &ApprovalRequestRow,
        denied: &ApprovalRequest,
        now: i64,
    ) -> Result<(), StoreError> {
        for other in transaction
            .other_approved_requests(&row.caller_binding, &row.connection, &row.digest, &row.id)
            .await?
        {
            if let Some(mut older) = self.corruption_log.decode_row(&other) {
                voting::withdraw_grant(&mut older, denied, now);
                update_request(transaction, &older, other.change_number, ApprovalState::Approved).await?;
            }
        }
        Ok(())
    }
}

//! Finding and consuming grants.

use super::users::load_membership;
use super::{ApprovalLedger, update_request};
use crate::grant::{GrantQuery, evaluate_grant};
use crate::lifecycle::expire_now;
use crate::{ApprovalEventKind, ApprovalRequest, ApprovalRequestId, ApprovalState, Grant};
use durward_core::ExchangeId;
use durward_store::{ApprovalRequestRow, StoreError, StoreTransaction};

/// A grant with its request and the version of its row.
pub(super) struct FoundGrant {
    pub(super) grant: Grant,
    pub(super) request: ApprovalRequest,
    change_number: i64,
}

impl ApprovalLedger {
    /// The grant that covers this operation now.
    pub(crate) async fn find_grant(&self, query: &GrantQuery<'_>) -> Result<Option<Grant>, StoreError> {
        let mut transaction = self.store.begin_read().await?;
        let found = self.find_grant_in(&mut transaction, query, self.clock.now()).await?;
        Ok(found.map(|found| found.grant))
    }

    pub(super) async fn find_grant_in(
        &self,
        transaction: &mut StoreTransaction,
        query: &GrantQuery<'_>,
        now: i64,
    ) -> Result<Option<FoundGrant>, StoreError> {
        let rows =
            transaction.usable_grants(&query.caller_binding, query.connection, query.digest, now).await?;
        for row in rows {
            if let Some(found) = self.evaluate_row(transaction, &row, query, now).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Consumes the single-use grant of a request for this operation. Everything is read again, because only now the write lock is
    /// held. The event names the exchange: of two intents in the journal with one grant, it tells which was executed.
    pub(crate) async fn consume_once(
        &self,
        id: ApprovalRequestId,
        query: &GrantQuery<'_>,
        exchange: ExchangeId,
    ) -> Result<bool, StoreError> {
        let (mut transaction, now) = self.begin_write().await?;
        let found = self.find_grant_of_request(&mut transaction, id, query, now).await?;
        let Some(mut found) = found.filter(|found| !found.grant.time_bound) else { return Ok(false) };
        let caller = found.request.details.caller.id();
        found.request.state = ApprovalState::Consumed;
        found.request.uses = 1;
        let note = format!("exchange {exchange}");
        found.request.push_event(ApprovalEventKind::Consumed, Some(&caller), Some(note), now);
        let FoundGrant { request, change_number, .. } = &found;
        update_request(&mut transaction, request, *change_number, ApprovalState::Approved).await?;
        transaction.commit().await?;
        Ok(true)
    }

    async fn find_grant_of_request(
        &self,
        transaction: &mut StoreTransaction,
        id: ApprovalRequestId,
        query: &GrantQuery<'_>,
        now: i64,
    ) -> Result<Option<FoundGrant>, StoreError> {
        let Some(row) = transaction.find_approval_request(&id.to_string()).await? else { return Ok(None) };
        self.evaluate_row(transaction, &row, query, now).await
    }

    async fn evaluate_row(
        &self,
        transaction: &mut StoreTransaction,
        row: &ApprovalRequestRow,
        query: &GrantQuery<'_>,
        now: i64,
    ) -> Result<Option<FoundGrant>, StoreError> {
        // A corrupt row grants nothing, and it must not hide a valid grant behind it.
        let Some(request) = self.corruption_log.decode_row(row) else { return Ok(None) };
        let membership = load_membership(transaction, &request).await?;
        let break_glass_group = self.limits.break_glass_group.as_deref();
        let grant = evaluate_grant(&request, query, &membership, break_glass_group, now);
        Ok(grant.map(|grant| FoundGrant { grant, request, change_number: row.change_number }))
    }

    /// Ends a single-use grant whose operation passed without it.
    pub(crate) async fn cancel_unneeded_grant(&self, id: ApprovalRequestId) -> Result<(), StoreError> {
        let (mut transaction, now) = self.begin_write().await?;
        let row = transaction.find_approval_request(&id.to_string()).await?.ok_or(StoreError::NotFound)?;
        let Some(mut request) = self.corruption_log.decode_row(&row) else { return Ok(()) };
        // A time-bound grant is for a time, not for one operation.
        if request.state != ApprovalState::Approved || request.time_bound {
            return Ok(());
        }
        let note = "policy now allows it without approval";
        expire_now(&mut request, ApprovalEventKind::Expired, note, now);
        update_request(&mut transaction, &request, row.change_number, ApprovalState::Approved).await?;
        transaction.commit().await
    }
}

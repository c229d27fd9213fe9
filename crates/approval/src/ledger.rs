//! Every change of an ask, each one transaction that is on disk before anybody hears of it.
//!
//! An approval moves from approved to used under the store's only write lock and only from the version that was judged, so of
//! two that race one gets nothing.

use crate::approval_request_row::{caller_binding, expire_if_due, new_approval_request, to_row};
use crate::clock::{MonotonicClock, add_duration};
use crate::corruption::{self, CorruptionLog};
use crate::grant::{evaluate_grant, load_membership};
use crate::subscriptions::Subscriptions;
use crate::{
    ApprovalEvent, ApprovalLimits, ApprovalRequest, ApprovalRequestError, ApprovalRequestId,
    ApprovalRequirement, ApprovalState, Approver, Clock, Grant, NewApprovalRequest, VoteChoice, VoteError,
    clock, voting,
};
use durward_core::{Caller, Operation};
use durward_store::{ApprovalRequestRow, Store, StoreError, StoreTransaction, UserRow};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How long a denial answers repeats of the same operation, so that asking again and again does not wear people down.
const DENIAL_TTL: Duration = Duration::from_mins(1);
/// Counted, not yet written: repeats that joined an ask, and passes through a window.
#[derive(Debug, Clone, Copy, Default)]
struct PendingCounts {
    attempts: i64,
    uses: i64,
}

/// What the approvals and their keeper share.
pub(crate) struct ApprovalLedger {
    pub(crate) store: Store,
    limits: ApprovalLimits,
    pub(crate) clock: MonotonicClock,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) corruption_log: CorruptionLog,
    pending_counts: Mutex<HashMap<ApprovalRequestId, PendingCounts>>,
    /// The last change that was announced.
    last_announced_change: tokio::sync::Mutex<i64>,
}

/// Keeps what is newer of the person; gives them with the newest groups that anybody vouched for.
pub(crate) async fn upsert_and_load_user(
    transaction: &mut StoreTransaction,
    person: &Approver,
) -> Result<Approver, StoreError> {
    transaction.upsert_user(&user_row(person)?).await?;
    let known = transaction.find_user(&person.id).await?.ok_or(StoreError::NotFound)?;
    let groups = serde_json::from_str(&known.group_names)
        .map_err(|error| StoreError::Database(format!("the groups of a person cannot be read: {error}")))?;
    Ok(Approver { groups, ..person.clone() })
}

/// A person as the store keeps them.
pub(crate) fn user_row(person: &Approver) -> Result<UserRow, StoreError> {
    let member_of = serde_json::to_string(&person.groups)
        .map_err(|error| StoreError::Database(format!("the groups cannot be written as JSON: {error}")))?;
    Ok(UserRow {
        id: person.id.clone(),
        name: person.name.clone(),
        subject: person.subject.clone(),
        group_names: member_of,
        groups_as_of: clock::to_unix_millis(person.groups_as_of),
    })
}

/// Whether answering `ask` answers all that is required now.
fn covers_requirements(ask: &ApprovalRequest, required: &[ApprovalRequirement]) -> bool {
    required.iter().all(|requirement| {
        ask.details.requirements.iter().any(|asked| {
            asked.policy == requirement.policy
                && asked.group == requirement.group
                && asked.quorum >= requirement.quorum
        })
    })
}

/// Whether a repeat of the operation gets this ask instead of a new one.
fn is_reusable(ask: &ApprovalRequest, now: i64) -> bool {
    match ask.state {
        ApprovalState::Pending => true,
        ApprovalState::Denied => ask
            .last_denial()
            .is_some_and(|vote| now < add_duration(clock::to_unix_millis(vote.at), DENIAL_TTL)),
        _ => false,
    }
}

impl ApprovalLedger {
    pub(crate) async fn open(store: Store, limits: ApprovalLimits, clock: Clock) -> Result<Self, StoreError> {
        let mut transaction = store.begin_read().await?;
        let latest = transaction.latest_time().await?;
        let announced = transaction.last_change_number().await?;
        drop(transaction);
        let ledger = Self {
            store,
            limits,
            clock: MonotonicClock::new(clock, latest),
            subscriptions: Subscriptions::new(),
            corruption_log: CorruptionLog::default(),
            pending_counts: Mutex::default(),
            last_announced_change: tokio::sync::Mutex::new(announced),
        };
        ledger.follow_clock_if_idle().await?;
        Ok(ledger)
    }

    /// Begins to write, and says what time it is, for all processes.
    pub(crate) async fn begin_write(&self) -> Result<(StoreTransaction, i64), StoreError> {
        let mut transaction = self.store.begin_write().await?;
        let latest = transaction.advance_latest_time(self.clock.now()).await?;
        Ok((transaction, self.clock.raise_to(latest)))
    }

    /// The ask as it is at this moment, also if the store does not say so yet. None: its id cannot be read.
    pub(crate) fn current_request(&self, row: &ApprovalRequestRow) -> Option<ApprovalRequest> {
        let Some(mut ask) = self.corruption_log.decode_row(row) else {
            return corruption::corrupt_placeholder(row);
        };
        expire_if_due(&mut ask, self.clock.now());
        let counted = self.pending_counts.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = counted.get(&ask.id).copied().unwrap_or_default();
        ask.attempts = ask.attempts.saturating_add_signed(counted.attempts);
        ask.uses = ask.uses.saturating_add_signed(counted.uses);
        Some(ask)
    }

    pub(crate) async fn find_request(
        &self,
        id: ApprovalRequestId,
    ) -> Result<Option<ApprovalRequest>, StoreError> {
        let mut transaction = self.store.begin_read().await?;
        Ok(transaction
            .find_approval_request(&id.to_string())
            .await?
            .and_then(|row| self.current_request(&row)))
    }

    pub(crate) fn current_requests(&self, rows: &[ApprovalRequestRow]) -> Vec<ApprovalRequest> {
        rows.iter().filter_map(|row| self.current_request(row)).collect()
    }

    /// Counted in memory and written by the keeper, so that a flood costs no disk.
    pub(crate) fn add_counts(&self, id: ApprovalRequestId, attempts: i64, uses: i64) {
        let mut counted = self.pending_counts.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = counted.entry(id).or_default();
        entry.attempts = entry.attempts.saturating_add(attempts);
        entry.uses = entry.uses.saturating_add(uses);
    }

    /// The ask that a repeat joins, without writing. Caps are checked here too, so that a flood stops before the disk.
    pub(crate) async fn join_existing(
        &self,
        new: &NewApprovalRequest,
    ) -> Result<Option<ApprovalRequest>, ApprovalRequestError> {
        let mut transaction = self.store.begin_read().await?;
        let latest = transaction
            .latest_approval_request(&caller_binding(&new.caller), &new.connection, &new.digest)
            .await?;
        let waits = latest.as_ref().is_some_and(|row| row.state == ApprovalState::Pending.as_str());
        let latest = latest.and_then(|row| self.current_request(&row));
        // One that waits will be replaced by the new one, if it is damaged too: that takes no more room.
        let pending = latest.as_ref().is_some_and(|ask| match ask.state {
            ApprovalState::Pending => true,
            ApprovalState::Corrupt => waits,
            _ => false,
        });
        if let Some(mut ask) = latest
            && is_reusable(&ask, self.clock.now())
            && covers_requirements(&ask, &new.requirements)
        {
            self.add_counts(ask.id, 1, 0);
            ask.attempts = ask.attempts.saturating_add(1);
            return Ok(Some(ask));
        }
        if !pending {
            self.check_pending_limits(&mut transaction, &new.caller).await?;
        }
        Ok(None)
    }

    async fn check_pending_limits(
        &self,
        transaction: &mut StoreTransaction,
        caller: &Caller,
    ) -> Result<(), ApprovalRequestError> {
        let full = |count: i64, limit: usize| usize::try_from(count).unwrap_or(usize::MAX) >= limit;
        let ApprovalLimits { max_pending_per_caller: per_caller, max_pending_total: total, .. } = self.limits;
        if full(transaction.count_pending_requests(Some(&caller.id())).await?, per_caller) {
            return Err(ApprovalRequestError::TooManyPending { limit: per_caller, scope: "this caller" });
        }
        if full(transaction.count_pending_requests(None).await?, total) {
            return Err(ApprovalRequestError::TooManyPending { limit: total, scope: "everybody" });
        }
        Ok(())
    }

    pub(crate) async fn create_request(
        &self,
        new: NewApprovalRequest,
    ) -> Result<ApprovalRequest, ApprovalRequestError> {
        let bound = caller_binding(&new.caller);
        let (mut transaction, now) = self.begin_write().await?;
        // again, now that nobody else writes: another task may have asked or answered meanwhile
        let latest = transaction.latest_approval_request(&bound, &new.connection, &new.digest).await?;
        if let Some(row) = latest {
            if let Some(mut ask) = self.current_request(&row)
                && is_reusable(&ask, now)
                && covers_requirements(&ask, &new.requirements)
            {
                self.add_counts(ask.id, 1, 0);
                ask.attempts = ask.attempts.saturating_add(1);
                return Ok(ask);
            }
            if row.state == ApprovalState::Pending.as_str() {
                self.end_pending(&mut transaction, &row, now).await?;
            }
        }
        let grant = self.find_grant(
            &mut transaction,
            &bound,
            &new.connection,
            &new.operation,
            &new.digest,
            &new.requirements,
            now,
        );
        if let Some((ask, _change, _grant)) = grant.await? {
            return Ok(ask);
        }
        self.check_pending_limits(&mut transaction, &new.caller).await?;
        let ask = new_approval_request(new, now);
        transaction.insert_approval_request(&to_row(&ask, 0)?).await?;
        transaction.commit().await?;
        self.announce_changes().await;
        Ok(ask)
    }

    /// Makes room for a new ask for the same: the old one's time is over, or policies now require something else.
    async fn end_pending(
        &self,
        transaction: &mut StoreTransaction,
        row: &ApprovalRequestRow,
        now: i64,
    ) -> Result<(), StoreError> {
        let Some(mut ask) = self.corruption_log.decode_row(row) else {
            return transaction.mark_request_corrupt(&row.id).await;
        };
        if !expire_if_due(&mut ask, now) {
            ask.state = ApprovalState::Expired;
            ask.history.push(ApprovalEvent {
                at: clock::from_unix_millis(now),
                kind: "superseded".to_owned(),
                by: None,
                note: Some("the policies that ask have changed; it was asked anew".to_owned()),
            });
        }
        update_request(transaction, &ask, row.change_number, ApprovalState::Pending).await
    }

    pub(crate) async fn cast_vote(
        &self,
        id: ApprovalRequestId,
        by: &Approver,
        answer: VoteChoice,
    ) -> Result<ApprovalRequest, VoteError> {
        let (mut transaction, now) = self.begin_write().await?;
        let Some(row) = transaction.find_approval_request(&id.to_string()).await? else {
            return Err(VoteError::NotFound);
        };
        let Some(mut ask) = self.corruption_log.decode_row(&row) else {
            return Err(VoteError::NotPending(ApprovalState::Corrupt));
        };
        let from = ask.state;
        expire_if_due(&mut ask, now);
        let broke_glass = matches!(answer, VoteChoice::BreakGlass { .. });
        // A session or token from before somebody left a group says what is no longer so.
        let by = &upsert_and_load_user(&mut transaction, by).await?;
        voting::apply_vote(&mut ask, by, answer, &self.limits, now)?;
        update_request(&mut transaction, &ask, row.change_number, from).await?;
        if ask.state == ApprovalState::Denied {
            self.withdraw_other_grants(&mut transaction, &row, &ask, now).await?;
        }
        transaction.commit().await?;
        if broke_glass {
            tracing::warn!(ask = %id, by = %by.id, "break-glass: a person went past the quorum; review it");
        }
        Ok(ask)
    }

    /// A denial ends every approval of the same operation that is not used: there may be an older one, which did not lift
    /// what was asked about when the denied ask was made.
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

    /// Ends an approval whose operation passes without it.
    pub(crate) async fn cancel_unneeded_grant(&self, id: ApprovalRequestId) -> Result<(), StoreError> {
        let (mut transaction, now) = self.begin_write().await?;
        let row = transaction.find_approval_request(&id.to_string()).await?.ok_or(StoreError::NotFound)?;
        let Some(mut ask) = self.corruption_log.decode_row(&row) else { return Ok(()) };
        // A window is for a time, not for this request.
        if ask.state != ApprovalState::Approved || ask.time_bound {
            return Ok(());
        }
        if !expire_if_due(&mut ask, now) {
            ask.state = ApprovalState::Expired;
            ask.history.push(ApprovalEvent {
                at: clock::from_unix_millis(now),
                kind: "expired".to_owned(),
                by: None,
                note: Some("policy allows it now: it passed without this approval".to_owned()),
            });
        }
        update_request(&mut transaction, &ask, row.change_number, ApprovalState::Approved).await?;
        transaction.commit().await
    }

    /// An approval or window that lets this pass now, with the version of its row.
    pub(crate) async fn find_grant(
        &self,
        transaction: &mut StoreTransaction,
        bound_to: &str,
        connection: &str,
        operation: &Operation,
        digest: &[u8; 32],
        required: &[ApprovalRequirement],
        now: i64,
    ) -> Result<Option<(ApprovalRequest, i64, Grant)>, StoreError> {
        for row in transaction.usable_grants(bound_to, connection, digest, now).await? {
            let Some(ask) = self.corruption_log.decode_row(&row) else { continue };
            let membership = load_membership(transaction, &ask).await?;
            if let Some(grant) = evaluate_grant(&ask, operation, digest, required, &membership, &self.limits)
            {
                return Ok(Some((ask, row.change_number, grant)));
            }
        }
        Ok(None)
    }

    /// Turns an approval into a use. All is read again: the write lock is held from here on.
    pub(crate) async fn consume_once(
        &self,
        bound_to: &str,
        connection: &str,
        operation: &Operation,
        digest: &[u8; 32],
        required: &[ApprovalRequirement],
    ) -> Result<Option<Grant>, StoreError> {
        let (mut transaction, now) = self.begin_write().await?;
        let found =
            self.find_grant(&mut transaction, bound_to, connection, operation, digest, required, now).await?;
        let Some((mut ask, change, grant)) = found else {
            return Ok(None);
        };
        if grant.time_bound {
            drop(transaction);
            self.add_counts(grant.approval_request, 0, 1);
            return Ok(Some(grant));
        }
        ask.state = ApprovalState::Consumed;
        ask.uses = 1;
        ask.history.push(ApprovalEvent {
            at: clock::from_unix_millis(now),
            kind: "used".to_owned(),
            by: Some(ask.details.caller.id()),
            note: None,
        });
        update_request(&mut transaction, &ask, change, ApprovalState::Approved).await?;
        transaction.commit().await?;
        Ok(Some(grant))
    }

    /// Tells everybody what changed since the last time, in this process or another. A failure is told again later.
    pub(crate) async fn announce_changes(&self) {
        if let Err(error) = self.try_announce().await {
            tracing::error!(%error, "cannot read which asks changed");
        }
    }

    async fn try_announce(&self) -> Result<(), StoreError> {
        let mut announced = self.last_announced_change.lock().await;
        let mut transaction = self.store.begin_read().await?;
        for (id, change) in transaction.requests_changed_since(*announced).await? {
            let parsed = id
                .parse::<ApprovalRequestId>()
                .map_err(|error| StoreError::Corrupt(format!("the id of ask {id}: {error}")));
            if let Some(parsed) = self.corruption_log.ok_or_log(&id, parsed) {
                if self.subscriptions.has_subscribers(parsed)
                    && let Some(ask) = transaction
                        .find_approval_request(&id)
                        .await?
                        .and_then(|row| self.current_request(&row))
                {
                    self.subscriptions.publish(ask);
                }
                self.subscriptions.announce_change(parsed);
            }
            *announced = change;
        }
        Ok(())
    }

    /// Writes the states of asks whose time is over. Returns whether there may be more.
    pub(crate) async fn expire_due_requests(&self) -> Result<bool, StoreError> {
        /// In one transaction: others want to write too.
        const EXPIRY_BATCH_SIZE: usize = 100;
        let mut transaction = self.store.begin_read().await?;
        let due = transaction.overdue_request_ids(self.clock.now(), EXPIRY_BATCH_SIZE as i64).await?;
        drop(transaction);
        if due.is_empty() {
            return Ok(false);
        }
        let (mut transaction, now) = self.begin_write().await?;
        for id in &due {
            if let Some(row) = transaction.find_approval_request(id).await? {
                let Some(mut ask) = self.corruption_log.decode_row(&row) else {
                    // Its time is over in any case.
                    transaction.mark_request_corrupt(id).await?;
                    continue;
                };
                let from = ask.state;
                if expire_if_due(&mut ask, now) {
                    update_request(&mut transaction, &ask, row.change_number, from).await?;
                }
            }
        }
        transaction.commit().await?;
        Ok(due.len() == EXPIRY_BATCH_SIZE)
    }

    /// Writes what was counted.
    pub(crate) async fn write_counts(&self) -> Result<(), StoreError> {
        let counted =
            std::mem::take(&mut *self.pending_counts.lock().unwrap_or_else(PoisonError::into_inner));
        if counted.is_empty() {
            return Ok(());
        }
        let written = async {
            let (mut transaction, _now) = self.begin_write().await?;
            for (id, PendingCounts { attempts, uses }) in &counted {
                transaction.add_to_counters(&id.to_string(), *attempts, *uses).await?;
            }
            transaction.commit().await
        };
        let result = written.await;
        if result.is_err() {
            for (id, PendingCounts { attempts, uses }) in counted {
                self.add_counts(id, attempts, uses);
            }
        }
        result
    }

    /// Keeps the time while something is open, for the next start; believes the clock again when nothing is.
    pub(crate) async fn persist_time(&self) -> Result<(), StoreError> {
        let open = self.store.begin_read().await?.has_open_requests().await?;
        if open {
            let (transaction, _now) = self.begin_write().await?;
            return transaction.commit().await;
        }
        self.follow_clock_if_idle().await
    }

    async fn follow_clock_if_idle(&self) -> Result<(), StoreError> {
        if self.clock.millis_ahead() == 0 {
            return Ok(());
        }
        let mut transaction = self.store.begin_write().await?;
        if !transaction.has_open_requests().await? {
            transaction.reset_latest_time(self.clock.reset_to_clock()).await?;
            transaction.commit().await?;
        }
        Ok(())
    }
}

/// Writes a changed ask. Under the write lock the version cannot have moved; if it has, nothing may be believed.
async fn update_request(
    transaction: &mut StoreTransaction,
    ask: &ApprovalRequest,
    change: i64,
    from: ApprovalState,
) -> Result<(), StoreError> {
    if transaction.update_approval_request(&to_row(ask, change)?, from.as_str()).await? {
        Ok(())
    } else {
        Err(StoreError::Corrupt(format!("ask {} changed while it was written", ask.id)))
    }
}

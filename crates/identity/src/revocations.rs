//! The list of revoked sessions and callers, which every request is checked against.
//!
//! The store holds the list. This process keeps a copy in memory, updates it at once for a revocation of its own, and reads those
//! of other processes twice a second. Promise: while the store cannot be read, the copy may miss a revocation, so every request is
//! refused.
//!
//! [`Revocations::check_session`] and [`Revocations::check_user`] decide about access. [`Revocations::find_revocation`] is for
//! display only: it does not notice a stale copy.

#[cfg(test)]
mod tests;

use durward_core::limits::{MAX_REVOCATION_STALENESS, REVOCATION_POLL_INTERVAL, REVOCATION_RETENTION};
use durward_core::timestamps::{format_rfc3339_seconds, from_unix_millis, to_unix_millis};
use durward_core::{Caller, Refusal, RefusalReason, SessionId};
use durward_store::{RevocationRow, Store, StoreError};
use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use tokio::sync::watch;

/// After this many polls, twenty minutes, expired revocations are deleted and the whole list is read again.
const POLLS_PER_FULL_RELOAD: u32 = 2_400;
/// Characters of a reason.
const MAX_REASON_CHARS: usize = 500;
/// Characters of a caller's id.
const MAX_CALLER_ID_CHARS: usize = 2_048;
/// Revocations that are read at once to be written to the journal.
const UNJOURNALED_PAGE_SIZE: i64 = 100;

/// The session or the caller that is revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RevocationTarget {
    Session(SessionId),
    /// Every session of the caller with this id that began before the revocation, and their sign-ins to the console.
    Caller(String),
}

/// One revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    pub target: RevocationTarget,
    pub revoked_at: OffsetDateTime,
    /// The id of the person: provider and subject.
    pub revoked_by: String,
    pub reason: String,
}

impl Revocation {
    /// The refusal for the caller, who may not know who revoked it and why: that is in the detail.
    pub fn refusal(&self) -> Refusal {
        let at = format_rfc3339_seconds(self.revoked_at);
        Refusal::new(RefusalReason::InvalidToken, "this session was revoked; sign in again to continue")
            .with_detail(format_args!("revoked by {} at {at}: {}", self.revoked_by, self.reason))
    }
}

/// Why nothing was revoked. The texts are for the person who tried.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    #[error("a reason is required")]
    ReasonMissing,
    #[error("{field} is too long: at most {limit} characters")]
    TooLong { field: &'static str, limit: usize },
    #[error("write the caller as <provider>/<subject>, as the list of sessions does")]
    MalformedCaller,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RevokeError {
    /// The refusal for the person who tried.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Store(error) => Refusal::new(
                RefusalReason::Internal,
                "the gateway cannot store the revocation; try again later",
            )
            .with_detail(error),
            Self::TooLong { .. } => Refusal::new(RefusalReason::TooLarge, self.to_string()),
            Self::ReasonMissing | Self::MalformedCaller => {
                Refusal::new(RefusalReason::Malformed, self.to_string())
            }
        }
    }
}

/// When a session began, if its id holds the time: UUID version 7 (RFC 9562 section 5.7), which [`SessionId::new`] makes.
pub fn session_start_time(session: SessionId) -> Option<OffsetDateTime> {
    let text = session.to_string();
    if text.as_bytes().get(12) != Some(&b'7') {
        return None;
    }
    let millis = i64::from_str_radix(text.get(..12)?, 16).ok()?;
    // Not `from_unix_millis`: a session of the far future would have begun after every revocation of its caller.
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).ok()
}

/// A copy of the list in the store.
#[derive(Default)]
struct RevocationSnapshot {
    by_session: HashMap<SessionId, Arc<Revocation>>,
    /// In the order of the revocations.
    by_caller: HashMap<String, Vec<Arc<Revocation>>>,
    /// The number of the last revocation.
    last_number: i64,
}

impl RevocationSnapshot {
    fn add_row(&mut self, row: RevocationRow) -> Result<(), StoreError> {
        self.last_number = self.last_number.max(row.number);
        let revocation = Arc::new(parse_revocation_row(row)?);
        match &revocation.target {
            RevocationTarget::Session(id) => {
                self.by_session.insert(*id, revocation);
            }
            RevocationTarget::Caller(caller) => {
                self.by_caller.entry(caller.clone()).or_default().push(revocation);
            }
        }
        Ok(())
    }

    fn find_for_session(
        &self,
        session: SessionId,
        caller: impl FnOnce() -> String,
        began_at: OffsetDateTime,
    ) -> Option<&Arc<Revocation>> {
        if let Some(found) = self.by_session.get(&session) {
            return Some(found);
        }
        // The common case: the id of the caller, which is text to be built, is then not needed at all.
        if self.by_caller.is_empty() {
            return None;
        }
        self.find_for_caller(&caller(), began_at)
    }

    fn find_for_caller(&self, caller: &str, began_at: OffsetDateTime) -> Option<&Arc<Revocation>> {
        // The store keeps milliseconds: a session that began in the millisecond of the revocation is revoked.
        self.by_caller
            .get(caller)?
            .iter()
            .find(|revocation| to_unix_millis(began_at) <= to_unix_millis(revocation.revoked_at))
    }
}

/// Reads a row. A row that cannot be read is an error, because it would otherwise revoke nothing.
fn parse_revocation_row(row: RevocationRow) -> Result<Revocation, StoreError> {
    let damaged = || StoreError::Corrupt(format!("revocation {} cannot be read", row.number));
    let target = match (&row.session, row.caller) {
        (Some(session), None) => RevocationTarget::Session(session.parse().map_err(|_error| damaged())?),
        (None, Some(caller)) => RevocationTarget::Caller(caller),
        _ => return Err(StoreError::Corrupt("a revocation row names neither session nor caller".to_owned())),
    };
    let revoked_at = from_unix_millis(row.revoked_at);
    Ok(Revocation { target, revoked_at, revoked_by: row.revoked_by, reason: row.reason })
}

struct RevocationCache {
    store: Store,
    /// Held while the store is read, so that an older result never replaces a newer one.
    read_lock: tokio::sync::Mutex<()>,
    snapshot: RwLock<RevocationSnapshot>,
    /// Counts the changes of the snapshot; a change wakes the waiting requests.
    change_counter: watch::Sender<u64>,
    opened_at: Instant,
    /// When the last successful read of the store began, in milliseconds after `opened_at`.
    last_read_millis: AtomicU64,
    poll_interval: Duration,
    max_staleness: Duration,
}

/// The revoked sessions and callers. Clones share one list.
#[derive(Clone)]
pub struct Revocations(Arc<RevocationCache>);

impl Revocations {
    /// Reads the list, and keeps it current as long as this or a clone of it lives.
    pub async fn open(store: Store) -> Result<Self, StoreError> {
        Self::open_with_intervals(store, REVOCATION_POLL_INTERVAL, MAX_REVOCATION_STALENESS).await
    }

    async fn open_with_intervals(
        store: Store,
        poll_interval: Duration,
        max_staleness: Duration,
    ) -> Result<Self, StoreError> {
        let inner = Arc::new(RevocationCache {
            store,
            read_lock: tokio::sync::Mutex::default(),
            snapshot: RwLock::default(),
            change_counter: watch::Sender::new(0),
            opened_at: Instant::now(),
            last_read_millis: AtomicU64::new(0),
            poll_interval,
            max_staleness,
        });
        inner.delete_expired().await?;
        // Before the gateway serves anything: without the list, a revoked session would pass until the first poll.
        inner.reload_from_store(true).await?;
        tokio::spawn(poll_store(Arc::downgrade(&inner)));
        Ok(Self(inner))
    }

    /// Refuses a session that is revoked, or every session while the list is stale. `began_at` is when the session began; for a
    /// session that is only a token, when that was issued.
    pub fn check_session(
        &self,
        session: SessionId,
        caller: &Caller,
        began_at: OffsetDateTime,
    ) -> Result<(), Refusal> {
        self.0.ensure_current()?;
        self.0
            .snapshot()
            .find_for_session(session, || caller.id(), began_at)
            .map_or(Ok(()), |found| Err(found.refusal()))
    }

    /// Refuses a token that would open a session if its caller was revoked since it was issued, or while the list is stale.
    pub fn check_token(&self, caller: &Caller, issued_at: OffsetDateTime) -> Result<(), Refusal> {
        self.0.ensure_current()?;
        let snapshot = self.0.snapshot();
        let Some(found) = snapshot.find_for_caller(&caller.id(), issued_at) else { return Ok(()) };
        Err(Refusal::new(
            RefusalReason::InvalidToken,
            "the sessions of this caller were revoked after this token was issued; get a new one from your identity provider",
        )
        .with_detail(found.refusal().detail))
    }

    /// Refuses a token or sign-in that a person obtained at `issued_at` if the person was revoked since, or while the list is stale.
    pub fn check_user(&self, id: &str, issued_at: OffsetDateTime) -> Result<(), Refusal> {
        self.0.ensure_current()?;
        self.0.snapshot().find_for_caller(id, issued_at).map_or(Ok(()), |found| Err(found.refusal()))
    }

    /// Returns true if a person was revoked since `began_at`, read from the store itself. For a sign-in that was stored just
    /// before: a later revocation deletes it, and an earlier one, which found nothing to delete, is found here.
    pub async fn is_user_revoked(&self, id: &str, began_at: OffsetDateTime) -> Result<bool, StoreError> {
        self.0.reload_from_store(false).await?;
        Ok(self.0.snapshot().find_for_caller(id, began_at).is_some())
    }

    /// Returns the refusal as soon as the session is revoked. It does not notice a stale list: the request must be checked again
    /// before anything is sent.
    pub async fn wait_until_revoked(
        &self,
        session: SessionId,
        caller: &Caller,
        began_at: OffsetDateTime,
    ) -> Refusal {
        // Before the first check, so that no change between the two is missed.
        let mut changed = self.0.change_counter.subscribe();
        loop {
            if let Some(found) = self.find_revocation(session, &caller.id(), began_at) {
                return found.refusal();
            }
            // Never fails: the sender lives as long as `self`.
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// As [`Self::wait_until_revoked`], and also ends when the list becomes stale: for a response that is being sent and is not
    /// authorized again.
    pub async fn wait_until_revoked_or_stale(
        &self,
        session: SessionId,
        caller: &Caller,
        began_at: OffsetDateTime,
    ) -> Refusal {
        let stale = async {
            loop {
                let left = self.0.max_staleness.saturating_sub(self.0.store_staleness());
                tokio::time::sleep(left + Duration::from_millis(1)).await;
                if let Err(refusal) = self.0.ensure_current() {
                    return refusal;
                }
            }
        };
        tokio::select! {
            refusal = self.wait_until_revoked(session, caller, began_at) => refusal,
            refusal = stale => refusal,
        }
    }

    /// The known revocation of this session, for display. It is no check: it does not notice a stale list.
    pub fn find_revocation(
        &self,
        session: SessionId,
        caller: &str,
        began_at: OffsetDateTime,
    ) -> Option<Arc<Revocation>> {
        self.0.snapshot().find_for_session(session, || caller.to_owned(), began_at).cloned()
    }

    /// Revokes a session, or all sessions of a caller that began until `now`. When this returns, the revocation is durable and
    /// in force in this process. The first revocation of a session is kept.
    pub async fn revoke(
        &self,
        target: &RevocationTarget,
        revoked_by: &str,
        reason: &str,
        now: OffsetDateTime,
    ) -> Result<(), RevokeError> {
        let reason = reason.trim();
        if reason.is_empty() {
            return Err(RevokeError::ReasonMissing);
        }
        if reason.chars().count() > MAX_REASON_CHARS {
            return Err(RevokeError::TooLong { field: "the reason", limit: MAX_REASON_CHARS });
        }
        let (session, caller) = match target {
            RevocationTarget::Session(session) => (Some(*session), None),
            RevocationTarget::Caller(caller) if caller.chars().count() > MAX_CALLER_ID_CHARS => {
                return Err(RevokeError::TooLong { field: "the caller", limit: MAX_CALLER_ID_CHARS });
            }
            RevocationTarget::Caller(caller) => match caller.split_once('/') {
                Some((provider, subject)) if !provider.is_empty() && !subject.is_empty() => {
                    (None, Some(caller.clone()))
                }
                _ => return Err(RevokeError::MalformedCaller),
            },
        };
        // Only sessions that the gateway opened end by themselves. A caller's own token lives for as long as its provider permits,
        // so the revocation of a caller, or of a session that is only a token, is kept for ever.
        let delete_after =
            session.and_then(session_start_time).map(|_began_at| to_unix_millis(now + REVOCATION_RETENTION));
        let row = RevocationRow {
            number: 0,
            session: session.map(|session| session.to_string()),
            caller,
            revoked_at: to_unix_millis(now),
            revoked_by: revoked_by.to_owned(),
            reason: reason.to_owned(),
            delete_after,
        };
        let mut write = self.0.store.begin_write().await?;
        // The store first: a revocation that is only in memory would be lost by a crash, and unknown to the other replicas.
        write.insert_revocation(&row).await?;
        // In the same transaction: a person who is revoked must not stay signed in to the console.
        if let Some(caller) = &row.caller {
            write.delete_logins_of_user(caller).await?;
        }
        write.commit().await?;
        // If another task reads the store in between, it has read this revocation too.
        Ok(self.0.reload_from_store(false).await?)
    }

    /// The oldest revocations that are not in the journal yet, with their numbers.
    pub async fn unjournaled_revocations(&self) -> Result<Vec<(i64, Revocation)>, StoreError> {
        let rows = self.0.store.begin_read().await?.unjournaled_revocations(UNJOURNALED_PAGE_SIZE).await?;
        rows.into_iter().map(|row| Ok((row.number, parse_revocation_row(row)?))).collect()
    }

    /// Marks the revocation of this number as written to the journal.
    pub async fn mark_journaled(&self, number: i64) -> Result<(), StoreError> {
        let mut write = self.0.store.begin_write().await?;
        write.mark_revocation_journaled(number).await?;
        write.commit().await
    }

    /// A receiver that changes with each new revocation.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.change_counter.subscribe()
    }
}

impl RevocationCache {
    fn snapshot(&self) -> RwLockReadGuard<'_, RevocationSnapshot> {
        // Each entry is added in one step, so a panic under the lock leaves the snapshot usable.
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn snapshot_mut(&self) -> RwLockWriteGuard<'_, RevocationSnapshot> {
        self.snapshot.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The age of the snapshot.
    fn store_staleness(&self) -> Duration {
        let last_read = Duration::from_millis(self.last_read_millis.load(Ordering::Relaxed));
        self.opened_at.elapsed().saturating_sub(last_read)
    }

    /// Refuses if the snapshot is too old.
    fn ensure_current(&self) -> Result<(), Refusal> {
        let staleness = self.store_staleness();
        if staleness <= self.max_staleness {
            return Ok(());
        }
        Err(Refusal::new(
            RefusalReason::Internal,
            "the gateway cannot read the revocation list, so it refuses all requests; try again later",
        )
        .with_detail(format_args!("the store has not responded for {} s", staleness.as_secs())))
    }

    /// Adds the new revocations to the snapshot, or reads the whole list again.
    async fn reload_from_store(&self, reads_all: bool) -> Result<(), StoreError> {
        let _guard = self.read_lock.lock().await;
        // The time before the read: what was revoked during it may be missing from the result.
        let began_at = self.opened_at.elapsed();
        let last = self.snapshot().last_number;
        let after = if reads_all { 0 } else { last };
        let rows = self.store.begin_read().await?.revocations_after(after).await?;
        let has_new = rows.last().is_some_and(|row| row.number > last);
        if reads_all {
            let mut snapshot = RevocationSnapshot { last_number: last, ..RevocationSnapshot::default() };
            for row in rows {
                snapshot.add_row(row)?;
            }
            *self.snapshot_mut() = snapshot;
        } else if has_new {
            let mut snapshot = self.snapshot_mut();
            for row in rows {
                snapshot.add_row(row)?;
            }
        }
        let began_at = u64::try_from(began_at.as_millis()).unwrap_or(u64::MAX);
        // The maximum: a read that began earlier must not make the list look older again.
        self.last_read_millis.fetch_max(began_at, Ordering::Relaxed);
        if has_new {
            self.change_counter.send_modify(|count| *count += 1);
        }
        Ok(())
    }

    async fn delete_expired(&self) -> Result<(), StoreError> {
        let mut write = self.store.begin_write().await?;
        write.delete_expired_revocations(to_unix_millis(OffsetDateTime::now_utc())).await?;
        write.commit().await
    }
}

async fn poll_store(inner: Weak<RevocationCache>) {
    let mut polls: u32 = 0;
    loop {
        // Not held while it sleeps, so that the task ends with the last clone.
        let Some(poll_interval) = inner.upgrade().map(|inner| inner.poll_interval) else { return };
        tokio::time::sleep(poll_interval).await;
        let Some(inner) = inner.upgrade() else { return };
        polls = polls.wrapping_add(1);
        let reads_all = polls.is_multiple_of(POLLS_PER_FULL_RELOAD);
        let read = inner.reload_from_store(reads_all).await;
        let read = if reads_all { read.and(inner.delete_expired().await) } else { read };
        if let Err(error) = read {
            tracing::error!(%error, "the revocation list cannot be read");
        }
    }
}

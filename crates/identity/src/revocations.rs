//! Which sessions are revoked, for every request to look up.
//!
//! The store is what counts; this process keeps what it holds in memory, is told at once of what is revoked here, and reads
//! what other processes revoked twice a second. Whoever cannot read the store any more does not know who is revoked, and then
//! lets nobody through.

#[cfg(test)]
mod tests;

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
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::watch;

/// Between two looks at the store.
const STORE_POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How long the store may not answer before nobody is let through.
const MAX_STORE_STALENESS: Duration = Duration::from_secs(5);
/// Everything is read anew, and what is past its time forgotten, after so many looks: some twenty minutes.
const POLLS_PER_FULL_RELOAD: u32 = 2_400;
/// How long a revocation is kept. No credential of ours lives longer than a day; people look at it longer.
const REVOCATION_RETENTION: Duration = Duration::from_hours(90 * 24);
/// Characters of a reason.
const MAX_REASON_CHARS: usize = 500;
/// Characters of a caller's id.
const MAX_CALLER_ID_CHARS: usize = 2_048;

/// What is revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RevocationTarget {
    Session(SessionId),
    /// Every session of the caller with this id that began until then, and what they are signed in to as a person.
    Caller(String),
}

/// One revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    pub target: RevocationTarget,
    pub revoked_at: OffsetDateTime,
    /// The person, as provider and subject.
    pub revoked_by: String,
    pub reason: String,
}

impl Revocation {
    /// What the caller is told. Who revoked it and why is for the record.
    pub fn refusal(&self) -> Refusal {
        let at = self
            .revoked_at
            .replace_nanosecond(0)
            .unwrap_or(self.revoked_at)
            .format(&Rfc3339)
            .unwrap_or_default();
        Refusal::new(RefusalReason::InvalidToken, "this session was revoked; to go on, sign in again")
            .with_detail(format_args!("revoked by {} at {at}: {}", self.revoked_by, self.reason))
    }
}

/// Why nothing was revoked; the texts are for the person.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    #[error("say why: the reason goes on record")]
    ReasonMissing,
    #[error("{field} is too long: at most {limit} characters")]
    TooLong { field: &'static str, limit: usize },
    #[error("write the caller as <provider>/<subject>, as the list of sessions does")]
    MalformedCaller,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// When a session began, where its id says so: those that the gateway names anew hold their time (UUID version 7).
pub fn session_start_time(session: SessionId) -> Option<OffsetDateTime> {
    let text = session.to_string();
    let milliseconds = i64::from_str_radix(text.get(..12)?, 16).ok()?;
    time_from_unix_milliseconds(milliseconds).filter(|_time| text.as_bytes().get(12) == Some(&b'7'))
}

/// What the store held when it was last read.
#[derive(Default)]
struct RevocationSnapshot {
    by_session: HashMap<SessionId, Arc<Revocation>>,
    /// In the order in which they were revoked.
    by_caller: HashMap<String, Vec<Arc<Revocation>>>,
    /// The number of the last one.
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
                self.by_caller.entry(caller.clone()).or_default().push(revocation)
            }
        }
        Ok(())
    }

    fn find_for_session(
        &self,
        session: SessionId,
        caller: impl FnOnce() -> String,
        began: OffsetDateTime,
    ) -> Option<&Arc<Revocation>> {
        if let Some(found) = self.by_session.get(&session) {
            return Some(found);
        }
        if self.by_caller.is_empty() {
            return None;
        }
        self.find_for_caller(&caller(), began)
    }

    fn find_for_caller(&self, caller: &str, began: OffsetDateTime) -> Option<&Arc<Revocation>> {
        // As the store keeps times: what began in the millisecond of the revocation is revoked.
        self.by_caller
            .get(caller)?
            .iter()
            .find(|one| unix_milliseconds(began) <= unix_milliseconds(one.revoked_at))
    }
}

/// What a row means. One that cannot be understood is an error: it would revoke nothing.
fn parse_revocation_row(row: RevocationRow) -> Result<Revocation, StoreError> {
    let damaged = || StoreError::Corrupt(format!("revocation {} cannot be read", row.number));
    let what = match (&row.session, row.caller) {
        (Some(session), None) => RevocationTarget::Session(session.parse().map_err(|_error| damaged())?),
        (None, Some(caller)) => RevocationTarget::Caller(caller),
        _ => return Err(StoreError::Corrupt("a revocation of nothing".to_owned())),
    };
    let at = time_from_unix_milliseconds(row.revoked_at).ok_or_else(damaged)?;
    Ok(Revocation { target: what, revoked_at: at, revoked_by: row.revoked_by, reason: row.reason })
}

struct RevocationCache {
    store: Store,
    /// Held while the store is read, so that what is older never replaces what is newer.
    read_lock: tokio::sync::Mutex<()>,
    snapshot: RwLock<RevocationSnapshot>,
    /// Counts what became known; whoever waits looks again.
    change_counter: watch::Sender<u64>,
    opened_at: Instant,
    /// When the store last answered, in milliseconds after `opened`.
    last_read_millis: AtomicU64,
    poll_interval: Duration,
    max_staleness: Duration,
}

/// The revoked sessions. Cloning shares them.
#[derive(Clone)]
pub struct Revocations(Arc<RevocationCache>);

impl Revocations {
    /// Reads what is revoked, and keeps reading as long as this or a clone lives.
    pub async fn open(store: Store) -> Result<Self, StoreError> {
        Self::open_with_intervals(store, STORE_POLL_INTERVAL, MAX_STORE_STALENESS).await
    }

    async fn open_with_intervals(
        store: Store,
        every: Duration,
        patience: Duration,
    ) -> Result<Self, StoreError> {
        let inner = Arc::new(RevocationCache {
            store,
            read_lock: tokio::sync::Mutex::default(),
            snapshot: RwLock::default(),
            change_counter: watch::Sender::new(0),
            opened_at: Instant::now(),
            last_read_millis: AtomicU64::new(0),
            poll_interval: every,
            max_staleness: patience,
        });
        inner.delete_expired().await?;
        inner.reload_from_store(true).await?;
        tokio::spawn(poll_store(Arc::downgrade(&inner)));
        Ok(Self(inner))
    }

    /// Refuses a session that is revoked, or if nobody knows whether it is. `began` is when the session began; for one that is
    /// no more than a token, when that was issued.
    pub fn check_session(
        &self,
        session: SessionId,
        caller: &Caller,
        began: OffsetDateTime,
    ) -> Result<(), Refusal> {
        self.0.ensure_current()?;
        self.0
            .snapshot()
            .find_for_session(session, || caller.id(), began)
            .map_or(Ok(()), |found| Err(found.refusal()))
    }

    /// Refuses a person's token or sign-in of this time if the person was revoked since.
    pub fn check_user(&self, id: &str, issued: OffsetDateTime) -> Result<(), Refusal> {
        self.0.ensure_current()?;
        self.0.snapshot().find_for_caller(id, issued).map_or(Ok(()), |found| Err(found.refusal()))
    }

    /// [`Self::check_person`] by what the store holds at this moment: for a sign-in that was stored just before. What is revoked
    /// from then on ends it; what was revoked earlier found nothing to end, and is found here.
    pub async fn is_user_revoked(&self, id: &str, began: OffsetDateTime) -> Result<bool, StoreError> {
        self.0.reload_from_store(false).await?;
        Ok(self.0.snapshot().find_for_caller(id, began).is_some())
    }

    /// Returns the refusal as soon as the session is revoked.
    pub async fn wait_until_revoked(
        &self,
        session: SessionId,
        caller: &Caller,
        began: OffsetDateTime,
    ) -> Refusal {
        let mut changed = self.0.change_counter.subscribe();
        loop {
            if let Some(found) = self.find_revocation(session, &caller.id(), began) {
                return found.refusal();
            }
            // The sender lives as long as this.
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// As [`Self::revoked`], and also once nobody knows: for what goes on and is not decided again.
    pub async fn wait_until_revoked_or_stale(
        &self,
        session: SessionId,
        caller: &Caller,
        began: OffsetDateTime,
    ) -> Refusal {
        let unknown = async {
            loop {
                let left = self.0.max_staleness.saturating_sub(self.0.store_staleness());
                tokio::time::sleep(left + Duration::from_millis(1)).await;
                if let Err(refusal) = self.0.ensure_current() {
                    return refusal;
                }
            }
        };
        tokio::select! {
            refusal = self.wait_until_revoked(session, caller, began) => refusal,
            refusal = unknown => refusal,
        }
    }

    /// What revoked this session, as far as is known.
    pub fn find_revocation(
        &self,
        session: SessionId,
        caller: &str,
        began: OffsetDateTime,
    ) -> Option<Arc<Revocation>> {
        self.0.snapshot().find_for_session(session, || caller.to_owned(), began).cloned()
    }

    /// Revokes a session, or all of a caller that began until `now`. It is durable, and holds here, when this returns; a
    /// session that was revoked before stays as it was.
    pub async fn revoke(
        &self,
        what: &RevocationTarget,
        by: &str,
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
        let (session, caller) = match what {
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
        // A session of the caller's own token, and what a caller's tokens open, lives as long as the provider lets them.
        let forget_after =
            session.and_then(session_start_time).map(|_began| unix_milliseconds(now + REVOCATION_RETENTION));
        let row = RevocationRow {
            number: 0,
            session: session.map(|session| session.to_string()),
            caller,
            revoked_at: unix_milliseconds(now),
            revoked_by: by.to_owned(),
            reason: reason.to_owned(),
            delete_after: forget_after,
        };
        let mut write = self.0.store.begin_write().await?;
        write.insert_revocation(&row).await?;
        if let Some(caller) = &row.caller {
            write.delete_logins_of_user(caller).await?;
        }
        write.commit().await?;
        // Whoever reads in between has read it.
        Ok(self.0.reload_from_store(false).await?)
    }

    /// The first revocations that the journal does not hold yet, with their numbers.
    pub async fn unjournaled_revocations(&self) -> Result<Vec<(i64, Revocation)>, StoreError> {
        let rows = self.0.store.begin_read().await?.unjournaled_revocations(100).await?;
        rows.into_iter().map(|row| Ok((row.number, parse_revocation_row(row)?))).collect()
    }

    /// Notes that the journal holds the revocation of this number.
    pub async fn mark_journaled(&self, number: i64) -> Result<(), StoreError> {
        let mut write = self.0.store.begin_write().await?;
        write.mark_revocation_journaled(number).await?;
        write.commit().await
    }

    /// Tells when something was revoked.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.change_counter.subscribe()
    }
}

impl RevocationCache {
    fn snapshot(&self) -> RwLockReadGuard<'_, RevocationSnapshot> {
        // Entries are added whole, so a poisoned lock is still good.
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn snapshot_mut(&self) -> RwLockWriteGuard<'_, RevocationSnapshot> {
        self.snapshot.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how long the store has not answered.
    fn store_staleness(&self) -> Duration {
        let answered = Duration::from_millis(self.last_read_millis.load(Ordering::Relaxed));
        self.opened_at.elapsed().saturating_sub(answered)
    }

    /// Refuses if the store has not answered for too long.
    fn ensure_current(&self) -> Result<(), Refusal> {
        let silent = self.store_staleness();
        if silent <= self.max_staleness {
            return Ok(());
        }
        Err(Refusal::new(
            RefusalReason::Internal,
            "the gateway cannot read which sessions are revoked, so nothing is let through; try again later",
        )
        .with_detail(format_args!("the store has not answered for {} s", silent.as_secs())))
    }

    /// Reads what is new, or everything anew.
    async fn reload_from_store(&self, everything: bool) -> Result<(), StoreError> {
        let _one_at_a_time = self.read_lock.lock().await;
        let begun = self.opened_at.elapsed();
        let last = self.snapshot().last_number;
        let after = if everything { 0 } else { last };
        let rows = self.store.begin_read().await?.revocations_after(after).await?;
        let news = rows.last().is_some_and(|row| row.number > last);
        if everything {
            let mut known = RevocationSnapshot { last_number: last, ..RevocationSnapshot::default() };
            for row in rows {
                known.add_row(row)?;
            }
            *self.snapshot_mut() = known;
        } else if news {
            let mut known = self.snapshot_mut();
            for row in rows {
                known.add_row(row)?;
            }
        }
        let begun = u64::try_from(begun.as_millis()).unwrap_or(u64::MAX);
        self.last_read_millis.fetch_max(begun, Ordering::Relaxed);
        if news {
            self.change_counter.send_modify(|count| *count += 1);
        }
        Ok(())
    }

    async fn delete_expired(&self) -> Result<(), StoreError> {
        let mut write = self.store.begin_write().await?;
        write.delete_expired_revocations(unix_milliseconds(OffsetDateTime::now_utc())).await?;
        write.commit().await
    }
}

async fn poll_store(inner: Weak<RevocationCache>) {
    let mut looks: u32 = 0;
    loop {
        let Some(every) = inner.upgrade().map(|inner| inner.poll_interval) else { return };
        tokio::time::sleep(every).await;
        let Some(inner) = inner.upgrade() else { return };
        looks = looks.wrapping_add(1);
        let everything = looks.is_multiple_of(POLLS_PER_FULL_RELOAD);
        let read = inner.reload_from_store(everything).await;
        let read = if everything { read.and(inner.delete_expired().await) } else { read };
        if let Err(error) = read {
            tracing::error!(%error, "which sessions are revoked cannot be read");
        }
    }
}

fn unix_milliseconds(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

fn time_from_unix_milliseconds(milliseconds: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(milliseconds) * 1_000_000).ok()
}

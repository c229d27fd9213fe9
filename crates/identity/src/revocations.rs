//! Which sessions are revoked, for every request to look up.
//!
//! The store is what counts; this process keeps what it holds in memory, is told at once of what is revoked here, and reads
//! what other processes revoked twice a second. Whoever cannot read the store any more does not know who is revoked, and then
//! lets nobody through.

#[cfg(test)]
mod tests;

use durward_core::{Caller, Reason, Refusal, SessionId};
use durward_store::{RevokedRow, Store, StoreError};
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
const EVERY: Duration = Duration::from_millis(500);
/// How long the store may not answer before nobody is let through.
const PATIENCE: Duration = Duration::from_secs(5);
/// Everything is read anew, and what is past its time forgotten, after so many looks: some twenty minutes.
const LOOKS: u32 = 2_400;
/// How long a revocation is kept. No credential of ours lives longer than a day; people look at it longer.
const KEPT: Duration = Duration::from_hours(90 * 24);
/// Characters of a reason.
const REASON: usize = 500;
/// Characters of a caller's id.
const CALLER: usize = 2_048;

/// What is revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoked {
    Session(SessionId),
    /// Every session of the caller with this id that began until then, and what they are signed in to as a person.
    Caller(String),
}

/// One revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    pub what: Revoked,
    pub at: OffsetDateTime,
    /// The person, as provider and subject.
    pub by: String,
    pub reason: String,
}

impl Revocation {
    /// What the caller is told. Who revoked it and why is for the record.
    pub fn refusal(&self) -> Refusal {
        let at = self.at.replace_nanosecond(0).unwrap_or(self.at).format(&Rfc3339).unwrap_or_default();
        Refusal::new(Reason::InvalidToken, "this session was revoked; to go on, sign in again")
            .detail(format_args!("revoked by {} at {at}: {}", self.by, self.reason))
    }
}

/// Why nothing was revoked; the texts are for the person.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    #[error("say why: the reason goes on record")]
    ReasonMissing,
    #[error("{what} is too long: at most {limit} characters")]
    TooLong { what: &'static str, limit: usize },
    #[error("write the caller as <provider>/<subject>, as the list of sessions does")]
    Caller,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// When a session began, where its id says so: those that the gateway names anew hold their time (UUID version 7).
pub fn began(session: SessionId) -> Option<OffsetDateTime> {
    let text = session.to_string();
    let milliseconds = i64::from_str_radix(text.get(..12)?, 16).ok()?;
    time_of(milliseconds).filter(|_time| text.as_bytes().get(12) == Some(&b'7'))
}

/// What the store held when it was last read.
#[derive(Default)]
struct Known {
    sessions: HashMap<SessionId, Arc<Revocation>>,
    /// In the order in which they were revoked.
    callers: HashMap<String, Vec<Arc<Revocation>>>,
    /// The number of the last one.
    last: i64,
}

impl Known {
    fn add(&mut self, row: RevokedRow) -> Result<(), StoreError> {
        self.last = self.last.max(row.number);
        let revocation = Arc::new(revocation(row)?);
        match &revocation.what {
            Revoked::Session(id) => {
                self.sessions.insert(*id, revocation);
            }
            Revoked::Caller(caller) => self.callers.entry(caller.clone()).or_default().push(revocation),
        }
        Ok(())
    }

    fn find(
        &self,
        session: SessionId,
        caller: impl FnOnce() -> String,
        began: OffsetDateTime,
    ) -> Option<&Arc<Revocation>> {
        if let Some(found) = self.sessions.get(&session) {
            return Some(found);
        }
        if self.callers.is_empty() {
            return None;
        }
        self.of_caller(&caller(), began)
    }

    fn of_caller(&self, caller: &str, began: OffsetDateTime) -> Option<&Arc<Revocation>> {
        // As the store keeps times: what began in the millisecond of the revocation is revoked.
        self.callers.get(caller)?.iter().find(|one| milliseconds(began) <= milliseconds(one.at))
    }
}

/// What a row means. One that cannot be understood is an error: it would revoke nothing.
fn revocation(row: RevokedRow) -> Result<Revocation, StoreError> {
    let damaged = || StoreError::Damaged(format!("revocation {} cannot be read", row.number));
    let what = match (&row.session, row.caller) {
        (Some(session), None) => Revoked::Session(session.parse().map_err(|_error| damaged())?),
        (None, Some(caller)) => Revoked::Caller(caller),
        _ => return Err(StoreError::Damaged("a revocation of nothing".to_owned())),
    };
    let at = time_of(row.at).ok_or_else(damaged)?;
    Ok(Revocation { what, at, by: row.revoked_by, reason: row.reason })
}

struct Inner {
    store: Store,
    /// Held while the store is read, so that what is older never replaces what is newer.
    reading: tokio::sync::Mutex<()>,
    known: RwLock<Known>,
    /// Counts what became known; whoever waits looks again.
    changed: watch::Sender<u64>,
    opened: Instant,
    /// When the store last answered, in milliseconds after `opened`.
    answered: AtomicU64,
    every: Duration,
    patience: Duration,
}

/// The revoked sessions. Cloning shares them.
#[derive(Clone)]
pub struct Revocations(Arc<Inner>);

impl Revocations {
    /// Reads what is revoked, and keeps reading as long as this or a clone lives.
    pub async fn open(store: Store) -> Result<Self, StoreError> {
        Self::open_at(store, EVERY, PATIENCE).await
    }

    async fn open_at(store: Store, every: Duration, patience: Duration) -> Result<Self, StoreError> {
        let inner = Arc::new(Inner {
            store,
            reading: tokio::sync::Mutex::default(),
            known: RwLock::default(),
            changed: watch::Sender::new(0),
            opened: Instant::now(),
            answered: AtomicU64::new(0),
            every,
            patience,
        });
        inner.forget().await?;
        inner.read(true).await?;
        tokio::spawn(keep_reading(Arc::downgrade(&inner)));
        Ok(Self(inner))
    }

    /// Refuses a session that is revoked, or if nobody knows whether it is. `began` is when the session began; for one that is
    /// no more than a token, when that was issued.
    pub fn check(&self, session: SessionId, caller: &Caller, began: OffsetDateTime) -> Result<(), Refusal> {
        self.0.is_current()?;
        self.0.known().find(session, || caller.id(), began).map_or(Ok(()), |found| Err(found.refusal()))
    }

    /// Refuses a person's token or sign-in of this time if the person was revoked since.
    pub fn check_person(&self, id: &str, issued: OffsetDateTime) -> Result<(), Refusal> {
        self.0.is_current()?;
        self.0.known().of_caller(id, issued).map_or(Ok(()), |found| Err(found.refusal()))
    }

    /// [`Self::check_person`] by what the store holds at this moment: for a sign-in that was stored just before. What is revoked
    /// from then on ends it; what was revoked earlier found nothing to end, and is found here.
    pub async fn is_person_revoked(&self, id: &str, began: OffsetDateTime) -> Result<bool, StoreError> {
        self.0.read(false).await?;
        Ok(self.0.known().of_caller(id, began).is_some())
    }

    /// Returns the refusal as soon as the session is revoked.
    pub async fn revoked(&self, session: SessionId, caller: &Caller, began: OffsetDateTime) -> Refusal {
        let mut changed = self.0.changed.subscribe();
        loop {
            if let Some(found) = self.of(session, &caller.id(), began) {
                return found.refusal();
            }
            // The sender lives as long as this.
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// As [`Self::revoked`], and also once nobody knows: for what goes on and is not decided again.
    pub async fn revoked_or_unknown(
        &self,
        session: SessionId,
        caller: &Caller,
        began: OffsetDateTime,
    ) -> Refusal {
        let unknown = async {
            loop {
                let left = self.0.patience.saturating_sub(self.0.silent());
                tokio::time::sleep(left + Duration::from_millis(1)).await;
                if let Err(refusal) = self.0.is_current() {
                    return refusal;
                }
            }
        };
        tokio::select! {
            refusal = self.revoked(session, caller, began) => refusal,
            refusal = unknown => refusal,
        }
    }

    /// What revoked this session, as far as is known.
    pub fn of(&self, session: SessionId, caller: &str, began: OffsetDateTime) -> Option<Arc<Revocation>> {
        self.0.known().find(session, || caller.to_owned(), began).cloned()
    }

    /// Revokes a session, or all of a caller that began until `now`. It is durable, and holds here, when this returns; a
    /// session that was revoked before stays as it was.
    pub async fn revoke(
        &self,
        what: &Revoked,
        by: &str,
        reason: &str,
        now: OffsetDateTime,
    ) -> Result<(), RevokeError> {
        let reason = reason.trim();
        if reason.is_empty() {
            return Err(RevokeError::ReasonMissing);
        }
        if reason.chars().count() > REASON {
            return Err(RevokeError::TooLong { what: "the reason", limit: REASON });
        }
        let (session, caller) = match what {
            Revoked::Session(session) => (Some(*session), None),
            Revoked::Caller(caller) if caller.chars().count() > CALLER => {
                return Err(RevokeError::TooLong { what: "the caller", limit: CALLER });
            }
            Revoked::Caller(caller) => match caller.split_once('/') {
                Some((provider, subject)) if !provider.is_empty() && !subject.is_empty() => {
                    (None, Some(caller.clone()))
                }
                _ => return Err(RevokeError::Caller),
            },
        };
        // A session of the caller's own token, and what a caller's tokens open, lives as long as the provider lets them.
        let forget_after = session.and_then(began).map(|_began| milliseconds(now + KEPT));
        let row = RevokedRow {
            number: 0,
            session: session.map(|session| session.to_string()),
            caller,
            at: milliseconds(now),
            revoked_by: by.to_owned(),
            reason: reason.to_owned(),
            forget_after,
        };
        let mut write = self.0.store.write().await?;
        write.revoke(&row).await?;
        if let Some(caller) = &row.caller {
            write.end_logins_of(caller).await?;
        }
        write.commit().await?;
        // Whoever reads in between has read it.
        Ok(self.0.read(false).await?)
    }

    /// The first revocations that the journal does not hold yet, with their numbers.
    pub async fn unjournaled(&self) -> Result<Vec<(i64, Revocation)>, StoreError> {
        let rows = self.0.store.read().await?.unjournaled_revocations(100).await?;
        rows.into_iter().map(|row| Ok((row.number, revocation(row)?))).collect()
    }

    /// Notes that the journal holds the revocation of this number.
    pub async fn journaled(&self, number: i64) -> Result<(), StoreError> {
        let mut write = self.0.store.write().await?;
        write.revocation_journaled(number).await?;
        write.commit().await
    }

    /// Tells when something was revoked.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }
}

impl Inner {
    fn known(&self) -> RwLockReadGuard<'_, Known> {
        // Entries are added whole, so a poisoned lock is still good.
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how long the store has not answered.
    fn silent(&self) -> Duration {
        let answered = Duration::from_millis(self.answered.load(Ordering::Relaxed));
        self.opened.elapsed().saturating_sub(answered)
    }

    /// Refuses if the store has not answered for too long.
    fn is_current(&self) -> Result<(), Refusal> {
        let silent = self.silent();
        if silent <= self.patience {
            return Ok(());
        }
        Err(Refusal::new(
            Reason::Internal,
            "the gateway cannot read which sessions are revoked, so nothing is let through; try again later",
        )
        .detail(format_args!("the store has not answered for {} s", silent.as_secs())))
    }

    /// Reads what is new, or everything anew.
    async fn read(&self, everything: bool) -> Result<(), StoreError> {
        let _one_at_a_time = self.reading.lock().await;
        let begun = self.opened.elapsed();
        let last = self.known().last;
        let after = if everything { 0 } else { last };
        let rows = self.store.read().await?.revoked_after(after).await?;
        let news = rows.last().is_some_and(|row| row.number > last);
        if everything {
            let mut known = Known { last, ..Known::default() };
            for row in rows {
                known.add(row)?;
            }
            *self.known_mut() = known;
        } else if news {
            let mut known = self.known_mut();
            for row in rows {
                known.add(row)?;
            }
        }
        let begun = u64::try_from(begun.as_millis()).unwrap_or(u64::MAX);
        self.answered.fetch_max(begun, Ordering::Relaxed);
        if news {
            self.changed.send_modify(|count| *count += 1);
        }
        Ok(())
    }

    async fn forget(&self) -> Result<(), StoreError> {
        let mut write = self.store.write().await?;
        write.forget_revocations(milliseconds(OffsetDateTime::now_utc())).await?;
        write.commit().await
    }
}

async fn keep_reading(inner: Weak<Inner>) {
    let mut looks: u32 = 0;
    loop {
        let Some(every) = inner.upgrade().map(|inner| inner.every) else { return };
        tokio::time::sleep(every).await;
        let Some(inner) = inner.upgrade() else { return };
        looks = looks.wrapping_add(1);
        let everything = looks.is_multiple_of(LOOKS);
        let read = inner.read(everything).await;
        let read = if everything { read.and(inner.forget().await) } else { read };
        if let Err(error) = read {
            tracing::error!(%error, "which sessions are revoked cannot be read");
        }
    }
}

fn milliseconds(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

fn time_of(milliseconds: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(milliseconds) * 1_000_000).ok()
}

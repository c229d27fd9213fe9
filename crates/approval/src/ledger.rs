//! Every change of an ask, each one transaction that is on disk before anybody hears of it.
//!
//! An approval moves from approved to used under the store's only write lock and only from the version that was judged, so of
//! two that race one gets nothing.

use crate::damage::{self, Damage};
use crate::grant::{granted, membership};
use crate::moment::{Time, later};
use crate::row::{bound_to, new_ask, settle, to_row};
use crate::waiting::Waiting;
use crate::{
    Answer, AnswerError, Ask, AskError, AskId, Clock, Event, Granted, Limits, NewAsk, Person, Requirement,
    State, answering, moment,
};
use durward_core::{Caller, Operation};
use durward_store::{AskRow, PersonRow, Store, StoreError, Transaction};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How long a denial answers repeats of the same operation, so that asking again and again does not wear people down.
const DENIAL_STANDS: Duration = Duration::from_mins(1);
/// Counted, not yet written: repeats that joined an ask, and passes through a window.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    attempts: i64,
    uses: i64,
}

/// What the approvals and their keeper share.
pub(crate) struct Ledger {
    pub(crate) store: Store,
    limits: Limits,
    pub(crate) time: Time,
    pub(crate) waiting: Waiting,
    pub(crate) damage: Damage,
    counted: Mutex<HashMap<AskId, Counted>>,
    /// The last change that was announced.
    announced: tokio::sync::Mutex<i64>,
}

/// Keeps what is newer of the person; gives them with the newest groups that anybody vouched for.
pub(crate) async fn put(transaction: &mut Transaction, person: &Person) -> Result<Person, StoreError> {
    transaction.put_person(&person_row(person)?).await?;
    let known = transaction.person(&person.id).await?.ok_or(StoreError::Missing)?;
    let groups = serde_json::from_str(&known.member_of)
        .map_err(|error| StoreError::Database(format!("the groups of a person cannot be read: {error}")))?;
    Ok(Person { groups, ..person.clone() })
}

/// A person as the store keeps them.
pub(crate) fn person_row(person: &Person) -> Result<PersonRow, StoreError> {
    let member_of = serde_json::to_string(&person.groups)
        .map_err(|error| StoreError::Database(format!("the groups cannot be written as JSON: {error}")))?;
    Ok(PersonRow {
        id: person.id.clone(),
        name: person.name.clone(),
        subject: person.subject.clone(),
        member_of,
        seen: moment::millis(person.as_of),
    })
}

/// Whether answering `ask` answers all that is required now.
fn covers(ask: &Ask, required: &[Requirement]) -> bool {
    required.iter().all(|requirement| {
        ask.what.requirements.iter().any(|asked| {
            asked.policy == requirement.policy
                && asked.group == requirement.group
                && asked.quorum >= requirement.quorum
        })
    })
}

/// Whether a repeat of the operation gets this ask instead of a new one.
fn stands(ask: &Ask, now: i64) -> bool {
    match ask.state {
        State::Pending => true,
        State::Denied => ask.denial().is_some_and(|vote| now < later(moment::millis(vote.at), DENIAL_STANDS)),
        _ => false,
    }
}

impl Ledger {
    pub(crate) async fn open(store: Store, limits: Limits, clock: Clock) -> Result<Self, StoreError> {
        let mut transaction = store.read().await?;
        let latest = transaction.latest_time().await?;
        let announced = transaction.last_change().await?;
        drop(transaction);
        let ledger = Self {
            store,
            limits,
            time: Time::new(clock, latest),
            waiting: Waiting::new(),
            damage: Damage::default(),
            counted: Mutex::default(),
            announced: tokio::sync::Mutex::new(announced),
        };
        ledger.follow_clock_if_idle().await?;
        Ok(ledger)
    }

    /// Begins to write, and says what time it is, for all processes.
    pub(crate) async fn write(&self) -> Result<(Transaction, i64), StoreError> {
        let mut transaction = self.store.write().await?;
        let latest = transaction.note_time(self.time.now()).await?;
        Ok((transaction, self.time.raise(latest)))
    }

    /// The ask as it is at this moment, also if the store does not say so yet. None: its id cannot be read.
    pub(crate) fn view(&self, row: &AskRow) -> Option<Ask> {
        let Some(mut ask) = self.damage.read(row) else { return damage::shown(row) };
        settle(&mut ask, self.time.now());
        let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = counted.get(&ask.id).copied().unwrap_or_default();
        ask.attempts = ask.attempts.saturating_add_signed(counted.attempts);
        ask.uses = ask.uses.saturating_add_signed(counted.uses);
        Some(ask)
    }

    pub(crate) async fn find(&self, id: AskId) -> Result<Option<Ask>, StoreError> {
        let mut transaction = self.store.read().await?;
        Ok(transaction.ask(&id.to_string()).await?.and_then(|row| self.view(&row)))
    }

    pub(crate) fn views(&self, rows: &[AskRow]) -> Vec<Ask> {
        rows.iter().filter_map(|row| self.view(row)).collect()
    }

    /// Counted in memory and written by the keeper, so that a flood costs no disk.
    pub(crate) fn count(&self, id: AskId, attempts: i64, uses: i64) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = counted.entry(id).or_default();
        entry.attempts = entry.attempts.saturating_add(attempts);
        entry.uses = entry.uses.saturating_add(uses);
    }

    /// The ask that a repeat joins, without writing. Caps are checked here too, so that a flood stops before the disk.
    pub(crate) async fn join(&self, new: &NewAsk) -> Result<Option<Ask>, AskError> {
        let mut transaction = self.store.read().await?;
        let latest = transaction.latest_ask(&bound_to(&new.caller), &new.connection, &new.digest).await?;
        let waits = latest.as_ref().is_some_and(|row| row.state == State::Pending.as_str());
        let latest = latest.and_then(|row| self.view(&row));
        // One that waits will be replaced by the new one, if it is damaged too: that takes no more room.
        let pending = latest.as_ref().is_some_and(|ask| match ask.state {
            State::Pending => true,
            State::Damaged => waits,
            _ => false,
        });
        if let Some(mut ask) = latest
            && stands(&ask, self.time.now())
            && covers(&ask, &new.requirements)
        {
            self.count(ask.id, 1, 0);
            ask.attempts = ask.attempts.saturating_add(1);
            return Ok(Some(ask));
        }
        if !pending {
            self.check_caps(&mut transaction, &new.caller).await?;
        }
        Ok(None)
    }

    async fn check_caps(&self, transaction: &mut Transaction, caller: &Caller) -> Result<(), AskError> {
        let full = |count: i64, limit: usize| usize::try_from(count).unwrap_or(usize::MAX) >= limit;
        let Limits { per_caller, total, .. } = self.limits;
        if full(transaction.pending(Some(&caller.id())).await?, per_caller) {
            return Err(AskError::TooMany { limit: per_caller, whose: "this caller" });
        }
        if full(transaction.pending(None).await?, total) {
            return Err(AskError::TooMany { limit: total, whose: "everybody" });
        }
        Ok(())
    }

    pub(crate) async fn create(&self, new: NewAsk) -> Result<Ask, AskError> {
        let bound = bound_to(&new.caller);
        let (mut transaction, now) = self.write().await?;
        // again, now that nobody else writes: another task may have asked or answered meanwhile
        let latest = transaction.latest_ask(&bound, &new.connection, &new.digest).await?;
        if let Some(row) = latest {
            if let Some(mut ask) = self.view(&row)
                && stands(&ask, now)
                && covers(&ask, &new.requirements)
            {
                self.count(ask.id, 1, 0);
                ask.attempts = ask.attempts.saturating_add(1);
                return Ok(ask);
            }
            if row.state == State::Pending.as_str() {
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
        self.check_caps(&mut transaction, &new.caller).await?;
        let ask = new_ask(new, now);
        transaction.insert_ask(&to_row(&ask, 0)?).await?;
        transaction.commit().await?;
        self.announce_changes().await;
        Ok(ask)
    }

    /// Makes room for a new ask for the same: the old one's time is over, or policies now require something else.
    async fn end_pending(
        &self,
        transaction: &mut Transaction,
        row: &AskRow,
        now: i64,
    ) -> Result<(), StoreError> {
        let Some(mut ask) = self.damage.read(row) else { return transaction.end_damaged(&row.id).await };
        if !settle(&mut ask, now) {
            ask.state = State::Expired;
            ask.history.push(Event {
                at: moment::from_millis(now),
                kind: "superseded".to_owned(),
                by: None,
                note: Some("the policies that ask have changed; it was asked anew".to_owned()),
            });
        }
        update(transaction, &ask, row.change, State::Pending).await
    }

    pub(crate) async fn answer(&self, id: AskId, by: &Person, answer: Answer) -> Result<Ask, AnswerError> {
        let (mut transaction, now) = self.write().await?;
        let Some(row) = transaction.ask(&id.to_string()).await? else {
            return Err(AnswerError::NotFound);
        };
        let Some(mut ask) = self.damage.read(&row) else {
            return Err(AnswerError::NotPending(State::Damaged));
        };
        let from = ask.state;
        settle(&mut ask, now);
        let broke_glass = matches!(answer, Answer::BreakGlass { .. });
        // A session or token from before somebody left a group says what is no longer so.
        let by = &put(&mut transaction, by).await?;
        answering::apply(&mut ask, by, answer, &self.limits, now)?;
        update(&mut transaction, &ask, row.change, from).await?;
        if ask.state == State::Denied {
            self.withdraw_others(&mut transaction, &row, &ask, now).await?;
        }
        transaction.commit().await?;
        if broke_glass {
            tracing::warn!(ask = %id, by = %by.id, "break-glass: a person went past the quorum; review it");
        }
        Ok(ask)
    }

    /// A denial ends every approval of the same operation that is not used: there may be an older one, which did not lift
    /// what was asked about when the denied ask was made.
    async fn withdraw_others(
        &self,
        transaction: &mut Transaction,
        row: &AskRow,
        denied: &Ask,
        now: i64,
    ) -> Result<(), StoreError> {
        for other in transaction.approved_beside(&row.bound_to, &row.connection, &row.digest, &row.id).await?
        {
            if let Some(mut older) = self.damage.read(&other) {
                answering::withdraw(&mut older, denied, now);
                update(transaction, &older, other.change, State::Approved).await?;
            }
        }
        Ok(())
    }

    /// Ends an approval whose operation passes without it.
    pub(crate) async fn not_needed(&self, id: AskId) -> Result<(), StoreError> {
        let (mut transaction, now) = self.write().await?;
        let row = transaction.ask(&id.to_string()).await?.ok_or(StoreError::Missing)?;
        let Some(mut ask) = self.damage.read(&row) else { return Ok(()) };
        // A window is for a time, not for this request.
        if ask.state != State::Approved || ask.window {
            return Ok(());
        }
        if !settle(&mut ask, now) {
            ask.state = State::Expired;
            ask.history.push(Event {
                at: moment::from_millis(now),
                kind: "expired".to_owned(),
                by: None,
                note: Some("policy allows it now: it passed without this approval".to_owned()),
            });
        }
        update(&mut transaction, &ask, row.change, State::Approved).await?;
        transaction.commit().await
    }

    /// An approval or window that lets this pass now, with the version of its row.
    pub(crate) async fn find_grant(
        &self,
        transaction: &mut Transaction,
        bound_to: &str,
        connection: &str,
        operation: &Operation,
        digest: &[u8; 32],
        required: &[Requirement],
        now: i64,
    ) -> Result<Option<(Ask, i64, Granted)>, StoreError> {
        for row in transaction.grants(bound_to, connection, digest, now).await? {
            let Some(ask) = self.damage.read(&row) else { continue };
            let membership = membership(transaction, &ask).await?;
            if let Some(grant) = granted(&ask, operation, digest, required, &membership, &self.limits) {
                return Ok(Some((ask, row.change, grant)));
            }
        }
        Ok(None)
    }

    /// Turns an approval into a use. All is read again: the write lock is held from here on.
    pub(crate) async fn use_once(
        &self,
        bound_to: &str,
        connection: &str,
        operation: &Operation,
        digest: &[u8; 32],
        required: &[Requirement],
    ) -> Result<Option<Granted>, StoreError> {
        let (mut transaction, now) = self.write().await?;
        let found =
            self.find_grant(&mut transaction, bound_to, connection, operation, digest, required, now).await?;
        let Some((mut ask, change, grant)) = found else {
            return Ok(None);
        };
        if grant.window {
            drop(transaction);
            self.count(grant.ask, 0, 1);
            return Ok(Some(grant));
        }
        ask.state = State::Used;
        ask.uses = 1;
        ask.history.push(Event {
            at: moment::from_millis(now),
            kind: "used".to_owned(),
            by: Some(ask.what.caller.id()),
            note: None,
        });
        update(&mut transaction, &ask, change, State::Approved).await?;
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
        let mut announced = self.announced.lock().await;
        let mut transaction = self.store.read().await?;
        for (id, change) in transaction.changed_since(*announced).await? {
            let parsed = id
                .parse::<AskId>()
                .map_err(|error| StoreError::Damaged(format!("the id of ask {id}: {error}")));
            if let Some(parsed) = self.damage.told(&id, parsed) {
                if self.waiting.anybody(parsed)
                    && let Some(ask) = transaction.ask(&id).await?.and_then(|row| self.view(&row))
                {
                    self.waiting.tell(ask);
                }
                self.waiting.announce(parsed);
            }
            *announced = change;
        }
        Ok(())
    }

    /// Writes the states of asks whose time is over. Returns whether there may be more.
    pub(crate) async fn settle_due(&self) -> Result<bool, StoreError> {
        /// In one transaction: others want to write too.
        const BATCH: usize = 100;
        let mut transaction = self.store.read().await?;
        let due = transaction.due(self.time.now(), BATCH as i64).await?;
        drop(transaction);
        if due.is_empty() {
            return Ok(false);
        }
        let (mut transaction, now) = self.write().await?;
        for id in &due {
            if let Some(row) = transaction.ask(id).await? {
                let Some(mut ask) = self.damage.read(&row) else {
                    // Its time is over in any case.
                    transaction.end_damaged(id).await?;
                    continue;
                };
                let from = ask.state;
                if settle(&mut ask, now) {
                    update(&mut transaction, &ask, row.change, from).await?;
                }
            }
        }
        transaction.commit().await?;
        Ok(due.len() == BATCH)
    }

    /// Writes what was counted.
    pub(crate) async fn write_counts(&self) -> Result<(), StoreError> {
        let counted = std::mem::take(&mut *self.counted.lock().unwrap_or_else(PoisonError::into_inner));
        if counted.is_empty() {
            return Ok(());
        }
        let written = async {
            let (mut transaction, _now) = self.write().await?;
            for (id, Counted { attempts, uses }) in &counted {
                transaction.count(&id.to_string(), *attempts, *uses).await?;
            }
            transaction.commit().await
        };
        let result = written.await;
        if result.is_err() {
            for (id, Counted { attempts, uses }) in counted {
                self.count(id, attempts, uses);
            }
        }
        result
    }

    /// Keeps the time while something is open, for the next start; believes the clock again when nothing is.
    pub(crate) async fn keep_time(&self) -> Result<(), StoreError> {
        let open = self.store.read().await?.any_open().await?;
        if open {
            let (transaction, _now) = self.write().await?;
            return transaction.commit().await;
        }
        self.follow_clock_if_idle().await
    }

    async fn follow_clock_if_idle(&self) -> Result<(), StoreError> {
        if self.time.ahead() == 0 {
            return Ok(());
        }
        let mut transaction = self.store.write().await?;
        if !transaction.any_open().await? {
            transaction.reset_time(self.time.follow_clock()).await?;
            transaction.commit().await?;
        }
        Ok(())
    }
}

/// Writes a changed ask. Under the write lock the version cannot have moved; if it has, nothing may be believed.
async fn update(
    transaction: &mut Transaction,
    ask: &Ask,
    change: i64,
    from: State,
) -> Result<(), StoreError> {
    if transaction.update_ask(&to_row(ask, change)?, from.as_str()).await? {
        Ok(())
    } else {
        Err(StoreError::Damaged(format!("ask {} changed while it was written", ask.id)))
    }
}

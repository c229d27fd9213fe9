//! The asks, the answers, and the one way to use an approval.
//!
//! Every change is one transaction, on disk before anybody hears of it. `take` moves an approval from approved to used under
//! the store's only write lock, so of two that race one gets nothing.

use crate::grant::{granted, membership};
use crate::moment::{Time, later};
use crate::row::{actions, bound_to, from_row, new_ask, settle, to_row};
use crate::waiting::Waiting;
use crate::{
    Answer, AnswerError, Ask, AskError, AskId, Clock, Event, Filter, Granted, NewAsk, Person, Requirement,
    State, answering, assess, bounds, keeper, moment,
};
use durward_core::{Caller, Operation};
use durward_store::{PersonRow, Store, StoreError, Transaction};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::broadcast;

/// How long a denial answers repeats of the same operation, so that asking again and again does not wear people down.
const DENIAL_STANDS: Duration = Duration::from_mins(1);
/// The most that one list gives.
const LIST: usize = 1_000;

/// What is allowed at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Asks of one caller that wait for people.
    pub per_caller: usize,
    /// Asks of everybody that wait for people.
    pub total: usize,
    /// How long an approval may wait for its use.
    pub grant_for: Duration,
    /// Who may use break-glass; none: nobody.
    pub break_glass_group: Option<String>,
    /// The longest window a person may open.
    pub max_window: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_caller: 20,
            total: 1_000,
            grant_for: Duration::from_mins(10),
            break_glass_group: None,
            max_window: Duration::from_hours(8),
        }
    }
}

/// All asks and answers. Put it in an `Arc`.
pub struct Approvals {
    inner: Arc<Inner>,
    keeper: tokio::task::JoinHandle<()>,
}

impl Drop for Approvals {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Counted, not yet written: repeats that joined an ask, and passes through a window.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    attempts: i64,
    uses: i64,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    limits: Limits,
    pub(crate) time: Time,
    waiting: Waiting,
    counted: Mutex<HashMap<AskId, Counted>>,
    /// The last change that was announced.
    announced: tokio::sync::Mutex<i64>,
}

impl Approvals {
    /// Reads what is stored and starts to keep it; needs a Tokio runtime.
    pub async fn open(store: Store, limits: Limits, clock: Clock) -> Result<Self, StoreError> {
        let mut transaction = store.read().await?;
        let latest = transaction.latest_time().await?;
        let announced = transaction.last_change().await?;
        drop(transaction);
        let inner = Arc::new(Inner {
            store,
            limits,
            time: Time::new(clock, latest),
            waiting: Waiting::new(),
            counted: Mutex::default(),
            announced: tokio::sync::Mutex::new(announced),
        });
        inner.follow_clock_if_idle().await?;
        let keeper = tokio::spawn(keeper::keep(Arc::downgrade(&inner)));
        Ok(Self { inner, keeper })
    }

    /// Asks people. A repeat of what already waits joins it; what was just denied stays denied.
    pub async fn ask(&self, mut new: NewAsk) -> Result<Ask, AskError> {
        if new.requirements.is_empty() {
            return Err(AskError::NothingToLift);
        }
        bounds::fit(&mut new)?;
        // boxed, so that a held request is small while it waits
        if let Some(ask) = Box::pin(self.inner.join(&new)).await? {
            return Ok(ask);
        }
        Box::pin(self.inner.create(new)).await
    }

    /// Returns as soon as the ask is not pending, or at `until` as it is then.
    pub async fn wait(&self, id: AskId, until: tokio::time::Instant) -> Result<Ask, StoreError> {
        let mut seat = self.inner.waiting.sit(id);
        let ask = Box::pin(self.get(id)).await?.ok_or(StoreError::Missing)?;
        if ask.state != State::Pending {
            return Ok(ask);
        }
        drop(ask);
        let end = tokio::time::sleep_until(until);
        tokio::pin!(end);
        loop {
            tokio::select! {
                news = seat.next() => match news {
                    Some(ask) if ask.state == State::Pending => {}
                    Some(ask) => return Ok(Ask::clone(&ask)),
                    None => break,
                },
                () = &mut end => break,
            }
        }
        Box::pin(self.get(id)).await?.ok_or(StoreError::Missing)
    }

    /// Takes a person's answer.
    pub async fn answer(&self, id: AskId, by: &Person, answer: Answer) -> Result<Ask, AnswerError> {
        let ask = self.inner.answer(id, by, answer).await?;
        self.inner.announce_changes().await;
        Ok(ask)
    }

    /// Uses an approval, once, or a window for this operation, if it lifts every forbid in `required` (the requirements of
    /// the decision made now), is not expired, and enough of its approvers still are in their groups. None otherwise.
    pub async fn take(
        &self,
        caller: &Caller,
        connection: &str,
        operation: &Operation,
        digest: &[u8; 32],
        required: &[Requirement],
    ) -> Result<Option<Granted>, StoreError> {
        let bound_to = bound_to(caller);
        let mut transaction = self.inner.store.read().await?;
        let now = self.inner.time.now();
        let grant =
            self.inner.find_grant(&mut transaction, &bound_to, connection, operation, digest, required, now);
        let Some((_ask, _change, grant)) = grant.await? else {
            return Ok(None);
        };
        drop(transaction);
        if grant.window {
            self.inner.count(grant.ask, 0, 1);
            return Ok(Some(grant));
        }
        let grant = self.inner.use_once(&bound_to, connection, operation, digest, required).await?;
        self.inner.announce_changes().await;
        Ok(grant)
    }

    pub async fn get(&self, id: AskId) -> Result<Option<Ask>, StoreError> {
        let mut transaction = self.inner.store.read().await?;
        transaction.ask(&id.to_string()).await?.map(|row| self.inner.view(&row)).transpose()
    }

    /// Newest first.
    pub async fn list(&self, filter: Filter) -> Result<Vec<Ask>, StoreError> {
        let limit = filter.limit.min(LIST) as i64;
        // an ask whose time is over may not be stored so yet: look among the open ones too
        let mut states: Vec<&str> = filter.states.iter().map(|state| state.as_str()).collect();
        states.sort_unstable();
        states.dedup();
        let mut transaction = self.inner.store.read().await?;
        let rows = transaction.list(&states, filter.caller.as_deref(), limit).await?;
        let mut asks = self.inner.views(&rows)?;
        asks.retain(|ask| filter.states.is_empty() || filter.states.contains(&ask.state));
        Ok(asks)
    }

    /// Earlier asks for the same actions, by anybody, newest first.
    pub async fn similar(&self, ask: &Ask, limit: usize) -> Result<Vec<Ask>, StoreError> {
        let actions = actions(&ask.what.operation);
        let mut transaction = self.inner.store.read().await?;
        let rows = transaction.similar(&actions, &ask.id.to_string(), limit.min(LIST) as i64).await?;
        self.inner.views(&rows)
    }

    /// The id of each ask that changes, after the change is on disk. Who lags misses some, and should list anew.
    pub fn changes(&self) -> broadcast::Receiver<AskId> {
        self.inner.waiting.changes()
    }

    /// Notes the groups a person has now. Approvals are judged by the latest.
    pub async fn person_seen(&self, person: &Person) -> Result<(), StoreError> {
        bounds::person(person)
            .map_err(|(what, limit)| StoreError::Database(format!("{what} is longer than {limit} bytes")))?;
        let (mut transaction, now) = self.inner.write().await?;
        put(&mut transaction, person, now).await?;
        transaction.commit().await
    }
}

async fn put(transaction: &mut Transaction, person: &Person, now: i64) -> Result<(), StoreError> {
    let member_of = serde_json::to_string(&person.groups)
        .map_err(|error| StoreError::Database(format!("the groups cannot be written as JSON: {error}")))?;
    let row = PersonRow {
        id: person.id.clone(),
        name: person.name.clone(),
        subject: person.subject.clone(),
        member_of,
        seen: now,
    };
    transaction.put_person(&row).await
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

impl Inner {
    /// Begins to write, and says what time it is, for all processes.
    pub(crate) async fn write(&self) -> Result<(Transaction, i64), StoreError> {
        let mut transaction = self.store.write().await?;
        let latest = transaction.note_time(self.time.now()).await?;
        Ok((transaction, self.time.raise(latest)))
    }

    /// The ask as it is at this moment, also if the store does not say so yet.
    fn view(&self, row: &durward_store::AskRow) -> Result<Ask, StoreError> {
        let mut ask = from_row(row)?;
        settle(&mut ask, self.time.now());
        let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = counted.get(&ask.id).copied().unwrap_or_default();
        ask.attempts = ask.attempts.saturating_add_signed(counted.attempts);
        ask.uses = ask.uses.saturating_add_signed(counted.uses);
        Ok(ask)
    }

    fn views(&self, rows: &[durward_store::AskRow]) -> Result<Vec<Ask>, StoreError> {
        rows.iter().map(|row| self.view(row)).collect()
    }

    /// Counted in memory and written by the keeper, so that a flood costs no disk.
    fn count(&self, id: AskId, attempts: i64, uses: i64) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = counted.entry(id).or_default();
        entry.attempts = entry.attempts.saturating_add(attempts);
        entry.uses = entry.uses.saturating_add(uses);
    }

    /// The ask that a repeat joins, without writing. Caps are checked here too, so that a flood stops before the disk.
    async fn join(&self, new: &NewAsk) -> Result<Option<Ask>, AskError> {
        let mut transaction = self.store.read().await?;
        let latest = transaction
            .latest_ask(&bound_to(&new.caller), &new.connection, &new.digest)
            .await?
            .map(|row| self.view(&row))
            .transpose()?;
        let pending = latest.as_ref().is_some_and(|ask| ask.state == State::Pending);
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

    async fn create(&self, new: NewAsk) -> Result<Ask, AskError> {
        let bound = bound_to(&new.caller);
        let (mut transaction, now) = self.write().await?;
        // again, now that nobody else writes: another task may have asked or answered meanwhile
        let latest = transaction.latest_ask(&bound, &new.connection, &new.digest).await?;
        if let Some(row) = latest {
            let mut ask = self.view(&row)?;
            if stands(&ask, now) && covers(&ask, &new.requirements) {
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
        let known = transaction.was_used(&bound, &actions(&new.operation)).await?;
        let risk = assess(&new.operation, !known);
        let ask = new_ask(new, risk, now);
        transaction.insert_ask(&to_row(&ask, 0)?).await?;
        transaction.commit().await?;
        self.announce_changes().await;
        Ok(ask)
    }

    /// Makes room for a new ask for the same: the old one's time is over, or policies now require something else.
    async fn end_pending(
        &self,
        transaction: &mut Transaction,
        row: &durward_store::AskRow,
        now: i64,
    ) -> Result<(), StoreError> {
        let mut ask = from_row(row)?;
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

    async fn answer(&self, id: AskId, by: &Person, answer: Answer) -> Result<Ask, AnswerError> {
        let (mut transaction, now) = self.write().await?;
        let Some(row) = transaction.ask(&id.to_string()).await? else {
            return Err(AnswerError::NotFound);
        };
        let mut ask = from_row(&row)?;
        let from = ask.state;
        settle(&mut ask, now);
        let broke_glass = matches!(answer, Answer::BreakGlass { .. });
        answering::apply(&mut ask, by, answer, &self.limits, now)?;
        put(&mut transaction, by, now).await?;
        update(&mut transaction, &ask, row.change, from).await?;
        transaction.commit().await?;
        if broke_glass {
            tracing::warn!(ask = %id, by = %by.id, "break-glass: a person went past the quorum; review it");
        }
        Ok(ask)
    }

    /// An approval or window that lets this pass now, with the version of its row.
    #[expect(clippy::too_many_arguments, reason = "an approval is bound to each of these")]
    async fn find_grant(
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
            let ask = from_row(&row)?;
            let membership = membership(transaction, &ask).await?;
            if let Some(grant) = granted(&ask, operation, required, &membership, &self.limits) {
                return Ok(Some((ask, row.change, grant)));
            }
        }
        Ok(None)
    }

    /// Turns an approval into a use. All is read again: the write lock is held from here on.
    async fn use_once(
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
            let parsed: AskId =
                id.parse().map_err(|error| StoreError::Damaged(format!("the id of ask {id}: {error}")))?;
            if self.waiting.anybody(parsed)
                && let Some(row) = transaction.ask(&id).await?
            {
                self.waiting.tell(self.view(&row)?);
            }
            self.waiting.announce(parsed);
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
                let mut ask = from_row(&row)?;
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

//! The asks, the answers, and the one way to use an approval, for the other rooms.

use crate::ledger::{Ledger, person_row, put};
use crate::row::{actions, bound_to};
use crate::waiting::Waiter;
use crate::{
    Answer, AnswerError, Ask, AskError, AskId, Clock, Filter, Granted, NewAsk, Person, Requirement, State,
    bounds, keeper,
};
use durward_core::{Caller, Operation};
use durward_store::{Store, StoreError};
use std::{sync::Arc, time::Duration};
use tokio::sync::broadcast;

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
    pub(crate) ledger: Arc<Ledger>,
    keeper: tokio::task::JoinHandle<()>,
}

impl Drop for Approvals {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Approvals {
    /// Reads what is stored and starts to keep it; needs a Tokio runtime.
    pub async fn open(store: Store, limits: Limits, clock: Clock) -> Result<Self, StoreError> {
        let ledger = Arc::new(Ledger::open(store, limits, clock).await?);
        let keeper = tokio::spawn(keeper::keep(Arc::downgrade(&ledger)));
        Ok(Self { ledger, keeper })
    }

    /// Asks people. A repeat of what already waits joins it; what was just denied stays denied.
    pub async fn ask(&self, mut new: NewAsk) -> Result<Ask, AskError> {
        if new.requirements.is_empty() {
            return Err(AskError::NothingToLift);
        }
        bounds::fit(&mut new)?;
        // boxed, so that a held request is small while it waits
        if let Some(ask) = Box::pin(self.ledger.join(&new)).await? {
            return Ok(ask);
        }
        Box::pin(self.ledger.create(new)).await
    }

    /// Waits for an ask for as long as a request likes.
    pub async fn waiter(&self, id: AskId) -> Result<Waiter, StoreError> {
        Waiter::sit(&self.ledger, id).await
    }

    /// Returns as soon as the ask is not pending, or at `until` as it is then.
    pub async fn wait(&self, id: AskId, until: tokio::time::Instant) -> Result<Ask, StoreError> {
        match self.waiter(id).await?.ended(until).await {
            Some(ask) => Ok(Ask::clone(&ask)),
            None => Box::pin(self.get(id)).await?.ok_or(StoreError::Missing),
        }
    }

    /// Takes a person's answer.
    pub async fn answer(&self, id: AskId, by: &Person, answer: Answer) -> Result<Ask, AnswerError> {
        let ask = self.ledger.answer(id, by, answer).await?;
        self.ledger.announce_changes().await;
        Ok(ask)
    }

    /// Ends an approval that is not needed any more: policy allows its operation without it, and it was sent so.
    pub async fn not_needed(&self, id: AskId) -> Result<(), StoreError> {
        self.ledger.not_needed(id).await?;
        self.ledger.announce_changes().await;
        Ok(())
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
        let Some(grant) = self.grant(caller, connection, operation, digest, required).await? else {
            return Ok(None);
        };
        if grant.window {
            self.ledger.count(grant.ask, 0, 1);
            return Ok(Some(grant));
        }
        let bound_to = bound_to(caller);
        let grant = self.ledger.use_once(&bound_to, connection, operation, digest, required).await?;
        self.ledger.announce_changes().await;
        Ok(grant)
    }

    /// What [`Approvals::take`] would use now; nothing is used.
    pub async fn grant(
        &self,
        caller: &Caller,
        connection: &str,
        operation: &Operation,
        digest: &[u8; 32],
        required: &[Requirement],
    ) -> Result<Option<Granted>, StoreError> {
        let bound_to = bound_to(caller);
        let mut transaction = self.ledger.store.read().await?;
        let now = self.ledger.time.now();
        let grant =
            self.ledger.find_grant(&mut transaction, &bound_to, connection, operation, digest, required, now);
        Ok(grant.await?.map(|(_ask, _change, grant)| grant))
    }

    pub async fn get(&self, id: AskId) -> Result<Option<Ask>, StoreError> {
        self.ledger.find(id).await
    }

    /// Newest first; a damaged one is in every list that its row is in. An ask whose time has just ended is in no state's list until that is written, half a second later.
    pub async fn list(&self, filter: Filter) -> Result<Vec<Ask>, StoreError> {
        let limit = filter.limit.min(LIST) as i64;
        let mut states: Vec<&str> = filter.states.iter().map(|state| state.as_str()).collect();
        states.sort_unstable();
        states.dedup();
        let mut transaction = self.ledger.store.read().await?;
        let rows = transaction.list(&states, filter.caller.as_deref(), limit).await?;
        let mut asks = self.ledger.views(&rows);
        let wanted = |state: State| state == State::Damaged || filter.states.contains(&state);
        asks.retain(|ask| filter.states.is_empty() || wanted(ask.state));
        Ok(asks)
    }

    /// Earlier asks for the same actions, by anybody, newest first.
    pub async fn similar(&self, ask: &Ask, limit: usize) -> Result<Vec<Ask>, StoreError> {
        let actions = actions(&ask.what.operation);
        let mut transaction = self.ledger.store.read().await?;
        let rows = transaction.similar(&actions, &ask.id.to_string(), limit.min(LIST) as i64).await?;
        Ok(self.ledger.views(&rows))
    }

    /// The id of each ask that changes, after the change is on disk. Who lags misses some, and should list anew.
    pub fn changes(&self) -> broadcast::Receiver<AskId> {
        self.ledger.waiting.changes()
    }

    /// Notes the groups a person has now. Approvals are judged by the latest.
    pub async fn person_seen(&self, person: &Person) -> Result<(), StoreError> {
        bounds::person(person)
            .map_err(|(what, limit)| StoreError::Database(format!("{what} is longer than {limit} bytes")))?;
        // a console calls this for every page: nothing is written unless something changed
        let known = self.ledger.store.read().await?.person(&person.id).await?;
        let seen = person_row(person)?;
        if known.is_some_and(|known| known == seen || known.seen > seen.seen) {
            return Ok(());
        }
        let (mut transaction, _now) = self.ledger.write().await?;
        put(&mut transaction, person).await?;
        transaction.commit().await
    }
}

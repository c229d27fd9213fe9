//! Asks as rows. What they mean is for `durward-approval`; here an ask changes only from the version that was read.

use crate::{
    StoreError, Transaction,
    statement::{Row, statement},
};

/// One ask. Times are milliseconds since 1970; `what`, `risk`, `votes` and `history` are JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskRow {
    pub id: String,
    pub state: String,
    pub created: i64,
    /// Until when the request is held.
    pub deadline: i64,
    /// Until when it may be answered.
    pub ends: i64,
    pub grant_until: Option<i64>,
    pub is_window: bool,
    /// For caps and lists.
    pub caller: String,
    /// Everything of the caller that an approval is bound to.
    pub bound_to: String,
    pub connection: String,
    pub digest: Vec<u8>,
    /// The distinct actions, sorted, one text: asks for the same actions have the same.
    pub actions: String,
    pub what: String,
    pub risk: String,
    pub votes: String,
    pub history: String,
    /// How many events the history has.
    pub events: i64,
    pub attempts: i64,
    pub uses: i64,
    /// The version of this row; the store sets it.
    pub change: i64,
}

/// Begins a query for whole rows.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, state, created, deadline, ends, grant_until, is_window, caller, bound_to, connection, \
             digest, actions, what, risk, votes, history, attempts, uses, change, events FROM ask ",
            $rest
        )
    };
}

fn read(row: &Row) -> Result<AskRow, StoreError> {
    Ok(AskRow {
        id: row.get(0)?,
        state: row.get(1)?,
        created: row.get(2)?,
        deadline: row.get(3)?,
        ends: row.get(4)?,
        grant_until: row.get(5)?,
        is_window: row.is(6)?,
        caller: row.get(7)?,
        bound_to: row.get(8)?,
        connection: row.get(9)?,
        digest: row.get(10)?,
        actions: row.get(11)?,
        what: row.get(12)?,
        risk: row.get(13)?,
        votes: row.get(14)?,
        history: row.get(15)?,
        attempts: row.get(16)?,
        uses: row.get(17)?,
        change: row.get(18)?,
        events: row.get(19)?,
    })
}

fn read_all(rows: &[Row]) -> Result<Vec<AskRow>, StoreError> {
    rows.iter().map(read).collect()
}

impl Transaction {
    pub async fn ask(&mut self, id: &str) -> Result<Option<AskRow>, StoreError> {
        let row = statement(select!("WHERE id = $1")).bind(id).optional(self).await?;
        row.as_ref().map(read).transpose()
    }

    /// The newest ask for exactly this.
    pub async fn latest_ask(
        &mut self,
        bound_to: &str,
        connection: &str,
        digest: &[u8],
    ) -> Result<Option<AskRow>, StoreError> {
        let row = statement(select!(
            "WHERE bound_to = $1 AND connection = $2 AND digest = $3 ORDER BY created DESC, id DESC LIMIT 1"
        ))
        .bind(bound_to)
        .bind(connection)
        .bind(digest)
        .optional(self)
        .await?;
        row.as_ref().map(read).transpose()
    }

    /// Approved asks that may let this pass: open windows first, then approvals of exactly this, oldest first.
    pub async fn grants(
        &mut self,
        bound_to: &str,
        connection: &str,
        digest: &[u8],
        now: i64,
    ) -> Result<Vec<AskRow>, StoreError> {
        let rows = statement(select!(
            "WHERE state = 'approved' AND bound_to = $1 AND connection = $2 AND (digest = $3 OR is_window = 1)
             AND grant_until > $4 ORDER BY is_window DESC, id"
        ))
        .bind(bound_to)
        .bind(connection)
        .bind(digest)
        .bind(now)
        .all(self)
        .await?;
        read_all(&rows)
    }

    /// Approved asks for exactly this, beside the one with this id.
    pub async fn approved_beside(
        &mut self,
        bound_to: &str,
        connection: &str,
        digest: &[u8],
        id: &str,
    ) -> Result<Vec<AskRow>, StoreError> {
        let rows = statement(select!(
            "WHERE state = 'approved' AND bound_to = $1 AND connection = $2 AND digest = $3 AND id <> $4 ORDER BY id"
        ))
        .bind(bound_to)
        .bind(connection)
        .bind(digest)
        .bind(id)
        .all(self)
        .await?;
        read_all(&rows)
    }

    /// How many asks wait for people: of one caller, or of everybody.
    pub async fn pending(&mut self, caller: Option<&str>) -> Result<i64, StoreError> {
        let count = match caller {
            Some(caller) => {
                statement("SELECT count(*) FROM ask WHERE state = 'pending' AND caller = $1").bind(caller)
            }
            None => statement("SELECT count(*) FROM ask WHERE state = 'pending'"),
        };
        count.scalar(self).await
    }

    /// Whether any ask waits for people, or any approval for its use.
    pub async fn any_open(&mut self) -> Result<bool, StoreError> {
        let found: i64 = statement(
            "SELECT (SELECT count(*) FROM (SELECT 1 FROM ask WHERE state = 'pending' LIMIT 1) AS pending)
             + (SELECT count(*) FROM (SELECT 1 FROM ask WHERE state = 'approved' LIMIT 1) AS approved)",
        )
        .scalar(self)
        .await?;
        Ok(found != 0)
    }

    /// Ids of asks whose time is over and whose state does not say so yet.
    pub async fn due(&mut self, now: i64, limit: i64) -> Result<Vec<String>, StoreError> {
        let rows = statement(
            "SELECT id FROM ask WHERE state = 'pending' AND ends <= $1
             UNION ALL SELECT id FROM ask WHERE state = 'approved' AND grant_until <= $1 LIMIT $2",
        )
        .bind(now)
        .bind(limit)
        .all(self)
        .await?;
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Newest first. `states` of no length: all.
    pub async fn list(
        &mut self,
        states: &[&str],
        caller: Option<&str>,
        limit: i64,
    ) -> Result<Vec<AskRow>, StoreError> {
        // as many as there are states; the last is repeated
        let state = |index: usize| states.get(index).or(states.last()).copied().unwrap_or_default();
        let rows = statement(select!(
            "WHERE ($1 = 0 OR state IN ($2, $3, $4, $5, $6, $7, $8)) AND ($9 IS NULL OR caller = $9)
             ORDER BY id DESC LIMIT $10"
        ))
        .bind(states.len() as i64)
        .bind(state(0))
        .bind(state(1))
        .bind(state(2))
        .bind(state(3))
        .bind(state(4))
        .bind(state(5))
        .bind(state(6))
        .bind(caller)
        .bind(limit)
        .all(self)
        .await?;
        read_all(&rows)
    }

    /// Asks for the same actions that are older than `id`, newest first.
    pub async fn similar(&mut self, actions: &str, id: &str, limit: i64) -> Result<Vec<AskRow>, StoreError> {
        let rows = statement(select!("WHERE actions = $1 AND id < $2 ORDER BY id DESC LIMIT $3"))
            .bind(actions)
            .bind(id)
            .bind(limit)
            .all(self)
            .await?;
        read_all(&rows)
    }

    /// The number of the last change of any ask.
    pub async fn last_change(&mut self) -> Result<i64, StoreError> {
        statement("SELECT change FROM meta WHERE one = 1").scalar(self).await
    }

    /// Which asks changed after that change, by when they last did.
    pub async fn changed_since(&mut self, change: i64) -> Result<Vec<(String, i64)>, StoreError> {
        let rows = statement("SELECT id, change FROM ask WHERE change > $1 ORDER BY change")
            .bind(change)
            .all(self)
            .await?;
        rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
    }

    async fn next_change(&mut self) -> Result<i64, StoreError> {
        statement("UPDATE meta SET change = change + 1 WHERE one = 1 RETURNING change").scalar(self).await
    }

    /// Adds an ask. Its `change` is set here.
    pub async fn insert_ask(&mut self, ask: &AskRow) -> Result<(), StoreError> {
        let change = self.next_change().await?;
        statement(
            "INSERT INTO ask (id, state, created, deadline, ends, grant_until, is_window, caller, bound_to,
                connection, digest, actions, what, risk, votes, history, attempts, uses, change, events)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)",
        )
        .bind(&ask.id)
        .bind(&ask.state)
        .bind(ask.created)
        .bind(ask.deadline)
        .bind(ask.ends)
        .bind(ask.grant_until)
        .bind(ask.is_window)
        .bind(&ask.caller)
        .bind(&ask.bound_to)
        .bind(&ask.connection)
        .bind(&ask.digest)
        .bind(&ask.actions)
        .bind(&ask.what)
        .bind(&ask.risk)
        .bind(&ask.votes)
        .bind(&ask.history)
        .bind(ask.attempts)
        .bind(ask.uses)
        .bind(change)
        .bind(ask.events)
        .execute(self)
        .await?;
        Ok(())
    }

    /// Writes what may change of an ask, if it still is in state `from` and the version `ask.change` says. False: it is
    /// not, and nothing was written.
    pub async fn update_ask(&mut self, ask: &AskRow, from: &str) -> Result<bool, StoreError> {
        let change = self.next_change().await?;
        let done = statement(
            "UPDATE ask SET state = $1, grant_until = $2, is_window = $3, votes = $4, history = $5, uses = $6,
                change = $7, events = $8
             WHERE id = $9 AND state = $10 AND change = $11",
        )
        .bind(&ask.state)
        .bind(ask.grant_until)
        .bind(ask.is_window)
        .bind(&ask.votes)
        .bind(&ask.history)
        .bind(ask.uses)
        .bind(change)
        .bind(ask.events)
        .bind(&ask.id)
        .bind(from)
        .bind(ask.change)
        .execute(self)
        .await?;
        Ok(done == 1)
    }

    /// Ends an ask whose row cannot be understood, whatever else it says; the rest stays as it is, to be looked at.
    pub async fn end_damaged(&mut self, id: &str) -> Result<(), StoreError> {
        let change = self.next_change().await?;
        statement("UPDATE ask SET state = 'damaged', change = $1 WHERE id = $2")
            .bind(change)
            .bind(id)
            .execute(self)
            .await?;
        Ok(())
    }

    /// Adds to the counters of an ask; that is no change of it.
    pub async fn count(&mut self, id: &str, attempts: i64, uses: i64) -> Result<(), StoreError> {
        statement("UPDATE ask SET attempts = attempts + $1, uses = uses + $2 WHERE id = $3")
            .bind(attempts)
            .bind(uses)
            .bind(id)
            .execute(self)
            .await?;
        Ok(())
    }

    /// Removes asks that are over, were made before, and have their history in the journal.
    pub async fn forget_asks(&mut self, before: i64) -> Result<u64, StoreError> {
        statement(
            "DELETE FROM ask WHERE created < $1 AND state NOT IN ('pending', 'approved')
             AND (journaled >= events OR state = 'damaged')",
        )
        .bind(before)
        .execute(self)
        .await
    }

    /// Notes the time and returns the latest ever noted.
    pub async fn note_time(&mut self, now: i64) -> Result<i64, StoreError> {
        statement("UPDATE meta SET latest = CASE WHEN latest < $1 THEN $1 ELSE latest END WHERE one = 1 RETURNING latest")
            .bind(now)
            .scalar(self)
            .await
    }

    /// The latest time ever noted.
    pub async fn latest_time(&mut self) -> Result<i64, StoreError> {
        statement("SELECT latest FROM meta WHERE one = 1").scalar(self).await
    }

    /// Forgets later times than this. Only right while nothing is open.
    pub async fn reset_time(&mut self, now: i64) -> Result<(), StoreError> {
        statement("UPDATE meta SET latest = $1 WHERE one = 1").bind(now).execute(self).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn row() -> AskRow {
        AskRow {
            id: "1".to_owned(),
            state: "approved".to_owned(),
            created: 1,
            deadline: 2,
            ends: 3,
            grant_until: Some(4),
            is_window: false,
            caller: "c".to_owned(),
            bound_to: "b".to_owned(),
            connection: "n".to_owned(),
            digest: vec![7; 32],
            actions: "a".to_owned(),
            what: "{}".to_owned(),
            risk: "{}".to_owned(),
            votes: "[]".to_owned(),
            history: "[]".to_owned(),
            events: 0,
            attempts: 1,
            uses: 0,
            change: 0,
        }
    }

    #[tokio::test]
    async fn an_ask_changes_once_from_the_version_and_state_that_were_read() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(&directory.path().join("s.db")).await.unwrap();
        let mut write = store.write().await.unwrap();
        write.insert_ask(&row()).await.unwrap();
        let read = write.ask("1").await.unwrap().unwrap();
        assert_eq!(read, AskRow { change: 1, ..row() });
        let used = AskRow { state: "used".to_owned(), ..read.clone() };
        assert!(!write.update_ask(&used, "pending").await.unwrap(), "another state");
        assert!(!write.update_ask(&AskRow { change: 0, ..used.clone() }, "approved").await.unwrap());
        assert!(write.update_ask(&used, "approved").await.unwrap());
        assert!(!write.update_ask(&used, "approved").await.unwrap(), "twice");
        assert!(!write.update_ask(&used, "used").await.unwrap(), "from an old version");
        write.commit().await.unwrap();
        let changed = store.read().await.unwrap().changed_since(1).await.unwrap();
        assert_eq!(changed.len(), 1);
        assert!(changed[0].1 > 1);
    }

    #[tokio::test]
    async fn what_is_not_in_the_journal_is_found_until_it_is_and_not_forgotten_before() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(&directory.path().join("s.db")).await.unwrap();
        let mut write = store.write().await.unwrap();
        let over = AskRow { state: "used".to_owned(), history: "[1, 2]".to_owned(), events: 2, ..row() };
        write.insert_ask(&over).await.unwrap();
        let found = write.unjournaled(0, 10).await.unwrap();
        assert_eq!((found.len(), found[0].journaled, found[0].change), (1, 0, 1));
        assert_eq!(write.unjournaled(1, 10).await.unwrap(), [], "after the last");
        write.journaled("1", 1).await.unwrap();
        assert_eq!(write.forget_asks(100).await.unwrap(), 0);
        assert_eq!(write.unjournaled(0, 10).await.unwrap()[0].journaled, 1);
        write.journaled("1", 2).await.unwrap();
        write.journaled("1", 1).await.unwrap();
        assert_eq!(write.unjournaled(0, 10).await.unwrap(), [], "the cursor never goes back");
        assert_eq!(write.forget_asks(100).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_transaction_that_is_dropped_did_nothing_and_a_view_cannot_write() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open(&directory.path().join("s.db")).await.unwrap();
        let mut write = store.write().await.unwrap();
        write.insert_ask(&row()).await.unwrap();
        drop(write);
        let mut read = store.read().await.unwrap();
        assert_eq!(read.ask("1").await.unwrap(), None);
        assert!(read.insert_ask(&row()).await.is_err());
    }
}

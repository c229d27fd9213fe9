//! Asks as rows. What they mean is for `durward-approval`; here an ask changes only from the version that was read.

use crate::{
    StoreError, StoreTransaction,
    statement::{SqlRow, sql_statement},
};

/// One ask. Times are milliseconds since 1970; `what`, `risk`, `votes` and `history` are JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalRequestRow {
    pub id: String,
    pub state: String,
    pub created_at: i64,
    /// Until when the request is held.
    pub hold_deadline: i64,
    /// Until when it may be answered.
    pub vote_deadline: i64,
    pub grant_until: Option<i64>,
    pub is_time_bound: bool,
    /// For caps and lists.
    pub caller: String,
    /// Everything of the caller that an approval is bound to.
    pub caller_binding: String,
    pub connection: String,
    pub digest: Vec<u8>,
    /// The distinct actions, sorted, one text: asks for the same actions have the same.
    pub actions: String,
    pub request: String,
    pub risk: String,
    pub votes: String,
    pub history: String,
    /// How many events the history has.
    pub event_count: i64,
    pub attempt_count: i64,
    pub use_count: i64,
    /// The version of this row; the store sets it.
    pub change_number: i64,
}

/// Begins a query for whole rows.
macro_rules! select_requests {
    ($rest:literal) => {
        concat!(
            "SELECT id, state, created, deadline, ends, grant_until, is_window, caller, bound_to, connection, \
             digest, actions, what, risk, votes, history, attempts, uses, change, events FROM ask ",
            $rest
        )
    };
}

fn request_from_row(row: &SqlRow) -> Result<ApprovalRequestRow, StoreError> {
    Ok(ApprovalRequestRow {
        id: row.get(0)?,
        state: row.get(1)?,
        created_at: row.get(2)?,
        hold_deadline: row.get(3)?,
        vote_deadline: row.get(4)?,
        grant_until: row.get(5)?,
        is_time_bound: row.get_bool(6)?,
        caller: row.get(7)?,
        caller_binding: row.get(8)?,
        connection: row.get(9)?,
        digest: row.get(10)?,
        actions: row.get(11)?,
        request: row.get(12)?,
        risk: row.get(13)?,
        votes: row.get(14)?,
        history: row.get(15)?,
        attempt_count: row.get(16)?,
        use_count: row.get(17)?,
        change_number: row.get(18)?,
        event_count: row.get(19)?,
    })
}

fn requests_from_rows(rows: &[SqlRow]) -> Result<Vec<ApprovalRequestRow>, StoreError> {
    rows.iter().map(request_from_row).collect()
}

impl StoreTransaction {
    pub async fn find_approval_request(
        &mut self,
        id: &str,
    ) -> Result<Option<ApprovalRequestRow>, StoreError> {
        let row = sql_statement(select_requests!("WHERE id = $1")).bind(id).fetch_optional(self).await?;
        row.as_ref().map(request_from_row).transpose()
    }

    /// The newest ask for exactly this.
    pub async fn latest_approval_request(
        &mut self,
        bound_to: &str,
        connection: &str,
        digest: &[u8],
    ) -> Result<Option<ApprovalRequestRow>, StoreError> {
        let row = sql_statement(select_requests!(
            "WHERE bound_to = $1 AND connection = $2 AND digest = $3 ORDER BY created DESC, id DESC LIMIT 1"
        ))
        .bind(bound_to)
        .bind(connection)
        .bind(digest)
        .fetch_optional(self)
        .await?;
        row.as_ref().map(request_from_row).transpose()
    }

    /// Approved asks that may let this pass: open windows first, then approvals of exactly this, oldest first.
    pub async fn usable_grants(
        &mut self,
        bound_to: &str,
        connection: &str,
        digest: &[u8],
        now: i64,
    ) -> Result<Vec<ApprovalRequestRow>, StoreError> {
        let rows = sql_statement(select_requests!(
            "WHERE state = 'approved' AND bound_to = $1 AND connection = $2 AND (digest = $3 OR is_window = 1)
             AND grant_until > $4 ORDER BY is_window DESC, id"
        ))
        .bind(bound_to)
        .bind(connection)
        .bind(digest)
        .bind(now)
        .fetch_all(self)
        .await?;
        requests_from_rows(&rows)
    }

    /// Approved asks for exactly this, beside the one with this id.
    pub async fn other_approved_requests(
        &mut self,
        bound_to: &str,
        connection: &str,
        digest: &[u8],
        id: &str,
    ) -> Result<Vec<ApprovalRequestRow>, StoreError> {
        let rows = sql_statement(select_requests!(
            "WHERE state = 'approved' AND bound_to = $1 AND connection = $2 AND digest = $3 AND id <> $4 ORDER BY id"
        ))
        .bind(bound_to)
        .bind(connection)
        .bind(digest)
        .bind(id)
        .fetch_all(self)
        .await?;
        requests_from_rows(&rows)
    }

    /// How many asks wait for people: of one caller, or of everybody.
    pub async fn count_pending_requests(&mut self, caller: Option<&str>) -> Result<i64, StoreError> {
        let count = match caller {
            Some(caller) => {
                sql_statement("SELECT count(*) FROM ask WHERE state = 'pending' AND caller = $1").bind(caller)
            }
            None => sql_statement("SELECT count(*) FROM ask WHERE state = 'pending'"),
        };
        count.fetch_scalar(self).await
    }

    /// Whether any ask waits for people, or any approval for its use.
    pub async fn has_open_requests(&mut self) -> Result<bool, StoreError> {
        let found: i64 = sql_statement(
            "SELECT (SELECT count(*) FROM (SELECT 1 FROM ask WHERE state = 'pending' LIMIT 1) AS pending)
             + (SELECT count(*) FROM (SELECT 1 FROM ask WHERE state = 'approved' LIMIT 1) AS approved)",
        )
        .fetch_scalar(self)
        .await?;
        Ok(found != 0)
    }

    /// Ids of asks whose time is over and whose state does not say so yet.
    pub async fn overdue_request_ids(&mut self, now: i64, limit: i64) -> Result<Vec<String>, StoreError> {
        let rows = sql_statement(
            "SELECT id FROM ask WHERE state = 'pending' AND ends <= $1
             UNION ALL SELECT id FROM ask WHERE state = 'approved' AND grant_until <= $1 LIMIT $2",
        )
        .bind(now)
        .bind(limit)
        .fetch_all(self)
        .await?;
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Newest first. `states` of no length: all.
    pub async fn list_approval_requests(
        &mut self,
        states: &[&str],
        caller: Option<&str>,
        limit: i64,
    ) -> Result<Vec<ApprovalRequestRow>, StoreError> {
        // as many as there are states; the last is repeated
        let state = |index: usize| states.get(index).or(states.last()).copied().unwrap_or_default();
        let rows = sql_statement(select_requests!(
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
        .fetch_all(self)
        .await?;
        requests_from_rows(&rows)
    }

    /// Asks for the same actions that are older than `id`, newest first.
    pub async fn similar_approval_requests(
        &mut self,
        actions: &str,
        id: &str,
        limit: i64,
    ) -> Result<Vec<ApprovalRequestRow>, StoreError> {
        let rows =
            sql_statement(select_requests!("WHERE actions = $1 AND id < $2 ORDER BY id DESC LIMIT $3"))
                .bind(actions)
                .bind(id)
                .bind(limit)
                .fetch_all(self)
                .await?;
        requests_from_rows(&rows)
    }

    /// The number of the last change of any ask.
    pub async fn last_change_number(&mut self) -> Result<i64, StoreError> {
        sql_statement("SELECT change FROM meta WHERE one = 1").fetch_scalar(self).await
    }

    /// Which asks changed after that change, by when they last did.
    pub async fn requests_changed_since(&mut self, change: i64) -> Result<Vec<(String, i64)>, StoreError> {
        let rows = sql_statement("SELECT id, change FROM ask WHERE change > $1 ORDER BY change")
            .bind(change)
            .fetch_all(self)
            .await?;
        rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
    }

    async fn next_change_number(&mut self) -> Result<i64, StoreError> {
        sql_statement("UPDATE meta SET change = change + 1 WHERE one = 1 RETURNING change")
            .fetch_scalar(self)
            .await
    }

    /// Adds an ask. Its `change` is set here.
    pub async fn insert_approval_request(&mut self, ask: &ApprovalRequestRow) -> Result<(), StoreError> {
        let change = self.next_change_number().await?;
        sql_statement(
            "INSERT INTO ask (id, state, created, deadline, ends, grant_until, is_window, caller, bound_to,
                connection, digest, actions, what, risk, votes, history, attempts, uses, change, events)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)",
        )
        .bind(&ask.id)
        .bind(&ask.state)
        .bind(ask.created_at)
        .bind(ask.hold_deadline)
        .bind(ask.vote_deadline)
        .bind(ask.grant_until)
        .bind(ask.is_time_bound)
        .bind(&ask.caller)
        .bind(&ask.caller_binding)
        .bind(&ask.connection)
        .bind(&ask.digest)
        .bind(&ask.actions)
        .bind(&ask.request)
        .bind(&ask.risk)
        .bind(&ask.votes)
        .bind(&ask.history)
        .bind(ask.attempt_count)
        .bind(ask.use_count)
        .bind(change)
        .bind(ask.event_count)
        .execute(self)
        .await?;
        Ok(())
    }

    /// Writes what may change of an ask, if it still is in state `from` and the version `ask.change` says. False: it is
    /// not, and nothing was written.
    pub async fn update_approval_request(
        &mut self,
        ask: &ApprovalRequestRow,
        from: &str,
    ) -> Result<bool, StoreError> {
        let change = self.next_change_number().await?;
        let done = sql_statement(
            "UPDATE ask SET state = $1, grant_until = $2, is_window = $3, votes = $4, history = $5, uses = $6,
                change = $7, events = $8
             WHERE id = $9 AND state = $10 AND change = $11",
        )
        .bind(&ask.state)
        .bind(ask.grant_until)
        .bind(ask.is_time_bound)
        .bind(&ask.votes)
        .bind(&ask.history)
        .bind(ask.use_count)
        .bind(change)
        .bind(ask.event_count)
        .bind(&ask.id)
        .bind(from)
        .bind(ask.change_number)
        .execute(self)
        .await?;
        Ok(done == 1)
    }

    /// Ends an ask whose row cannot be understood, whatever else it says; the rest stays as it is, to be looked at.
    pub async fn mark_request_corrupt(&mut self, id: &str) -> Result<(), StoreError> {
        let change = self.next_change_number().await?;
        sql_statement("UPDATE ask SET state = 'damaged', change = $1 WHERE id = $2")
            .bind(change)
            .bind(id)
            .execute(self)
            .await?;
        Ok(())
    }

    /// Adds to the counters of an ask; that is no change of it.
    pub async fn add_to_counters(&mut self, id: &str, attempts: i64, uses: i64) -> Result<(), StoreError> {
        sql_statement("UPDATE ask SET attempts = attempts + $1, uses = uses + $2 WHERE id = $3")
            .bind(attempts)
            .bind(uses)
            .bind(id)
            .execute(self)
            .await?;
        Ok(())
    }

    /// Removes asks that are over, were made before, and have their history in the journal.
    pub async fn delete_closed_requests(&mut self, before: i64) -> Result<u64, StoreError> {
        sql_statement(
            "DELETE FROM ask WHERE created < $1 AND state NOT IN ('pending', 'approved')
             AND (journaled >= events OR state = 'damaged')",
        )
        .bind(before)
        .execute(self)
        .await
    }

    /// Notes the time and returns the latest ever noted.
    pub async fn advance_latest_time(&mut self, now: i64) -> Result<i64, StoreError> {
        sql_statement("UPDATE meta SET latest = CASE WHEN latest < $1 THEN $1 ELSE latest END WHERE one = 1 RETURNING latest")
            .bind(now)
            .fetch_scalar(self)
            .await
    }

    /// The latest time ever noted.
    pub async fn latest_time(&mut self) -> Result<i64, StoreError> {
        sql_statement("SELECT latest FROM meta WHERE one = 1").fetch_scalar(self).await
    }

    /// Forgets later times than this. Only right while nothing is open.
    pub async fn reset_latest_time(&mut self, now: i64) -> Result<(), StoreError> {
        sql_statement("UPDATE meta SET latest = $1 WHERE one = 1").bind(now).execute(self).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn approved_row() -> ApprovalRequestRow {
        ApprovalRequestRow {
            id: "1".to_owned(),
            state: "approved".to_owned(),
            created_at: 1,
            hold_deadline: 2,
            vote_deadline: 3,
            grant_until: Some(4),
            is_time_bound: false,
            caller: "c".to_owned(),
            caller_binding: "b".to_owned(),
            connection: "n".to_owned(),
            digest: vec![7; 32],
            actions: "a".to_owned(),
            request: "{}".to_owned(),
            risk: "{}".to_owned(),
            votes: "[]".to_owned(),
            history: "[]".to_owned(),
            event_count: 0,
            attempt_count: 1,
            use_count: 0,
            change_number: 0,
        }
    }

    #[tokio::test]
    async fn a_request_changes_once_from_the_version_and_state_that_were_read() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open_test_store(&directory.path().join("s.db")).await.unwrap();
        let mut write = store.begin_write().await.unwrap();
        write.insert_approval_request(&approved_row()).await.unwrap();
        let read = write.find_approval_request("1").await.unwrap().unwrap();
        assert_eq!(read, ApprovalRequestRow { change_number: 1, ..approved_row() });
        let used = ApprovalRequestRow { state: "used".to_owned(), ..read.clone() };
        assert!(!write.update_approval_request(&used, "pending").await.unwrap(), "another state");
        assert!(
            !write
                .update_approval_request(&ApprovalRequestRow { change_number: 0, ..used.clone() }, "approved")
                .await
                .unwrap()
        );
        assert!(write.update_approval_request(&used, "approved").await.unwrap());
        assert!(!write.update_approval_request(&used, "approved").await.unwrap(), "twice");
        assert!(!write.update_approval_request(&used, "used").await.unwrap(), "from an old version");
        write.commit().await.unwrap();
        let changed = store.begin_read().await.unwrap().requests_changed_since(1).await.unwrap();
        assert_eq!(changed.len(), 1);
        assert!(changed[0].1 > 1);
    }

    #[tokio::test]
    async fn unjournaled_events_are_found_and_never_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open_test_store(&directory.path().join("s.db")).await.unwrap();
        let mut write = store.begin_write().await.unwrap();
        let over = ApprovalRequestRow {
            state: "used".to_owned(),
            history: "[1, 2]".to_owned(),
            event_count: 2,
            ..approved_row()
        };
        write.insert_approval_request(&over).await.unwrap();
        let found = write.unjournaled_events(0, 10).await.unwrap();
        assert_eq!((found.len(), found[0].journaled_count, found[0].change_number), (1, 0, 1));
        assert_eq!(write.unjournaled_events(1, 10).await.unwrap(), [], "after the last");
        write.mark_events_journaled("1", 1).await.unwrap();
        assert_eq!(write.delete_closed_requests(100).await.unwrap(), 0);
        assert_eq!(write.unjournaled_events(0, 10).await.unwrap()[0].journaled_count, 1);
        write.mark_events_journaled("1", 2).await.unwrap();
        write.mark_events_journaled("1", 1).await.unwrap();
        assert_eq!(write.unjournaled_events(0, 10).await.unwrap(), [], "the cursor never goes back");
        assert_eq!(write.delete_closed_requests(100).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_transaction_that_is_dropped_did_nothing_and_a_view_cannot_write() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open_test_store(&directory.path().join("s.db")).await.unwrap();
        let mut write = store.begin_write().await.unwrap();
        write.insert_approval_request(&approved_row()).await.unwrap();
        drop(write);
        let mut read = store.begin_read().await.unwrap();
        assert_eq!(read.find_approval_request("1").await.unwrap(), None);
        assert!(read.insert_approval_request(&approved_row()).await.is_err());
    }
}

//! Approval requests as rows. Their meaning is in `durward-approval`. A row changes only from the version that was read: the
//! update of an older version writes nothing.

use crate::{
    StoreError, StoreTransaction,
    statement::{SqlRow, sql_statement},
};

/// One approval request. Times are milliseconds since 1970; `details`, `risk`, `votes` and `history` are JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalRequestRow {
    pub id: String,
    pub state: String,
    pub created_at: i64,
    /// The time until which the caller's request is held open.
    pub hold_deadline: i64,
    /// The time until which people may vote.
    pub vote_deadline: i64,
    pub grant_until: Option<i64>,
    pub is_time_bound: bool,
    /// The caller's id, for limits and lists.
    pub caller: String,
    /// The caller with every attribute that a grant is bound to.
    pub caller_binding: String,
    pub connection: String,
    pub digest: Vec<u8>,
    /// The distinct actions, sorted and joined: requests for the same actions have the same text.
    pub actions: String,
    pub details: String,
    pub risk: String,
    pub votes: String,
    pub history: String,
    /// The number of events in the history.
    pub event_count: i64,
    /// The number of exchanges that requested this.
    pub attempt_count: i64,
    /// The number of exchanges that its grant has permitted.
    pub use_count: i64,
    /// The version of this row; the store sets it.
    pub change_number: i64,
}

/// Whose requests are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestOwner<'a> {
    /// `<provider>/<subject>`
    Caller(&'a str),
    /// All callers of one identity provider.
    Provider(&'a str),
    Anyone,
}

/// The placeholders for states in the list of requests: as many as `durward_approval::ApprovalState` has states.
const MAX_LISTED_STATES: usize = 7;

/// A query for whole rows. [`request_from_row`] reads the columns by their position.
macro_rules! select_requests {
    ($rest:literal) => {
        concat!(
            "SELECT id, state, created_at, hold_deadline, vote_deadline, grant_until, is_time_bound, caller, \
             caller_binding, connection, digest, actions, details, risk, votes, history, attempt_count, use_count, \
             change_number, event_count FROM approval_request ",
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
        details: row.get(12)?,
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

    /// The newest request of this caller for this connection and digest.
    pub async fn latest_approval_request(
        &mut self,
        caller_binding: &str,
        connection: &str,
        digest: &[u8],
    ) -> Result<Option<ApprovalRequestRow>, StoreError> {
        let row = sql_statement(select_requests!(
            "WHERE caller_binding = $1 AND connection = $2 AND digest = $3 ORDER BY created_at DESC, id DESC LIMIT 1"
        ))
        .bind(caller_binding)
        .bind(connection)
        .bind(digest)
        .fetch_optional(self)
        .await?;
        row.as_ref().map(request_from_row).transpose()
    }

    /// The approved requests whose grants may permit this: time-bound grants first, then single-use grants for this digest, the
    /// oldest first.
    pub async fn usable_grants(
        &mut self,
        caller_binding: &str,
        connection: &str,
        digest: &[u8],
        now: i64,
    ) -> Result<Vec<ApprovalRequestRow>, StoreError> {
        let rows = sql_statement(select_requests!(
            "WHERE state = 'approved' AND caller_binding = $1 AND connection = $2
             AND (digest = $3 OR is_time_bound = 1) AND grant_until > $4 ORDER BY is_time_bound DESC, id"
        ))
        .bind(caller_binding)
        .bind(connection)
        .bind(digest)
        .bind(now)
        .fetch_all(self)
        .await?;
        requests_from_rows(&rows)
    }

    /// The approved requests for this digest, except the one with this id.
    pub async fn other_approved_requests(
        &mut self,
        caller_binding: &str,
        connection: &str,
        digest: &[u8],
        id: &str,
    ) -> Result<Vec<ApprovalRequestRow>, StoreError> {
        let rows = sql_statement(select_requests!(
            "WHERE state = 'approved' AND caller_binding = $1 AND connection = $2 AND digest = $3 AND id <> $4
             ORDER BY id"
        ))
        .bind(caller_binding)
        .bind(connection)
        .bind(digest)
        .bind(id)
        .fetch_all(self)
        .await?;
        requests_from_rows(&rows)
    }

    /// Counts the pending requests.
    pub async fn count_pending_requests(&mut self, owner: RequestOwner<'_>) -> Result<i64, StoreError> {
        let count = match owner {
            RequestOwner::Caller(caller) => {
                sql_statement("SELECT count(*) FROM approval_request WHERE state = 'pending' AND caller = $1")
                    .bind(caller)
            }
            RequestOwner::Provider(provider) => sql_statement(
                "SELECT count(*) FROM approval_request
                 WHERE state = 'pending' AND substr(caller, 1, length($1)) = $1",
            )
            .bind(&format!("{provider}/")),
            RequestOwner::Anyone => {
                sql_statement("SELECT count(*) FROM approval_request WHERE state = 'pending'")
            }
        };
        count.fetch_scalar(self).await
    }

    /// Returns true if any request is pending, or approved and not yet consumed.
    pub async fn has_open_requests(&mut self) -> Result<bool, StoreError> {
        let found: i64 = sql_statement(
            // Two subqueries with `LIMIT 1`: each stops at the first entry of its partial index, whatever the number of closed
            // requests.
            "SELECT (SELECT count(*) FROM (SELECT 1 FROM approval_request WHERE state = 'pending' LIMIT 1) AS pending)
             + (SELECT count(*) FROM (SELECT 1 FROM approval_request WHERE state = 'approved' LIMIT 1) AS approved)",
        )
        .fetch_scalar(self)
        .await?;
        Ok(found != 0)
    }

    /// The ids of requests that are past their deadline while their state does not say so.
    pub async fn overdue_request_ids(&mut self, now: i64, limit: i64) -> Result<Vec<String>, StoreError> {
        let rows = sql_statement(
            "SELECT id FROM approval_request WHERE state = 'pending' AND vote_deadline <= $1
             UNION ALL SELECT id FROM approval_request WHERE state = 'approved' AND grant_until <= $1 LIMIT $2",
        )
        .bind(now)
        .bind(limit)
        .fetch_all(self)
        .await?;
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// The requests in these states, or in any state if `states` is empty; the newest first.
    pub async fn list_approval_requests(
        &mut self,
        states: &[&str],
        caller: Option<&str>,
        limit: i64,
    ) -> Result<Vec<ApprovalRequestRow>, StoreError> {
        // The statement is a constant with one placeholder for each state; the last state fills those that are left. A state
        // that has no placeholder must not be dropped silently.
        if states.len() > MAX_LISTED_STATES {
            return Err(StoreError::Database(format!(
                "a list of approval requests takes {MAX_LISTED_STATES} states at most"
            )));
        }
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

    /// The requests for the same actions that are older than `id`, the newest first.
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

    /// The number of the last change of any request.
    pub async fn last_change_number(&mut self) -> Result<i64, StoreError> {
        sql_statement("SELECT change_number FROM meta WHERE singleton = 1").fetch_scalar(self).await
    }

    /// The requests that changed after the change with this number, each with the number of its last change, in that order.
    pub async fn requests_changed_since(&mut self, change: i64) -> Result<Vec<(String, i64)>, StoreError> {
        let rows = sql_statement(
            // No change is missed: writers exclude each other, so the numbers become visible in their order. With concurrent
            // writers a higher number could commit before a lower one.
            "SELECT id, change_number FROM approval_request WHERE change_number > $1 ORDER BY change_number",
        )
        .bind(change)
        .fetch_all(self)
        .await?;
        rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
    }

    async fn next_change_number(&mut self) -> Result<i64, StoreError> {
        sql_statement(
            // A row and not a sequence, which SQLite does not have (docs/adr/0013). It also rolls back with the transaction.
            "UPDATE meta SET change_number = change_number + 1 WHERE singleton = 1 RETURNING change_number",
        )
        .fetch_scalar(self)
        .await
    }

    /// Adds a request. Its `change_number` is set here.
    pub async fn insert_approval_request(&mut self, request: &ApprovalRequestRow) -> Result<(), StoreError> {
        let change = self.next_change_number().await?;
        sql_statement(
            "INSERT INTO approval_request (id, state, created_at, hold_deadline, vote_deadline, grant_until,
                is_time_bound, caller, caller_binding, connection, digest, actions, details, risk, votes, history,
                attempt_count, use_count, change_number, event_count)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)",
        )
        .bind(&request.id)
        .bind(&request.state)
        .bind(request.created_at)
        .bind(request.hold_deadline)
        .bind(request.vote_deadline)
        .bind(request.grant_until)
        .bind(request.is_time_bound)
        .bind(&request.caller)
        .bind(&request.caller_binding)
        .bind(&request.connection)
        .bind(&request.digest)
        .bind(&request.actions)
        .bind(&request.details)
        .bind(&request.risk)
        .bind(&request.votes)
        .bind(&request.history)
        .bind(request.attempt_count)
        .bind(request.use_count)
        .bind(change)
        .bind(request.event_count)
        .execute(self)
        .await?;
        Ok(())
    }

    /// Writes the columns of a request that may change, if it is still in the state `from` and in the version
    /// `request.change_number`. Returns false if it is not: then nothing was written.
    pub async fn update_approval_request(
        &mut self,
        request: &ApprovalRequestRow,
        from: &str,
    ) -> Result<bool, StoreError> {
        let change = self.next_change_number().await?;
        let done = sql_statement(
            // Compare and set: the state and the version in the WHERE clause let one of two racing writers win, even if the lock
            // failed.
            "UPDATE approval_request SET state = $1, grant_until = $2, is_time_bound = $3, votes = $4, history = $5,
                use_count = $6, change_number = $7, event_count = $8
             WHERE id = $9 AND state = $10 AND change_number = $11",
        )
        .bind(&request.state)
        .bind(request.grant_until)
        .bind(request.is_time_bound)
        .bind(&request.votes)
        .bind(&request.history)
        .bind(request.use_count)
        .bind(change)
        .bind(request.event_count)
        .bind(&request.id)
        .bind(from)
        .bind(request.change_number)
        .execute(self)
        .await?;
        Ok(done == 1)
    }

    /// Ends a request whose row cannot be understood. The other columns stay as they are, for an investigation.
    pub async fn mark_request_corrupt(&mut self, id: &str) -> Result<(), StoreError> {
        let change = self.next_change_number().await?;
        sql_statement("UPDATE approval_request SET state = 'corrupt', change_number = $1 WHERE id = $2")
            .bind(change)
            .bind(id)
            .execute(self)
            .await?;
        Ok(())
    }

    /// Adds to the counters of a request. This is no change of the request: a vote that was read before is still valid.
    pub async fn add_to_counters(&mut self, id: &str, attempts: i64, uses: i64) -> Result<(), StoreError> {
        sql_statement(
            // Added in SQL: a value that was read before could be outdated by another process.
            "UPDATE approval_request SET attempt_count = attempt_count + $1, use_count = use_count + $2 WHERE id = $3",
        )
        .bind(attempts)
        .bind(uses)
        .bind(id)
        .execute(self)
        .await?;
        Ok(())
    }

    /// Removes requests that are closed, were created before, and have their whole history in the journal.
    pub async fn delete_closed_requests(&mut self, before: i64) -> Result<u64, StoreError> {
        sql_statement(
            // A request is kept until the journal has its history: the journal is the record, and this is only the state.
            "DELETE FROM approval_request WHERE created_at < $1 AND state NOT IN ('pending', 'approved')
             AND (journaled_count >= event_count OR state = 'corrupt')",
        )
        .bind(before)
        .execute(self)
        .await
    }

    /// Records the time and returns the latest that was ever recorded. A clock that was set back, or that differs from the
    /// clock of another replica, must not bring back a grant that had expired.
    pub async fn advance_latest_time(&mut self, now: i64) -> Result<i64, StoreError> {
        sql_statement(
            // `CASE` and not `max(a, b)`: the function of two arguments is `max` in SQLite and `greatest` in PostgreSQL.
            "UPDATE meta SET latest_time = CASE WHEN latest_time < $1 THEN $1 ELSE latest_time END
             WHERE singleton = 1 RETURNING latest_time",
        )
        .bind(now)
        .fetch_scalar(self)
        .await
    }

    /// The latest time that was ever recorded.
    pub async fn latest_time(&mut self) -> Result<i64, StoreError> {
        sql_statement("SELECT latest_time FROM meta WHERE singleton = 1").fetch_scalar(self).await
    }

    /// Sets the latest time back. Only safe while no request is pending or approved.
    pub async fn reset_latest_time(&mut self, now: i64) -> Result<(), StoreError> {
        sql_statement("UPDATE meta SET latest_time = $1 WHERE singleton = 1").bind(now).execute(self).await?;
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
            details: "{}".to_owned(),
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
        let consumed = ApprovalRequestRow { state: "consumed".to_owned(), ..read.clone() };
        assert!(!write.update_approval_request(&consumed, "pending").await.unwrap(), "another state");
        assert!(
            !write
                .update_approval_request(
                    &ApprovalRequestRow { change_number: 0, ..consumed.clone() },
                    "approved"
                )
                .await
                .unwrap()
        );
        assert!(write.update_approval_request(&consumed, "approved").await.unwrap());
        assert!(!write.update_approval_request(&consumed, "approved").await.unwrap(), "twice");
        assert!(!write.update_approval_request(&consumed, "consumed").await.unwrap(), "from an old version");
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
            state: "consumed".to_owned(),
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
    async fn every_state_can_be_listed_and_more_states_than_there_are_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let store = testing::open_test_store(&directory.path().join("s.db")).await.unwrap();
        let mut write = store.begin_write().await.unwrap();
        write.insert_approval_request(&approved_row()).await.unwrap();
        let states = ["a", "b", "c", "d", "e", "f", "approved"];
        assert_eq!(write.list_approval_requests(&states, None, 10).await.unwrap().len(), 1);
        assert_eq!(write.list_approval_requests(&states[..6], None, 10).await.unwrap(), []);
        assert_eq!(write.list_approval_requests(&[], Some("c"), 10).await.unwrap().len(), 1);
        assert_eq!(write.list_approval_requests(&[], Some("other"), 10).await.unwrap(), []);
        assert!(write.list_approval_requests(&["a"; 8], None, 10).await.is_err());
    }

    #[tokio::test]
    async fn a_dropped_transaction_leaves_no_trace_and_a_read_transaction_cannot_write() {
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

//! Notifications as rows: one for each event of an approval request on each channel. What the events mean, and when to try
//! again, is in `durward-notification`. A row is leased to one process at a time, and only the holder of the lease may end it.

use crate::{
    StoreError, StoreTransaction,
    statement::{SqlRow, sql_statement},
};

/// One event of an approval request on its way to one channel. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRow {
    pub approval_request: String,
    pub event: String,
    pub channel: String,
    pub created_at: i64,
    /// The number of times that it was leased. It identifies a lease: only its holder knows this number.
    pub attempt_count: i64,
}

/// The result of an attempt to send a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryOutcome {
    Sent,
    /// It is no longer worth sending.
    Dropped,
    /// It failed too often; with the last error.
    GivenUp(String),
    Retry {
        at: i64,
        error: String,
    },
}

/// The state of a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelRow {
    /// The last change of any approval request for which its deliveries were created.
    pub change_number: i64,
    pub last_success: Option<i64>,
    pub failing_since: Option<i64>,
    pub last_error: Option<String>,
    /// When the current minute of its rate limit began, and how many messages were sent in that minute.
    pub minute_start: i64,
    pub sent_in_minute: i64,
}

/// A query with the condition for an announcement that is no longer worth sending: the approval request is closed already. A
/// row that is leased may be on its way and is left alone.
macro_rules! where_unannounced {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            "leased_until <= $2 AND event = 'approval_request.opened'
             AND NOT EXISTS (SELECT 1 FROM approval_request WHERE approval_request.id = delivery.approval_request
                AND approval_request.state = 'pending')",
            $after
        )
    };
}

fn delivery_from_row(row: &SqlRow) -> Result<DeliveryRow, StoreError> {
    Ok(DeliveryRow {
        approval_request: row.get(0)?,
        event: row.get(1)?,
        channel: row.get(2)?,
        created_at: row.get(3)?,
        attempt_count: row.get(4)?,
    })
}

impl StoreTransaction {
    pub async fn find_channel(&mut self, name: &str) -> Result<Option<ChannelRow>, StoreError> {
        let row = sql_statement(
            "SELECT change_number, last_success, failing_since, last_error, minute_start, sent_in_minute
             FROM channel WHERE name = $1",
        )
        .bind(name)
        .fetch_optional(self)
        .await?;
        row.map(|row| {
            Ok(ChannelRow {
                change_number: row.get(0)?,
                last_success: row.get(1)?,
                failing_since: row.get(2)?,
                last_error: row.get(3)?,
                minute_start: row.get(4)?,
                sent_in_minute: row.get(5)?,
            })
        })
        .transpose()
    }

    /// Records that the deliveries of a channel were created up to this change.
    pub async fn advance_channel_cursor(&mut self, channel: &str, change: i64) -> Result<(), StoreError> {
        sql_statement(
            "INSERT INTO channel (name, change_number, minute_start, sent_in_minute) VALUES ($1, $2, 0, 0)
             ON CONFLICT (name) DO UPDATE SET change_number =
                CASE WHEN channel.change_number < excluded.change_number
                THEN excluded.change_number ELSE channel.change_number END",
        )
        .bind(channel)
        .bind(change)
        .execute(self)
        .await?;
        Ok(())
    }

    /// Sets how many messages were sent in the minute that began at `minute`.
    pub async fn set_sent_count(&mut self, channel: &str, minute: i64, sent: i64) -> Result<(), StoreError> {
        sql_statement("UPDATE channel SET minute_start = $2, sent_in_minute = $3 WHERE name = $1")
            .bind(channel)
            .bind(minute)
            .bind(sent)
            .execute(self)
            .await?;
        Ok(())
    }

    /// Records that a message arrived. Returns whether the channel had been failing.
    pub async fn record_channel_success(&mut self, channel: &str, now: i64) -> Result<bool, StoreError> {
        let was_failing = self.find_channel(channel).await?.is_some_and(|row| row.failing_since.is_some());
        sql_statement(
            "UPDATE channel SET last_success = $2, failing_since = NULL, last_error = NULL WHERE name = $1",
        )
        .bind(channel)
        .bind(now)
        .execute(self)
        .await?;
        Ok(was_failing)
    }

    /// Records that a message did not arrive. Returns whether the channel had worked until now.
    pub async fn record_channel_failure(
        &mut self,
        channel: &str,
        now: i64,
        error: &str,
    ) -> Result<bool, StoreError> {
        let was_working = self.find_channel(channel).await?.is_none_or(|row| row.failing_since.is_none());
        sql_statement(
            "UPDATE channel SET failing_since = coalesce(failing_since, $2), last_error = $3 WHERE name = $1",
        )
        .bind(channel)
        .bind(now)
        .bind(error)
        .execute(self)
        .await?;
        Ok(was_working)
    }

    /// Adds a delivery, unless there is one already.
    pub async fn insert_delivery(
        &mut self,
        channel: &str,
        approval_request: &str,
        event: &str,
        now: i64,
    ) -> Result<(), StoreError> {
        sql_statement(
            "INSERT INTO delivery (approval_request, event, channel, state, created_at, attempt_count, next_at,
                leased_until)
             VALUES ($1, $2, $3, 'waiting', $4, 0, $4, 0) ON CONFLICT DO NOTHING",
        )
        .bind(approval_request)
        .bind(event)
        .bind(channel)
        .bind(now)
        .execute(self)
        .await?;
        Ok(())
    }

    /// Returns true if a channel has, or had, a delivery of this event that was not dropped.
    pub async fn has_delivery(
        &mut self,
        channel: &str,
        approval_request: &str,
        event: &str,
    ) -> Result<bool, StoreError> {
        let found: i64 = sql_statement(
            "SELECT count(*) FROM delivery
             WHERE channel = $1 AND approval_request = $2 AND event = $3 AND state <> 'dropped'",
        )
        .bind(channel)
        .bind(approval_request)
        .bind(event)
        .fetch_scalar(self)
        .await?;
        Ok(found != 0)
    }

    /// Drops the deliveries of a channel that are no longer worth sending: that a request was opened, if it is closed already.
    /// With `paired`, also that a request was closed, if its opening was never announced.
    pub async fn drop_stale_deliveries(
        &mut self,
        channel: &str,
        now: i64,
        paired: bool,
    ) -> Result<(), StoreError> {
        sql_statement(where_unannounced!(
            "UPDATE delivery SET state = 'dropped' WHERE channel = $1 AND state = 'waiting' AND ",
            ""
        ))
        .bind(channel)
        .bind(now)
        .execute(self)
        .await?;
        if paired {
            sql_statement(
                "UPDATE delivery SET state = 'dropped'
                 WHERE channel = $1 AND state = 'waiting' AND event = 'approval_request.closed'
                    AND leased_until <= $2
                 AND EXISTS (SELECT 1 FROM delivery AS opened WHERE opened.channel = delivery.channel
                    AND opened.approval_request = delivery.approval_request
                    AND opened.event = 'approval_request.opened' AND opened.state IN ('dropped', 'given_up'))",
            )
            .bind(channel)
            .bind(now)
            .execute(self)
            .await?;
        }
        Ok(())
    }

    /// The deliveries that a channel may send now, at most `limit`: break-glass first, then opened requests, then closed ones,
    /// each in the order in which they came. The closing of a request waits until its opening is sent.
    pub async fn due_deliveries(
        &mut self,
        channel: &str,
        now: i64,
        limit: i64,
    ) -> Result<Vec<DeliveryRow>, StoreError> {
        let rows = sql_statement(
            "SELECT approval_request, event, channel, created_at, attempt_count FROM delivery
             WHERE channel = $1 AND state = 'waiting' AND next_at <= $2
             AND NOT (event = 'approval_request.closed' AND EXISTS (SELECT 1 FROM delivery AS opened
                WHERE opened.channel = delivery.channel AND opened.approval_request = delivery.approval_request
                AND opened.event = 'approval_request.opened' AND opened.state = 'waiting'))
             ORDER BY event = 'approval_request.closed', event = 'approval_request.opened', created_at,
                approval_request LIMIT $3",
        )
        .bind(channel)
        .bind(now)
        .bind(limit)
        .fetch_all(self)
        .await?;
        rows.iter().map(delivery_from_row).collect()
    }

    /// Returns true if a channel has anything to do now: to send, or to drop.
    pub async fn has_due_deliveries(&mut self, channel: &str, now: i64) -> Result<bool, StoreError> {
        let found: i64 = sql_statement(where_unannounced!(
            "SELECT count(*) FROM (SELECT 1 FROM delivery WHERE channel = $1 AND state = 'waiting' AND (next_at <= $2 OR (",
            ")) LIMIT 1) AS found"
        ))
        .bind(channel)
        .bind(now)
        .fetch_scalar(self)
        .await?;
        Ok(found != 0)
    }

    /// When the next delivery of a channel is due, if that is after `now`.
    pub async fn next_delivery_time(&mut self, channel: &str, now: i64) -> Result<Option<i64>, StoreError> {
        sql_statement(
            "SELECT min(next_at) FROM delivery WHERE channel = $1 AND state = 'waiting' AND next_at > $2",
        )
        .bind(channel)
        .bind(now)
        .fetch_scalar(self)
        .await
    }

    /// Counts the waiting deliveries of a channel.
    pub async fn count_waiting_deliveries(&mut self, channel: &str) -> Result<i64, StoreError> {
        sql_statement("SELECT count(*) FROM delivery WHERE channel = $1 AND state = 'waiting'")
            .bind(channel)
            .fetch_scalar(self)
            .await
    }

    /// Leases a delivery until then: no other process tries it meanwhile. Counts the attempt.
    pub async fn lease_delivery(&mut self, row: &mut DeliveryRow, until: i64) -> Result<(), StoreError> {
        row.attempt_count = sql_statement(
            // A lease and no lock: a process that dies while it sends must not hold the message for ever.
            "UPDATE delivery SET attempt_count = attempt_count + 1, next_at = $4, leased_until = $4
             WHERE channel = $1 AND approval_request = $2 AND event = $3 RETURNING attempt_count",
        )
        .bind(&row.channel)
        .bind(&row.approval_request)
        .bind(&row.event)
        .bind(until)
        .fetch_scalar(self)
        .await?;
        Ok(())
    }

    /// Writes how a leased delivery ended. Returns false if the lease expired and another process has leased it since.
    pub async fn finish_delivery(
        &mut self,
        row: &DeliveryRow,
        outcome: &DeliveryOutcome,
    ) -> Result<bool, StoreError> {
        let (state, next_at, error) = match outcome {
            DeliveryOutcome::Sent => ("sent", 0, None),
            DeliveryOutcome::Dropped => ("dropped", 0, None),
            DeliveryOutcome::GivenUp(error) => ("given_up", 0, Some(error)),
            DeliveryOutcome::Retry { at, error } => ("waiting", *at, Some(error)),
        };
        let done = sql_statement(
            // The attempt count is a fencing token: a sender whose lease expired must not overwrite the result of the next one.
            "UPDATE delivery SET state = $5, next_at = $6, last_error = $7, leased_until = 0
             WHERE channel = $1 AND approval_request = $2 AND event = $3 AND state = 'waiting' AND attempt_count = $4",
        )
        .bind(&row.channel)
        .bind(&row.approval_request)
        .bind(&row.event)
        .bind(row.attempt_count)
        .bind(state)
        .bind(next_at)
        .bind(error)
        .execute(self)
        .await?;
        Ok(done == 1)
    }

    /// Puts every delivery of a channel off until then, as its server asked for.
    pub async fn pause_channel(&mut self, channel: &str, until: i64) -> Result<(), StoreError> {
        sql_statement(
            "UPDATE delivery SET next_at = CASE WHEN next_at < $2 THEN $2 ELSE next_at END
             WHERE channel = $1 AND state = 'waiting'",
        )
        .bind(channel)
        .bind(until)
        .execute(self)
        .await?;
        Ok(())
    }

    /// Deletes the deliveries that were created before this time.
    pub async fn delete_deliveries_before(&mut self, before: i64) -> Result<u64, StoreError> {
        sql_statement("DELETE FROM delivery WHERE created_at < $1").bind(before).execute(self).await
    }
}

#[cfg(test)]
mod tests;

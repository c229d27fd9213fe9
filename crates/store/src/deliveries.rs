//! What is to be sent to people, as rows: one for each event of an ask on each channel. What the events mean and when to try
//! again is for `durward-notification`; here a row is leased to one process at a time, and only its holder may end it.

use crate::{
    StoreError, StoreTransaction,
    statement::{SqlRow, sql_statement},
};

/// One event of an ask on its way to one channel. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRow {
    pub approval_request: String,
    pub event: String,
    pub channel: String,
    pub created_at: i64,
    /// How often it was taken to be sent. It is what the holder of a lease knows and nobody else.
    pub attempt_count: i64,
}

/// How a delivery ended, or when it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryOutcome {
    Sent,
    /// It is not told any more.
    Dropped,
    GivenUp(String),
    Retry {
        at: i64,
        error: String,
    },
}

/// A channel as it was last seen to work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelRow {
    /// Up to which change of any ask its deliveries are made.
    pub change_number: i64,
    pub last_success: Option<i64>,
    pub failing_since: Option<i64>,
    pub last_error: Option<String>,
    /// When its current minute began, and how many messages were sent in it.
    pub minute_start: i64,
    pub sent_in_minute: i64,
}

/// Begins a query, and ends it with what is dropped: an ask that is over is not announced any more.
macro_rules! where_unannounced {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            "leased_until <= $2 AND event = 'ask.opened'
             AND NOT EXISTS (SELECT 1 FROM ask WHERE ask.id = delivery.ask AND ask.state = 'pending')",
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
            "SELECT change, last_success, failing_since, last_error, minute, sent FROM channel WHERE name = $1",
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

    /// Notes that the deliveries of a channel are made up to that change.
    pub async fn advance_channel_cursor(&mut self, channel: &str, change: i64) -> Result<(), StoreError> {
        sql_statement(
            "INSERT INTO channel (name, change, minute, sent) VALUES ($1, $2, 0, 0)
             ON CONFLICT (name) DO UPDATE SET change =
                CASE WHEN channel.change < excluded.change THEN excluded.change ELSE channel.change END",
        )
        .bind(channel)
        .bind(change)
        .execute(self)
        .await?;
        Ok(())
    }

    /// Counts messages of the minute that began then.
    pub async fn set_sent_count(&mut self, channel: &str, minute: i64, sent: i64) -> Result<(), StoreError> {
        sql_statement("UPDATE channel SET minute = $2, sent = $3 WHERE name = $1")
            .bind(channel)
            .bind(minute)
            .bind(sent)
            .execute(self)
            .await?;
        Ok(())
    }

    /// A message arrived. True: the channel had been failing.
    pub async fn record_channel_success(&mut self, channel: &str, now: i64) -> Result<bool, StoreError> {
        let was = self.find_channel(channel).await?.is_some_and(|row| row.failing_since.is_some());
        sql_statement(
            "UPDATE channel SET last_success = $2, failing_since = NULL, last_error = NULL WHERE name = $1",
        )
        .bind(channel)
        .bind(now)
        .execute(self)
        .await?;
        Ok(was)
    }

    /// A message did not arrive. True: the channel had worked until now.
    pub async fn record_channel_failure(
        &mut self,
        channel: &str,
        now: i64,
        error: &str,
    ) -> Result<bool, StoreError> {
        let worked = self.find_channel(channel).await?.is_none_or(|row| row.failing_since.is_none());
        sql_statement(
            "UPDATE channel SET failing_since = coalesce(failing_since, $2), last_error = $3 WHERE name = $1",
        )
        .bind(channel)
        .bind(now)
        .bind(error)
        .execute(self)
        .await?;
        Ok(worked)
    }

    /// Adds a delivery, unless there is one already.
    pub async fn insert_delivery(
        &mut self,
        channel: &str,
        ask: &str,
        event: &str,
        now: i64,
    ) -> Result<(), StoreError> {
        sql_statement(
            "INSERT INTO delivery (ask, event, channel, state, created, attempts, next_at, leased_until)
             VALUES ($1, $2, $3, 'waiting', $4, 0, $4, 0) ON CONFLICT DO NOTHING",
        )
        .bind(ask)
        .bind(event)
        .bind(channel)
        .bind(now)
        .execute(self)
        .await?;
        Ok(())
    }

    /// Whether a channel has, or had, a delivery of this event that was not dropped.
    pub async fn has_delivery(&mut self, channel: &str, ask: &str, event: &str) -> Result<bool, StoreError> {
        let found: i64 = sql_statement(
            "SELECT count(*) FROM delivery WHERE channel = $1 AND ask = $2 AND event = $3 AND state <> 'dropped'",
        )
        .bind(channel)
        .bind(ask)
        .bind(event)
        .fetch_scalar(self)
        .await?;
        Ok(found != 0)
    }

    /// Drops what a channel need not tell any more: that an ask opened which is over. With `paired`, also the end of what was
    /// never announced.
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
                 WHERE channel = $1 AND state = 'waiting' AND event = 'ask.closed' AND leased_until <= $2
                 AND EXISTS (SELECT 1 FROM delivery AS opened WHERE opened.channel = delivery.channel
                    AND opened.ask = delivery.ask AND opened.event = 'ask.opened'
                    AND opened.state IN ('dropped', 'given_up'))",
            )
            .bind(channel)
            .bind(now)
            .execute(self)
            .await?;
        }
        Ok(())
    }

    /// At most `limit` of what a channel may send now: break-glass first, then what opened, then what closed; each in the order it came. The end
    /// of an ask waits until its beginning is told.
    pub async fn due_deliveries(
        &mut self,
        channel: &str,
        now: i64,
        limit: i64,
    ) -> Result<Vec<DeliveryRow>, StoreError> {
        let rows = sql_statement(
            "SELECT ask, event, channel, created, attempts FROM delivery
             WHERE channel = $1 AND state = 'waiting' AND next_at <= $2
             AND NOT (event = 'ask.closed' AND EXISTS (SELECT 1 FROM delivery AS opened
                WHERE opened.channel = delivery.channel AND opened.ask = delivery.ask
                AND opened.event = 'ask.opened' AND opened.state = 'waiting'))
             ORDER BY event = 'ask.closed', event = 'ask.opened', created, ask LIMIT $3",
        )
        .bind(channel)
        .bind(now)
        .bind(limit)
        .fetch_all(self)
        .await?;
        rows.iter().map(delivery_from_row).collect()
    }

    /// Whether a channel has anything to do now: to send, or to drop.
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

    /// When a delivery of a channel is next to be tried, after now.
    pub async fn next_delivery_time(&mut self, channel: &str, now: i64) -> Result<Option<i64>, StoreError> {
        sql_statement(
            "SELECT min(next_at) FROM delivery WHERE channel = $1 AND state = 'waiting' AND next_at > $2",
        )
        .bind(channel)
        .bind(now)
        .fetch_scalar(self)
        .await
    }

    /// How many deliveries of a channel wait.
    pub async fn count_waiting_deliveries(&mut self, channel: &str) -> Result<i64, StoreError> {
        sql_statement("SELECT count(*) FROM delivery WHERE channel = $1 AND state = 'waiting'")
            .bind(channel)
            .fetch_scalar(self)
            .await
    }

    /// Takes a delivery until then: nobody else tries it meanwhile. Counts the attempt.
    pub async fn lease_delivery(&mut self, row: &mut DeliveryRow, until: i64) -> Result<(), StoreError> {
        row.attempt_count = sql_statement(
            "UPDATE delivery SET attempts = attempts + 1, next_at = $4, leased_until = $4
             WHERE channel = $1 AND ask = $2 AND event = $3 RETURNING attempts",
        )
        .bind(&row.channel)
        .bind(&row.approval_request)
        .bind(&row.event)
        .bind(until)
        .fetch_scalar(self)
        .await?;
        Ok(())
    }

    /// Writes how a leased delivery went. False: the lease ran out and somebody else has taken it since.
    pub async fn finish_delivery(
        &mut self,
        row: &DeliveryRow,
        how: &DeliveryOutcome,
    ) -> Result<bool, StoreError> {
        let (state, next_at, error) = match how {
            DeliveryOutcome::Sent => ("sent", 0, None),
            DeliveryOutcome::Dropped => ("dropped", 0, None),
            DeliveryOutcome::GivenUp(error) => ("given_up", 0, Some(error)),
            DeliveryOutcome::Retry { at, error } => ("waiting", *at, Some(error)),
        };
        let done = sql_statement(
            "UPDATE delivery SET state = $5, next_at = $6, last_error = $7, leased_until = 0
             WHERE channel = $1 AND ask = $2 AND event = $3 AND state = 'waiting' AND attempts = $4",
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

    /// Nothing of this channel is tried before then: its server asked for it.
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

    /// Removes deliveries that were made before.
    pub async fn delete_deliveries_before(&mut self, before: i64) -> Result<u64, StoreError> {
        sql_statement("DELETE FROM delivery WHERE created < $1").bind(before).execute(self).await
    }
}

#[cfg(test)]
mod tests;

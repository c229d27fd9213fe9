//! When messages are sent: the minute's quota, and the retries of a message that did not arrive.
//!
//! Every `i64` is in milliseconds, since the Unix epoch or as a length, as the store counts.

use crate::NotificationEvent;
use durward_core::limits::NOTIFICATION_TTL;
use durward_store::{ChannelRow, DeliveryRow};
use std::time::Duration;

pub(crate) const SECOND_MILLIS: i64 = 1_000;
pub(crate) const MINUTE_MILLIS: i64 = 60 * SECOND_MILLIS;
pub(crate) const HOUR_MILLIS: i64 = 60 * MINUTE_MILLIS;
/// The time in which a message is tried, and in which people are notified of the end of a request.
pub(crate) const NOTIFICATION_TTL_MILLIS: i64 = NOTIFICATION_TTL.as_millis() as i64;
/// Messages of one channel that are sent at the same time.
pub(crate) const MAX_CONCURRENT_MESSAGES: usize = 4;
/// The time-out of one attempt to post to a webhook.
pub(crate) const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// The time-out of one attempt to send a mail. Some mail servers delay their greeting on purpose, against spam.
pub(crate) const SMTP_TIMEOUT: Duration = Duration::from_secs(40);
/// The time for which a message still belongs to the process that sends it after the time-out of the attempt.
pub(crate) const LEASE_MARGIN: Duration = Duration::from_secs(5);

/// The wait after this many attempts.
pub(crate) fn backoff_millis(attempts: i64) -> i64 {
    match attempts {
        ..=1 => 5 * SECOND_MILLIS,
        2 => 30 * SECOND_MILLIS,
        3 => 2 * MINUTE_MILLIS,
        4 => 10 * MINUTE_MILLIS,
        _ => HOUR_MILLIS,
    }
}

/// When to try again, no earlier than the receiver asked for in `retry_after`, up to an hour. `None`: give up.
pub(crate) fn next_attempt_at(
    created_at: i64,
    attempts: i64,
    retry_after: Option<i64>,
    now: i64,
) -> Option<i64> {
    // A receiver that asks for a week, by mistake or not, must not silence its channel for longer than an hour.
    let wait = backoff_millis(attempts).max(retry_after.unwrap_or_default().min(HOUR_MILLIS));
    let at = now.saturating_add(wait);
    (at < created_at.saturating_add(NOTIFICATION_TTL_MILLIS)).then_some(at)
}

/// The minute that a channel is in, and the messages that it may still send in it.
pub(crate) struct MinuteQuota {
    pub(crate) started_at: i64,
    pub(crate) sent_messages: i64,
    pub(crate) remaining_messages: usize,
}

impl MinuteQuota {
    pub(crate) fn from_row(max_messages: usize, row: &ChannelRow, now: i64) -> Self {
        let is_running = now >= row.minute_start && now < row.minute_start + MINUTE_MILLIS;
        let (started_at, sent_messages) =
            if is_running { (row.minute_start, row.sent_in_minute) } else { (now, 0) };
        let remaining_messages =
            max_messages.saturating_sub(usize::try_from(sent_messages).unwrap_or(usize::MAX));
        Self { started_at, sent_messages, remaining_messages }
    }

    pub(crate) fn ends_at(&self) -> i64 {
        self.started_at + MINUTE_MILLIS
    }
}

/// The messages that are sent now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SendPlan {
    /// Each in a message of its own.
    pub individual: Vec<DeliveryRow>,
    /// All in one message.
    pub batch: Vec<DeliveryRow>,
    /// Messages that count toward the minute.
    pub counted_messages: usize,
}

impl SendPlan {
    pub(crate) fn is_empty(&self) -> bool {
        self.individual.is_empty() && self.batch.is_empty()
    }
}

/// Returns true if a delivery is sent whatever the quota says: break-glass is rare, and must not wait behind a flood that an
/// attacker makes.
pub(crate) fn is_unlimited(delivery: &DeliveryRow) -> bool {
    delivery.event == NotificationEvent::BreakGlass.as_str()
}

/// Plans the due deliveries. `remaining` messages may still be sent in this minute; if they are too few, the last of them sums
/// up the rest.
pub(crate) fn plan_messages(due: Vec<DeliveryRow>, remaining: usize) -> SendPlan {
    let (unlimited, mut limited): (Vec<_>, Vec<_>) = due.into_iter().partition(is_unlimited);
    let mut plan = SendPlan { individual: unlimited, ..SendPlan::default() };
    if plan.individual.len() >= MAX_CONCURRENT_MESSAGES {
        plan.individual.truncate(MAX_CONCURRENT_MESSAGES);
        return plan;
    }
    if remaining == 0 || limited.is_empty() {
        return plan;
    }
    let individual = if limited.len() <= remaining { limited.len() } else { remaining - 1 };
    if individual == 0 {
        plan.batch = limited;
        plan.counted_messages = 1;
        return plan;
    }
    limited.truncate(individual.min(MAX_CONCURRENT_MESSAGES - plan.individual.len()));
    plan.counted_messages = limited.len();
    plan.individual.append(&mut limited);
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end_after_a_day() {
        let waits: Vec<i64> = (1..=7).map(|attempts| backoff_millis(attempts) / SECOND_MILLIS).collect();
        assert_eq!(waits, [5, 30, 120, 600, 3_600, 3_600, 3_600]);
        assert_eq!(next_attempt_at(0, 1, None, 100), Some(100 + 5 * SECOND_MILLIS));
        assert_eq!(
            next_attempt_at(0, 1, Some(40 * SECOND_MILLIS), 100),
            Some(100 + 40 * SECOND_MILLIS),
            "the receiver asks for more"
        );
        assert_eq!(next_attempt_at(0, 1, Some(9 * HOUR_MILLIS), 0), Some(HOUR_MILLIS), "up to an hour");
        assert_eq!(
            next_attempt_at(0, 3, Some(SECOND_MILLIS), 0),
            Some(2 * MINUTE_MILLIS),
            "it cannot ask for less"
        );
        assert_eq!(
            next_attempt_at(0, 20, None, NOTIFICATION_TTL_MILLIS - HOUR_MILLIS - 1),
            Some(NOTIFICATION_TTL_MILLIS - 1)
        );
        assert_eq!(next_attempt_at(0, 20, None, NOTIFICATION_TTL_MILLIS - HOUR_MILLIS), None);
    }

    fn delivery_rows(count: usize, event: NotificationEvent) -> Vec<DeliveryRow> {
        let row = |number| DeliveryRow {
            approval_request: format!("{number}"),
            event: event.as_str().to_owned(),
            channel: "c".to_owned(),
            created_at: 0,
            attempt_count: 0,
        };
        (0..count).map(row).collect()
    }

    /// Runs one minute of a quota of 10: the number of individual messages and the size of the batch in each round.
    fn simulate_minute(mut due: Vec<DeliveryRow>) -> Vec<(usize, usize)> {
        let mut remaining = 10;
        let mut sizes = Vec::new();
        loop {
            let plan = plan_messages(due.clone(), remaining);
            if plan.is_empty() {
                return sizes;
            }
            assert!(plan.individual.len() <= MAX_CONCURRENT_MESSAGES && plan.counted_messages <= remaining);
            remaining -= plan.counted_messages;
            due.retain(|row| !plan.individual.contains(row) && !plan.batch.contains(row));
            sizes.push((plan.individual.len(), plan.batch.len()));
        }
    }

    #[test]
    fn a_flood_is_nine_messages_and_a_batch() {
        assert_eq!(simulate_minute(delivery_rows(10, NotificationEvent::Opened)), [(4, 0), (4, 0), (2, 0)]);
        assert_eq!(
            simulate_minute(delivery_rows(300, NotificationEvent::Opened)),
            [(4, 0), (4, 0), (1, 0), (0, 291)]
        );
    }

    #[test]
    fn break_glass_is_not_rate_limited() {
        let mut due = delivery_rows(6, NotificationEvent::BreakGlass);
        assert_eq!(plan_messages(due.clone(), 0).individual.len(), MAX_CONCURRENT_MESSAGES);
        due.truncate(1);
        due.extend(delivery_rows(20, NotificationEvent::Opened));
        let plan = plan_messages(due, 0);
        assert_eq!((plan.individual.len(), plan.batch.len(), plan.counted_messages), (1, 0, 0));
    }
}

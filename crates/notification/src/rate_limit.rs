//! How often and how fast: when a message that did not arrive is tried again, and how many go out in a minute.

use durward_store::DeliveryRow;
use std::time::Duration;

/// In milliseconds, as the store counts.
pub(crate) const SECOND_MILLIS: i64 = 1_000;
pub(crate) const MINUTE_MILLIS: i64 = 60 * SECOND_MILLIS;
pub(crate) const HOUR_MILLIS: i64 = 60 * MINUTE_MILLIS;
/// For how long a message is tried, and the end of an ask is news.
pub(crate) const DAY_MILLIS: i64 = 24 * HOUR_MILLIS;
/// Messages of one channel on their way at once.
pub(crate) const MAX_CONCURRENT_MESSAGES: usize = 4;
/// The longest that one attempt takes: a webhook answers at once, a mail server may take its time to greet.
pub(crate) const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(10);
pub(crate) const SMTP_TIMEOUT: Duration = Duration::from_secs(40);
/// How much longer than an attempt a message belongs to who sends it.
pub(crate) const LEASE_MARGIN: Duration = Duration::from_secs(5);
/// Messages that people get in a minute, the last of them a summary of the rest.
pub(crate) const MAX_MESSAGES_PER_MINUTE: usize = 10;
/// The same for programs.
pub(crate) const MAX_WEBHOOKS_PER_MINUTE: usize = 60;

/// How long to wait after that many attempts.
pub(crate) fn backoff_millis(attempts: i64) -> i64 {
    match attempts {
        ..=1 => 5 * SECOND_MILLIS,
        2 => 30 * SECOND_MILLIS,
        3 => 2 * MINUTE_MILLIS,
        4 => 10 * MINUTE_MILLIS,
        _ => HOUR_MILLIS,
    }
}

/// When to try again; none: a day has passed. What the server asked for counts, up to an hour.
pub(crate) fn next_attempt_at(created: i64, attempts: i64, asked: Option<i64>, now: i64) -> Option<i64> {
    let wait = backoff_millis(attempts).max(asked.unwrap_or_default().min(HOUR_MILLIS));
    let at = now.saturating_add(wait);
    (at < created.saturating_add(DAY_MILLIS)).then_some(at)
}

/// What goes out now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SendPlan {
    /// Each in a message of its own.
    pub individual: Vec<DeliveryRow>,
    /// All in one message.
    pub batch: Vec<DeliveryRow>,
    /// Messages that count for the minute.
    pub counted_messages: usize,
}

/// `due` in the order of the store: break-glass first, which is not limited. `left` messages may still go out in this minute; if
/// that is not enough, the last of them sums up the rest.
pub(crate) fn plan_messages(due: Vec<DeliveryRow>, left: usize) -> SendPlan {
    let (loud, mut rest): (Vec<_>, Vec<_>) = due.into_iter().partition(|row| row.event == "ask.break_glass");
    let mut plan = SendPlan { individual: loud, ..SendPlan::default() };
    if plan.individual.len() >= MAX_CONCURRENT_MESSAGES {
        plan.individual.truncate(MAX_CONCURRENT_MESSAGES);
        return plan;
    }
    let room = MAX_CONCURRENT_MESSAGES - plan.individual.len();
    if left == 0 || rest.is_empty() {
        return plan;
    }
    let alone = if rest.len() <= left { rest.len() } else { left - 1 };
    if alone == 0 {
        plan.batch = rest;
        plan.counted_messages = 1;
        return plan;
    }
    rest.truncate(alone.min(room));
    plan.counted_messages = rest.len();
    plan.individual.append(&mut rest);
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_longer_each_time_and_gives_up_after_a_day() {
        let waits: Vec<i64> = (1..=7).map(|attempts| backoff_millis(attempts) / SECOND_MILLIS).collect();
        assert_eq!(waits, [5, 30, 120, 600, 3_600, 3_600, 3_600]);
        assert_eq!(next_attempt_at(0, 1, None, 100), Some(100 + 5 * SECOND_MILLIS));
        assert_eq!(
            next_attempt_at(0, 1, Some(40 * SECOND_MILLIS), 100),
            Some(100 + 40 * SECOND_MILLIS),
            "the server knows better"
        );
        assert_eq!(next_attempt_at(0, 1, Some(9 * HOUR_MILLIS), 0), Some(HOUR_MILLIS), "within reason");
        assert_eq!(
            next_attempt_at(0, 3, Some(SECOND_MILLIS), 0),
            Some(2 * MINUTE_MILLIS),
            "but it cannot hurry us"
        );
        assert_eq!(next_attempt_at(0, 20, None, DAY_MILLIS - HOUR_MILLIS - 1), Some(DAY_MILLIS - 1));
        assert_eq!(next_attempt_at(0, 20, None, DAY_MILLIS - HOUR_MILLIS), None);
    }

    fn delivery_rows(count: usize, event: &str) -> Vec<DeliveryRow> {
        let row = |number| DeliveryRow {
            approval_request: format!("{number}"),
            event: event.to_owned(),
            channel: "c".to_owned(),
            created_at: 0,
            attempt_count: 0,
        };
        (0..count).map(row).collect()
    }

    /// Plays a minute: sizes of what goes out, with 10 a minute.
    fn simulate_minute(mut due: Vec<DeliveryRow>) -> Vec<(usize, usize)> {
        let mut left = 10;
        let mut sizes = Vec::new();
        loop {
            let plan = plan_messages(due.clone(), left);
            if plan.individual.is_empty() && plan.batch.is_empty() {
                return sizes;
            }
            assert!(plan.individual.len() <= MAX_CONCURRENT_MESSAGES && plan.counted_messages <= left);
            left -= plan.counted_messages;
            due.retain(|row| !plan.individual.contains(row) && !plan.batch.contains(row));
            sizes.push((plan.individual.len(), plan.batch.len()));
        }
    }

    #[test]
    fn a_flood_is_nine_messages_and_a_batch() {
        assert_eq!(simulate_minute(delivery_rows(10, "ask.opened")), [(4, 0), (4, 0), (2, 0)]);
        assert_eq!(simulate_minute(delivery_rows(300, "ask.opened")), [(4, 0), (4, 0), (1, 0), (0, 291)]);
    }

    #[test]
    fn break_glass_is_not_rate_limited() {
        let mut due = delivery_rows(6, "ask.break_glass");
        assert_eq!(plan_messages(due.clone(), 0).individual.len(), MAX_CONCURRENT_MESSAGES);
        due.truncate(1);
        due.extend(delivery_rows(20, "ask.opened"));
        let plan = plan_messages(due, 0);
        assert_eq!((plan.individual.len(), plan.batch.len(), plan.counted_messages), (1, 0, 0));
    }
}

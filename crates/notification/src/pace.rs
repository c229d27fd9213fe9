//! How often and how fast: when a message that did not arrive is tried again, and how many go out in a minute.

use durward_store::DeliveryRow;
use std::time::Duration;

/// In milliseconds, as the store counts.
pub(crate) const SECOND: i64 = 1_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
pub(crate) const HOUR: i64 = 60 * MINUTE;
/// For how long a message is tried, and the end of an ask is news.
pub(crate) const DAY: i64 = 24 * HOUR;
/// Messages of one channel on their way at once.
pub(crate) const AT_ONCE: usize = 4;
/// The longest that one attempt takes: a webhook answers at once, a mail server may take its time to greet.
pub(crate) const POSTING: Duration = Duration::from_secs(10);
pub(crate) const MAILING: Duration = Duration::from_secs(40);
/// How much longer than an attempt a message belongs to who sends it.
pub(crate) const LEASE: Duration = Duration::from_secs(5);
/// Messages that people get in a minute, the last of them a summary of the rest.
pub(crate) const PEOPLE: usize = 10;
/// The same for programs.
pub(crate) const PROGRAMS: usize = 60;

/// How long to wait after that many attempts.
pub(crate) fn back_off(attempts: i64) -> i64 {
    match attempts {
        ..=1 => 5 * SECOND,
        2 => 30 * SECOND,
        3 => 2 * MINUTE,
        4 => 10 * MINUTE,
        _ => HOUR,
    }
}

/// When to try again; none: a day has passed. What the server asked for counts, up to an hour.
pub(crate) fn next_try(created: i64, attempts: i64, asked: Option<i64>, now: i64) -> Option<i64> {
    let wait = back_off(attempts).max(asked.unwrap_or_default().min(HOUR));
    let at = now.saturating_add(wait);
    (at < created.saturating_add(DAY)).then_some(at)
}

/// What goes out now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Each in a message of its own.
    pub single: Vec<DeliveryRow>,
    /// All in one message.
    pub together: Vec<DeliveryRow>,
    /// Messages that count for the minute.
    pub counted: usize,
}

/// `due` in the order of the store: break-glass first, which is not limited. `left` messages may still go out in this minute; if
/// that is not enough, the last of them sums up the rest.
pub(crate) fn plan(due: Vec<DeliveryRow>, left: usize) -> Plan {
    let (loud, mut rest): (Vec<_>, Vec<_>) = due.into_iter().partition(|row| row.event == "ask.break_glass");
    let mut plan = Plan { single: loud, ..Plan::default() };
    if plan.single.len() >= AT_ONCE {
        plan.single.truncate(AT_ONCE);
        return plan;
    }
    let room = AT_ONCE - plan.single.len();
    if left == 0 || rest.is_empty() {
        return plan;
    }
    let alone = if rest.len() <= left { rest.len() } else { left - 1 };
    if alone == 0 {
        plan.together = rest;
        plan.counted = 1;
        return plan;
    }
    rest.truncate(alone.min(room));
    plan.counted = rest.len();
    plan.single.append(&mut rest);
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_longer_each_time_and_gives_up_after_a_day() {
        let waits: Vec<i64> = (1..=7).map(|attempts| back_off(attempts) / SECOND).collect();
        assert_eq!(waits, [5, 30, 120, 600, 3_600, 3_600, 3_600]);
        assert_eq!(next_try(0, 1, None, 100), Some(100 + 5 * SECOND));
        assert_eq!(
            next_try(0, 1, Some(40 * SECOND), 100),
            Some(100 + 40 * SECOND),
            "the server knows better"
        );
        assert_eq!(next_try(0, 1, Some(9 * HOUR), 0), Some(HOUR), "within reason");
        assert_eq!(next_try(0, 3, Some(SECOND), 0), Some(2 * MINUTE), "but it cannot hurry us");
        assert_eq!(next_try(0, 20, None, DAY - HOUR - 1), Some(DAY - 1));
        assert_eq!(next_try(0, 20, None, DAY - HOUR), None);
    }

    fn rows(count: usize, event: &str) -> Vec<DeliveryRow> {
        let row = |number| DeliveryRow {
            ask: format!("{number}"),
            event: event.to_owned(),
            channel: "c".to_owned(),
            created: 0,
            attempts: 0,
        };
        (0..count).map(row).collect()
    }

    /// Plays a minute: sizes of what goes out, with 10 a minute.
    fn minute(mut due: Vec<DeliveryRow>) -> Vec<(usize, usize)> {
        let mut left = 10;
        let mut sizes = Vec::new();
        loop {
            let plan = plan(due.clone(), left);
            if plan.single.is_empty() && plan.together.is_empty() {
                return sizes;
            }
            assert!(plan.single.len() <= AT_ONCE && plan.counted <= left);
            left -= plan.counted;
            due.retain(|row| !plan.single.contains(row) && !plan.together.contains(row));
            sizes.push((plan.single.len(), plan.together.len()));
        }
    }

    #[test]
    fn a_flood_is_nine_messages_and_a_summary() {
        assert_eq!(minute(rows(10, "ask.opened")), [(4, 0), (4, 0), (2, 0)]);
        assert_eq!(minute(rows(300, "ask.opened")), [(4, 0), (4, 0), (1, 0), (0, 291)]);
    }

    #[test]
    fn break_glass_waits_for_nothing() {
        let mut due = rows(6, "ask.break_glass");
        assert_eq!(plan(due.clone(), 0).single.len(), AT_ONCE);
        due.truncate(1);
        due.extend(rows(20, "ask.opened"));
        let plan = plan(due, 0);
        assert_eq!((plan.single.len(), plan.together.len(), plan.counted), (1, 0, 0));
    }
}

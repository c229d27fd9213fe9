//! Clocks, and times as people and programs read them. Every time is in UTC.

use std::sync::Arc;
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

/// The current time. Tests pass one that they advance by hand.
pub type Clock = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;

/// The clock of the operating system.
pub fn system_clock() -> Clock {
    Arc::new(OffsetDateTime::now_utc)
}

/// Milliseconds since the Unix epoch, as the store keeps times.
pub fn to_unix_millis(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

/// The reverse of [`to_unix_millis`]. A number beyond the calendar becomes its end, so that no stored number is an error.
pub fn from_unix_millis(millis: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000)
        .unwrap_or(time::macros::datetime!(9999-12-31 23:59:59 UTC))
}

/// A time for people, to the second: `2026-11-21 16:10:19 UTC`.
pub fn format_utc(at: OffsetDateTime) -> String {
    let at = at.to_offset(UtcOffset::UTC);
    let (hour, minute, second) = at.to_hms();
    format!("{} {hour:02}:{minute:02}:{second:02} UTC", at.date())
}

/// A time for programs: RFC 3339, with as many fractional digits as the time has.
pub fn format_rfc3339(at: OffsetDateTime) -> String {
    // Fails only for years beyond 9999.
    at.to_offset(UtcOffset::UTC).format(&Rfc3339).unwrap_or_default()
}

/// A time in whole seconds: `2026-11-21T16:10:19Z`, the form that the IAM documentation gives for dates in policies
/// (IAM User Guide, "IAM JSON policy elements: Condition operators", date conditions).
pub fn format_rfc3339_seconds(at: OffsetDateTime) -> String {
    let at = at.to_offset(UtcOffset::UTC);
    let (hour, minute, second) = at.to_hms();
    format!("{}T{hour:02}:{minute:02}:{second:02}Z", at.date())
}

/// A recorded time, which is RFC 3339, as people read it. Any other text is `None`.
pub fn format_recorded_time(text: &str) -> Option<String> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(format_utc)
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn each_form_is_in_utc() {
        let at = datetime!(2026-11-21 17:10:19.25 +1);
        assert_eq!(format_utc(at), "2026-11-21 16:10:19 UTC");
        assert_eq!(format_rfc3339(at), "2026-11-21T16:10:19.25Z");
        assert_eq!(format_rfc3339_seconds(at), "2026-11-21T16:10:19Z");
        assert_eq!(
            format_recorded_time("2026-11-21T17:10:19.25+01:00").as_deref(),
            Some("2026-11-21 16:10:19 UTC")
        );
        assert_eq!(format_recorded_time("yesterday"), None);
    }

    #[test]
    fn milliseconds_read_back_and_never_leave_the_calendar() {
        let at = datetime!(2026-11-21 16:10:19.123 UTC);
        assert_eq!(from_unix_millis(to_unix_millis(at)), at);
        assert_eq!(from_unix_millis(i64::MAX).year(), 9999);
    }
}

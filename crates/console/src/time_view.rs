//! Times and durations as pages show them.

use durward_core::timestamps::{format_rfc3339, format_utc};
use std::time::Duration;
use time::OffsetDateTime;

/// A time for people and, in `datetime`, for the script that counts down to it.
pub struct TimeView {
    pub text: String,
    pub rfc3339: String,
    pub is_past: bool,
}

impl TimeView {
    pub fn new(at: OffsetDateTime, now: OffsetDateTime) -> Self {
        Self { text: format_utc(at), rfc3339: format_rfc3339(at), is_past: at <= now }
    }
}

/// `2 h`, `15 min`, `45 s`.
pub fn format_duration(duration: Duration) -> String {
    match duration.as_secs() {
        0 => "0 s".to_owned(),
        seconds if seconds % 3_600 == 0 => format!("{} h", seconds / 3_600),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

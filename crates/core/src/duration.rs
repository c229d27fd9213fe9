//! Durations as the configuration and policies write them.

use std::time::Duration;

/// Parses `90s`, `10m`, `2h` or `1d`. Zero is no duration: a timeout of zero would refuse everything.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let seconds = match unit {
        's' => number,
        // Checked: a wrapped product would turn a very long time-out into a short one.
        'm' => number.checked_mul(60)?,
        'h' => number.checked_mul(3_600)?,
        'd' => number.checked_mul(86_400)?,
        _ => return None,
    };
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_whole_numbers_with_a_unit_and_nothing_else() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("2h", 7_200), ("1d", 86_400)] {
            assert_eq!(parse_duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in
            ["", "s", "10", "0s", "-1s", "1.5h", "1w", " 1s", "99999999999999999999d", "9999999999999999999d"]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}

//! Values of command-line arguments that clap cannot parse by itself.

use std::time::Duration;

#[derive(Debug, PartialEq, thiserror::Error)]
pub enum ArgumentError {
    #[error("write a number and s, m, h or d, as in 30m")]
    Duration,
    #[error("write a number from 0.01 to 10000")]
    SpeedFactor,
    #[error("write KEY=VALUE")]
    KeyValue,
}

pub fn parse_duration_argument(text: &str) -> Result<Duration, ArgumentError> {
    durward_core::parse_duration(text).ok_or(ArgumentError::Duration)
}

pub fn parse_speed_factor(text: &str) -> Result<f64, ArgumentError> {
    let factor = text.parse().ok().filter(|factor| (0.01..=10_000.0).contains(factor));
    factor.ok_or(ArgumentError::SpeedFactor)
}

pub fn parse_key_value(text: &str) -> Result<(String, String), ArgumentError> {
    let (key, value) = text.split_once('=').ok_or(ArgumentError::KeyValue)?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_factor_neither_stops_nor_overflows_a_replay() {
        assert_eq!(parse_speed_factor("0.5"), Ok(0.5));
        for text in ["0", "-1", "inf", "nan", "10001", "1e400", "fast"] {
            assert_eq!(parse_speed_factor(text), Err(ArgumentError::SpeedFactor), "{text}");
        }
    }

    #[test]
    fn a_value_may_hold_an_equals_sign() {
        assert_eq!(parse_key_value("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(parse_key_value("a"), Err(ArgumentError::KeyValue));
    }
}

//! Whole numbers, however they are written: `500`, `500.0`, `5e2` and `0.5e3` are one number.
//!
//! JSON has one kind of number (RFC 8259 section 6), so a server may read any of these as 500. Policy compares whole numbers only,
//! and must see 500 in each.

use serde_json::Number;

/// The most digits of a whole number that fits in 64 bits: 2^64 - 1 has 20.
const MAX_DIGITS: usize = 20;

/// The number that a JSON number stands for, if it is whole and fits in 64 bits, signed or not. The arithmetic is that of decimal
/// digits: rounded to a float, 500.00000000000000000001 would be 500.
pub fn parse_whole_number(text: &str) -> Option<Number> {
    let (is_negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    let is_number = !integer.is_empty() && !exponent_digits.is_empty();
    if !is_number || ![integer, fraction, exponent_digits].into_iter().all(is_digits) {
        return None;
    }
    let digits = format!("{integer}{fraction}");
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Some(0.into());
    }
    // The power of ten of the last significant digit. An exponent that does not fit is far outside the range, whatever the digits
    // are: a body is not long enough to make up for it.
    let trailing_zeros = digits.len() - digits.trim_end_matches('0').len();
    let power = exponent
        .parse::<i64>()
        .ok()?
        .checked_add(i64::try_from(trailing_zeros).ok()?)?
        .checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let zeros = usize::try_from(power).ok()?;
    if significant.len().checked_add(zeros)? > MAX_DIGITS {
        return None;
    }
    let magnitude =
        significant.parse::<i128>().ok()?.checked_mul(10i128.checked_pow(u32::try_from(zeros).ok()?)?)?;
    let value = if is_negative { -magnitude } else { magnitude };
    i64::try_from(value).map(Number::from).or_else(|_error| u64::try_from(value).map(Number::from)).ok()
}

/// The whole number that a float is, if it fits in 64 bits. Only for formats in which a number is a float and nothing else (CBOR,
/// TOML): of a decimal text, the float may be rounded.
pub fn whole_number_of_float(value: f64) -> Option<Number> {
    // The shortest digits of a float stand for the float itself where it has no fraction: `format!` writes all digits before the
    // point exactly.
    if value.fract() == 0.0 { parse_whole_number(&format!("{value:.0}")) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_every_spelling_of_a_whole_number() {
        for (text, expected) in [
            ("500", "500"),
            ("500.0", "500"),
            ("5e2", "500"),
            ("0.5e3", "500"),
            ("50000E-2", "500"),
            ("5.00e+2", "500"),
            ("-500.000", "-500"),
            ("-0", "0"),
            ("-0.0e7", "0"),
            ("0e99999999999999999999", "0"),
            ("1e18", "1000000000000000000"),
            ("9007199254740993.0", "9007199254740993"),
            ("9223372036854775807.0", "9223372036854775807"),
            ("-9223372036854775808.0", "-9223372036854775808"),
            ("9223372036854775808", "9223372036854775808"),
            ("18446744073709551615", "18446744073709551615"),
        ] {
            assert_eq!(
                parse_whole_number(text).map(|number| number.to_string()).as_deref(),
                Some(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn fractions_and_numbers_beyond_64_bits_are_none() {
        for text in [
            "0.5",
            "500.00000000000000000001",
            "5e-1",
            "1e-99999999999999999999",
            "9007199254740993.5",
            "1e19999999999999999999",
            "18446744073709551616",
            "-9223372036854775809",
            "1e30",
            "",
            "-",
            "e5",
            ".5",
            "+5",
            "0x10",
            "5e",
            "0e",
            "0ex",
            "NaN",
        ] {
            assert_eq!(parse_whole_number(text), None, "{text}");
        }
    }

    #[test]
    fn a_float_is_the_whole_number_that_it_is() {
        assert_eq!(whole_number_of_float(500.0), Some(500.into()));
        assert_eq!(whole_number_of_float(-0.0), Some(0.into()));
        assert_eq!(whole_number_of_float(9_007_199_254_740_992.0), Some(9_007_199_254_740_992_u64.into()));
        for value in [0.5, 1e30, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE] {
            assert_eq!(whole_number_of_float(value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn moving_the_point_does_not_change_the_number(value in any::<i64>(), places in 0..25usize, zeros in 0..5usize) {
            let (sign, digits) = (if value < 0 { "-" } else { "" }, value.unsigned_abs().to_string());
            let padded = format!("{}{digits}", "0".repeat(places));
            let (integer, fraction) = padded.split_at(padded.len() - places);
            let integer = integer.trim_start_matches('0');
            let integer = if integer.is_empty() { "0" } else { integer };
            let spelling = format!("{sign}{integer}.{fraction}{}e{places}", "0".repeat(zeros));
            prop_assert_eq!(parse_whole_number(&spelling), Some(value.into()), "{}", spelling);
            let shifted = format!("{sign}{digits}{}E-{zeros}", "0".repeat(zeros));
            prop_assert_eq!(parse_whole_number(&shifted), Some(value.into()), "{}", shifted);
        }

        #[test]
        fn a_fraction_is_never_whole(value in any::<i64>(), digits in "[0-9]{0,30}[1-9]") {
            let spelling = format!("{value}.{digits}");
            prop_assert_eq!(parse_whole_number(&spelling), None, "{}", spelling);
        }
    }
}

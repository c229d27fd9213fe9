//! The encodings in which a secret may travel inside a value: backslash escapes of embedded JSON, percent-encoding and
//! base64. Decoding is lenient, because its result is only searched. Each function returns `None` where nothing is encoded.

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

/// The shortest base64 that can hold a secret: an access key id is 20 bytes.
pub(crate) const MIN_BASE64_RUN_BYTES: usize = 24;

// Many decoders accept a missing padding and stray bits at the end, so a secret that is written so can still be read.
const LENIENT_BASE64: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD_BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT_BASE64);
const URL_SAFE_BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT_BASE64);

/// The text with backslash escapes resolved; `None` without any.
pub(crate) fn decode_backslash_escapes(text: &[u8]) -> Option<Vec<u8>> {
    let first = memchr::memchr(b'\\', text)?;
    let mut out = Vec::with_capacity(text.len());
    out.extend_from_slice(text.get(..first)?);
    let mut rest = text.get(first..)?;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        match tail {
            [b'u', a, b, c, d, after @ ..] if let Some(unit) = parse_hex(&[*a, *b, *c, *d]) => {
                // No secret that the detectors know contains surrogates.
                let mut utf8 = [0; 4];
                let letter = char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(letter.encode_utf8(&mut utf8).as_bytes());
                rest = after;
            }
            [b'x', a, b, after @ ..] if let Some(unit) = parse_hex(&[*a, *b]) => {
                out.push(unit as u8);
                rest = after;
            }
            [letter, after @ ..] => {
                out.push(match letter {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'r' => b'\r',
                    b'b' => 8,
                    b'f' => 12,
                    other => *other,
                });
                rest = after;
            }
            [] => out.push(b'\\'),
        }
    }
    Some(out)
}

/// The text percent-decoded; `None` when nothing in it is percent-encoded.
pub(crate) fn decode_percent_encoding(text: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b'%', text)?;
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    let mut found = false;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match tail {
            [a, b, after @ ..]
                if *byte == b'%'
                    && let Some(value) = parse_hex(&[*a, *b]) =>
            {
                out.push(value as u8);
                rest = after;
                found = true;
            }
            _ => out.push(*byte),
        }
    }
    found.then_some(out)
}

fn parse_hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
}

/// Returns true if the text has a run of base64 characters of either alphabet that is long enough to hold a secret.
/// Reads about one byte in twenty-four of ordinary text.
pub(crate) fn has_base64_run(text: &[u8]) -> bool {
    find_next_run(text, 0, is_any_base64).is_some()
}

/// Every base64 run in the text, decoded. A run that mixes both alphabets is split into pieces of each.
pub(crate) fn decode_base64_runs(text: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    find_runs(text, is_standard_base64).filter_map(|run| decode_base64(&STANDARD_BASE64, run)).chain(
        find_runs(text, is_url_safe_base64)
            .filter(|run| run.iter().any(|b| matches!(b, b'-' | b'_')))
            .filter_map(|run| decode_base64(&URL_SAFE_BASE64, run)),
    )
}

/// The text without line breaks, because base64 is often wrapped and a secret may span two lines; `None` without a line
/// break.
pub(crate) fn join_wrapped_lines(text: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b'\n', text)?;
    Some(text.iter().copied().filter(|b| !matches!(b, b'\n' | b'\r')).collect())
}

fn decode_base64(engine: &GeneralPurpose, run: &[u8]) -> Option<Vec<u8>> {
    // A run of 4n+1 characters is not base64; without its last character it may be.
    let len = if run.len() % 4 == 1 { run.len() - 1 } else { run.len() };
    engine.decode(run.get(..len)?).ok()
}

fn find_runs(text: &[u8], belongs: fn(u8) -> bool) -> impl Iterator<Item = &[u8]> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (start, end) = find_next_run(text, at, belongs)?;
        at = end;
        text.get(start..end)
    })
}

fn find_next_run(text: &[u8], from: usize, belongs: impl Fn(u8) -> bool) -> Option<(usize, usize)> {
    let mut start = from;
    // A run that covers the window has its last byte in the alphabet: test that one first and skip the rest if it is not.
    loop {
        let window = text.get(start..start + MIN_BASE64_RUN_BYTES)?;
        let Some(outside) = window.iter().rposition(|b| !belongs(*b)) else {
            let rest = text.get(start..)?;
            let len = rest.iter().position(|b| !belongs(*b)).unwrap_or(rest.len());
            return Some((start, start + len));
        };
        start += outside + 1;
    }
}

pub(crate) fn is_standard_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

fn is_url_safe_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn is_any_base64(byte: u8) -> bool {
    is_standard_base64(byte) || is_url_safe_base64(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_backslashes_percents_and_base64() {
        assert_eq!(decode_backslash_escapes(br"a\u0041\x42\n\q\").as_deref(), Some(&b"aAB\nq\\"[..]));
        assert_eq!(decode_backslash_escapes(br"\ud800\u12").as_deref(), Some("\u{fffd}u12".as_bytes()));
        assert_eq!(decode_backslash_escapes(b"plain"), None);
        assert_eq!(decode_percent_encoding(b"%41%4b%zz%4").as_deref(), Some(&b"AK%zz%4"[..]));
        assert_eq!(decode_percent_encoding(b"100 %"), None);
        let decoded: Vec<_> = decode_base64_runs(b"x: QUtJQUlPU0ZPRE5ON0VYQU1QTEU=!").collect();
        assert_eq!(decoded, [b"AKIAIOSFODNN7EXAMPLE".to_vec()]);
    }

    #[test]
    fn finds_runs_wherever_they_begin() {
        for before in 0..60 {
            let text =
                [" ".repeat(before), "A".repeat(MIN_BASE64_RUN_BYTES), " ".repeat(before % 7)].concat();
            assert!(has_base64_run(text.as_bytes()), "{before}");
            let short = [" ".repeat(before), "A".repeat(MIN_BASE64_RUN_BYTES - 1), " ".repeat(9)].concat();
            assert!(!has_base64_run(short.as_bytes()), "{before}");
        }
    }
}

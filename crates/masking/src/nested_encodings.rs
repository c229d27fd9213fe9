//! The encodings in which a secret may travel inside a value: backslash escapes of embedded JSON, percent-encoding and
//! base64. Decoding is lenient, because its result is searched. Each function returns `None` where nothing is encoded.
//!
//! What is found in the decoded text is replaced in the encoded one: the ranges are mapped back, and the replacement is written
//! in the encoding, so that a document stays a document and base64 stays base64.

use std::ops::Range;

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{
    GeneralPurpose, GeneralPurposeConfig, STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD,
};

/// The shortest base64 that can hold a secret: an access key id is 20 bytes.
pub(crate) const MIN_BASE64_RUN_BYTES: usize = 24;

// Many decoders accept a missing padding and stray bits at the end, so a secret that is written so can still be read.
const LENIENT_BASE64: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
pub(crate) const STANDARD_BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT_BASE64);
pub(crate) const URL_SAFE_BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT_BASE64);

/// The text with backslash escapes resolved; `None` without any.
fn decode_backslash_escapes(text: &[u8]) -> Option<Vec<u8>> {
    let first = memchr::memchr(b'\\', text)?;
    let mut out = Vec::with_capacity(text.len());
    out.extend_from_slice(text.get(..first)?);
    let mut rest = text.get(first..)?;
    while let Some((letter, used)) = decode_escape_unit(rest) {
        out.extend_from_slice(letter.as_bytes());
        rest = rest.get(used..)?;
    }
    Some(out)
}

/// Up to four bytes.
#[derive(Clone, Copy)]
struct DecodedUnit {
    bytes: [u8; 4],
    len: usize,
}

impl DecodedUnit {
    fn from_byte(byte: u8) -> Self {
        Self { bytes: [byte, 0, 0, 0], len: 1 }
    }

    fn from_char(letter: char) -> Self {
        let mut bytes = [0; 4];
        let len = letter.encode_utf8(&mut bytes).len();
        Self { bytes, len }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// The next byte or escape, and how many bytes it takes.
fn decode_escape_unit(rest: &[u8]) -> Option<(DecodedUnit, usize)> {
    Some(match rest {
        // No secret that the detectors know contains surrogates.
        [b'\\', b'u', a, b, c, d, ..] if let Some(unit) = parse_hex(&[*a, *b, *c, *d]) => {
            (DecodedUnit::from_char(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)), 6)
        }
        [b'\\', b'x', a, b, ..] if let Some(unit) = parse_hex(&[*a, *b]) => {
            (DecodedUnit::from_byte(unit as u8), 4)
        }
        [b'\\', letter, ..] => {
            let decoded = match letter {
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                b'b' => 8,
                b'f' => 12,
                other => *other,
            };
            (DecodedUnit::from_byte(decoded), 2)
        }
        [byte, ..] => (DecodedUnit::from_byte(*byte), 1),
        [] => return None,
    })
}

/// The text percent-decoded; `None` when nothing in it is percent-encoded.
fn decode_percent_encoding(text: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b'%', text)?;
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    let mut found = false;
    while let Some((byte, used)) = decode_percent_unit(rest) {
        out.push(byte);
        found |= used > 1;
        rest = rest.get(used..)?;
    }
    found.then_some(out)
}

fn decode_percent_unit(rest: &[u8]) -> Option<(u8, usize)> {
    Some(match rest {
        [b'%', a, b, ..] if let Some(value) = parse_hex(&[*a, *b]) => (value as u8, 3),
        [byte, ..] => (*byte, 1),
        [] => return None,
    })
}

/// An encoding whose every unit decodes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnitEncoding {
    Backslashes,
    Percents,
    /// Base64 over several lines: the line breaks count for nothing.
    WrappedLines,
}

impl UnitEncoding {
    pub(crate) fn decode(self, text: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Backslashes => decode_backslash_escapes(text),
            Self::Percents => decode_percent_encoding(text),
            Self::WrappedLines => join_wrapped_lines(text),
        }
    }

    /// The lengths of the next unit, encoded and decoded.
    fn unit_lengths(self, rest: &[u8]) -> Option<(usize, usize)> {
        match self {
            Self::Backslashes => decode_escape_unit(rest).map(|(decoded, used)| (used, decoded.len)),
            Self::Percents => decode_percent_unit(rest).map(|(_, used)| (used, 1)),
            Self::WrappedLines => rest.first().map(|byte| (1, usize::from(!is_line_break(*byte)))),
        }
    }

    /// The places in `text` of ranges in the decoded text, which must be in order.
    pub(crate) fn encoded_ranges(self, text: &[u8], decoded: &[Range<usize>]) -> Vec<Range<usize>> {
        let (mut encoded_at, mut decoded_at) = (0, 0);
        let mut mapped = Vec::with_capacity(decoded.len());
        for range in decoded {
            let mut start = encoded_at;
            while decoded_at < range.end
                && let Some((used, gives)) = self.unit_lengths(text.get(encoded_at..).unwrap_or_default())
            {
                if decoded_at + gives <= range.start {
                    start = encoded_at + used;
                }
                encoded_at += used;
                decoded_at += gives;
            }
            mapped.push(start..encoded_at);
        }
        mapped
    }

    /// A replacement as this encoding writes it, in place of `replaced`.
    pub(crate) fn encode(self, replacement: &[u8], replaced: &[u8]) -> Vec<u8> {
        match self {
            Self::Backslashes => {
                let mut out = Vec::with_capacity(replacement.len());
                for byte in replacement {
                    match byte {
                        b'"' | b'\\' => out.extend([b'\\', *byte]),
                        0..0x20 => out.extend(format!("\\u{byte:04x}").bytes()),
                        _ => out.push(*byte),
                    }
                }
                out
            }
            // The unreserved characters of RFC 3986 section 2.3 stay.
            Self::Percents => replacement
                .iter()
                .flat_map(|byte| match byte {
                    b'-' | b'.' | b'_' | b'~' => vec![*byte],
                    byte if byte.is_ascii_alphanumeric() => vec![*byte],
                    byte => format!("%{byte:02X}").into_bytes(),
                })
                .collect(),
            Self::WrappedLines => wrap_like(replacement, replaced),
        }
    }
}

/// In lines of the length, and with the line breaks, of what is replaced.
fn wrap_like(text: &[u8], replaced: &[u8]) -> Vec<u8> {
    let lines = || replaced.split(|byte| is_line_break(*byte)).filter(|line| !line.is_empty());
    // The first piece may begin in the middle of a line.
    let width = lines().map(<[u8]>::len).max().unwrap_or(text.len()).max(1);
    let first = lines().next().map_or(width, <[u8]>::len).max(1);
    let line_break: &[u8] = if memchr::memchr(b'\r', replaced).is_some() { b"\r\n" } else { b"\n" };
    let (head, tail) = text.split_at(first.min(text.len()));
    let mut out = head.to_vec();
    for line in tail.chunks(width) {
        out.extend_from_slice(line_break);
        out.extend_from_slice(line);
    }
    out
}

fn is_line_break(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

fn parse_hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
}

/// Returns true if the text has a run of base64 characters of either alphabet that is long enough to hold a secret.
/// Reads about one byte in twenty-four of ordinary text.
pub(crate) fn has_base64_run(text: &[u8]) -> bool {
    find_next_run(text, 0, is_any_base64).is_some()
}

/// A run of base64 in a text.
pub(crate) struct Base64Run {
    /// With its padding.
    pub(crate) range: Range<usize>,
    pub(crate) decoded: Vec<u8>,
    is_url_safe: bool,
    is_padded: bool,
}

impl Base64Run {
    fn decode(text: &[u8], run: Range<usize>, is_url_safe: bool) -> Option<Self> {
        let engine = if is_url_safe { &URL_SAFE_BASE64 } else { &STANDARD_BASE64 };
        let decoded = decode_base64(engine, text.get(run.clone())?)?;
        let padding = text.get(run.end..)?.iter().take(2).take_while(|byte| **byte == b'=').count();
        // Standard base64 that ends with a whole group may come from an encoder that pads.
        let is_padded = padding > 0 || (!is_url_safe && run.len().is_multiple_of(4));
        Some(Self { range: run.start..run.end + padding, decoded, is_url_safe, is_padded })
    }

    /// Other content in the alphabet, and with the padding, of this run.
    pub(crate) fn encode(&self, content: &[u8]) -> Vec<u8> {
        let engine = match (self.is_url_safe, self.is_padded) {
            (true, true) => &URL_SAFE,
            (true, false) => &URL_SAFE_NO_PAD,
            (false, true) => &STANDARD,
            (false, false) => &STANDARD_NO_PAD,
        };
        engine.encode(content).into_bytes()
    }
}

/// Every base64 run in the text, decoded. A run that mixes both alphabets is split into pieces of each.
pub(crate) fn decode_base64_runs(text: &[u8]) -> impl Iterator<Item = Base64Run> + '_ {
    let standard = find_runs(text, is_standard_base64).filter_map(|run| Base64Run::decode(text, run, false));
    let url_safe = find_runs(text, is_url_safe_base64)
        .filter(|run| text.get(run.clone()).unwrap_or_default().iter().any(|b| matches!(b, b'-' | b'_')))
        .filter_map(|run| Base64Run::decode(text, run, true));
    standard.chain(url_safe)
}

/// The text without line breaks, because base64 is often wrapped and a secret may span two lines; `None` without a line
/// break.
fn join_wrapped_lines(text: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b'\n', text)?;
    Some(text.iter().copied().filter(|byte| !is_line_break(*byte)).collect())
}

pub(crate) fn decode_base64(engine: &GeneralPurpose, run: &[u8]) -> Option<Vec<u8>> {
    // A run of 4n+1 characters is not base64; without its last character it may be.
    let len = if run.len() % 4 == 1 { run.len() - 1 } else { run.len() };
    engine.decode(run.get(..len)?).ok()
}

fn find_runs(text: &[u8], belongs: fn(u8) -> bool) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (start, end) = find_next_run(text, at, belongs)?;
        at = end;
        Some(start..end)
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

pub(crate) fn is_any_base64(byte: u8) -> bool {
    is_standard_base64(byte) || is_url_safe_base64(byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn resolves_backslashes_percents_and_base64() {
        assert_eq!(decode_backslash_escapes(br"a\u0041\x42\n\q\").as_deref(), Some(&b"aAB\nq\\"[..]));
        assert_eq!(decode_backslash_escapes(br"\ud800\u12").as_deref(), Some("\u{fffd}u12".as_bytes()));
        assert_eq!(decode_backslash_escapes(b"plain"), None);
        assert_eq!(decode_percent_encoding(b"%41%4b%zz%4").as_deref(), Some(&b"AK%zz%4"[..]));
        assert_eq!(decode_percent_encoding(b"100 %"), None);
        let decoded: Vec<_> =
            decode_base64_runs(b"x: QUtJQUlPU0ZPRE5ON0VYQU1QTEU=!").map(|run| run.decoded).collect();
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

    /// Half of each text is escapes, wrapped lines and parts of escapes.
    fn encoded_text() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(r"\u0041".to_owned()),
            Just(r"\u00e9".to_owned()),
            Just(r"\ud800".to_owned()),
            Just(r"\x41".to_owned()),
            Just(r"\n".to_owned()),
            Just("%41".to_owned()),
            Just("\r\n".to_owned()),
            "[ -~é]{1,3}",
        ];
        prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn maps_every_range_to_the_units_that_it_came_from(text in encoded_text(), cut in 0..100usize, len in 1..9usize) {
            for encoding in [UnitEncoding::Backslashes, UnitEncoding::Percents, UnitEncoding::WrappedLines] {
                let Some(decoded) = encoding.decode(&text) else { continue };
                if decoded.is_empty() {
                    continue;
                }
                let start = cut % decoded.len();
                let end = (start + len).min(decoded.len());
                let mapped = encoding.encoded_ranges(&text, std::slice::from_ref(&(start..end)));
                let range = mapped.first().unwrap().clone();
                let part = |range: Range<usize>| encoding.decode(&text[range.clone()]).unwrap_or_else(|| text[range].to_vec());
                prop_assert!(part(0..range.start).len() <= start);
                prop_assert!(part(range).len() >= end - start);
            }
        }

        #[test]
        fn writes_what_it_reads(content in prop::collection::vec(any::<u8>(), 18..200)) {
            for (text, is_url_safe) in [(STANDARD.encode(&content), false), (STANDARD_NO_PAD.encode(&content), false),
                (URL_SAFE.encode(&content), true), (URL_SAFE_NO_PAD.encode(&content), true)] {
                let len = text.trim_end_matches('=').len();
                let run = Base64Run::decode(text.as_bytes(), 0..len, is_url_safe).unwrap();
                prop_assert_eq!(run.range.clone(), 0..text.len());
                prop_assert_eq!(String::from_utf8(run.encode(&content)).unwrap(), text);
            }
        }
    }
}

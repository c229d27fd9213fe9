//! The detectors, which recognise secrets by their form. Each is an ASCII regular expression of a linear-time engine with a small
//! refinement in code. One alternation of them all, whose literals are searched first, tells whether any can match.

use std::ops::Range;

use regex::bytes::{Regex, RegexBuilder};

use crate::data_class::DataClass;
use crate::mask_style::SecretForm;
use crate::name_hints::{MIN_SESSION_TOKEN_BYTES, SECRET_ACCESS_KEY_BYTES};
use crate::nested_encodings::{URL_SAFE_BASE64, decode_base64, is_any_base64, is_standard_base64};

/// Largest size of one compiled detector or configured pattern. The built-in ones need a tenth.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// The patterns that a deployment adds to the built-in detectors.
#[derive(Debug, Clone, Default)]
pub struct MaskerOptions {
    pub patterns: Vec<CustomPattern>,
}

/// A configured detector. It searches one value at a time, as ASCII: `\w` and `.` match no letters of other scripts.
#[derive(Debug, Clone)]
pub struct CustomPattern {
    class: DataClass,
    regex: Regex,
}

/// The reasons for which a configured pattern is refused.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    #[error("the pattern of data class {class} does not compile: {source}")]
    Regex { class: DataClass, source: Box<regex::Error> },
    #[error(
        "the pattern of data class {class} matches the empty text, so it would match everywhere; make it longer"
    )]
    Empty { class: DataClass },
}

impl CustomPattern {
    pub fn new(class: DataClass, pattern: &str) -> Result<Self, PatternError> {
        match compile_pattern(pattern) {
            Ok(regex) if regex.is_match(b"") => Err(PatternError::Empty { class }),
            Ok(regex) => Ok(Self { class, regex }),
            Err(e) => Err(PatternError::Regex { class, source: Box::new(e) }),
        }
    }
}

/// The compiled detectors. Build one at start and share it.
#[derive(Debug)]
pub struct Masker {
    detectors: Vec<SecretDetector>,
    /// All built-in detectors as one alternation.
    built_in_alternation: Regex,
    has_custom_patterns: bool,
}

#[derive(Debug)]
struct SecretDetector {
    class: DataClass,
    regex: Regex,
    refine_match: RefineMatch,
    form: SecretForm,
}

/// Narrows a match to the secret in it, widens it, or takes it back and says where the search goes on (behind the start of the
/// match).
type RefineMatch = fn(text: &[u8], found: Range<usize>) -> Result<Range<usize>, usize>;

/// A place in a text that holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretSpan {
    pub(crate) range: Range<usize>,
    pub(crate) class: DataClass,
    pub(crate) form: SecretForm,
}

// None of these may be anchored to the ends of the text: the alternation also searches whole bodies, and must match there
// whenever a detector would match one value. Runs are unbounded and their lengths are checked in code: counted repetitions
// multiply the size of the automaton, and an unbounded run is read once, which keeps hostile text linear.
//
// Each begins where a word begins (`\b{start-half}`) and ends where its run of characters ends: base64 of a MiB holds any four
// letters with a probability of 8 %, so a beginning in the middle of a run tells nothing.
const BUILT_IN_DETECTORS: &[(DataClass, &str, RefineMatch, SecretForm)] = &[
    // The prefixes of keys: access keys, temporary keys, bearer tokens, context-specific credentials (IAM User Guide, "IAM
    // identifiers"). The rest is base32, as the detectors of gitleaks and of AWS's git-secrets have it too. The account number in
    // it is no test: keys from before 2019 have none, and nine in ten random ones decode to a number of twelve digits.
    (DataClass::AWS_KEY, r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b", keep_match, SecretForm::Prefixed(4)),
    (
        DataClass::AWS_SECRET,
        r"(?i:secret[_.-]?(?:access)?[_.-]?key)[^A-Za-z0-9/+]{1,16}[A-Za-z0-9/+]+",
        refine_secret_key,
        SecretForm::Prefixed(0),
    ),
    // STS documents no format for session tokens. These are the beginnings of those that it issues.
    (
        DataClass::AWS_SECRET,
        r"\b{start-half}(?:IQoJ|FwoG|FQoG)[A-Za-z0-9+/=_-]+",
        refine_session_token,
        SecretForm::Prefixed(4),
    ),
    // The labels of RFC 7468, of OpenSSH and, with `BLOCK`, of OpenPGP (RFC 9580 section 6.2.1).
    (
        DataClass::PRIVATE_KEY,
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----",
        refine_private_key,
        SecretForm::Document,
    ),
    // GitHub Docs, "About authentication to GitHub", "GitHub's token formats". The checksum at their end is no test: a token that
    // was cut or mistyped by a character still gives the rest away.
    (
        DataClass::TOKEN,
        r"\b{start-half}gh[pousr]_[A-Za-z0-9]{36}[A-Za-z0-9]*",
        refine_token,
        SecretForm::Prefixed(4),
    ),
    (
        DataClass::TOKEN,
        r"\b{start-half}github_pat_[A-Za-z0-9_]{22}[A-Za-z0-9_]*",
        refine_token,
        SecretForm::Prefixed(11),
    ),
    (
        DataClass::TOKEN,
        r"\b{start-half}xox[abeoprs]-[A-Za-z0-9-]{10}[A-Za-z0-9-]*",
        refine_token,
        SecretForm::Prefixed(5),
    ),
    (DataClass::TOKEN, r"\b{start-half}AIza[A-Za-z0-9_-]{35}", refine_google_key, SecretForm::Prefixed(4)),
    (
        DataClass::TOKEN,
        r"\b{start-half}(?:sk|rk)_live_[A-Za-z0-9]{16}[A-Za-z0-9]*",
        refine_token,
        SecretForm::Prefixed(8),
    ),
    (
        DataClass::TOKEN,
        // The base64 of `{"` and a letter, with which the header of a JWT begins. It needs no boundary before it: the header is
        // read. An encrypted one has five parts (RFC 7516 section 3.1).
        r"eyJ[A-Za-z0-9_-]{8}[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]{6}[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+){0,2}",
        refine_jwt,
        SecretForm::Prefixed(3),
    ),
    // The characters of a bearer token: RFC 6750 section 2.1.
    (
        DataClass::TOKEN,
        r"(?i:bearer)[ \t]{1,4}[A-Za-z0-9._~+/=-]+",
        refine_bearer_token,
        SecretForm::Prefixed(0),
    ),
];

impl Masker {
    /// Compiles the detectors, some milliseconds.
    pub fn new(options: MaskerOptions) -> Self {
        let mut detectors: Vec<SecretDetector> = BUILT_IN_DETECTORS
            .iter()
            .map(|(class, pattern, refine, form)| SecretDetector {
                class: class.clone(),
                regex: compile_built_in(pattern),
                refine_match: *refine,
                form: *form,
            })
            .collect();
        let all: Vec<&str> = BUILT_IN_DETECTORS.iter().map(|(_, pattern, ..)| *pattern).collect();
        let configured = !options.patterns.is_empty();
        detectors.extend(options.patterns.into_iter().map(|CustomPattern { class, regex }| SecretDetector {
            class,
            regex,
            refine_match: keep_match,
            form: SecretForm::Unknown,
        }));
        Self {
            detectors,
            built_in_alternation: compile_built_in(&all.join("|")),
            has_custom_patterns: configured,
        }
    }

    /// Returns true if a detector may match a value of this body that is written in it without an encoding.
    pub(crate) fn may_contain_secret(&self, body: &[u8]) -> bool {
        self.has_custom_patterns || self.built_in_alternation.is_match(body)
    }

    /// The secrets in a text in order, without overlaps, of the classes for which `masks` is true.
    pub(crate) fn find_secrets(
        &self,
        text: &[u8],
        mut masks: impl FnMut(&DataClass) -> bool,
    ) -> Vec<SecretSpan> {
        if !self.may_contain_secret(text) {
            return Vec::new();
        }
        // One detector at a time: a match of a revealed class cannot hide one of another, and no search reads twice.
        let mut spans: Vec<SecretSpan> = Vec::new();
        for detector in &self.detectors {
            let mut from = 0;
            while let Some(found) = detector.regex.find_at(text, from) {
                from = found.end();
                let range = match (detector.refine_match)(text, found.range()) {
                    Ok(range) => range,
                    Err(next) => {
                        debug_assert!(next > found.start());
                        from = next;
                        continue;
                    }
                };
                // A class is revealed or masked as a whole, so its other matches need no search.
                if !masks(&detector.class) {
                    break;
                }
                from = from.max(range.end);
                spans.push(SecretSpan { range, class: detector.class.clone(), form: detector.form });
            }
        }
        spans.sort_by_key(|span| span.range.start);
        let mut merged: Vec<SecretSpan> = Vec::with_capacity(spans.len());
        for span in spans {
            match merged.last_mut() {
                Some(last) if span.range.start < last.range.end => {
                    if span.range.end > last.range.end {
                        last.range.end = span.range.end;
                        last.form = SecretForm::Unknown;
                    }
                }
                _ => merged.push(span),
            }
        }
        merged
    }
}

impl Default for Masker {
    fn default() -> Self {
        Self::new(MaskerOptions::default())
    }
}

fn compile_pattern(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).unicode(false).size_limit(MAX_PATTERN_BYTES).build()
}

fn compile_built_in(pattern: &str) -> Regex {
    compile_pattern(pattern).expect("built-in patterns are constants, compiled by the tests")
}

#[expect(clippy::unnecessary_wraps, reason = "one of several refinements with one signature")]
fn keep_match(_: &[u8], found: Range<usize>) -> Result<Range<usize>, usize> {
    Ok(found)
}

/// Narrows the match to the 40 characters of the key. A longer or shorter run after the name is no key.
fn refine_secret_key(text: &[u8], found: Range<usize>) -> Result<Range<usize>, usize> {
    let matched = text.get(found.clone()).unwrap_or_default();
    let run = matched.iter().rev().take_while(|b| is_standard_base64(**b)).count();
    if run == SECRET_ACCESS_KEY_BYTES { Ok(found.end - run..found.end) } else { Err(found.end) }
}

/// The character before the start; `None` at the start of the text.
fn byte_before(text: &[u8], start: usize) -> Option<u8> {
    text.get(start.checked_sub(1)?).copied()
}

/// A whole run of base64 of either alphabet that is as long as a token. The match is the rest of its run, so a search behind a
/// beginning in the middle goes on behind the run.
fn refine_session_token(text: &[u8], found: Range<usize>) -> Result<Range<usize>, usize> {
    let is_whole = !byte_before(text, found.start).is_some_and(is_any_base64);
    if is_whole && found.len() >= MIN_SESSION_TOKEN_BYTES { Ok(found) } else { Err(found.end) }
}

/// `-` and `_` are inside of base64url, where a beginning tells nothing.
fn refine_token(text: &[u8], found: Range<usize>) -> Result<Range<usize>, usize> {
    if byte_before(text, found.start) == Some(b'-') { Err(found.start + 1) } else { Ok(found) }
}

/// 39 characters that stand alone: a longer run of base64 is something else.
fn refine_google_key(text: &[u8], found: Range<usize>) -> Result<Range<usize>, usize> {
    let neighbours = [byte_before(text, found.start), text.get(found.end).copied()];
    if neighbours.into_iter().flatten().any(is_any_base64) { Err(found.start + 1) } else { Ok(found) }
}

/// The header of a JWT is a JSON object (RFC 7515 section 4). What begins like one and is not may still have one in its later
/// parts.
fn refine_jwt(text: &[u8], found: Range<usize>) -> Result<Range<usize>, usize> {
    let matched = text.get(found.clone()).unwrap_or_default();
    let head = matched.split(|b| *b == b'.').next().unwrap_or_default();
    let decoded = decode_base64(&URL_SAFE_BASE64, head).unwrap_or_default();
    if serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&decoded).is_ok() {
        Ok(found)
    } else {
        Err(found.start + head.len() + 1)
    }
}

/// Widens the match to the end of the block. A truncated block is a secret to the end of the text.
#[expect(clippy::unnecessary_wraps, reason = "one of several refinements with one signature")]
fn refine_private_key(text: &[u8], found: Range<usize>) -> Result<Range<usize>, usize> {
    let rest = text.get(found.end..).unwrap_or_default();
    let end = memchr::memmem::find(rest, b"-----END").map_or(text.len(), |at| {
        let after = found.end + at + b"-----END".len();
        text.get(after..)
            .and_then(|tail| memchr::memmem::find(tail, b"-----"))
            .map_or(text.len(), |at| after + at + b"-----".len())
    });
    Ok(found.start..end)
}

/// In prose, "bearer" is followed by words. A token is longer and has digits.
fn refine_bearer_token(text: &[u8], found: Range<usize>) -> Result<Range<usize>, usize> {
    let whole = text.get(found.clone()).unwrap_or_default();
    let run = whole.iter().rev().take_while(|b| !matches!(b, b' ' | b'\t')).count();
    let token = found.end - run..found.end;
    let has_digit = text.get(token.clone()).unwrap_or_default().iter().any(u8::is_ascii_digit);
    if run >= 20 && has_digit { Ok(token) } else { Err(found.end) }
}

#[cfg(test)]
mod tests;

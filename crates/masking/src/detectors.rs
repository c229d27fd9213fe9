//! The detectors, which recognise secrets by their form. Each is an ASCII regular expression of a linear-time engine with a small
//! refinement in code. One alternation of them all, whose literals are searched first, tells whether any can match.

use std::ops::Range;

use regex::bytes::{Regex, RegexBuilder};

use crate::data_class::DataClass;
use crate::name_hints::{MIN_SESSION_TOKEN_BYTES, SECRET_ACCESS_KEY_BYTES};
use crate::nested_encodings::is_standard_base64;

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
}

/// Narrows a match to the secret in it, widens it, or takes it back.
type RefineMatch = fn(text: &[u8], found: Range<usize>) -> Option<Range<usize>>;

/// A place in a text that holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretSpan {
    pub(crate) range: Range<usize>,
    pub(crate) class: DataClass,
}

// None of these may be anchored to the ends of the text: the alternation also searches whole bodies, and must match there
// whenever a detector would match one value. Runs are unbounded and their lengths are checked in code: counted repetitions
// multiply the size of the automaton, and an unbounded run is read once, which keeps hostile text linear.
const BUILT_IN_DETECTORS: &[(DataClass, &str, RefineMatch)] = &[
    // The prefixes of keys: access keys, temporary keys, bearer tokens, context-specific credentials (IAM User Guide, "IAM
    // identifiers").
    (DataClass::AWS_KEY, r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b", keep_match),
    (
        DataClass::AWS_SECRET,
        r"(?i:secret[_.-]?(?:access)?[_.-]?key)[^A-Za-z0-9/+]{1,16}[A-Za-z0-9/+]+",
        refine_secret_key,
    ),
    // STS documents no format for session tokens. These are the beginnings of those that it issues.
    (DataClass::AWS_SECRET, r"(?:IQoJ|FwoG|FQoG)[A-Za-z0-9+/=_-]+", refine_session_token),
    // The labels of RFC 7468, of OpenSSH and, with `BLOCK`, of OpenPGP (RFC 9580 section 6.2.1).
    (DataClass::PRIVATE_KEY, r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----", refine_private_key),
    // GitHub Docs, "About authentication to GitHub", "GitHub's token formats".
    (DataClass::TOKEN, r"gh[pousr]_[A-Za-z0-9]{36}[A-Za-z0-9]*", keep_match),
    (DataClass::TOKEN, r"github_pat_[A-Za-z0-9_]{22}[A-Za-z0-9_]*", keep_match),
    (DataClass::TOKEN, r"xox[abeoprs]-[A-Za-z0-9-]{10}[A-Za-z0-9-]*", keep_match),
    (DataClass::TOKEN, r"AIza[A-Za-z0-9_-]{35}", keep_match),
    (DataClass::TOKEN, r"(?:sk|rk)_live_[A-Za-z0-9]{16}[A-Za-z0-9]*", keep_match),
    (
        DataClass::TOKEN,
        // The base64 of `{"` and a letter, with which the header of a JWT begins. An encrypted one has five parts (RFC 7516
        // section 3.1).
        r"eyJ[A-Za-z0-9_-]{8}[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]{6}[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+){0,2}",
        keep_match,
    ),
    // The characters of a bearer token: RFC 6750 section 2.1.
    (DataClass::TOKEN, r"(?i:bearer)[ \t]{1,4}[A-Za-z0-9._~+/=-]+", refine_bearer_token),
];

impl Masker {
    /// Compiles the detectors, some milliseconds.
    pub fn new(options: MaskerOptions) -> Self {
        let mut detectors: Vec<SecretDetector> = BUILT_IN_DETECTORS
            .iter()
            .map(|(class, pattern, refine)| SecretDetector {
                class: class.clone(),
                regex: compile_built_in(pattern),
                refine_match: *refine,
            })
            .collect();
        let all: Vec<&str> = BUILT_IN_DETECTORS.iter().map(|(_, pattern, _)| *pattern).collect();
        let configured = !options.patterns.is_empty();
        detectors.extend(options.patterns.into_iter().map(|CustomPattern { class, regex }| SecretDetector {
            class,
            regex,
            refine_match: keep_match,
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
                let Some(range) = (detector.refine_match)(text, found.range()) else { continue };
                // A class is revealed or masked as a whole, so its other matches need no search.
                if !masks(&detector.class) {
                    break;
                }
                from = from.max(range.end);
                spans.push(SecretSpan { range, class: detector.class.clone() });
            }
        }
        spans.sort_by_key(|span| span.range.start);
        let mut merged: Vec<SecretSpan> = Vec::with_capacity(spans.len());
        for span in spans {
            match merged.last_mut() {
                Some(last) if span.range.start < last.range.end => {
                    last.range.end = last.range.end.max(span.range.end);
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
fn keep_match(_: &[u8], found: Range<usize>) -> Option<Range<usize>> {
    Some(found)
}

/// Narrows the match to the 40 characters of the key. A longer or shorter run after the name is no key.
fn refine_secret_key(text: &[u8], found: Range<usize>) -> Option<Range<usize>> {
    let run = text.get(found.clone())?.iter().rev().take_while(|b| is_standard_base64(**b)).count();
    (run == SECRET_ACCESS_KEY_BYTES).then(|| found.end - run..found.end)
}

fn refine_session_token(_: &[u8], found: Range<usize>) -> Option<Range<usize>> {
    (found.len() >= MIN_SESSION_TOKEN_BYTES).then_some(found)
}

/// Widens the match to the end of the block. A truncated block is a secret to the end of the text.
fn refine_private_key(text: &[u8], found: Range<usize>) -> Option<Range<usize>> {
    let rest = text.get(found.end..)?;
    let end = memchr::memmem::find(rest, b"-----END").map_or(text.len(), |at| {
        let after = found.end + at + b"-----END".len();
        text.get(after..)
            .and_then(|tail| memchr::memmem::find(tail, b"-----"))
            .map_or(text.len(), |at| after + at + b"-----".len())
    });
    Some(found.start..end)
}

/// In prose, "bearer" is followed by words. A token is longer and has digits.
fn refine_bearer_token(text: &[u8], found: Range<usize>) -> Option<Range<usize>> {
    let whole = text.get(found.clone())?;
    let run = whole.iter().rev().take_while(|b| !matches!(b, b' ' | b'\t')).count();
    let token = found.end - run..found.end;
    (run >= 20 && text.get(token.clone())?.iter().any(u8::is_ascii_digit)).then_some(token)
}

#[cfg(test)]
mod tests;

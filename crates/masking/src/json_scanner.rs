//! A scanner of JSON (RFC 8259) that replaces values while it reads and copies every other byte. It builds no tree. It
//! refuses everything that the grammar does not allow: where two parsers could read different values, one of them could be a
//! secret that this one did not see.

use std::borrow::Cow;
use std::ops::Range;

use durward_core::limits::MAX_NESTING_DEPTH;

use crate::body_patch::BodyPatch;
use crate::data_class::DataClass;
use crate::derived_values::{
    ATTRIBUTES_DIGEST, DigestReplacements, MESSAGE_ATTRIBUTES, MaskedSource, MessageAttribute,
    digest_of_attributes, may_be_digest, may_be_size, replaced_size,
};
use crate::marked_values::{MarkedValue, Replacement, apply_mark};
use crate::masking_plan::{ExpectedValue, MaskingPlan};
use crate::masking_run::{MaskingRun, ValueKind};
use crate::name_hints::{NameHint, holds_sibling_name};
use crate::{MaskError, check_utf8};

const FORMAT_NAME: &str = "JSON";

/// `None`: nothing to mask.
pub(crate) fn mask_json(
    body: &[u8],
    plan: Option<&MaskingPlan<'_>>,
    scan: &mut MaskingRun<'_>,
) -> Result<Option<Vec<u8>>, MaskError> {
    // First, because a parser that replaces or skips invalid bytes reads other text than this scanner.
    let text = check_utf8(FORMAT_NAME, body)?;
    let suspicious = scan.may_contain_secret(body);
    let mut json = JsonScanner {
        text,
        body,
        position: 0,
        plan,
        masking_run: scan,
        may_contain_secret: suspicious,
        patch: BodyPatch::new(body),
        leaves: Vec::new(),
        sources: Vec::new(),
    };
    json.skip_whitespace();
    json.scan_value(plan.map(MaskingPlan::root_value).unwrap_or_default(), 0)?;
    json.skip_whitespace();
    if json.position < body.len() {
        return Err(json.malformed_error("trailing bytes after the value"));
    }
    Ok(json.patch.finish())
}

struct JsonScanner<'j, 'm> {
    text: &'j str,
    /// The bytes of `text`.
    body: &'j [u8],
    position: usize,
    plan: Option<&'j MaskingPlan<'j>>,
    masking_run: &'j mut MaskingRun<'m>,
    /// A detector may match some string as it is written. Otherwise only strings with an encoding in them are searched.
    may_contain_secret: bool,
    patch: BodyPatch<'j>,
    /// Members of the open objects that may be derived from a member beside them.
    leaves: Vec<LeafMember>,
    /// Members of the open objects that were masked.
    sources: Vec<MaskedSource>,
}

/// A text or number that was not masked.
struct LeafMember {
    name: Range<usize>,
    /// Of a string without its quotes.
    value: Range<usize>,
    is_number: bool,
}

/// A string without its quotes.
struct StringToken {
    range: Range<usize>,
    has_escapes: bool,
}

impl<'j> JsonScanner<'j, '_> {
    /// Reads one value. Returns the token of a string.
    fn scan_value(&mut self, expect: ExpectedValue, depth: usize) -> Result<Option<StringToken>, MaskError> {
        let start = self.position;
        match self.peek() {
            Some(b'"') => {
                let text = self.read_string()?;
                self.mask_string(&text, expect);
                return Ok(Some(text));
            }
            Some(b'{') => self.scan_object(expect, depth + 1)?,
            Some(b'[') => self.scan_array(expect, depth + 1)?,
            Some(b'-' | b'0'..=b'9') => {
                self.read_number()?;
                self.mask_scalar(start..self.position, expect, b"0");
            }
            Some(b't') => {
                self.read_literal(b"true")?;
                self.mask_scalar(start..self.position, expect, b"false");
            }
            // A masked boolean is `false`, so a `false` that stays tells nothing about its value.
            Some(b'f') => self.read_literal(b"false")?,
            Some(b'n') => self.read_literal(b"null")?,
            // `NaN`, `Infinity`, comments and single quotes: lenient parsers accept them, and would go on where this scanner is
            // lost.
            Some(_) => return Err(self.malformed_error("invalid start of a value")),
            None => return Err(self.malformed_error("a value is missing")),
        }
        Ok(None)
    }

    fn scan_object(&mut self, expect: ExpectedValue, depth: usize) -> Result<(), MaskError> {
        self.check_depth(depth)?;
        self.position += 1;
        self.skip_whitespace();
        if self.peek() == Some(b'}') {
            self.position += 1;
            return Ok(());
        }
        let mut sibling = NameHint::None;
        let (first_leaf, first_source) = (self.leaves.len(), self.sources.len());
        let mut masked_attributes = None;
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.malformed_error("a member name is missing"));
            }
            let key = self.read_string()?;
            let name = self.decode_string(&key);
            self.mask_key(&key, expect);
            let own = NameHint::from_name(name.as_bytes());
            let child = self.plan.map_or(expect.unknown_child(), |plan| plan.value_for_key(expect, &name));
            self.skip_whitespace();
            self.expect_byte(b':', "a colon is missing")?;
            self.skip_whitespace();
            let (start, masked_before) = (self.position, self.patch.replacement_count());
            let text = self.scan_value(child.with_name_hint(own.or(sibling)), depth)?;
            if let Some(value) = &text
                && holds_sibling_name(name.as_bytes())
            {
                sibling = NameHint::from_name(self.decode_string(value).as_bytes()).or(sibling);
            }
            if self.patch.replacement_count() > masked_before {
                if name == MESSAGE_ATTRIBUTES {
                    masked_attributes = Some(start..self.position);
                }
            } else if child.context.kind != ValueKind::Returned {
                // What the caller sends back stays as it is, also a digest.
                self.note_leaf(&key, start, text.as_ref());
            }
            if self.read_separator(b'}')? {
                break;
            }
        }
        if self.sources.len() > first_source || masked_attributes.is_some() {
            self.refresh_derived_values(first_leaf, first_source, masked_attributes);
        }
        self.leaves.truncate(first_leaf);
        self.sources.truncate(first_source);
        Ok(())
    }

    #[inline]
    fn note_leaf(&mut self, name: &StringToken, start: usize, text: Option<&StringToken>) {
        let (value, is_number) = match text {
            Some(text) if may_be_digest(text.range.len()) => (text.range.clone(), false),
            None if self.body.get(start).is_some_and(u8::is_ascii_digit)
                && may_be_size(self.raw_bytes(name)) =>
            {
                (start..self.position, true)
            }
            _ => return,
        };
        self.leaves.push(LeafMember { name: name.range.clone(), value, is_number });
    }

    /// At the end of an object in which something was masked.
    fn refresh_derived_values(
        &mut self,
        first_leaf: usize,
        first_source: usize,
        masked_attributes: Option<Range<usize>>,
    ) {
        let leaves = self.leaves.split_off(first_leaf);
        if leaves.is_empty() {
            return;
        }
        let attributes_digest = masked_attributes.and_then(|range| {
            let attributes = serde_json::from_slice(&self.patch.render(range)).ok()?;
            Some(digest_of_attributes(read_attributes(&attributes)?))
        });
        let sources = self.sources.get(first_source..).unwrap_or_default();
        let digests = DigestReplacements::new(sources);
        for leaf in leaves {
            let text = |range: &Range<usize>| self.text.get(range.clone()).unwrap_or_default();
            let replacement = if leaf.is_number {
                replaced_size(text(&leaf.value), sources).map(|size| size.to_string())
            } else if text(&leaf.name) == ATTRIBUTES_DIGEST {
                attributes_digest.clone()
            } else {
                digests.get(text(&leaf.value)).map(str::to_owned)
            };
            if let Some(replacement) = replacement {
                self.patch.replace(leaf.value, replacement.into_bytes());
            }
        }
    }

    fn scan_array(&mut self, expect: ExpectedValue, depth: usize) -> Result<(), MaskError> {
        self.check_depth(depth)?;
        self.position += 1;
        self.skip_whitespace();
        if self.peek() == Some(b']') {
            self.position += 1;
            return Ok(());
        }
        let item = self.plan.map_or(expect.unknown_child(), |plan| plan.list_item(expect));
        loop {
            self.scan_value(item, depth)?;
            if self.read_separator(b']')? {
                return Ok(());
            }
        }
    }

    /// After an element: returns true if the array or object ends here. Otherwise a comma has been read.
    fn read_separator(&mut self, close: u8) -> Result<bool, MaskError> {
        self.skip_whitespace();
        match self.peek() {
            Some(byte) if byte == close => {
                self.position += 1;
                Ok(true)
            }
            Some(b',') => {
                self.position += 1;
                self.skip_whitespace();
                Ok(false)
            }
            _ => Err(self.malformed_error("a comma or the end of the array or object is missing")),
        }
    }

    fn read_string(&mut self) -> Result<StringToken, MaskError> {
        let start = self.position + 1;
        let mut at = start;
        let mut escaped = false;
        loop {
            // Eight bytes at a time: strings are most of a response, and most of their bytes are plain.
            while let Some(eight) = self.body.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
                let found = mark_special_bytes(u64::from_le_bytes(*eight));
                if found != 0 {
                    at += (found.trailing_zeros() / 8) as usize;
                    break;
                }
                at += 8;
            }
            self.position = at;
            match self.peek() {
                Some(b'"') => {
                    self.position = at + 1;
                    return Ok(StringToken { range: start..at, has_escapes: escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    at += self.check_escape()?;
                }
                Some(0..0x20) => return Err(self.malformed_error("a control character in a string")),
                Some(_) => at += 1,
                None => return Err(self.malformed_error("unterminated string")),
            }
        }
    }

    /// Length of the escape at the current position.
    fn check_escape(&self) -> Result<usize, MaskError> {
        match self.body.get(self.position + 1..).unwrap_or_default() {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => Ok(2),
            [b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) => Ok(6),
            _ => Err(self.malformed_error("invalid escape")),
        }
    }

    fn read_number(&mut self) -> Result<(), MaskError> {
        if self.peek() == Some(b'-') {
            self.position += 1;
        }
        match self.peek() {
            Some(b'0') => self.position += 1,
            _ => self.read_digits()?,
        }
        if self.peek() == Some(b'.') {
            self.position += 1;
            self.read_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.position += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.position += 1;
            }
            self.read_digits()?;
        }
        Ok(())
    }

    fn read_digits(&mut self) -> Result<(), MaskError> {
        let start = self.position;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.position += 1;
        }
        if self.position == start { Err(self.malformed_error("a digit is missing")) } else { Ok(()) }
    }

    fn read_literal(&mut self, word: &[u8]) -> Result<(), MaskError> {
        if !self.body.get(self.position..).unwrap_or_default().starts_with(word) {
            return Err(self.malformed_error("invalid start of a value"));
        }
        self.position += word.len();
        Ok(())
    }

    fn mask_string(&mut self, text: &StringToken, expect: ExpectedValue) {
        match apply_mark(self.masking_run, self.plan, expect, text.range.is_empty()) {
            MarkedValue::Detect => {}
            MarkedValue::Keep => return,
            MarkedValue::Replace(replacement) => {
                let masked = replacement.to_text();
                self.note_source(text, expect, masked.as_bytes());
                let range = match replacement {
                    Replacement::Text | Replacement::Blob => text.range.clone(),
                    // A number or boolean that is written as a string: the quotes go too.
                    Replacement::Number | Replacement::Boolean => text.range.start - 1..text.range.end + 1,
                };
                self.patch.replace(range, masked.into_bytes());
                return;
            }
        }
        let raw = self.raw_bytes(text);
        if !self.may_contain_secret
            && expect.context.name_hint == NameHint::None
            && !MaskingRun::may_contain_encoding(raw)
        {
            return;
        }
        let masked = self.masking_run.mask_text(self.decode_string(text).as_bytes(), expect.context);
        if let Some(masked) = masked {
            self.note_source(text, expect, &masked);
            self.patch.replace(text.range.clone(), escape_string(&masked));
        }
    }

    fn note_source(&mut self, text: &StringToken, expect: ExpectedValue, masked: &[u8]) {
        let original = self.decode_string(text);
        let source = MaskedSource::new(original.as_bytes(), masked, expect.context.kind);
        self.sources.push(source);
    }

    fn mask_key(&mut self, key: &StringToken, object: ExpectedValue) {
        let expect = self.plan.map_or(ExpectedValue::default(), |plan| plan.map_key(object));
        let masked = if expect.is_sensitive && self.masking_run.must_mask(DataClass::AWS_SENSITIVE) {
            Some(self.masking_run.counted_placeholder(&DataClass::AWS_SENSITIVE))
        } else if self.may_contain_secret || MaskingRun::may_contain_encoding(self.raw_bytes(key)) {
            let masked = self.masking_run.mask_text(self.decode_string(key).as_bytes(), expect.context);
            masked.map(|masked| String::from_utf8_lossy(&masked).into_owned())
        } else {
            None
        };
        if let Some(masked) = masked {
            let distinct = self.masking_run.distinct_key(masked);
            self.patch.replace(key.range.clone(), escape_string(distinct.as_bytes()));
        }
    }

    fn mask_scalar(&mut self, range: Range<usize>, expect: ExpectedValue, with: &[u8]) {
        if let MarkedValue::Replace(_) = apply_mark(self.masking_run, self.plan, expect, false) {
            self.patch.replace(range, with.to_vec());
        }
    }

    fn raw_bytes(&self, text: &StringToken) -> &'j [u8] {
        self.body.get(text.range.clone()).unwrap_or_default()
    }

    /// The string as a parser decodes it; lone surrogates become U+FFFD.
    fn decode_string(&self, text: &StringToken) -> Cow<'j, str> {
        if text.has_escapes {
            Cow::Owned(unescape_string(self.raw_bytes(text)))
        } else {
            // Between quotes, which are characters of their own.
            Cow::Borrowed(self.text.get(text.range.clone()).unwrap_or_default())
        }
    }

    fn peek(&self) -> Option<u8> {
        self.body.get(self.position).copied()
    }

    fn skip_whitespace(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.position += 1;
        }
    }

    fn expect_byte(&mut self, byte: u8, reason: &'static str) -> Result<(), MaskError> {
        if self.peek() != Some(byte) {
            return Err(self.malformed_error(reason));
        }
        self.position += 1;
        Ok(())
    }

    fn check_depth(&self, depth: usize) -> Result<(), MaskError> {
        if depth > MAX_NESTING_DEPTH {
            Err(MaskError::TooDeep { format: FORMAT_NAME, offset: self.position })
        } else {
            Ok(())
        }
    }

    fn malformed_error(&self, reason: &'static str) -> MaskError {
        MaskError::Malformed { format: FORMAT_NAME, offset: self.position, reason }
    }
}

/// The attributes of an SQS message.
fn read_attributes(attributes: &serde_json::Value) -> Option<Vec<MessageAttribute>> {
    let read = |(name, value): (&String, &serde_json::Value)| {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        MessageAttribute {
            name: name.clone(),
            data_type: text("DataType"),
            string_value: text("StringValue"),
            binary_value: text("BinaryValue"),
        }
    };
    Some(attributes.as_object()?.iter().map(read).collect())
}

/// Marks (in the top bit of its byte) the first quote, backslash or control character of eight bytes. Bytes above the
/// first mark may be marked wrongly, by the borrow of the subtraction.
fn mark_special_bytes(eight: u64) -> u64 {
    const LOW_BITS: u64 = 0x0101_0101_0101_0101;
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    let zero = |word: u64| word.wrapping_sub(LOW_BITS) & !word;
    let control = eight.wrapping_sub(LOW_BITS * 0x20) & !eight;
    (zero(eight ^ (LOW_BITS * u64::from(b'"'))) | zero(eight ^ (LOW_BITS * u64::from(b'\\'))) | control)
        & HIGH_BITS
}

/// Resolves the escapes of a string whose escapes were checked.
fn unescape_string(raw: &[u8]) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (plain, tail) = rest.split_at(at);
        out.push_str(&String::from_utf8_lossy(plain));
        rest = match tail {
            [_, b'u', after @ ..] => {
                let (letter, used) = decode_unicode_escape(after);
                out.push(letter);
                after.get(used..).unwrap_or_default()
            }
            [_, letter, after @ ..] => {
                out.push(match letter {
                    b'n' => '\n',
                    b't' => '\t',
                    b'r' => '\r',
                    b'b' => '\u{8}',
                    b'f' => '\u{c}',
                    other => char::from(*other),
                });
                after
            }
            _ => &[],
        };
    }
    out.push_str(&String::from_utf8_lossy(rest));
    out
}

/// The character of the digits after `\u`, which were checked, and how many bytes it takes: 4, or 10 for a pair.
fn decode_unicode_escape(after: &[u8]) -> (char, usize) {
    let unit = |digits: Option<&[u8]>| {
        digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|hex| u16::from_str_radix(hex, 16).ok())
    };
    let Some(first) = unit(after.get(..4)) else { return (char::REPLACEMENT_CHARACTER, 4) };
    if let Ok(letter) = u32::from(first).try_into() {
        return (letter, 4);
    }
    let second = after.get(4..6).filter(|mark| *mark == br"\u").and_then(|_| unit(after.get(6..10)));
    match second.map(|second| char::decode_utf16([first, second]).next()) {
        Some(Some(Ok(letter))) => (letter, 10),
        _ => (char::REPLACEMENT_CHARACTER, 4),
    }
}

/// JSON string content for a text.
fn escape_string(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            b'\n' => out.extend(br"\n"),
            b'\r' => out.extend(br"\r"),
            b'\t' => out.extend(br"\t"),
            0..0x20 => out.extend(format!("\\u{byte:04x}").bytes()),
            _ => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests;

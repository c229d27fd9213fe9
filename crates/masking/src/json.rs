//! A scanner of JSON (RFC 8259) that replaces values while it reads and leaves every other byte alone. It holds no tree
//! and refuses whatever the grammar does not allow, for what another parser reads differently could hide a secret.

use std::borrow::Cow;
use std::ops::Range;

use durward_core::limits::DEPTH;

use crate::class::DataClass;
use crate::names::{Hint, names_a_sibling};
use crate::patch::Patch;
use crate::plan::{Expect, Leaf, Plan};
use crate::scan::Scan;
use crate::{MaskError, check_utf8};

const FORMAT: &str = "JSON";

/// `None`: nothing to mask.
pub(crate) fn mask(
    body: &[u8],
    plan: Option<&Plan<'_>>,
    scan: &mut Scan<'_>,
) -> Result<Option<Vec<u8>>, MaskError> {
    check_utf8(FORMAT, body)?;
    let suspicious = scan.may_match(body);
    let mut json = Json { body, at: 0, plan, scan, suspicious, patch: Patch::new(body) };
    json.space();
    json.value(plan.map(Plan::root).unwrap_or_default(), 0)?;
    json.space();
    if json.at < body.len() {
        return Err(json.malformed("something follows the value"));
    }
    Ok(json.patch.finish())
}

struct Json<'j, 'm> {
    body: &'j [u8],
    at: usize,
    plan: Option<&'j Plan<'j>>,
    scan: &'j mut Scan<'m>,
    /// Some detector may match some string as it is written; otherwise only encoded strings are looked through.
    suspicious: bool,
    patch: Patch<'j>,
}

/// A string without its quotes.
struct Text {
    range: Range<usize>,
    escaped: bool,
}

impl<'j> Json<'j, '_> {
    /// Reads one value. Of a string, yields where it stands.
    fn value(&mut self, expect: Expect, depth: usize) -> Result<Option<Text>, MaskError> {
        let start = self.at;
        match self.peek() {
            Some(b'"') => {
                let text = self.string()?;
                self.mask_string(&text, expect);
                return Ok(Some(text));
            }
            Some(b'{') => self.object(expect, depth + 1)?,
            Some(b'[') => self.array(expect, depth + 1)?,
            Some(b'-' | b'0'..=b'9') => {
                self.number()?;
                self.mask_scalar(start..self.at, expect, b"0");
            }
            Some(b't') => {
                self.literal(b"true")?;
                self.mask_scalar(start..self.at, expect, b"false");
            }
            Some(b'f') => self.literal(b"false")?,
            Some(b'n') => self.literal(b"null")?,
            Some(_) => return Err(self.malformed("no value begins so")),
            None => return Err(self.malformed("a value is missing")),
        }
        Ok(None)
    }

    fn object(&mut self, expect: Expect, depth: usize) -> Result<(), MaskError> {
        self.check_depth(depth)?;
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        let mut sibling = Hint::None;
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.malformed("a member name is missing"));
            }
            let key = self.string()?;
            let name = self.decoded(&key);
            self.mask_key(&key, expect);
            let own = Hint::of_name(name.as_bytes());
            let child = self.plan.map_or(expect.below(), |plan| plan.value_of(expect, &name));
            self.space();
            self.expect(b':', "a colon is missing")?;
            self.space();
            if let Some(value) = self.value(child.with_hint(own.or(sibling)), depth)?
                && names_a_sibling(name.as_bytes())
            {
                sibling = Hint::of_name(self.decoded(&value).as_bytes()).or(sibling);
            }
            if self.ends(b'}')? {
                return Ok(());
            }
        }
    }

    fn array(&mut self, expect: Expect, depth: usize) -> Result<(), MaskError> {
        self.check_depth(depth)?;
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        let item = self.plan.map_or(expect.below(), |plan| plan.item(expect));
        loop {
            self.value(item, depth)?;
            if self.ends(b']')? {
                return Ok(());
            }
        }
    }

    /// After an element: its end, or a comma and the next one.
    fn ends(&mut self, close: u8) -> Result<bool, MaskError> {
        self.space();
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(true)
            }
            Some(b',') => {
                self.at += 1;
                self.space();
                Ok(false)
            }
            _ => Err(self.malformed("a comma or the end of the array or object is missing")),
        }
    }

    fn string(&mut self) -> Result<Text, MaskError> {
        let start = self.at + 1;
        let mut at = start;
        let mut escaped = false;
        loop {
            while let Some(eight) = self.body.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
                let found = special(u64::from_le_bytes(*eight));
                if found != 0 {
                    at += (found.trailing_zeros() / 8) as usize;
                    break;
                }
                at += 8;
            }
            self.at = at;
            match self.peek() {
                Some(b'"') => {
                    self.at = at + 1;
                    return Ok(Text { range: start..at, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    at += self.escape()?;
                }
                Some(0..0x20) => return Err(self.malformed("a control character stands in a string")),
                Some(_) => at += 1,
                None => return Err(self.malformed("a string does not end")),
            }
        }
    }

    /// Length of the escape at the current place.
    fn escape(&self) -> Result<usize, MaskError> {
        match self.body.get(self.at + 1..).unwrap_or_default() {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => Ok(2),
            [b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) => Ok(6),
            _ => Err(self.malformed("no escape is written so")),
        }
    }

    fn number(&mut self) -> Result<(), MaskError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), MaskError> {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.malformed("a digit is missing")) } else { Ok(()) }
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), MaskError> {
        if !self.body.get(self.at..).unwrap_or_default().starts_with(word) {
            return Err(self.malformed("no value begins so"));
        }
        self.at += word.len();
        Ok(())
    }

    fn mask_string(&mut self, text: &Text, expect: Expect) {
        let leaf = self.plan.map_or(Leaf::Text, |plan| plan.leaf(expect));
        if expect.sensitive && leaf != Leaf::Time && self.scan.masks(DataClass::AWS_SENSITIVE) {
            if !text.range.is_empty() {
                let quoted = text.range.start - 1..text.range.end + 1;
                match leaf {
                    Leaf::Number => self.mask_scalar(quoted, expect, b"0"),
                    Leaf::Boolean => self.mask_scalar(quoted, expect, b"false"),
                    Leaf::Blob => self.patch.replace(text.range.clone(), self.scan.blob_word().as_bytes()),
                    Leaf::Text | Leaf::Time => {
                        self.patch.replace(
                            text.range.clone(),
                            self.scan.word(&DataClass::AWS_SENSITIVE).as_bytes(),
                        );
                    }
                }
            }
            return;
        }
        let raw = self.raw(text);
        if !self.suspicious && expect.context.hint == Hint::None && !Scan::may_hide(raw) {
            return;
        }
        let masked = self.scan.text(self.decoded(text).as_bytes(), expect.context);
        if let Some(masked) = masked {
            self.patch.replace(text.range.clone(), &escape(&masked));
        }
    }

    fn mask_key(&mut self, key: &Text, object: Expect) {
        let expect = self.plan.map_or(Expect::default(), |plan| plan.map_key(object));
        let masked = if expect.sensitive && self.scan.masks(DataClass::AWS_SENSITIVE) {
            Some(self.scan.word(&DataClass::AWS_SENSITIVE))
        } else if self.suspicious || Scan::may_hide(self.raw(key)) {
            let masked = self.scan.text(self.decoded(key).as_bytes(), expect.context);
            masked.map(|masked| String::from_utf8_lossy(&masked).into_owned())
        } else {
            None
        };
        if let Some(masked) = masked {
            let distinct = self.scan.distinct_key(masked);
            self.patch.replace(key.range.clone(), &escape(distinct.as_bytes()));
        }
    }

    fn mask_scalar(&mut self, range: Range<usize>, expect: Expect, with: &[u8]) {
        let time = self.plan.is_some_and(|plan| plan.leaf(expect) == Leaf::Time);
        if expect.sensitive && !time && self.scan.masks(DataClass::AWS_SENSITIVE) {
            self.scan.count(&DataClass::AWS_SENSITIVE);
            self.patch.replace(range, with);
        }
    }

    fn raw(&self, text: &Text) -> &'j [u8] {
        self.body.get(text.range.clone()).unwrap_or_default()
    }

    /// What a parser makes of the string; half surrogates become U+FFFD.
    fn decoded(&self, text: &Text) -> Cow<'j, str> {
        let raw = self.raw(text);
        if text.escaped { Cow::Owned(unescape(raw)) } else { String::from_utf8_lossy(raw) }
    }

    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), MaskError> {
        if self.peek() != Some(byte) {
            return Err(self.malformed(what));
        }
        self.at += 1;
        Ok(())
    }

    fn check_depth(&self, depth: usize) -> Result<(), MaskError> {
        if depth > DEPTH { Err(MaskError::TooDeep { format: FORMAT, offset: self.at }) } else { Ok(()) }
    }

    fn malformed(&self, what: &'static str) -> MaskError {
        MaskError::Malformed { format: FORMAT, offset: self.at, what }
    }
}

/// Marks (in the top bit of its byte) the first quote, backslash or control character of eight bytes. Bytes above the
/// first mark may be marked wrongly, by the borrow of the subtraction.
fn special(eight: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let control = eight.wrapping_sub(ONES * 0x20) & !eight;
    (zero(eight ^ (ONES * u64::from(b'"'))) | zero(eight ^ (ONES * u64::from(b'\\'))) | control) & TOPS
}

/// Resolves the escapes of a string whose escapes were checked.
fn unescape(raw: &[u8]) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (plain, tail) = rest.split_at(at);
        out.push_str(&String::from_utf8_lossy(plain));
        rest = match tail {
            [_, b'u', after @ ..] => {
                let (letter, used) = unicode(after);
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

/// The letter of the digits after `\u` and how many bytes it took: 4, or 10 for a pair.
fn unicode(after: &[u8]) -> (char, usize) {
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
fn escape(text: &[u8]) -> Vec<u8> {
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

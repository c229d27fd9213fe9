//! A scanner of CBOR (RFC 8949) as rpc-v2-cbor writes it: one item, text keys, definite or indefinite lengths. Replaced
//! values are written anew; every other byte, the heads of maps and arrays included, is left alone.

use std::borrow::Cow;
use std::ops::Range;

use durward_core::limits::DEPTH;

use crate::MaskError;
use crate::class::DataClass;
use crate::names::{Hint, names_a_sibling};
use crate::patch::Patch;
use crate::plan::{Expect, Leaf, Plan};
use crate::scan::Scan;

const FORMAT: &str = "CBOR";
const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const BREAK: u8 = 0xff;

/// `None`: nothing to mask.
pub(crate) fn mask(
    body: &[u8],
    plan: Option<&Plan<'_>>,
    scan: &mut Scan<'_>,
) -> Result<Option<Vec<u8>>, MaskError> {
    let mut cbor = Cbor { body, at: 0, plan, scan, patch: Patch::new(body) };
    cbor.item(plan.map(Plan::root).unwrap_or_default(), 0)?;
    if cbor.at < body.len() {
        return Err(cbor.malformed("something follows the item"));
    }
    Ok(cbor.patch.finish())
}

struct Cbor<'c, 'm> {
    body: &'c [u8],
    at: usize,
    plan: Option<&'c Plan<'c>>,
    scan: &'c mut Scan<'m>,
    patch: Patch<'c>,
}

/// The first byte of an item and its argument; `None` for indefinite lengths.
#[derive(Clone, Copy)]
struct Head {
    major: u8,
    info: u8,
    argument: Option<u64>,
}

impl<'c> Cbor<'c, '_> {
    /// Reads one item. Of a text, yields it.
    fn item(&mut self, expect: Expect, depth: usize) -> Result<Option<Cow<'c, [u8]>>, MaskError> {
        if depth > DEPTH {
            return Err(MaskError::TooDeep { format: FORMAT, offset: self.at });
        }
        let start = self.at;
        let head = self.head()?;
        match head.major {
            UNSIGNED | NEGATIVE => self.mask_scalar(start..self.at, expect, &[0]),
            BYTES | TEXT => {
                let content = self.string(head)?;
                self.mask_string(start..self.at, head.major, &content, expect);
                return Ok((head.major == TEXT).then_some(content));
            }
            ARRAY => {
                let item = self.plan.map_or(expect.below(), |plan| plan.item(expect));
                let mut left = head.argument;
                while self.goes_on(&mut left)? {
                    self.item(item, depth + 1)?;
                }
            }
            MAP => self.map(head, expect, depth)?,
            TAG => self.tagged(start, head, expect, depth)?,
            _ => self.simple(start, head, expect)?,
        }
        Ok(None)
    }

    fn map(&mut self, head: Head, expect: Expect, depth: usize) -> Result<(), MaskError> {
        let mut sibling = Hint::None;
        let mut left = head.argument;
        while self.goes_on(&mut left)? {
            let start = self.at;
            let key = self.head()?;
            if key.major != TEXT {
                return Err(self.malformed("a map key is not a text"));
            }
            let key = self.string(key)?;
            self.mask_key(start..self.at, &key, expect);
            let name = String::from_utf8_lossy(&key);
            let child = self.plan.map_or(expect.below(), |plan| plan.value_of(expect, &name));
            let child = child.with_hint(Hint::of_name(&key).or(sibling));
            if let Some(text) = self.item(child, depth + 1)?
                && names_a_sibling(&key)
            {
                sibling = Hint::of_name(&text).or(sibling);
            }
        }
        Ok(())
    }

    fn tagged(&mut self, start: usize, tag: Head, expect: Expect, depth: usize) -> Result<(), MaskError> {
        let masks = expect.sensitive && self.scan.masks(DataClass::AWS_SENSITIVE);
        match tag.argument {
            // a time keeps its value even under a mark, as everywhere; whatever else the tag claims to be a time does not
            Some(1)
                if masks
                    && self
                        .body
                        .get(self.at)
                        .is_some_and(|next| matches!(next >> 5, UNSIGNED | NEGATIVE | 7)) =>
            {
                self.item(Expect { sensitive: false, ..expect }, depth + 1)?
            }
            // big numbers: the word in their bytes would be a number
            Some(2 | 3) if masks => {
                let head = self.head()?;
                if head.major != BYTES {
                    return Err(self.malformed("a big number is not a byte string"));
                }
                self.string(head)?;
                self.mask_scalar(start..self.at, expect, &[0]);
                None
            }
            _ => self.item(expect, depth + 1)?,
        };
        Ok(())
    }

    fn simple(&mut self, start: usize, head: Head, expect: Expect) -> Result<(), MaskError> {
        match head.info {
            21 => self.mask_scalar(start..self.at, expect, &[0xf4]),
            25 => self.mask_scalar(start..self.at, expect, &[0xf9, 0, 0]),
            26 => self.mask_scalar(start..self.at, expect, &[0xfa, 0, 0, 0, 0]),
            27 => self.mask_scalar(start..self.at, expect, &[0xfb, 0, 0, 0, 0, 0, 0, 0, 0]),
            20 | 22 | 23 => {}
            31 => return Err(self.malformed("a break stands where an item should")),
            _ => return Err(self.malformed("no AWS answer has other simple values")),
        }
        Ok(())
    }

    fn head(&mut self) -> Result<Head, MaskError> {
        let first = self.byte()?;
        let (major, info) = (first >> 5, first & 0x1f);
        let argument = match info {
            0..24 => Some(u64::from(info)),
            24..28 => {
                let mut argument = 0;
                for _ in 0..1 << (info - 24) {
                    argument = argument << 8 | u64::from(self.byte()?);
                }
                Some(argument)
            }
            31 if matches!(major, BYTES | TEXT | ARRAY | MAP | 7) => None,
            _ => return Err(self.malformed("a reserved length")),
        };
        Ok(Head { major, info, argument })
    }

    /// Whether another element of an array or map follows. `left` is what a definite length still promises.
    fn goes_on(&mut self, left: &mut Option<u64>) -> Result<bool, MaskError> {
        match left {
            Some(0) => Ok(false),
            // a false count ends at the first missing byte; nothing is allocated for it
            Some(count) => {
                *count -= 1;
                Ok(true)
            }
            None => match self.body.get(self.at) {
                Some(&BREAK) => {
                    self.at += 1;
                    Ok(false)
                }
                Some(_) => Ok(true),
                None => Err(self.malformed("an indefinite length does not end")),
            },
        }
    }

    /// The content of a text or byte string, chunks joined.
    fn string(&mut self, head: Head) -> Result<Cow<'c, [u8]>, MaskError> {
        let Some(len) = head.argument else {
            let mut joined = Vec::new();
            loop {
                let chunk = self.head()?;
                match (chunk.major, chunk.argument) {
                    (7, None) => return Ok(Cow::Owned(joined)),
                    (major, Some(len)) if major == head.major => {
                        joined.extend_from_slice(self.chunk(head.major, len)?);
                    }
                    _ => return Err(self.malformed("a chunk is of another kind than its string")),
                }
            }
        };
        Ok(Cow::Borrowed(self.chunk(head.major, len)?))
    }

    fn chunk(&mut self, major: u8, len: u64) -> Result<&'c [u8], MaskError> {
        let end = usize::try_from(len).ok().and_then(|len| self.at.checked_add(len));
        let content = end.and_then(|end| self.body.get(self.at..end));
        let content = content.ok_or_else(|| self.malformed("a string is longer than the body"))?;
        // each chunk of a text is valid by itself (RFC 8949, 3.2.3)
        if major == TEXT
            && let Err(e) = std::str::from_utf8(content)
        {
            return Err(MaskError::NotUtf8 { format: FORMAT, offset: self.at + e.valid_up_to() });
        }
        self.at += content.len();
        Ok(content)
    }

    fn mask_string(&mut self, range: Range<usize>, major: u8, content: &[u8], expect: Expect) {
        let leaf = self.plan.map_or(Leaf::Text, |plan| plan.leaf(expect));
        if expect.sensitive && leaf != Leaf::Time && self.scan.masks(DataClass::AWS_SENSITIVE) {
            if !content.is_empty() {
                match leaf {
                    Leaf::Number => self.mask_scalar(range, expect, &[0]),
                    Leaf::Boolean => self.mask_scalar(range, expect, &[0xf4]),
                    Leaf::Text | Leaf::Blob | Leaf::Time => {
                        let word = self.scan.word(&DataClass::AWS_SENSITIVE);
                        self.patch.replace(range, &written(major, word.as_bytes()));
                    }
                }
            }
            return;
        }
        if let Some(masked) = self.scan.text(content, expect.context) {
            self.patch.replace(range, &written(major, &masked));
        }
    }

    fn mask_key(&mut self, range: Range<usize>, key: &[u8], map: Expect) {
        let expect = self.plan.map_or(Expect::default(), |plan| plan.map_key(map));
        let masked = if expect.sensitive && self.scan.masks(DataClass::AWS_SENSITIVE) {
            Some(self.scan.word(&DataClass::AWS_SENSITIVE))
        } else {
            self.scan.text(key, expect.context).map(|masked| String::from_utf8_lossy(&masked).into_owned())
        };
        if let Some(masked) = masked {
            let distinct = self.scan.distinct_key(masked);
            self.patch.replace(range, &written(TEXT, distinct.as_bytes()));
        }
    }

    fn mask_scalar(&mut self, range: Range<usize>, expect: Expect, with: &[u8]) {
        let time = self.plan.is_some_and(|plan| plan.leaf(expect) == Leaf::Time);
        if expect.sensitive && !time && self.scan.masks(DataClass::AWS_SENSITIVE) {
            self.scan.count(&DataClass::AWS_SENSITIVE);
            self.patch.replace(range, with);
        }
    }

    fn byte(&mut self) -> Result<u8, MaskError> {
        let byte =
            self.body.get(self.at).copied().ok_or_else(|| self.malformed("the body ends within an item"))?;
        self.at += 1;
        Ok(byte)
    }

    fn malformed(&self, what: &'static str) -> MaskError {
        MaskError::Malformed { format: FORMAT, offset: self.at, what }
    }
}

/// A definite text or byte string.
fn written(major: u8, content: &[u8]) -> Vec<u8> {
    let len = content.len() as u64;
    let first = major << 5;
    let mut out = Vec::with_capacity(content.len() + 9);
    match len {
        0..24 => out.push(first | len as u8),
        24..0x100 => out.extend([first | 0x18, len as u8]),
        0x100..0x1_0000 => {
            out.push(first | 0x19);
            out.extend((len as u16).to_be_bytes());
        }
        _ => {
            out.push(first | 0x1b);
            out.extend(len.to_be_bytes());
        }
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests;

//! A scanner of CBOR (RFC 8949) as rpc-v2-cbor writes it: one item, text keys, definite or indefinite lengths. Replaced
//! values are encoded again; every other byte, the heads of maps and arrays included, is copied.

use std::borrow::Cow;
use std::ops::Range;

use durward_core::limits::MAX_NESTING_DEPTH;

use crate::MaskError;
use crate::body_patch::BodyPatch;
use crate::data_class::DataClass;
use crate::marked_values::{MarkedValue, Replacement, apply_mark};
use crate::masking_plan::{ExpectedValue, MaskingPlan};
use crate::masking_run::MaskingRun;
use crate::name_hints::{NameHint, holds_sibling_name};

const FORMAT_NAME: &str = "CBOR";
const MAJOR_UNSIGNED: u8 = 0;
const MAJOR_NEGATIVE: u8 = 1;
const MAJOR_BYTES: u8 = 2;
const MAJOR_TEXT: u8 = 3;
const MAJOR_ARRAY: u8 = 4;
const MAJOR_MAP: u8 = 5;
const MAJOR_TAG: u8 = 6;
const BREAK_BYTE: u8 = 0xff;
/// The item 0.
const CBOR_ZERO: u8 = 0;
/// The item `false`.
const CBOR_FALSE: u8 = 0xf4;

/// `None`: nothing to mask.
pub(crate) fn mask_cbor(
    body: &[u8],
    plan: Option<&MaskingPlan<'_>>,
    scan: &mut MaskingRun<'_>,
) -> Result<Option<Vec<u8>>, MaskError> {
    let mut cbor = CborScanner { body, position: 0, plan, masking_run: scan, patch: BodyPatch::new(body) };
    cbor.scan_item(plan.map(MaskingPlan::root_value).unwrap_or_default(), 0)?;
    if cbor.position < body.len() {
        return Err(cbor.malformed_error("trailing bytes after the item"));
    }
    Ok(cbor.patch.finish())
}

struct CborScanner<'c, 'm> {
    body: &'c [u8],
    position: usize,
    plan: Option<&'c MaskingPlan<'c>>,
    masking_run: &'c mut MaskingRun<'m>,
    patch: BodyPatch<'c>,
}

/// The first byte of an item and its argument; `None` for indefinite lengths.
#[derive(Clone, Copy)]
struct ItemHead {
    major_type: u8,
    additional_info: u8,
    argument: Option<u64>,
}

impl<'c> CborScanner<'c, '_> {
    /// Reads one item. Returns the content of a text.
    fn scan_item(&mut self, expect: ExpectedValue, depth: usize) -> Result<Option<Cow<'c, [u8]>>, MaskError> {
        if depth > MAX_NESTING_DEPTH {
            return Err(MaskError::TooDeep { format: FORMAT_NAME, offset: self.position });
        }
        let start = self.position;
        let head = self.read_head()?;
        match head.major_type {
            MAJOR_UNSIGNED | MAJOR_NEGATIVE => self.mask_scalar(start..self.position, expect, &[CBOR_ZERO]),
            MAJOR_BYTES | MAJOR_TEXT => {
                let content = self.read_string(head)?;
                self.mask_string(start..self.position, head.major_type, &content, expect);
                return Ok((head.major_type == MAJOR_TEXT).then_some(content));
            }
            MAJOR_ARRAY => {
                let item = self.plan.map_or(expect.unknown_child(), |plan| plan.list_item(expect));
                let mut left = head.argument;
                while self.has_next_element(&mut left)? {
                    self.scan_item(item, depth + 1)?;
                }
            }
            MAJOR_MAP => self.scan_map(head, expect, depth)?,
            MAJOR_TAG => self.scan_tagged_item(start, head, expect, depth)?,
            _ => self.scan_simple_value(start, head, expect)?,
        }
        Ok(None)
    }

    fn scan_map(&mut self, head: ItemHead, expect: ExpectedValue, depth: usize) -> Result<(), MaskError> {
        let mut sibling = NameHint::None;
        let mut left = head.argument;
        while self.has_next_element(&mut left)? {
            let start = self.position;
            let key = self.read_head()?;
            if key.major_type != MAJOR_TEXT {
                // Members of Smithy structures and maps have text keys (Smithy, "Smithy RPC v2 CBOR protocol"). Another key has
                // no known mark.
                return Err(self.malformed_error("a map key is not a text"));
            }
            let key = self.read_string(key)?;
            self.mask_key(start..self.position, &key, expect);
            let name = String::from_utf8_lossy(&key);
            let child = self.plan.map_or(expect.unknown_child(), |plan| plan.value_for_key(expect, &name));
            let child = child.with_name_hint(NameHint::from_name(&key).or(sibling));
            if let Some(text) = self.scan_item(child, depth + 1)?
                && holds_sibling_name(&key)
            {
                sibling = NameHint::from_name(&text).or(sibling);
            }
        }
        Ok(())
    }

    fn scan_tagged_item(
        &mut self,
        start: usize,
        tag: ItemHead,
        expect: ExpectedValue,
        depth: usize,
    ) -> Result<(), MaskError> {
        let masks = expect.is_sensitive && self.masking_run.must_mask(DataClass::AWS_SENSITIVE);
        match tag.argument {
            // Tag 1 is an epoch time (RFC 8949, section 3.4.2). A number under it keeps its value, as every timestamp does; any
            // other item under it only claims to be a time.
            Some(1)
                if masks
                    && self
                        .body
                        .get(self.position)
                        .is_some_and(|next| matches!(next >> 5, MAJOR_UNSIGNED | MAJOR_NEGATIVE | 7)) =>
            {
                self.scan_item(ExpectedValue { is_sensitive: false, ..expect }, depth + 1)?
            }
            // Tags 2 and 3 are big numbers: the placeholder as their bytes would be some number.
            Some(2 | 3) if masks => {
                let head = self.read_head()?;
                if head.major_type != MAJOR_BYTES {
                    return Err(self.malformed_error("a big number is not a byte string"));
                }
                self.read_string(head)?;
                self.mask_scalar(start..self.position, expect, &[CBOR_ZERO]);
                None
            }
            _ => self.scan_item(expect, depth + 1)?,
        };
        Ok(())
    }

    fn scan_simple_value(
        &mut self,
        start: usize,
        head: ItemHead,
        expect: ExpectedValue,
    ) -> Result<(), MaskError> {
        match head.additional_info {
            21 => self.mask_scalar(start..self.position, expect, &[CBOR_FALSE]),
            // Zero in the width of the value, so that a decoder of floats still finds one.
            25 => self.mask_scalar(start..self.position, expect, &[0xf9, 0, 0]),
            26 => self.mask_scalar(start..self.position, expect, &[0xfa, 0, 0, 0, 0]),
            27 => self.mask_scalar(start..self.position, expect, &[0xfb, 0, 0, 0, 0, 0, 0, 0, 0]),
            // A masked boolean is `false`, so a `false` that stays tells nothing about its value.
            20 | 22 | 23 => {}
            31 => return Err(self.malformed_error("a break in place of an item")),
            _ => return Err(self.malformed_error("no AWS response has other simple values")),
        }
        Ok(())
    }

    fn read_head(&mut self) -> Result<ItemHead, MaskError> {
        let first = self.read_byte()?;
        let (major, info) = (first >> 5, first & 0x1f);
        let argument = match info {
            0..24 => Some(u64::from(info)),
            24..28 => {
                let mut argument = 0;
                for _ in 0..1 << (info - 24) {
                    argument = argument << 8 | u64::from(self.read_byte()?);
                }
                Some(argument)
            }
            31 if matches!(major, MAJOR_BYTES | MAJOR_TEXT | MAJOR_ARRAY | MAJOR_MAP | 7) => None,
            _ => return Err(self.malformed_error("a reserved length")),
        };
        Ok(ItemHead { major_type: major, additional_info: info, argument })
    }

    /// Returns true if another element of an array or map follows. `left` counts down a definite length.
    fn has_next_element(&mut self, left: &mut Option<u64>) -> Result<bool, MaskError> {
        match left {
            Some(0) => Ok(false),
            // A false count fails at the first missing byte; nothing is allocated for it.
            Some(count) => {
                *count -= 1;
                Ok(true)
            }
            None => match self.body.get(self.position) {
                Some(&BREAK_BYTE) => {
                    self.position += 1;
                    Ok(false)
                }
                Some(_) => Ok(true),
                None => Err(self.malformed_error("unterminated indefinite length")),
            },
        }
    }

    /// The content of a text or byte string, chunks joined.
    fn read_string(&mut self, head: ItemHead) -> Result<Cow<'c, [u8]>, MaskError> {
        let Some(len) = head.argument else {
            let mut joined = Vec::new();
            loop {
                let chunk = self.read_head()?;
                match (chunk.major_type, chunk.argument) {
                    (7, None) => return Ok(Cow::Owned(joined)),
                    (major, Some(len)) if major == head.major_type => {
                        joined.extend_from_slice(self.read_chunk(head.major_type, len)?);
                    }
                    _ => return Err(self.malformed_error("a chunk of another type than its string")),
                }
            }
        };
        Ok(Cow::Borrowed(self.read_chunk(head.major_type, len)?))
    }

    fn read_chunk(&mut self, major: u8, len: u64) -> Result<&'c [u8], MaskError> {
        let end = usize::try_from(len).ok().and_then(|len| self.position.checked_add(len));
        let content = end.and_then(|end| self.body.get(self.position..end));
        let content = content.ok_or_else(|| self.malformed_error("a string is longer than the body"))?;
        // Each chunk of a text must be valid by itself (RFC 8949, section 3.2.3).
        if major == MAJOR_TEXT
            && let Err(e) = std::str::from_utf8(content)
        {
            return Err(MaskError::NotUtf8 { format: FORMAT_NAME, offset: self.position + e.valid_up_to() });
        }
        self.position += content.len();
        Ok(content)
    }

    fn mask_string(&mut self, range: Range<usize>, major: u8, content: &[u8], expect: ExpectedValue) {
        match apply_mark(self.masking_run, self.plan, expect, content.is_empty()) {
            MarkedValue::Detect => {}
            MarkedValue::Keep => return,
            MarkedValue::Replace(replacement) => {
                let encoded = match replacement {
                    Replacement::Text | Replacement::Blob => {
                        encode_string(major, DataClass::AWS_SENSITIVE.placeholder().as_bytes())
                    }
                    Replacement::Number => vec![CBOR_ZERO],
                    Replacement::Boolean => vec![CBOR_FALSE],
                };
                self.patch.replace(range, encoded);
                return;
            }
        }
        let masked = if major == MAJOR_BYTES {
            self.masking_run.mask_bytes(content, expect.context)
        } else {
            self.masking_run.mask_secrets(content, expect.context)
        };
        if let Some(masked) = masked {
            self.patch.replace(range, encode_string(major, &masked));
        }
    }

    fn mask_key(&mut self, range: Range<usize>, key: &[u8], map: ExpectedValue) {
        let expect = self.plan.map_or(ExpectedValue::default(), |plan| plan.map_key(map));
        let masked = if expect.is_sensitive && self.masking_run.must_mask(DataClass::AWS_SENSITIVE) {
            Some(self.masking_run.counted_placeholder(&DataClass::AWS_SENSITIVE))
        } else {
            self.masking_run
                .mask_secrets(key, expect.context)
                .map(|masked| String::from_utf8_lossy(&masked).into_owned())
        };
        if let Some(masked) = masked {
            let distinct = self.masking_run.distinct_key(masked);
            self.patch.replace(range, encode_string(MAJOR_TEXT, distinct.as_bytes()));
        }
    }

    fn mask_scalar(&mut self, range: Range<usize>, expect: ExpectedValue, with: &[u8]) {
        if let MarkedValue::Replace(_) = apply_mark(self.masking_run, self.plan, expect, false) {
            self.patch.replace(range, with.to_vec());
        }
    }

    fn read_byte(&mut self) -> Result<u8, MaskError> {
        let byte = self
            .body
            .get(self.position)
            .copied()
            .ok_or_else(|| self.malformed_error("the body ends within an item"))?;
        self.position += 1;
        Ok(byte)
    }

    fn malformed_error(&self, reason: &'static str) -> MaskError {
        MaskError::Malformed { format: FORMAT_NAME, offset: self.position, reason }
    }
}

/// A definite text or byte string.
fn encode_string(major: u8, content: &[u8]) -> Vec<u8> {
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
        // A length may be written longer than needed (RFC 8949 section 4.1), so the form with four bytes is left out.
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

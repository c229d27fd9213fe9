//! Masks what callers may not see in answers, recordings and text: fields that AWS's models mark sensitive, and secrets
//! that the detectors recognise. Everything outside a masked value keeps its bytes, and what cannot be read strictly
//! (malformed, too deep, not UTF-8, with a DTD) is an error: the caller of this crate then withholds the answer.
//!
//! Access key ids (`AKIA...`) are names, not secrets: AWS returns them so that keys can be listed and rotated. They are
//! masked as [`DataClass::AWS_KEY`] wherever they stand in free values, but not in a member that the model calls
//! `AccessKeyId` and does not mark sensitive, so that IAM tooling keeps working. Secret keys and session tokens are
//! [`DataClass::AWS_SECRET`] and have no such exception.

mod cbor;
mod class;
mod decode;
mod detect;
mod headers;
mod json;
mod names;
mod patch;
mod plan;
mod scan;
mod value;
mod xml;

use std::borrow::Cow;

pub use class::DataClass;
pub use detect::{Masker, Options, Pattern, PatternError};
pub use plan::Plan;

use scan::Scan;

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    Json,
    Xml,
    Cbor,
    /// Plain UTF-8 text without structure.
    Text,
}

/// How often values of one data class were masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    pub data_class: DataClass,
    pub count: u64,
}

/// What masking made of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Masked {
    /// Nothing to mask: the caller sends the bytes it has.
    Unchanged,
    /// Lengths and checksums of the old body no longer hold.
    Changed { body: Vec<u8>, hits: Vec<Hit> },
}

/// Why a body could not be inspected. The answer must then be withheld. Carries positions only, never content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    #[error("the {format} body is malformed at byte {offset}: {what}")]
    Malformed { format: &'static str, offset: usize, what: &'static str },
    #[error("the {format} body nests deeper than {} levels at byte {offset}", durward_core::limits::DEPTH)]
    TooDeep { format: &'static str, offset: usize },
    #[error("the {format} body is not UTF-8 at byte {offset}")]
    NotUtf8 { format: &'static str, offset: usize },
    #[error("the XML body has a document type declaration at byte {offset}, which is never read")]
    DocumentType { offset: usize },
    #[error("the plan names shape {shape}, which the service does not have")]
    UnknownShape { shape: u32 },
}

/// Whether the caller may see values of this data class (`aws-key`).
pub type Reveal<'a> = &'a dyn Fn(&str) -> bool;

impl Masker {
    /// Masks a whole answer. `reveal` is asked at most once for each data class, and only when it occurs.
    pub fn mask_answer(
        &self,
        body: &[u8],
        content: Content,
        plan: Option<&Plan<'_>>,
        reveal: Reveal<'_>,
    ) -> Result<Masked, MaskError> {
        if body.is_empty() {
            return Ok(Masked::Unchanged);
        }
        if let Some(shape) = plan.and_then(Plan::missing_shape) {
            return Err(MaskError::UnknownShape { shape });
        }
        let mut scan = Scan::new(self, reveal);
        let changed = match content {
            Content::Json => json::mask(body, plan, &mut scan)?,
            Content::Xml => xml::mask(body, plan, &mut scan)?,
            Content::Cbor => cbor::mask(body, plan, &mut scan)?,
            Content::Text => mask_plain(body, plan, &mut scan)?,
        };
        Ok(match changed {
            Some(body) => Masked::Changed { body, hits: scan.into_hits() },
            None => Masked::Unchanged,
        })
    }

    /// Masks free text: error messages, text content of MCP results.
    pub fn mask_text<'t>(&self, text: &'t str, reveal: Reveal<'_>) -> (Cow<'t, str>, Vec<Hit>) {
        let mut scan = Scan::new(self, reveal);
        match scan.text(text.as_bytes(), scan::Context::default()) {
            Some(masked) => (Cow::Owned(String::from_utf8_lossy(&masked).into_owned()), scan.into_hits()),
            None => (Cow::Borrowed(text), Vec::new()),
        }
    }
}

fn mask_plain(
    body: &[u8],
    plan: Option<&Plan<'_>>,
    scan: &mut Scan<'_>,
) -> Result<Option<Vec<u8>>, MaskError> {
    check_utf8("text", body)?;
    if plan.is_some_and(|plan| plan.root().sensitive) && scan.masks(DataClass::AWS_SENSITIVE) {
        scan.count(&DataClass::AWS_SENSITIVE);
        return Ok(Some(DataClass::AWS_SENSITIVE.word().into_bytes()));
    }
    Ok(scan.text(body, scan::Context::default()))
}

fn check_utf8<'b>(format: &'static str, body: &'b [u8]) -> Result<&'b str, MaskError> {
    std::str::from_utf8(body).map_err(|e| MaskError::NotUtf8 { format, offset: e.valid_up_to() })
}

#[cfg(test)]
mod tests;

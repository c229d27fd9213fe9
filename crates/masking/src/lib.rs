//! Masks what callers may not see in answers, recordings and text: fields that AWS's models mark sensitive, and secrets
//! that the detectors recognise. Everything outside a masked value keeps its bytes, and what cannot be read strictly
//! (malformed, too deep, not UTF-8, with a DTD) is an error: the caller of this crate then withholds the answer.
//!
//! Access key ids (`AKIA...`) are names, not secrets: AWS returns them so that keys can be listed and rotated. They are
//! masked as [`DataClass::AWS_KEY`] wherever they stand in free values, but not in a member that the model calls
//! `AccessKeyId` and does not mark sensitive, so that IAM tooling keeps working. Secret keys and session tokens are
//! [`DataClass::AWS_SECRET`] and have no such exception.

mod body_patch;
mod cbor_scanner;
mod data_class;
mod detectors;
mod headers;
mod json_scanner;
mod json_value;
mod masking_plan;
mod masking_run;
mod name_hints;
mod nested_encodings;
mod xml_scanner;

use std::borrow::Cow;

pub use data_class::DataClass;
pub use detectors::{CustomPattern, Masker, MaskerOptions, PatternError};
pub use masking_plan::MaskingPlan;

use masking_run::MaskingRun;

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFormat {
    Json,
    Xml,
    Cbor,
    /// Plain UTF-8 text without structure.
    Text,
}

/// How often values of one data class were masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataClassCount {
    pub data_class: DataClass,
    pub count: u64,
}

/// What masking made of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MaskedBody {
    /// Nothing to mask: the caller sends the bytes it has.
    Unchanged,
    /// Lengths and checksums of the old body no longer hold.
    Changed { body: Vec<u8>, counts: Vec<DataClassCount> },
}

/// Why a body could not be inspected. The answer must then be withheld. Carries positions only, never content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    #[error("the {format} body is malformed at byte {offset}: {reason}")]
    Malformed { format: &'static str, offset: usize, reason: &'static str },
    #[error(
        "the {format} body nests deeper than {} levels at byte {offset}",
        durward_core::limits::MAX_NESTING_DEPTH
    )]
    TooDeep { format: &'static str, offset: usize },
    #[error("the {format} body is not UTF-8 at byte {offset}")]
    NotUtf8 { format: &'static str, offset: usize },
    #[error("the XML body has a document type declaration at byte {offset}, which is never read")]
    DocumentType { offset: usize },
    #[error("the plan names shape {shape}, which the service does not have")]
    UnknownShape { shape: u32 },
}

/// Whether the caller may see values of this data class (`aws-key`).
pub type RevealPredicate<'a> = &'a dyn Fn(&str) -> bool;

impl Masker {
    /// Masks a whole answer. `reveal` is asked at most once for each data class, and only when it occurs.
    pub fn mask_body(
        &self,
        body: &[u8],
        content: BodyFormat,
        plan: Option<&MaskingPlan<'_>>,
        reveal: RevealPredicate<'_>,
    ) -> Result<MaskedBody, MaskError> {
        if body.is_empty() {
            return Ok(MaskedBody::Unchanged);
        }
        if let Some(shape) = plan.and_then(MaskingPlan::missing_shape) {
            return Err(MaskError::UnknownShape { shape });
        }
        let mut scan = MaskingRun::new(self, reveal);
        let changed = match content {
            BodyFormat::Json => json_scanner::mask_json(body, plan, &mut scan)?,
            BodyFormat::Xml => xml_scanner::mask_xml(body, plan, &mut scan)?,
            BodyFormat::Cbor => cbor_scanner::mask_cbor(body, plan, &mut scan)?,
            BodyFormat::Text => mask_plain_text(body, plan, &mut scan)?,
        };
        Ok(match changed {
            Some(body) => MaskedBody::Changed { body, counts: scan.into_counts() },
            None => MaskedBody::Unchanged,
        })
    }

    /// Masks free text: error messages, text content of MCP results.
    pub fn mask_text<'t>(
        &self,
        text: &'t str,
        reveal: RevealPredicate<'_>,
    ) -> (Cow<'t, str>, Vec<DataClassCount>) {
        let mut scan = MaskingRun::new(self, reveal);
        match scan.mask_secrets(text.as_bytes(), masking_run::ValueContext::default()) {
            Some(masked) => (Cow::Owned(String::from_utf8_lossy(&masked).into_owned()), scan.into_counts()),
            None => (Cow::Borrowed(text), Vec::new()),
        }
    }
}

fn mask_plain_text(
    body: &[u8],
    plan: Option<&MaskingPlan<'_>>,
    scan: &mut MaskingRun<'_>,
) -> Result<Option<Vec<u8>>, MaskError> {
    check_utf8("text", body)?;
    if plan.is_some_and(|plan| plan.root_value().is_sensitive) && scan.must_mask(DataClass::AWS_SENSITIVE) {
        scan.count_masked(&DataClass::AWS_SENSITIVE);
        return Ok(Some(DataClass::AWS_SENSITIVE.placeholder().into_bytes()));
    }
    Ok(scan.mask_secrets(body, masking_run::ValueContext::default()))
}

fn check_utf8<'b>(format: &'static str, body: &'b [u8]) -> Result<&'b str, MaskError> {
    std::str::from_utf8(body).map_err(|e| MaskError::NotUtf8 { format, offset: e.valid_up_to() })
}

#[cfg(test)]
mod tests;

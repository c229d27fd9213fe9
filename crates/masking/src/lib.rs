//! Masks sensitive data in responses, recordings and text: fields that AWS's models mark sensitive, and secrets that the
//! detectors recognise.
//!
//! - Bytes outside a masked value are unchanged, and a masked body is valid JSON, XML or CBOR with values of the same types. What
//!   is derived from a masked value beside it (digests, sizes) is computed again.
//! - A mask is written in the encoding of its secret. Binary values are searched decoded; identifiers that the caller sends back
//!   are not searched.
//! - A body that cannot be read strictly (malformed, too deep, not UTF-8, with a document type) is an error. The response must
//!   then be withheld: what was not inspected may hold anything.
//! - Errors carry positions and never content.
//! - Time is linear in the size of the body, for hostile bodies too.
//!
//! Access key ids (`AKIA...`) are names, not secrets: AWS returns them so that keys can be listed and rotated. They are
//! masked as [`DataClass::AWS_KEY`] in free values, but not in a member that the model calls `AccessKeyId` and does not mark
//! sensitive, so that IAM tooling keeps working. Secret keys and session tokens are [`DataClass::AWS_SECRET`] and have no
//! such exception.
//!
//! Begin with [`Masker::mask_body`], which takes a [`MaskingPlan`] of the operation's output shape.

mod body_patch;
mod cbor_scanner;
mod data_class;
mod derived_values;
mod detectors;
mod headers;
mod json_scanner;
mod json_value;
mod marked_values;
mod mask_style;
mod masking_plan;
mod masking_run;
mod mcp_model;
mod name_hints;
mod nested_encodings;
mod xml_scanner;

use std::borrow::Cow;

pub use data_class::{DataClass, InvalidDataClassName};
pub use detectors::{CustomPattern, Masker, MaskerOptions, PatternError};
pub use masking_plan::MaskingPlan;

use masking_run::{MaskingRun, ValueContext};

/// The format of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFormat {
    Json,
    Xml,
    Cbor,
    /// Plain UTF-8 text without structure.
    Text,
}

/// The number of masked values of one data class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataClassCount {
    pub data_class: DataClass,
    pub count: u64,
}

/// The result of masking a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MaskedBody {
    /// Nothing was masked: send the original bytes.
    Unchanged,
    /// The length and checksums of the original body no longer hold.
    Changed { body: Vec<u8>, counts: Vec<DataClassCount> },
}

/// The reasons for which a body could not be inspected. The response must then be withheld. Carries positions only, never
/// content.
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
    #[error("the masking plan names shape {shape}, which the service does not have")]
    UnknownShape { shape: u32 },
}

/// Returns true if the caller may see values of this data class (`aws-key`).
pub type RevealPredicate<'a> = &'a dyn Fn(&str) -> bool;

impl Masker {
    /// Masks a whole response body. `reveal` is called at most once for each data class, and only when the class occurs.
    pub fn mask_body(
        &self,
        body: &[u8],
        format: BodyFormat,
        plan: Option<&MaskingPlan<'_>>,
        reveal: RevealPredicate<'_>,
    ) -> Result<MaskedBody, MaskError> {
        if body.is_empty() {
            return Ok(MaskedBody::Unchanged);
        }
        if let Some(shape) = plan.and_then(MaskingPlan::missing_shape) {
            return Err(MaskError::UnknownShape { shape });
        }
        let mut run = MaskingRun::new(self, reveal);
        let changed = match format {
            BodyFormat::Json => json_scanner::mask_json(body, plan, &mut run)?,
            BodyFormat::Xml => xml_scanner::mask_xml(body, plan, &mut run)?,
            BodyFormat::Cbor => cbor_scanner::mask_cbor(body, plan, &mut run)?,
            BodyFormat::Text => mask_plain_text(body, plan, &mut run)?,
        };
        Ok(match changed {
            Some(body) => MaskedBody::Changed { body, counts: run.into_counts() },
            None => MaskedBody::Unchanged,
        })
    }

    /// Masks free text: error messages, text content of MCP results.
    pub fn mask_text<'t>(
        &self,
        text: &'t str,
        reveal: RevealPredicate<'_>,
    ) -> (Cow<'t, str>, Vec<DataClassCount>) {
        let mut run = MaskingRun::new(self, reveal);
        match run.mask_secrets(text.as_bytes(), ValueContext::default()) {
            Some(masked) => (Cow::Owned(String::from_utf8_lossy(&masked).into_owned()), run.into_counts()),
            None => (Cow::Borrowed(text), Vec::new()),
        }
    }
}

fn mask_plain_text(
    body: &[u8],
    plan: Option<&MaskingPlan<'_>>,
    run: &mut MaskingRun<'_>,
) -> Result<Option<Vec<u8>>, MaskError> {
    check_utf8("text", body)?;
    if plan.is_some_and(|plan| plan.root_value().is_sensitive) && run.must_mask(DataClass::AWS_SENSITIVE) {
        run.count_masked(&DataClass::AWS_SENSITIVE);
        return Ok(Some(DataClass::AWS_SENSITIVE.placeholder().into_bytes()));
    }
    Ok(run.mask_secrets(body, ValueContext::default()))
}

fn check_utf8<'b>(format: &'static str, body: &'b [u8]) -> Result<&'b str, MaskError> {
    std::str::from_utf8(body).map_err(|e| MaskError::NotUtf8 { format, offset: e.valid_up_to() })
}

#[cfg(test)]
mod tests;

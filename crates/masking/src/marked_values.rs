//! The replacement of values that the model marks sensitive: one rule for every format.
//!
//! The replacement has the kind of the value's shape, so that a typed parser (an AWS SDK) still accepts the response. A
//! timestamp keeps its value, because no timestamp can mean "masked". An empty value has nothing to hide.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::data_class::DataClass;
use crate::masking_plan::{ExpectedValue, LeafKind, MaskingPlan};
use crate::masking_run::MaskingRun;

/// The consequence of the mark on a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MarkedValue {
    /// No mark, a class that is revealed, or a timestamp: the detectors decide.
    Detect,
    /// Marked and empty: it stays as it is.
    Keep,
    /// Replaced, and counted.
    Replace(Replacement),
}

/// The kind of the replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replacement {
    Text,
    Blob,
    Number,
    Boolean,
}

impl Replacement {
    /// As formats without binary values write it: blobs are base64.
    pub(crate) fn to_text(self) -> String {
        match self {
            Self::Text => DataClass::AWS_SENSITIVE.placeholder(),
            Self::Blob => STANDARD.encode(DataClass::AWS_SENSITIVE.placeholder()),
            Self::Number => "0".to_owned(),
            Self::Boolean => "false".to_owned(),
        }
    }
}

/// Applies the rule to a value, and counts it where it is replaced.
pub(crate) fn apply_mark(
    run: &mut MaskingRun<'_>,
    plan: Option<&MaskingPlan<'_>>,
    expected: ExpectedValue,
    is_empty: bool,
) -> MarkedValue {
    let replacement = match plan.map_or(LeafKind::Text, |plan| plan.leaf_kind(expected)) {
        LeafKind::Timestamp => return MarkedValue::Detect,
        LeafKind::Text => Replacement::Text,
        LeafKind::Blob => Replacement::Blob,
        LeafKind::Number => Replacement::Number,
        LeafKind::Boolean => Replacement::Boolean,
    };
    if !expected.is_sensitive || !run.must_mask(DataClass::AWS_SENSITIVE) {
        return MarkedValue::Detect;
    }
    if is_empty {
        return MarkedValue::Keep;
    }
    run.count_masked(&DataClass::AWS_SENSITIVE);
    MarkedValue::Replace(replacement)
}

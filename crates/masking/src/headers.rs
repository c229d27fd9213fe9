//! Masking of answer headers: output members that travel there, and secrets in any header.

use durward_catalog::service_model::MemberLocation;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::data_class::DataClass;
use crate::detectors::Masker;
use crate::masking_plan::{LeafKind, MaskingPlan};
use crate::masking_run::{MaskingRun, ValueContext};
use crate::{DataClassCount, MaskError, RevealPredicate};

impl Masker {
    /// Masks header values in place. Empty: the headers are as they were.
    pub fn mask_headers(
        &self,
        headers: &mut HeaderMap,
        plan: Option<&MaskingPlan<'_>>,
        reveal: RevealPredicate<'_>,
    ) -> Result<Vec<DataClassCount>, MaskError> {
        if let Some(shape) = plan.and_then(MaskingPlan::missing_shape) {
            return Err(MaskError::UnknownShape { shape });
        }
        let mut scan = MaskingRun::new(self, reveal);
        for (name, value) in headers.iter_mut() {
            let (leaf, sensitive, context) = plan
                .map_or((LeafKind::Text, false, ValueContext::default()), |plan| classify_header(plan, name));
            if sensitive
                && !value.is_empty()
                && leaf != LeafKind::Timestamp
                && scan.must_mask(DataClass::AWS_SENSITIVE)
            {
                let masked = match leaf {
                    LeafKind::Blob => scan.counted_base64_placeholder(),
                    LeafKind::Number => counted_scalar(&mut scan, "0"),
                    LeafKind::Boolean => counted_scalar(&mut scan, "false"),
                    LeafKind::Text | LeafKind::Timestamp => {
                        scan.counted_placeholder(&DataClass::AWS_SENSITIVE)
                    }
                };
                *value = HeaderValue::from_str(&masked).expect("the words are visible ASCII");
            } else if let Some(masked) = scan.mask_secrets(value.as_bytes(), context) {
                // only parts of a valid value and the words: still valid, unless a configured class says otherwise
                *value = HeaderValue::from_bytes(&masked).unwrap_or(HeaderValue::from_static("[masked]"));
            }
        }
        Ok(scan.into_counts())
    }
}

fn counted_scalar(scan: &mut MaskingRun<'_>, text: &str) -> String {
    scan.count_masked(&DataClass::AWS_SENSITIVE);
    text.to_owned()
}

/// Header names compare without case; for `Headers` the wire name is a prefix.
fn classify_header(plan: &MaskingPlan<'_>, name: &HeaderName) -> (LeafKind, bool, ValueContext) {
    for (member, expect) in plan.header_members() {
        let wire = member.wire_name.as_deref().unwrap_or(&member.name);
        if member.location == MemberLocation::Header {
            if wire.eq_ignore_ascii_case(name.as_str()) {
                return (plan.leaf_kind(expect), expect.is_sensitive, expect.context);
            }
        } else if name.as_str().get(..wire.len()).is_some_and(|start| start.eq_ignore_ascii_case(wire)) {
            let below = plan.map_value(expect);
            return (plan.leaf_kind(below), below.is_sensitive, below.context);
        }
    }
    (
        LeafKind::Text,
        false,
        ValueContext {
            is_access_key_id: false,
            name_hint: crate::name_hints::NameHint::from_name(name.as_str().as_bytes()),
        },
    )
}

//! Masking of response headers: output members that travel there, and secrets in any header.

use durward_catalog::service_model::MemberLocation;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::detectors::Masker;
use crate::marked_values::{MarkedValue, apply_mark};
use crate::masking_plan::{ExpectedValue, MaskingPlan};
use crate::masking_run::MaskingRun;
use crate::name_hints::NameHint;
use crate::{DataClassCount, MaskError, RevealPredicate};

impl Masker {
    /// Masks header values in place. The counts are empty where nothing changed.
    pub fn mask_headers(
        &self,
        headers: &mut HeaderMap,
        plan: Option<&MaskingPlan<'_>>,
        reveal: RevealPredicate<'_>,
    ) -> Result<Vec<DataClassCount>, MaskError> {
        if let Some(shape) = plan.and_then(MaskingPlan::missing_shape) {
            return Err(MaskError::UnknownShape { shape });
        }
        let mut run = MaskingRun::new(self, reveal);
        for (name, value) in headers.iter_mut() {
            let expected = plan.map_or(ExpectedValue::default(), |plan| expected_header(plan, name));
            match apply_mark(&mut run, plan, expected, value.is_empty()) {
                MarkedValue::Replace(replacement) => {
                    *value = HeaderValue::from_str(&replacement.to_text())
                        .expect("the placeholder of a built-in class is visible ASCII");
                }
                MarkedValue::Keep => {}
                MarkedValue::Detect => {
                    if let Some(masked) = run.mask_text(value.as_bytes(), expected.context) {
                        // Parts of a valid value, and placeholders whose class names are checked: a valid value.
                        *value =
                            HeaderValue::from_bytes(&masked).unwrap_or(HeaderValue::from_static("[masked]"));
                    }
                }
            }
        }
        Ok(run.into_counts())
    }
}

/// Header names compare without case. A member with the location `headers` has a prefix of names as its wire name.
fn expected_header(plan: &MaskingPlan<'_>, name: &HeaderName) -> ExpectedValue {
    for member in plan.header_members() {
        let wire = member.wire_name.as_deref().unwrap_or(&member.name);
        if member.location == MemberLocation::Header {
            if wire.eq_ignore_ascii_case(name.as_str()) {
                return plan.member_value(member, ExpectedValue::default());
            }
        } else if name.as_str().get(..wire.len()).is_some_and(|start| start.eq_ignore_ascii_case(wire)) {
            return plan.map_value(plan.member_value(member, ExpectedValue::default()));
        }
    }
    // A header that no model describes: its name may still announce a secret (`x-amz-security-token`).
    ExpectedValue::default().with_name_hint(NameHint::from_name(name.as_str().as_bytes()))
}

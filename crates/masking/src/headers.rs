//! Masking of answer headers: output members that travel there, and secrets in any header.

use durward_catalog::model::Location;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::class::DataClass;
use crate::detect::Masker;
use crate::plan::{Leaf, Plan};
use crate::scan::{Context, Scan};
use crate::{Hit, MaskError, Reveal};

impl Masker {
    /// Masks header values in place. Empty: the headers are as they were.
    pub fn mask_headers(
        &self,
        headers: &mut HeaderMap,
        plan: Option<&Plan<'_>>,
        reveal: Reveal<'_>,
    ) -> Result<Vec<Hit>, MaskError> {
        if let Some(shape) = plan.and_then(Plan::missing_shape) {
            return Err(MaskError::UnknownShape { shape });
        }
        let mut scan = Scan::new(self, reveal);
        for (name, value) in headers.iter_mut() {
            let (leaf, sensitive, context) =
                plan.map_or((Leaf::Text, false, Context::default()), |plan| at(plan, name));
            if sensitive && !value.is_empty() && leaf != Leaf::Time && scan.masks(DataClass::AWS_SENSITIVE) {
                let masked = match leaf {
                    Leaf::Blob => scan.blob_word(),
                    Leaf::Number => counted(&mut scan, "0"),
                    Leaf::Boolean => counted(&mut scan, "false"),
                    Leaf::Text | Leaf::Time => scan.word(&DataClass::AWS_SENSITIVE),
                };
                *value = HeaderValue::from_str(&masked).expect("the words are visible ASCII");
            } else if let Some(masked) = scan.text(value.as_bytes(), context) {
                // only parts of a valid value and the words: still valid, unless a configured class says otherwise
                *value = HeaderValue::from_bytes(&masked).unwrap_or(HeaderValue::from_static("[masked]"));
            }
        }
        Ok(scan.into_hits())
    }
}

fn counted(scan: &mut Scan<'_>, text: &str) -> String {
    scan.count(&DataClass::AWS_SENSITIVE);
    text.to_owned()
}

/// Header names compare without case; for `Headers` the wire name is a prefix.
fn at(plan: &Plan<'_>, name: &HeaderName) -> (Leaf, bool, Context) {
    for (member, expect) in plan.header_members() {
        let wire = member.wire_name.as_deref().unwrap_or(&member.name);
        if member.location == Location::Header {
            if wire.eq_ignore_ascii_case(name.as_str()) {
                return (plan.leaf(expect), expect.sensitive, expect.context);
            }
        } else if name.as_str().get(..wire.len()).is_some_and(|start| start.eq_ignore_ascii_case(wire)) {
            let below = plan.map_value(expect);
            return (plan.leaf(below), below.sensitive, below.context);
        }
    }
    (
        Leaf::Text,
        false,
        Context { key_id: false, hint: crate::names::Hint::of_name(name.as_str().as_bytes()) },
    )
}

//! One masking run: decides once for each data class whether the caller may see it, searches values with every detector and
//! through nested encodings, and counts the masked values.

use crate::data_class::DataClass;
use crate::detectors::Masker;
use crate::name_hints::NameHint;
use crate::nested_encodings;
use crate::{DataClassCount, RevealPredicate};

/// Encodings inside encodings that are decoded (base64 of JSON with escapes is two). Each layer multiplies the work on
/// hostile text.
const MAX_ENCODING_LAYERS: u8 = 3;

/// The facts about a value that come from its name and from the model.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ValueContext {
    /// The model says this is an access key id.
    pub(crate) is_access_key_id: bool,
    pub(crate) name_hint: NameHint,
}

pub(crate) struct MaskingRun<'m> {
    masker: &'m Masker,
    reveal: RevealPredicate<'m>,
    /// The classes that occurred, and whether they are masked.
    masking_decisions: Vec<(DataClass, bool)>,
    counts: Vec<DataClassCount>,
    masked_key_count: usize,
}

impl<'m> MaskingRun<'m> {
    pub(crate) fn new(masker: &'m Masker, reveal: RevealPredicate<'m>) -> Self {
        Self { masker, reveal, masking_decisions: Vec::new(), counts: Vec::new(), masked_key_count: 0 }
    }

    pub(crate) fn into_counts(self) -> Vec<DataClassCount> {
        self.counts
    }

    pub(crate) fn may_contain_secret(&self, body: &[u8]) -> bool {
        self.masker.may_contain_secret(body)
    }

    pub(crate) fn must_mask(&mut self, class: DataClass) -> bool {
        decide_masking(&mut self.masking_decisions, self.reveal, &class)
    }

    pub(crate) fn count_masked(&mut self, class: &DataClass) {
        match self.counts.iter_mut().find(|one| one.data_class == *class) {
            Some(one) => one.count += 1,
            None => self.counts.push(DataClassCount { data_class: class.clone(), count: 1 }),
        }
    }

    /// The placeholder for a value of this class, counted.
    pub(crate) fn counted_placeholder(&mut self, class: &DataClass) -> String {
        self.count_masked(class);
        class.placeholder()
    }

    /// Numbers the masked keys of maps: of equal keys a parser would keep one value only.
    pub(crate) fn distinct_key(&mut self, masked: String) -> String {
        self.masked_key_count += 1;
        if self.masked_key_count > 1 { format!("{masked} {}", self.masked_key_count) } else { masked }
    }

    /// The text with its secrets replaced; `None` when it has none.
    pub(crate) fn mask_secrets(&mut self, text: &[u8], context: ValueContext) -> Option<Vec<u8>> {
        if context.name_hint.matches_value(text) && self.must_mask(DataClass::AWS_SECRET) {
            return Some(self.counted_placeholder(&DataClass::AWS_SECRET).into_bytes());
        }
        let spans = {
            let Self { masker, reveal, masking_decisions: decisions, .. } = self;
            masker.find_secrets(text, |class| {
                !is_exempt_key_id(context, class) && decide_masking(decisions, *reveal, class)
            })
        };
        if spans.is_empty() {
            return self
                .find_encoded_secret(text, context, MAX_ENCODING_LAYERS)
                .map(|class| self.counted_placeholder(&class).into_bytes());
        }
        let mut out = Vec::with_capacity(text.len());
        let mut copied_until = 0;
        for span in spans {
            out.extend_from_slice(text.get(copied_until..span.range.start).unwrap_or_default());
            out.extend_from_slice(self.counted_placeholder(&span.class).as_bytes());
            copied_until = span.range.end;
        }
        out.extend_from_slice(text.get(copied_until..).unwrap_or_default());
        // The rest may hold another secret behind an encoding; the spans are counted already.
        Some(
            self.find_encoded_secret(&out, context, MAX_ENCODING_LAYERS)
                .map_or(out, |class| self.counted_placeholder(&class).into_bytes()),
        )
    }

    /// Returns true if a value that no detector matches as it is written may hold an encoded secret.
    pub(crate) fn may_contain_encoding(text: &[u8]) -> bool {
        nested_encodings::has_base64_run(text) || memchr::memchr3(b'\\', b'%', b'\n', text).is_some()
    }

    /// The class of a secret behind encodings.
    fn find_encoded_secret(&mut self, text: &[u8], context: ValueContext, layers: u8) -> Option<DataClass> {
        if layers == 0 || !Self::may_contain_encoding(text) {
            return None;
        }
        if let Some(decoded) = nested_encodings::decode_backslash_escapes(text)
            && let Some(class) = self.find_decoded_secret(&decoded, context, layers)
        {
            return Some(class);
        }
        if let Some(decoded) = nested_encodings::decode_percent_encoding(text)
            && let Some(class) = self.find_decoded_secret(&decoded, context, layers)
        {
            return Some(class);
        }
        let mut found = nested_encodings::decode_base64_runs(text)
            .find_map(|decoded| self.find_decoded_secret(&decoded, context, layers));
        // MIME and PEM wrap base64 after 76 and 64 characters (RFC 2045 section 6.8, RFC 7468 section 2).
        if found.is_none()
            && let Some(unwrapped) = nested_encodings::join_wrapped_lines(text)
        {
            found = nested_encodings::decode_base64_runs(&unwrapped)
                .find_map(|decoded| self.find_decoded_secret(&decoded, context, layers));
        }
        found
    }

    fn find_decoded_secret(
        &mut self,
        decoded: &[u8],
        context: ValueContext,
        layers: u8,
    ) -> Option<DataClass> {
        if context.name_hint.matches_value(decoded) && self.must_mask(DataClass::AWS_SECRET) {
            return Some(DataClass::AWS_SECRET);
        }
        let Self { masker, reveal, masking_decisions: decisions, .. } = self;
        let spans = masker.find_secrets(decoded, |class| {
            !is_exempt_key_id(context, class) && decide_masking(decisions, *reveal, class)
        });
        match spans.into_iter().next() {
            Some(span) => Some(span.class),
            None => self.find_encoded_secret(decoded, context, layers - 1),
        }
    }
}

fn is_exempt_key_id(context: ValueContext, class: &DataClass) -> bool {
    context.is_access_key_id && *class == DataClass::AWS_KEY
}

fn decide_masking(
    decisions: &mut Vec<(DataClass, bool)>,
    reveal: RevealPredicate<'_>,
    class: &DataClass,
) -> bool {
    if let Some((_, masked)) = decisions.iter().find(|(known, _)| known == class) {
        return *masked;
    }
    let masked = !reveal(class.as_str());
    decisions.push((class.clone(), masked));
    masked
}

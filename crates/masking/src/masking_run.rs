//! One masking run: asks which data classes the caller may see, looks through one value at a time with every detector
//! and through every encoding, and counts what was masked.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::data_class::DataClass;
use crate::detectors::Masker;
use crate::name_hints::NameHint;
use crate::nested_encodings;
use crate::{DataClassCount, RevealPredicate};

/// Encodings inside encodings that are looked through (base64 of JSON with escapes is two).
const MAX_ENCODING_LAYERS: u8 = 3;

/// What the place of a value says about it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ValueContext {
    /// The model says this is an access key id.
    pub(crate) is_access_key_id: bool,
    pub(crate) name_hint: NameHint,
}

pub(crate) struct MaskingRun<'m> {
    masker: &'m Masker,
    reveal: RevealPredicate<'m>,
    /// Answers of `reveal`, true: the class is masked.
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
        match self.counts.iter_mut().find(|hit| hit.data_class == *class) {
            Some(hit) => hit.count += 1,
            None => self.counts.push(DataClassCount { data_class: class.clone(), count: 1 }),
        }
    }

    /// The word for a value of this class, counted.
    pub(crate) fn counted_placeholder(&mut self, class: &DataClass) -> String {
        self.count_masked(class);
        class.placeholder()
    }

    /// The word for a value that the model marks, in base64.
    pub(crate) fn counted_base64_placeholder(&mut self) -> String {
        STANDARD.encode(self.counted_placeholder(&DataClass::AWS_SENSITIVE))
    }

    /// Makes masked keys of maps distinct, or a parser would drop all but one of their values.
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
            let Self { masker, reveal, masking_decisions: asked, .. } = self;
            masker.find_secrets(text, |class| {
                !is_exempt_key_id(context, class) && decide_masking(asked, *reveal, class)
            })
        };
        if spans.is_empty() {
            return self
                .find_encoded_secret(text, context, MAX_ENCODING_LAYERS)
                .map(|class| self.counted_placeholder(&class).into_bytes());
        }
        let mut out = Vec::with_capacity(text.len());
        let mut taken = 0;
        for span in spans {
            out.extend_from_slice(text.get(taken..span.range.start).unwrap_or_default());
            out.extend_from_slice(self.counted_placeholder(&span.class).as_bytes());
            taken = span.range.end;
        }
        out.extend_from_slice(text.get(taken..).unwrap_or_default());
        // what is left may hide more behind an encoding; the spans were counted already
        Some(
            self.find_encoded_secret(&out, context, MAX_ENCODING_LAYERS)
                .map_or(out, |class| self.counted_placeholder(&class).into_bytes()),
        )
    }

    /// Whether a value that no detector matches as it is written needs to be looked through at all.
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
        let Self { masker, reveal, masking_decisions: asked, .. } = self;
        let spans = masker.find_secrets(decoded, |class| {
            !is_exempt_key_id(context, class) && decide_masking(asked, *reveal, class)
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
    asked: &mut Vec<(DataClass, bool)>,
    reveal: RevealPredicate<'_>,
    class: &DataClass,
) -> bool {
    if let Some((_, masked)) = asked.iter().find(|(known, _)| known == class) {
        return *masked;
    }
    let masked = !reveal(class.as_str());
    asked.push((class.clone(), masked));
    masked
}

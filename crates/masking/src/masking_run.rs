//! One masking run: decides once for each data class whether the caller may see it, searches values with every detector and
//! through nested encodings, and counts the masked values.

use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::data_class::DataClass;
use crate::detectors::{Masker, SecretSpan};
use crate::mask_style::{MaskStyle, SecretForm};
use crate::name_hints::NameHint;
use crate::nested_encodings::{self, STANDARD_BASE64, UnitEncoding};
use crate::{DataClassCount, RevealPredicate};

/// Encodings inside encodings that are decoded (base64 of JSON with escapes is two). Each layer multiplies the work on
/// hostile text.
const MAX_ENCODING_LAYERS: u8 = 3;

/// Searches of one value that replace what they find.
const MAX_SEARCHES: usize = 2;

/// The facts about a value that come from its name and from the model.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ValueContext {
    /// The model says this is an access key id.
    pub(crate) is_access_key_id: bool,
    pub(crate) name_hint: NameHint,
    pub(crate) kind: ValueKind,
    pub(crate) style: MaskStyle,
}

/// What a value is, as far as it decides how it is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ValueKind {
    #[default]
    Text,
    /// Bytes: base64 in the text formats. They are searched decoded, or else any four letters would be found in them.
    Binary,
    /// The caller must be able to send it back as it came: a cursor, a handle, an identifier. No detector searches it.
    Returned,
}

impl ValueContext {
    /// The context of what is below this value, if nothing else is known of it.
    pub(crate) fn below(self) -> Self {
        Self {
            is_access_key_id: false,
            kind: if self.kind == ValueKind::Returned { self.kind } else { ValueKind::Text },
            ..self
        }
    }
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

    /// A value of a text format with its secrets replaced; `None` when it has none. A binary value is base64 there.
    pub(crate) fn mask_text(&mut self, text: &[u8], context: ValueContext) -> Option<Vec<u8>> {
        if context.kind != ValueKind::Binary {
            return self.mask_secrets(text, context);
        }
        let joined: Vec<u8>;
        let compact = if text.iter().any(u8::is_ascii_whitespace) {
            joined = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
            &joined
        } else {
            text
        };
        // What is not base64 after all is searched as text.
        let Ok(decoded) = STANDARD_BASE64.decode(compact) else { return self.mask_secrets(text, context) };
        // A secret key is base64 itself.
        let masked = match self.mask_named_secret(compact, context) {
            Some(masked) => Some(masked),
            None => self.mask_bytes(&decoded, context),
        };
        masked.map(|masked| STANDARD.encode(masked).into_bytes())
    }

    /// A binary value with its secrets replaced: text as text, any other format at equal length.
    pub(crate) fn mask_bytes(&mut self, bytes: &[u8], context: ValueContext) -> Option<Vec<u8>> {
        if std::str::from_utf8(bytes).is_ok() {
            return self.mask_layers(bytes, context, MAX_ENCODING_LAYERS - 1);
        }
        // Any bytes have what looks like escapes, and each reading of them costs a copy.
        self.mask_layers(bytes, ValueContext { style: MaskStyle::KeepLength, ..context }, 1)
    }

    /// The text with its secrets replaced; `None` when it has none.
    pub(crate) fn mask_secrets(&mut self, text: &[u8], context: ValueContext) -> Option<Vec<u8>> {
        self.mask_layers(text, context, MAX_ENCODING_LAYERS)
    }

    fn mask_layers(&mut self, text: &[u8], context: ValueContext, layers: u8) -> Option<Vec<u8>> {
        if context.kind == ValueKind::Returned {
            return self.mask_named_secret(text, context);
        }
        let mut masked: Option<Vec<u8>> = None;
        // What overlaps is found by the second search. One that still finds something gets nothing but the placeholder.
        for _ in 0..MAX_SEARCHES {
            let current = masked.as_deref().unwrap_or(text);
            let edits = self.find_edits(current, context, layers);
            if edits.is_empty() {
                return masked;
            }
            let next = apply_edits(current, &edits);
            for class in edits.iter().flat_map(|edit| &edit.classes) {
                self.count_masked(class);
            }
            masked = Some(next);
        }
        let left = self.find_edits(masked.as_deref()?, context, layers);
        match left.first().and_then(|edit| edit.classes.first()) {
            Some(class) => Some(self.counted_placeholder(class).into_bytes()),
            None => masked,
        }
    }

    /// The mask of a value that is a secret by its name.
    fn mask_named_secret(&mut self, text: &[u8], context: ValueContext) -> Option<Vec<u8>> {
        let edit = self.find_named_secret(text, context)?;
        self.count_masked(&DataClass::AWS_SECRET);
        Some(edit.replacement)
    }

    fn find_named_secret(&mut self, text: &[u8], context: ValueContext) -> Option<Edit> {
        if !context.name_hint.matches_value(text) || !self.must_mask(DataClass::AWS_SECRET) {
            return None;
        }
        let replacement = context.style.mask_secret(&DataClass::AWS_SECRET, text, SecretForm::Prefixed(0));
        (replacement != text).then(|| Edit {
            range: 0..text.len(),
            replacement,
            classes: vec![DataClass::AWS_SECRET],
        })
    }

    /// Returns true if a value that no detector matches as it is written may hold an encoded secret.
    pub(crate) fn may_contain_encoding(text: &[u8]) -> bool {
        nested_encodings::has_base64_run(text) || memchr::memchr3(b'\\', b'%', b'\n', text).is_some()
    }

    /// What must be replaced in a text, in order and without overlaps.
    fn find_edits(&mut self, text: &[u8], context: ValueContext, layers: u8) -> Vec<Edit> {
        if let Some(edit) = self.find_named_secret(text, context) {
            return vec![edit];
        }
        let Self { masker, reveal, masking_decisions: decisions, .. } = self;
        let spans = masker.find_secrets(text, |class| {
            !is_exempt_key_id(context, class) && decide_masking(decisions, *reveal, class)
        });
        let mut edits = Vec::with_capacity(spans.len());
        for SecretSpan { range, class, form } in spans {
            let secret = text.get(range.clone()).unwrap_or_default();
            let replacement = context.style.mask_secret(&class, secret, form);
            // A mask in the form of its secret may look like one.
            if replacement != secret {
                edits.push(Edit { range, replacement, classes: vec![class] });
            }
        }
        if layers > 0 && Self::may_contain_encoding(text) {
            self.find_base64_edits(text, context, layers, &mut edits);
            // MIME and PEM wrap base64 after 76 and 64 characters (RFC 2045 section 6.8, RFC 7468 section 2).
            self.find_encoded_edits(UnitEncoding::WrappedLines, text, context, layers, &mut edits);
            self.find_encoded_edits(UnitEncoding::Backslashes, text, context, layers, &mut edits);
            self.find_encoded_edits(UnitEncoding::Percents, text, context, layers, &mut edits);
        }
        merge_edits(edits)
    }

    fn find_base64_edits(&mut self, text: &[u8], context: ValueContext, layers: u8, edits: &mut Vec<Edit>) {
        for run in nested_encodings::decode_base64_runs(text) {
            let inner = self.find_edits(&run.decoded, context, layers - 1);
            if inner.is_empty() {
                continue;
            }
            let content = apply_edits(&run.decoded, &inner);
            let replacement = context.style.fit(run.encode(&content), run.range.len());
            let classes = inner.into_iter().flat_map(|edit| edit.classes).collect();
            edits.push(Edit { range: run.range, replacement, classes });
        }
    }

    fn find_encoded_edits(
        &mut self,
        encoding: UnitEncoding,
        text: &[u8],
        context: ValueContext,
        layers: u8,
        edits: &mut Vec<Edit>,
    ) {
        let Some(decoded) = encoding.decode(text) else { return };
        let inner = if encoding == UnitEncoding::WrappedLines {
            // Only base64 is read over line breaks.
            let mut inner = Vec::new();
            self.find_base64_edits(&decoded, context, layers, &mut inner);
            merge_edits(inner)
        } else {
            self.find_edits(&decoded, context, layers - 1)
        };
        if inner.is_empty() {
            return;
        }
        let decoded_ranges: Vec<Range<usize>> = inner.iter().map(|edit| edit.range.clone()).collect();
        let ranges = encoding.encoded_ranges(text, &decoded_ranges);
        for (edit, range) in inner.into_iter().zip(ranges) {
            let replaced = text.get(range.clone()).unwrap_or_default();
            let replacement = context.style.fit(encoding.encode(&edit.replacement, replaced), replaced.len());
            edits.push(Edit { range, replacement, classes: edit.classes });
        }
    }
}

/// A part of a text and what replaces it.
#[derive(Debug)]
struct Edit {
    range: Range<usize>,
    replacement: Vec<u8>,
    /// Of each secret in it.
    classes: Vec<DataClass>,
}

fn apply_edits(text: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut copied_until = 0;
    for edit in edits {
        out.extend_from_slice(text.get(copied_until..edit.range.start).unwrap_or_default());
        out.extend_from_slice(&edit.replacement);
        copied_until = edit.range.end;
    }
    out.extend_from_slice(text.get(copied_until..).unwrap_or_default());
    out
}

/// In order and without overlaps. The same secret is often found in several readings of a text: of two edits of one range the
/// first one stays, of two ranges within each other the larger one, and of two that cross each other only a placeholder.
fn merge_edits(mut edits: Vec<Edit>) -> Vec<Edit> {
    edits.sort_by_key(|edit| (edit.range.start, std::cmp::Reverse(edit.range.end)));
    let mut merged: Vec<Edit> = Vec::with_capacity(edits.len());
    for edit in edits {
        match merged.last_mut() {
            Some(last) if edit.range.start < last.range.end => {
                if edit.range.end > last.range.end {
                    last.range.end = edit.range.end;
                    last.classes.extend(edit.classes);
                    last.replacement = last
                        .classes
                        .first()
                        .map(|class| class.placeholder().into_bytes())
                        .unwrap_or_default();
                }
            }
            _ => merged.push(edit),
        }
    }
    merged
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

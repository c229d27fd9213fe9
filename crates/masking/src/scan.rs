//! One masking run: asks which data classes the caller may see, looks through one value at a time with every detector
//! and through every encoding, and counts what was masked.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::class::DataClass;
use crate::decode;
use crate::detect::Masker;
use crate::names::Hint;
use crate::{Hit, Reveal};

/// Encodings inside encodings that are looked through (base64 of JSON with escapes is two).
const LAYERS: u8 = 3;

/// What the place of a value says about it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Context {
    /// The model says this is an access key id.
    pub(crate) key_id: bool,
    pub(crate) hint: Hint,
}

pub(crate) struct Scan<'m> {
    masker: &'m Masker,
    reveal: Reveal<'m>,
    /// Answers of `reveal`, true: the class is masked.
    asked: Vec<(DataClass, bool)>,
    hits: Vec<Hit>,
    masked_keys: usize,
}

impl<'m> Scan<'m> {
    pub(crate) fn new(masker: &'m Masker, reveal: Reveal<'m>) -> Self {
        Self { masker, reveal, asked: Vec::new(), hits: Vec::new(), masked_keys: 0 }
    }

    pub(crate) fn into_hits(self) -> Vec<Hit> {
        self.hits
    }

    pub(crate) fn may_match(&self, body: &[u8]) -> bool {
        self.masker.may_match(body)
    }

    pub(crate) fn masks(&mut self, class: DataClass) -> bool {
        ask(&mut self.asked, self.reveal, &class)
    }

    pub(crate) fn count(&mut self, class: &DataClass) {
        match self.hits.iter_mut().find(|hit| hit.data_class == *class) {
            Some(hit) => hit.count += 1,
            None => self.hits.push(Hit { data_class: class.clone(), count: 1 }),
        }
    }

    /// The word for a value of this class, counted.
    pub(crate) fn word(&mut self, class: &DataClass) -> String {
        self.count(class);
        class.word()
    }

    /// The word for a value that the model marks, in base64.
    pub(crate) fn blob_word(&mut self) -> String {
        STANDARD.encode(self.word(&DataClass::AWS_SENSITIVE))
    }

    /// Makes masked keys of maps distinct, or a parser would drop all but one of their values.
    pub(crate) fn distinct_key(&mut self, masked: String) -> String {
        self.masked_keys += 1;
        if self.masked_keys > 1 { format!("{masked} {}", self.masked_keys) } else { masked }
    }

    /// The text with its secrets replaced; `None` when it has none.
    pub(crate) fn text(&mut self, text: &[u8], context: Context) -> Option<Vec<u8>> {
        if context.hint.fits(text) && self.masks(DataClass::AWS_SECRET) {
            return Some(self.word(&DataClass::AWS_SECRET).into_bytes());
        }
        let spans = {
            let Self { masker, reveal, asked, .. } = self;
            masker.find(text, |class| !skips(context, class) && ask(asked, *reveal, class))
        };
        if spans.is_empty() {
            return self.hidden(text, context, LAYERS).map(|class| self.word(&class).into_bytes());
        }
        let mut out = Vec::with_capacity(text.len());
        let mut taken = 0;
        for span in spans {
            out.extend_from_slice(text.get(taken..span.range.start).unwrap_or_default());
            out.extend_from_slice(self.word(&span.class).as_bytes());
            taken = span.range.end;
        }
        out.extend_from_slice(text.get(taken..).unwrap_or_default());
        // what is left may hide more behind an encoding; the spans were counted already
        Some(self.hidden(&out, context, LAYERS).map_or(out, |class| self.word(&class).into_bytes()))
    }

    /// Whether a value that no detector matches as it is written needs to be looked through at all.
    pub(crate) fn may_hide(text: &[u8]) -> bool {
        decode::has_base64(text) || memchr::memchr3(b'\\', b'%', b'\n', text).is_some()
    }

    /// The class of a secret behind encodings.
    fn hidden(&mut self, text: &[u8], context: Context, layers: u8) -> Option<DataClass> {
        if layers == 0 || !Self::may_hide(text) {
            return None;
        }
        if let Some(decoded) = decode::backslashes(text)
            && let Some(class) = self.revealed_by(&decoded, context, layers)
        {
            return Some(class);
        }
        if let Some(decoded) = decode::percents(text)
            && let Some(class) = self.revealed_by(&decoded, context, layers)
        {
            return Some(class);
        }
        let mut found =
            decode::base64_runs(text).find_map(|decoded| self.revealed_by(&decoded, context, layers));
        if found.is_none()
            && let Some(unwrapped) = decode::unwrapped(text)
        {
            found = decode::base64_runs(&unwrapped)
                .find_map(|decoded| self.revealed_by(&decoded, context, layers));
        }
        found
    }

    fn revealed_by(&mut self, decoded: &[u8], context: Context, layers: u8) -> Option<DataClass> {
        if context.hint.fits(decoded) && self.masks(DataClass::AWS_SECRET) {
            return Some(DataClass::AWS_SECRET);
        }
        let Self { masker, reveal, asked, .. } = self;
        let spans = masker.find(decoded, |class| !skips(context, class) && ask(asked, *reveal, class));
        match spans.into_iter().next() {
            Some(span) => Some(span.class),
            None => self.hidden(decoded, context, layers - 1),
        }
    }
}

fn skips(context: Context, class: &DataClass) -> bool {
    context.key_id && *class == DataClass::AWS_KEY
}

fn ask(asked: &mut Vec<(DataClass, bool)>, reveal: Reveal<'_>, class: &DataClass) -> bool {
    if let Some((_, masked)) = asked.iter().find(|(known, _)| known == class) {
        return *masked;
    }
    let masked = !reveal(class.as_str());
    asked.push((class.clone(), masked));
    masked
}

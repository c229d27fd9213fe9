//! What stands in the place of a secret: by default the placeholder of its data class; where a place has a form that must be
//! kept, a mask in that form.

use crate::data_class::DataClass;

/// What the place of a value asks of a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum MaskStyle {
    /// `[masked: aws-key]`.
    #[default]
    Placeholder,
    /// The value may be held to a schema that the masker does not know (`outputSchema` of MCP tools): the mask has the length,
    /// the beginning and the alphabet of the secret, `AKIAMASKEDMASKEDMASK`.
    KeepForm,
    /// The value is in the middle of a binary format, which counts on its offsets: the placeholder filled up to the length.
    KeepLength,
}

/// What is public about the form of a kind of secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SecretForm {
    /// So many bytes are a prefix that tells the kind and nothing else. Letters, digits, `-`, `_` and `.` follow.
    Prefixed(usize),
    /// A text of its own, which no schema describes.
    Document,
    /// Of a configured pattern, or several that overlap.
    Unknown,
}

/// Repeated in place of a secret. Capitals are in every alphabet of the built-in detectors.
const FILLER: &[u8] = b"MASKED";

impl MaskStyle {
    pub(crate) fn mask_secret(self, class: &DataClass, secret: &[u8], form: SecretForm) -> Vec<u8> {
        let placeholder = class.placeholder().into_bytes();
        match (self, form) {
            (Self::Placeholder, _) | (Self::KeepForm, SecretForm::Document) => placeholder,
            (Self::KeepLength, _) => fit_length(placeholder, secret.len()),
            (Self::KeepForm, SecretForm::Prefixed(prefix)) => fill_behind_prefix(secret, prefix),
            (Self::KeepForm, SecretForm::Unknown) => fill_by_kind(secret),
        }
    }

    /// The replacement of some bytes by others in which secrets are masked.
    pub(crate) fn fit(self, replacement: Vec<u8>, len: usize) -> Vec<u8> {
        if self == Self::KeepLength { fit_length(replacement, len) } else { replacement }
    }
}

fn fit_length(mut text: Vec<u8>, len: usize) -> Vec<u8> {
    if text.len() > len {
        text.clear();
    }
    text.resize(len, b'*');
    text
}

fn fill_behind_prefix(secret: &[u8], prefix: usize) -> Vec<u8> {
    let mut filler = FILLER.iter().cycle();
    secret
        .iter()
        .enumerate()
        .map(|(at, byte)| match byte {
            b'.' | b'-' | b'_' => *byte,
            _ if at < prefix => *byte,
            _ => *filler.next().unwrap_or(&b'X'),
        })
        .collect()
}

fn fill_by_kind(secret: &[u8]) -> Vec<u8> {
    secret
        .iter()
        .map(|byte| match byte {
            b'A'..=b'Z' => b'X',
            b'a'..=b'z' => b'x',
            b'0'..=b'9' => b'0',
            // Parts of a character of UTF-8 become one letter each.
            0x80.. => b'x',
            other => *other,
        })
        .collect()
}

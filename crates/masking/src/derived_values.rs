//! Values that are derived from a value beside them: digests and sizes. When the source was masked, they are computed again, or an
//! SDK that checks them would refuse the whole response (`MD5OfBody` of SQS), and a digest would tell whoever guesses the secret
//! that the guess is right.
//!
//! No list of members: a text is the digest of a sibling if it is equal to it, and a number is its size if its name says so and it
//! is equal to it. `MD5OfMessageAttributes` alone has a form of its own, and is known by name.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use durward_core::encode_hex;
use md5::{Digest as _, Md5};

use crate::masking_run::ValueKind;

/// The member in which SQS returns the digest of [`MESSAGE_ATTRIBUTES`].
pub(crate) const ATTRIBUTES_DIGEST: &str = "MD5OfMessageAttributes";
pub(crate) const MESSAGE_ATTRIBUTES: &str = "MessageAttributes";

/// A value that was masked, in the bytes that a client computes digests of.
pub(crate) struct MaskedSource {
    pub(crate) original: Vec<u8>,
    pub(crate) masked: Vec<u8>,
}

impl MaskedSource {
    /// From the texts of a value: of a binary one a client sees the decoded bytes.
    pub(crate) fn new(original: &[u8], masked: &[u8], kind: ValueKind) -> Self {
        let seen = |text: &[u8]| match kind {
            ValueKind::Binary => STANDARD.decode(text).unwrap_or_else(|_| text.to_vec()),
            ValueKind::Text | ValueKind::Returned => text.to_vec(),
        };
        Self { original: seen(original), masked: seen(masked) }
    }
}

/// The digests of masked sources, with those that replace them.
pub(crate) struct DigestReplacements(HashMap<String, String>);

/// Returns true if a text has the length of a digest: MD5, SHA-1 or SHA-256 in hex or base64.
pub(crate) fn may_be_digest(len: usize) -> bool {
    matches!(len, 24 | 28 | 32 | 40 | 44 | 64)
}

/// Returns true if a number with this name may be the size of a text.
pub(crate) fn may_be_size(name: &[u8]) -> bool {
    ["size", "length", "bytes"].iter().any(|word| {
        name.len()
            .checked_sub(word.len())
            .and_then(|at| name.get(at..))
            .is_some_and(|end| end.eq_ignore_ascii_case(word.as_bytes()))
    })
}

impl DigestReplacements {
    pub(crate) fn new(sources: &[MaskedSource]) -> Self {
        let mut replacements = HashMap::new();
        for MaskedSource { original, masked } in sources {
            for (original, masked) in all_digests(original).into_iter().zip(all_digests(masked)) {
                let (hex, masked_hex) = (encode_hex(&original), encode_hex(&masked));
                replacements.insert(hex.to_ascii_uppercase(), masked_hex.to_ascii_uppercase());
                replacements.insert(hex, masked_hex);
                replacements.insert(STANDARD.encode(original), STANDARD.encode(masked));
            }
        }
        Self(replacements)
    }

    /// The digest that replaces this one; `None` if it is none of them.
    pub(crate) fn get(&self, text: &str) -> Option<&str> {
        self.0.get(text).map(String::as_str)
    }
}

/// The size that replaces this one; `None` if it is none of a masked source.
pub(crate) fn replaced_size(size: &str, sources: &[MaskedSource]) -> Option<usize> {
    let size: usize = size.parse().ok()?;
    sources.iter().find(|source| source.original.len() == size).map(|source| source.masked.len())
}

fn all_digests(bytes: &[u8]) -> [Vec<u8>; 3] {
    [
        Md5::digest(bytes).to_vec(),
        digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec(),
        digest(&SHA256, bytes).as_ref().to_vec(),
    ]
}

/// One attribute of an SQS message.
#[derive(Debug, Default)]
pub(crate) struct MessageAttribute {
    pub(crate) name: String,
    pub(crate) data_type: String,
    pub(crate) string_value: String,
    /// As it travels: base64.
    pub(crate) binary_value: String,
}

/// SQS Developer Guide, "Calculating the MD5 message digest for message attributes".
pub(crate) fn digest_of_attributes(mut attributes: Vec<MessageAttribute>) -> String {
    const STRING_TYPE: u8 = 1;
    const BINARY_TYPE: u8 = 2;
    attributes.sort_by(|one, other| one.name.cmp(&other.name));
    let mut digest = Md5::new();
    // Each part comes after its length. A message has a MiB at most, so every length fits.
    let add_part = |digest: &mut Md5, part: &[u8]| {
        digest.update((part.len() as u32).to_be_bytes());
        digest.update(part);
    };
    for MessageAttribute { name, data_type, string_value, binary_value } in &attributes {
        add_part(&mut digest, name.as_bytes());
        add_part(&mut digest, data_type.as_bytes());
        // `Binary.gif` is a type, too.
        if data_type.starts_with("Binary") {
            digest.update([BINARY_TYPE]);
            add_part(&mut digest, &STANDARD.decode(binary_value).unwrap_or_default());
        } else {
            digest.update([STRING_TYPE]);
            add_part(&mut digest, string_value.as_bytes());
        }
    }
    encode_hex(&digest.finalize())
}

#[cfg(test)]
mod tests;

//! Hints about a value from the name of its field: `SecretAccessKey`, `aws_secret_access_key`, `SessionToken`.
//!
//! A secret access key is 40 characters of base64 without a prefix: only its name tells it from a hash or an id.

use crate::nested_encodings::is_standard_base64;

/// The kind of secret that a name announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum NameHint {
    #[default]
    None,
    SecretAccessKey,
    SessionToken,
}

/// AWS issues no shorter session tokens; other values with such a name (page tokens) are shorter.
pub(crate) const MIN_SESSION_TOKEN_BYTES: usize = 100;

/// The length of every secret access key.
pub(crate) const SECRET_ACCESS_KEY_BYTES: usize = 40;

impl NameHint {
    pub(crate) fn from_name(name: &[u8]) -> Self {
        // Every field of every response comes here. Its last letter rules most of them out at once.
        match name.last() {
            Some(b'y' | b'Y')
                if ends_with_normalized(name, b"secretaccesskey")
                    || ends_with_normalized(name, b"secretkey") =>
            {
                Self::SecretAccessKey
            }
            Some(b'n' | b'N')
                if ends_with_normalized(name, b"sessiontoken")
                    || ends_with_normalized(name, b"securitytoken") =>
            {
                Self::SessionToken
            }
            _ => Self::None,
        }
    }

    pub(crate) fn or(self, other: Self) -> Self {
        if self == Self::None { other } else { self }
    }

    /// Returns true if the value has the form that the name announces.
    pub(crate) fn matches_value(self, value: &[u8]) -> bool {
        let value = value.trim_ascii();
        match self {
            Self::None => false,
            Self::SecretAccessKey => {
                value.len() == SECRET_ACCESS_KEY_BYTES && value.iter().all(|byte| is_standard_base64(*byte))
            }
            Self::SessionToken => {
                value.len() >= MIN_SESSION_TOKEN_BYTES
                    && value.iter().all(|b| b.is_ascii_graphic() && !b"<>{}\"".contains(b))
            }
        }
    }
}

/// Returns true if the value of a field is the name of its sibling, as in `{"Name": "AWS_SECRET_ACCESS_KEY", "Value": "..."}`.
pub(crate) fn holds_sibling_name(name: &[u8]) -> bool {
    name.len() <= 16 && (ends_with_normalized(name, b"name") || ends_with_normalized(name, b"key"))
}

/// Ends with `suffix` (lower case), whatever its case and with `_`, `-` or `.` between.
fn ends_with_normalized(name: &[u8], suffix: &[u8]) -> bool {
    let mut letters = name.iter().rev().filter(|b| !matches!(b, b'_' | b'-' | b'.'));
    suffix.iter().rev().all(|want| letters.next().is_some_and(|have| have.eq_ignore_ascii_case(want)))
}

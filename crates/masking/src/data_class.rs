//! Data classes: the named kinds of sensitive data, and the placeholder that replaces a value.

use std::borrow::Cow;
use std::fmt;

const MAX_NAME_CHARACTERS: usize = 64;

/// A name that no data class may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("data class name {name:?} must be 1 to 64 characters of a-z, 0-9 and -")]
pub struct InvalidDataClassName {
    name: String,
}

/// A named kind of sensitive data. Policies permit `reveal` by this name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DataClass(Cow<'static, str>);

impl DataClass {
    /// Marked sensitive in AWS's model, or by the reviewed supplement.
    pub const AWS_SENSITIVE: Self = Self(Cow::Borrowed("aws-sensitive"));
    /// Access key ids in free values.
    pub const AWS_KEY: Self = Self(Cow::Borrowed("aws-key"));
    /// Secret access keys and session tokens.
    pub const AWS_SECRET: Self = Self(Cow::Borrowed("aws-secret"));
    pub const PRIVATE_KEY: Self = Self(Cow::Borrowed("private-key"));
    /// Tokens of other services, JWTs and bearer tokens.
    pub const TOKEN: Self = Self(Cow::Borrowed("token"));

    /// The classes of the built-in detectors and of the AWS models.
    pub const BUILT_IN: [Self; 5] =
        [Self::AWS_SENSITIVE, Self::AWS_KEY, Self::AWS_SECRET, Self::PRIVATE_KEY, Self::TOKEN];

    /// A configured class. Its name goes into headers, policies and every format that is masked, so it is plain ASCII.
    pub fn parse(name: &str) -> Result<Self, InvalidDataClassName> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > MAX_NAME_CHARACTERS || !name.bytes().all(is_plain) {
            return Err(InvalidDataClassName { name: name.to_owned() });
        }
        Ok(Self(Cow::Owned(name.to_owned())))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text that replaces a value: `[masked: aws-key]`. Stable: people and tools search for it.
    pub fn placeholder(&self) -> String {
        format!("[masked: {}]", self.0)
    }
}

impl fmt::Display for DataClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

//! Data classes: the named kinds of sensitive data, and the word that stands where a value of one was.

use std::borrow::Cow;
use std::fmt;

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

    /// A configured class.
    pub fn from_name(name: impl Into<String>) -> Self {
        Self(Cow::Owned(name.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text that replaces a value: `[masked: aws-key]`. Stable, people and tools search for it.
    pub fn placeholder(&self) -> String {
        format!("[masked: {}]", self.0)
    }
}

impl fmt::Display for DataClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

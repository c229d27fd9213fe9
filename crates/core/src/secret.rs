//! Text that must not be logged.

use std::fmt;
use zeroize::Zeroize;

/// A secret text. It is zeroed when it is dropped, has no `Display` and no `Serialize`, and its `Debug` shows nothing of it.
#[derive(Clone, Zeroize)]
#[zeroize(drop)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the code that must send or compare it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

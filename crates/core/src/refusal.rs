//! Why the line stopped, in two texts: one the caller may read, one for the log.

use std::fmt;

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Caller,
    Policy,
    Upstream,
    Internal,
}

/// What went wrong, as far as a wire protocol needs to tell cases apart. Each door spells these in its own protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalReason {
    /// No credential at all.
    MissingAuthentication,
    /// A gateway credential or token that is not ours, is malformed or was revoked.
    InvalidToken,
    /// A credential or token past its time; the SDK should get a new one.
    ExpiredToken,
    /// The signature does not match the request.
    SignatureMismatch,
    /// The request's date is outside the clock window.
    ClockSkew,
    /// A presigned URL past its `X-Amz-Expires`.
    RequestExpired,
    /// This signature was used before.
    Replay,
    /// Policy denied, or asks for an approval that is not available.
    AccessDenied,
    /// The request contradicts itself or its protocol.
    Malformed,
    /// The body does not have the hash, checksum or length the request signed.
    BodyMismatch,
    /// A limit of the gateway is exceeded.
    TooLarge,
    /// No operation, or more than one, matches.
    UnknownOperation,
    /// Too many requests at once.
    Busy,
    /// The upstream could not be reached or broke off.
    Upstream,
    /// A part of the gateway failed; nothing was widened.
    Internal,
}

impl RefusalReason {
    pub fn fault(self) -> Fault {
        match self {
            Self::AccessDenied => Fault::Policy,
            Self::Upstream => Fault::Upstream,
            Self::Internal | Self::Busy => Fault::Internal,
            _ => Fault::Caller,
        }
    }
}

/// The only way to caller text. `message` must not reveal what the caller may not know; `detail` is for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reason: RefusalReason,
    pub message: String,
    pub detail: String,
}

impl Refusal {
    pub fn new(reason: RefusalReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), detail: String::new() }
    }

    /// Adds what only the log may hold.
    #[must_use]
    pub fn with_detail(mut self, detail: impl fmt::Display) -> Self {
        self.detail = detail.to_string();
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.detail.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.message, self.detail)
        }
    }
}

impl std::error::Error for Refusal {}

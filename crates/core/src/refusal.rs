//! Why a request was refused: a reason for programs, a text that the caller may read, and a text for the log.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The kind of a refusal, as far as a wire protocol or an alarm distinguishes them. Each front end maps these to the errors of its
/// protocol. The journal records them in snake case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalReason {
    /// The request has no credential at all.
    MissingAuthentication,
    /// The gateway credential or token is not ours, is malformed or was revoked.
    InvalidToken,
    /// The credential or token has expired. The SDK should get a new one.
    ExpiredToken,
    /// The signature does not match the request.
    SignatureMismatch,
    /// The date of the request is too far from our clock.
    ClockSkew,
    /// A presigned URL is older than its `X-Amz-Expires`.
    RequestExpired,
    /// This signature was used before.
    Replay,
    /// Policy denied, an approver did, or the caller is no longer admitted: its session or its connection ended meanwhile.
    AccessDenied,
    /// Policy requires an approval that has not been given.
    ApprovalRequired,
    /// The policies changed while the request was decided: the same request may be decided now.
    PolicyChanged,
    /// A policy reads the tags of a resource, and they could not be read.
    TagsUnavailable,
    /// The client closed its connection before it got a response.
    ClientDisconnected,
    /// The request contradicts itself or its protocol.
    Malformed,
    /// The body does not have the hash, checksum or length that was signed.
    BodyMismatch,
    /// The request exceeds a limit of the gateway.
    TooLarge,
    /// No operation, or more than one, matches.
    UnknownOperation,
    /// The gateway, or AWS STS, takes no more requests at present. The caller should try again later.
    Busy,
    /// The upstream could not be reached or closed the connection early.
    Upstream,
    /// A part of the gateway failed. A failure never widens what is allowed.
    Internal,
}

impl RefusalReason {
    /// The word that the journal and the logs use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingAuthentication => "missing_authentication",
            Self::InvalidToken => "invalid_token",
            Self::ExpiredToken => "expired_token",
            Self::SignatureMismatch => "signature_mismatch",
            Self::ClockSkew => "clock_skew",
            Self::RequestExpired => "request_expired",
            Self::Replay => "replay",
            Self::AccessDenied => "access_denied",
            Self::ApprovalRequired => "approval_required",
            Self::PolicyChanged => "policy_changed",
            Self::TagsUnavailable => "tags_unavailable",
            Self::ClientDisconnected => "client_disconnected",
            Self::Malformed => "malformed",
            Self::BodyMismatch => "body_mismatch",
            Self::TooLarge => "too_large",
            Self::UnknownOperation => "unknown_operation",
            Self::Busy => "busy",
            Self::Upstream => "upstream",
            Self::Internal => "internal",
        }
    }
}

/// A refusal, and the only way to text for a caller. `message` must reveal nothing that the caller may not know; `detail` is for
/// the log.
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

    /// Adds the detail that only the log may contain.
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

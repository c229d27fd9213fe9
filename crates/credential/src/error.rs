//! Why no credential was lent. Each text is for operators and holds no secret; [`LendError::refusal`] is the only way to
//! text for a caller.

use crate::{GatewayIdentityError, SessionPolicyError};
use durward_core::{Refusal, RefusalReason};

/// Nothing was lent; the exchange must stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    #[error("the gateway has no AWS identity: {0}")]
    Identity(#[from] GatewayIdentityError),
    #[error("the credential cannot be cut to the operation: {0}")]
    Policy(#[from] SessionPolicyError),
    /// STS said no: `AccessDenied`, `ValidationError`, `PackedPolicyTooLarge`, ...
    #[error("STS refused AssumeRole with {code}: {message}")]
    Refused { code: String, message: String },
    #[error("STS throttled AssumeRole with {code}: {message}")]
    Throttled { code: String, message: String },
    #[error("STS could not be reached or failed: {0}")]
    Unavailable(String),
    #[error("STS gave an answer that cannot be used: {0}")]
    InvalidResponse(&'static str),
    #[error("the AssumeRole request cannot be made: {0}")]
    InvalidRequest(String),
}

impl IssueError {
    /// The code STS gave, where it gave one.
    pub fn sts_error_code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } | Self::Throttled { code, .. } => Some(code),
            _ => None,
        }
    }

    /// What the caller may read; the rest is in the detail.
    pub fn refusal(&self) -> Refusal {
        let (reason, message) = match self {
            Self::Policy(SessionPolicyError::InvalidArn(_)) => {
                (RefusalReason::Malformed, "the request names a resource that is no plain ARN")
            }
            Self::Throttled { .. } => {
                (RefusalReason::Busy, "the gateway gets no credential right now; try again")
            }
            Self::Unavailable(_) => {
                (RefusalReason::Upstream, "the gateway cannot reach the service that issues credentials")
            }
            _ => (RefusalReason::Internal, "the gateway could not get a credential for this operation"),
        };
        Refusal::new(reason, message).with_detail(self)
    }
}

/// Text from outside as one printable line of at most 300 characters. Text that repeats one of `secrets` is withheld.
pub(crate) fn sanitize_error_text(text: &str, secrets: &[&str]) -> String {
    if secrets.iter().any(|secret| secret.len() >= 8 && text.contains(secret)) {
        return "(withheld: the text repeats a secret)".to_owned();
    }
    text.chars().take(300).map(|character| if character.is_control() { ' ' } else { character }).collect()
}

//! Why no credential was issued. The texts are for operators and hold no secret; [`IssueError::refusal`] is the only way to
//! text for a caller.

use crate::gateway_identity::GatewayIdentityError;
use crate::session_policy::SessionPolicyError;
use crate::sts_response::StsResponseError;
use durward_core::{Refusal, RefusalReason};

/// No credential was issued, so the exchange must stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    #[error("the gateway has no AWS identity: {0}")]
    Identity(#[from] GatewayIdentityError),
    #[error("no session policy can be built for the operation: {0}")]
    Policy(#[from] SessionPolicyError),
    #[error(transparent)]
    Endpoint(#[from] StsEndpointError),
    /// `AccessDenied`, `ValidationError`, `PackedPolicyTooLarge`, ...
    #[error("STS refused AssumeRole with {code}: {message}")]
    Refused { code: String, message: String },
    #[error("STS throttled AssumeRole with {code}: {message}")]
    Throttled { code: String, message: String },
    #[error("STS could not be reached or failed: {0}")]
    Unavailable(String),
    #[error("STS returned an unusable response: {0}")]
    InvalidResponse(#[from] StsResponseError),
    #[error("the credential arrived too late or expires too soon")]
    ExpiresTooSoon,
    #[error("the AssumeRole request cannot be built: {0}")]
    InvalidRequest(String),
}

/// Why there is no STS endpoint for a region.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StsEndpointError {
    #[error("no STS endpoint is known in region `{0}`")]
    UnknownRegion(String),
    #[error("the STS endpoint `{0}` is not a URL")]
    InvalidUrl(String),
}

impl IssueError {
    /// The error code in the response of STS, if there is one.
    pub(crate) fn sts_error_code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } | Self::Throttled { code, .. } => Some(code),
            _ => None,
        }
    }

    /// The refusal with the text that the caller may read; the rest is in the detail.
    pub fn refusal(&self) -> Refusal {
        let (reason, message) = match self {
            Self::Policy(SessionPolicyError::InvalidArn(_)) => {
                (RefusalReason::Malformed, "the request names a resource that is not a plain ARN")
            }
            Self::Policy(SessionPolicyError::TooLong) => (RefusalReason::TooLarge, POLICY_TOO_LARGE),
            // The packed size also counts the session tags (STS API Reference, AssumeRole, `Policy`).
            Self::Refused { code, .. } if code == "PackedPolicyTooLarge" => {
                (RefusalReason::TooLarge, POLICY_TOO_LARGE)
            }
            // SDKs back off and try again only if they see throttling.
            Self::Throttled { .. } => (RefusalReason::Busy, "AWS STS throttled the gateway; try again"),
            Self::Unavailable(_) => {
                (RefusalReason::Upstream, "the gateway cannot reach the service that issues credentials")
            }
            Self::ExpiresTooSoon => {
                (RefusalReason::Upstream, "AWS STS issued a credential that arrived too late; try again")
            }
            Self::Identity(_)
            | Self::Policy(_)
            | Self::Endpoint(_)
            | Self::Refused { .. }
            | Self::InvalidResponse(_)
            | Self::InvalidRequest(_) => {
                // The caller does not learn the role, the trust policy or the error of STS: they describe the account to an
                // attacker.
                (RefusalReason::Internal, "the gateway could not get a credential for this operation")
            }
        };
        Refusal::new(reason, message).with_detail(self)
    }
}

const POLICY_TOO_LARGE: &str = "the permissions of this operation do not fit into an AWS session policy";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_the_refusal_reason_that_sdks_act_on() {
        let refused = |code: &str| IssueError::Refused { code: code.to_owned(), message: "no".to_owned() };
        let throttled =
            IssueError::Throttled { code: "Throttling".to_owned(), message: "Rate exceeded".to_owned() };
        for (error, reason) in [
            (
                IssueError::Policy(SessionPolicyError::InvalidArn("arn:*".to_owned())),
                RefusalReason::Malformed,
            ),
            (IssueError::Policy(SessionPolicyError::TooLong), RefusalReason::TooLarge),
            (refused("PackedPolicyTooLarge"), RefusalReason::TooLarge),
            (throttled, RefusalReason::Busy),
            (IssueError::Unavailable("reset".to_owned()), RefusalReason::Upstream),
            (IssueError::ExpiresTooSoon, RefusalReason::Upstream),
            (refused("AccessDenied"), RefusalReason::Internal),
            (IssueError::Policy(SessionPolicyError::NoRequiredPermission), RefusalReason::Internal),
            (StsEndpointError::UnknownRegion("x".to_owned()).into(), RefusalReason::Internal),
        ] {
            let refusal = error.refusal();
            assert_eq!(refusal.reason, reason, "{error}");
            assert_eq!(refusal.detail, error.to_string());
        }
    }
}

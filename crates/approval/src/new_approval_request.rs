//! The content of an approval request: the operation, and the policies that people can override.

use durward_core::{Caller, ExchangeId, Operation, ResourceTags, RiskAssessment, SessionId, TimeoutAction};
use durward_store::StoreError;
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr, time::Duration};

/// One forbid that people can override.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRequirement {
    /// The id of the forbid.
    pub policy: String,
    /// The group whose members can override it.
    pub group: String,
    /// The number of different people who must approve.
    pub quorum: u32,
    /// The time for which the caller's request is held for votes. In JSON: whole seconds.
    #[serde(with = "crate::serde_formats::whole_seconds")]
    pub timeout: Duration,
    pub on_timeout: TimeoutAction,
}

/// An approval request as the pipeline makes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewApprovalRequest {
    pub caller: Caller,
    pub session: SessionId,
    pub connection: String,
    pub exchange: ExchangeId,
    /// Masked, because it is stored and shown to approvers.
    pub operation: Operation,
    /// The digest of the unmasked operation, the caller and the connection. In JSON: hex.
    #[serde(with = "crate::serde_formats::hex_digest")]
    pub digest: [u8; 32],
    pub requirements: Vec<ApprovalRequirement>,
    /// Not in this JSON: stored and written as `ApprovalRequest::risk`.
    #[serde(skip)]
    pub risk: RiskAssessment,
    /// The tags of the resources, as far as they were read.
    #[serde(default)]
    pub tags: ResourceTags,
    /// The reason of the policies, for the approver.
    pub reason: String,
    pub policy_set: String,
    pub source_address: IpAddr,
    pub user_agent: Option<String>,
}

impl NewApprovalRequest {
    /// Returns true if people may still vote after the hold deadline: only if no requirement says `reject`.
    pub fn is_queued_on_timeout(&self) -> bool {
        // The strictest wins: a policy that says `reject` must not be weakened by another one that says `queue`.
        self.requirements.iter().all(|requirement| requirement.on_timeout == TimeoutAction::Queue)
    }
}

/// The scope of a limit on pending approval requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PendingLimitScope {
    Caller,
    Provider,
    Gateway,
}

impl fmt::Display for PendingLimitScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Caller => "this caller",
            Self::Provider => "this caller's identity provider",
            Self::Gateway => "the gateway",
        })
    }
}

/// Why there is no approval request. The operation stays refused.
#[derive(Debug, thiserror::Error)]
pub enum ApprovalRequestError {
    #[error("{scope} already has {limit} pending approval requests; wait until some are decided")]
    TooManyPending { limit: usize, scope: PendingLimitScope },
    #[error("the operation is too long to show to a person: more than {limit} bytes")]
    TooLarge { limit: usize },
    /// No policy can be overridden.
    #[error("no policy says who may approve this")]
    NoRequirements,
    #[error(transparent)]
    Store(#[from] StoreError),
}

//! The decision of policy on an operation.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The tags of resources, as key and value, by ARN. The tags of a resource that is not in it were not read.
pub type ResourceTags = BTreeMap<String, BTreeMap<String, String>>;

/// The outcome of policy for one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Allow,
    Deny,
    RequireApproval,
}

/// A verdict with the policies that determined it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    pub verdict: Verdict,
    /// The ids of the determining policies: the permits of an allow, the forbids of a deny or of a required approval. Empty if no
    /// policy permits the operation.
    pub policies: Vec<String>,
    /// One line that a caller may read: what was denied and why. Empty for an allow.
    pub reason: String,
    /// The version of the policy set: the first 16 hex digits of the SHA-256 of its sources.
    pub policy_set: String,
    /// The tags that the policies read.
    #[serde(default, skip_serializing_if = "ResourceTags::is_empty")]
    pub tags: ResourceTags,
    /// The risk from 0 to 100, if the policies read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<u8>,
}

/// The action for an approval request that is still pending at its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeoutAction {
    /// The operation is refused and the approval request is closed.
    Reject,
    /// The held request is refused. People may still vote, for the same operation sent again.
    Queue,
}

//! What policy answered.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The tags of resources: of each, by its ARN, key and value. A resource that is not in it was not looked up.
pub type ResourceTags = BTreeMap<String, BTreeMap<String, String>>;

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
    /// Ids of the determining policies: the permits of an allow, the forbids of a deny or an ask. Empty: no policy permits.
    pub policies: Vec<String>,
    /// One line a caller may read: what was denied and why. Empty for an allow.
    pub reason: String,
    /// Version of the policy set that decided: the first 16 hex digits of the SHA-256 of its sources.
    pub policy_set: String,
    /// The tags that policies read.
    #[serde(default, skip_serializing_if = "ResourceTags::is_empty")]
    pub tags: ResourceTags,
    /// The risk from 0 to 100, where policies read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<u8>,
}

/// What happens to an ask that nobody answered in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeoutAction {
    /// The operation is refused and the ask is over.
    Reject,
    /// The held request is refused; the ask may still be answered, for the same operation sent again.
    Queue,
}

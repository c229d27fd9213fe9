//! Whether an approval lets an operation pass now.
//!
//! Nothing is remembered from the moment of the approval but the answers: which policies ask, what they require and who is
//! in which group is what holds at the moment of use.

use crate::{ApprovalLimits, ApprovalRequest, ApprovalRequestId, ApprovalRequirement, Vote};
use durward_core::{Operation, Resource};
use durward_store::{StoreError, StoreTransaction};
use std::collections::HashMap;

/// What lets an operation pass now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub approval_request: ApprovalRequestId,
    /// Ids of the policies that are lifted.
    pub overridden_policies: Vec<String>,
    /// Ids of the people who approved.
    pub approvers: Vec<String>,
    pub time_bound: bool,
    /// Lifted by one member of the break-glass group: record it loudly.
    pub break_glass: bool,
}

/// The groups that people are in now, by person. Whoever was never seen is in none.
pub(crate) type GroupMembership = HashMap<String, Vec<String>>;

/// Reads the groups of everybody who approved.
pub(crate) async fn load_membership(
    transaction: &mut StoreTransaction,
    ask: &ApprovalRequest,
) -> Result<GroupMembership, StoreError> {
    let mut membership = GroupMembership::new();
    for vote in ask.votes.iter().filter(|vote| vote.is_approval) {
        if let Some(person) = transaction.find_user(&vote.by.id).await? {
            let groups = serde_json::from_str(&person.group_names)
                .map_err(|error| StoreError::Corrupt(format!("the groups of {}: {error}", person.id)))?;
            membership.insert(person.id, groups);
        }
    }
    Ok(membership)
}

/// The grant that an approved ask is for this operation, if it lifts all that is required now.
pub(crate) fn evaluate_grant(
    ask: &ApprovalRequest,
    operation: &Operation,
    digest: &[u8; 32],
    required: &[ApprovalRequirement],
    membership: &GroupMembership,
    limits: &ApprovalLimits,
) -> Option<Grant> {
    let covers = || ask.details.digest == *digest || time_bound_covers(&ask.details.operation, operation);
    if required.is_empty() || (ask.time_bound && !covers()) {
        return None;
    }
    let still_in = |vote: &Vote, group: &str| {
        membership.get(&vote.by.id).is_some_and(|groups| groups.iter().any(|mine| mine == group))
    };
    let broke_glass = limits.break_glass_group.as_deref().and_then(|group| {
        ask.votes.iter().find(|vote| {
            vote.is_approval && vote.break_glass && vote.counts_for(group) && still_in(vote, group)
        })
    });
    let mut approvers: Vec<String> = broke_glass.iter().map(|vote| vote.by.id.clone()).collect();
    for requirement in required {
        if !ask.details.requirements.iter().any(|asked| asked.policy == requirement.policy) {
            return None;
        }
        if broke_glass.is_some() {
            continue;
        }
        let group = &requirement.group;
        let counted: Vec<&Vote> =
            ask.votes.iter().filter(|vote| vote.counts_for(group) && still_in(vote, group)).collect();
        if counted.len() < requirement.quorum.max(1) as usize {
            return None;
        }
        approvers.extend(counted.iter().map(|vote| vote.by.id.clone()));
    }
    approvers.sort_unstable();
    approvers.dedup();
    Some(Grant {
        approval_request: ask.id,
        overridden_policies: required.iter().map(|requirement| requirement.policy.clone()).collect(),
        approvers,
        time_bound: ask.time_bound,
        break_glass: broke_glass.is_some(),
    })
}

/// A window is for the actions and resources that a person saw, in the same place, and for nothing that is worse in kind or
/// hides more. Where not all resources are named the parameters say what is touched: then it is for those alone.
fn time_bound_covers(seen: &Operation, now: &Operation) -> bool {
    let same_place = seen.front_end == now.front_end
        && seen.service == now.service
        && seen.account == now.account
        && seen.region == now.region;
    let no_worse = (seen.traits.escalates || !now.traits.escalates)
        && (seen.traits.indirect || !now.traits.indirect)
        && (seen.traits.irreversible || !now.traits.irreversible)
        && (seen.traits.returns_credentials || !now.traits.returns_credentials);
    let named = now.required_permissions.iter().all(|demand| match &demand.resource {
        Resource::Any => false,
        Resource::Arn(arn) => !arn.contains(['*', '?']),
        Resource::McpTool { .. } | Resource::McpServer(_) => true,
    });
    same_place
        && no_worse
        && (named || (seen.name == now.name && seen.parameters == now.parameters))
        && now.uninspected_parts.iter().all(|part| seen.uninspected_parts.contains(part))
        && !now.required_permissions.is_empty()
        && now.required_permissions.iter().all(|demand| seen.required_permissions.contains(demand))
}

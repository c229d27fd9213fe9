//! Whether an approval lets an operation pass now.
//!
//! Nothing is remembered from the moment of the approval but the answers: which policies ask, what they require and who is
//! in which group is what holds at the moment of use.

use crate::{Ask, AskId, Limits, Requirement, Vote};
use durward_core::{Operation, Resource};
use durward_store::{StoreError, Transaction};
use std::collections::HashMap;

/// What lets an operation pass now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    pub ask: AskId,
    /// Ids of the policies that are lifted.
    pub lifted: Vec<String>,
    /// Ids of the people who approved.
    pub approvers: Vec<String>,
    pub window: bool,
    /// Lifted by one member of the break-glass group: record it loudly.
    pub break_glass: bool,
}

/// The groups that people are in now, by person. Whoever was never seen is in none.
pub(crate) type Membership = HashMap<String, Vec<String>>;

/// Reads the groups of everybody who approved.
pub(crate) async fn membership(transaction: &mut Transaction, ask: &Ask) -> Result<Membership, StoreError> {
    let mut membership = Membership::new();
    for vote in ask.votes.iter().filter(|vote| vote.approve) {
        if let Some(person) = transaction.person(&vote.by.id).await? {
            let groups = serde_json::from_str(&person.member_of)
                .map_err(|error| StoreError::Damaged(format!("the groups of {}: {error}", person.id)))?;
            membership.insert(person.id, groups);
        }
    }
    Ok(membership)
}

/// The grant that an approved ask is for this operation, if it lifts all that is required now.
pub(crate) fn granted(
    ask: &Ask,
    operation: &Operation,
    digest: &[u8; 32],
    required: &[Requirement],
    membership: &Membership,
    limits: &Limits,
) -> Option<Granted> {
    let covers = || ask.what.digest == *digest || window_covers(&ask.what.operation, operation);
    if required.is_empty() || (ask.window && !covers()) {
        return None;
    }
    let still_in = |vote: &Vote, group: &str| {
        membership.get(&vote.by.id).is_some_and(|groups| groups.iter().any(|mine| mine == group))
    };
    let broke_glass = limits.break_glass_group.as_deref().and_then(|group| {
        ask.votes
            .iter()
            .find(|vote| vote.approve && vote.break_glass && vote.counts_for(group) && still_in(vote, group))
    });
    let mut approvers: Vec<String> = broke_glass.iter().map(|vote| vote.by.id.clone()).collect();
    for requirement in required {
        if !ask.what.requirements.iter().any(|asked| asked.policy == requirement.policy) {
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
    Some(Granted {
        ask: ask.id,
        lifted: required.iter().map(|requirement| requirement.policy.clone()).collect(),
        approvers,
        window: ask.window,
        break_glass: broke_glass.is_some(),
    })
}

/// A window is for the actions and resources that a person saw, in the same place, and for nothing that is worse in kind or
/// hides more. Where not all resources are named the parameters say what is touched: then it is for those alone.
fn window_covers(seen: &Operation, now: &Operation) -> bool {
    let same_place = seen.door == now.door
        && seen.service == now.service
        && seen.account == now.account
        && seen.region == now.region;
    let no_worse = (seen.traits.escalates || !now.traits.escalates)
        && (seen.traits.indirect || !now.traits.indirect)
        && (seen.traits.irreversible || !now.traits.irreversible)
        && (seen.traits.returns_credentials || !now.traits.returns_credentials);
    let named = now.demands.iter().all(|demand| match &demand.resource {
        Resource::Any => false,
        Resource::Arn(arn) => !arn.contains(['*', '?']),
        Resource::McpTool { .. } | Resource::McpServer(_) => true,
    });
    same_place
        && no_worse
        && (named || (seen.name == now.name && seen.parameters == now.parameters))
        && now.uninspected.iter().all(|part| seen.uninspected.contains(part))
        && !now.demands.is_empty()
        && now.demands.iter().all(|demand| seen.demands.contains(demand))
}

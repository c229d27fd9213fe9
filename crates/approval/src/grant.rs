//! Decides whether an approved request lets an operation pass now. Pure: the time and the groups come in as arguments.
//!
//! Only the votes are kept from the time of the approval. Which policies require approval, their quorums, and who is in which
//! group are those of the time of use.

use crate::binding::caller_binding;
use crate::{ApprovalRequest, ApprovalRequestId, ApprovalRequirement, ApprovalState, Vote};
use durward_core::timestamps::to_unix_millis;
use durward_core::{Caller, Operation, Resource};
use std::collections::{BTreeSet, HashMap};

/// The right of one operation to pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub approval_request: ApprovalRequestId,
    /// Ids of the policies that the approvers overrode.
    pub overridden_policies: Vec<String>,
    /// Ids of the approvers.
    pub approvers: Vec<String>,
    pub time_bound: bool,
    /// One member of the break-glass group bypassed the quorum. To be recorded prominently.
    pub break_glass: bool,
}

/// An operation that needs a grant.
pub struct GrantQuery<'a> {
    pub(crate) caller_binding: String,
    pub(crate) connection: &'a str,
    pub(crate) operation: &'a Operation,
    pub(crate) digest: &'a [u8; 32],
    /// The requirements of the policies that forbid it now.
    pub(crate) requirements: &'a [ApprovalRequirement],
}

impl<'a> GrantQuery<'a> {
    /// `requirements` are those of the policies that forbid the operation now.
    pub fn new(
        caller: &Caller,
        connection: &'a str,
        operation: &'a Operation,
        digest: &'a [u8; 32],
        requirements: &'a [ApprovalRequirement],
    ) -> Self {
        Self { caller_binding: caller_binding(caller), connection, operation, digest, requirements }
    }
}

/// The current groups of people, by person. A person without a stored sign-in is in none.
pub(crate) type GroupMembership = HashMap<String, Vec<String>>;

/// The grant of an approved request for this operation, if it covers everything that is required now.
///
/// `ledger::is_covered_by` checks the same for a request that is not decided yet, by its requirements instead of its votes.
pub(crate) fn evaluate_grant(
    request: &ApprovalRequest,
    query: &GrantQuery<'_>,
    membership: &GroupMembership,
    break_glass_group: Option<&str>,
    now: i64,
) -> Option<Grant> {
    // Nothing is required: then the decision does not depend on a grant, and an empty loop below must not create one.
    if query.requirements.is_empty() || !is_bound_to(request, query, now) {
        return None;
    }
    let counts_now = |vote: &Vote, group: &str| {
        // Both: the vote was cast as a member of this group, and the approver is still one (docs/adr/0003).
        vote.counts_for(group)
            && membership.get(&vote.by.id).is_some_and(|groups| groups.iter().any(|current| current == group))
    };
    let break_glass_vote = break_glass_group
        .and_then(|group| request.votes.iter().find(|vote| vote.break_glass && counts_now(vote, group)));
    let mut approvers: BTreeSet<&str> = break_glass_vote.iter().map(|vote| vote.by.id.as_str()).collect();
    for requirement in query.requirements {
        // A policy that the approvers did not see was not overridden by them.
        if !request.details.requirements.iter().any(|shown| shown.policy == requirement.policy) {
            return None;
        }
        if break_glass_vote.is_some() {
            continue;
        }
        let counted: Vec<&Vote> =
            request.votes.iter().filter(|vote| counts_now(vote, &requirement.group)).collect();
        // A stored quorum of 0 must not approve without a vote.
        if counted.len() < requirement.quorum.max(1) as usize {
            return None;
        }
        approvers.extend(counted.iter().map(|vote| vote.by.id.as_str()));
    }
    Some(Grant {
        approval_request: request.id,
        overridden_policies: query
            .requirements
            .iter()
            .map(|requirement| requirement.policy.clone())
            .collect(),
        approvers: approvers.into_iter().map(str::to_owned).collect(),
        time_bound: request.time_bound,
        break_glass: break_glass_vote.is_some(),
    })
}

/// Returns true if the request is approved at this time for this operation of this caller.
///
/// The store looks for the same in SQL. It is checked again here, so that one wrong condition there cannot turn an approval
/// into a grant for another operation or another caller (confused deputy).
fn is_bound_to(request: &ApprovalRequest, query: &GrantQuery<'_>, now: i64) -> bool {
    let is_active = request.state == ApprovalState::Approved
        && request.grant_until.is_some_and(|until| to_unix_millis(until) > now);
    let is_covered = request.details.digest == *query.digest
        || (request.time_bound && time_bound_covers(&request.details.operation, query.operation));
    is_active
        && is_covered
        && request.details.connection == query.connection
        && caller_binding(&request.details.caller) == query.caller_binding
}

/// Returns true if a time-bound grant for the operation `shown` to the approvers covers the operation `now`.
///
/// It covers the same actions on the same resources, in the same account and region, and nothing that is worse in kind or
/// hides more. If not every resource is named, only the parameters say what the operation touches: then they must be equal.
fn time_bound_covers(shown: &Operation, now: &Operation) -> bool {
    let same_place = shown.front_end == now.front_end
        && shown.service == now.service
        && shown.account == now.account
        && shown.region == now.region;
    let no_worse = (shown.traits.escalates || !now.traits.escalates)
        && (shown.traits.indirect || !now.traits.indirect)
        && (shown.traits.irreversible || !now.traits.irreversible)
        && (shown.traits.returns_credentials || !now.traits.returns_credentials);
    let names_every_resource = now.required_permissions.iter().all(|permission| match &permission.resource {
        Resource::Any => false,
        Resource::Arn(arn) => !arn.contains(['*', '?']),
        Resource::McpTool { .. } | Resource::McpServer(_) => true,
    });
    same_place
        && no_worse
        && (names_every_resource || (shown.name == now.name && shown.parameters == now.parameters))
        && now.uninspected_parts.iter().all(|part| shown.uninspected_parts.contains(part))
        && !now.required_permissions.is_empty()
        && now.required_permissions.iter().all(|permission| shown.required_permissions.contains(permission))
}

#[cfg(test)]
mod tests;

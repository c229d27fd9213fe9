//! The decision of a policy set on a query or an operation.
//!
//! Default deny. A satisfied `forbid` without `@approval` is final. If every satisfied forbid carries `@approval`, and a permit is
//! satisfied, the decision is to require approval. If an applicable policy cannot be evaluated, the decision is deny.
//!
//! Cedar alone would skip a policy that cannot be evaluated, so a `forbid` that errs would not forbid (Cedar documentation,
//! "How Cedar authorization works": the authorizer ignores policies whose evaluation returns an error).

use crate::{
    context_attributes::{ContextAttribute, ContextAttributeSet},
    evaluator::{Evaluation, EvaluationContext, PolicyFailure, PolicyFilter, PolicyOutcome},
    implicit_targets::with_resource,
    policy_query::{AttributeReads, AuthorizationRequest, PolicyQuery, RequestContext},
    policy_set::{CompiledPolicy, PolicySet},
};
use durward_core::{Caller, Decision, Operation, Resource, ResourceTags, Verdict};
use std::cmp::Ordering;

/// Added to the reason of a forbid that names a resource which the request does not name.
const INEXACT_RESOURCE_NOTE: &str =
    " (it names a resource that the request may affect: the request does not name its own exactly)";

impl PolicySet {
    /// Lists the facts that must be looked up before this operation can be decided.
    pub fn attribute_reads<'a>(
        &'a self,
        caller: &Caller,
        operation: &'a Operation,
        context: RequestContext<'_>,
    ) -> AttributeReads<'a> {
        let mut reads = AttributeReads::default();
        if !self.reads_tags_or_risk {
            return reads;
        }
        let evaluation_context = EvaluationContext::new(self, caller, context);
        let mentioned = self.implicit_targets.find_mentioned(&operation.parameters);
        for permission in &operation.required_permissions {
            let required = evaluation_context
                .required_attributes(&PolicyQuery::Permission { operation, permission }, PolicyFilter::All);
            reads.reads_risk |= required.reads_context(ContextAttribute::Risk);
            for target in self.implicit_targets.find_targets(operation, permission, &mentioned) {
                let permission = with_resource(permission, target);
                let required = evaluation_context.required_attributes(
                    &PolicyQuery::Permission { operation, permission: &permission },
                    PolicyFilter::ForbidsNaming(target),
                );
                reads.reads_risk |= required.reads_context(ContextAttribute::Risk);
                if required.reads_tags && !reads.tag_lookup_arns.contains(&target) {
                    reads.tag_lookup_arns.push(target);
                }
            }
            let (list, entry) = match &permission.resource {
                Resource::Arn(arn) => (&mut reads.tag_lookup_arns, arn.as_str()),
                Resource::Any => (&mut reads.unnamed_resource_actions, permission.action.as_str()),
                Resource::McpTool { .. } | Resource::McpServer(_) => continue,
            };
            if required.reads_tags && !list.contains(&entry) {
                list.push(entry);
            }
        }
        reads
    }

    /// Decides one query.
    pub fn decide(&self, request: &AuthorizationRequest<'_>) -> Decision {
        let mut evaluation_context = EvaluationContext::new(self, request.caller, request.context);
        let evaluation = evaluation_context.evaluate(&request.query, ContextAttributeSet::NONE);
        self.with_decision_inputs(self.decision_from_outcomes(&request.query, &evaluation), request.context)
    }

    /// Decides an operation: every required permission must be allowed. Deny wins over require approval, and that over allow.
    pub fn decide_operation(
        &self,
        caller: &Caller,
        operation: &Operation,
        context: RequestContext<'_>,
    ) -> Decision {
        let mut evaluation_context = EvaluationContext::new(self, caller, context);
        let mut decisions = Vec::new();
        for permission in &operation.required_permissions {
            let query = PolicyQuery::Permission { operation, permission };
            let evaluation = evaluation_context.evaluate(&query, ContextAttributeSet::NONE);
            let decision = self.decision_from_outcomes(&query, &evaluation);
            let is_denied = decision.verdict == Verdict::Deny;
            decisions.push(decision);
            // Nothing can be stricter, and the other permissions need no evaluation.
            if is_denied {
                break;
            }
        }
        self.with_decision_inputs(self.merge_decisions(decisions), context)
    }

    /// Adds the tags and the risk to a decision that may depend on them.
    fn with_decision_inputs(&self, mut decision: Decision, context: RequestContext<'_>) -> Decision {
        if self.reads_tags_or_risk {
            decision.tags = context.tags.cloned().unwrap_or_default();
            decision.risk = context.risk;
        }
        decision
    }

    /// Returns true if some call of this tool might not be denied, for the list of tools that a caller sees.
    ///
    /// A policy that reads the arguments counts in the caller's favor, and so does one that reads the risk if `context` has
    /// none: a list shows no less than what may be called. Each call is decided in full.
    pub fn may_be_allowed(
        &self,
        caller: &Caller,
        operation: &Operation,
        context: RequestContext<'_>,
    ) -> bool {
        let mut unknown = ContextAttributeSet::NONE;
        unknown.insert(ContextAttribute::Arguments);
        if context.risk.is_none() {
            unknown.insert(ContextAttribute::Risk);
        }
        let mut evaluation_context = EvaluationContext::new(self, caller, context);
        !operation.required_permissions.is_empty()
            && operation.required_permissions.iter().all(|permission| {
                let query = PolicyQuery::Permission { operation, permission };
                let evaluation = evaluation_context.evaluate(&query, unknown);
                self.decision_from_outcomes(&query, &evaluation).verdict != Verdict::Deny
            })
    }

    pub(crate) fn decision_from_outcomes(
        &self,
        query: &PolicyQuery<'_>,
        evaluation: &Evaluation,
    ) -> Decision {
        if let Some(error) = &evaluation.query_error {
            let reason = format!("{} could not be evaluated by policy: {error}", query.title());
            return self.decision(Verdict::Deny, &[], reason);
        }
        let (mut permits, mut final_forbids) = (Vec::new(), Vec::new());
        let mut approval_forbids = Vec::new();
        let (mut failed, mut failures) = (Vec::new(), Vec::new());
        let is_unknown_operation = query.is_unknown_operation();
        let access_point = query.access_point();
        let mut permits_without_access_point = false;
        for (number, outcome) in &evaluation.outcomes {
            let Some(compiled) = self.compiled_policy(*number) else { continue };
            match outcome {
                PolicyOutcome::NotSatisfied => {}
                PolicyOutcome::Failed(failure) => {
                    failed.push(compiled);
                    failures.push(failure);
                }
                // The author of a wide permit cannot have meant an operation that the catalog does not know yet. A forbid
                // holds for it.
                PolicyOutcome::Satisfied if !compiled.is_forbid => {
                    // Nor can it have meant a bucket that hides behind an access point or an alias (docs/adr/0020).
                    let names_access_point = access_point.is_none_or(|access_point| {
                        compiled.named_access_points.iter().any(|named| named == access_point)
                    });
                    permits_without_access_point |= !names_access_point;
                    if names_access_point && (!is_unknown_operation || compiled.names_unknown_operations) {
                        permits.push(compiled);
                    }
                }
                PolicyOutcome::Satisfied if compiled.checked.approval_rule.is_some() => {
                    approval_forbids.push(compiled);
                }
                PolicyOutcome::Satisfied => final_forbids.push(compiled),
            }
        }
        let reason = |relation: &str, policies: &[&CompiledPolicy]| {
            let reasons = policies
                .iter()
                .filter_map(|policy| policy.checked.reason.as_deref())
                .fold(String::new(), |all, reason| format!("{all}: {reason}"));
            let is_implicit_match = |policy: &&CompiledPolicy| {
                let number = self.policy_number(&policy.checked.id);
                evaluation.implicit_matches.iter().any(|(matched, _)| Some(*matched) == number)
            };
            let note = if policies.iter().any(is_implicit_match) { INEXACT_RESOURCE_NOTE } else { "" };
            format!("{} {relation} {}{reasons}{note}", query.title(), quote_policy_ids(policies))
        };
        if !final_forbids.is_empty() {
            return self.decision(Verdict::Deny, &final_forbids, reason("is forbidden by", &final_forbids));
        }
        // After the final forbids, whose reason a caller can use; before the permits, because the failed policy may be a forbid.
        if !failed.is_empty() {
            // A parameter is the caller's own, and it can write another value.
            let parameter = failures.iter().find_map(|failure| match failure {
                PolicyFailure::UnrepresentableParameter(parameter) => Some(format!(": {parameter}")),
                PolicyFailure::Evaluation(_) => None,
            });
            let reason = format!(
                "{} is refused because {} could not be evaluated{}",
                query.title(),
                quote_policy_ids(&failed),
                parameter.unwrap_or_default()
            );
            return self.decision(Verdict::Deny, &failed, reason);
        }
        // Before the approvals: people override forbids, and never add a permission that no policy gives.
        if permits.is_empty() {
            let hint = access_point
                .filter(|_| permits_without_access_point)
                .map(|access_point| {
                    format!(
                        ": it goes through {access_point}, and the bucket behind that is not known, so a permit must name it"
                    )
                })
                .unwrap_or_default();
            let reason = format!("no policy permits {}{hint}", query.title());
            return self.decision(Verdict::Deny, &[], reason);
        }
        if approval_forbids.is_empty() {
            return self.decision(Verdict::Allow, &permits, String::new());
        }
        let reason = reason("requires approval under", &approval_forbids);
        self.decision(Verdict::RequireApproval, &approval_forbids, reason)
    }

    fn decision(&self, verdict: Verdict, policies: &[&CompiledPolicy], reason: String) -> Decision {
        Decision {
            verdict,
            policies: policies.iter().map(|policy| policy.checked.id.clone()).collect(),
            reason,
            policy_set: self.version().to_owned(),
            tags: ResourceTags::new(),
            risk: None,
        }
    }

    /// The strictest of several decisions, with the policies of all that are as strict, and the reason of the first.
    pub(crate) fn merge_decisions(&self, decisions: Vec<Decision>) -> Decision {
        let strictness = |verdict: Verdict| match verdict {
            Verdict::Allow => 0,
            Verdict::RequireApproval => 1,
            Verdict::Deny => 2,
        };
        let mut decisions = decisions.into_iter();
        let Some(mut merged) = decisions.next() else {
            let reason = "the operation requires no permission, so policy has nothing to permit".to_owned();
            return self.decision(Verdict::Deny, &[], reason);
        };
        for decision in decisions {
            match strictness(decision.verdict).cmp(&strictness(merged.verdict)) {
                Ordering::Less => {}
                Ordering::Greater => merged = decision,
                Ordering::Equal => {
                    for policy in decision.policies {
                        if !merged.policies.contains(&policy) {
                            merged.policies.push(policy);
                        }
                    }
                }
            }
        }
        merged
    }
}

fn quote_policy_ids(policies: &[&CompiledPolicy]) -> String {
    let ids: Vec<String> = policies.iter().map(|policy| format!("`{}`", policy.checked.id)).collect();
    match ids.as_slice() {
        [id] => format!("policy {id}"),
        ids => format!("policies {}", ids.join(", ")),
    }
}

#[cfg(test)]
mod tests;

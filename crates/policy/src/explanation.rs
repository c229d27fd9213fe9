//! The explanation of a decision: every policy whose scope matches, and its outcome.

use crate::{
    approval_annotations::ApprovalRule,
    context_attributes::ContextAttributeSet,
    evaluator::{EvaluationContext, PolicyOutcome},
    policy_query::{AuthorizationRequest, PolicyQuery, RequestContext},
    policy_set::PolicySet,
};
use durward_core::{Caller, Decision, Operation, Verdict};
use std::{fmt, path::PathBuf};

/// A policy whose scope matches a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluatedPolicy {
    pub policy_id: String,
    pub file: PathBuf,
    pub line: usize,
    pub is_forbid: bool,
    pub approval_rule: Option<ApprovalRule>,
    pub outcome: PolicyOutcome,
    /// The policy has this outcome only for these resources, which the request may affect and does not name.
    pub implicit_targets: Vec<String>,
}

/// The explanation of one query.
#[derive(Debug, Clone, PartialEq, Eq)]
struct QueryExplanation {
    title: String,
    decision: Decision,
    evaluated_policies: Vec<EvaluatedPolicy>,
}

/// A decision, explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub decision: Decision,
    caller: String,
    query_explanations: Vec<QueryExplanation>,
    /// The number of policies in the set.
    policy_count: usize,
}

impl Explanation {
    /// Every policy whose scope matches a part of the operation.
    pub fn evaluated_policies(&self) -> impl Iterator<Item = &EvaluatedPolicy> {
        self.query_explanations.iter().flat_map(|explanation| &explanation.evaluated_policies)
    }
}

impl PolicySet {
    /// Decides one query and explains the decision.
    pub fn explain(&self, request: &AuthorizationRequest<'_>) -> Explanation {
        let mut evaluation_context = EvaluationContext::new(self, request.caller, request.context);
        let explanation = self.explain_query(&mut evaluation_context, &request.query);
        Explanation {
            decision: explanation.decision.clone(),
            caller: request.caller.id(),
            query_explanations: vec![explanation],
            policy_count: self.len(),
        }
    }

    /// As [`PolicySet::explain`], for every permission that an operation requires.
    pub fn explain_operation(
        &self,
        caller: &Caller,
        operation: &Operation,
        context: RequestContext<'_>,
    ) -> Explanation {
        let mut evaluation_context = EvaluationContext::new(self, caller, context);
        let queries = operation
            .required_permissions
            .iter()
            .map(|permission| PolicyQuery::Permission { operation, permission });
        let query_explanations: Vec<QueryExplanation> =
            queries.map(|query| self.explain_query(&mut evaluation_context, &query)).collect();
        let decisions = query_explanations.iter().map(|explanation| explanation.decision.clone()).collect();
        Explanation {
            decision: self.merge_decisions(decisions),
            caller: caller.id(),
            query_explanations,
            policy_count: self.len(),
        }
    }

    fn explain_query(
        &self,
        evaluation_context: &mut EvaluationContext<'_>,
        query: &PolicyQuery<'_>,
    ) -> QueryExplanation {
        let evaluation = evaluation_context.evaluate(query, ContextAttributeSet::NONE);
        let evaluated = evaluation.outcomes.iter().filter_map(|(number, outcome)| {
            let compiled = self.compiled_policy(*number)?;
            let implicit_matches =
                evaluation.implicit_matches.iter().filter(|(matched, _)| matched == number);
            Some(EvaluatedPolicy {
                policy_id: compiled.checked.id.clone(),
                file: compiled.checked.file.clone(),
                line: compiled.checked.line,
                is_forbid: compiled.is_forbid,
                approval_rule: compiled.checked.approval_rule.clone(),
                outcome: outcome.clone(),
                implicit_targets: implicit_matches.map(|(_, target)| target.clone()).collect(),
            })
        });
        QueryExplanation {
            title: query.title(),
            evaluated_policies: evaluated.collect(),
            decision: self.decision_from_outcomes(query, &evaluation),
        }
    }
}

/// A verdict as policy tests and explanations write it.
pub(crate) fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
        Verdict::RequireApproval => "require_approval",
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for explanation in &self.query_explanations {
            let QueryExplanation { title, decision, evaluated_policies } = explanation;
            writeln!(f, "{}: {title} by {}", verdict_word(decision.verdict), self.caller)?;
            if !decision.reason.is_empty() {
                writeln!(f, "  {}", decision.reason)?;
            }
            let width = evaluated_policies.iter().map(|policy| policy.policy_id.len()).max().unwrap_or(0);
            for policy in evaluated_policies {
                let effect = if policy.is_forbid { "forbid" } else { "permit" };
                let mut outcome = match &policy.outcome {
                    PolicyOutcome::Satisfied => "holds".to_owned(),
                    PolicyOutcome::NotSatisfied => "does not hold".to_owned(),
                    PolicyOutcome::Failed(error) => format!("could not be evaluated: {error}"),
                };
                if !policy.implicit_targets.is_empty() {
                    let targets = policy.implicit_targets.join(", ");
                    outcome = format!("{outcome} for {targets}, which the request may affect");
                }
                let approval = policy
                    .approval_rule
                    .as_ref()
                    .map(|rule| format!("; {} of {} may approve it", rule.quorum, rule.group))
                    .unwrap_or_default();
                writeln!(
                    f,
                    "  {effect} {:width$}  {outcome}{approval}  ({}:{})",
                    policy.policy_id,
                    policy.file.display(),
                    policy.line
                )?;
            }
            writeln!(f, "  {} of {} policies can apply", evaluated_policies.len(), self.policy_count)?;
        }
        Ok(())
    }
}

//! Why a question was answered as it was: every policy whose scope can match, and how it came out.

use crate::approval_annotations::ApprovalRule;
use durward_core::{Decision, Verdict};
use std::{fmt, path::PathBuf};

/// How one policy came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyOutcome {
    Satisfied,
    NotSatisfied,
    /// It could not be evaluated; the text is for the log and the operator, not for the caller.
    Failed(String),
}

/// One policy that can apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluatedPolicy {
    pub policy_id: String,
    pub file: PathBuf,
    pub line: usize,
    pub is_forbid: bool,
    pub approval_rule: Option<ApprovalRule>,
    pub outcome: PolicyOutcome,
    /// The resources for which alone it came out so: the request may be about them and does not say.
    pub implicit_targets: Vec<String>,
}

/// One question within an explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueryExplanation {
    pub title: String,
    pub decision: Decision,
    pub evaluated_policies: Vec<EvaluatedPolicy>,
}

/// A decision with its grounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub caller: String,
    pub decision: Decision,
    pub(crate) query_explanations: Vec<QueryExplanation>,
    /// How many policies the set has.
    pub policy_count: usize,
}

impl Explanation {
    /// Every policy that could apply to some part of what was asked.
    pub fn evaluated_policies(&self) -> impl Iterator<Item = &EvaluatedPolicy> {
        self.query_explanations.iter().flat_map(|part| &part.evaluated_policies)
    }
}

fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
        Verdict::RequireApproval => "require_approval",
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.query_explanations {
            writeln!(f, "{}: {} by {}", verdict_word(part.decision.verdict), part.title, self.caller)?;
            if !part.decision.reason.is_empty() {
                writeln!(f, "  {}", part.decision.reason)?;
            }
            let width = part.evaluated_policies.iter().map(|one| one.policy_id.len()).max().unwrap_or(0);
            for one in &part.evaluated_policies {
                let effect = if one.is_forbid { "forbid" } else { "permit" };
                let mut outcome = match &one.outcome {
                    PolicyOutcome::Satisfied => "holds".to_owned(),
                    PolicyOutcome::NotSatisfied => "does not hold".to_owned(),
                    PolicyOutcome::Failed(error) => format!("could not be evaluated: {error}"),
                };
                if !one.implicit_targets.is_empty() {
                    outcome =
                        format!("{outcome} for {}, which the request may affect", one.implicit_targets.join(", "));
                }
                let lifted = one
                    .approval_rule
                    .as_ref()
                    .map(|approval| format!("; {} of {} may approve it", approval.quorum, approval.group))
                    .unwrap_or_default();
                writeln!(
                    f,
                    "  {effect} {:width$}  {outcome}{lifted}  ({}:{})",
                    one.policy_id,
                    one.file.display(),
                    one.line
                )?;
            }
            writeln!(f, "  {} of {} policies can apply", part.evaluated_policies.len(), self.policy_count)?;
        }
        Ok(())
    }
}

//! Why a question was answered as it was: every policy whose scope can match, and how it came out.

use crate::approval::Approval;
use durward_core::{Decision, Verdict};
use std::{fmt, path::PathBuf};

/// How one policy came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Satisfied,
    NotSatisfied,
    /// It could not be evaluated; the text is for the log and the operator, not for the caller.
    Failed(String),
}

/// One policy that can apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Considered {
    pub policy: String,
    pub file: PathBuf,
    pub line: usize,
    pub forbids: bool,
    pub approval: Option<Approval>,
    pub outcome: Outcome,
    /// The resources for which alone it came out so: the request may be about them and does not say.
    pub possible: Vec<String>,
}

/// One question within an explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub title: String,
    pub decision: Decision,
    pub considered: Vec<Considered>,
}

/// A decision with its grounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub caller: String,
    pub decision: Decision,
    pub(crate) parts: Vec<Part>,
    /// How many policies the set has.
    pub policies: usize,
}

impl Explanation {
    /// Every policy that could apply to some part of what was asked.
    pub fn considered(&self) -> impl Iterator<Item = &Considered> {
        self.parts.iter().flat_map(|part| &part.considered)
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
        Verdict::Ask => "ask",
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            writeln!(f, "{}: {} by {}", word(part.decision.verdict), part.title, self.caller)?;
            if !part.decision.reason.is_empty() {
                writeln!(f, "  {}", part.decision.reason)?;
            }
            let width = part.considered.iter().map(|one| one.policy.len()).max().unwrap_or(0);
            for one in &part.considered {
                let effect = if one.forbids { "forbid" } else { "permit" };
                let mut outcome = match &one.outcome {
                    Outcome::Satisfied => "holds".to_owned(),
                    Outcome::NotSatisfied => "does not hold".to_owned(),
                    Outcome::Failed(error) => format!("could not be evaluated: {error}"),
                };
                if !one.possible.is_empty() {
                    outcome = format!("{outcome} for {}, which it may be about", one.possible.join(", "));
                }
                let lifted = one
                    .approval
                    .as_ref()
                    .map(|approval| format!("; {} of {} may lift it", approval.quorum, approval.group))
                    .unwrap_or_default();
                writeln!(
                    f,
                    "  {effect} {:width$}  {outcome}{lifted}  ({}:{})",
                    one.policy,
                    one.file.display(),
                    one.line
                )?;
            }
            writeln!(f, "  {} of {} policies can apply", part.considered.len(), self.policies)?;
        }
        Ok(())
    }
}

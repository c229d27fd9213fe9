//! A policy set in force: decides one question by the few policies whose scope can match.
//!
//! Default deny. A satisfied `forbid` without `@approval` is final. If all satisfied forbids carry `@approval` and a permit
//! holds without them, the answer is ask. If any policy that can apply cannot be evaluated, the answer is deny.

use crate::{
    approval::Approval,
    condition,
    explain::{Considered, Explanation, Outcome, Part},
    index::Index,
    judge::{Judgement, Session, Which},
    literals::{Literals, Types},
    load::{self, Checked},
    possible::{Possible, as_if},
    problem::LoadError,
    reading::Needs,
    source::{self, Source},
    vocabulary::Vocabulary,
};
use cedar_policy::{ActionConstraint, Effect, EntityUid, Policy};
use cedar_policy_core::ast::Expr;
use durward_core::{Caller, Decision, Demand, Operation, Resource, ResourceTags, Verdict};
use std::{collections::HashMap, net::IpAddr, path::Path};
use time::OffsetDateTime;

/// What is known about an exchange beside who asks and what.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The configured connection (AWS).
    pub connection: Option<&'a str>,
    pub source_ip: IpAddr,
    pub now: OffsetDateTime,
    /// The tags of the resources that [`PolicySet::reads`] names. An error where one that a policy reads is missing.
    pub tags: Option<&'a ResourceTags>,
    /// From 0 to 100. An error where a policy reads it and it is missing.
    pub risk: Option<u8>,
}

/// What must be found out before an operation can be decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reads<'a> {
    /// The ARNs of the resources whose tags a policy that can apply reads.
    pub tags_of: Vec<&'a str>,
    /// Actions whose tags a policy that can apply reads, and whose resource the request does not name: either they have none,
    /// or nobody can say that it has no tags.
    pub unnamed: Vec<&'a str>,
    /// A policy that can apply reads `context.risk`.
    pub risk: bool,
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub enum Ask<'a> {
    /// May the caller use the connection?
    Connect { connection: &'a str },
    /// May the caller see this class of data unmasked?
    Reveal { data_class: &'a str },
    /// May the caller do this part of the operation?
    Demand { operation: &'a Operation, demand: &'a Demand },
}

impl Ask<'_> {
    /// Whether this is about an operation that the catalog does not know.
    fn is_unknown(&self) -> bool {
        matches!(self, Self::Demand { demand, .. } if demand.action.ends_with(UNKNOWN))
    }

    /// The question for people: `s3:DeleteBucket on arn:aws:s3:::b`.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::Connect { connection } => format!("connect on {connection}"),
            Self::Reveal { data_class } => format!("reveal on {data_class}"),
            Self::Demand { demand, .. } => format!("{} on {}", demand.action, demand.resource.as_text()),
        }
    }
}

/// One question to policy.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub caller: &'a Caller,
    pub ask: Ask<'a>,
    pub facts: Facts<'a>,
}

#[derive(Debug)]
pub(crate) struct Compiled {
    pub checked: Checked,
    pub forbids: bool,
    /// What is left to evaluate once the index has found the policy: nothing where its scope is all it has.
    pub condition: Option<Expr>,
    /// Which of the set's needs are this policy's.
    pub needs: u32,
    pub reads_arguments: bool,
    /// It names `<service>:*unknown*` in its scope.
    pub names_unknown: bool,
}

/// A policy set that passed every check.
pub struct PolicySet {
    version: String,
    policies: Vec<Compiled>,
    pub(crate) index: Index,
    pub(crate) types: Types,
    pub(crate) literals: Literals,
    /// Every distinct one.
    pub(crate) needs: Vec<Needs>,
    numbers: HashMap<String, u32>,
    pub(crate) possible: Possible,
    /// Some policy reads tags, or the risk: only then is there anything to find out.
    reads: bool,
}

impl std::fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicySet")
            .field("version", &self.version)
            .field("policies", &self.policies.len())
            .finish()
    }
}

impl PolicySet {
    /// Reads and checks all `*.cedar` files of a directory together.
    pub fn load(dir: &Path, vocabulary: &dyn Vocabulary) -> Result<Self, LoadError> {
        let sources = source::read(dir)?;
        Self::from_sources(&sources, vocabulary)
    }

    pub(crate) fn from_sources(sources: &[Source], vocabulary: &dyn Vocabulary) -> Result<Self, LoadError> {
        let checked = load::load(sources, vocabulary)?;
        Ok(Self::compile(source::version(sources), checked, vocabulary))
    }

    pub(crate) fn compile(version: String, checked: Vec<Checked>, vocabulary: &dyn Vocabulary) -> Self {
        let types = Types::new();
        let mut set = Self {
            possible: Possible::new(&checked, &types, vocabulary),
            version,
            policies: Vec::with_capacity(checked.len()),
            index: Index::default(),
            types,
            literals: Literals::default(),
            needs: Vec::new(),
            numbers: HashMap::new(),
            reads: false,
        };
        let mut distinct: HashMap<Needs, u32> = HashMap::new();
        for (number, checked) in (0u32..).zip(checked) {
            let placed = set.index.add(number, &checked.policy, &set.types, &mut set.literals);
            let condition = condition::condition(checked.policy.as_ref(), placed);
            if let Some(condition) = &condition {
                set.literals.read(&set.types, condition);
            }
            set.reads |= checked.reading.needs.tags || checked.reading.needs.fact("risk");
            let needs = *distinct.entry(checked.reading.needs.clone()).or_insert_with_key(|new| {
                set.needs.push(new.clone());
                // Never more than policies, and those are numbered alike.
                set.needs.len() as u32 - 1
            });
            set.numbers.insert(checked.id.clone(), number);
            set.policies.push(Compiled {
                forbids: checked.policy.effect() == Effect::Forbid,
                condition,
                needs,
                reads_arguments: checked.reading.needs.fact("arguments"),
                names_unknown: names_unknown(&checked.policy),
                checked,
            });
        }
        set
    }

    /// The first 16 hex digits of the SHA-256 of the sources.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// How many policies there are.
    pub fn len(&self) -> usize {
        self.policies.len()
    }

    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// How people can lift the forbid with this id; none: they cannot.
    pub fn approval(&self, policy: &str) -> Option<&Approval> {
        self.compiled(*self.numbers.get(policy)?)?.checked.approval.as_ref()
    }

    /// What must be found out before this operation can be decided.
    pub fn reads<'a>(&'a self, caller: &Caller, operation: &'a Operation, facts: Facts<'_>) -> Reads<'a> {
        let mut reads = Reads::default();
        if !self.reads {
            return reads;
        }
        let session = Session::new(self, caller, facts);
        let mentioned = self.possible.mentioned(&operation.parameters);
        for demand in &operation.demands {
            let wanted = session.wanted(&Ask::Demand { operation, demand }, Which::All);
            reads.risk |= wanted.fact("risk");
            for exact in self.possible.of(operation, demand, &mentioned) {
                let as_if = as_if(demand, exact);
                let wanted = session.wanted(&Ask::Demand { operation, demand: &as_if }, Which::Naming(exact));
                reads.risk |= wanted.fact("risk");
                if wanted.tags && !reads.tags_of.contains(&exact) {
                    reads.tags_of.push(exact);
                }
            }
            let (all, one) = match &demand.resource {
                Resource::Arn(arn) => (&mut reads.tags_of, arn.as_str()),
                Resource::Any => (&mut reads.unnamed, demand.action.as_str()),
                Resource::McpTool { .. } | Resource::McpServer(_) => continue,
            };
            if wanted.tags && !all.contains(&one) {
                all.push(one);
            }
        }
        reads
    }

    /// Whether any policy asks people.
    pub fn asks(&self) -> bool {
        self.policies.iter().any(|policy| policy.checked.approval.is_some())
    }

    /// Decides one question.
    pub fn decide(&self, question: &Question<'_>) -> Decision {
        let mut session = Session::new(self, question.caller, question.facts);
        let judgement = session.judge(&question.ask, false);
        self.given(self.decision(&question.ask, &judgement), question.facts)
    }

    /// Decides an operation: every demand must be allowed. Deny wins over ask, ask over allow.
    pub fn decide_operation(&self, caller: &Caller, operation: &Operation, facts: Facts<'_>) -> Decision {
        let mut session = Session::new(self, caller, facts);
        let mut decisions = Vec::new();
        for demand in &operation.demands {
            let ask = Ask::Demand { operation, demand };
            let judgement = session.judge(&ask, false);
            let decision = self.decision(&ask, &judgement);
            let denied = decision.verdict == Verdict::Deny;
            decisions.push(decision);
            if denied {
                break;
            }
        }
        self.given(self.merge(decisions), facts)
    }

    /// Adds to a decision what it was made on beside the request itself.
    fn given(&self, mut decision: Decision, facts: Facts<'_>) -> Decision {
        if self.reads {
            decision.tags = facts.tags.cloned().unwrap_or_default();
            decision.risk = facts.risk;
        }
        decision
    }

    /// Whether some arguments exist with which this operation might not be denied: for listing tools. Policies that read the
    /// arguments count for the caller, so nothing that could be allowed is hidden; each call is still decided in full.
    pub fn may_be_allowed(&self, caller: &Caller, operation: &Operation, facts: Facts<'_>) -> bool {
        let mut session = Session::new(self, caller, facts);
        !operation.demands.is_empty()
            && operation.demands.iter().all(|demand| {
                let ask = Ask::Demand { operation, demand };
                let judgement = session.judge(&ask, true);
                self.decision(&ask, &judgement).verdict != Verdict::Deny
            })
    }

    /// Decides one question and tells how each policy that can apply came out.
    pub fn explain(&self, question: &Question<'_>) -> Explanation {
        let mut session = Session::new(self, question.caller, question.facts);
        let (decision, part) = self.explained(&mut session, &question.ask);
        Explanation { caller: question.caller.id(), decision, parts: vec![part], policies: self.len() }
    }

    /// As [`PolicySet::explain`], for every demand of an operation.
    pub fn explain_operation(&self, caller: &Caller, operation: &Operation, facts: Facts<'_>) -> Explanation {
        let mut session = Session::new(self, caller, facts);
        let explained: Vec<(Decision, Part)> = operation
            .demands
            .iter()
            .map(|demand| self.explained(&mut session, &Ask::Demand { operation, demand }))
            .collect();
        let (decisions, parts) = explained.into_iter().unzip();
        Explanation { caller: caller.id(), decision: self.merge(decisions), parts, policies: self.len() }
    }

    fn explained(&self, session: &mut Session<'_>, ask: &Ask<'_>) -> (Decision, Part) {
        let judgement = session.judge(ask, false);
        let considered = judgement.outcomes.iter().filter_map(|(number, outcome)| {
            let compiled = self.compiled(*number)?;
            let possible = judgement.possible.iter().filter(|(id, _)| id == number);
            Some(Considered {
                possible: possible.map(|(_, exact)| exact.clone()).collect(),
                policy: compiled.checked.id.clone(),
                file: compiled.checked.file.clone(),
                line: compiled.checked.line,
                forbids: compiled.forbids,
                approval: compiled.checked.approval.clone(),
                outcome: outcome.clone(),
            })
        });
        let decision = self.decision(ask, &judgement);
        (decision.clone(), Part { title: ask.title(), decision, considered: considered.collect() })
    }

    pub(crate) fn compiled(&self, number: u32) -> Option<&Compiled> {
        self.policies.get(number as usize)
    }

    fn decision(&self, ask: &Ask<'_>, judgement: &Judgement) -> Decision {
        let answer = |verdict, policies: &[&Compiled], reason: String| Decision {
            verdict,
            policies: policies.iter().map(|policy| policy.checked.id.clone()).collect(),
            reason,
            policy_set: self.version.clone(),
            tags: ResourceTags::new(),
            risk: None,
        };
        if let Some(why) = &judgement.failed {
            return answer(Verdict::Deny, &[], format!("{} could not be put to policy: {why}", ask.title()));
        }
        let (mut finally, mut failing) = (Vec::new(), Vec::new());
        let unknown = ask.is_unknown();
        let (mut permits, mut asking) = (Vec::new(), Vec::new());
        for (number, outcome) in &judgement.outcomes {
            let Some(compiled) = self.compiled(*number) else { continue };
            match outcome {
                Outcome::NotSatisfied => {}
                Outcome::Failed(_) => failing.push(compiled),
                // What nobody knew when a permit was written, it does not permit, however wide it is; a forbid holds.
                Outcome::Satisfied if !compiled.forbids => {
                    if !unknown || compiled.names_unknown {
                        permits.push(compiled);
                    }
                }
                Outcome::Satisfied if compiled.checked.approval.is_some() => asking.push(compiled),
                Outcome::Satisfied => finally.push(compiled),
            }
        }
        let with = |what: &str, policies: &[&Compiled]| {
            let reasons = policies
                .iter()
                .filter_map(|policy| policy.checked.reason.as_deref())
                .fold(String::new(), |all, reason| format!("{all}: {reason}"));
            let only_possible = |policy: &&Compiled| {
                let number = self.numbers.get(&policy.checked.id);
                judgement.possible.iter().any(|(possible, _)| Some(possible) == number)
            };
            let inexact = if policies.iter().any(only_possible) { INEXACT } else { "" };
            format!("{} {what} {}{reasons}{inexact}", ask.title(), quoted(policies))
        };
        if !finally.is_empty() {
            return answer(Verdict::Deny, &finally, with("is forbidden by", &finally));
        }
        if !failing.is_empty() {
            let reason =
                format!("{} is refused because {} could not be evaluated", ask.title(), quoted(&failing));
            return answer(Verdict::Deny, &failing, reason);
        }
        if permits.is_empty() {
            return answer(Verdict::Deny, &[], format!("no policy permits {}", ask.title()));
        }
        if asking.is_empty() {
            return answer(Verdict::Allow, &permits, String::new());
        }
        answer(Verdict::Ask, &asking, with("needs an approval by", &asking))
    }

    /// One decision of many: the strictest, with the policies and the first reason of those that gave it.
    fn merge(&self, decisions: Vec<Decision>) -> Decision {
        let strictness = |verdict: Verdict| match verdict {
            Verdict::Allow => 0,
            Verdict::Ask => 1,
            Verdict::Deny => 2,
        };
        let mut decisions = decisions.into_iter();
        let Some(mut merged) = decisions.next() else {
            return Decision {
                verdict: Verdict::Deny,
                policies: Vec::new(),
                reason: "the operation demands nothing that policy could permit".to_owned(),
                policy_set: self.version.clone(),
                tags: ResourceTags::new(),
                risk: None,
            };
        };
        for decision in decisions {
            match strictness(decision.verdict).cmp(&strictness(merged.verdict)) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Greater => merged = decision,
                std::cmp::Ordering::Equal => {
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

/// Why a forbid holds that names a resource which the request does not name.
const INEXACT: &str =
    " (it names a resource that the request may be about: the request does not name its own exactly)";

/// How the name of an action ends that stands for every operation newer than the catalog.
const UNKNOWN: &str = ":*unknown*";

fn names_unknown(policy: &Policy) -> bool {
    let is_unknown = |action: &EntityUid| action.id().unescaped().ends_with(UNKNOWN);
    match policy.action_constraint() {
        ActionConstraint::Any => false,
        ActionConstraint::Eq(action) => is_unknown(&action),
        ActionConstraint::In(actions) => actions.iter().any(is_unknown),
    }
}

fn quoted(policies: &[&Compiled]) -> String {
    let names: Vec<String> = policies.iter().map(|policy| format!("`{}`", policy.checked.id)).collect();
    match names.as_slice() {
        [one] => format!("policy {one}"),
        many => format!("policies {}", many.join(", ")),
    }
}

#[cfg(test)]
mod tests;

//! A policy set in force: decides one question by the few policies whose scope can match.
//!
//! Default deny. A satisfied `forbid` without `@approval` is final. If all satisfied forbids carry `@approval` and a permit
//! holds without them, the answer is ask. If any policy that can apply cannot be evaluated, the answer is deny.

use crate::{
    approval::Approval,
    context::context,
    entities::{self, Cast, Types},
    explain::{Considered, Explanation, Outcome, Part},
    index::Index,
    load::{self, Checked},
    problem::{LoadError, Problem},
    reading::Needs,
    source::{self, Source},
    vocabulary::Vocabulary,
};
use cedar_policy::{
    Authorizer, Context, Effect, Entities, Entity, EntityUid, PolicySet as CedarSet, Request, Response,
};
use durward_core::{AccessLevel, Caller, Decision, Demand, Operation, Verdict};
use std::{collections::HashMap, net::IpAddr, path::Path};
use time::OffsetDateTime;

/// What is known about an exchange beside who asks and what.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The configured connection (AWS).
    pub connection: Option<&'a str>,
    pub source_ip: IpAddr,
    pub now: OffsetDateTime,
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
struct Compiled {
    checked: Checked,
    forbids: bool,
    /// The policy alone, as Cedar evaluates it.
    set: CedarSet,
}

/// A policy set that passed every check.
pub struct PolicySet {
    version: String,
    policies: Vec<Compiled>,
    index: Index,
    types: Types,
    authorizer: Authorizer,
    numbers: HashMap<String, u32>,
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
        Self::compile(source::version(sources), checked)
    }

    pub(crate) fn compile(version: String, checked: Vec<Checked>) -> Result<Self, LoadError> {
        let mut set = Self {
            version,
            policies: Vec::with_capacity(checked.len()),
            index: Index::default(),
            types: Types::new(),
            authorizer: Authorizer::new(),
            numbers: HashMap::new(),
        };
        for (number, checked) in (0u32..).zip(checked) {
            let alone = CedarSet::from_policies([checked.policy.clone()])
                .map_err(|error| Problem::whole(&checked.file, error.to_string(), "").policy(&checked.id))?;
            set.index.add(number, &checked.policy);
            set.numbers.insert(checked.id.clone(), number);
            set.policies.push(Compiled {
                forbids: checked.policy.effect() == Effect::Forbid,
                set: alone,
                checked,
            });
        }
        Ok(set)
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

    /// Decides one question.
    pub fn decide(&self, question: &Question<'_>) -> Decision {
        let mut session = Session::new(self, question.caller, question.facts);
        let judgement = session.judge(&question.ask, false);
        self.decision(&question.ask, &judgement)
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
        self.merge(decisions)
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
            Some(Considered {
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

    fn compiled(&self, number: u32) -> Option<&Compiled> {
        self.policies.get(number as usize)
    }

    fn decision(&self, ask: &Ask<'_>, judgement: &Judgement) -> Decision {
        let having = |wanted: &dyn Fn(&Compiled, &Outcome) -> bool| -> Vec<String> {
            let found = judgement.outcomes.iter().filter_map(|(number, outcome)| {
                let compiled = self.compiled(*number)?;
                wanted(compiled, outcome).then(|| compiled.checked.id.clone())
            });
            found.collect()
        };
        let answer = |verdict, policies: Vec<String>, reason: String| Decision {
            verdict,
            policies,
            reason,
            policy_set: self.version.clone(),
        };
        let title = ask.title();
        if judgement.failed.is_some() {
            return answer(Verdict::Deny, Vec::new(), format!("{title} could not be put to policy"));
        }
        let satisfied = |outcome: &Outcome| matches!(outcome, Outcome::Satisfied);
        let with = |what: &str, policies: &[String]| {
            let reasons = policies
                .iter()
                .filter_map(|id| self.compiled(*self.numbers.get(id)?)?.checked.reason.as_deref())
                .fold(String::new(), |all, reason| format!("{all}: {reason}"));
            format!("{title} {what} {}{reasons}", quoted(policies))
        };
        let finally = having(&|compiled, outcome| {
            compiled.forbids && compiled.checked.approval.is_none() && satisfied(outcome)
        });
        if !finally.is_empty() {
            let reason = with("is forbidden by", &finally);
            return answer(Verdict::Deny, finally, reason);
        }
        let failing = having(&|_, outcome| matches!(outcome, Outcome::Failed(_)));
        if !failing.is_empty() {
            let reason = format!("{title} is refused because {} could not be evaluated", quoted(&failing));
            return answer(Verdict::Deny, failing, reason);
        }
        let permits = having(&|compiled, outcome| !compiled.forbids && satisfied(outcome));
        if permits.is_empty() {
            return answer(Verdict::Deny, Vec::new(), format!("no policy permits {title}"));
        }
        let asking = having(&|compiled, outcome| compiled.forbids && satisfied(outcome));
        if asking.is_empty() {
            return answer(Verdict::Allow, permits, String::new());
        }
        let reason = with("needs an approval by", &asking);
        answer(Verdict::Ask, asking, reason)
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

fn quoted(policies: &[String]) -> String {
    let names: Vec<String> = policies.iter().map(|policy| format!("`{policy}`")).collect();
    match names.as_slice() {
        [one] => format!("policy {one}"),
        many => format!("policies {}", many.join(", ")),
    }
}

/// How the policies that can apply came out.
struct Judgement {
    outcomes: Vec<(u32, Outcome)>,
    /// The question could not be put to Cedar at all.
    failed: Option<String>,
}

/// What is the same for all questions of one caller about one operation.
struct Session<'a> {
    set: &'a PolicySet,
    caller: &'a Caller,
    facts: Facts<'a>,
    id: String,
    /// Without and with attributes.
    bare: Option<(EntityUid, Entity)>,
    full: Option<(EntityUid, Entity)>,
    context: Option<(Needs, Option<AccessLevel>, Context)>,
}

impl<'a> Session<'a> {
    fn new(set: &'a PolicySet, caller: &'a Caller, facts: Facts<'a>) -> Self {
        Self { set, caller, facts, id: caller.id(), bare: None, full: None, context: None }
    }

    /// Evaluates every policy that can apply. `unknown_arguments`: policies that read arguments count for the caller.
    fn judge(&mut self, ask: &Ask<'_>, unknown_arguments: bool) -> Judgement {
        let set = self.set;
        let facts = self.facts;
        let cast = Cast::new(&set.types, ask, &facts);
        let (actions, resources) = cast.keys();
        let mut principals = vec![self.id.as_str()];
        principals.extend(self.caller.groups.iter().map(String::as_str));
        let candidates = set.index.candidates(&actions, &principals, &resources);
        if candidates.is_empty() {
            return Judgement { outcomes: Vec::new(), failed: None };
        }
        let mut needs = Needs::nothing();
        for number in &candidates {
            if let Some(compiled) = set.compiled(*number) {
                needs.add(&compiled.checked.reading.needs);
            }
        }
        let (request, entities) = match self.scene(ask, &cast, &needs) {
            Ok(scene) => scene,
            Err(error) => {
                tracing::error!(error, question = ask.title(), "a question could not be put to policy");
                return Judgement { outcomes: Vec::new(), failed: Some(error) };
            }
        };
        let mut outcomes = Vec::with_capacity(candidates.len());
        for number in candidates {
            let Some(compiled) = set.compiled(number) else { continue };
            let outcome = if unknown_arguments && compiled.checked.reading.needs.fact("arguments") {
                if compiled.forbids { Outcome::NotSatisfied } else { Outcome::Satisfied }
            } else {
                outcome(&set.authorizer.is_authorized(&request, &compiled.set, &entities))
            };
            if let Outcome::Failed(error) = &outcome {
                tracing::warn!(
                    policy = compiled.checked.id,
                    error,
                    question = ask.title(),
                    "a policy could not be evaluated"
                );
            }
            outcomes.push((number, outcome));
        }
        Judgement { outcomes, failed: None }
    }

    fn scene(
        &mut self,
        ask: &Ask<'_>,
        cast: &Cast<'_>,
        needs: &Needs,
    ) -> Result<(Request, Entities), String> {
        let memo = if needs.principal { &mut self.full } else { &mut self.bare };
        let (principal, caller) = match memo {
            Some(known) => known.clone(),
            None => memo.insert(entities::principal(&self.set.types, self.caller, needs.principal)?).clone(),
        };
        let level = match ask {
            Ask::Demand { demand, .. } => Some(demand.access_level),
            _ => None,
        };
        let context = match &self.context {
            Some((known, at, context)) if known == needs && *at == level && !needs.fact("tool") => {
                context.clone()
            }
            _ => {
                let made = context(ask, &self.facts, needs)?;
                self.context = Some((needs.clone(), level, made.clone()));
                made
            }
        };
        let [its_action, its_resource] = cast.entities(needs)?;
        let entities = Entities::from_entities([caller, its_action, its_resource], None)
            .map_err(|error| error.to_string())?;
        let (action, resource) = cast.uids();
        let request =
            Request::new(principal, action, resource, context, None).map_err(|error| error.to_string())?;
        Ok((request, entities))
    }
}

/// How a policy evaluated alone came out: an error, or whether it determined the answer.
fn outcome(response: &Response) -> Outcome {
    if let Some(error) = response.diagnostics().errors().next() {
        return Outcome::Failed(error.to_string());
    }
    if response.diagnostics().reason().next().is_some() { Outcome::Satisfied } else { Outcome::NotSatisfied }
}

#[cfg(test)]
mod tests;

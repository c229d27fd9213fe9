//! A policy set in force: decides one question by the few policies whose scope can match.
//!
//! Default deny. A satisfied `forbid` without `@approval` is final. If all satisfied forbids carry `@approval` and a permit
//! holds without them, the answer is ask. If any policy that can apply cannot be evaluated, the answer is deny.

use crate::{
    approval_annotations::ApprovalRule,
    attribute_usage::RequiredAttributes,
    entity_literals::{EntityLiterals, EntityTypes},
    evaluator::{Evaluation, EvaluationContext, PolicyFilter},
    explanation::{EvaluatedPolicy, Explanation, PolicyOutcome, QueryExplanation},
    implicit_targets::{ImplicitTargets, with_resource},
    load_error::PolicyLoadError,
    policy_directory::{self, PolicyFile},
    policy_loader::{self, CheckedPolicy},
    residual_condition,
    schema_source::SchemaSource,
    scope_index::ScopeIndex,
};
use cedar_policy::{ActionConstraint, Effect, EntityUid, Policy};
use cedar_policy_core::ast::Expr;
use durward_core::{Caller, Decision, Operation, RequiredPermission, Resource, ResourceTags, Verdict};
use std::{collections::HashMap, net::IpAddr, path::Path};
use time::OffsetDateTime;

/// What is known about an exchange beside who asks and what.
#[derive(Debug, Clone, Copy)]
pub struct RequestContext<'a> {
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
pub struct AttributeReads<'a> {
    /// The ARNs of the resources whose tags a policy that can apply reads.
    pub tag_lookup_arns: Vec<&'a str>,
    /// Actions whose tags a policy that can apply reads, and whose resource the request does not name: either they have none,
    /// or nobody can say that it has no tags.
    pub unnamed_resource_actions: Vec<&'a str>,
    /// A policy that can apply reads `context.risk`.
    pub reads_risk: bool,
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub enum PolicyQuery<'a> {
    /// May the caller use the connection?
    Connect { connection: &'a str },
    /// May the caller see this class of data unmasked?
    Reveal { data_class: &'a str },
    /// May the caller do this part of the operation?
    Permission { operation: &'a Operation, permission: &'a RequiredPermission },
}

impl PolicyQuery<'_> {
    /// Whether this is about an operation that the catalog does not know.
    fn is_unknown_operation(&self) -> bool {
        matches!(self, Self::Permission { permission, .. } if permission.action.ends_with(UNKNOWN_OPERATION_SUFFIX))
    }

    /// The question for people: `s3:DeleteBucket on arn:aws:s3:::b`.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::Connect { connection } => format!("connect on {connection}"),
            Self::Reveal { data_class } => format!("reveal on {data_class}"),
            Self::Permission { permission: demand, .. } => {
                format!("{} on {}", demand.action, demand.resource.to_text())
            }
        }
    }
}

/// One question to policy.
#[derive(Debug, Clone, Copy)]
pub struct AuthorizationRequest<'a> {
    pub caller: &'a Caller,
    pub query: PolicyQuery<'a>,
    pub context: RequestContext<'a>,
}

#[derive(Debug)]
pub(crate) struct CompiledPolicy {
    pub checked: CheckedPolicy,
    pub is_forbid: bool,
    /// What is left to evaluate once the index has found the policy: nothing where its scope is all it has.
    pub condition: Option<Expr>,
    /// Which of the set's needs are this policy's.
    pub attributes_index: u32,
    pub reads_arguments: bool,
    /// It names `<service>:*unknown*` in its scope.
    pub names_unknown_operations: bool,
}

/// A policy set that passed every check.
pub struct PolicySet {
    version: String,
    policies: Vec<CompiledPolicy>,
    pub(crate) index: ScopeIndex,
    pub(crate) entity_types: EntityTypes,
    pub(crate) entity_literals: EntityLiterals,
    /// Every distinct one.
    pub(crate) distinct_attributes: Vec<RequiredAttributes>,
    policy_numbers: HashMap<String, u32>,
    pub(crate) implicit_targets: ImplicitTargets,
    /// Some policy reads tags, or the risk: only then is there anything to find out.
    reads_tags_or_risk: bool,
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
    pub fn load(dir: &Path, vocabulary: &dyn SchemaSource) -> Result<Self, PolicyLoadError> {
        let sources = policy_directory::read_policy_files(dir)?;
        Self::from_files(&sources, vocabulary)
    }

    pub(crate) fn from_files(
        sources: &[PolicyFile],
        vocabulary: &dyn SchemaSource,
    ) -> Result<Self, PolicyLoadError> {
        let checked = policy_loader::load_policies(sources, vocabulary)?;
        Ok(Self::compile(policy_directory::compute_version(sources), checked, vocabulary))
    }

    pub(crate) fn compile(
        version: String,
        checked: Vec<CheckedPolicy>,
        vocabulary: &dyn SchemaSource,
    ) -> Self {
        let types = EntityTypes::new();
        let mut set = Self {
            implicit_targets: ImplicitTargets::new(&checked, &types, vocabulary),
            version,
            policies: Vec::with_capacity(checked.len()),
            index: ScopeIndex::default(),
            entity_types: types,
            entity_literals: EntityLiterals::default(),
            distinct_attributes: Vec::new(),
            policy_numbers: HashMap::new(),
            reads_tags_or_risk: false,
        };
        let mut distinct: HashMap<RequiredAttributes, u32> = HashMap::new();
        for (number, checked) in (0u32..).zip(checked) {
            let placed =
                set.index.insert(number, &checked.policy, &set.entity_types, &mut set.entity_literals);
            let condition = residual_condition::residual_condition(checked.policy.as_ref(), placed);
            if let Some(condition) = &condition {
                set.entity_literals.insert_condition_literals(&set.entity_types, condition);
            }
            set.reads_tags_or_risk |= checked.attribute_usage.required_attributes.reads_tags
                || checked.attribute_usage.required_attributes.reads_context_attribute("risk");
            let needs = *distinct
                .entry(checked.attribute_usage.required_attributes.clone())
                .or_insert_with_key(|new| {
                    set.distinct_attributes.push(new.clone());
                    // Never more than policies, and those are numbered alike.
                    set.distinct_attributes.len() as u32 - 1
                });
            set.policy_numbers.insert(checked.id.clone(), number);
            set.policies.push(CompiledPolicy {
                is_forbid: checked.policy.effect() == Effect::Forbid,
                condition,
                attributes_index: needs,
                reads_arguments: checked
                    .attribute_usage
                    .required_attributes
                    .reads_context_attribute("arguments"),
                names_unknown_operations: names_unknown_operations(&checked.policy),
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
    pub fn approval_rule(&self, policy: &str) -> Option<&ApprovalRule> {
        self.compiled_policy(*self.policy_numbers.get(policy)?)?.checked.approval_rule.as_ref()
    }

    /// What must be found out before this operation can be decided.
    pub fn attribute_reads<'a>(
        &'a self,
        caller: &Caller,
        operation: &'a Operation,
        facts: RequestContext<'_>,
    ) -> AttributeReads<'a> {
        let mut reads = AttributeReads::default();
        if !self.reads_tags_or_risk {
            return reads;
        }
        let session = EvaluationContext::new(self, caller, facts);
        let mentioned = self.implicit_targets.find_mentioned(&operation.parameters);
        for demand in &operation.required_permissions {
            let wanted = session.required_attributes(
                &PolicyQuery::Permission { operation, permission: demand },
                PolicyFilter::All,
            );
            reads.reads_risk |= wanted.reads_context_attribute("risk");
            for exact in self.implicit_targets.find_targets(operation, demand, &mentioned) {
                let as_if = with_resource(demand, exact);
                let wanted = session.required_attributes(
                    &PolicyQuery::Permission { operation, permission: &as_if },
                    PolicyFilter::ForbidsNaming(exact),
                );
                reads.reads_risk |= wanted.reads_context_attribute("risk");
                if wanted.reads_tags && !reads.tag_lookup_arns.contains(&exact) {
                    reads.tag_lookup_arns.push(exact);
                }
            }
            let (all, one) = match &demand.resource {
                Resource::Arn(arn) => (&mut reads.tag_lookup_arns, arn.as_str()),
                Resource::Any => (&mut reads.unnamed_resource_actions, demand.action.as_str()),
                Resource::McpTool { .. } | Resource::McpServer(_) => continue,
            };
            if wanted.reads_tags && !all.contains(&one) {
                all.push(one);
            }
        }
        reads
    }

    /// Whether any policy asks people.
    pub fn has_approval_policies(&self) -> bool {
        self.policies.iter().any(|policy| policy.checked.approval_rule.is_some())
    }

    /// Decides one question.
    pub fn decide(&self, question: &AuthorizationRequest<'_>) -> Decision {
        let mut session = EvaluationContext::new(self, question.caller, question.context);
        let judgement = session.evaluate(&question.query, false);
        self.with_decision_inputs(self.decision_from_outcomes(&question.query, &judgement), question.context)
    }

    /// Decides an operation: every demand must be allowed. Deny wins over ask, ask over allow.
    pub fn decide_operation(
        &self,
        caller: &Caller,
        operation: &Operation,
        facts: RequestContext<'_>,
    ) -> Decision {
        let mut session = EvaluationContext::new(self, caller, facts);
        let mut decisions = Vec::new();
        for demand in &operation.required_permissions {
            let ask = PolicyQuery::Permission { operation, permission: demand };
            let judgement = session.evaluate(&ask, false);
            let decision = self.decision_from_outcomes(&ask, &judgement);
            let denied = decision.verdict == Verdict::Deny;
            decisions.push(decision);
            if denied {
                break;
            }
        }
        self.with_decision_inputs(self.merge_decisions(decisions), facts)
    }

    /// Adds to a decision what it was made on beside the request itself.
    fn with_decision_inputs(&self, mut decision: Decision, facts: RequestContext<'_>) -> Decision {
        if self.reads_tags_or_risk {
            decision.tags = facts.tags.cloned().unwrap_or_default();
            decision.risk = facts.risk;
        }
        decision
    }

    /// Whether some arguments exist with which this operation might not be denied: for listing tools. Policies that read the
    /// arguments count for the caller, so nothing that could be allowed is hidden; each call is still decided in full.
    pub fn may_be_allowed(&self, caller: &Caller, operation: &Operation, facts: RequestContext<'_>) -> bool {
        let mut session = EvaluationContext::new(self, caller, facts);
        !operation.required_permissions.is_empty()
            && operation.required_permissions.iter().all(|demand| {
                let ask = PolicyQuery::Permission { operation, permission: demand };
                let judgement = session.evaluate(&ask, true);
                self.decision_from_outcomes(&ask, &judgement).verdict != Verdict::Deny
            })
    }

    /// Decides one question and tells how each policy that can apply came out.
    pub fn explain(&self, question: &AuthorizationRequest<'_>) -> Explanation {
        let mut session = EvaluationContext::new(self, question.caller, question.context);
        let (decision, part) = self.explain_query(&mut session, &question.query);
        Explanation {
            caller: question.caller.id(),
            decision,
            query_explanations: vec![part],
            policy_count: self.len(),
        }
    }

    /// As [`PolicySet::explain`], for every demand of an operation.
    pub fn explain_operation(
        &self,
        caller: &Caller,
        operation: &Operation,
        facts: RequestContext<'_>,
    ) -> Explanation {
        let mut session = EvaluationContext::new(self, caller, facts);
        let explained: Vec<(Decision, QueryExplanation)> = operation
            .required_permissions
            .iter()
            .map(|demand| {
                self.explain_query(&mut session, &PolicyQuery::Permission { operation, permission: demand })
            })
            .collect();
        let (decisions, parts) = explained.into_iter().unzip();
        Explanation {
            caller: caller.id(),
            decision: self.merge_decisions(decisions),
            query_explanations: parts,
            policy_count: self.len(),
        }
    }

    fn explain_query(
        &self,
        session: &mut EvaluationContext<'_>,
        ask: &PolicyQuery<'_>,
    ) -> (Decision, QueryExplanation) {
        let judgement = session.evaluate(ask, false);
        let considered = judgement.outcomes.iter().filter_map(|(number, outcome)| {
            let compiled = self.compiled_policy(*number)?;
            let possible = judgement.implicit_matches.iter().filter(|(id, _)| id == number);
            Some(EvaluatedPolicy {
                implicit_targets: possible.map(|(_, exact)| exact.clone()).collect(),
                policy_id: compiled.checked.id.clone(),
                file: compiled.checked.file.clone(),
                line: compiled.checked.line,
                is_forbid: compiled.is_forbid,
                approval_rule: compiled.checked.approval_rule.clone(),
                outcome: outcome.clone(),
            })
        });
        let decision = self.decision_from_outcomes(ask, &judgement);
        (
            decision.clone(),
            QueryExplanation { title: ask.title(), decision, evaluated_policies: considered.collect() },
        )
    }

    pub(crate) fn compiled_policy(&self, number: u32) -> Option<&CompiledPolicy> {
        self.policies.get(number as usize)
    }

    fn decision_from_outcomes(&self, ask: &PolicyQuery<'_>, judgement: &Evaluation) -> Decision {
        let answer = |verdict, policies: &[&CompiledPolicy], reason: String| Decision {
            verdict,
            policies: policies.iter().map(|policy| policy.checked.id.clone()).collect(),
            reason,
            policy_set: self.version.clone(),
            tags: ResourceTags::new(),
            risk: None,
        };
        if let Some(why) = &judgement.query_error {
            return answer(Verdict::Deny, &[], format!("{} could not be evaluated by policy: {why}", ask.title()));
        }
        let (mut finally, mut failing) = (Vec::new(), Vec::new());
        let unknown = ask.is_unknown_operation();
        let (mut permits, mut asking) = (Vec::new(), Vec::new());
        for (number, outcome) in &judgement.outcomes {
            let Some(compiled) = self.compiled_policy(*number) else { continue };
            match outcome {
                PolicyOutcome::NotSatisfied => {}
                PolicyOutcome::Failed(_) => failing.push(compiled),
                // What nobody knew when a permit was written, it does not permit, however wide it is; a forbid holds.
                PolicyOutcome::Satisfied if !compiled.is_forbid => {
                    if !unknown || compiled.names_unknown_operations {
                        permits.push(compiled);
                    }
                }
                PolicyOutcome::Satisfied if compiled.checked.approval_rule.is_some() => asking.push(compiled),
                PolicyOutcome::Satisfied => finally.push(compiled),
            }
        }
        let with = |what: &str, policies: &[&CompiledPolicy]| {
            let reasons = policies
                .iter()
                .filter_map(|policy| policy.checked.reason.as_deref())
                .fold(String::new(), |all, reason| format!("{all}: {reason}"));
            let only_possible = |policy: &&CompiledPolicy| {
                let number = self.policy_numbers.get(&policy.checked.id);
                judgement.implicit_matches.iter().any(|(possible, _)| Some(possible) == number)
            };
            let inexact = if policies.iter().any(only_possible) { INEXACT_RESOURCE_NOTE } else { "" };
            format!("{} {what} {}{reasons}{inexact}", ask.title(), quote_policy_ids(policies))
        };
        if !finally.is_empty() {
            return answer(Verdict::Deny, &finally, with("is forbidden by", &finally));
        }
        if !failing.is_empty() {
            let reason = format!(
                "{} is refused because {} could not be evaluated",
                ask.title(),
                quote_policy_ids(&failing)
            );
            return answer(Verdict::Deny, &failing, reason);
        }
        if permits.is_empty() {
            return answer(Verdict::Deny, &[], format!("no policy permits {}", ask.title()));
        }
        if asking.is_empty() {
            return answer(Verdict::Allow, &permits, String::new());
        }
        answer(Verdict::RequireApproval, &asking, with("needs an approval required by", &asking))
    }

    /// One decision of many: the strictest, with the policies and the first reason of those that gave it.
    fn merge_decisions(&self, decisions: Vec<Decision>) -> Decision {
        let strictness = |verdict: Verdict| match verdict {
            Verdict::Allow => 0,
            Verdict::RequireApproval => 1,
            Verdict::Deny => 2,
        };
        let mut decisions = decisions.into_iter();
        let Some(mut merged) = decisions.next() else {
            return Decision {
                verdict: Verdict::Deny,
                policies: Vec::new(),
                reason: "the operation requires no permission, so policy has nothing to permit".to_owned(),
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
const INEXACT_RESOURCE_NOTE: &str =
    " (it names a resource that the request may affect: the request does not name its own exactly)";

/// How the name of an action ends that stands for every operation newer than the catalog.
const UNKNOWN_OPERATION_SUFFIX: &str = ":*unknown*";

fn names_unknown_operations(policy: &Policy) -> bool {
    let is_unknown = |action: &EntityUid| action.id().unescaped().ends_with(UNKNOWN_OPERATION_SUFFIX);
    match policy.action_constraint() {
        ActionConstraint::Any => false,
        ActionConstraint::Eq(action) => is_unknown(&action),
        ActionConstraint::In(actions) => actions.iter().any(is_unknown),
    }
}

fn quote_policy_ids(policies: &[&CompiledPolicy]) -> String {
    let names: Vec<String> = policies.iter().map(|policy| format!("`{}`", policy.checked.id)).collect();
    match names.as_slice() {
        [one] => format!("policy {one}"),
        many => format!("policies {}", many.join(", ")),
    }
}

#[cfg(test)]
mod tests;

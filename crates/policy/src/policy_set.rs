//! A policy set that passed every check, compiled for evaluation.
//!
//! Plain data and its lookups: `policy_decision` and `explanation` add the methods that decide.

use crate::{
    access_points::access_point_of,
    approval_annotations::ApprovalRule,
    configured_names::NameReference,
    context_attributes::ContextAttribute,
    entity_literals::{EntityKind, EntityLiterals, EntityTypes},
    implicit_targets::ImplicitTargets,
    load_error::PolicyLoadError,
    policy_directory::{self, PolicyFile},
    policy_loader::{self, CheckedPolicy},
    required_attributes::RequiredAttributes,
    residual_condition::residual_condition,
    schema_source::SchemaSource,
    scope_index::ScopeIndex,
};
use cedar_policy::{ActionConstraint, Effect, EntityUid, Policy};
use cedar_policy_core::ast::Expr;
use durward_core::is_unknown_operation_action;
use std::{collections::HashMap, path::Path};

#[derive(Debug)]
pub(crate) struct CompiledPolicy {
    pub checked: CheckedPolicy,
    pub is_forbid: bool,
    /// The part that is left to evaluate once the index has found the policy. `None`: the policy is satisfied then.
    pub condition: Option<Expr>,
    /// The index of the policy's attributes among the set's distinct ones.
    pub attributes_index: u32,
    /// Its scope names `<service>:*unknown*`.
    pub names_unknown_operations: bool,
    /// The access points and aliases that it names by their ARNs.
    pub named_access_points: Vec<String>,
}

/// A policy set that passed every check.
pub struct PolicySet {
    version: String,
    /// By their numbers.
    policies: Vec<CompiledPolicy>,
    pub(crate) index: ScopeIndex,
    pub(crate) entity_types: EntityTypes,
    pub(crate) entity_literals: EntityLiterals,
    /// The attributes that policies read, each distinct combination once.
    pub(crate) distinct_attributes: Vec<RequiredAttributes>,
    numbers_by_id: HashMap<String, u32>,
    pub(crate) implicit_targets: ImplicitTargets,
    /// Some policy reads tags or the risk. Otherwise nothing must be looked up for a decision.
    pub(crate) reads_tags_or_risk: bool,
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
    pub fn load(dir: &Path, schema_source: &dyn SchemaSource) -> Result<Self, PolicyLoadError> {
        let files = policy_directory::read_policy_files(dir)?;
        Self::from_files(&files, schema_source)
    }

    pub(crate) fn from_files(
        files: &[PolicyFile],
        schema_source: &dyn SchemaSource,
    ) -> Result<Self, PolicyLoadError> {
        policy_loader::with_loader_stack(|| {
            let checked = policy_loader::load_policies(files, schema_source)?;
            Ok(Self::compile(policy_directory::compute_version(files), checked, schema_source))
        })
    }

    pub(crate) fn compile(
        version: String,
        checked: Vec<CheckedPolicy>,
        schema_source: &dyn SchemaSource,
    ) -> Self {
        let entity_types = EntityTypes::new();
        let mut set = Self {
            implicit_targets: ImplicitTargets::new(&checked, &entity_types, schema_source),
            version,
            policies: Vec::with_capacity(checked.len()),
            index: ScopeIndex::default(),
            entity_types,
            entity_literals: EntityLiterals::default(),
            distinct_attributes: Vec::new(),
            numbers_by_id: HashMap::new(),
            reads_tags_or_risk: false,
        };
        let mut distinct: HashMap<RequiredAttributes, u32> = HashMap::new();
        for (number, checked) in (0u32..).zip(checked) {
            let index_match =
                set.index.insert(number, &checked.policy, &set.entity_types, &mut set.entity_literals);
            let condition = residual_condition(checked.policy.as_ref(), index_match);
            if let Some(condition) = &condition {
                set.entity_literals.insert_condition_literals(&set.entity_types, condition);
            }
            let required = &checked.attribute_usage.required_attributes;
            set.reads_tags_or_risk |=
                required.reads_tags || required.context.contains(ContextAttribute::Risk);
            // Thousands of policies read a few combinations of attributes; contexts can then be compared by index.
            let attributes_index = *distinct.entry(required.clone()).or_insert_with_key(|new| {
                set.distinct_attributes.push(new.clone());
                // There are at most as many as policies, whose numbers are u32, too.
                set.distinct_attributes.len() as u32 - 1
            });
            set.numbers_by_id.insert(checked.id.clone(), number);
            set.policies.push(CompiledPolicy {
                is_forbid: checked.policy.effect() == Effect::Forbid,
                condition,
                attributes_index,
                names_unknown_operations: names_unknown_operations(&checked.policy),
                named_access_points: named_access_points(&checked.policy, &set.entity_types),
                checked,
            });
        }
        set
    }

    /// The first 16 hex digits of the SHA-256 of the policy files.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The number of policies.
    pub fn len(&self) -> usize {
        self.policies.len()
    }

    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// The approval that overrides the forbid with this id. `None`: there is no such forbid, or it is final.
    pub fn approval_rule(&self, policy_id: &str) -> Option<&ApprovalRule> {
        self.compiled_policy(self.policy_number(policy_id)?)?.checked.approval_rule.as_ref()
    }

    /// Returns true if a policy names one of these groups in `@approval`.
    pub fn has_approvers_among(&self, groups: &[String]) -> bool {
        let mut rules = self.policies.iter().filter_map(|policy| policy.checked.approval_rule.as_ref());
        rules.any(|rule| groups.contains(&rule.group))
    }

    /// Returns true if any policy can require an approval.
    pub fn has_approval_policies(&self) -> bool {
        self.policies.iter().any(|policy| policy.checked.approval_rule.is_some())
    }

    pub(crate) fn compiled_policy(&self, number: u32) -> Option<&CompiledPolicy> {
        self.policies.get(number as usize)
    }

    pub(crate) fn checked_policies(&self) -> impl Iterator<Item = &CheckedPolicy> {
        self.policies.iter().map(|policy| &policy.checked)
    }

    pub(crate) fn name_references(&self) -> impl Iterator<Item = &NameReference> {
        self.policies.iter().flat_map(|policy| &policy.checked.name_references)
    }

    pub(crate) fn policy_number(&self, policy_id: &str) -> Option<u32> {
        self.numbers_by_id.get(policy_id).copied()
    }
}

fn names_unknown_operations(policy: &Policy) -> bool {
    let is_unknown = |action: &EntityUid| is_unknown_operation_action(action.id().unescaped());
    match policy.action_constraint() {
        ActionConstraint::Any => false,
        ActionConstraint::Eq(action) => is_unknown(&action),
        ActionConstraint::In(actions) => actions.iter().any(is_unknown),
    }
}

/// The access points of the resources that a policy names, in its scope or in its condition.
fn named_access_points(policy: &Policy, types: &EntityTypes) -> Vec<String> {
    let literals = policy.entity_literals();
    let resources = literals
        .iter()
        .filter(|uid| types.kind_of(uid.as_ref().entity_type()) == Some(EntityKind::AwsResource));
    resources.filter_map(|uid| access_point_of(uid.id().unescaped()).map(str::to_owned)).collect()
}

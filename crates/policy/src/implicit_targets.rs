//! What a request may be about beside what it says. A forbid that names a resource exactly holds also for a request that may be
//! about this resource and does not say: it names it by a pattern, by another name, among its parameters, or not at all where its
//! action may be on resources of this kind. A permit is for what is named.

use crate::{
    entities::split_arn,
    entity_literals::{EntityKind, EntityTypes},
    policy_loader::CheckedPolicy,
    schema_source::{SchemaSource, UnnamedResource, is_creation_operation},
};
use cedar_policy::Effect;
use durward_core::{AccessLevel, Arn, Operation, RequiredPermission, Resource, arn_may_match};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The resources that forbids name exactly.
#[derive(Debug, Default)]
pub(crate) struct ImplicitTargets {
    forbidden_resources: BTreeMap<String, ForbiddenResource>,
    exempt_actions: Vec<ExemptActions>,
}

#[derive(Debug)]
struct ForbiddenResource {
    /// Which of `kinds` it is.
    exempt_actions_index: usize,
    /// The numbers of the forbids that name it.
    forbid_numbers: Vec<u32>,
}

/// The actions of a service that are not about what there is of a kind of its resources, when they name none.
#[derive(Debug)]
struct ExemptActions {
    creating_actions: HashSet<String>,
    unrelated_actions: HashSet<String>,
}

impl ImplicitTargets {
    pub(crate) fn new(
        policies: &[CheckedPolicy],
        types: &EntityTypes,
        vocabulary: &dyn SchemaSource,
    ) -> Self {
        let mut made = Self::default();
        let mut kinds: HashMap<(String, String), usize> = HashMap::new();
        let forbids =
            (0u32..).zip(policies).filter(|(_number, checked)| checked.policy.effect() == Effect::Forbid);
        let named = forbids.flat_map(|(number, checked)| {
            checked.policy.entity_literals().into_iter().map(move |uid| (number, uid))
        });
        for (number, uid) in named {
            let arn = uid.id().unescaped();
            let is_resource = types.kind_of(uid.as_ref().entity_type()) == Some(EntityKind::AwsResource);
            let Some(parts) = split_arn(arn).filter(|_| is_resource) else { continue };
            let kind = (parts.service.to_owned(), parts.resource_type.to_owned());
            let kind = *kinds.entry(kind).or_insert_with(|| {
                made.exempt_actions.push(ExemptActions::of_resource_kind(
                    parts.service,
                    parts.resource_type,
                    vocabulary,
                ));
                made.exempt_actions.len() - 1
            });
            let exact = made.forbidden_resources.entry(arn.to_owned());
            exact
                .or_insert_with(|| ForbiddenResource {
                    exempt_actions_index: kind,
                    forbid_numbers: Vec::new(),
                })
                .forbid_numbers
                .push(number);
        }
        made
    }

    /// The resources that the parameters of an operation name, wherever.
    pub(crate) fn find_mentioned(&self, parameters: &Value) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        if !self.forbidden_resources.is_empty() {
            self.collect_mentioned(parameters, &mut found);
        }
        found
    }

    fn collect_mentioned<'a>(&'a self, value: &Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::String(text) => {
                found.extend(self.forbidden_resources.get_key_value(text).map(|(arn, _)| arn.as_str()))
            }
            Value::Array(items) => items.iter().for_each(|item| self.collect_mentioned(item, found)),
            Value::Object(members) => {
                members.values().for_each(|member| self.collect_mentioned(member, found))
            }
            _ => {}
        }
    }

    /// The resources that this part of an operation may be about beside the one it names.
    pub(crate) fn find_targets<'a>(
        &'a self,
        operation: &Operation,
        demand: &RequiredPermission,
        mentioned: &BTreeSet<&str>,
    ) -> Vec<&'a str> {
        let asked = match &demand.resource {
            Resource::Arn(asked) => Some(asked.as_str()),
            Resource::Any => None,
            Resource::McpTool { .. } | Resource::McpServer(_) => return Vec::new(),
        };
        let may_be = |arn: &str, exact: &ForbiddenResource| {
            let kind = self.exempt_actions.get(exact.exempt_actions_index);
            asked != Some(arn)
                && (mentioned.contains(arn)
                    || kind.is_some_and(|kind| kind.may_match(arn, asked, operation, demand)))
        };
        let possible = self.forbidden_resources.iter().filter(|(arn, exact)| may_be(arn, exact));
        possible.map(|(arn, _exact)| arn.as_str()).collect()
    }

    /// Whether a policy is one of the forbids that name this resource, or the bucket that it is in.
    pub(crate) fn is_named_by(&self, exact: &str, number: u32) -> bool {
        let names = |arn: &str| {
            self.forbidden_resources.get(arn).is_some_and(|exact| exact.forbid_numbers.contains(&number))
        };
        names(exact)
            || split_arn(exact).and_then(|parts| parts.bucket).is_some_and(|(bucket, _)| names(bucket))
    }
}

impl ExemptActions {
    fn of_resource_kind(service: &str, kind: &str, vocabulary: &dyn SchemaSource) -> Self {
        let mut made = Self { creating_actions: HashSet::new(), unrelated_actions: HashSet::new() };
        for action in vocabulary.service_actions(service) {
            match vocabulary.classify_unnamed_resource(&action, kind) {
                // What a bucket holds is in it, and forbidden with it.
                UnnamedResource::Unrelated
                    if kind == "bucket"
                        && vocabulary.classify_unnamed_resource(&action, "object")
                            == UnnamedResource::AnyExisting => {}
                UnnamedResource::AnyExisting => {}
                UnnamedResource::Created => {
                    made.creating_actions.insert(action);
                }
                UnnamedResource::Unrelated => {
                    made.unrelated_actions.insert(action);
                }
            }
        }
        made
    }

    /// Whether this part of an operation, which asks for something else or for nothing by name, may be about this resource.
    fn may_match(
        &self,
        exact: &str,
        asked: Option<&str>,
        operation: &Operation,
        demand: &RequiredPermission,
    ) -> bool {
        let makes = self.creating_actions.contains(&demand.action);
        match asked {
            Some(asked) => {
                arn_may_match(asked, exact)
                    && !(makes && matches_any_of_kind(asked))
                    && !creates_alias(demand, asked)
            }
            None => {
                is_in_account_and_region(exact, operation, demand)
                    && !makes
                    && !self.unrelated_actions.contains(&demand.action)
                    && !tags_created_resource(operation, demand)
            }
        }
    }
}

/// The same action on another resource.
pub(crate) fn with_resource(demand: &RequiredPermission, arn: &str) -> RequiredPermission {
    RequiredPermission { resource: Resource::Arn(arn.to_owned()), ..demand.clone() }
}

/// An alias that is being made stands for no key yet.
fn creates_alias(demand: &RequiredPermission, asked: &str) -> bool {
    demand.action == "kms:CreateAlias" && split_arn(asked).is_some_and(|parts| parts.resource_type == "alias")
}

/// `instance/*`: any of its kind.
fn matches_any_of_kind(arn: &str) -> bool {
    split_arn(arn).is_some_and(|parts| parts.resource_name == "*")
}

/// Whether an action that names no resource may be about this one: its service's, in its account and region. A ciphertext may
/// be under a key of any account, and under a multi-Region key of any region.
fn is_in_account_and_region(exact: &str, operation: &Operation, demand: &RequiredPermission) -> bool {
    let Some(exact) = Arn::parse(exact) else { return false };
    if exact.service == "kms" && demand.action.starts_with("kms:") {
        let ours = operation.region.as_deref().is_none_or(|ours| ours == exact.region);
        return ours || exact.resource.starts_with("key/mrk-");
    }
    let same = |theirs: &str, ours: &Option<String>| {
        theirs.is_empty() || ours.as_deref().is_none_or(|ours| ours == theirs)
    };
    demand.action.split(':').next() == Some(exact.service)
        && same(exact.account, &operation.account)
        && same(exact.region, &operation.region)
}

/// Whether this part of an operation gives tags to what another part makes (`TagSpecifications` of EC2).
fn tags_created_resource(operation: &Operation, demand: &RequiredPermission) -> bool {
    let is_part = demand.action.split_once(':').is_some_and(|(_service, name)| name != operation.name);
    demand.access_level == AccessLevel::Tagging && is_part && is_creation_operation(&operation.name)
}

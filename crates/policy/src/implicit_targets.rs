//! The resources that a request may affect although it does not name them.
//!
//! A forbid that names a resource exactly holds also for a request that may affect this resource and does not say so: the request
//! names it by a pattern, by another name, among its parameters, or not at all where its action may affect resources of this type.
//! Otherwise an agent evades `resource == <ARN>` by writing an alias. A permit covers only the resource that the request names.
//!
//! The same holds for an MCP tool whose name differs from a forbidden one only in case or blanks: servers may ignore both.
//!
//! docs/adr/0002-forbids-on-exact-arns.md has the reasons.

use crate::{
    arn_parts::split_arn,
    creation_operations::is_creation_operation,
    entity_literals::{EntityKind, EntityTypes},
    policy_loader::CheckedPolicy,
    schema_source::{SchemaSource, UnnamedResource},
};
use cedar_policy::Effect;
use durward_core::{AccessLevel, Arn, Operation, RequiredPermission, Resource, arn_may_match};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The resources that forbids name exactly.
#[derive(Debug, Default)]
pub(crate) struct ImplicitTargets {
    /// By their ARNs.
    forbidden_resources: BTreeMap<String, ForbiddenResource>,
    /// One for each resource type among the forbidden resources.
    exempt_actions: Vec<ExemptActions>,
    /// The forbidden tools (`<server>/<tool>`), by their ids without case and blanks.
    forbidden_tools: BTreeMap<String, BTreeMap<String, Vec<u32>>>,
}

#[derive(Debug)]
struct ForbiddenResource {
    /// The index of its type among `exempt_actions`.
    exempt_actions_index: usize,
    /// The numbers of the forbids that name it.
    forbid_numbers: Vec<u32>,
}

/// The actions of a service that do not affect existing resources of a type when they name none.
#[derive(Debug)]
struct ExemptActions {
    creating_actions: HashSet<String>,
    unrelated_actions: HashSet<String>,
}

impl ImplicitTargets {
    pub(crate) fn new(
        policies: &[CheckedPolicy],
        types: &EntityTypes,
        schema_source: &dyn SchemaSource,
    ) -> Self {
        let mut targets = Self::default();
        let mut indexes_by_type: HashMap<(String, String), usize> = HashMap::new();
        let forbids =
            (0u32..).zip(policies).filter(|(_number, checked)| checked.policy.effect() == Effect::Forbid);
        let literals = forbids.flat_map(|(number, checked)| {
            checked.policy.entity_literals().into_iter().map(move |uid| (number, uid))
        });
        for (number, uid) in literals {
            let arn = uid.id().unescaped();
            let kind = types.kind_of(uid.as_ref().entity_type());
            if kind == Some(EntityKind::McpTool) {
                let same_without_case = targets.forbidden_tools.entry(fold_tool_id(arn)).or_default();
                same_without_case.entry(arn.to_owned()).or_default().push(number);
                continue;
            }
            let is_resource = kind == Some(EntityKind::AwsResource);
            let Some(parts) = split_arn(arn).filter(|_| is_resource) else { continue };
            let resource_type = (parts.service.to_owned(), parts.resource_type.to_owned());
            let exempt_actions_index = *indexes_by_type.entry(resource_type).or_insert_with(|| {
                targets.exempt_actions.push(ExemptActions::of_resource_type(
                    parts.service,
                    parts.resource_type,
                    schema_source,
                ));
                targets.exempt_actions.len() - 1
            });
            targets
                .forbidden_resources
                .entry(arn.to_owned())
                .or_insert_with(|| ForbiddenResource { exempt_actions_index, forbid_numbers: Vec::new() })
                .forbid_numbers
                .push(number);
        }
        targets
    }

    /// The forbidden resources whose ARNs are anywhere among the parameters of an operation.
    pub(crate) fn find_mentioned(&self, parameters: &Value) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        // A policy set without such forbids pays nothing (docs/adr/0002).
        if !self.forbidden_resources.is_empty() {
            self.collect_mentioned(parameters, &mut found);
        }
        found
    }

    fn collect_mentioned<'a>(&'a self, value: &Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::String(text) => {
                found.extend(self.forbidden_resources.get_key_value(text).map(|(arn, _)| arn.as_str()));
            }
            Value::Array(items) => items.iter().for_each(|item| self.collect_mentioned(item, found)),
            Value::Object(members) => {
                members.values().for_each(|member| self.collect_mentioned(member, found));
            }
            _ => {}
        }
    }

    /// The forbidden resources that an operation may affect by this permission, beside the one that the permission names.
    pub(crate) fn find_targets<'a>(
        &'a self,
        operation: &Operation,
        permission: &RequiredPermission,
        mentioned: &BTreeSet<&str>,
    ) -> Vec<&'a str> {
        let named = match &permission.resource {
            Resource::Arn(arn) => Some(arn.as_str()),
            Resource::Any => None,
            Resource::McpTool { server, name } => return self.find_similar_tools(server, name),
            Resource::McpServer(_) => return Vec::new(),
        };
        let may_be_affected = |arn: &str, forbidden: &ForbiddenResource| {
            let exempt = self.exempt_actions.get(forbidden.exempt_actions_index);
            named != Some(arn)
                && (mentioned.contains(arn)
                    || exempt.is_some_and(|exempt| exempt.may_affect(arn, named, operation, permission)))
        };
        self.forbidden_resources
            .iter()
            .filter(|(arn, forbidden)| may_be_affected(arn, forbidden))
            .map(|(arn, _forbidden)| arn.as_str())
            .collect()
    }

    /// The forbidden tools whose names differ from this one only in case or blanks.
    fn find_similar_tools(&self, server: &str, name: &str) -> Vec<&str> {
        if self.forbidden_tools.is_empty() {
            return Vec::new();
        }
        let id = format!("{server}/{name}");
        let similar = self.forbidden_tools.get(&fold_tool_id(&id)).into_iter().flatten();
        similar.map(|(forbidden, _)| forbidden.as_str()).filter(|forbidden| *forbidden != id).collect()
    }

    /// Returns true if a policy is one of the forbids that name this resource, or the bucket that the resource is in.
    pub(crate) fn is_named_by(&self, target: &str, policy_number: u32) -> bool {
        let names = |arn: &str| {
            self.forbidden_resources
                .get(arn)
                .is_some_and(|forbidden| forbidden.forbid_numbers.contains(&policy_number))
        };
        let names_tool = || {
            let tools = self.forbidden_tools.get(&fold_tool_id(target));
            let numbers = tools.and_then(|tools| tools.get(target));
            numbers.is_some_and(|numbers| numbers.contains(&policy_number))
        };
        names(target)
            || names_tool()
            || split_arn(target).and_then(|parts| parts.bucket).is_some_and(|(bucket, _)| names(bucket))
    }
}

impl ExemptActions {
    fn of_resource_type(service: &str, resource_type: &str, schema_source: &dyn SchemaSource) -> Self {
        let mut exempt = Self { creating_actions: HashSet::new(), unrelated_actions: HashSet::new() };
        for action in schema_source.service_actions(service) {
            match schema_source.classify_unnamed_resource(&action, resource_type) {
                // An object is in its bucket: a forbid on the bucket covers it.
                UnnamedResource::Unrelated
                    if resource_type == "bucket"
                        && schema_source.classify_unnamed_resource(&action, "object")
                            == UnnamedResource::AnyExisting => {}
                UnnamedResource::AnyExisting => {}
                UnnamedResource::Created => {
                    exempt.creating_actions.insert(action);
                }
                UnnamedResource::Unrelated => {
                    exempt.unrelated_actions.insert(action);
                }
            }
        }
        exempt
    }

    /// Returns true if an operation may affect the resource `target` by a permission that names another resource, or none.
    fn may_affect(
        &self,
        target: &str,
        named: Option<&str>,
        operation: &Operation,
        permission: &RequiredPermission,
    ) -> bool {
        let creates = self.creating_actions.contains(&permission.action);
        match named {
            Some(named) => {
                arn_may_match(named, target)
                    && !(creates && names_any_of_type(named))
                    && !creates_alias(permission, named)
            }
            None => {
                is_in_account_and_region(target, operation, permission)
                    && !creates
                    && !self.unrelated_actions.contains(&permission.action)
                    && !tags_created_resource(operation, permission)
            }
        }
    }
}

/// The same action on another resource: an ARN, or a tool for a permission on a tool.
pub(crate) fn with_resource(permission: &RequiredPermission, target: &str) -> RequiredPermission {
    let resource = match (&permission.resource, target.split_once('/')) {
        (Resource::McpTool { .. }, Some((server, name))) => {
            Resource::McpTool { server: server.to_owned(), name: name.to_owned() }
        }
        _ => Resource::Arn(target.to_owned()),
    };
    RequiredPermission { resource, ..permission.clone() }
}

/// The id of a tool as a server reads it that ignores case and blanks.
fn fold_tool_id(id: &str) -> String {
    // Upper case first: that also folds letters such as `ſ` and the Kelvin sign.
    id.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_uppercase().to_lowercase()
}

/// Returns true if the operation creates the alias `named`, which is the name of no key yet.
fn creates_alias(permission: &RequiredPermission, named: &str) -> bool {
    permission.action == "kms:CreateAlias"
        && split_arn(named).is_some_and(|parts| parts.resource_type == "alias")
}

/// Returns true if an ARN names any resource of its type, as in `instance/*`.
fn names_any_of_type(arn: &str) -> bool {
    split_arn(arn).is_some_and(|parts| parts.resource_name == "*")
}

/// Returns true if an action that names no resource may affect this one: a resource of the action's service, in the account and
/// region of the operation.
fn is_in_account_and_region(target: &str, operation: &Operation, permission: &RequiredPermission) -> bool {
    let Some(target) = Arn::parse(target) else { return false };
    // `Decrypt` names no key: the ciphertext does, and it may be of any account. A multi-Region key has replicas that decrypt in
    // other regions (KMS Developer Guide, "Multi-Region keys").
    if target.service == "kms" && permission.action.starts_with("kms:") {
        let is_same_region = operation.region.as_deref().is_none_or(|region| region == target.region);
        return is_same_region || target.resource.starts_with("key/mrk-");
    }
    // A field that the ARN or the operation lacks excludes nothing.
    let may_equal = |in_arn: &str, in_operation: &Option<String>| {
        in_arn.is_empty() || in_operation.as_deref().is_none_or(|in_operation| in_operation == in_arn)
    };
    permission.action.split(':').next() == Some(target.service)
        && may_equal(target.account, &operation.account)
        && may_equal(target.region, &operation.region)
}

/// Returns true if a permission tags the resource that the operation creates. EC2 checks `ec2:CreateTags` for the
/// `TagSpecifications` of `RunInstances` (EC2 User Guide, "Grant permission to tag Amazon EC2 resources during creation").
fn tags_created_resource(operation: &Operation, permission: &RequiredPermission) -> bool {
    let is_other_action =
        permission.action.split_once(':').is_some_and(|(_service, name)| name != operation.name);
    permission.access_level == AccessLevel::Tagging
        && is_other_action
        && is_creation_operation(&operation.name)
}

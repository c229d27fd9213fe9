//! What policy needs to know of AWS: which actions exist and what their requests carry.
//!
//! The catalog implements it; tests use a small table. Policy asks only for the actions a policy set names,
//! so that loading does not grow with the catalog.

use crate::entities::split_arn;
use durward_catalog::{ArnTemplate, Catalog, ServiceModel, ShapeId, ShapeKind};
use durward_core::{AccessLevel, OperationTraits};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The Cedar type of a request parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParameterType {
    String,
    Bool,
    Long,
    Set(Box<ParameterType>),
    Record(BTreeMap<String, ParameterType>),
}

impl ParameterType {
    /// The type in Cedar's JSON schema format. Every attribute of a record is optional.
    pub(crate) fn to_schema(&self) -> Value {
        match self {
            Self::String => json!({ "type": "String" }),
            Self::Bool => json!({ "type": "Boolean" }),
            Self::Long => json!({ "type": "Long" }),
            Self::Set(element) => json!({ "type": "Set", "element": element.to_schema() }),
            Self::Record(members) => record_schema(members),
        }
    }

    /// The type that fits both: records are merged member by member. None where they conflict.
    pub fn merge(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Record(left), Self::Record(right)) => Some(Self::Record(merge_records(left, right))),
            (Self::Set(left), Self::Set(right)) => Some(Self::Set(Box::new(left.merge(right)?))),
            (left, right) => (left == right).then(|| left.clone()),
        }
    }
}

/// All members of both; a member whose types conflict is left out, so that no policy can read it.
pub fn merge_records(
    left: &BTreeMap<String, ParameterType>,
    right: &BTreeMap<String, ParameterType>,
) -> BTreeMap<String, ParameterType> {
    let mut merged = BTreeMap::new();
    for (name, kind) in left {
        match right.get(name) {
            None => {
                merged.insert(name.clone(), kind.clone());
            }
            Some(other) => {
                if let Some(both) = kind.merge(other) {
                    merged.insert(name.clone(), both);
                }
            }
        }
    }
    for (name, kind) in right {
        if !left.contains_key(name) {
            merged.insert(name.clone(), kind.clone());
        }
    }
    merged
}

pub(crate) fn record_schema(members: &BTreeMap<String, ParameterType>) -> Value {
    let mut attributes = Map::new();
    for (name, kind) in members {
        let mut schema = kind.to_schema();
        if let Value::Object(fields) = &mut schema {
            fields.insert("required".to_owned(), Value::Bool(false));
        }
        attributes.insert(name.clone(), schema);
    }
    json!({ "type": "Record", "attributes": attributes })
}

/// What policy needs to know of AWS.
pub trait SchemaSource: Send + Sync {
    /// The access level of an IAM action (`s3:GetObject`); none: there is no such action.
    fn access_level(&self, action: &str) -> Option<AccessLevel>;
    /// Every action of an IAM service prefix (`s3`); empty: there is no such service.
    fn service_actions(&self, prefix: &str) -> Vec<String>;
    /// What a request for an action that does not name its resource is to resources of this kind (`table`, `role`).
    fn classify_unnamed_resource(&self, action: &str, kind: &str) -> UnnamedResource;
    /// The known action most like a misspelt one.
    fn closest_action(&self, action: &str) -> Option<String>;
    /// The request parameters of all operations that need the action, merged.
    fn request_parameters(&self, action: &str) -> BTreeMap<String, ParameterType>;
    /// The operation that an action stands for in policy tests and explanations: its name and traits.
    fn representative_operation(&self, action: &str) -> Option<(String, OperationTraits)>;
}

/// What a request that does not name its resource is to resources of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnnamedResource {
    /// It may be about any that is there. So too where nobody knows.
    AnyExisting,
    /// It makes a new one.
    Created,
    /// It is not about this kind.
    Unrelated,
}

/// Whether an action makes resources of a kind, as its name says (`CreateVpc`, `RunInstances`), or beside what it says.
fn creates_resource_kind(action: &str, kind: &str) -> bool {
    if action == "ec2:RunInstances" && ["volume", "network-interface"].contains(&kind) {
        return true;
    }
    let name = action.split_once(':').map_or(action, |(_service, name)| name);
    let Some(noun) = CREATION_VERBS.iter().find_map(|verb| name.strip_prefix(verb)) else { return false };
    let (noun, kind) = (noun.to_lowercase(), kind.replace(['-', '_'], "").to_lowercase());
    noun == kind || noun.strip_suffix('s') == Some(&kind) || kind.strip_suffix('s') == Some(&noun)
}

/// `Restore`, `Copy` and `Import` are not here: they are about what there is, too.
const CREATION_VERBS: [&str; 6] = ["Create", "Run", "Allocate", "Register", "Request", "Launch"];

/// Whether an operation makes something.
pub(crate) fn is_creation_operation(operation: &str) -> bool {
    CREATION_VERBS.iter().any(|verb| operation.starts_with(verb))
}

/// How deep structures of a request are offered to policies.
const MAX_SCHEMA_DEPTH: usize = 3;

impl SchemaSource for Catalog {
    fn access_level(&self, action: &str) -> Option<AccessLevel> {
        self.access_level_of(action)
    }

    fn service_actions(&self, prefix: &str) -> Vec<String> {
        Catalog::actions_of(self, prefix).map(|(action, _)| action).collect()
    }

    fn classify_unnamed_resource(&self, action: &str, kind: &str) -> UnnamedResource {
        let Some(uses) = self.required_actions_for(action) else { return UnnamedResource::AnyExisting };
        if uses.iter().any(|needed| needed.has_resource_level_permissions && needed.resources.is_empty()) {
            return UnnamedResource::AnyExisting;
        }
        let templates: Vec<&ArnTemplate> = uses.iter().flat_map(|needed| &needed.resources).collect();
        let can_be_named =
            |one: &&ArnTemplate| !one.placeholder_members.is_empty() || one.arn_member.is_some();
        let is_of_kind = |one: &&&ArnTemplate| {
            split_arn(&one.template)
                .is_none_or(|parts| parts.resource_type == kind || parts.resource_type.contains(['*', '$']))
        };
        let mut of_kind = templates.iter().filter(is_of_kind);
        if creates_resource_kind(action, kind) && !of_kind.clone().any(can_be_named) {
            return UnnamedResource::Created;
        }
        if of_kind.next().is_none() {
            // Where the catalog cannot tell what a request names, it does not tell all kinds either.
            let only_looks = self.access_level_of(action).is_some_and(|level| level <= AccessLevel::Read);
            let all_told = templates.iter().all(can_be_named);
            return if only_looks || all_told {
                UnnamedResource::Unrelated
            } else {
                UnnamedResource::AnyExisting
            };
        }
        UnnamedResource::AnyExisting
    }

    fn closest_action(&self, action: &str) -> Option<String> {
        self.nearest_action(action)
    }

    fn request_parameters(&self, action: &str) -> BTreeMap<String, ParameterType> {
        let mut merged = BTreeMap::new();
        let mut conflicting = Vec::new();
        for (service, operation) in self.operations_needing(action) {
            let Some(service) = self.service(&service) else { continue };
            let Some(input) = service.operation(&operation).and_then(|operation| operation.input_shape)
            else {
                continue;
            };
            let members = record_members(&service, input, MAX_SCHEMA_DEPTH);
            // A name dropped for a conflict must stay dropped when a third operation has it too.
            conflicting.extend(
                members
                    .iter()
                    .filter(|(name, kind)| {
                        merged.get(*name).is_some_and(|known: &ParameterType| known.merge(kind).is_none())
                    })
                    .map(|(name, _)| name.clone()),
            );
            merged = merge_records(&merged, &members);
        }
        merged.retain(|name, _| !conflicting.contains(name));
        merged
    }

    fn representative_operation(&self, action: &str) -> Option<(String, OperationTraits)> {
        let users = self.operations_needing(action);
        let name = action.split_once(':').map_or(action, |(_, name)| name);
        let (service, operation) = users.iter().find(|(_, operation)| operation == name).or(users.first())?;
        let service = self.service(service)?;
        let operation = service.operation(operation)?;
        Some((operation.name.clone(), operation.traits))
    }
}

/// The members of a structure that have a Cedar type. Decoded timestamps, blobs, floats, documents, maps and lists of
/// structures have none: a policy that names them does not validate.
fn record_members(service: &ServiceModel, shape: ShapeId, depth: usize) -> BTreeMap<String, ParameterType> {
    let members = service.structure_members(shape).iter();
    members
        .filter_map(|member| Some((member.name.clone(), parameter_type(service, member.shape, depth)?)))
        .collect()
}

fn parameter_type(service: &ServiceModel, shape: ShapeId, depth: usize) -> Option<ParameterType> {
    match &service.shape(shape)?.kind {
        ShapeKind::String => Some(ParameterType::String),
        ShapeKind::Boolean => Some(ParameterType::Bool),
        ShapeKind::Integer | ShapeKind::Long => Some(ParameterType::Long),
        ShapeKind::List { member, .. } => match parameter_type(service, *member, 0)? {
            ParameterType::Record(_) => None,
            scalar => Some(ParameterType::Set(Box::new(scalar))),
        },
        ShapeKind::Structure { .. } if depth > 0 => {
            Some(ParameterType::Record(record_members(service, shape, depth - 1)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classifies_requests_that_name_no_resource() {
        use UnnamedResource::{AnyExisting, Created, Unrelated};
        let catalog = Catalog::embedded();
        for (action, kind, expected) in [
            ("kms:Decrypt", "key", AnyExisting),
            ("secretsmanager:BatchGetSecretValue", "secret", Unrelated),
            ("secretsmanager:GetSecretValue", "secret", AnyExisting),
            ("ec2:DeleteSecurityGroup", "security-group", AnyExisting),
            ("ec2:DeleteSecurityGroup", "instance", Unrelated),
            ("ec2:RunInstances", "instance", Created),
            ("ec2:RunInstances", "volume", Created),
            ("ec2:RunInstances", "security-group", AnyExisting),
            ("ec2:CreateFleet", "launch-template", AnyExisting),
            ("ec2:CreateTags", "instance", AnyExisting),
            ("ec2:DescribeInstances", "instance", Unrelated),
            ("elasticfilesystem:CreateFileSystem", "file-system", Created),
            ("elasticfilesystem:DeleteFileSystem", "file-system", AnyExisting),
            ("iam:PassRole", "role", AnyExisting),
            ("cloudformation:DescribeStacks", "stack", AnyExisting),
            ("ds:RestoreFromSnapshot", "directory", AnyExisting),
            ("rds:CreateIntegration", "cluster", AnyExisting),
            ("rds:CreateBlueGreenDeployment", "db", AnyExisting),
            ("datasync:CreateTask", "location", AnyExisting),
            ("datasync:CreateTask", "task", Created),
            ("redshift:CopyClusterSnapshot", "snapshot", AnyExisting),
            ("s3:ListAllMyBuckets", "bucket", Unrelated),
            ("s3:GetObject", "object", AnyExisting),
            ("s3:*unknown*", "bucket", AnyExisting),
            ("dynamodb:ListTables", "table", Unrelated),
        ] {
            assert_eq!(catalog.classify_unnamed_resource(action, kind), expected, "{action} {kind}");
        }
    }
}

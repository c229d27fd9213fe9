//! What policy needs to know of AWS: which actions exist and what their requests carry.
//!
//! The catalog implements it; tests use a small table. Policy asks only for the actions a policy set names,
//! so that loading does not grow with the catalog.

use crate::entities::arn_parts;
use durward_catalog::{ArnTemplate, Catalog, Service, ShapeId, ShapeKind};
use durward_core::{AccessLevel, Traits};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The Cedar type of a request parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParamType {
    String,
    Bool,
    Long,
    Set(Box<ParamType>),
    Record(BTreeMap<String, ParamType>),
}

impl ParamType {
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
    left: &BTreeMap<String, ParamType>,
    right: &BTreeMap<String, ParamType>,
) -> BTreeMap<String, ParamType> {
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

pub(crate) fn record_schema(members: &BTreeMap<String, ParamType>) -> Value {
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
pub trait Vocabulary: Send + Sync {
    /// The access level of an IAM action (`s3:GetObject`); none: there is no such action.
    fn access_level(&self, action: &str) -> Option<AccessLevel>;
    /// Every action of an IAM service prefix (`s3`); empty: there is no such service.
    fn actions_of(&self, prefix: &str) -> Vec<String>;
    /// What a request for an action that does not name its resource is to resources of this kind (`table`, `role`).
    fn unnamed(&self, action: &str, kind: &str) -> Unnamed;
    /// The known action most like a misspelt one.
    fn nearest(&self, action: &str) -> Option<String>;
    /// The request parameters of all operations that need the action, merged.
    fn params(&self, action: &str) -> BTreeMap<String, ParamType>;
    /// The operation that an action stands for in policy tests and explanations: its name and traits.
    fn operation(&self, action: &str) -> Option<(String, Traits)>;
}

/// What a request that does not name its resource is to resources of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unnamed {
    /// It may be about any that is there. So too where nobody knows.
    Possible,
    /// It makes a new one.
    Made,
    /// It is not about this kind.
    Elsewhere,
}

/// Whether an action makes resources of a kind, as its name says (`CreateVpc`, `RunInstances`), or beside what it says.
fn makes(action: &str, kind: &str) -> bool {
    if action == "ec2:RunInstances" && ["volume", "network-interface"].contains(&kind) {
        return true;
    }
    let name = action.split_once(':').map_or(action, |(_service, name)| name);
    let Some(noun) = VERBS_OF_MAKING.iter().find_map(|verb| name.strip_prefix(verb)) else { return false };
    let (noun, kind) = (noun.to_lowercase(), kind.replace(['-', '_'], "").to_lowercase());
    noun == kind || noun.strip_suffix('s') == Some(&kind) || kind.strip_suffix('s') == Some(&noun)
}

/// `Restore`, `Copy` and `Import` are not here: they are about what there is, too.
const VERBS_OF_MAKING: [&str; 6] = ["Create", "Run", "Allocate", "Register", "Request", "Launch"];

/// Whether an operation makes something.
pub(crate) fn is_making(operation: &str) -> bool {
    VERBS_OF_MAKING.iter().any(|verb| operation.starts_with(verb))
}

/// How deep structures of a request are offered to policies.
const DEPTH: usize = 3;

impl Vocabulary for Catalog {
    fn access_level(&self, action: &str) -> Option<AccessLevel> {
        self.action(action)
    }

    fn actions_of(&self, prefix: &str) -> Vec<String> {
        Catalog::actions_of(self, prefix).map(|(action, _)| action).collect()
    }

    fn unnamed(&self, action: &str, kind: &str) -> Unnamed {
        let Some(uses) = self.uses_of(action) else { return Unnamed::Possible };
        if uses.iter().any(|needed| needed.resource_level && needed.resources.is_empty()) {
            return Unnamed::Possible;
        }
        let templates: Vec<&ArnTemplate> = uses.iter().flat_map(|needed| &needed.resources).collect();
        let can_be_named = |one: &&ArnTemplate| !one.fill.is_empty() || one.arn_member.is_some();
        let is_of_kind = |one: &&&ArnTemplate| {
            arn_parts(&one.template).is_none_or(|parts| parts.kind == kind || parts.kind.contains(['*', '$']))
        };
        let mut of_kind = templates.iter().filter(is_of_kind);
        if makes(action, kind) && !of_kind.clone().any(can_be_named) {
            return Unnamed::Made;
        }
        if of_kind.next().is_none() {
            // Where the catalog cannot tell what a request names, it does not tell all kinds either.
            let only_looks = self.action(action).is_some_and(|level| level <= AccessLevel::Read);
            let all_told = templates.iter().all(can_be_named);
            return if only_looks || all_told { Unnamed::Elsewhere } else { Unnamed::Possible };
        }
        Unnamed::Possible
    }

    fn nearest(&self, action: &str) -> Option<String> {
        self.nearest_action(action)
    }

    fn params(&self, action: &str) -> BTreeMap<String, ParamType> {
        let mut merged = BTreeMap::new();
        let mut conflicting = Vec::new();
        for (service, operation) in self.operations_needing(action) {
            let Some(service) = self.service(&service) else { continue };
            let Some(input) = service.operation(&operation).and_then(|operation| operation.input) else {
                continue;
            };
            let members = record(&service, input, DEPTH);
            // A name dropped for a conflict must stay dropped when a third operation has it too.
            conflicting.extend(
                members
                    .iter()
                    .filter(|(name, kind)| {
                        merged.get(*name).is_some_and(|known: &ParamType| known.merge(kind).is_none())
                    })
                    .map(|(name, _)| name.clone()),
            );
            merged = merge_records(&merged, &members);
        }
        merged.retain(|name, _| !conflicting.contains(name));
        merged
    }

    fn operation(&self, action: &str) -> Option<(String, Traits)> {
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
fn record(service: &Service, shape: ShapeId, depth: usize) -> BTreeMap<String, ParamType> {
    let members = service.members(shape).iter();
    members
        .filter_map(|member| Some((member.name.clone(), param_type(service, member.shape, depth)?)))
        .collect()
}

fn param_type(service: &Service, shape: ShapeId, depth: usize) -> Option<ParamType> {
    match &service.shape(shape)?.kind {
        ShapeKind::String => Some(ParamType::String),
        ShapeKind::Boolean => Some(ParamType::Bool),
        ShapeKind::Integer | ShapeKind::Long => Some(ParamType::Long),
        ShapeKind::List { member, .. } => match param_type(service, *member, 0)? {
            ParamType::Record(_) => None,
            scalar => Some(ParamType::Set(Box::new(scalar))),
        },
        ShapeKind::Structure { .. } if depth > 0 => {
            Some(ParamType::Record(record(service, shape, depth - 1)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_names_nothing_may_be_about_what_is_there_and_not_about_what_it_makes() {
        use Unnamed::{Elsewhere, Made, Possible};
        let catalog = Catalog::embedded();
        for (action, kind, expected) in [
            ("kms:Decrypt", "key", Possible),
            ("secretsmanager:BatchGetSecretValue", "secret", Elsewhere),
            ("secretsmanager:GetSecretValue", "secret", Possible),
            ("ec2:DeleteSecurityGroup", "security-group", Possible),
            ("ec2:DeleteSecurityGroup", "instance", Elsewhere),
            ("ec2:RunInstances", "instance", Made),
            ("ec2:RunInstances", "volume", Made),
            ("ec2:RunInstances", "security-group", Possible),
            ("ec2:CreateFleet", "launch-template", Possible),
            ("ec2:CreateTags", "instance", Possible),
            ("ec2:DescribeInstances", "instance", Elsewhere),
            ("elasticfilesystem:CreateFileSystem", "file-system", Made),
            ("elasticfilesystem:DeleteFileSystem", "file-system", Possible),
            ("iam:PassRole", "role", Possible),
            ("cloudformation:DescribeStacks", "stack", Possible),
            ("ds:RestoreFromSnapshot", "directory", Possible),
            ("rds:CreateIntegration", "cluster", Possible),
            ("rds:CreateBlueGreenDeployment", "db", Possible),
            ("datasync:CreateTask", "location", Possible),
            ("datasync:CreateTask", "task", Made),
            ("redshift:CopyClusterSnapshot", "snapshot", Possible),
            ("s3:ListAllMyBuckets", "bucket", Elsewhere),
            ("s3:GetObject", "object", Possible),
            ("s3:*unknown*", "bucket", Possible),
            ("dynamodb:ListTables", "table", Elsewhere),
        ] {
            assert_eq!(catalog.unnamed(action, kind), expected, "{action} {kind}");
        }
    }
}

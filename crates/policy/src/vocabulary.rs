//! What policy needs to know of AWS: which actions exist and what their requests carry.
//!
//! The catalog implements it; tests use a small table. Policy asks only for the actions a policy set names,
//! so that loading does not grow with the catalog.

use crate::entities::arn_parts;
use durward_catalog::{Catalog, Service, ShapeId, ShapeKind};
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
    /// Whether a request for an action that does not name its resource may be about a resource of this kind (`table`, `role`) that
    /// is there already; true where nobody knows.
    fn may_be_on(&self, action: &str, kind: &str) -> bool;
    /// The known action most like a misspelt one.
    fn nearest(&self, action: &str) -> Option<String>;
    /// The request parameters of all operations that need the action, merged.
    fn params(&self, action: &str) -> BTreeMap<String, ParamType>;
    /// The operation that an action stands for in policy tests and explanations: its name and traits.
    fn operation(&self, action: &str) -> Option<(String, Traits)>;
}

/// Whether the name of an action, or of an operation, says that it makes something.
pub(crate) fn makes(name: &str) -> bool {
    let name = name.split_once(':').map_or(name, |(_service, name)| name);
    ["Create", "Run", "Allocate", "Request", "Register", "Import", "Copy", "Restore", "Provision", "Launch"]
        .iter()
        .any(|verb| name.starts_with(verb))
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

    fn may_be_on(&self, action: &str, kind: &str) -> bool {
        let users = self.operations_needing(action);
        let makes = makes(action) && self.action(action) != Some(AccessLevel::Tagging);
        let is_on = |(service, operation): &(String, String)| {
            let service = self.service(service)?;
            let mut uses =
                service.operation(operation)?.actions.iter().filter(|needed| needed.action == action);
            Some(uses.any(|needed| {
                match needed.resources.as_slice() {
                    [] => needed.resource_level,
                    templates => templates
                        .iter()
                        .filter(|one| {
                            arn_parts(&one.template)
                                .is_none_or(|parts| parts.kind == kind || parts.kind.contains(['*', '$']))
                        })
                        // What no request of it can name, it makes.
                        .any(|one| !makes || !one.fill.is_empty() || one.arn_member.is_some()),
                }
            }))
        };
        users.is_empty() || users.iter().any(|user| is_on(user).unwrap_or(true))
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
        let catalog = Catalog::embedded();
        for (action, kind, expected) in [
            ("kms:Decrypt", "key", true),
            ("secretsmanager:BatchGetSecretValue", "secret", false),
            ("secretsmanager:GetSecretValue", "secret", true),
            ("ec2:DeleteSecurityGroup", "security-group", true),
            ("ec2:DeleteSecurityGroup", "instance", false),
            ("ec2:RunInstances", "instance", false),
            ("ec2:RunInstances", "security-group", true),
            ("ec2:CreateTags", "instance", true),
            ("ec2:DescribeInstances", "instance", false),
            ("elasticfilesystem:CreateFileSystem", "file-system", false),
            ("elasticfilesystem:DeleteFileSystem", "file-system", true),
            ("iam:PassRole", "role", true),
            ("cloudformation:DescribeStacks", "stack", true),
            ("s3:ListAllMyBuckets", "bucket", false),
            ("s3:GetObject", "object", true),
            ("s3:*unknown*", "bucket", true),
            ("dynamodb:ListTables", "table", false),
        ] {
            assert_eq!(catalog.may_be_on(action, kind), expected, "{action} {kind}");
        }
    }
}

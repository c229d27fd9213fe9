//! [`SchemaSource`] over the compiled catalog of AWS.

use crate::{
    arn_parts::split_arn,
    creation_operations::creates_resource_type,
    parameter_type::{ParameterType, merge_records},
    schema_source::{SchemaSource, UnnamedResource},
};
use durward_catalog::{ArnTemplate, Catalog, ServiceModel, ShapeId, ShapeKind};
use durward_core::{AccessLevel, OperationTraits};
use std::collections::BTreeMap;

/// The depth to which the structures of a request are offered to policies. AWS's models are recursive (`AttributeValue` of
/// DynamoDB), so the schema must end somewhere.
const MAX_SCHEMA_DEPTH: usize = 3;

impl SchemaSource for Catalog {
    fn access_level(&self, action: &str) -> Option<AccessLevel> {
        self.access_level_of(action)
    }

    fn service_actions(&self, prefix: &str) -> Vec<String> {
        Catalog::actions_of(self, prefix).map(|(action, _)| action).collect()
    }

    fn classify_unnamed_resource(&self, action: &str, resource_type: &str) -> UnnamedResource {
        // Where the catalog cannot tell, the action can affect any resource (docs/adr/0002): a forbid must fail closed.
        let Some(uses) = self.required_actions_for(action) else { return UnnamedResource::AnyExisting };
        if uses.iter().any(|needed| needed.has_resource_level_permissions && needed.resources.is_empty()) {
            return UnnamedResource::AnyExisting;
        }
        let templates: Vec<&ArnTemplate> = uses.iter().flat_map(|needed| &needed.resources).collect();
        let can_be_named = |template: &&ArnTemplate| {
            !template.placeholder_members.is_empty() || template.arn_member.is_some()
        };
        let is_of_type = |template: &&&ArnTemplate| {
            split_arn(&template.template).is_none_or(|parts| {
                parts.resource_type == resource_type || parts.resource_type.contains(['*', '$'])
            })
        };
        let mut of_type = templates.iter().filter(is_of_type);
        if creates_resource_type(action, resource_type) && !of_type.clone().any(can_be_named) {
            return UnnamedResource::Created;
        }
        if of_type.next().is_some() {
            return UnnamedResource::AnyExisting;
        }
        // A template that no request parameter fills is a gap of the catalog. The action may then have further resource types
        // that the catalog lacks as well, so only an action that reads is taken for unrelated.
        let only_reads = self.access_level_of(action).is_some_and(|level| level <= AccessLevel::Read);
        if only_reads || templates.iter().all(can_be_named) {
            UnnamedResource::Unrelated
        } else {
            UnnamedResource::AnyExisting
        }
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
            // A name that is dropped for a conflict must stay dropped when a third operation has it too.
            conflicting.extend(
                members
                    .iter()
                    .filter(|(name, member_type)| {
                        merged
                            .get(*name)
                            .is_some_and(|known: &ParameterType| known.merge(member_type).is_none())
                    })
                    .map(|(name, _)| name.clone()),
            );
            merged = merge_records(&merged, &members);
        }
        merged.retain(|name, _| !conflicting.contains(name));
        merged
    }

    fn representative_operation(&self, action: &str) -> Option<(String, OperationTraits)> {
        let operations = self.operations_needing(action);
        let name = action.split_once(':').map_or(action, |(_, name)| name);
        let (service, operation) =
            operations.iter().find(|(_, operation)| operation == name).or(operations.first())?;
        let service = self.service(service)?;
        let operation = service.operation(operation)?;
        Some((operation.name.clone(), operation.traits))
    }
}

/// The members of a structure that have a Cedar type. Timestamps, blobs, floats, documents, maps and lists of structures have
/// none, so a policy that reads one does not validate.
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
        for (action, resource_type, expected) in [
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
            assert_eq!(
                catalog.classify_unnamed_resource(action, resource_type),
                expected,
                "{action} {resource_type}"
            );
        }
    }
}

//! A small table of AWS actions, callers and operations for the tests of this crate.

use crate::{
    parameter_type::ParameterType,
    schema_source::{SchemaSource, UnnamedResource},
};
use durward_core::{
    AccessLevel, Caller, CallerKind, FrontEndKind, Operation, OperationTraits, RequiredPermission, Resource,
};
use serde_json::Value;
use std::collections::BTreeMap;

pub(crate) struct TestSchemaSource;

const TEST_ACTIONS: [(&str, AccessLevel); 13] = [
    ("s3:ListBucket", AccessLevel::List),
    ("s3:GetObject", AccessLevel::Read),
    ("s3:PutObject", AccessLevel::Write),
    ("s3:DeleteObject", AccessLevel::Write),
    ("s3:DeleteBucket", AccessLevel::Write),
    ("dynamodb:GetItem", AccessLevel::Read),
    ("dynamodb:ListTables", AccessLevel::List),
    ("dynamodb:DeleteTable", AccessLevel::Write),
    ("ec2:RunInstances", AccessLevel::Write),
    ("ec2:CreateTags", AccessLevel::Tagging),
    ("iam:PutRolePolicy", AccessLevel::PermissionsManagement),
    ("kms:Decrypt", AccessLevel::Write),
    ("secretsmanager:GetSecretValue", AccessLevel::Read),
];

impl SchemaSource for TestSchemaSource {
    fn access_level(&self, action: &str) -> Option<AccessLevel> {
        TEST_ACTIONS.iter().find(|(name, _)| *name == action).map(|(_, level)| *level)
    }

    fn service_actions(&self, prefix: &str) -> Vec<String> {
        TEST_ACTIONS
            .iter()
            .filter(|(name, _)| name.split(':').next() == Some(prefix))
            .map(|(name, _)| (*name).to_owned())
            .collect()
    }

    fn classify_unnamed_resource(&self, action: &str, resource_type: &str) -> UnnamedResource {
        match (action, resource_type) {
            ("dynamodb:ListTables", _) | ("s3:GetObject" | "s3:DeleteObject", "bucket") => {
                UnnamedResource::Unrelated
            }
            ("ec2:RunInstances", "instance") => UnnamedResource::Created,
            _ => UnnamedResource::AnyExisting,
        }
    }

    fn closest_action(&self, action: &str) -> Option<String> {
        TEST_ACTIONS
            .iter()
            .map(|(name, _)| *name)
            .find(|name| name.to_lowercase().starts_with(&action.to_lowercase()[..action.len().min(5)]))
            .map(str::to_owned)
    }

    fn request_parameters(&self, action: &str) -> BTreeMap<String, ParameterType> {
        match action.split(':').next() {
            Some("s3") => BTreeMap::from([
                ("Bucket".to_owned(), ParameterType::String),
                ("Key".to_owned(), ParameterType::String),
                ("BypassGovernanceRetention".to_owned(), ParameterType::Bool),
                ("Tags".to_owned(), ParameterType::Set(Box::new(ParameterType::String))),
                (
                    "Owner".to_owned(),
                    ParameterType::Record(BTreeMap::from([("ID".to_owned(), ParameterType::String)])),
                ),
            ]),
            Some("dynamodb") => BTreeMap::from([
                ("TableName".to_owned(), ParameterType::String),
                ("Limit".to_owned(), ParameterType::Long),
            ]),
            _ => BTreeMap::new(),
        }
    }

    fn representative_operation(&self, action: &str) -> Option<(String, OperationTraits)> {
        let name = action.split_once(':')?.1.to_owned();
        let irreversible = name.starts_with("Delete");
        Some((name, OperationTraits { irreversible, ..OperationTraits::default() }))
    }
}

pub(crate) fn test_caller(subject: &str, groups: &[&str]) -> Caller {
    Caller {
        provider: "corp".to_owned(),
        issuer: "https://login.example.com".to_owned(),
        subject: subject.to_owned(),
        kind: CallerKind::Workload,
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        act: vec!["alice".to_owned()],
    }
}

/// An operation that requires one permission for each (action, ARN or `*`).
pub(crate) fn test_operation(permissions: &[(&str, &str)], parameters: Value) -> Operation {
    let first = permissions.first().map_or("", |(action, _)| action);
    let (service, name) = first.split_once(':').unwrap_or_default();
    Operation {
        front_end: FrontEndKind::Aws,
        service: service.to_owned(),
        name: name.to_owned(),
        required_permissions: permissions
            .iter()
            .map(|(action, resource)| RequiredPermission {
                action: (*action).to_owned(),
                resource: match *resource {
                    "*" => Resource::Any,
                    arn => Resource::Arn(arn.to_owned()),
                },
                access_level: TestSchemaSource.access_level(action).unwrap_or(AccessLevel::Write),
            })
            .collect(),
        parameters,
        sensitive_pointers: Vec::new(),
        region: Some("eu-central-1".to_owned()),
        account: Some("123456789012".to_owned()),
        traits: OperationTraits { irreversible: name.starts_with("Delete"), ..OperationTraits::default() },
        uninspected_parts: Vec::new(),
        body_sha256: None,
    }
}

/// A `tools/call`.
pub(crate) fn test_tool_call(server: &str, tool: &str, arguments: Value) -> Operation {
    Operation {
        front_end: FrontEndKind::Mcp,
        service: server.to_owned(),
        name: format!("tools/call {tool}"),
        required_permissions: vec![RequiredPermission {
            action: "tools/call".to_owned(),
            resource: Resource::McpTool { server: server.to_owned(), name: tool.to_owned() },
            access_level: AccessLevel::Write,
        }],
        parameters: arguments,
        sensitive_pointers: Vec::new(),
        region: None,
        account: None,
        traits: OperationTraits::default(),
        uninspected_parts: Vec::new(),
        body_sha256: None,
    }
}

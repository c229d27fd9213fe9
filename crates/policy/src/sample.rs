//! A small vocabulary for tests of this room.

use crate::vocabulary::{ParamType, Unnamed, Vocabulary};
use durward_core::{AccessLevel, Caller, CallerKind, Demand, Door, Operation, Resource, Traits};
use serde_json::Value;
use std::collections::BTreeMap;

pub(crate) struct Small;

const ACTIONS: [(&str, AccessLevel); 13] = [
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

impl Vocabulary for Small {
    fn access_level(&self, action: &str) -> Option<AccessLevel> {
        ACTIONS.iter().find(|(name, _)| *name == action).map(|(_, level)| *level)
    }

    fn actions_of(&self, prefix: &str) -> Vec<String> {
        ACTIONS
            .iter()
            .filter(|(name, _)| name.split(':').next() == Some(prefix))
            .map(|(name, _)| (*name).to_owned())
            .collect()
    }

    fn unnamed(&self, action: &str, kind: &str) -> Unnamed {
        match (action, kind) {
            ("dynamodb:ListTables", _) | ("s3:GetObject" | "s3:DeleteObject", "bucket") => Unnamed::Elsewhere,
            ("ec2:RunInstances", "instance") => Unnamed::Made,
            _ => Unnamed::Possible,
        }
    }

    fn nearest(&self, action: &str) -> Option<String> {
        ACTIONS
            .iter()
            .map(|(name, _)| *name)
            .find(|name| name.to_lowercase().starts_with(&action.to_lowercase()[..action.len().min(5)]))
            .map(str::to_owned)
    }

    fn params(&self, action: &str) -> BTreeMap<String, ParamType> {
        match action.split(':').next() {
            Some("s3") => BTreeMap::from([
                ("Bucket".to_owned(), ParamType::String),
                ("Key".to_owned(), ParamType::String),
                ("BypassGovernanceRetention".to_owned(), ParamType::Bool),
                ("Tags".to_owned(), ParamType::Set(Box::new(ParamType::String))),
                (
                    "Owner".to_owned(),
                    ParamType::Record(BTreeMap::from([("ID".to_owned(), ParamType::String)])),
                ),
            ]),
            Some("dynamodb") => BTreeMap::from([
                ("TableName".to_owned(), ParamType::String),
                ("Limit".to_owned(), ParamType::Long),
            ]),
            _ => BTreeMap::new(),
        }
    }

    fn operation(&self, action: &str) -> Option<(String, Traits)> {
        let name = action.split_once(':')?.1.to_owned();
        let irreversible = name.starts_with("Delete");
        Some((name, Traits { irreversible, ..Traits::default() }))
    }
}

pub(crate) fn caller(subject: &str, groups: &[&str]) -> Caller {
    Caller {
        provider: "corp".to_owned(),
        issuer: "https://login.example.com".to_owned(),
        subject: subject.to_owned(),
        kind: CallerKind::Workload,
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        act: vec!["alice".to_owned()],
    }
}

/// An operation with one demand for each (action, ARN or `*`).
pub(crate) fn operation(demands: &[(&str, &str)], parameters: Value) -> Operation {
    let first = demands.first().map_or("", |(action, _)| action);
    let (service, name) = first.split_once(':').unwrap_or_default();
    Operation {
        door: Door::Aws,
        service: service.to_owned(),
        name: name.to_owned(),
        demands: demands
            .iter()
            .map(|(action, resource)| Demand {
                action: (*action).to_owned(),
                resource: match *resource {
                    "*" => Resource::Any,
                    arn => Resource::Arn(arn.to_owned()),
                },
                access_level: Small.access_level(action).unwrap_or(AccessLevel::Write),
            })
            .collect(),
        parameters,
        sensitive: Vec::new(),
        region: Some("eu-central-1".to_owned()),
        account: Some("123456789012".to_owned()),
        traits: Traits { irreversible: name.starts_with("Delete"), ..Traits::default() },
        uninspected: Vec::new(),
        body_sha256: None,
    }
}

/// A `tools/call`.
pub(crate) fn tool_call(server: &str, tool: &str, arguments: Value) -> Operation {
    Operation {
        door: Door::Mcp,
        service: server.to_owned(),
        name: format!("tools/call {tool}"),
        demands: vec![Demand {
            action: "tools/call".to_owned(),
            resource: Resource::McpTool { server: server.to_owned(), name: tool.to_owned() },
            access_level: AccessLevel::Write,
        }],
        parameters: arguments,
        sensitive: Vec::new(),
        region: None,
        account: None,
        traits: Traits::default(),
        uninspected: Vec::new(),
        body_sha256: None,
    }
}

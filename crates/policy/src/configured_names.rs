//! The names in policies that only a configuration knows: connections, MCP servers, data classes, identity providers.
//!
//! To Cedar, `Connection::"prd"` is an entity like any other. A permit that names it permits nothing, and a forbid forbids nothing.

use crate::{
    cedar_json::{attribute_path, child_expressions, operator_and_operands},
    entity_literals::EntityKind,
    load_error::PolicyProblem,
};
use cedar_policy::EntityUid;
use serde_json::Value;
use std::{collections::BTreeSet, fmt};

/// What a name is the name of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NameKind {
    /// The entity `Connection`: an AWS connection or an MCP server.
    Connection,
    /// `context.connection`: an AWS connection.
    AwsConnection,
    McpServer,
    DataClass,
    IdentityProvider,
    Issuer,
}

impl fmt::Display for NameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connection => "connection or MCP server",
            Self::AwsConnection => "AWS connection",
            Self::McpServer => "MCP server",
            Self::DataClass => "data class",
            Self::IdentityProvider => "identity provider",
            Self::Issuer => "issuer of an identity provider",
        })
    }
}

/// The names of one configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfiguredNames {
    pub aws_connections: BTreeSet<String>,
    pub mcp_servers: BTreeSet<String>,
    /// The built-in ones too.
    pub data_classes: BTreeSet<String>,
    pub identity_providers: BTreeSet<String>,
    pub issuers: BTreeSet<String>,
}

impl ConfiguredNames {
    pub(crate) fn of_kind(&self, kind: NameKind) -> Vec<&str> {
        let (first, second) = match kind {
            NameKind::Connection => (&self.aws_connections, Some(&self.mcp_servers)),
            NameKind::AwsConnection => (&self.aws_connections, None),
            NameKind::McpServer => (&self.mcp_servers, None),
            NameKind::DataClass => (&self.data_classes, None),
            NameKind::IdentityProvider => (&self.identity_providers, None),
            NameKind::Issuer => (&self.issuers, None),
        };
        first.iter().chain(second.into_iter().flatten()).map(String::as_str).collect()
    }
}

/// A name in a policy, with its position.
#[derive(Debug, Clone)]
pub(crate) struct NameReference {
    pub kind: NameKind,
    pub name: String,
    /// The position, without a message.
    pub position: PolicyProblem,
}

/// The name in an entity of a policy.
pub(crate) fn entity_name(entity: &EntityUid) -> Option<(NameKind, String)> {
    let id = entity.id().unescaped();
    let before_slash = || id.split_once('/').map_or(id, |(name, _rest)| name);
    let (kind, name) = match EntityKind::from_type_name(&entity.type_name().to_string())? {
        EntityKind::Connection => (NameKind::Connection, id),
        EntityKind::DataClass => (NameKind::DataClass, id),
        EntityKind::McpServer => (NameKind::McpServer, id),
        EntityKind::McpTool => (NameKind::McpServer, before_slash()),
        EntityKind::Caller => (NameKind::IdentityProvider, before_slash()),
        _ => return None,
    };
    Some((kind, name.to_owned()))
}

/// The names with which the conditions of a policy compare an attribute, in Cedar's JSON format.
pub(crate) fn compared_names(policy: &Value) -> BTreeSet<(NameKind, String)> {
    let mut found = BTreeSet::new();
    let conditions = policy.get("conditions").and_then(Value::as_array);
    let mut unvisited: Vec<&Value> =
        conditions.into_iter().flatten().filter_map(|condition| condition.get("body")).collect();
    while let Some(expression) = unvisited.pop() {
        unvisited.extend(child_expressions(expression));
        let Some((operator @ ("==" | "!=" | "contains"), operands)) = operator_and_operands(expression)
        else {
            continue;
        };
        let (Some(left), Some(right)) = (operands.get("left"), operands.get("right")) else { continue };
        // `["a", "b"].contains(context.server)` has the attribute on the right.
        for (attribute, texts) in [(left, right), (right, left)] {
            if operator == "contains" && attribute == left {
                continue;
            }
            if let Some(kind) = attribute_kind(attribute) {
                collect_texts(texts, &mut |text| {
                    found.insert((kind, text.to_owned()));
                });
            }
        }
    }
    found
}

/// The kind of names that an attribute holds.
fn attribute_kind(expression: &Value) -> Option<NameKind> {
    let (root, steps) = attribute_path(expression)?;
    match (root, steps.as_slice()) {
        ("context", ["connection"]) => Some(NameKind::AwsConnection),
        ("context" | "resource", ["server"]) => Some(NameKind::McpServer),
        ("principal", ["provider"]) => Some(NameKind::IdentityProvider),
        ("principal", ["issuer"]) => Some(NameKind::Issuer),
        _ => None,
    }
}

/// The texts of a literal, and of the literals of a set.
fn collect_texts(expression: &Value, found: &mut impl FnMut(&str)) {
    match operator_and_operands(expression) {
        Some(("Value", Value::String(text))) => found(text),
        Some(("Value" | "Set", Value::Array(items))) => {
            for item in items {
                match item {
                    Value::String(text) => found(text),
                    other => collect_texts(other, &mut *found),
                }
            }
        }
        _ => {}
    }
}

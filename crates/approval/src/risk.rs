//! The risk of an operation as a number with its reasons.
//!
//! Deterministic, from the decoded operation alone: no text that the caller wrote has any weight. docs/approvals.md has
//! the same table for people; a test holds the two together.

use durward_core::{AccessLevel, Operation, Resource};
use serde::{Deserialize, Serialize};

/// From 0 (harmless) to 100, with one reason for each part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Risk {
    pub score: u8,
    pub reasons: Vec<String>,
}

/// More resources than this in one operation are many.
const MANY: usize = 10;

const READ: (u8, &str) = (5, "it reads");
const TAGS: (u8, &str) = (20, "it changes tags, which policies may read");
const WRITES: (u8, &str) = (30, "it changes something");
const PERMISSIONS: (u8, &str) = (50, "it changes permissions");
const ESCALATES: (u8, &str) = (30, "it can give somebody more power");
const IRREVERSIBLE: (u8, &str) = (30, "it cannot be undone");
const CREDENTIALS: (u8, &str) = (25, "its answer holds credentials");
const INDIRECT: (u8, &str) = (20, "it runs code or makes another service act");
const UNKNOWN: (u8, &str) = (30, "the action is not known to this version");
const EVERYTHING: (u8, &str) = (20, "it names no resource, or a pattern of them");
const BROAD_READ: (u8, &str) = (5, "it reads without naming one resource");
const MANY_RESOURCES: (u8, &str) = (10, "it touches more than 10 resources");
const UNINSPECTED: (u8, &str) = (10, "a part of it was not inspected");
const NOVEL: (u8, &str) = (10, "this caller has not done it before");

/// Every weight, for the page that explains the number.
#[cfg(test)]
const WEIGHTS: [(u8, &str); 14] = [
    READ,
    TAGS,
    WRITES,
    PERMISSIONS,
    ESCALATES,
    IRREVERSIBLE,
    CREDENTIALS,
    INDIRECT,
    UNKNOWN,
    EVERYTHING,
    BROAD_READ,
    MANY_RESOURCES,
    UNINSPECTED,
    NOVEL,
];

/// Judges an operation. `novel`: this caller has not done it before. The sum of what applies, at most 100.
pub fn assess(operation: &Operation, novel: bool) -> Risk {
    let mut risk = Risk { score: 0, reasons: Vec::new() };
    let mut add = |applies: bool, (weight, reason): (u8, &str)| {
        if applies {
            risk.score = risk.score.saturating_add(weight).min(100);
            risk.reasons.push(format!("+{weight} {reason}"));
        }
    };
    let level = operation.access_level();
    add(level == AccessLevel::Read, READ);
    add(level == AccessLevel::Tagging, TAGS);
    add(level == AccessLevel::Write, WRITES);
    add(level == AccessLevel::PermissionsManagement, PERMISSIONS);
    add(operation.traits.escalates, ESCALATES);
    add(operation.traits.irreversible, IRREVERSIBLE);
    add(operation.traits.returns_credentials, CREDENTIALS);
    add(operation.traits.indirect, INDIRECT);
    add(operation.demands.iter().any(|demand| demand.action.ends_with(":*unknown*")), UNKNOWN);
    let changes = level > AccessLevel::Read;
    let broad = operation.demands.iter().any(|demand| is_broad(&demand.resource));
    add(broad && changes, EVERYTHING);
    add(broad && level == AccessLevel::Read, BROAD_READ);
    add(resources(operation) > MANY, MANY_RESOURCES);
    add(!operation.uninspected.is_empty(), UNINSPECTED);
    add(novel, NOVEL);
    risk
}

fn is_broad(resource: &Resource) -> bool {
    match resource {
        Resource::Any => true,
        Resource::Arn(arn) => arn.contains(['*', '?']),
        Resource::McpTool { .. } | Resource::McpServer(_) => false,
    }
}

fn resources(operation: &Operation) -> usize {
    let mut names: Vec<String> = operation.demands.iter().map(|demand| demand.resource.as_text()).collect();
    names.sort_unstable();
    names.dedup();
    names.len()
}

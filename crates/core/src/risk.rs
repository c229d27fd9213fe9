//! The risk of an operation as a number with its reasons.
//!
//! Deterministic, from the decoded operation, the tags of its resources and whether the caller did it before: no text that the
//! caller wrote has any weight. docs/approvals.md has the same table for people; a test holds the two together.

use crate::{AccessLevel, Operation, Resource, ResourceTags};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// From 0 (harmless) to 100, with one reason for each part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RiskAssessment {
    pub score: u8,
    pub reasons: Vec<String>,
}

impl RiskAssessment {
    /// The score as a word: `low`, `medium`, `high` or `severe`.
    pub fn level(&self) -> &'static str {
        match self.score {
            0..=24 => "low",
            25..=49 => "medium",
            50..=74 => "high",
            _ => "severe",
        }
    }
}

/// More resources than this in one operation are many.
const MANY_RESOURCES_THRESHOLD: usize = 10;

const READ_FACTOR: (u8, &str) = (5, "it reads");
const TAGGING_FACTOR: (u8, &str) = (20, "it changes tags, which policies may read");
const WRITE_FACTOR: (u8, &str) = (30, "it changes something");
const PERMISSIONS_FACTOR: (u8, &str) = (50, "it changes permissions");
const ESCALATION_FACTOR: (u8, &str) = (30, "it can give somebody more power");
const IRREVERSIBLE_FACTOR: (u8, &str) = (30, "it cannot be undone");
const CREDENTIALS_FACTOR: (u8, &str) = (25, "its answer holds credentials");
const INDIRECT_FACTOR: (u8, &str) = (20, "it runs code or makes another service act");
const UNKNOWN_ACTION_FACTOR: (u8, &str) = (30, "the action is not known to this version");
const BROAD_CHANGE_FACTOR: (u8, &str) = (20, "it names no resource, or a pattern of them");
const BROAD_READ_FACTOR: (u8, &str) = (5, "it reads without naming one resource");
const MANY_RESOURCES_FACTOR: (u8, &str) = (10, "it touches more than 10 resources");
const UNINSPECTED_FACTOR: (u8, &str) = (10, "a part of it was not inspected");
const FIRST_SEEN_FACTOR: (u8, &str) = (10, "this caller has not done it before");

/// Every weight, for the page that explains the number.
#[cfg(test)]
const ALL_RISK_FACTORS: [(u8, &str); 14] = [
    READ_FACTOR,
    TAGGING_FACTOR,
    WRITE_FACTOR,
    PERMISSIONS_FACTOR,
    ESCALATION_FACTOR,
    IRREVERSIBLE_FACTOR,
    CREDENTIALS_FACTOR,
    INDIRECT_FACTOR,
    UNKNOWN_ACTION_FACTOR,
    BROAD_CHANGE_FACTOR,
    BROAD_READ_FACTOR,
    MANY_RESOURCES_FACTOR,
    UNINSPECTED_FACTOR,
    FIRST_SEEN_FACTOR,
];

/// A tag that makes every operation on a resource riskier, as the configuration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RiskyTag {
    pub key: String,
    pub value: String,
    pub weight: u8,
}

/// What the risk depends on beside the operation.
#[derive(Debug, Clone, Copy)]
pub struct RiskContext<'a> {
    /// This caller has not done it before.
    pub is_first_seen: bool,
    /// The tags of its resources, as far as they were looked up.
    pub resource_tags: Option<&'a ResourceTags>,
    /// It touches a resource that the request does not name: that may have any tags.
    pub has_unnamed_resource: bool,
    pub risky_tags: &'a [RiskyTag],
}

/// Judges an operation: the sum of what applies, at most 100.
pub fn assess_risk(operation: &Operation, around: RiskContext<'_>) -> RiskAssessment {
    let mut risk = RiskAssessment { score: 0, reasons: Vec::new() };
    let mut add = |applies: bool, (weight, reason): (u8, &str)| {
        if applies {
            risk.score = risk.score.saturating_add(weight).min(100);
            risk.reasons.push(format!("+{weight} {reason}"));
        }
    };
    let level = operation.access_level();
    add(level == AccessLevel::Read, READ_FACTOR);
    add(level == AccessLevel::Tagging, TAGGING_FACTOR);
    add(level == AccessLevel::Write, WRITE_FACTOR);
    add(level == AccessLevel::PermissionsManagement, PERMISSIONS_FACTOR);
    add(operation.traits.escalates, ESCALATION_FACTOR);
    add(operation.traits.irreversible, IRREVERSIBLE_FACTOR);
    add(operation.traits.returns_credentials, CREDENTIALS_FACTOR);
    add(operation.traits.indirect, INDIRECT_FACTOR);
    add(
        operation.required_permissions.iter().any(|demand| demand.action.ends_with(":*unknown*")),
        UNKNOWN_ACTION_FACTOR,
    );
    let changes = level > AccessLevel::Read;
    let broad = operation.required_permissions.iter().any(|demand| is_broad_resource(&demand.resource));
    add(broad && changes, BROAD_CHANGE_FACTOR);
    add(broad && level == AccessLevel::Read, BROAD_READ_FACTOR);
    add(count_distinct_resources(operation) > MANY_RESOURCES_THRESHOLD, MANY_RESOURCES_FACTOR);
    add(!operation.uninspected_parts.is_empty(), UNINSPECTED_FACTOR);
    add(around.is_first_seen, FIRST_SEEN_FACTOR);
    for RiskyTag { key, value, weight } in around.risky_tags {
        let has = |tags: &BTreeMap<String, String>| tags.get(key) == Some(value);
        let applies = around.resource_tags.is_some_and(|tags| tags.values().any(has));
        add(applies, (*weight, &format!("it touches what is tagged {key}={value}")));
    }
    if let Some(RiskyTag { key, value, weight }) = around.risky_tags.iter().max_by_key(|tag| tag.weight) {
        let what =
            format!("it may touch what is tagged {key}={value}: the request does not name its resource");
        add(around.has_unnamed_resource, (*weight, &what));
    }
    risk
}

fn is_broad_resource(resource: &Resource) -> bool {
    match resource {
        Resource::Any => true,
        Resource::Arn(arn) => arn.contains(['*', '?']),
        Resource::McpTool { .. } | Resource::McpServer(_) => false,
    }
}

fn count_distinct_resources(operation: &Operation) -> usize {
    let mut names: Vec<String> =
        operation.required_permissions.iter().map(|demand| demand.resource.to_text()).collect();
    names.sort_unstable();
    names.dedup();
    names.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FrontEndKind, OperationTraits, RequiredPermission};
    use proptest::prelude::*;

    fn sample_operation(level: AccessLevel, resource: Resource, traits: OperationTraits) -> Operation {
        Operation {
            front_end: FrontEndKind::Aws,
            service: "s3".to_owned(),
            name: "Op".to_owned(),
            required_permissions: vec![RequiredPermission {
                access_level: level,
                action: "s3:Op".to_owned(),
                resource,
            }],
            parameters: serde_json::json!({}),
            sensitive_pointers: Vec::new(),
            region: None,
            account: None,
            traits,
            uninspected_parts: Vec::new(),
            body_sha256: None,
        }
    }

    fn sample_context(novel: bool) -> RiskContext<'static> {
        RiskContext {
            is_first_seen: novel,
            resource_tags: None,
            has_unnamed_resource: false,
            risky_tags: &[],
        }
    }

    #[test]
    fn an_unnamed_resource_counts_as_the_riskiest_tag() {
        let operation = sample_operation(AccessLevel::Write, Resource::Any, OperationTraits::default());
        let risky = |key: &str, weight| RiskyTag { key: key.to_owned(), value: "x".to_owned(), weight };
        let risky = [risky("a", 10), risky("b", 25), risky("c", 20)];
        let score = |unnamed| {
            assess_risk(
                &operation,
                RiskContext {
                    is_first_seen: false,
                    resource_tags: None,
                    has_unnamed_resource: unnamed,
                    risky_tags: &risky,
                },
            )
            .score
        };
        assert_eq!(score(true), score(false) + 25);
    }

    #[test]
    fn a_risky_tag_of_any_resource_adds_its_weight_once() {
        let operation =
            sample_operation(AccessLevel::Write, arn_resource("arn:a"), OperationTraits::default());
        let risky = [RiskyTag { key: "env".to_owned(), value: "prod".to_owned(), weight: 25 }];
        let tagged = |value: &str| BTreeMap::from([("env".to_owned(), value.to_owned())]);
        for (value, score) in [("prod", 55), ("test", 30)] {
            let tags = ResourceTags::from([
                ("arn:a".to_owned(), tagged(value)),
                ("arn:b".to_owned(), tagged(value)),
            ]);
            let around = RiskContext {
                is_first_seen: false,
                resource_tags: Some(&tags),
                has_unnamed_resource: false,
                risky_tags: &risky,
            };
            assert_eq!(assess_risk(&operation, around).score, score);
        }
    }

    fn arn_resource(text: &str) -> Resource {
        Resource::Arn(text.to_owned())
    }

    #[test]
    fn the_number_is_the_sum_of_its_reasons() {
        use AccessLevel::*;
        let none = OperationTraits::default();
        let one = || arn_resource("arn:aws:s3:::b");
        let mut unknown = sample_operation(Write, one(), none);
        unknown.required_permissions[0].action = "s3:*unknown*".to_owned();
        let mut hidden = sample_operation(Write, one(), none);
        hidden.uninspected_parts = vec!["body".to_owned()];
        let mut many = sample_operation(Write, one(), none);
        for number in 0..10 {
            many.required_permissions.push(RequiredPermission {
                resource: arn_resource(&format!("arn:{number}")),
                ..many.required_permissions[0].clone()
            });
        }
        let mut ten = many.clone();
        ten.required_permissions.pop();
        let all = OperationTraits {
            escalates: true,
            indirect: true,
            irreversible: true,
            returns_credentials: true,
        };
        for (what, score) in [
            (sample_operation(List, one(), none), 0),
            (sample_operation(List, Resource::Any, none), 0),
            (sample_operation(Read, one(), none), 5),
            (sample_operation(Read, arn_resource("arn:aws:s3:::b/*"), none), 10),
            (sample_operation(Tagging, one(), none), 20),
            (sample_operation(Write, one(), none), 30),
            (sample_operation(Write, Resource::Any, none), 50),
            (sample_operation(Write, arn_resource("arn:aws:s3:::b?"), none), 50),
            (sample_operation(PermissionsManagement, one(), none), 50),
            (sample_operation(Write, one(), OperationTraits { irreversible: true, ..none }), 60),
            (sample_operation(Write, one(), OperationTraits { escalates: true, ..none }), 60),
            (sample_operation(Write, one(), OperationTraits { indirect: true, ..none }), 50),
            (sample_operation(Read, one(), OperationTraits { returns_credentials: true, ..none }), 30),
            (unknown, 60),
            (hidden, 40),
            (many, 40),
            (ten, 30),
            (sample_operation(PermissionsManagement, Resource::Any, all), 100),
        ] {
            assert_eq!(assess_risk(&what, sample_context(false)).score, score, "{what:?}");
            let novel = assess_risk(&what, sample_context(true));
            assert_eq!(novel.score, (score + 10).min(100));
            assert_eq!(
                novel.reasons.last().map(String::as_str),
                Some("+10 this caller has not done it before")
            );
        }
    }

    #[test]
    fn the_approvals_page_lists_every_risk_factor() {
        let page = include_str!("../../../docs/approvals.md");
        for (weight, reason) in ALL_RISK_FACTORS {
            assert!(page.contains(&format!("| {weight} | {reason} |")), "{weight} {reason}");
        }
    }

    proptest! {
        #[test]
        fn worse_is_never_less(level in 0..5_usize, traits in any::<[bool; 4]>(), more in 0..4_usize) {
            let make = |flags: [bool; 4]| {
                let [escalates, indirect, irreversible, returns_credentials] = flags;
                let traits = OperationTraits { escalates, indirect, irreversible, returns_credentials };
                sample_operation(AccessLevel::ALL[level], arn_resource("arn:x"), traits)
            };
            let mut worse = traits;
            worse[more] = true;
            let (less, more) = (assess_risk(&make(traits), sample_context(false)), assess_risk(&make(worse), sample_context(false)));
            prop_assert!(less.score <= more.score && more.score <= 100);
            let sum: u32 = less.reasons.iter().filter_map(|reason| {
                reason.trim_start_matches('+').split(' ').next()?.parse::<u32>().ok()
            }).sum();
            prop_assert_eq!(u32::from(less.score), sum.min(100));
        }
    }
}

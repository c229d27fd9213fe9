//! The risk of an operation as a number with its reasons.
//!
//! It is computed from the decoded operation, the tags of its resources, and whether the caller did it before. It is deterministic.
//! No text that the caller wrote lowers it: an agent cannot talk its risk down. What a policy document grants raises it (see
//! `broad_grants`). docs/approvals.md has the same table for people; a test holds the two together.

use crate::{
    AccessLevel, BroadGrantKind, Operation, RequiredPermission, Resource, ResourceTags, find_broad_grants,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A risk from 0 (harmless) to 100, with one reason for each summand.
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

    /// The reasons that are broad grants, without their weights. Each surface shows them before anything else.
    pub fn broad_grants(&self) -> impl Iterator<Item = &str> {
        self.reasons.iter().filter_map(|reason| {
            let (_weight, text) = reason.split_once(' ')?;
            let is_broad_grant = BroadGrantKind::ALL.iter().any(|kind| {
                text.strip_prefix(kind.factor().1).is_some_and(|position| position.starts_with(": "))
            });
            is_broad_grant.then_some(text)
        })
    }
}

/// More resources than this in one operation are many. [`MANY_RESOURCES_FACTOR`] says the number in words; a test compares them.
const MANY_RESOURCES_THRESHOLD: usize = 10;

const READ_FACTOR: (u8, &str) = (5, "reads data or configuration");
const TAGGING_FACTOR: (u8, &str) = (20, "changes tags, which policies may read");
const WRITE_FACTOR: (u8, &str) = (30, "changes data or configuration");
const PERMISSIONS_FACTOR: (u8, &str) = (50, "changes permissions");
const ESCALATION_FACTOR: (u8, &str) = (30, "can escalate privileges");
const IRREVERSIBLE_FACTOR: (u8, &str) = (30, "cannot be undone");
const CREDENTIALS_FACTOR: (u8, &str) = (25, "returns credentials");
const INDIRECT_FACTOR: (u8, &str) = (20, "runs code or makes another service act");
const UNKNOWN_ACTION_FACTOR: (u8, &str) = (30, "the action is not known to this version");
const BROAD_CHANGE_FACTOR: (u8, &str) = (20, "names no resource, or a pattern of them");
const BROAD_READ_FACTOR: (u8, &str) = (5, "reads without naming one resource");
const MANY_RESOURCES_FACTOR: (u8, &str) = (10, "affects more than 10 resources");
const UNINSPECTED_FACTOR: (u8, &str) = (10, "part of the request was not inspected");
const FIRST_SEEN_FACTOR: (u8, &str) = (10, "first time for this caller");

/// Every factor, for the page that explains the number.
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

/// A tag that makes every operation on a resource riskier. The configuration defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RiskyTag {
    pub key: String,
    pub value: String,
    pub weight: u8,
}

/// The facts beyond the operation that the risk depends on.
#[derive(Debug, Clone, Copy)]
pub struct RiskContext<'a> {
    /// The caller has not done it before.
    pub is_first_seen: bool,
    /// The tags of its resources, as far as they were read.
    pub resource_tags: Option<&'a ResourceTags>,
    /// It touches a resource that the request does not name. Such a resource may have any tags.
    pub has_unnamed_resource: bool,
    pub risky_tags: &'a [RiskyTag],
}

/// Assesses an operation: the sum of the factors that apply, at most 100.
pub fn assess_risk(operation: &Operation, context: RiskContext<'_>) -> RiskAssessment {
    let mut risk = RiskAssessment { score: 0, reasons: Vec::new() };
    let mut add = |applies: bool, (weight, reason): (u8, &str)| {
        if applies {
            risk.score = risk.score.saturating_add(weight).min(100);
            risk.reasons.push(format!("+{weight} {reason}"));
        }
    };
    // First: they are what nobody may overlook, and every surface shows the first reasons.
    for grant in find_broad_grants(operation) {
        let (weight, _words) = grant.kind.factor();
        add(true, (weight, &grant.to_text()));
    }
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
        operation.required_permissions.iter().any(RequiredPermission::is_unknown_operation),
        UNKNOWN_ACTION_FACTOR,
    );
    // Broad lists add nothing: list actions often have no resource-level permissions, so no request for them can name a resource.
    let changes = level > AccessLevel::Read;
    let broad =
        operation.required_permissions.iter().any(|permission| is_broad_resource(&permission.resource));
    add(broad && changes, BROAD_CHANGE_FACTOR);
    add(broad && level == AccessLevel::Read, BROAD_READ_FACTOR);
    add(count_distinct_resources(operation) > MANY_RESOURCES_THRESHOLD, MANY_RESOURCES_FACTOR);
    add(!operation.uninspected_parts.is_empty(), UNINSPECTED_FACTOR);
    add(context.is_first_seen, FIRST_SEEN_FACTOR);
    for RiskyTag { key, value, weight } in context.risky_tags {
        let has = |tags: &BTreeMap<String, String>| tags.get(key) == Some(value);
        let applies = context.resource_tags.is_some_and(|tags| tags.values().any(has));
        add(applies, (*weight, &format!("affects a resource tagged {key}={value}")));
    }
    // The worst case counts: otherwise a request that leaves its resource out would have a lower risk than one that names it.
    if let Some(RiskyTag { key, value, weight }) = context.risky_tags.iter().max_by_key(|tag| tag.weight) {
        let reason =
            format!("may affect a resource tagged {key}={value}: the request does not name its resource");
        add(context.has_unnamed_resource, (*weight, &reason));
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
        operation.required_permissions.iter().map(|permission| permission.resource.to_text()).collect();
    names.sort_unstable();
    names.dedup();
    names.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FrontEndKind, OperationTraits};
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

    fn sample_context(is_first_seen: bool) -> RiskContext<'static> {
        RiskContext { is_first_seen, resource_tags: None, has_unnamed_resource: false, risky_tags: &[] }
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
            let context = RiskContext {
                is_first_seen: false,
                resource_tags: Some(&tags),
                has_unnamed_resource: false,
                risky_tags: &risky,
            };
            assert_eq!(assess_risk(&operation, context).score, score);
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
        for (operation, score) in [
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
            assert_eq!(assess_risk(&operation, sample_context(false)).score, score, "{operation:?}");
            let first_seen = assess_risk(&operation, sample_context(true));
            assert_eq!(first_seen.score, (score + 10).min(100));
            assert_eq!(first_seen.reasons.last().map(String::as_str), Some("+10 first time for this caller"));
        }
    }

    #[test]
    fn the_approvals_page_lists_every_risk_factor() {
        let page = include_str!("../../../docs/approvals.md");
        let broad_grants = crate::BroadGrantKind::ALL.map(crate::BroadGrantKind::factor);
        for (weight, reason) in ALL_RISK_FACTORS.into_iter().chain(broad_grants) {
            assert!(page.contains(&format!("| {weight} | {reason} |")), "{weight} {reason}");
        }
    }

    #[test]
    fn a_broad_grant_is_the_first_reason_and_names_its_statement() {
        let mut statements = vec![
            serde_json::json!({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"});
            39
        ];
        statements.push(serde_json::json!({"Effect": "Allow", "Action": "*", "Resource": "*"}));
        let document = serde_json::json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        let mut operation = sample_operation(
            AccessLevel::PermissionsManagement,
            arn_resource("arn:aws:iam::1:role/r"),
            OperationTraits::default(),
        );
        operation.parameters = serde_json::json!({"RoleName": "r", "PolicyDocument": document});
        let risk = assess_risk(&operation, sample_context(false));
        assert_eq!((risk.score, risk.level()), (100, "severe"));
        assert_eq!(
            risk.reasons,
            [
                "+50 allows every action on every resource: PolicyDocument, statement 40 of 40",
                "+50 changes permissions",
            ]
        );
        let broad_grants: Vec<&str> = risk.broad_grants().collect();
        assert_eq!(
            broad_grants,
            ["allows every action on every resource: PolicyDocument, statement 40 of 40"]
        );
    }

    #[test]
    fn the_threshold_in_the_text_is_the_one_that_counts() {
        assert!(MANY_RESOURCES_FACTOR.1.contains(&format!("more than {MANY_RESOURCES_THRESHOLD} resources")));
    }

    /// Everything that the risk depends on.
    #[derive(Debug, Clone)]
    struct Facts {
        level: usize,
        traits: [bool; 4],
        is_broad: bool,
        is_unknown: bool,
        has_many_resources: bool,
        is_uninspected: bool,
        is_first_seen: bool,
        has_risky_tag: bool,
        has_unnamed_resource: bool,
        grants_everything: bool,
    }

    impl Facts {
        fn assess(&self) -> RiskAssessment {
            let [escalates, indirect, irreversible, returns_credentials] = self.traits;
            let traits = OperationTraits { escalates, indirect, irreversible, returns_credentials };
            let resource = if self.is_broad { "arn:*" } else { "arn:x" };
            let mut operation =
                sample_operation(AccessLevel::ALL[self.level], arn_resource(resource), traits);
            if self.is_unknown {
                operation.required_permissions[0].action = "s3:*unknown*".to_owned();
            }
            for number in 0..if self.has_many_resources { 10 } else { 0 } {
                let resource = arn_resource(&format!("arn:{number}"));
                let permission = RequiredPermission { resource, ..operation.required_permissions[0].clone() };
                operation.required_permissions.push(permission);
            }
            if self.grants_everything {
                operation.parameters =
                    serde_json::json!({"Policy": {"Effect": "Allow", "Action": "*", "Resource": "*"}});
            }
            if self.is_uninspected {
                operation.uninspected_parts.push("body".to_owned());
            }
            let value = if self.has_risky_tag { "prod" } else { "test" };
            let tags = BTreeMap::from([("env".to_owned(), value.to_owned())]);
            let tags = ResourceTags::from([("arn:x".to_owned(), tags)]);
            let risky_tags = [RiskyTag { key: "env".to_owned(), value: "prod".to_owned(), weight: 25 }];
            let context = RiskContext {
                is_first_seen: self.is_first_seen,
                resource_tags: Some(&tags),
                has_unnamed_resource: self.has_unnamed_resource,
                risky_tags: &risky_tags,
            };
            assess_risk(&operation, context)
        }
    }

    prop_compose! {
        fn any_facts()(
            level in 0..AccessLevel::ALL.len(),
            traits in any::<[bool; 4]>(),
            flags in any::<[bool; 8]>(),
        ) -> Facts {
            let [is_broad, is_unknown, has_many_resources, is_uninspected, is_first_seen, has_risky_tag,
                has_unnamed_resource, grants_everything] = flags;
            Facts {
                level, traits, is_broad, is_unknown, has_many_resources, is_uninspected, is_first_seen, has_risky_tag,
                has_unnamed_resource, grants_everything,
            }
        }
    }

    proptest! {
        #[test]
        fn a_worse_operation_never_has_a_lower_risk(facts in any_facts(), change in 0..13_usize) {
            let mut worse = facts.clone();
            match change {
                0..4 => worse.traits[change] = true,
                // The access levels are ordered by strictness.
                4 => worse.level = (facts.level + 1).min(AccessLevel::ALL.len() - 1),
                5 => worse.is_broad = true,
                6 => worse.is_unknown = true,
                7 => worse.has_many_resources = true,
                8 => worse.is_uninspected = true,
                9 => worse.is_first_seen = true,
                10 => worse.has_risky_tag = true,
                11 => worse.has_unnamed_resource = true,
                _ => worse.grants_everything = true,
            }
            prop_assert!(facts.assess().score <= worse.assess().score, "{facts:?} {worse:?}");
        }

        #[test]
        fn the_score_is_the_sum_of_the_listed_reasons(facts in any_facts()) {
            let risk = facts.assess();
            let weight = |reason: &String| reason.strip_prefix('+')?.split(' ').next()?.parse::<u32>().ok();
            let sum: u32 = risk.reasons.iter().map(|reason| weight(reason).unwrap()).sum();
            prop_assert_eq!(u32::from(risk.score), sum.min(100));
        }
    }
}

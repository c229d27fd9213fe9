//! The risk of an operation as a number with its reasons.
//!
//! Deterministic, from the decoded operation, the tags of its resources and whether the caller did it before: no text that the
//! caller wrote has any weight. docs/approvals.md has the same table for people; a test holds the two together.

use crate::{AccessLevel, Operation, Resource, ResourceTags};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// From 0 (harmless) to 100, with one reason for each part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// A tag that makes every operation on a resource riskier, as the configuration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RiskyTag {
    pub key: String,
    pub value: String,
    pub weight: u8,
}

/// What the risk depends on beside the operation.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// This caller has not done it before.
    pub novel: bool,
    /// The tags of its resources, as far as they were looked up.
    pub tags: Option<&'a ResourceTags>,
    /// It touches a resource that the request does not name: that may have any tags.
    pub unnamed: bool,
    pub risky_tags: &'a [RiskyTag],
}

/// Judges an operation: the sum of what applies, at most 100.
pub fn assess(operation: &Operation, around: Surroundings<'_>) -> Risk {
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
    add(around.novel, NOVEL);
    for RiskyTag { key, value, weight } in around.risky_tags {
        let has = |tags: &BTreeMap<String, String>| tags.get(key) == Some(value);
        let applies = around.tags.is_some_and(|tags| tags.values().any(has));
        add(applies, (*weight, &format!("it touches what is tagged {key}={value}")));
    }
    if let Some(RiskyTag { key, value, weight }) = around.risky_tags.iter().max_by_key(|tag| tag.weight) {
        let what =
            format!("it may touch what is tagged {key}={value}: the request does not name its resource");
        add(around.unnamed, (*weight, &what));
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Demand, Door, Traits};
    use proptest::prelude::*;

    fn operation(level: AccessLevel, resource: Resource, traits: Traits) -> Operation {
        Operation {
            door: Door::Aws,
            service: "s3".to_owned(),
            name: "Op".to_owned(),
            demands: vec![Demand { access_level: level, action: "s3:Op".to_owned(), resource }],
            parameters: serde_json::json!({}),
            sensitive: Vec::new(),
            region: None,
            account: None,
            traits,
            uninspected: Vec::new(),
            body_sha256: None,
        }
    }

    fn around(novel: bool) -> Surroundings<'static> {
        Surroundings { novel, tags: None, unnamed: false, risky_tags: &[] }
    }

    #[test]
    fn what_is_not_named_may_be_tagged_as_the_riskiest() {
        let operation = operation(AccessLevel::Write, Resource::Any, Traits::default());
        let risky = |key: &str, weight| RiskyTag { key: key.to_owned(), value: "x".to_owned(), weight };
        let risky = [risky("a", 10), risky("b", 25), risky("c", 20)];
        let score = |unnamed| {
            assess(&operation, Surroundings { novel: false, tags: None, unnamed, risky_tags: &risky }).score
        };
        assert_eq!(score(true), score(false) + 25);
    }

    #[test]
    fn a_risky_tag_of_any_resource_adds_its_weight_once() {
        let operation = operation(AccessLevel::Write, arn("arn:a"), Traits::default());
        let risky = [RiskyTag { key: "env".to_owned(), value: "prod".to_owned(), weight: 25 }];
        let tagged = |value: &str| BTreeMap::from([("env".to_owned(), value.to_owned())]);
        for (value, score) in [("prod", 55), ("test", 30)] {
            let tags = ResourceTags::from([
                ("arn:a".to_owned(), tagged(value)),
                ("arn:b".to_owned(), tagged(value)),
            ]);
            let around = Surroundings { novel: false, tags: Some(&tags), unnamed: false, risky_tags: &risky };
            assert_eq!(assess(&operation, around).score, score);
        }
    }

    fn arn(text: &str) -> Resource {
        Resource::Arn(text.to_owned())
    }

    #[test]
    fn the_number_is_the_sum_of_its_reasons() {
        use AccessLevel::*;
        let none = Traits::default();
        let one = || arn("arn:aws:s3:::b");
        let mut unknown = operation(Write, one(), none);
        unknown.demands[0].action = "s3:*unknown*".to_owned();
        let mut hidden = operation(Write, one(), none);
        hidden.uninspected = vec!["body".to_owned()];
        let mut many = operation(Write, one(), none);
        for number in 0..10 {
            many.demands.push(Demand { resource: arn(&format!("arn:{number}")), ..many.demands[0].clone() });
        }
        let mut ten = many.clone();
        ten.demands.pop();
        let all = Traits { escalates: true, indirect: true, irreversible: true, returns_credentials: true };
        for (what, score) in [
            (operation(List, one(), none), 0),
            (operation(List, Resource::Any, none), 0),
            (operation(Read, one(), none), 5),
            (operation(Read, arn("arn:aws:s3:::b/*"), none), 10),
            (operation(Tagging, one(), none), 20),
            (operation(Write, one(), none), 30),
            (operation(Write, Resource::Any, none), 50),
            (operation(Write, arn("arn:aws:s3:::b?"), none), 50),
            (operation(PermissionsManagement, one(), none), 50),
            (operation(Write, one(), Traits { irreversible: true, ..none }), 60),
            (operation(Write, one(), Traits { escalates: true, ..none }), 60),
            (operation(Write, one(), Traits { indirect: true, ..none }), 50),
            (operation(Read, one(), Traits { returns_credentials: true, ..none }), 30),
            (unknown, 60),
            (hidden, 40),
            (many, 40),
            (ten, 30),
            (operation(PermissionsManagement, Resource::Any, all), 100),
        ] {
            assert_eq!(assess(&what, around(false)).score, score, "{what:?}");
            let novel = assess(&what, around(true));
            assert_eq!(novel.score, (score + 10).min(100));
            assert_eq!(
                novel.reasons.last().map(String::as_str),
                Some("+10 this caller has not done it before")
            );
        }
    }

    #[test]
    fn the_page_for_people_has_every_weight() {
        let page = include_str!("../../../docs/approvals.md");
        for (weight, reason) in WEIGHTS {
            assert!(page.contains(&format!("| {weight} | {reason} |")), "{weight} {reason}");
        }
    }

    proptest! {
        #[test]
        fn worse_is_never_less(level in 0..5_usize, traits in any::<[bool; 4]>(), more in 0..4_usize) {
            let make = |flags: [bool; 4]| {
                let [escalates, indirect, irreversible, returns_credentials] = flags;
                let traits = Traits { escalates, indirect, irreversible, returns_credentials };
                operation(AccessLevel::ALL[level], arn("arn:x"), traits)
            };
            let mut worse = traits;
            worse[more] = true;
            let (less, more) = (assess(&make(traits), around(false)), assess(&make(worse), around(false)));
            prop_assert!(less.score <= more.score && more.score <= 100);
            let sum: u32 = less.reasons.iter().filter_map(|reason| {
                reason.trim_start_matches('+').split(' ').next()?.parse::<u32>().ok()
            }).sum();
            prop_assert_eq!(u32::from(less.score), sum.min(100));
        }
    }
}

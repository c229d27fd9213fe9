//! Access levels that are not those of the Service Authorization Reference.
//!
//! The reference calls an action Read or List if it does not change a resource. A policy that permits reading does not mean what some
//! of these do: they run a model, an agent or a function, take messages from those who wait for them, or unmask what is masked.
//! `[levels]` of the overlay lists them, and here they are Write.
//!
//! An action of these two levels whose verb is not one of reading must be in one of the two lists, so that a new version of the
//! data cannot bring an invocation that counts as a read.

use super::name_words::split_words;
use super::overlay::pattern_matches;
use durward_catalog::ServiceModel;
use durward_core::AccessLevel;
use serde::Deserialize;
use std::collections::BTreeSet;

/// The first words of actions that return what exists, or compute something from what the caller sends.
const READING_VERBS: [&str; 38] = [
    "analyze",
    "autocomplete",
    "batch",
    "calculate",
    "check",
    "classify",
    "compare",
    "contain",
    "count",
    "describe",
    "detect",
    "discover",
    "download",
    "estimate",
    "export",
    "filter",
    "forecast",
    "geocode",
    "get",
    "infer",
    "is",
    "list",
    "lookup",
    "preview",
    "query",
    "read",
    "recognize",
    "resolve",
    "retrieve",
    "scan",
    "search",
    "select",
    "simulate",
    "suggest",
    "translate",
    "validate",
    "verify",
    "view",
];

/// `prefix:Action` patterns; one `*` in the action stands for any text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelRules {
    /// Read or List in the reference, and Write here.
    write: Vec<String>,
    /// Reviewed: it reads, whatever its verb.
    read: Vec<String>,
}

impl LevelRules {
    /// The level of an action, from that of the reference.
    pub fn correct_level(&self, action: &str, level: AccessLevel) -> AccessLevel {
        if level <= AccessLevel::Read && matches_any(&self.write, action) {
            AccessLevel::Write
        } else {
            level
        }
    }

    /// The entries that fit none of these actions, which are given with their levels in the reference.
    pub fn unused_entries<'a>(&self, actions: impl Iterator<Item = (&'a str, AccessLevel)>) -> Vec<String> {
        let reading: Vec<&str> =
            actions.filter(|(_, level)| *level <= AccessLevel::Read).map(|(action, _)| action).collect();
        let is_unused =
            |pattern: &&String| !reading.iter().any(|action| action_matches(pattern.as_str(), action));
        self.write.iter().chain(&self.read).filter(is_unused).map(|entry| format!("levels {entry}")).collect()
    }

    /// The actions of level Read or List that operations need, that have another verb than one of reading, and that nobody reviewed.
    pub fn unreviewed_actions<'a>(
        &self,
        services: impl Iterator<Item = &'a ServiceModel>,
    ) -> BTreeSet<&'a str> {
        services
            .flat_map(|service| &service.operations)
            .flat_map(|operation| &operation.required_actions)
            .filter(|needed| needed.access_level <= AccessLevel::Read)
            .map(|needed| needed.action.as_str())
            .filter(|action| !has_reading_verb(action) && !matches_any(&self.read, action))
            .collect()
    }
}

fn has_reading_verb(action: &str) -> bool {
    let name = action.split_once(':').map_or(action, |(_, name)| name);
    split_words(name).first().is_some_and(|verb| READING_VERBS.contains(&verb.as_str()))
}

fn matches_any(patterns: &[String], action: &str) -> bool {
    patterns.iter().any(|pattern| action_matches(pattern, action))
}

fn action_matches(pattern: &str, action: &str) -> bool {
    action.split_once(':').is_some_and(|(prefix, name)| pattern_matches(pattern, prefix, name))
}

#[cfg(test)]
mod tests {
    use super::super::overlay::Overlay;
    use super::*;
    use durward_catalog::Catalog;

    /// The committed index is held to the reviewed lists, without the packages that it is made from.
    #[test]
    fn every_action_that_counts_as_a_read_reads_or_was_reviewed() {
        let overlay = Overlay::parse(include_str!("../../../crates/catalog/data/overlay.toml")).unwrap();
        let catalog = Catalog::embedded();
        let entries = catalog.service_entries().iter();
        let services: Vec<_> = entries.filter_map(|entry| catalog.service(&entry.id)).collect();
        let unreviewed = overlay.levels.unreviewed_actions(services.iter().map(|service| &**service));
        assert_eq!(unreviewed, BTreeSet::new());
        for prefix in catalog.iam_prefixes() {
            for (action, level) in catalog.actions_of(prefix) {
                assert_eq!(overlay.levels.correct_level(&action, level), level, "{action}");
            }
        }
    }

    #[test]
    fn only_what_the_reference_calls_a_read_is_corrected() {
        let rules = LevelRules { write: vec!["bedrock:Invoke*".to_owned()], read: Vec::new() };
        assert_eq!(rules.correct_level("bedrock:InvokeModel", AccessLevel::Read), AccessLevel::Write);
        assert_eq!(rules.correct_level("bedrock:GetAgent", AccessLevel::Read), AccessLevel::Read);
        let level = AccessLevel::PermissionsManagement;
        assert_eq!(rules.correct_level("bedrock:InvokeModel", level), level);
        assert!(has_reading_verb("sqs:GetQueueUrl") && !has_reading_verb("sqs:ReceiveMessage"));
    }
}

//! The reviewed overlay (crates/catalog/data/overlay.toml): corrections and additions to the packages, with their sources as
//! comments.
//!
//! Every action and operation that it names must exist, or generation fails: an entry cannot go stale unnoticed.

use super::catalog_error::CatalogError;
use super::credential_members::find_credential_members;
use super::iam_actions::AuthorizationReference;
use super::reviewed_levels::LevelRules;
use durward_catalog::{ServiceModel, ShapeKind};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overlay {
    /// Service id to IAM prefix, where neither signing name nor endpoint prefix is it.
    prefixes: BTreeMap<String, String>,
    /// Protocols a service still accepts that its model no longer lists.
    protocols: BTreeMap<String, Vec<String>>,
    /// Service id to `Structure.Member` that the models do not mark sensitive; service `*` counts for all.
    sensitive: BTreeMap<String, Vec<String>>,
    /// Service id to `Operation.member` of responses that are no credentials, though their names say so. One `*` in the operation
    /// stands for any text, and service `*` counts for all.
    not_credentials: BTreeMap<String, Vec<String>>,
    /// IAM prefix to operations that are newer than the authorization data: actions of the same name.
    pub newer: BTreeMap<String, Vec<String>>,
    pub levels: LevelRules,
    pub traits: TraitRules,
    pub endpoints: BTreeMap<String, String>,
    service: BTreeMap<String, ServiceOverlay>,
}

/// `service:Operation` patterns; one `*` in the operation stands for any text, `*` as the service for any service.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraitRules {
    pub irreversible: TraitRule,
    pub escalates: TraitRule,
    pub indirect: TraitRule,
    pub returns_credentials: TraitRule,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraitRule {
    yes: Vec<String>,
    #[serde(default)]
    no: Vec<String>,
}

impl TraitRule {
    pub fn applies_to(&self, service: &str, operation: &str) -> bool {
        let any = |list: &[String]| list.iter().any(|pattern| pattern_matches(pattern, service, operation));
        any(&self.yes) && !any(&self.no)
    }

    /// Returns true if a review has exempted an operation, whatever any rule says.
    pub fn excludes(&self, service: &str, operation: &str) -> bool {
        self.no.iter().any(|pattern| pattern_matches(pattern, service, operation))
    }
}

pub(super) fn pattern_matches(pattern: &str, service: &str, operation: &str) -> bool {
    let Some((wanted, name)) = pattern.split_once(':') else { return false };
    (wanted == "*" || wanted == service) && operation_matches(name, operation)
}

fn operation_matches(pattern: &str, operation: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == operation,
        Some((start, end)) => {
            operation.len() >= start.len() + end.len()
                && operation.starts_with(start)
                && operation.ends_with(end)
        }
    }
}

/// Returns true if an entry of `[not_credentials]` is about this member of the operation's response.
fn clears_member(entry: &str, operation: &str, member: &str) -> bool {
    entry
        .split_once('.')
        .is_some_and(|(pattern, name)| name == member && operation_matches(pattern, operation))
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceOverlay {
    /// Placeholder of an ARN to the input members that fill it; the first the operation has.
    pub placeholders: BTreeMap<String, Vec<String>>,
    /// Operation to the actions it needs, instead of the derived ones; none: only `uses` count.
    pub operations: BTreeMap<String, Vec<String>>,
    /// What ARNs of one resource type look like from a request, instead of the derived template; several are alternatives.
    pub resources: Vec<ResourceOverlay>,
    /// Further uses, beside those of `operations` or the derived ones.
    pub uses: Vec<UseOverlay>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceOverlay {
    /// The key of the resource type in the authorization data.
    pub r#type: String,
    /// Only for these operations; none: for all that have the members.
    #[serde(default)]
    pub operations: Vec<String>,
    #[serde(flatten)]
    pub arn: ArnOverlay,
}

#[derive(Clone, Deserialize)]
pub struct ArnOverlay {
    pub template: String,
    #[serde(default)]
    pub fill: BTreeMap<String, String>,
    pub arn_member: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UseOverlay {
    pub operations: Vec<String>,
    pub action: String,
    /// The action is needed once for each of these members that is present; none: always.
    #[serde(default)]
    pub when: Vec<String>,
    /// Absent: derived from the action's resource types.
    pub resources: Option<Vec<ArnOverlay>>,
}

impl Overlay {
    pub fn parse(text: &str) -> Result<Self, CatalogError> {
        Ok(toml::from_str(text)?)
    }

    pub fn reviewed_prefix(&self, id: &str) -> Option<&str> {
        self.prefixes.get(id).map(String::as_str)
    }

    pub fn extra_protocols(&self, id: &str) -> impl Iterator<Item = &str> {
        self.protocols.get(id).into_iter().flatten().map(String::as_str)
    }

    pub fn is_sensitive(&self, id: &str, structure: &str, member: &str) -> bool {
        let listed = |service: &str| {
            self.sensitive.get(service).into_iter().flatten().any(|entry| {
                entry
                    .split_once('.')
                    .is_some_and(|(shape, name)| (shape == "*" || shape == structure) && name == member)
            })
        };
        listed(id) || listed("*")
    }

    /// Returns true if a review found that an output member of an operation is no credential.
    pub fn is_cleared_member(&self, id: &str, operation: &str, member: &str) -> bool {
        [id, "*"].iter().any(|service| {
            let entries = self.not_credentials.get(*service).into_iter().flatten();
            entries.into_iter().any(|entry| clears_member(entry, operation, member))
        })
    }

    /// The entries of `[not_credentials]` that clear nothing which the rule finds.
    pub fn unused_cleared_members<'a>(
        &self,
        services: impl Iterator<Item = &'a ServiceModel>,
    ) -> Vec<String> {
        let entries = self.not_credentials.iter();
        let mut unused: BTreeSet<(&str, &str)> = entries
            .flat_map(|(id, entries)| entries.iter().map(move |entry| (id.as_str(), entry.as_str())))
            .collect();
        for service in services {
            for operation in &service.operations {
                for member in find_credential_members(service, operation) {
                    unused.retain(|(id, entry)| {
                        (*id != "*" && *id != service.id) || !clears_member(entry, &operation.name, member)
                    });
                }
            }
        }
        unused.into_iter().map(|(id, entry)| format!("not_credentials {id} {entry}")).collect()
    }

    pub fn service_overlay(&self, id: &str) -> Option<&ServiceOverlay> {
        self.service.get(id)
    }

    /// Refuses actions that the authorization data does not have.
    pub fn check_actions(&self, authorization: &AuthorizationReference) -> Result<(), CatalogError> {
        for (id, service) in &self.service {
            let listed = service.operations.values().flatten();
            for action in listed.chain(service.uses.iter().map(|one| &one.action)) {
                if authorization.find_action(action).is_none_or(|found| found.full_name != *action) {
                    return Err(CatalogError::UnknownOverlayAction {
                        service: id.clone(),
                        action: action.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Refuses operations, members and trait patterns that no model has, naming all of them.
    pub fn check_operations(&self, services: &[ServiceModel]) -> Result<(), CatalogError> {
        let by_id: BTreeMap<&str, &ServiceModel> =
            services.iter().map(|service| (service.id.as_str(), service)).collect();
        let mut unknown = Vec::new();
        for (id, overlay) in &self.service {
            let of_uses = overlay.uses.iter().flat_map(|one| &one.operations);
            let of_resources = overlay.resources.iter().flat_map(|one| &one.operations);
            for name in overlay.operations.keys().chain(of_uses).chain(of_resources) {
                if by_id.get(id.as_str()).is_none_or(|service| service.operation(name).is_none()) {
                    unknown.push(format!("operation {id}:{name}"));
                }
            }
        }
        for (prefix, names) in &self.newer {
            for name in names {
                let mut of_prefix = services.iter().filter(|service| service.iam_prefix == *prefix);
                if !of_prefix.any(|service| service.operation(name).is_some()) {
                    unknown.push(format!("newer operation {prefix}:{name}"));
                }
            }
        }
        for (id, members) in &self.sensitive {
            for entry in members.iter().filter(|entry| !marks_member(services, id, entry)) {
                unknown.push(format!("sensitive {id} {entry}"));
            }
        }
        let traits = &self.traits;
        let rules = [&traits.irreversible, &traits.escalates, &traits.indirect, &traits.returns_credentials];
        for pattern in rules.iter().flat_map(|rule| rule.yes.iter().chain(&rule.no)) {
            let used = services.iter().any(|service| {
                service.operations.iter().any(|one| pattern_matches(pattern, &service.id, &one.name))
            });
            if !used {
                unknown.push(format!("trait pattern {pattern}"));
            }
        }
        unknown.extend(self.unused_cleared_members(services.iter()));
        let unreviewed = self.levels.unreviewed_actions(services.iter());
        if !unreviewed.is_empty() {
            let names = unreviewed.into_iter().map(str::to_owned).collect();
            return Err(CatalogError::UnreviewedReads(names));
        }
        let named = self.prefixes.keys().chain(self.protocols.keys()).chain(self.endpoints.keys());
        unknown.extend(named.filter(|id| !by_id.contains_key(id.as_str())).map(|id| format!("service {id}")));
        if unknown.is_empty() { Ok(()) } else { Err(CatalogError::UnusedOverlayEntries(unknown)) }
    }
}

/// Whether a `Structure.Member` of the supplement marks a member of the service.
fn marks_member(services: &[ServiceModel], id: &str, entry: &str) -> bool {
    let name = entry.split_once('.').map_or(entry, |(_, name)| name);
    services.iter().filter(|service| id == "*" || service.id == id).any(|service| {
        service.shapes.iter().any(|shape| match &shape.kind {
            ShapeKind::Structure { members, .. } => {
                members.iter().any(|member| member.name == name && member.is_sensitive)
            }
            _ => false,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_stands_for_its_service_and_one_gap() {
        assert!(pattern_matches("s3:Delete*", "s3", "DeleteObject"));
        assert!(pattern_matches("*:Delete*", "sqs", "DeleteQueue"));
        assert!(pattern_matches("iam:Create*Provider", "iam", "CreateSAMLProvider"));
        assert!(!pattern_matches("iam:Create*Provider", "iam", "CreateSAMLProviders"));
        assert!(!pattern_matches("s3:Delete*", "sqs", "DeleteQueue"));
        assert!(!pattern_matches("s3:Get", "s3", "GetObject"));
        assert!(!pattern_matches("x:ab*ba", "x", "aba"), "the gap is no overlap");
    }

    #[test]
    fn an_exception_beats_a_rule() {
        let rule = TraitRule { yes: vec!["*:Delete*".to_owned()], no: vec!["sqs:DeleteMessage".to_owned()] };
        assert!(rule.applies_to("sqs", "DeleteQueue") && !rule.applies_to("sqs", "DeleteMessage"));
    }

    #[test]
    fn refuses_a_key_it_does_not_know() {
        assert!(Overlay::parse("[misspelt]").is_err());
    }
}

//! The reviewed overlay (crates/catalog/data/overlay.toml): what the packages do not say, with its sources as comments.
//!
//! Every action and operation it names must exist, so it cannot rot silently when a package is raised.

use super::iam::Authorization;
use durward_catalog::Service;
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
    pub traits: TraitRules,
    pub endpoints: BTreeMap<String, String>,
    service: BTreeMap<String, ServiceOverlay>,
}

/// `service:Operation` patterns; one `*` in the operation stands for any text, `*` as the service for any service.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraitRules {
    pub irreversible: Rule,
    pub escalates: Rule,
    pub indirect: Rule,
    pub returns_credentials: Rule,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    yes: Vec<String>,
    #[serde(default)]
    no: Vec<String>,
}

impl Rule {
    pub fn holds(&self, service: &str, operation: &str) -> bool {
        let any = |list: &[String]| list.iter().any(|pattern| matches(pattern, service, operation));
        any(&self.yes) && !any(&self.no)
    }
}

fn matches(pattern: &str, service: &str, operation: &str) -> bool {
    let Some((wanted, name)) = pattern.split_once(':') else { return false };
    let named = match name.split_once('*') {
        None => name == operation,
        Some((start, end)) => {
            operation.len() >= start.len() + end.len()
                && operation.starts_with(start)
                && operation.ends_with(end)
        }
    };
    (wanted == "*" || wanted == service) && named
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
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| format!("overlay.toml: {error}"))
    }

    pub fn prefix(&self, id: &str) -> Option<&str> {
        self.prefixes.get(id).map(String::as_str)
    }

    pub fn protocols(&self, id: &str) -> impl Iterator<Item = &str> {
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

    pub fn service(&self, id: &str) -> Option<&ServiceOverlay> {
        self.service.get(id)
    }

    /// Refuses actions that the authorization data does not have.
    pub fn check(&self, authorization: &Authorization) -> Result<(), String> {
        for (id, service) in &self.service {
            let listed = service.operations.values().flatten();
            for action in listed.chain(service.uses.iter().map(|one| &one.action)) {
                if authorization.action(action).is_none_or(|found| found.full != *action) {
                    return Err(format!(
                        "overlay.toml: [service.{id}] names the action {action}, which does not exist"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Refuses operations, members and trait patterns that no model has.
    pub fn check_operations(&self, services: &[Service]) -> Result<(), String> {
        let by_id: BTreeMap<&str, &Service> =
            services.iter().map(|service| (service.id.as_str(), service)).collect();
        for (id, overlay) in &self.service {
            let service =
                by_id.get(id.as_str()).ok_or_else(|| format!("overlay.toml: there is no service {id}"))?;
            let of_uses = overlay.uses.iter().flat_map(|one| &one.operations);
            let of_resources = overlay.resources.iter().flat_map(|one| &one.operations);
            for name in overlay.operations.keys().chain(of_uses).chain(of_resources) {
                if service.operation(name).is_none() {
                    return Err(format!(
                        "overlay.toml: [service.{id}] names the operation {name}, which does not exist"
                    ));
                }
            }
        }
        for (id, members) in &self.sensitive {
            for entry in members {
                let name = entry.split_once('.').map_or(entry.as_str(), |(_, name)| name);
                let found = services.iter().filter(|service| id == "*" || service.id == *id).any(|service| {
                    service.shapes.iter().any(|shape| match &shape.kind {
                        durward_catalog::ShapeKind::Structure { members, .. } => {
                            members.iter().any(|member| member.name == name && member.sensitive)
                        }
                        _ => false,
                    })
                });
                if !found {
                    return Err(format!("overlay.toml: sensitive {id} {entry} marks nothing"));
                }
            }
        }
        let rules = [
            &self.traits.irreversible,
            &self.traits.escalates,
            &self.traits.indirect,
            &self.traits.returns_credentials,
        ];
        for pattern in rules.iter().flat_map(|rule| rule.yes.iter().chain(&rule.no)) {
            let used = services.iter().any(|service| {
                service.operations.iter().any(|operation| matches(pattern, &service.id, &operation.name))
            });
            if !used {
                return Err(format!("overlay.toml: the trait pattern {pattern} matches no operation"));
            }
        }
        let known: BTreeSet<&str> = by_id.keys().copied().collect();
        let named = self.prefixes.keys().chain(self.protocols.keys()).chain(self.endpoints.keys());
        match named.into_iter().find(|id| !known.contains(id.as_str())) {
            Some(id) => Err(format!("overlay.toml: there is no service {id}")),
            None => Ok(()),
        }
    }
}

//! Finding actions and operations by any of the names people know them by.

use durward_catalog::{Catalog, OperationModel, ServiceModel};
use durward_core::AccessLevel;
use std::sync::Arc;

/// What a name stands for.
#[derive(Default)]
pub struct CatalogMatch {
    /// The IAM action as IAM spells it, with its level.
    pub action: Option<(String, AccessLevel)>,
    /// Operations of that name, or that need the action.
    pub operations: Vec<(Arc<ServiceModel>, usize)>,
}

impl CatalogMatch {
    pub fn is_empty(&self) -> bool {
        self.action.is_none() && self.operations.is_empty()
    }

    pub fn matched_operations(&self) -> impl Iterator<Item = (&ServiceModel, &OperationModel)> {
        self.operations
            .iter()
            .filter_map(|(service, at)| Some((service.as_ref(), service.operations.get(*at)?)))
    }
}

/// One line of a search.
pub struct SearchHit {
    /// botocore's service name and the operation; an IAM action that no operation needs has none.
    pub operation: Option<(String, String)>,
    pub actions: Vec<(String, AccessLevel)>,
    pub traits: Vec<&'static str>,
}

/// The letters and digits of a name in lower case: `delete-object` and `DeleteObject` are one.
fn normalize_name(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

/// Service and name: parted by a colon, a dot, a slash or a space.
fn split_qualified_name(name: &str) -> Option<(&str, &str)> {
    name.trim().split_once([':', '.', '/', ' ']).map(|(service, name)| (service.trim(), name.trim()))
}

/// What `name` stands for: an IAM action with the operations that need it, or operations of that name.
pub fn find_by_name(catalog: &Catalog, name: &str) -> CatalogMatch {
    let Some((service, operation)) = split_qualified_name(name) else { return CatalogMatch::default() };
    let action = catalog.actions_of(&service.to_ascii_lowercase()).find(|(action, _)| {
        action.split_once(':').is_some_and(|(_, own)| normalize_name(own) == normalize_name(operation))
    });
    let mut operations = Vec::new();
    for service in find_services(catalog, service) {
        if let Some(at) =
            service.operations.iter().position(|one| normalize_name(&one.name) == normalize_name(operation))
        {
            operations.push((service, at));
        }
    }
    // A name with a colon is an action's: all that need it.
    if let Some((action, _)) = action.as_ref().filter(|_| name.contains(':')) {
        for (id, operation) in catalog.operations_needing(action) {
            let known = operations.iter().any(|(service, at): &(Arc<ServiceModel>, usize)| {
                service.id == id && service.operations.get(*at).is_some_and(|one| one.name == operation)
            });
            if let Some(service) = catalog.service(&id).filter(|_| !known)
                && let Some(at) = service.operation_index(&operation)
            {
                operations.push((service, at));
            }
        }
    }
    // Without a colon the action only accompanies an operation.
    let action = action.filter(|_| name.contains(':') || operations.is_empty());
    CatalogMatch { action, operations }
}

/// The services that go by `name`: botocore's name, the IAM prefix or the signing name.
fn find_services(catalog: &Catalog, name: &str) -> Vec<Arc<ServiceModel>> {
    let wanted = normalize_name(name);
    let entries = catalog.service_entries().iter();
    let by_id: Vec<Arc<ServiceModel>> = entries
        .clone()
        .filter(|entry| normalize_name(&entry.id) == wanted)
        .filter_map(|entry| catalog.service(&entry.id))
        .collect();
    let others = entries
        .filter(|entry| normalize_name(&entry.id) != wanted)
        .filter(|entry| {
            normalize_name(&entry.iam_prefix) == wanted || normalize_name(&entry.signing_name) == wanted
        })
        .filter_map(|entry| catalog.service(&entry.id));
    by_id.into_iter().chain(others).collect()
}

/// The names that a misspelt one may have meant.
pub fn suggest_names(catalog: &Catalog, name: &str) -> Vec<String> {
    let Some((service, operation)) = split_qualified_name(name) else { return Vec::new() };
    let action = catalog.nearest_action(name).map(|action| format!("`{action}`"));
    let operation = catalog.nearest_operation(service, operation).map(|(id, name)| format!("`{id} {name}`"));
    let both = if name.contains(':') { [action, operation] } else { [operation, action] };
    let mut near: Vec<String> = both.into_iter().flatten().collect();
    near.dedup();
    near
}

/// Operations, and IAM actions that no operation needs, that hold every word in a name, a level or a trait.
pub fn search_catalog(catalog: &Catalog, words: &[String]) -> Vec<SearchHit> {
    let words: Vec<String> = words.iter().map(|word| word.to_ascii_lowercase()).collect();
    let holds = |text: &str| {
        let text = text.to_ascii_lowercase();
        words.iter().all(|word| {
            text.contains(word.as_str())
                || (normalize_name(word).len() > 2 && normalize_name(&text).contains(&normalize_name(word)))
        })
    };
    let mut hits = Vec::new();
    for entry in catalog.service_entries() {
        let Some(service) = catalog.service(&entry.id) else { continue };
        for operation in &service.operations {
            let traits = trait_names(operation);
            let mut actions: Vec<(String, AccessLevel)> = operation
                .required_actions
                .iter()
                .map(|needed| (needed.action.clone(), needed.access_level))
                .collect();
            actions.dedup();
            let levels: Vec<String> =
                actions.iter().map(|(action, level)| format!("{action} {}", level.as_str())).collect();
            if holds(&format!("{} {} {} {}", service.id, operation.name, levels.join(" "), traits.join(" ")))
            {
                let operation = Some((service.id.clone(), operation.name.clone()));
                hits.push(SearchHit { operation, actions, traits });
            }
        }
    }
    for prefix in catalog.iam_prefixes() {
        for (action, level) in catalog.actions_of(prefix) {
            if holds(&format!("{action} {}", level.as_str()))
                && catalog.operations_needing(&action).is_empty()
            {
                hits.push(SearchHit { operation: None, actions: vec![(action, level)], traits: Vec::new() });
            }
        }
    }
    hits
}

/// The traits of an operation, in words.
pub fn trait_names(operation: &OperationModel) -> Vec<&'static str> {
    let traits = &operation.traits;
    [
        (traits.irreversible, "irreversible"),
        (traits.escalates, "escalates"),
        (traits.indirect, "indirect"),
        (traits.returns_credentials, "returns credentials"),
    ]
    .into_iter()
    .filter_map(|(is, word)| is.then_some(word))
    .collect()
}

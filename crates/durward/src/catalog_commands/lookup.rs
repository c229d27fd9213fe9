//! Finds actions and operations by any of their names: IAM's, botocore's, the CLI's.

use durward_catalog::{Catalog, OperationModel, ServiceModel};
use durward_core::AccessLevel;
use std::sync::Arc;

/// The action and the operations of a name.
#[derive(Default)]
pub struct CatalogMatch {
    /// The IAM action as IAM spells it, with its level.
    pub action: Option<(String, AccessLevel)>,
    /// Each service with the index of its operation: those of that name, or those that need the action.
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

/// One result of a search.
pub struct SearchHit {
    /// Botocore's service name and the operation. `None` for an IAM action that no operation needs.
    pub operation: Option<(String, String)>,
    pub actions: Vec<(String, AccessLevel)>,
    pub traits: Vec<&'static str>,
}

/// The letters and digits of a name in lower case: `delete-object` and `DeleteObject` are the same name.
fn normalize_name(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

/// Service and name, separated by a colon, a dot, a slash or a space.
fn split_qualified_name(name: &str) -> Option<(&str, &str)> {
    name.trim().split_once([':', '.', '/', ' ']).map(|(service, name)| (service.trim(), name.trim()))
}

/// Finds an IAM action with the operations that need it, or the operations of that name.
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
    // A name with a colon is an IAM action: all operations that need it belong to the match.
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
    // A name without a colon is an operation; its action is shown only if there is no such operation.
    let action = action.filter(|_| name.contains(':') || operations.is_empty());
    CatalogMatch { action, operations }
}

/// The services whose botocore name, IAM prefix or signing name is `name`.
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
    // Several services share a prefix (`rds` and `neptune`): the one whose own name it is comes first.
    by_id.into_iter().chain(others).collect()
}

/// Names in the catalog that are similar to a misspelt one.
pub fn suggest_names(catalog: &Catalog, name: &str) -> Vec<String> {
    let Some((service, operation)) = split_qualified_name(name) else { return Vec::new() };
    let action = catalog.nearest_action(name).map(|action| format!("`{action}`"));
    let operation = catalog.nearest_operation(service, operation).map(|(id, name)| format!("`{id} {name}`"));
    let both = if name.contains(':') { [action, operation] } else { [operation, action] };
    let mut similar: Vec<String> = both.into_iter().flatten().collect();
    similar.dedup();
    similar
}

/// Finds the operations, and the IAM actions that no operation needs, whose names, access levels or traits contain every word.
pub fn search_catalog(catalog: &Catalog, words: &[String]) -> Vec<SearchHit> {
    let words: Vec<String> = words.iter().map(|word| word.to_ascii_lowercase()).collect();
    let matches = |text: &str| {
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
            if matches(&format!(
                "{} {} {} {}",
                service.id,
                operation.name,
                levels.join(" "),
                traits.join(" ")
            )) {
                let operation = Some((service.id.clone(), operation.name.clone()));
                hits.push(SearchHit { operation, actions, traits });
            }
        }
    }
    for prefix in catalog.iam_prefixes() {
        for (action, level) in catalog.actions_of(prefix) {
            if matches(&format!("{action} {}", level.as_str()))
                && catalog.operations_needing(&action).is_empty()
            {
                hits.push(SearchHit { operation: None, actions: vec![(action, level)], traits: Vec::new() });
            }
        }
    }
    hits
}

/// The traits of an operation as words.
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

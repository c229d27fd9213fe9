//! Finding actions and operations by any of the names people know them by.

use durward_catalog::{Catalog, Operation, Service};
use durward_core::AccessLevel;
use std::sync::Arc;

/// What a name stands for.
#[derive(Default)]
pub struct Found {
    /// The IAM action as IAM spells it, with its level.
    pub action: Option<(String, AccessLevel)>,
    /// Operations of that name, or that need the action.
    pub operations: Vec<(Arc<Service>, usize)>,
}

impl Found {
    pub fn is_empty(&self) -> bool {
        self.action.is_none() && self.operations.is_empty()
    }

    pub fn models(&self) -> impl Iterator<Item = (&Service, &Operation)> {
        self.operations
            .iter()
            .filter_map(|(service, at)| Some((service.as_ref(), service.operations.get(*at)?)))
    }
}

/// One line of a search.
pub struct Hit {
    /// botocore's service name and the operation; an IAM action that no operation needs has none.
    pub operation: Option<(String, String)>,
    pub actions: Vec<(String, AccessLevel)>,
    pub traits: Vec<&'static str>,
}

/// The letters and digits of a name in lower case: `delete-object` and `DeleteObject` are one.
fn plain(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

/// Service and name: parted by a colon, a dot, a slash or a space.
fn parts(name: &str) -> Option<(&str, &str)> {
    name.trim().split_once([':', '.', '/', ' ']).map(|(service, name)| (service.trim(), name.trim()))
}

/// What `name` stands for: an IAM action with the operations that need it, or operations of that name.
pub fn named(catalog: &Catalog, name: &str) -> Found {
    let Some((service, operation)) = parts(name) else { return Found::default() };
    let action = catalog
        .actions_of(&service.to_ascii_lowercase())
        .find(|(action, _)| action.split_once(':').is_some_and(|(_, own)| plain(own) == plain(operation)));
    let mut operations = Vec::new();
    for service in services(catalog, service) {
        if let Some(at) = service.operations.iter().position(|one| plain(&one.name) == plain(operation)) {
            operations.push((service, at));
        }
    }
    // A name with a colon is an action's: all that need it.
    if let Some((action, _)) = action.as_ref().filter(|_| name.contains(':')) {
        for (id, operation) in catalog.operations_needing(action) {
            let known = operations.iter().any(|(service, at): &(Arc<Service>, usize)| {
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
    Found { action, operations }
}

/// The services that go by `name`: botocore's name, the IAM prefix or the signing name.
fn services(catalog: &Catalog, name: &str) -> Vec<Arc<Service>> {
    let wanted = plain(name);
    let entries = catalog.services().iter();
    let by_id: Vec<Arc<Service>> = entries
        .clone()
        .filter(|entry| plain(&entry.id) == wanted)
        .filter_map(|entry| catalog.service(&entry.id))
        .collect();
    let others = entries
        .filter(|entry| plain(&entry.id) != wanted)
        .filter(|entry| plain(&entry.iam_prefix) == wanted || plain(&entry.signing_name) == wanted)
        .filter_map(|entry| catalog.service(&entry.id));
    by_id.into_iter().chain(others).collect()
}

/// The names that a misspelt one may have meant.
pub fn near(catalog: &Catalog, name: &str) -> Vec<String> {
    let Some((service, operation)) = parts(name) else { return Vec::new() };
    let action = catalog.nearest_action(name).map(|action| format!("`{action}`"));
    let operation = catalog.nearest_operation(service, operation).map(|(id, name)| format!("`{id} {name}`"));
    let both = if name.contains(':') { [action, operation] } else { [operation, action] };
    let mut near: Vec<String> = both.into_iter().flatten().collect();
    near.dedup();
    near
}

/// Operations, and IAM actions that no operation needs, that hold every word in a name, a level or a trait.
pub fn search(catalog: &Catalog, words: &[String]) -> Vec<Hit> {
    let words: Vec<String> = words.iter().map(|word| word.to_ascii_lowercase()).collect();
    let holds = |text: &str| {
        let text = text.to_ascii_lowercase();
        words.iter().all(|word| {
            text.contains(word.as_str()) || (plain(word).len() > 2 && plain(&text).contains(&plain(word)))
        })
    };
    let mut hits = Vec::new();
    for entry in catalog.services() {
        let Some(service) = catalog.service(&entry.id) else { continue };
        for operation in &service.operations {
            let traits = traits(operation);
            let mut actions: Vec<(String, AccessLevel)> =
                operation.actions.iter().map(|needed| (needed.action.clone(), needed.access_level)).collect();
            actions.dedup();
            let levels: Vec<String> =
                actions.iter().map(|(action, level)| format!("{action} {}", level.as_str())).collect();
            if holds(&format!("{} {} {} {}", service.id, operation.name, levels.join(" "), traits.join(" ")))
            {
                let operation = Some((service.id.clone(), operation.name.clone()));
                hits.push(Hit { operation, actions, traits });
            }
        }
    }
    for prefix in catalog.iam_prefixes() {
        for (action, level) in catalog.actions_of(prefix) {
            if holds(&format!("{action} {}", level.as_str()))
                && catalog.operations_needing(&action).is_empty()
            {
                hits.push(Hit { operation: None, actions: vec![(action, level)], traits: Vec::new() });
            }
        }
    }
    hits
}

/// The traits of an operation, in words.
pub fn traits(operation: &Operation) -> Vec<&'static str> {
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

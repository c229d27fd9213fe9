//! Which policies can apply, found by scope: action, then principal, then resource.
//!
//! Promise: a policy left out cannot be satisfied, because its scope does not match. A policy let in may still not match:
//! Cedar evaluates it whole. Keys are entity ids without their types, which can only let more in.

use cedar_policy::{ActionConstraint, Policy, PrincipalConstraint, ResourceConstraint};
use std::collections::HashMap;

/// A step of the index: what holds for every key, and what holds for one.
#[derive(Debug, Default)]
struct Step<T> {
    any: T,
    keyed: HashMap<Box<str>, T>,
}

impl<T: Default> Step<T> {
    fn at(&mut self, key: Option<&str>) -> &mut T {
        match key {
            None => &mut self.any,
            Some(key) => self.keyed.entry(key.into()).or_default(),
        }
    }

    fn matching<'a>(&'a self, keys: &'a [&'a str]) -> impl Iterator<Item = &'a T> {
        let keyed = if self.keyed.is_empty() { &[][..] } else { keys };
        std::iter::once(&self.any).chain(keyed.iter().filter_map(|key| self.keyed.get(*key)))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Index {
    actions: Step<Step<Step<Vec<u32>>>>,
}

/// The key of `resource is Type`: no entity id of ours begins with a NUL.
pub(crate) fn type_key(type_name: &str) -> String {
    format!("\0{type_name}")
}

impl Index {
    pub(crate) fn add(&mut self, number: u32, policy: &Policy) {
        let actions: Vec<Option<String>> = match policy.action_constraint() {
            ActionConstraint::Any => vec![None],
            ActionConstraint::Eq(uid) => vec![Some(uid.id().unescaped().to_owned())],
            ActionConstraint::In(uids) => {
                uids.iter().map(|uid| Some(uid.id().unescaped().to_owned())).collect()
            }
        };
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
            PrincipalConstraint::Eq(uid)
            | PrincipalConstraint::In(uid)
            | PrincipalConstraint::IsIn(_, uid) => Some(uid.id().unescaped().to_owned()),
        };
        let resource = match policy.resource_constraint() {
            ResourceConstraint::Any => None,
            ResourceConstraint::Is(type_name) => Some(type_key(&type_name.to_string())),
            ResourceConstraint::Eq(uid) | ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) => {
                Some(uid.id().unescaped().to_owned())
            }
        };
        for action in actions {
            self.actions.at(action.as_deref()).at(principal.as_deref()).at(resource.as_deref()).push(number);
        }
    }

    /// The numbers of the policies that can apply, ascending. Each key list holds the entity's own id and those of all its
    /// ancestors; `resources` also the type's key.
    pub(crate) fn candidates(&self, actions: &[&str], principals: &[&str], resources: &[&str]) -> Vec<u32> {
        let mut found = Vec::new();
        for by_principal in self.actions.matching(actions) {
            for by_resource in by_principal.matching(principals) {
                for numbers in by_resource.matching(resources) {
                    found.extend_from_slice(numbers);
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

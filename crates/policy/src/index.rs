//! Which policies apply by their scope, found by action, then principal, then resource.
//!
//! Promise: a policy left out cannot be satisfied, because its scope does not match. Of a policy let in the scope does match,
//! unless [`Index::add`] told that its whole text is to be evaluated.

use crate::literals::{Kind, Literals, Number, Types};
use cedar_policy::{
    ActionConstraint, EntityTypeName, EntityUid, Policy, PrincipalConstraint, ResourceConstraint,
};
use std::collections::BTreeMap;

/// A test that a scope makes of one entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Is(Kind),
    Equal(Number),
    In(Number),
}

/// A step of the index: what holds for every key, and what holds for one.
#[derive(Debug, Default)]
struct Step<T> {
    any: T,
    keyed: BTreeMap<Key, T>,
}

impl<T: Default> Step<T> {
    fn at(&mut self, key: Option<Key>) -> &mut T {
        match key {
            None => &mut self.any,
            Some(key) => self.keyed.entry(key).or_default(),
        }
    }

    fn matching<'a>(&'a self, keys: &'a [Key]) -> impl Iterator<Item = &'a T> {
        let keyed = if self.keyed.is_empty() { &[][..] } else { keys };
        std::iter::once(&self.any).chain(keyed.iter().filter_map(|key| self.keyed.get(key)))
    }
}

/// How a scope is indexed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// Being found is the same as the scope matching.
    Exactly,
    /// The scope makes two tests of one entity: it is to be evaluated too.
    Roughly,
}

#[derive(Debug, Default)]
pub(crate) struct Index {
    actions: Step<Step<Step<Vec<u32>>>>,
}

impl Index {
    /// A scope that names a type nothing in a question has is left out: it cannot match.
    pub(crate) fn add(
        &mut self,
        number: u32,
        policy: &Policy,
        types: &Types,
        literals: &mut Literals,
    ) -> Placed {
        let mut named = |uid: &EntityUid| literals.add(types, uid.as_ref());
        let kind = |name: &EntityTypeName| types.kind(name.as_ref());
        let mut placed = Placed::Exactly;
        // Nothing: the test cannot hold. None within: any entity passes.
        let actions: Vec<Option<Key>> = match policy.action_constraint() {
            ActionConstraint::Any => vec![None],
            ActionConstraint::Eq(uid) => named(&uid).map(|uid| Some(Key::Equal(uid))).into_iter().collect(),
            ActionConstraint::In(uids) => {
                uids.iter().filter_map(&mut named).map(|uid| Some(Key::In(uid))).collect()
            }
        };
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Any => Some(None),
            // A principal is always a caller.
            PrincipalConstraint::Is(name) => (kind(&name) == Some(Kind::Caller)).then_some(None),
            PrincipalConstraint::Eq(uid) => named(&uid).map(|uid| Some(Key::Equal(uid))),
            PrincipalConstraint::In(uid) => named(&uid).map(|uid| Some(Key::In(uid))),
            PrincipalConstraint::IsIn(_, uid) => {
                placed = Placed::Roughly;
                named(&uid).map(|uid| Some(Key::In(uid)))
            }
        };
        let resource = match policy.resource_constraint() {
            ResourceConstraint::Any => Some(None),
            ResourceConstraint::Is(name) => kind(&name).map(|kind| Some(Key::Is(kind))),
            ResourceConstraint::Eq(uid) => named(&uid).map(|uid| Some(Key::Equal(uid))),
            ResourceConstraint::In(uid) => named(&uid).map(|uid| Some(Key::In(uid))),
            ResourceConstraint::IsIn(_, uid) => {
                placed = Placed::Roughly;
                named(&uid).map(|uid| Some(Key::In(uid)))
            }
        };
        if let (Some(principal), Some(resource)) = (principal, resource) {
            for action in actions {
                self.actions.at(action).at(principal).at(resource).push(number);
            }
        }
        placed
    }

    /// The numbers of the policies whose scope matches, ascending. Each list holds every test that the entity passes.
    pub(crate) fn candidates(&self, actions: &[Key], principals: &[Key], resources: &[Key]) -> Vec<u32> {
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

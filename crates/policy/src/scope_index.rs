//! Which policies apply by their scope, found by action, then principal, then resource.
//!
//! Promise: a policy left out cannot be satisfied, because its scope does not match. Of a policy let in the scope does match,
//! unless [`Index::add`] told that its whole text is to be evaluated.

use crate::entity_literals::{EntityKind, EntityLiterals, EntityNumber, EntityTypes};
use cedar_policy::{
    ActionConstraint, EntityTypeName, EntityUid, Policy, PrincipalConstraint, ResourceConstraint,
};
use std::collections::BTreeMap;

/// A test that a scope makes of one entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ScopeTest {
    Is(EntityKind),
    Equal(EntityNumber),
    In(EntityNumber),
}

/// A step of the index: what holds for every key, and what holds for one.
#[derive(Debug, Default)]
struct IndexLevel<T> {
    unconstrained: T,
    by_scope_test: BTreeMap<ScopeTest, T>,
}

impl<T: Default> IndexLevel<T> {
    fn entry_for(&mut self, key: Option<ScopeTest>) -> &mut T {
        match key {
            None => &mut self.unconstrained,
            Some(key) => self.by_scope_test.entry(key).or_default(),
        }
    }

    fn matching_entries<'a>(&'a self, keys: &'a [ScopeTest]) -> impl Iterator<Item = &'a T> {
        let keyed = if self.by_scope_test.is_empty() { &[][..] } else { keys };
        std::iter::once(&self.unconstrained).chain(keyed.iter().filter_map(|key| self.by_scope_test.get(key)))
    }
}

/// How a scope is indexed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IndexMatch {
    /// Being found is the same as the scope matching.
    Exact,
    /// The scope makes two tests of one entity: it is to be evaluated too.
    Approximate,
}

#[derive(Debug, Default)]
pub(crate) struct ScopeIndex {
    by_action: IndexLevel<IndexLevel<IndexLevel<Vec<u32>>>>,
}

impl ScopeIndex {
    /// A scope that names a type nothing in a question has is left out: it cannot match.
    pub(crate) fn insert(
        &mut self,
        number: u32,
        policy: &Policy,
        types: &EntityTypes,
        literals: &mut EntityLiterals,
    ) -> IndexMatch {
        let mut named = |uid: &EntityUid| literals.insert(types, uid.as_ref());
        let kind = |name: &EntityTypeName| types.kind_of(name.as_ref());
        let mut placed = IndexMatch::Exact;
        // Nothing: the test cannot hold. None within: any entity passes.
        let actions: Vec<Option<ScopeTest>> = match policy.action_constraint() {
            ActionConstraint::Any => vec![None],
            ActionConstraint::Eq(uid) => {
                named(&uid).map(|uid| Some(ScopeTest::Equal(uid))).into_iter().collect()
            }
            ActionConstraint::In(uids) => {
                uids.iter().filter_map(&mut named).map(|uid| Some(ScopeTest::In(uid))).collect()
            }
        };
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Any => Some(None),
            // A principal is always a caller.
            PrincipalConstraint::Is(name) => (kind(&name) == Some(EntityKind::Caller)).then_some(None),
            PrincipalConstraint::Eq(uid) => named(&uid).map(|uid| Some(ScopeTest::Equal(uid))),
            PrincipalConstraint::In(uid) => named(&uid).map(|uid| Some(ScopeTest::In(uid))),
            PrincipalConstraint::IsIn(_, uid) => {
                placed = IndexMatch::Approximate;
                named(&uid).map(|uid| Some(ScopeTest::In(uid)))
            }
        };
        let resource = match policy.resource_constraint() {
            ResourceConstraint::Any => Some(None),
            ResourceConstraint::Is(name) => kind(&name).map(|kind| Some(ScopeTest::Is(kind))),
            ResourceConstraint::Eq(uid) => named(&uid).map(|uid| Some(ScopeTest::Equal(uid))),
            ResourceConstraint::In(uid) => named(&uid).map(|uid| Some(ScopeTest::In(uid))),
            ResourceConstraint::IsIn(_, uid) => {
                placed = IndexMatch::Approximate;
                named(&uid).map(|uid| Some(ScopeTest::In(uid)))
            }
        };
        if let (Some(principal), Some(resource)) = (principal, resource) {
            for action in actions {
                self.by_action.entry_for(action).entry_for(principal).entry_for(resource).push(number);
            }
        }
        placed
    }

    /// The numbers of the policies whose scope matches, ascending. Each list holds every test that the entity passes.
    pub(crate) fn find_candidates(
        &self,
        actions: &[ScopeTest],
        principals: &[ScopeTest],
        resources: &[ScopeTest],
    ) -> Vec<u32> {
        let mut found = Vec::new();
        for by_principal in self.by_action.matching_entries(actions) {
            for by_resource in by_principal.matching_entries(principals) {
                for numbers in by_resource.matching_entries(resources) {
                    found.extend_from_slice(numbers);
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

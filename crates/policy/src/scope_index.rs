//! The index of a policy set by scope: action first, then principal, then resource.
//!
//! Promise: a policy that is not found cannot be satisfied, because its scope does not match. The scope of a policy that is
//! found matches, unless [`ScopeIndex::insert`] returned [`IndexMatch::Approximate`].

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

/// One level of the index: the entries of unconstrained scopes, and the entries of each scope test.
#[derive(Debug, Default)]
struct IndexLevel<T> {
    unconstrained: T,
    by_scope_test: BTreeMap<ScopeTest, T>,
}

impl<T: Default> IndexLevel<T> {
    fn entry_for(&mut self, test: Option<ScopeTest>) -> &mut T {
        match test {
            None => &mut self.unconstrained,
            Some(test) => self.by_scope_test.entry(test).or_default(),
        }
    }

    fn matching_entries<'a>(&'a self, passed: &'a [ScopeTest]) -> impl Iterator<Item = &'a T> {
        let passed = if self.by_scope_test.is_empty() { &[][..] } else { passed };
        std::iter::once(&self.unconstrained)
            .chain(passed.iter().filter_map(|test| self.by_scope_test.get(test)))
    }
}

/// The precision with which the index represents a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IndexMatch {
    /// A policy is found if and only if its scope matches.
    Exact,
    /// The scope makes two tests of one entity (`is T in U`), and the index knows one of them: the scope is evaluated as well.
    Approximate,
}

#[derive(Debug, Default)]
pub(crate) struct ScopeIndex {
    // Action first: most policies name actions, and a request has one action in few groups, so this level excludes most policies.
    by_action: IndexLevel<IndexLevel<IndexLevel<Vec<u32>>>>,
}

impl ScopeIndex {
    /// Inserts a policy by its number. A scope that names a type which no entity of a query has cannot match, and is left out.
    pub(crate) fn insert(
        &mut self,
        number: u32,
        policy: &Policy,
        types: &EntityTypes,
        literals: &mut EntityLiterals,
    ) -> IndexMatch {
        let mut number_of = |uid: &EntityUid| literals.insert(types, uid.as_ref());
        let kind_of = |name: &EntityTypeName| types.kind_of(name.as_ref());
        let mut index_match = IndexMatch::Exact;
        // `Some(None)`: any entity passes. `None`, or an empty list: no entity passes.
        let actions: Vec<Option<ScopeTest>> = match policy.action_constraint() {
            ActionConstraint::Any => vec![None],
            ActionConstraint::Eq(uid) => {
                number_of(&uid).map(|uid| Some(ScopeTest::Equal(uid))).into_iter().collect()
            }
            ActionConstraint::In(uids) => {
                uids.iter().filter_map(&mut number_of).map(|uid| Some(ScopeTest::In(uid))).collect()
            }
        };
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Any => Some(None),
            // The principal of every query is a caller.
            PrincipalConstraint::Is(name) => (kind_of(&name) == Some(EntityKind::Caller)).then_some(None),
            PrincipalConstraint::Eq(uid) => number_of(&uid).map(|uid| Some(ScopeTest::Equal(uid))),
            PrincipalConstraint::In(uid) => number_of(&uid).map(|uid| Some(ScopeTest::In(uid))),
            PrincipalConstraint::IsIn(_, uid) => {
                index_match = IndexMatch::Approximate;
                number_of(&uid).map(|uid| Some(ScopeTest::In(uid)))
            }
        };
        let resource = match policy.resource_constraint() {
            ResourceConstraint::Any => Some(None),
            ResourceConstraint::Is(name) => kind_of(&name).map(|kind| Some(ScopeTest::Is(kind))),
            ResourceConstraint::Eq(uid) => number_of(&uid).map(|uid| Some(ScopeTest::Equal(uid))),
            ResourceConstraint::In(uid) => number_of(&uid).map(|uid| Some(ScopeTest::In(uid))),
            ResourceConstraint::IsIn(_, uid) => {
                index_match = IndexMatch::Approximate;
                number_of(&uid).map(|uid| Some(ScopeTest::In(uid)))
            }
        };
        if let (Some(principal), Some(resource)) = (principal, resource) {
            for action in actions {
                self.by_action.entry_for(action).entry_for(principal).entry_for(resource).push(number);
            }
        }
        index_match
    }

    /// The numbers of the policies whose scope matches, ascending. Each argument is every test that the entity passes.
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
        // `action in [a, b]` inserts a policy under each of its actions.
        found.dedup();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_how_precisely_a_scope_is_indexed_and_leaves_out_other_types() {
        let types = EntityTypes::new();
        let mut literals = EntityLiterals::default();
        let mut index = ScopeIndex::default();
        let mut insert = |number, scope: &str| {
            let policy = Policy::parse(None, format!("permit ({scope});")).expect("the test's policy parses");
            index.insert(number, &policy, &types, &mut literals)
        };
        assert_eq!(insert(0, "principal, action, resource"), IndexMatch::Exact);
        assert_eq!(insert(1, "principal in Group::\"g\", action, resource is Connection"), IndexMatch::Exact);
        assert_eq!(
            insert(2, "principal is Caller in Group::\"g\", action, resource"),
            IndexMatch::Approximate
        );
        assert_eq!(insert(3, "principal in Grupe::\"g\", action, resource"), IndexMatch::Exact);
        assert_eq!(insert(4, "principal is Group, action, resource"), IndexMatch::Exact);
        let group = literals.find_number(EntityKind::Group, "g").expect("policies name it");
        let member = [ScopeTest::Is(EntityKind::Caller), ScopeTest::In(group)];
        let connection = [ScopeTest::Is(EntityKind::Connection)];
        assert_eq!(index.find_candidates(&[], &member, &connection), [0, 1, 2]);
        assert_eq!(index.find_candidates(&[], &member[..1], &connection), [0]);
        assert_eq!(index.find_candidates(&[], &member, &[ScopeTest::Is(EntityKind::McpTool)]), [0, 2]);
    }
}

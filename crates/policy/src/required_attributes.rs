//! The attributes that Cedar must be given so that a policy is decided as if it had been given all of them.

use crate::context_attributes::{ContextAttribute, ContextAttributeSet};
use std::collections::BTreeSet;

/// The members of `context.params` and `context.arguments` that are read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum RequestMembers {
    Named(BTreeSet<Box<str>>),
    All,
}

/// The attributes that one policy reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RequiredAttributes {
    pub context: ContextAttributeSet,
    pub request_members: RequestMembers,
    pub reads_principal: bool,
    pub reads_resource: bool,
    /// The tags of the resource.
    pub reads_tags: bool,
}

impl RequiredAttributes {
    pub(crate) fn none() -> Self {
        Self {
            context: ContextAttributeSet::NONE,
            request_members: RequestMembers::Named(BTreeSet::new()),
            reads_principal: false,
            reads_resource: false,
            reads_tags: false,
        }
    }

    pub(crate) fn all() -> Self {
        Self {
            context: ContextAttributeSet::ALL,
            request_members: RequestMembers::All,
            reads_principal: true,
            reads_resource: true,
            reads_tags: true,
        }
    }

    pub(crate) fn reads_member(&self, name: &str) -> bool {
        match &self.request_members {
            RequestMembers::All => true,
            RequestMembers::Named(names) => names.contains(name),
        }
    }
}

/// The attributes that several policies of one set read together.
///
/// Many policies read the same attributes, so a set keeps each distinct [`RequiredAttributes`] once, and this selects among
/// them: two selections are compared by their indexes alone.
#[derive(Debug, Clone)]
pub(crate) struct CombinedAttributes<'a> {
    distinct_attributes: &'a [RequiredAttributes],
    /// Ascending, each once.
    included_indexes: Vec<u32>,
    pub context: ContextAttributeSet,
    pub reads_principal: bool,
    pub reads_resource: bool,
    pub reads_tags: bool,
}

impl<'a> CombinedAttributes<'a> {
    pub(crate) fn new(distinct_attributes: &'a [RequiredAttributes]) -> Self {
        Self {
            distinct_attributes,
            included_indexes: Vec::new(),
            context: ContextAttributeSet::NONE,
            reads_principal: false,
            reads_resource: false,
            reads_tags: false,
        }
    }

    pub(crate) fn include(&mut self, index: u32) {
        if let Err(position) = self.included_indexes.binary_search(&index)
            && let Some(required) = self.distinct_attributes.get(index as usize)
        {
            self.included_indexes.insert(position, index);
            self.context.insert_all(required.context);
            self.reads_principal |= required.reads_principal;
            self.reads_resource |= required.reads_resource;
            self.reads_tags |= required.reads_tags;
        }
    }

    pub(crate) fn reads_context(&self, attribute: ContextAttribute) -> bool {
        self.context.contains(attribute)
    }

    pub(crate) fn reads_member(&self, name: &str) -> bool {
        self.included_indexes
            .iter()
            .filter_map(|index| self.distinct_attributes.get(*index as usize))
            .any(|required| required.reads_member(name))
    }

    /// Returns true if both select the same attributes. Both must be of one policy set.
    pub(crate) fn is_same_selection(&self, other: &Self) -> bool {
        self.included_indexes == other.included_indexes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_are_equal_in_whatever_order_they_were_made() {
        let distinct = [RequiredAttributes::none(), RequiredAttributes::all()];
        let select = |indexes: &[u32]| {
            let mut selection = CombinedAttributes::new(&distinct);
            for index in indexes {
                selection.include(*index);
            }
            selection
        };
        assert!(select(&[0, 1, 0]).is_same_selection(&select(&[1, 0])));
        assert!(!select(&[0]).is_same_selection(&select(&[1])));
        assert!(select(&[0, 1]).reads_tags && !select(&[0]).reads_tags);
    }
}

//! The IAM actions with their access levels, the operations that need them, and the nearest action to a misspelt one.

use crate::index_format::{ActionOperations, PrefixActions};
use durward_core::AccessLevel;

/// A name at a greater distance is another name and not a misspelling.
pub(crate) const MAX_EDIT_DISTANCE: usize = 4;

pub(crate) struct IamActions {
    /// Sorted by prefix.
    actions_by_prefix: Vec<PrefixActions>,
    /// Sorted by action.
    operations_by_action: Vec<ActionOperations>,
}

impl IamActions {
    pub(crate) fn new(prefixes: Vec<PrefixActions>, operations: Vec<ActionOperations>) -> Self {
        Self { actions_by_prefix: prefixes, operations_by_action: operations }
    }

    pub(crate) fn access_level(&self, action: &str) -> Option<AccessLevel> {
        let (prefix, name) = action.split_once(':')?;
        let actions = self.actions_with_prefix(prefix)?;
        let at = actions.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()?;
        actions.get(at).map(|(_, level)| *level)
    }

    pub(crate) fn actions_of(&self, prefix: &str) -> impl Iterator<Item = (String, AccessLevel)> + '_ {
        let owned_prefix = prefix.to_owned();
        self.actions_with_prefix(prefix)
            .unwrap_or_default()
            .iter()
            .map(move |(name, level)| (format!("{owned_prefix}:{name}"), *level))
    }

    pub(crate) fn prefix_names(&self) -> impl Iterator<Item = &str> {
        self.actions_by_prefix.iter().map(|entry| entry.prefix.as_str())
    }

    pub(crate) fn operations_needing(&self, action: &str) -> &[(u32, String)] {
        self.operations_by_action
            .binary_search_by(|entry| entry.action.as_str().cmp(action))
            .ok()
            .and_then(|at| self.operations_by_action.get(at))
            .map_or(&[], |entry| entry.operations.as_slice())
    }

    /// The nearest action by edit distance over lower-case text. Only actions of near prefixes count, so that `s3:GetObjct` never
    /// becomes the action of another service. Of several, the first by name.
    pub(crate) fn nearest_action(&self, text: &str) -> Option<String> {
        let lower = text.to_ascii_lowercase();
        let (prefix, name) = lower.split_once(':')?;
        let mut best: Option<(usize, String)> = None;
        for entry in &self.actions_by_prefix {
            let distance = edit_distance(prefix, &entry.prefix);
            if distance > MAX_EDIT_DISTANCE / 2 {
                continue;
            }
            for (known, _) in &entry.actions {
                // The difference of the lengths is a lower bound of the edit distance, and far cheaper to compute.
                if known.len().abs_diff(name.len()) + distance > MAX_EDIT_DISTANCE {
                    continue;
                }
                let total = distance + edit_distance(name, &known.to_ascii_lowercase());
                if total <= MAX_EDIT_DISTANCE && best.as_ref().is_none_or(|(least, _)| total < *least) {
                    best = Some((total, format!("{}:{known}", entry.prefix)));
                }
            }
        }
        best.map(|(_, action)| action)
    }

    fn actions_with_prefix(&self, prefix: &str) -> Option<&[(String, AccessLevel)]> {
        let at = self.actions_by_prefix.binary_search_by(|entry| entry.prefix.as_str().cmp(prefix)).ok()?;
        self.actions_by_prefix.get(at).map(|entry| entry.actions.as_slice())
    }
}

/// The Levenshtein distance in bytes: names of actions and of a configuration are ASCII.
pub fn edit_distance(left: &str, right: &str) -> usize {
    let right = right.as_bytes();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, a) in left.bytes().enumerate() {
        let mut diagonal = line;
        let mut before = line + 1;
        if let Some(first) = row.first_mut() {
            *first = before;
        }
        for (cell, b) in row.iter_mut().skip(1).zip(right) {
            let above = *cell;
            before = (diagonal + usize::from(a != *b)).min(above + 1).min(before + 1);
            diagonal = above;
            *cell = before;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::edit_distance;

    #[test]
    fn counts_insertions_removals_and_replacements() {
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("abc", ""), 3);
        assert_eq!(edit_distance("getobject", "getobject"), 0);
        assert_eq!(edit_distance("getobjct", "getobject"), 1);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }
}

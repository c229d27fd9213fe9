//! All IAM actions with their access levels, which operations need them, and what a misspelt one may have meant.

use crate::index::{ActionUsers, PrefixActions};
use durward_core::AccessLevel;

/// A name further away than this is another name, not a misspelling.
pub(crate) const FARTHEST: usize = 4;

pub(crate) struct Actions {
    /// Sorted by prefix.
    prefixes: Vec<PrefixActions>,
    /// Sorted by action.
    users: Vec<ActionUsers>,
}

impl Actions {
    pub(crate) fn new(prefixes: Vec<PrefixActions>, users: Vec<ActionUsers>) -> Self {
        Self { prefixes, users }
    }

    pub(crate) fn level(&self, action: &str) -> Option<AccessLevel> {
        let (prefix, name) = action.split_once(':')?;
        let actions = self.prefix(prefix)?;
        let at = actions.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()?;
        actions.get(at).map(|(_, level)| *level)
    }

    pub(crate) fn of(&self, prefix: &str) -> impl Iterator<Item = (String, AccessLevel)> + '_ {
        let owned = prefix.to_owned();
        self.prefix(prefix)
            .unwrap_or_default()
            .iter()
            .map(move |(name, level)| (format!("{owned}:{name}"), *level))
    }

    pub(crate) fn prefixes(&self) -> impl Iterator<Item = &str> {
        self.prefixes.iter().map(|entry| entry.prefix.as_str())
    }

    pub(crate) fn users(&self, action: &str) -> &[(u32, String)] {
        self.users
            .binary_search_by(|entry| entry.action.as_str().cmp(action))
            .ok()
            .and_then(|at| self.users.get(at))
            .map_or(&[], |entry| entry.users.as_slice())
    }

    /// The nearest action by edit distance over lower-case text; under the nearest prefixes only, so that `s3:GetObjct`
    /// never becomes another service's action. Ties go to the first by name.
    pub(crate) fn nearest(&self, text: &str) -> Option<String> {
        let lower = text.to_ascii_lowercase();
        let (prefix, name) = lower.split_once(':')?;
        let mut best: Option<(usize, String)> = None;
        for entry in &self.prefixes {
            let apart = distance(prefix, &entry.prefix);
            if apart > FARTHEST / 2 {
                continue;
            }
            for (known, _) in &entry.actions {
                if known.len().abs_diff(name.len()) + apart > FARTHEST {
                    continue;
                }
                let total = apart + distance(name, &known.to_ascii_lowercase());
                if total <= FARTHEST && best.as_ref().is_none_or(|(least, _)| total < *least) {
                    best = Some((total, format!("{}:{known}", entry.prefix)));
                }
            }
        }
        best.map(|(_, action)| action)
    }

    fn prefix(&self, prefix: &str) -> Option<&[(String, AccessLevel)]> {
        let at = self.prefixes.binary_search_by(|entry| entry.prefix.as_str().cmp(prefix)).ok()?;
        self.prefixes.get(at).map(|entry| entry.actions.as_slice())
    }
}

/// Levenshtein's distance in bytes; action names are ASCII.
pub(crate) fn distance(left: &str, right: &str) -> usize {
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
    use super::distance;

    #[test]
    fn counts_insertions_removals_and_replacements() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("getobject", "getobject"), 0);
        assert_eq!(distance("getobjct", "getobject"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}

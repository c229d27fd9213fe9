//! Operations that the wire does not tell apart. What needs the same IAM actions is decided as one of them, what needs more as
//! the one that needs all; otherwise the body must fit exactly one, or the request is refused.

use super::recognise::Choice;
use super::text::unknown;
use durward_catalog::Operation as Model;
use durward_core::{AccessLevel, Refusal};
use std::collections::BTreeSet;

/// What a head may ask for, the first choice first.
#[derive(Debug, Clone, Default)]
pub(super) struct Tied {
    pub list: Vec<Choice>,
    /// They need different actions, so only the body can say which it is.
    pub open: bool,
}

/// Orders operations that the head does not tell apart.
pub(super) fn settle(mut found: Vec<Choice>) -> Tied {
    if found.len() < 2 {
        return Tied { list: found, open: false };
    }
    let all: BTreeSet<String> = found.iter().flat_map(actions).collect();
    let strictest: Vec<bool> = found.iter().map(|choice| actions(choice) == all).collect();
    if strictest.iter().all(|needs_all| *needs_all) {
        found.sort_by_key(|choice| std::cmp::Reverse(weight(choice)));
        return Tied { list: found, open: false };
    }
    let mut flags = strictest.iter();
    let same_name = found.windows(2).all(|pair| pair.first().map(name) == pair.last().map(name));
    if same_name && strictest.contains(&true) {
        found.retain(|_| flags.next() == Some(&true));
        found.sort_by_key(|choice| std::cmp::Reverse(weight(choice)));
        found.truncate(1);
        return Tied { list: found, open: false };
    }
    Tied { list: found, open: true }
}

/// The refusal of a request that several operations could claim.
pub(super) fn several(found: &[Choice]) -> Refusal {
    let names: Vec<String> =
        found.iter().map(|choice| format!("{}:{}", choice.service.id, name(choice))).collect();
    unknown(format!("the request could be any of {}", names.join(", ")))
}

fn name(choice: &Choice) -> &str {
    choice.model().map_or("", |op| op.name.as_str())
}

fn actions(choice: &Choice) -> BTreeSet<String> {
    choice.model().into_iter().flat_map(|op| &op.actions).map(|needed| needed.action.clone()).collect()
}

/// The strictest access level, the most resources and, last, the service named like the signing name.
fn weight(choice: &Choice) -> (AccessLevel, usize, bool) {
    let level = choice.model().and_then(|op| op.actions.iter().map(|needed| needed.access_level).max());
    let resources = |op: &Model| op.actions.iter().map(|needed| needed.resources.len()).sum();
    (
        level.unwrap_or(AccessLevel::List),
        choice.model().map_or(0, resources),
        choice.service.id == choice.service.signing_name,
    )
}

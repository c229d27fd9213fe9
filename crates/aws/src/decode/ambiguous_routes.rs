//! Operations that the wire does not tell apart. What needs the same IAM actions is decided as one of them, what needs more as
//! the one that needs all; otherwise the body must fit exactly one, or the request is refused.

use super::route_choice::{AmbiguousRoute, RouteChoice};
use crate::refusals::unknown_operation;
use durward_catalog::OperationModel;
use durward_core::{AccessLevel, Refusal};
use std::collections::BTreeSet;

/// Orders operations that the head does not tell apart.
pub(super) fn resolve_ambiguity(mut found: Vec<RouteChoice>) -> AmbiguousRoute {
    if found.len() < 2 {
        return AmbiguousRoute { candidates: found, needs_parameters: false };
    }
    let all: BTreeSet<String> = found.iter().flat_map(iam_actions).collect();
    let strictest: Vec<bool> = found.iter().map(|choice| iam_actions(choice) == all).collect();
    if strictest.iter().all(|needs_all| *needs_all) {
        found.sort_by_key(|choice| std::cmp::Reverse(strictness(choice)));
        return AmbiguousRoute { candidates: found, needs_parameters: false };
    }
    let mut flags = strictest.iter();
    let same_name =
        found.windows(2).all(|pair| pair.first().map(operation_name) == pair.last().map(operation_name));
    if same_name && strictest.contains(&true) {
        found.retain(|_| flags.next() == Some(&true));
        found.sort_by_key(|choice| std::cmp::Reverse(strictness(choice)));
        found.truncate(1);
        return AmbiguousRoute { candidates: found, needs_parameters: false };
    }
    AmbiguousRoute { candidates: found, needs_parameters: true }
}

/// The refusal of a request that several operations could claim.
pub(super) fn refuse_ambiguous_route(found: &[RouteChoice]) -> Refusal {
    let names: Vec<String> =
        found.iter().map(|choice| format!("{}:{}", choice.service.id, operation_name(choice))).collect();
    unknown_operation(format!("the request could be any of {}", names.join(", ")))
}

fn operation_name(choice: &RouteChoice) -> &str {
    choice.operation_model().map_or("", |operation| operation.name.as_str())
}

fn iam_actions(choice: &RouteChoice) -> BTreeSet<String> {
    choice
        .operation_model()
        .into_iter()
        .flat_map(|operation| &operation.required_actions)
        .map(|needed| needed.action.clone())
        .collect()
}

/// The strictest access level, the most resources and, last, the service named like the signing name.
fn strictness(choice: &RouteChoice) -> (AccessLevel, usize, bool) {
    let level = choice
        .operation_model()
        .and_then(|operation| operation.required_actions.iter().map(|needed| needed.access_level).max());
    let resources = |operation: &OperationModel| {
        operation.required_actions.iter().map(|needed| needed.resources.len()).sum()
    };
    (
        level.unwrap_or(AccessLevel::List),
        choice.operation_model().map_or(0, resources),
        choice.service.id == choice.service.signing_name,
    )
}

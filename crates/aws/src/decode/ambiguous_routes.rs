//! Operations whose requests look alike on the wire: 41 signing names belong to several services each (botocore 1.44.5),
//! and some of these services have operations with the same path or action name.
//!
//! Promise: where all candidates need the same IAM actions, any of them may be decided; where one needs all actions of the
//! others, that one is decided; otherwise the parameters must fit exactly one, or the request is refused. So policy never
//! decides less than what AWS may execute.

use super::route_choice::{AmbiguousRoute, RouteChoice};
use crate::refusals::unknown_operation;
use durward_catalog::OperationModel;
use durward_core::{AccessLevel, Refusal};
use std::collections::BTreeSet;

/// Orders the operations that a head may mean, the strictest first, and drops those that need fewer actions.
pub(super) fn resolve_ambiguity(mut found: Vec<RouteChoice>) -> AmbiguousRoute {
    if found.len() < 2 {
        return AmbiguousRoute { candidates: found, needs_parameters: false };
    }
    let all: BTreeSet<String> = found.iter().flat_map(iam_actions).collect();
    let strictest: Vec<bool> = found.iter().map(|choice| iam_actions(choice) == all).collect();
    // The most frequent case: rds, docdb and neptune share a signing name, an API version and many actions (botocore 1.44.5).
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

/// Refuses a request that may mean several operations.
pub(super) fn refuse_ambiguous_route(found: &[RouteChoice]) -> Refusal {
    let names: Vec<String> =
        found.iter().map(|choice| format!("{}:{}", choice.service.id, operation_name(choice))).collect();
    unknown_operation(format!("the request could be any of {}", names.join(", ")))
}

fn operation_name(choice: &RouteChoice) -> &str {
    choice.operation_model().map_or("", |model| model.name.as_str())
}

fn iam_actions(choice: &RouteChoice) -> BTreeSet<String> {
    choice
        .operation_model()
        .into_iter()
        .flat_map(|model| &model.required_actions)
        .map(|needed| needed.action.clone())
        .collect()
}

/// Compared in this order: the strictest access level, the most resources, the service that is named like the signing name.
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

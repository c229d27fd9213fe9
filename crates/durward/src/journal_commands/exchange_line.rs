//! An exchange on one line.

use crate::terminal_text::{escape_for_terminal, format_duration, format_first_three};
use durward_core::Operation;
use durward_core::timestamps::format_utc;
use durward_journal::history::{ExchangeHistory, ExchangeOutcome};
use std::time::Duration;
use time::OffsetDateTime;

/// The longest disposition is `approval required`.
const DISPOSITION_WIDTH: usize = 17;

/// When an exchange was recorded, its disposition, operation and resources, then what there is of status, duration, masking,
/// approvers, policies and refusal.
pub(super) fn format_exchange_line(exchange: &ExchangeHistory) -> String {
    let disposition = exchange.disposition.as_str().replace('_', " ");
    let mut parts = vec![
        exchange.first_recorded.map_or_else(|| "-".to_owned(), format_utc),
        format!("{disposition:<DISPOSITION_WIDTH$}"),
        exchange.operation.as_ref().map_or_else(|| "(not decoded)".to_owned(), format_operation),
    ];
    match &exchange.outcome {
        Some(outcome) => push_outcome(outcome, exchange.masked_values(), &mut parts),
        None if exchange.disposition.is_permitted() && exchange.coalesced.is_none() => {
            parts.push("(no outcome recorded)".to_owned());
        }
        None => {}
    }
    if let Some(coalesced) = &exchange.coalesced {
        parts.push(coalesced.status.to_string());
        parts.push(format_duration(coalesced.duration_us));
        parts.push(format!("stored response of exchange {}", coalesced.executed_by));
    }
    if let Some(grant) = &exchange.grant {
        parts.push(format!("approved by {}", escape_for_terminal(&grant.approvers.join(", "))));
    }
    if let Some(decision) = exchange.decision.as_ref().filter(|decision| !decision.policies.is_empty()) {
        parts.push(format!("policy {}", escape_for_terminal(&decision.policies.join(", "))));
    }
    if let Some(request) = &exchange.approval_request {
        parts.push(format!("[approval request {}]", escape_for_terminal(request)));
    }
    if let Some(refusal) = &exchange.refusal {
        parts.push(escape_for_terminal(&refusal.message));
    }
    parts.join("  ")
}

fn format_operation(operation: &Operation) -> String {
    let permissions = operation.required_permissions.iter();
    let resources = format_first_three(permissions.map(|permission| permission.resource.to_text()));
    escape_for_terminal(format!("{} {resources}", operation.qualified_name()).trim_end())
}

fn push_outcome(outcome: &ExchangeOutcome, masked_values: u64, parts: &mut Vec<String>) {
    parts.push(match &outcome.error_code {
        Some(code) => format!("{} {}", outcome.status, escape_for_terminal(code)),
        None => outcome.status.to_string(),
    });
    parts.push(format_duration(outcome.duration_us));
    if masked_values > 0 {
        parts.push(format!("masked {masked_values}"));
    }
    if let Some(failure) = &outcome.failure {
        parts.push(format!("failed: {}", escape_for_terminal(failure)));
    }
}

/// The time between two exchanges. Zero if one of them has no time, or if they are microseconds out of order.
pub(super) fn pause_between(before: Option<OffsetDateTime>, after: Option<OffsetDateTime>) -> Duration {
    match (before, after) {
        (Some(before), Some(after)) => Duration::try_from(after - before).unwrap_or_default(),
        _ => Duration::ZERO,
    }
}

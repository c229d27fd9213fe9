//! The content of a message about an approval request, for an approver who may just have been woken by it: the operation, the
//! caller, the risk, and until when to decide.
//!
//! Every text in a [`RequestSummary`] is visible (no control, direction or invisible characters, so that no line or header can
//! be added) and of limited length. Each kind of message escapes it further.

use crate::NotificationEvent;
use durward_approval::{ApprovalOutcome, ApprovalRequest, ApprovalRequirement, Vote};
use durward_core::timestamps::format_utc;
use durward_core::{CallerKind, RequiredPermission, Resource, escape_invisible};
use std::collections::BTreeSet;
use time::{Duration, OffsetDateTime};

/// Resources, policies and the like that one message lists.
const MAX_LISTED_ITEMS: usize = 5;
/// Tags and risk reasons that one message lists.
const MAX_LISTED_SHORT_ITEMS: usize = 10;
/// Characters of one text.
const MAX_TEXT_CHARS: usize = 200;
/// Characters of one text in the headline.
const MAX_HEADLINE_TEXT_CHARS: usize = 60;
/// Requests that a batch message lists.
const MAX_BATCH_LINES: usize = 10;

/// The heading of the uninspected parts, for every kind of message.
pub(crate) const UNINSPECTED_WARNING: &str = "its content is unknown";
/// The heading of the broad grants, for every kind of message.
pub(crate) const BROAD_GRANT_HEADING: &str = "Broad grant";
/// Under every message about a request: previews and scanners follow links, and people should know that this is safe.
pub(crate) const LINK_NOTE: &str = "Opening the link decides nothing.";

/// One approval request in the words of a message.
#[derive(Debug, Clone)]
pub(crate) struct RequestSummary {
    pub event: NotificationEvent,
    pub url: String,
    /// `s3:DeleteBucket`.
    pub title: String,
    /// The first resource in short form.
    pub first_resource: String,
    pub other_resources: usize,
    /// Actions with their resources.
    pub required_permissions: Vec<(String, String)>,
    pub unlisted_permissions: usize,
    /// `critical=true`: the tags of the resources, as far as they were read.
    pub tags: Vec<String>,
    pub account: Option<String>,
    pub region: Option<String>,
    pub connection: String,
    pub caller: String,
    pub caller_kind: CallerKind,
    pub on_behalf_of: Vec<String>,
    pub risk_score: u8,
    pub risk_level: &'static str,
    pub risk_reasons: Vec<String>,
    /// The broad grants of the request, with their positions in it. They are among the reasons, too.
    pub broad_grants: Vec<String>,
    pub requirements: Vec<RequirementSummary>,
    /// The reason that the policies give.
    pub policy_reason: String,
    pub deadline: OffsetDateTime,
    /// `None`: the deadline is over.
    pub time_left: Option<Duration>,
    /// True if people may still vote after the deadline.
    pub is_queued_on_timeout: bool,
    pub uninspected_parts: Vec<String>,
    pub outcome: Option<OutcomeSummary>,
}

/// A policy that requires approval, and who may give it.
#[derive(Debug, Clone)]
pub(crate) struct RequirementSummary {
    pub policy: String,
    pub group: String,
    pub quorum: u32,
}

/// The decision on a request, or its end.
#[derive(Debug, Clone)]
pub(crate) struct OutcomeSummary {
    /// `Approved`.
    pub label: &'static str,
    /// The names of those who voted for it.
    pub by: String,
    /// Their reason, or what the outcome means.
    pub note: String,
}

fn truncate_short(text: &str) -> String {
    truncate_middle(text, MAX_HEADLINE_TEXT_CHARS)
}

fn truncate_long(text: &str) -> String {
    truncate_middle(text, MAX_TEXT_CHARS)
}

/// The text without invisible characters and, if it is too long, without its middle: names differ at either end, and a caller
/// could otherwise hide the end of a name behind a long beginning.
fn truncate_middle(text: &str, max_chars: usize) -> String {
    let shown = escape_invisible(text);
    let length = shown.chars().count();
    if length <= max_chars {
        return shown;
    }
    let tail_chars = max_chars / 3;
    let head: String = shown.chars().take(max_chars - tail_chars - 3).collect();
    let tail: String = shown.chars().skip(length - tail_chars).collect();
    format!("{head}...{tail}")
}

fn format_time_left(time_left: Duration) -> String {
    match time_left.whole_seconds() {
        ..=119 => format!("in {} s", time_left.whole_seconds()),
        seconds @ 120..=7_199 => format!("in {} min", seconds / 60),
        seconds => format!("in {} h", seconds / 3_600),
    }
}

/// A resource as text. An ARN is shortened to its last part for the headline: the account and region are listed beside it.
fn resource_text(resource: &Resource, is_headline: bool) -> String {
    match resource {
        Resource::Any => "every resource".to_owned(),
        Resource::Arn(arn) if is_headline => {
            let mut parts = arn.splitn(6, ':');
            let name = if parts.next() == Some("arn") { parts.nth(4) } else { None };
            truncate_short(name.unwrap_or(arn))
        }
        other if is_headline => truncate_short(&other.to_text()),
        other => truncate_long(&other.to_text()),
    }
}

impl RequestSummary {
    pub fn from_request(
        request: &ApprovalRequest,
        event: NotificationEvent,
        console_url: &str,
        now: OffsetDateTime,
    ) -> Self {
        let details = &request.details;
        let operation = &details.operation;
        let mut resources: Vec<&Resource> = Vec::new();
        for permission in &operation.required_permissions {
            if !resources.contains(&&permission.resource) {
                resources.push(&permission.resource);
            }
        }
        let permission = |permission: &RequiredPermission| {
            (truncate_short(&permission.action), resource_text(&permission.resource, false))
        };
        let requirement = |requirement: &ApprovalRequirement| RequirementSummary {
            policy: truncate_short(&requirement.policy),
            group: truncate_short(&requirement.group),
            quorum: requirement.quorum.max(1),
        };
        let tags: BTreeSet<(&String, &String)> = details.tags.values().flatten().collect();
        let short = |texts: &[String], count: usize| {
            texts.iter().take(count).map(|text| truncate_short(text)).collect()
        };
        let long = |texts: &[String], count: usize| {
            texts.iter().take(count).map(|text| truncate_long(text)).collect()
        };
        let time_left = request.deadline - now;
        Self {
            event,
            url: format!("{console_url}/approvals/{}", request.id),
            title: truncate_short(&operation.qualified_name()),
            first_resource: resources
                .first()
                .map_or_else(|| "no resource".to_owned(), |resource| resource_text(resource, true)),
            other_resources: resources.len().saturating_sub(1),
            required_permissions: operation
                .required_permissions
                .iter()
                .take(MAX_LISTED_ITEMS)
                .map(permission)
                .collect(),
            unlisted_permissions: operation.required_permissions.len().saturating_sub(MAX_LISTED_ITEMS),
            tags: tags
                .iter()
                .take(MAX_LISTED_SHORT_ITEMS)
                .map(|(key, value)| truncate_short(&format!("{key}={value}")))
                .collect(),
            account: operation.account.as_deref().map(truncate_short),
            region: operation.region.as_deref().map(truncate_short),
            connection: truncate_short(&details.connection),
            caller: truncate_short(&details.caller.id()),
            caller_kind: details.caller.kind,
            on_behalf_of: short(&details.caller.act, MAX_LISTED_ITEMS),
            risk_score: request.risk.score,
            risk_level: request.risk.level(),
            broad_grants: request.risk.broad_grants().take(MAX_LISTED_ITEMS).map(truncate_long).collect(),
            risk_reasons: long(&request.risk.reasons, MAX_LISTED_SHORT_ITEMS),
            requirements: details.requirements.iter().take(MAX_LISTED_ITEMS).map(requirement).collect(),
            policy_reason: truncate_long(&details.reason),
            deadline: request.deadline,
            time_left: time_left.is_positive().then_some(time_left),
            is_queued_on_timeout: details.is_queued_on_timeout(),
            uninspected_parts: long(&operation.uninspected_parts, MAX_LISTED_ITEMS),
            outcome: summarize_outcome(request),
        }
    }

    /// The text of the link to the request.
    pub fn link_label(&self) -> &'static str {
        match self.event {
            NotificationEvent::Opened => "Review and vote",
            NotificationEvent::Closed | NotificationEvent::BreakGlass => "View",
        }
    }

    pub fn caller_kind_text(&self) -> &'static str {
        match self.caller_kind {
            CallerKind::Human => "a person",
            CallerKind::Workload => "a workload",
        }
    }

    /// The deadline, and what happens then.
    pub fn deadline_text(&self) -> String {
        let left = self.time_left.map_or_else(|| "over".to_owned(), format_time_left);
        let effect = if self.is_queued_on_timeout {
            "then it is refused, and passes once it is approved and sent again"
        } else {
            "then it is refused"
        };
        format!("{} ({left}), {effect}", format_utc(self.deadline))
    }

    /// The operation and its caller, each text of others escaped by `escape`: `s3:DeleteBucket on logs, requested by
    /// corp/agent for alice`.
    pub fn describe_operation(&self, escape: impl Fn(&str) -> String) -> String {
        let more = if self.other_resources > 0 {
            format!(" and {} more", self.other_resources)
        } else {
            String::new()
        };
        let behalf =
            self.on_behalf_of.first().map(|first| format!(" for {}", escape(first))).unwrap_or_default();
        let (title, resource, caller) =
            (escape(&self.title), escape(&self.first_resource), escape(&self.caller));
        format!("{title} on {resource}{more}, requested by {caller}{behalf}")
    }

    /// The first line: enough to decide if the request can wait.
    pub fn format_headline(&self, escape: impl Fn(&str) -> String) -> String {
        let operation = self.describe_operation(&escape);
        let risk = format!("risk {} ({})", self.risk_score, self.risk_level);
        match (&self.outcome, self.event, self.time_left) {
            (Some(outcome), NotificationEvent::Closed | NotificationEvent::BreakGlass, _) => {
                let by = if outcome.by.is_empty() {
                    String::new()
                } else {
                    format!(" by {}", escape(&outcome.by))
                };
                let is_break_glass = self.event == NotificationEvent::BreakGlass;
                let label = if is_break_glass { "BREAK-GLASS" } else { outcome.label };
                format!("{label}{by}: {operation}, {risk}")
            }
            (_, _, None) => format!("{operation}: {risk}, no longer waiting, may still be approved"),
            (_, _, Some(time_left)) => {
                let (hour, minute, second) = self.deadline.to_offset(time::UtcOffset::UTC).to_hms();
                format!(
                    "{operation}: {risk}, decide by {hour:02}:{minute:02}:{second:02} UTC ({})",
                    format_time_left(time_left)
                )
            }
        }
    }

    /// The first line as plain text.
    pub fn headline(&self) -> String {
        self.format_headline(str::to_owned)
    }
}

fn summarize_outcome(request: &ApprovalRequest) -> Option<OutcomeSummary> {
    let names = |is_wanted: &dyn Fn(&Vote) -> bool| {
        let names: Vec<String> = request
            .votes
            .iter()
            .filter(|vote| is_wanted(vote))
            .take(MAX_LISTED_ITEMS)
            .map(|vote| truncate_short(&vote.by.name))
            .collect();
        names.join(", ")
    };
    let approvers = || names(&|vote| vote.is_approval);
    let reason = |vote: Option<&Vote>| vote.and_then(|vote| vote.reason.clone()).unwrap_or_default();
    let (label, by, note) = match request.outcome()? {
        ApprovalOutcome::BrokeGlass => {
            let vote = request.votes.iter().find(|vote| vote.is_approval && vote.break_glass);
            let by = vote.map(|vote| truncate_short(&vote.by.name)).unwrap_or_default();
            ("Break-glass", by, reason(vote))
        }
        ApprovalOutcome::Denied => {
            let vote = request.last_denial();
            let by = vote.map(|vote| truncate_short(&vote.by.name)).unwrap_or_default();
            ("Denied", by, reason(vote))
        }
        ApprovalOutcome::ApprovedOnce => ("Approved", approvers(), "once".to_owned()),
        ApprovalOutcome::ApprovedUntil(until) => {
            let until = until.map(format_utc).unwrap_or_default();
            ("Approved", approvers(), format!("each time until {until}"))
        }
        ApprovalOutcome::GrantExpired => ("Approved", approvers(), "the grant has expired".to_owned()),
        ApprovalOutcome::TimedOut => ("Timed out", String::new(), "the operation was refused".to_owned()),
        ApprovalOutcome::Superseded => {
            ("Superseded", String::new(), "the policies that require approval have changed".to_owned())
        }
        ApprovalOutcome::QueueExpired => ("Expired", String::new(), "not decided within a day".to_owned()),
        ApprovalOutcome::Corrupt => (
            "Corrupt",
            String::new(),
            "the stored approval request cannot be read; it grants nothing".to_owned(),
        ),
    };
    Some(OutcomeSummary { label, by, note: truncate_long(&note) })
}

/// One request in a batch message.
#[derive(Debug, Clone)]
pub(crate) struct RequestHeadline {
    pub approval_request: String,
    pub url: String,
    pub headline: String,
}

/// Several requests in one message.
#[derive(Debug, Clone)]
pub(crate) struct BatchSummary {
    /// The queue in the console.
    pub queue_url: String,
    pub opened: Vec<RequestHeadline>,
    pub closed: Vec<RequestHeadline>,
}

impl BatchSummary {
    pub fn headline(&self) -> String {
        let count = |count: usize, one: &str, many: &str| match count {
            0 => None,
            1 => Some(format!("1 more {one}")),
            _ => Some(format!("{count} more {many}")),
        };
        let parts = [
            count(self.opened.len(), "approval request is pending", "approval requests are pending"),
            count(
                self.closed.len(),
                "approval request was decided or expired",
                "approval requests were decided or expired",
            ),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// The requests that a message lists, and the number of the others.
    pub fn listed_requests(&self) -> (impl Iterator<Item = &RequestHeadline>, usize) {
        let total = self.opened.len() + self.closed.len();
        let listed = self.opened.iter().chain(&self.closed).take(MAX_BATCH_LINES);
        (listed, total.saturating_sub(MAX_BATCH_LINES))
    }
}

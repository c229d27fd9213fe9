//! An ask in the words of a message, for somebody who is woken by it: what, who, how risky, until when.
//!
//! Every text in here is visible (no control, direction or invisible characters, so no line or header can be added) and of
//! bounded length. How it is escaped beyond that is for each kind of message.

use crate::NotificationEvent;
use durward_approval::{ApprovalRequest, ApprovalState, TimeoutAction, Vote};
use durward_core::{CallerKind, Resource, escape_invisible};
use std::collections::BTreeSet;
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

/// Resources, reasons and the like that one message lists.
const MAX_LISTED_ITEMS: usize = 5;
/// Characters of one text, and of one within the first line.
const MAX_TEXT_CHARS: usize = 200;
const MAX_HEADLINE_TEXT_CHARS: usize = 60;

/// One ask.
#[derive(Debug, Clone)]
pub(crate) struct RequestSummary {
    pub event: NotificationEvent,
    pub url: String,
    /// `s3:DeleteBucket`.
    pub title: String,
    /// The first resource, shortly, and how many there are beside it.
    pub first_resource: String,
    pub other_resources: usize,
    /// Actions with their resources, and how many are not listed.
    pub required_permissions: Vec<(String, String)>,
    pub unlisted_permissions: usize,
    /// `critical=true`: tags of the resources, as far as they were read.
    pub tags: Vec<String>,
    pub account: Option<String>,
    pub region: Option<String>,
    pub connection: String,
    pub caller: String,
    pub caller_kind: &'static str,
    pub on_behalf_of: Vec<String>,
    pub risk_score: u8,
    pub risk_reasons: Vec<String>,
    /// Which policies ask, and who may answer.
    pub requirements: Vec<ApproverRequirement>,
    /// What policy says.
    pub policy_reason: String,
    pub deadline: String,
    pub time_left: String,
    /// What happens if nobody answers.
    pub timeout_effect: &'static str,
    pub uninspected_parts: Vec<String>,
    pub outcome: Option<RequestOutcome>,
}

#[derive(Debug, Clone)]
pub(crate) struct ApproverRequirement {
    pub policy: String,
    pub group: String,
    pub quorum: u32,
}

/// How an ask ended.
#[derive(Debug, Clone)]
pub(crate) struct RequestOutcome {
    /// `Approved`.
    pub label: &'static str,
    /// Who answered, if anybody did.
    pub by: String,
    /// What they said, or what it means.
    pub note: String,
}

fn truncate_short(text: &str) -> String {
    truncate_middle(text, MAX_HEADLINE_TEXT_CHARS)
}

fn truncate_long(text: &str) -> String {
    truncate_middle(text, MAX_TEXT_CHARS)
}

/// Visible, and without its middle if it is too long: both ends tell names apart.
fn truncate_middle(text: &str, longest: usize) -> String {
    let shown = escape_invisible(text);
    let length = shown.chars().count();
    if length <= longest {
        return shown;
    }
    let tail = longest / 3;
    let head: String = shown.chars().take(longest - tail - 3).collect();
    let end: String = shown.chars().skip(length - tail).collect();
    format!("{head}...{end}")
}

/// A time for people, in UTC.
pub(crate) fn format_utc(at: OffsetDateTime) -> String {
    let at = at.to_offset(UtcOffset::UTC);
    let (hour, minute, second) = at.to_hms();
    format!("{} {hour:02}:{minute:02}:{second:02} UTC", at.date())
}

/// A time for programs.
pub(crate) fn format_rfc3339(at: OffsetDateTime) -> String {
    at.to_offset(UtcOffset::UTC).format(&Rfc3339).unwrap_or_default()
}

fn format_time_left(until: OffsetDateTime, now: OffsetDateTime) -> String {
    match (until - now).whole_seconds() {
        ..=0 => "over".to_owned(),
        seconds @ 1..=119 => format!("in {seconds} s"),
        seconds @ 120..=7_199 => format!("in {} min", seconds / 60),
        seconds => format!("in {} h", seconds / 3_600),
    }
}

/// Without what every ARN of the account begins with: that is listed beside.
fn short_resource_name(resource: &Resource) -> String {
    match resource {
        Resource::Any => "every resource".to_owned(),
        Resource::Arn(arn) => {
            let mut parts = arn.splitn(6, ':');
            let name = if parts.next() == Some("arn") { parts.nth(4) } else { None };
            truncate_short(name.unwrap_or(arn))
        }
        other => truncate_short(&other.to_text()),
    }
}

impl RequestSummary {
    pub fn from_request(
        ask: &ApprovalRequest,
        event: NotificationEvent,
        console: &str,
        now: OffsetDateTime,
    ) -> Self {
        let what = &ask.details;
        let operation = &what.operation;
        let mut resources: Vec<&Resource> = Vec::new();
        for demand in &operation.required_permissions {
            if !resources.contains(&&demand.resource) {
                resources.push(&demand.resource);
            }
        }
        let demand = |demand: &durward_core::RequiredPermission| {
            let resource = match &demand.resource {
                Resource::Any => "every resource".to_owned(),
                other => truncate_long(&other.to_text()),
            };
            (truncate_short(&demand.action), resource)
        };
        let required = |one: &durward_approval::ApprovalRequirement| ApproverRequirement {
            policy: truncate_short(&one.policy),
            group: truncate_short(&one.group),
            quorum: one.quorum.max(1),
        };
        let tags: BTreeSet<(&String, &String)> = what.tags.values().flatten().collect();
        let queues = what.requirements.iter().all(|one| one.on_timeout == TimeoutAction::Queue);
        Self {
            event,
            url: format!("{console}/asks/{}", ask.id),
            title: truncate_short(&operation.qualified_name()),
            first_resource: resources
                .first()
                .map_or_else(|| "no resource".to_owned(), |one| short_resource_name(one)),
            other_resources: resources.len().saturating_sub(1),
            required_permissions: operation
                .required_permissions
                .iter()
                .take(MAX_LISTED_ITEMS)
                .map(demand)
                .collect(),
            unlisted_permissions: operation.required_permissions.len().saturating_sub(MAX_LISTED_ITEMS),
            tags: tags
                .iter()
                .take(2 * MAX_LISTED_ITEMS)
                .map(|(key, value)| truncate_short(&format!("{key}={value}")))
                .collect(),
            account: operation.account.as_deref().map(truncate_short),
            region: operation.region.as_deref().map(truncate_short),
            connection: truncate_short(&what.connection),
            caller: truncate_short(&what.caller.id()),
            caller_kind: match what.caller.kind {
                CallerKind::Human => "a person",
                CallerKind::Workload => "a workload",
            },
            on_behalf_of: what
                .caller
                .act
                .iter()
                .take(MAX_LISTED_ITEMS)
                .map(|one| truncate_short(one))
                .collect(),
            risk_score: ask.risk.score,
            risk_reasons: ask
                .risk
                .reasons
                .iter()
                .take(2 * MAX_LISTED_ITEMS)
                .map(|one| truncate_long(one))
                .collect(),
            requirements: what.requirements.iter().take(MAX_LISTED_ITEMS).map(required).collect(),
            policy_reason: truncate_long(&what.reason),
            deadline: format_utc(ask.deadline),
            time_left: format_time_left(ask.deadline, now),
            timeout_effect: if queues {
                "then it is refused, and passes once it is approved and sent again"
            } else {
                "then it is refused"
            },
            uninspected_parts: operation
                .uninspected_parts
                .iter()
                .take(MAX_LISTED_ITEMS)
                .map(|one| truncate_long(one))
                .collect(),
            outcome: request_outcome(ask),
        }
    }

    /// `low` to `severe`, as the console says it.
    pub fn risk_level(&self) -> &'static str {
        match self.risk_score {
            0..=24 => "low",
            25..=49 => "medium",
            50..=74 => "high",
            _ => "severe",
        }
    }

    /// What is asked, and by whom, each text dressed by `dress`: `s3:DeleteBucket on logs, asked by corp/agent for alice`.
    pub fn describe_operation(&self, dress: impl Fn(&str) -> String) -> String {
        let more = if self.other_resources > 0 {
            format!(" and {} more", self.other_resources)
        } else {
            String::new()
        };
        let behalf =
            self.on_behalf_of.first().map(|first| format!(" for {}", dress(first))).unwrap_or_default();
        let (title, resource, caller) =
            (dress(&self.title), dress(&self.first_resource), dress(&self.caller));
        format!("{title} on {resource}{more}, asked by {caller}{behalf}")
    }

    /// The first line: all that somebody must know to get up or to sleep on.
    pub fn format_headline(&self, dress: impl Fn(&str) -> String) -> String {
        let subject = self.describe_operation(&dress);
        let risk = format!("risk {} ({})", self.risk_score, self.risk_level());
        match (&self.outcome, self.event) {
            (Some(outcome), NotificationEvent::Closed | NotificationEvent::BreakGlass) => {
                let by =
                    if outcome.by.is_empty() { String::new() } else { format!(" by {}", dress(&outcome.by)) };
                let word =
                    if self.event == NotificationEvent::BreakGlass { "BREAK-GLASS" } else { outcome.label };
                format!("{word}{by}: {subject}, {risk}")
            }
            _ if self.time_left == "over" => {
                format!("{subject}: {risk}, no longer held, may still be approved")
            }
            _ => {
                let time = self.deadline.split_once(' ').map_or(self.deadline.as_str(), |(_date, time)| time);
                format!("{subject}: {risk}, answer by {time} ({})", self.time_left)
            }
        }
    }

    /// The first line as plain text.
    pub fn headline(&self) -> String {
        self.format_headline(str::to_owned)
    }
}

fn request_outcome(ask: &ApprovalRequest) -> Option<RequestOutcome> {
    let outcome =
        |word, by: String, note: &str| Some(RequestOutcome { label: word, by, note: truncate_long(note) });
    let approvers = || {
        let names: Vec<String> = ask
            .votes
            .iter()
            .filter(|vote| vote.is_approval)
            .take(MAX_LISTED_ITEMS)
            .map(|vote| truncate_short(&vote.by.name))
            .collect();
        names.join(", ")
    };
    let said = |vote: &Vote| vote.reason.clone().unwrap_or_default();
    let happened = |kind: &str| ask.history.iter().any(|event| event.kind == kind);
    if ask.break_glass {
        let vote = ask.votes.iter().find(|vote| vote.is_approval && vote.break_glass)?;
        return outcome("Break-glass", truncate_short(&vote.by.name), &said(vote));
    }
    match ask.state {
        ApprovalState::Pending => None,
        ApprovalState::Denied => {
            let vote = ask.last_denial();
            outcome(
                "Denied",
                vote.map(|vote| truncate_short(&vote.by.name)).unwrap_or_default(),
                &vote.map(said).unwrap_or_default(),
            )
        }
        ApprovalState::Approved | ApprovalState::Consumed if ask.time_bound => {
            let until = ask.grant_until.map(format_utc).unwrap_or_default();
            outcome("Approved", approvers(), &format!("each time until {until}"))
        }
        ApprovalState::Approved | ApprovalState::Consumed => outcome("Approved", approvers(), "once"),
        ApprovalState::TimedOut => {
            outcome("Not answered in time", String::new(), "the operation was refused")
        }
        ApprovalState::Expired if happened("granted") => {
            outcome("Approved", approvers(), "not used in time, and over now")
        }
        ApprovalState::Expired if happened("superseded") => {
            outcome("Replaced", String::new(), "the policies that ask have changed; it was asked anew")
        }
        ApprovalState::Expired => outcome("Not answered within a day", String::new(), "the ask is over"),
        ApprovalState::Corrupt => {
            outcome("Damaged", String::new(), "what is stored of it cannot be read; nothing passes on it")
        }
    }
}

/// An ask in one line of a summary.
#[derive(Debug, Clone)]
pub(crate) struct RequestHeadline {
    pub approval_request: String,
    pub url: String,
    pub headline: String,
}

/// Several asks in one message.
#[derive(Debug, Clone)]
pub(crate) struct BatchSummary {
    /// The queue.
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
            count(self.opened.len(), "ask waits for an answer", "asks wait for an answer"),
            count(self.closed.len(), "ask was answered or is over", "asks were answered or are over"),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// What a message lists, and how many it does not.
    pub fn listed_requests(&self) -> (impl Iterator<Item = &RequestHeadline>, usize) {
        const MAX_BATCH_LINES: usize = 10;
        let all = self.opened.len() + self.closed.len();
        (self.opened.iter().chain(&self.closed).take(MAX_BATCH_LINES), all.saturating_sub(MAX_BATCH_LINES))
    }
}

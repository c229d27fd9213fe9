//! An ask in the words of a message, for somebody who is woken by it: what, who, how risky, until when.
//!
//! Every text in here is visible (no control, direction or invisible characters, so no line or header can be added) and of
//! bounded length. How it is escaped beyond that is for each kind of message.

use crate::Event;
use durward_approval::{Ask, OnTimeout, State, Vote};
use durward_core::{CallerKind, Resource, visible};
use std::collections::BTreeSet;
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

/// Resources, reasons and the like that one message lists.
const LISTED: usize = 5;
/// Characters of one text, and of one within the first line.
const LONG: usize = 200;
const SHORT: usize = 60;

/// One ask.
#[derive(Debug, Clone)]
pub(crate) struct Brief {
    pub event: Event,
    pub url: String,
    /// `s3:DeleteBucket`.
    pub title: String,
    /// The first resource, shortly, and how many there are beside it.
    pub resource: String,
    pub beside: usize,
    /// Actions with their resources, and how many are not listed.
    pub demands: Vec<(String, String)>,
    pub more: usize,
    /// `critical=true`: tags of the resources, as far as they were read.
    pub tags: Vec<String>,
    pub account: Option<String>,
    pub region: Option<String>,
    pub connection: String,
    pub caller: String,
    pub kind: &'static str,
    pub behalf: Vec<String>,
    pub risk: u8,
    pub reasons: Vec<String>,
    /// Which policies ask, and who may answer.
    pub required: Vec<Required>,
    /// What policy says.
    pub reason: String,
    pub until: String,
    pub left: String,
    /// What happens if nobody answers.
    pub then: &'static str,
    pub uninspected: Vec<String>,
    pub outcome: Option<Outcome>,
}

#[derive(Debug, Clone)]
pub(crate) struct Required {
    pub policy: String,
    pub group: String,
    pub people: u32,
}

/// How an ask ended.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// `Approved`.
    pub word: &'static str,
    /// Who answered, if anybody did.
    pub by: String,
    /// What they said, or what it means.
    pub note: String,
}

fn short(text: &str) -> String {
    cut(text, SHORT)
}

fn long(text: &str) -> String {
    cut(text, LONG)
}

/// Visible, and without its middle if it is too long: both ends tell names apart.
fn cut(text: &str, longest: usize) -> String {
    let shown = visible(text);
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
pub(crate) fn moment(at: OffsetDateTime) -> String {
    let at = at.to_offset(UtcOffset::UTC);
    let (hour, minute, second) = at.to_hms();
    format!("{} {hour:02}:{minute:02}:{second:02} UTC", at.date())
}

/// A time for programs.
pub(crate) fn stamp(at: OffsetDateTime) -> String {
    at.to_offset(UtcOffset::UTC).format(&Rfc3339).unwrap_or_default()
}

fn left(until: OffsetDateTime, now: OffsetDateTime) -> String {
    match (until - now).whole_seconds() {
        ..=0 => "over".to_owned(),
        seconds @ 1..=119 => format!("in {seconds} s"),
        seconds @ 120..=7_199 => format!("in {} min", seconds / 60),
        seconds => format!("in {} h", seconds / 3_600),
    }
}

/// Without what every ARN of the account begins with: that is listed beside.
fn name(resource: &Resource) -> String {
    match resource {
        Resource::Any => "every resource".to_owned(),
        Resource::Arn(arn) => {
            let mut parts = arn.splitn(6, ':');
            let name = if parts.next() == Some("arn") { parts.nth(4) } else { None };
            short(name.unwrap_or(arn))
        }
        other => short(&other.as_text()),
    }
}

impl Brief {
    pub fn of(ask: &Ask, event: Event, console: &str, now: OffsetDateTime) -> Self {
        let what = &ask.what;
        let operation = &what.operation;
        let mut resources: Vec<&Resource> = Vec::new();
        for demand in &operation.demands {
            if !resources.contains(&&demand.resource) {
                resources.push(&demand.resource);
            }
        }
        let demand = |demand: &durward_core::Demand| {
            let resource = match &demand.resource {
                Resource::Any => "every resource".to_owned(),
                other => long(&other.as_text()),
            };
            (short(&demand.action), resource)
        };
        let required = |one: &durward_approval::Requirement| Required {
            policy: short(&one.policy),
            group: short(&one.group),
            people: one.quorum.max(1),
        };
        let tags: BTreeSet<(&String, &String)> = what.tags.values().flatten().collect();
        let queues = what.requirements.iter().all(|one| one.on_timeout == OnTimeout::Queue);
        Self {
            event,
            url: format!("{console}/asks/{}", ask.id),
            title: short(&operation.title()),
            resource: resources.first().map_or_else(|| "no resource".to_owned(), |one| name(one)),
            beside: resources.len().saturating_sub(1),
            demands: operation.demands.iter().take(LISTED).map(demand).collect(),
            more: operation.demands.len().saturating_sub(LISTED),
            tags: tags.iter().take(2 * LISTED).map(|(key, value)| short(&format!("{key}={value}"))).collect(),
            account: operation.account.as_deref().map(short),
            region: operation.region.as_deref().map(short),
            connection: short(&what.connection),
            caller: short(&what.caller.id()),
            kind: match what.caller.kind {
                CallerKind::Human => "a person",
                CallerKind::Workload => "a workload",
            },
            behalf: what.caller.act.iter().take(LISTED).map(|one| short(one)).collect(),
            risk: ask.risk.score,
            reasons: ask.risk.reasons.iter().take(2 * LISTED).map(|one| long(one)).collect(),
            required: what.requirements.iter().take(LISTED).map(required).collect(),
            reason: long(&what.reason),
            until: moment(ask.deadline),
            left: left(ask.deadline, now),
            then: if queues {
                "then it is refused, and passes once it is approved and sent again"
            } else {
                "then it is refused"
            },
            uninspected: operation.uninspected.iter().take(LISTED).map(|one| long(one)).collect(),
            outcome: outcome(ask),
        }
    }

    /// `low` to `severe`, as the console says it.
    pub fn risk_word(&self) -> &'static str {
        match self.risk {
            0..=24 => "low",
            25..=49 => "medium",
            50..=74 => "high",
            _ => "severe",
        }
    }

    /// What is asked, and by whom, each text dressed by `dress`: `s3:DeleteBucket on logs, asked by corp/agent for alice`.
    pub fn subject(&self, dress: impl Fn(&str) -> String) -> String {
        let more = if self.beside > 0 { format!(" and {} more", self.beside) } else { String::new() };
        let behalf = self.behalf.first().map(|first| format!(" for {}", dress(first))).unwrap_or_default();
        let (title, resource, caller) = (dress(&self.title), dress(&self.resource), dress(&self.caller));
        format!("{title} on {resource}{more}, asked by {caller}{behalf}")
    }

    /// The first line: all that somebody must know to get up or to sleep on.
    pub fn line(&self, dress: impl Fn(&str) -> String) -> String {
        let subject = self.subject(&dress);
        let risk = format!("risk {} ({})", self.risk, self.risk_word());
        match (&self.outcome, self.event) {
            (Some(outcome), Event::Closed | Event::BreakGlass) => {
                let by =
                    if outcome.by.is_empty() { String::new() } else { format!(" by {}", dress(&outcome.by)) };
                let word = if self.event == Event::BreakGlass { "BREAK-GLASS" } else { outcome.word };
                format!("{word}{by}: {subject}, {risk}")
            }
            _ if self.left == "over" => format!("{subject}: {risk}, no longer held, may still be approved"),
            _ => {
                let time = self.until.split_once(' ').map_or(self.until.as_str(), |(_date, time)| time);
                format!("{subject}: {risk}, answer by {time} ({})", self.left)
            }
        }
    }

    /// The first line as plain text.
    pub fn headline(&self) -> String {
        self.line(str::to_owned)
    }
}

fn outcome(ask: &Ask) -> Option<Outcome> {
    let outcome = |word, by: String, note: &str| Some(Outcome { word, by, note: long(note) });
    let approvers = || {
        let names: Vec<String> = ask
            .votes
            .iter()
            .filter(|vote| vote.approve)
            .take(LISTED)
            .map(|vote| short(&vote.by.name))
            .collect();
        names.join(", ")
    };
    let said = |vote: &Vote| vote.reason.clone().unwrap_or_default();
    let happened = |kind: &str| ask.history.iter().any(|event| event.kind == kind);
    if ask.break_glass {
        let vote = ask.votes.iter().find(|vote| vote.approve && vote.break_glass)?;
        return outcome("Break-glass", short(&vote.by.name), &said(vote));
    }
    match ask.state {
        State::Pending => None,
        State::Denied => {
            let vote = ask.denial();
            outcome(
                "Denied",
                vote.map(|vote| short(&vote.by.name)).unwrap_or_default(),
                &vote.map(said).unwrap_or_default(),
            )
        }
        State::Approved | State::Used if ask.window => {
            let until = ask.grant_until.map(moment).unwrap_or_default();
            outcome("Approved", approvers(), &format!("each time until {until}"))
        }
        State::Approved | State::Used => outcome("Approved", approvers(), "once"),
        State::TimedOut => outcome("Not answered in time", String::new(), "the operation was refused"),
        State::Expired if happened("granted") => {
            outcome("Approved", approvers(), "not used in time, and over now")
        }
        State::Expired if happened("superseded") => {
            outcome("Replaced", String::new(), "the policies that ask have changed; it was asked anew")
        }
        State::Expired => outcome("Not answered within a day", String::new(), "the ask is over"),
        State::Damaged => {
            outcome("Damaged", String::new(), "what is stored of it cannot be read; nothing passes on it")
        }
    }
}

/// An ask in one line of a summary.
#[derive(Debug, Clone)]
pub(crate) struct Gist {
    pub ask: String,
    pub url: String,
    pub headline: String,
}

/// Several asks in one message.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    /// The queue.
    pub url: String,
    pub opened: Vec<Gist>,
    pub closed: Vec<Gist>,
}

impl Summary {
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
    pub fn listed(&self) -> (impl Iterator<Item = &Gist>, usize) {
        const LINES: usize = 10;
        let all = self.opened.len() + self.closed.len();
        (self.opened.iter().chain(&self.closed).take(LINES), all.saturating_sub(LINES))
    }
}

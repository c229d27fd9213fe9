//! Asks as the pages show them. Every text in here that a caller, an agent or an identity provider could have written is a
//! [`Text`].

use crate::{people, recordings::who, text::Text};
use durward_approval::{Ask, AskId, Event, OnTimeout, Person, State, Vote};
use durward_core::{Caller, CallerKind, Door, Traits};
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

/// Characters of one parameter that a page shows; the whole is a link away.
const LONGEST: usize = 8_000;

/// A time for people, to the second and in UTC.
pub fn moment(at: OffsetDateTime) -> Text {
    let at = at.to_offset(UtcOffset::UTC);
    Text::new(format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    ))
}

/// The same, from RFC 3339.
pub fn moment_of(stamp: &str) -> Text {
    OffsetDateTime::parse(stamp, &Rfc3339).map_or_else(|_error| Text::new(stamp), moment)
}

/// A time for programs.
pub fn stamp(at: OffsetDateTime) -> String {
    at.to_offset(UtcOffset::UTC).format(&Rfc3339).unwrap_or_default()
}

/// `2 h`, `15 min`, `45 s`.
pub fn length(span: Duration) -> String {
    match span.as_secs() {
        0 => "0 s".to_owned(),
        seconds if seconds % 3_600 == 0 => format!("{} h", seconds / 3_600),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

/// A time as text, and for the script that counts down to it.
pub struct When {
    pub text: Text,
    pub stamp: String,
    pub past: bool,
}

impl When {
    pub fn new(at: OffsetDateTime, now: OffsetDateTime) -> Self {
        Self { text: moment(at), stamp: stamp(at), past: at <= now }
    }
}

/// How risky, as a word beside the number: colour alone tells nothing to many people.
pub struct RiskView {
    pub score: u8,
    pub word: &'static str,
    pub reasons: Vec<Text>,
}

impl RiskView {
    pub fn of(ask: &Ask) -> Self {
        let word = match ask.risk.score {
            0..=24 => "low",
            25..=49 => "medium",
            50..=74 => "high",
            _ => "severe",
        };
        Self { score: ask.risk.score, word, reasons: ask.risk.reasons.iter().map(Text::new).collect() }
    }
}

/// A state in words, and the class that colours it.
pub fn state_word(state: State) -> &'static str {
    match state {
        State::Pending => "waiting",
        State::Approved => "approved",
        State::Denied => "denied",
        State::TimedOut => "timed out",
        State::Used => "used",
        State::Expired => "expired",
        State::Damaged => "damaged",
    }
}

/// The same of an ask; of a window, what became of it.
fn state_of(ask: &Ask) -> &'static str {
    match ask.state {
        State::Approved if ask.window => "window open",
        State::Denied | State::Expired if ask.window => "window closed",
        state => state_word(state),
    }
}

/// One ask in a list.
pub struct Line {
    pub id: AskId,
    pub title: Text,
    pub resources: Vec<Text>,
    pub more_resources: usize,
    pub caller: Text,
    pub connection: Text,
    pub place: Text,
    pub created: When,
    pub deadline: When,
    pub state: &'static str,
    pub state_class: &'static str,
    pub pending: bool,
    pub risk: RiskView,
    pub missing: Vec<Missing>,
    /// Whether this visitor can answer it.
    pub yours: bool,
    pub uninspected: bool,
    pub attempts: u64,
    pub break_glass: bool,
}

/// People still needed of one group.
pub struct Missing {
    pub group: Text,
    pub people: u32,
}

impl Line {
    pub fn of(ask: &Ask, person: &Person, now: OffsetDateTime) -> Self {
        let mut resources = resources(ask);
        let more_resources = resources.len().saturating_sub(3);
        resources.truncate(3);
        let pending = ask.state == State::Pending;
        Self {
            id: ask.id,
            title: Text::new(ask.what.operation.title()),
            resources,
            more_resources,
            caller: who(&ask.what.caller),
            connection: Text::new(&ask.what.connection),
            place: place(ask),
            created: When::new(ask.created, now),
            deadline: When::new(ask.deadline, now),
            state: state_of(ask),
            state_class: ask.state.as_str(),
            pending,
            risk: RiskView::of(ask),
            missing: missing(ask),
            yours: pending && people::cannot_answer(ask, person).is_none(),
            uninspected: !ask.what.operation.uninspected.is_empty(),
            attempts: ask.attempts,
            break_glass: ask.break_glass,
        }
    }
}

fn missing(ask: &Ask) -> Vec<Missing> {
    ask.missing().into_iter().map(|(group, people)| Missing { group: Text::new(group), people }).collect()
}

pub fn resources(ask: &Ask) -> Vec<Text> {
    let mut resources: Vec<Text> = Vec::new();
    for demand in &ask.what.operation.demands {
        let resource = Text::new(demand.resource.as_text());
        if !resources.contains(&resource) {
            resources.push(resource);
        }
    }
    resources
}

/// `123456789012, eu-west-1`.
pub fn place(ask: &Ask) -> Text {
    let operation = &ask.what.operation;
    let parts: Vec<&str> =
        [operation.account.as_deref(), operation.region.as_deref()].into_iter().flatten().collect();
    Text::new(parts.join(", "))
}

/// One parameter of the operation.
pub struct Parameter {
    pub name: Text,
    pub value: Text,
    /// Characters that are not shown.
    pub cut: usize,
    pub masked: bool,
}

pub struct Demanded {
    pub action: Text,
    pub level: &'static str,
    pub resource: Text,
    pub any: bool,
}

/// The tags of a resource, as they were looked up for the decision.
pub struct Tagged {
    pub resource: Text,
    /// `key=value`
    pub tags: Vec<Text>,
}

pub struct Required {
    pub policy: Text,
    pub group: Text,
    pub quorum: u32,
    pub approvals: usize,
    pub timeout: String,
    pub on_timeout: &'static str,
    pub yours: bool,
}

/// The person who went past the others or closed a window, and why.
pub struct Because {
    pub id: Text,
    pub reason: Text,
}

impl Because {
    fn of(vote: &Vote) -> Self {
        Self { id: Text::new(&vote.by.id), reason: Text::new(vote.reason.as_deref().unwrap_or_default()) }
    }
}

pub struct HistoryLine {
    pub at: Text,
    pub stamp: String,
    pub what: Text,
    pub by: Text,
    /// Of whoever answered: their name, and those of their groups that counted.
    pub person: Text,
    pub note: Text,
}

/// A caller in full.
pub struct CallerView {
    pub id: Text,
    pub kind: &'static str,
    pub issuer: Text,
    pub groups: Vec<Text>,
    /// On whose behalf.
    pub act: Vec<Text>,
}

impl CallerView {
    fn of(caller: &Caller) -> Self {
        Self {
            id: Text::new(caller.id()),
            kind: match caller.kind {
                CallerKind::Human => "a person",
                CallerKind::Workload => "a workload",
            },
            issuer: Text::new(&caller.issuer),
            groups: caller.groups.iter().map(Text::new).collect(),
            act: caller.act.iter().map(Text::new).collect(),
        }
    }
}

/// What a visitor may do with an ask.
#[derive(Default)]
pub struct Answering {
    /// Why they cannot approve it; none: they can.
    pub barred: Option<Text>,
    pub approve: bool,
    pub deny: bool,
    /// The approval stands and is not used: a denial takes it back.
    pub withdraw: bool,
    pub break_glass: bool,
    /// Minutes and words of the windows on offer.
    pub windows: Vec<(u64, String)>,
}

/// One ask in full.
pub struct AskView {
    pub line: Line,
    pub door: &'static str,
    pub demands: Vec<Demanded>,
    /// Empty where nothing looked them up.
    pub tags: Vec<Tagged>,
    pub parameters: Vec<Parameter>,
    pub uninspected: Vec<Text>,
    pub traits: Vec<&'static str>,
    pub account: Text,
    pub region: Text,
    pub caller: CallerView,
    pub session: String,
    pub exchange: String,
    pub source_address: String,
    pub user_agent: Option<Text>,
    pub reason: Text,
    pub policy_set: Text,
    pub digest: String,
    pub body_sha256: Option<Text>,
    pub required: Vec<Required>,
    /// How many answered.
    pub votes: usize,
    pub history: Vec<HistoryLine>,
    pub grant_until: Option<When>,
    pub window: bool,
    /// Who went past the quorum, and why.
    pub glass: Option<Because>,
    /// Who closed the window before its time, and why.
    pub closed: Option<Because>,
    pub uses: u64,
    pub answering: Answering,
    pub similar: Vec<Line>,
}

impl AskView {
    pub fn of(
        ask: &Ask,
        similar: &[Ask],
        person: &Person,
        answering: Answering,
        now: OffsetDateTime,
    ) -> Self {
        let what = &ask.what;
        let operation = &what.operation;
        let demanded = |demand: &durward_core::Demand| Demanded {
            action: Text::new(&demand.action),
            level: demand.access_level.as_str(),
            any: demand.resource == durward_core::Resource::Any,
            resource: Text::new(demand.resource.as_text()),
        };
        let required = |one: &durward_approval::Requirement| Required {
            policy: Text::new(&one.policy),
            group: Text::new(&one.group),
            quorum: one.quorum,
            approvals: ask
                .votes
                .iter()
                .filter(|vote| vote.approve && vote.groups.contains(&one.group))
                .count(),
            timeout: length(one.timeout),
            on_timeout: match one.on_timeout {
                OnTimeout::Reject => "then it is refused",
                OnTimeout::Queue => "then it stays open for a retry",
            },
            yours: person.groups.contains(&one.group),
        };
        Self {
            line: Line::of(ask, person, now),
            door: match operation.door {
                Door::Aws => "AWS",
                Door::Mcp => "MCP",
            },
            demands: operation.demands.iter().map(demanded).collect(),
            tags: what.tags.iter().map(tagged).collect(),
            parameters: parameters(&operation.parameters, &operation.sensitive),
            uninspected: operation.uninspected.iter().map(Text::new).collect(),
            traits: traits(operation.traits),
            account: Text::new(operation.account.as_deref().unwrap_or("-")),
            region: Text::new(operation.region.as_deref().unwrap_or("-")),
            caller: CallerView::of(&what.caller),
            session: what.session.to_string(),
            exchange: what.exchange.to_string(),
            source_address: what.source_address.to_string(),
            user_agent: what.user_agent.as_ref().map(Text::new),
            reason: Text::new(&what.reason),
            policy_set: Text::new(&what.policy_set),
            digest: ask.digest_hex(),
            body_sha256: operation.body_sha256.as_ref().map(Text::new),
            required: what.requirements.iter().map(required).collect(),
            votes: ask.votes.len(),
            history: ask.history.iter().map(|event| history_line(event, ask)).collect(),
            grant_until: ask.grant_until.map(|at| When::new(at, now)),
            window: ask.window,
            glass: ask.votes.iter().find(|vote| ask.break_glass && vote.break_glass).map(Because::of),
            closed: ask.denial().filter(|_vote| ask.window).map(Because::of),
            uses: ask.uses,
            answering,
            similar: similar.iter().map(|one| Line::of(one, person, now)).collect(),
        }
    }
}

fn tagged((resource, tags): (&String, &BTreeMap<String, String>)) -> Tagged {
    let tags = tags.iter().map(|(key, value)| Text::new(format!("{key}={value}"))).collect();
    Tagged { resource: Text::new(resource), tags }
}

fn history_line(event: &Event, ask: &Ask) -> HistoryLine {
    let answered =
        ask.votes.iter().find(|vote| vote.at == event.at && event.by.as_ref() == Some(&vote.by.id));
    let person = answered.map(|vote| {
        let words = [vote.by.name.clone(), vote.groups.join(", ")];
        words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join("; ")
    });
    HistoryLine {
        at: moment(event.at),
        stamp: stamp(event.at),
        what: happened(&event.kind, ask.window),
        by: Text::new(event.by.as_deref().unwrap_or_default()),
        person: Text::new(person.unwrap_or_default()),
        note: event.note.as_deref().map_or_else(|| Text::new(""), note),
    }
}

/// An event of the history in words.
fn happened(kind: &str, window: bool) -> Text {
    match kind {
        "approve" => Text::new("approved once"),
        "approve_window" => Text::new("approved for a time"),
        "granted" if window => Text::new("window opened"),
        "deny" => Text::new("denied"),
        "withdrawn" if window => Text::new("window closed"),
        "withdrawn" => Text::new("approval taken back"),
        "BREAK_GLASS" => Text::new("glass broken"),
        other => Text::new(other.replace('_', " ")),
    }
}

/// A note as it is, but with its time as people read it.
fn note(note: &str) -> Text {
    match note.strip_prefix("until ").map(|until| OffsetDateTime::parse(until, &Rfc3339)) {
        Some(Ok(until)) => Text::new(format!("until {}", moment(until))),
        _ => Text::new(note),
    }
}

fn traits(traits: Traits) -> Vec<&'static str> {
    [
        (traits.irreversible, "what it destroys cannot be brought back"),
        (traits.escalates, "it can give somebody more power than they have"),
        (traits.indirect, "it runs code or makes another service act"),
        (traits.returns_credentials, "its answer holds credentials"),
    ]
    .into_iter()
    .filter_map(|(is, text)| is.then_some(text))
    .collect()
}

/// The parameters by name, as they were recorded: what is masked stays masked.
fn parameters(parameters: &Value, sensitive: &[String]) -> Vec<Parameter> {
    let one = |name: &str, value: &Value| {
        let shown = match value {
            Value::String(text) => Text::new(text),
            other => Text::json(other),
        };
        let (value, cut) = shown.cut(LONGEST);
        let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        let masked = sensitive.iter().any(|path| {
            path.strip_prefix(&pointer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        Parameter { name: Text::new(name), value, cut, masked }
    };
    match parameters {
        Value::Object(members) => members.iter().map(|(name, value)| one(name, value)).collect(),
        Value::Null => Vec::new(),
        other => vec![one("", other)],
    }
}

//! Asks as the pages show them. Every text in here that a caller, an agent or an identity provider could have written is a
//! [`Text`].

use crate::{display_text::DisplayText, history::describe_caller, users};
use durward_approval::{
    ApprovalEvent, ApprovalEventKind, ApprovalRequest, ApprovalRequestId, ApprovalState, Approver,
    TimeoutAction, Vote,
};
use durward_core::{Caller, CallerKind, FrontEndKind, OperationTraits};
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

/// Characters of one parameter that a page shows; the whole is a link away.
const MAX_PARAMETER_CHARS: usize = 8_000;

/// A time for people, to the second and in UTC.
pub fn format_utc(at: OffsetDateTime) -> DisplayText {
    let at = at.to_offset(UtcOffset::UTC);
    DisplayText::new(format!(
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
pub fn format_rfc3339_as_utc(stamp: &str) -> DisplayText {
    OffsetDateTime::parse(stamp, &Rfc3339).map_or_else(|_error| DisplayText::new(stamp), format_utc)
}

/// A time for programs.
pub fn format_rfc3339(at: OffsetDateTime) -> String {
    at.to_offset(UtcOffset::UTC).format(&Rfc3339).unwrap_or_default()
}

/// `2 h`, `15 min`, `45 s`.
pub fn format_duration(span: Duration) -> String {
    match span.as_secs() {
        0 => "0 s".to_owned(),
        seconds if seconds % 3_600 == 0 => format!("{} h", seconds / 3_600),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

/// A time as text, and for the script that counts down to it.
pub struct TimeView {
    pub text: DisplayText,
    pub rfc3339: String,
    pub is_past: bool,
}

impl TimeView {
    pub fn new(at: OffsetDateTime, now: OffsetDateTime) -> Self {
        Self { text: format_utc(at), rfc3339: format_rfc3339(at), is_past: at <= now }
    }
}

/// How risky, as a word beside the number: colour alone tells nothing to many people.
pub struct RiskView {
    pub score: u8,
    pub level: &'static str,
    pub reasons: Vec<DisplayText>,
}

impl RiskView {
    pub fn from_approval_request(ask: &ApprovalRequest) -> Self {
        let word = match ask.risk.score {
            0..=24 => "low",
            25..=49 => "medium",
            50..=74 => "high",
            _ => "severe",
        };
        Self {
            score: ask.risk.score,
            level: word,
            reasons: ask.risk.reasons.iter().map(DisplayText::new).collect(),
        }
    }
}

/// A state in words, and the class that colours it.
pub fn state_label(state: ApprovalState) -> &'static str {
    match state {
        ApprovalState::Pending => "waiting",
        ApprovalState::Approved => "approved",
        ApprovalState::Denied => "denied",
        ApprovalState::TimedOut => "timed out",
        ApprovalState::Consumed => "consumed",
        ApprovalState::Expired => "expired",
        ApprovalState::Corrupt => "corrupt",
    }
}

/// The same of an ask; of a window, what became of it.
fn display_state(ask: &ApprovalRequest) -> &'static str {
    match ask.state {
        ApprovalState::Approved if ask.time_bound => "grant active",
        ApprovalState::Denied | ApprovalState::Expired if ask.time_bound => "grant ended",
        state => state_label(state),
    }
}

/// One ask in a list.
pub struct ApprovalRequestListItem {
    pub id: ApprovalRequestId,
    pub title: DisplayText,
    pub resources: Vec<DisplayText>,
    pub more_resources: usize,
    pub caller: DisplayText,
    pub connection: DisplayText,
    pub location: DisplayText,
    pub created: TimeView,
    pub deadline: TimeView,
    pub state: &'static str,
    pub state_class: &'static str,
    pub is_pending: bool,
    pub risk: RiskView,
    pub missing_votes: Vec<MissingVotesView>,
    /// Whether this visitor can answer it.
    pub may_vote: bool,
    pub has_uninspected_parts: bool,
    pub attempts: u64,
    pub is_break_glass: bool,
}

/// People still needed of one group.
pub struct MissingVotesView {
    pub group: DisplayText,
    pub count: u32,
}

impl ApprovalRequestListItem {
    pub fn from_approval_request(ask: &ApprovalRequest, person: &Approver, now: OffsetDateTime) -> Self {
        let mut resources = resource_names(ask);
        let more_resources = resources.len().saturating_sub(3);
        resources.truncate(3);
        let pending = ask.state == ApprovalState::Pending;
        Self {
            id: ask.id,
            title: DisplayText::new(ask.details.operation.qualified_name()),
            resources,
            more_resources,
            caller: describe_caller(&ask.details.caller),
            connection: DisplayText::new(&ask.details.connection),
            location: account_and_region(ask),
            created: TimeView::new(ask.created, now),
            deadline: TimeView::new(ask.deadline, now),
            state: display_state(ask),
            state_class: ask.state.as_str(),
            is_pending: pending,
            risk: RiskView::from_approval_request(ask),
            missing_votes: missing_vote_views(ask),
            may_vote: pending && users::vote_refusal(ask, person).is_none(),
            has_uninspected_parts: !ask.details.operation.uninspected_parts.is_empty(),
            attempts: ask.attempts,
            is_break_glass: ask.break_glass,
        }
    }
}

fn missing_vote_views(ask: &ApprovalRequest) -> Vec<MissingVotesView> {
    ask.missing_approvals()
        .into_iter()
        .map(|(group, people)| MissingVotesView { group: DisplayText::new(group), count: people })
        .collect()
}

pub fn resource_names(ask: &ApprovalRequest) -> Vec<DisplayText> {
    let mut resources: Vec<DisplayText> = Vec::new();
    for demand in &ask.details.operation.required_permissions {
        let resource = DisplayText::new(demand.resource.to_text());
        if !resources.contains(&resource) {
            resources.push(resource);
        }
    }
    resources
}

/// `123456789012, eu-west-1`.
pub fn account_and_region(ask: &ApprovalRequest) -> DisplayText {
    let operation = &ask.details.operation;
    let parts: Vec<&str> =
        [operation.account.as_deref(), operation.region.as_deref()].into_iter().flatten().collect();
    DisplayText::new(parts.join(", "))
}

/// One parameter of the operation.
pub struct ParameterView {
    pub name: DisplayText,
    pub value: DisplayText,
    /// Characters that are not shown.
    pub hidden_chars: usize,
    pub is_masked: bool,
}

pub struct RequiredPermissionView {
    pub action: DisplayText,
    pub access_level: &'static str,
    pub resource: DisplayText,
    pub is_any_resource: bool,
}

/// The tags of a resource, as they were looked up for the decision.
pub struct ResourceTagsView {
    pub resource: DisplayText,
    /// `key=value`
    pub tags: Vec<DisplayText>,
}

pub struct RequirementView {
    pub policy: DisplayText,
    pub group: DisplayText,
    pub quorum: u32,
    pub approvals: usize,
    pub timeout: String,
    pub on_timeout: &'static str,
    pub includes_viewer: bool,
}

/// The person who went past the others or closed a window, and why.
pub struct VoteView {
    pub id: DisplayText,
    pub reason: DisplayText,
}

impl VoteView {
    fn from_vote(vote: &Vote) -> Self {
        Self {
            id: DisplayText::new(&vote.by.id),
            reason: DisplayText::new(vote.reason.as_deref().unwrap_or_default()),
        }
    }
}

pub struct HistoryEventView {
    pub at: DisplayText,
    pub rfc3339: String,
    pub event: DisplayText,
    pub by: DisplayText,
    /// Of whoever answered: their name, and those of their groups that counted.
    pub voter: DisplayText,
    pub note: DisplayText,
}

/// A caller in full.
pub struct CallerView {
    pub id: DisplayText,
    pub kind: &'static str,
    pub issuer: DisplayText,
    pub groups: Vec<DisplayText>,
    /// On whose behalf.
    pub act: Vec<DisplayText>,
}

impl CallerView {
    fn from_caller(caller: &Caller) -> Self {
        Self {
            id: DisplayText::new(caller.id()),
            kind: match caller.kind {
                CallerKind::Human => "a person",
                CallerKind::Workload => "a workload",
            },
            issuer: DisplayText::new(&caller.issuer),
            groups: caller.groups.iter().map(DisplayText::new).collect(),
            act: caller.act.iter().map(DisplayText::new).collect(),
        }
    }
}

/// What a visitor may do with an ask.
#[derive(Default)]
pub struct VotingOptions {
    /// Why they cannot approve it; none: they can.
    pub approve_refusal: Option<DisplayText>,
    pub may_approve: bool,
    pub may_deny: bool,
    /// The approval stands and is not used: a denial takes it back.
    pub may_withdraw: bool,
    pub may_break_glass: bool,
    /// Minutes and words of the windows on offer.
    pub grant_durations: Vec<(u64, String)>,
}

/// One ask in full.
pub struct ApprovalRequestView {
    pub summary: ApprovalRequestListItem,
    pub front_end: &'static str,
    pub required_permissions: Vec<RequiredPermissionView>,
    /// Empty where nothing looked them up.
    pub tags: Vec<ResourceTagsView>,
    pub parameters: Vec<ParameterView>,
    pub uninspected: Vec<DisplayText>,
    pub traits: Vec<&'static str>,
    pub account: DisplayText,
    pub region: DisplayText,
    pub caller: CallerView,
    pub session: String,
    pub exchange: String,
    pub source_address: String,
    pub user_agent: Option<DisplayText>,
    pub reason: DisplayText,
    pub policy_set: DisplayText,
    pub digest: String,
    pub body_sha256: Option<DisplayText>,
    pub requirements: Vec<RequirementView>,
    /// How many answered.
    pub vote_count: usize,
    pub history: Vec<HistoryEventView>,
    pub grant_until: Option<TimeView>,
    pub is_time_bound: bool,
    /// Who went past the quorum, and why.
    pub break_glass_vote: Option<VoteView>,
    /// Who closed the window before its time, and why.
    pub revocation_vote: Option<VoteView>,
    pub use_count: u64,
    pub voting: VotingOptions,
    pub similar_requests: Vec<ApprovalRequestListItem>,
}

impl ApprovalRequestView {
    pub fn from_approval_request(
        ask: &ApprovalRequest,
        similar: &[ApprovalRequest],
        person: &Approver,
        answering: VotingOptions,
        now: OffsetDateTime,
    ) -> Self {
        let what = &ask.details;
        let operation = &what.operation;
        let demanded = |demand: &durward_core::RequiredPermission| RequiredPermissionView {
            action: DisplayText::new(&demand.action),
            access_level: demand.access_level.as_str(),
            is_any_resource: demand.resource == durward_core::Resource::Any,
            resource: DisplayText::new(demand.resource.to_text()),
        };
        let required = |one: &durward_approval::ApprovalRequirement| RequirementView {
            policy: DisplayText::new(&one.policy),
            group: DisplayText::new(&one.group),
            quorum: one.quorum,
            approvals: ask
                .votes
                .iter()
                .filter(|vote| vote.is_approval && vote.counted_groups.contains(&one.group))
                .count(),
            timeout: format_duration(one.timeout),
            on_timeout: match one.on_timeout {
                TimeoutAction::Reject => "then it is refused",
                TimeoutAction::Queue => "then it stays open for a retry",
            },
            includes_viewer: person.groups.contains(&one.group),
        };
        Self {
            summary: ApprovalRequestListItem::from_approval_request(ask, person, now),
            front_end: match operation.front_end {
                FrontEndKind::Aws => "AWS",
                FrontEndKind::Mcp => "MCP",
            },
            required_permissions: operation.required_permissions.iter().map(demanded).collect(),
            tags: what.tags.iter().map(resource_tags_view).collect(),
            parameters: parameter_views(&operation.parameters, &operation.sensitive_pointers),
            uninspected: operation.uninspected_parts.iter().map(DisplayText::new).collect(),
            traits: describe_traits(operation.traits),
            account: DisplayText::new(operation.account.as_deref().unwrap_or("-")),
            region: DisplayText::new(operation.region.as_deref().unwrap_or("-")),
            caller: CallerView::from_caller(&what.caller),
            session: what.session.to_string(),
            exchange: what.exchange.to_string(),
            source_address: what.source_address.to_string(),
            user_agent: what.user_agent.as_ref().map(DisplayText::new),
            reason: DisplayText::new(&what.reason),
            policy_set: DisplayText::new(&what.policy_set),
            digest: ask.digest_hex(),
            body_sha256: operation.body_sha256.as_ref().map(DisplayText::new),
            requirements: what.requirements.iter().map(required).collect(),
            vote_count: ask.votes.len(),
            history: ask.history.iter().map(|event| history_event_view(event, ask)).collect(),
            grant_until: ask.grant_until.map(|at| TimeView::new(at, now)),
            is_time_bound: ask.time_bound,
            break_glass_vote: ask
                .votes
                .iter()
                .find(|vote| ask.break_glass && vote.break_glass)
                .map(VoteView::from_vote),
            revocation_vote: ask.last_denial().filter(|_vote| ask.time_bound).map(VoteView::from_vote),
            use_count: ask.uses,
            voting: answering,
            similar_requests: similar
                .iter()
                .map(|one| ApprovalRequestListItem::from_approval_request(one, person, now))
                .collect(),
        }
    }
}

fn resource_tags_view((resource, tags): (&String, &BTreeMap<String, String>)) -> ResourceTagsView {
    let tags = tags.iter().map(|(key, value)| DisplayText::new(format!("{key}={value}"))).collect();
    ResourceTagsView { resource: DisplayText::new(resource), tags }
}

fn history_event_view(event: &ApprovalEvent, ask: &ApprovalRequest) -> HistoryEventView {
    let answered =
        ask.votes.iter().find(|vote| vote.at == event.at && event.by.as_ref() == Some(&vote.by.id));
    let person = answered.map(|vote| {
        let words = [vote.by.name.clone(), vote.counted_groups.join(", ")];
        words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join("; ")
    });
    HistoryEventView {
        at: format_utc(event.at),
        rfc3339: format_rfc3339(event.at),
        event: event_label(event.kind, ask.time_bound),
        by: DisplayText::new(event.by.as_deref().unwrap_or_default()),
        voter: DisplayText::new(person.unwrap_or_default()),
        note: event.note.as_deref().map_or_else(|| DisplayText::new(""), format_note),
    }
}

/// An event of the history in words.
fn event_label(kind: ApprovalEventKind, time_bound: bool) -> DisplayText {
    DisplayText::new(match kind {
        ApprovalEventKind::Requested => "requested",
        ApprovalEventKind::ApproveOnce => "approved once",
        ApprovalEventKind::ApproveTimeBound => "approved for a time",
        ApprovalEventKind::Deny => "denied",
        ApprovalEventKind::BreakGlass => "break-glass used",
        ApprovalEventKind::Granted if time_bound => "time-bound grant created",
        ApprovalEventKind::Granted => "granted",
        ApprovalEventKind::Withdrawn if time_bound => "time-bound grant revoked",
        ApprovalEventKind::Withdrawn => "approval withdrawn",
        ApprovalEventKind::Consumed => "consumed",
        ApprovalEventKind::TimedOut => "timed out",
        ApprovalEventKind::Expired => "expired",
        ApprovalEventKind::Superseded => "superseded",
        ApprovalEventKind::Corrupt => "corrupt",
    })
}

/// A note as it is, but with its time as people read it.
fn format_note(note: &str) -> DisplayText {
    match note.strip_prefix("until ").map(|until| OffsetDateTime::parse(until, &Rfc3339)) {
        Some(Ok(until)) => DisplayText::new(format!("until {}", format_utc(until))),
        _ => DisplayText::new(note),
    }
}

fn describe_traits(traits: OperationTraits) -> Vec<&'static str> {
    [
        (traits.irreversible, "what it destroys cannot be brought back"),
        (traits.escalates, "it can give somebody more power than they have"),
        (traits.indirect, "it runs code or makes another service act"),
        (traits.returns_credentials, "its response holds credentials"),
    ]
    .into_iter()
    .filter_map(|(is, text)| is.then_some(text))
    .collect()
}

/// The parameters by name, as they were recorded: what is masked stays masked.
fn parameter_views(parameters: &Value, sensitive: &[String]) -> Vec<ParameterView> {
    let one = |name: &str, value: &Value| {
        let shown = match value {
            Value::String(text) => DisplayText::new(text),
            other => DisplayText::from_json(other),
        };
        let (value, cut) = shown.truncate_chars(MAX_PARAMETER_CHARS);
        let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        let masked = sensitive.iter().any(|path| {
            path.strip_prefix(&pointer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        ParameterView { name: DisplayText::new(name), value, hidden_chars: cut, is_masked: masked }
    };
    match parameters {
        Value::Object(members) => members.iter().map(|(name, value)| one(name, value)).collect(),
        Value::Null => Vec::new(),
        other => vec![one("", other)],
    }
}

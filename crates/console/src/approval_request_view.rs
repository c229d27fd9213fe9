//! One approval request in full, as its page shows it. Every text that a caller, an agent or an identity provider may have
//! written is a [`DisplayText`].

use crate::{
    approval_request_list::ApprovalRequestListItem,
    display_text::DisplayText,
    time_view::{TimeView, format_duration},
};
use durward_approval::{
    ApprovalEvent, ApprovalEventKind, ApprovalRequest, ApprovalRequirement, Approver, TimeoutAction, Vote,
};
use durward_core::{
    Caller, CallerKind, DocumentText, FrontEndKind, OperationTraits, RequiredPermission, Resource,
    timestamps::{format_recorded_time, format_rfc3339, format_utc},
};
use serde_json::Value;
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// Longest part of one parameter that a page shows; the page links to the whole.
const MAX_PARAMETER_CHARS: usize = 8_000;
/// Longest part of one document: a policy of the largest size that IAM takes, indented, is shown whole.
const MAX_DOCUMENT_CHARS: usize = 32_000;
/// Most documents that a page shows of one parameter that is not a string.
const MAX_INNER_DOCUMENTS: usize = 10;

/// One parameter of the operation, or a document within one.
pub struct ParameterView {
    pub name: DisplayText,
    pub value: DisplayText,
    pub hidden_chars: usize,
    pub is_masked: bool,
    /// The kind of text, for a document and for several lines.
    pub document: Option<&'static str>,
}

pub struct RequiredPermissionView {
    pub action: DisplayText,
    pub access_level: &'static str,
    pub resource: DisplayText,
    pub is_any_resource: bool,
}

impl RequiredPermissionView {
    fn from_permission(permission: &RequiredPermission) -> Self {
        Self {
            action: DisplayText::new(&permission.action),
            access_level: permission.access_level.as_str(),
            is_any_resource: permission.resource == Resource::Any,
            resource: DisplayText::new(permission.resource.to_text()),
        }
    }
}

/// The tags of a resource, as they were read for the decision.
pub struct ResourceTagsView {
    pub resource: DisplayText,
    /// `key=value`.
    pub tags: Vec<DisplayText>,
}

impl ResourceTagsView {
    fn from_tags((resource, tags): (&String, &BTreeMap<String, String>)) -> Self {
        let tags = tags.iter().map(|(key, value)| DisplayText::new(format!("{key}={value}"))).collect();
        Self { resource: DisplayText::new(resource), tags }
    }
}

/// A policy that requires approval, and the votes that it has so far.
pub struct RequirementView {
    pub policy: DisplayText,
    pub group: DisplayText,
    /// The number of approvals, and the number that is required.
    pub votes: String,
    pub timeout: String,
    pub on_timeout: &'static str,
    /// True if the viewer is in the group.
    pub includes_viewer: bool,
}

impl RequirementView {
    fn new(requirement: &ApprovalRequirement, request: &ApprovalRequest, viewer: &Approver) -> Self {
        Self {
            policy: DisplayText::new(&requirement.policy),
            group: DisplayText::new(&requirement.group),
            votes: describe_votes(requirement, request),
            timeout: format_duration(requirement.timeout),
            on_timeout: match requirement.on_timeout {
                TimeoutAction::Reject => "then refused",
                TimeoutAction::Queue => "then open for a retry",
            },
            includes_viewer: viewer.groups.contains(&requirement.group),
        }
    }
}

/// The number of approvals, and the number that is required; for a grant that was withdrawn, at the time when it was created.
fn describe_votes(requirement: &ApprovalRequirement, request: &ApprovalRequest) -> String {
    let quorum = usize::try_from(requirement.quorum.max(1)).unwrap_or(usize::MAX);
    let approvals = request.votes.iter().filter(|vote| vote.counts_for(&requirement.group)).count();
    match (request.break_glass, request.is_withdrawn()) {
        (false, false) => format!("{approvals} of {quorum} approved"),
        // The denial has replaced an approval if both are of one person, but without the quorum there was no grant.
        (false, true) => format!("{} of {quorum} approved", approvals.max(quorum)),
        (true, false) => format!("{approvals} of {quorum} approved, overridden by break-glass"),
        (true, true) => "overridden by break-glass".to_owned(),
    }
}

/// A person who used break-glass or denied, with the reason.
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

/// One entry of the history.
pub struct HistoryEventView {
    pub at: String,
    pub rfc3339: String,
    pub event: &'static str,
    pub by: DisplayText,
    /// For a vote: the voter's name and the groups for which the vote counted.
    pub voter: DisplayText,
    pub note: DisplayText,
    /// When the grant that was approved or created ends.
    pub until: Option<String>,
}

impl HistoryEventView {
    fn new(event: &ApprovalEvent, request: &ApprovalRequest) -> Self {
        let note = event.note.as_deref().unwrap_or_default();
        // Only these have an end in their note. In others, a person could have written one.
        let has_end = matches!(event.kind, ApprovalEventKind::ApproveTimeBound | ApprovalEventKind::Granted);
        let end = note.strip_prefix("until ").filter(|_end| has_end);
        let (end, comment) = end.map_or(("", note), |end| end.split_once("; ").unwrap_or((end, "")));
        let until = format_recorded_time(end);
        Self {
            at: format_utc(event.at),
            rfc3339: format_rfc3339(event.at),
            event: event_label(event.kind, request.time_bound),
            by: DisplayText::new(event.by.as_deref().unwrap_or_default()),
            voter: DisplayText::new(describe_voter(event, request)),
            note: DisplayText::new(if until.is_some() { comment } else { note }),
            until,
        }
    }
}

/// The voter's name and the groups for which the vote counted. If a later vote of the same person replaced this one, the
/// groups are no longer known.
fn describe_voter(event: &ApprovalEvent, request: &ApprovalRequest) -> String {
    let is_vote = matches!(
        event.kind,
        ApprovalEventKind::ApproveOnce
            | ApprovalEventKind::ApproveTimeBound
            | ApprovalEventKind::Deny
            | ApprovalEventKind::BreakGlass
            | ApprovalEventKind::Withdrawn
    );
    let by_same_person = |vote: &&Vote| is_vote && event.by.as_ref() == Some(&vote.by.id);
    let mut votes = request.votes.iter().filter(by_same_person);
    let Some(latest) = votes.clone().next_back() else { return String::new() };
    let groups = votes.find(|vote| vote.at == event.at).map(|vote| vote.counted_groups.join(", "));
    let parts = [latest.by.name.clone(), groups.unwrap_or_default()];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

/// A caller in full.
pub struct CallerView {
    pub id: DisplayText,
    pub kind: &'static str,
    pub issuer: DisplayText,
    pub groups: Vec<DisplayText>,
    /// The subjects for which the caller acts.
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

/// The choices of the viewer on an approval request.
#[derive(Default)]
pub struct VotingOptions {
    /// Why the viewer cannot approve a pending request.
    pub approve_refusal: Option<DisplayText>,
    pub may_approve: bool,
    pub may_deny: bool,
    /// The approval is not used yet, or its time-bound grant is active: a denial withdraws it.
    pub may_withdraw: bool,
    pub may_break_glass: bool,
    /// The durations of time-bound grants on offer: minutes and words.
    pub grant_durations: Vec<(u64, String)>,
}

impl VotingOptions {
    /// Returns true if the viewer may cast any vote on a pending request.
    pub fn may_vote(&self) -> bool {
        self.may_approve || self.may_deny || self.may_break_glass
    }
}

/// What the stored request does not say.
pub struct RequestProgress {
    pub is_awaited: bool,
    pub outcome: Option<DisplayText>,
}

/// One approval request in full.
pub struct ApprovalRequestView {
    pub summary: ApprovalRequestListItem,
    /// The operation cannot be undone.
    pub is_irreversible: bool,
    /// This gateway holds a request of the caller that waits for the decision.
    pub is_awaited: bool,
    /// How the operation ended, as far as the journal of this gateway has it.
    pub outcome: Option<DisplayText>,
    pub front_end: &'static str,
    pub required_permissions: Vec<RequiredPermissionView>,
    /// Empty if no tags were read.
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
    pub vote_count: usize,
    pub history: Vec<HistoryEventView>,
    pub grant_until: Option<TimeView>,
    pub is_time_bound: bool,
    /// The person who used break-glass.
    pub break_glass_vote: Option<VoteView>,
    /// The approval was withdrawn, or the time-bound grant revoked.
    pub is_withdrawn: bool,
    /// The person who denied the request, withdrew the approval or revoked the grant.
    pub denial_vote: Option<VoteView>,
    pub use_count: u64,
    pub voting: VotingOptions,
    pub similar_requests: Vec<ApprovalRequestListItem>,
}

impl ApprovalRequestView {
    pub fn new(
        request: &ApprovalRequest,
        similar: &[ApprovalRequest],
        viewer: &Approver,
        voting: VotingOptions,
        progress: RequestProgress,
        now: OffsetDateTime,
    ) -> Self {
        let details = &request.details;
        let operation = &details.operation;
        let break_glass_vote = request.votes.iter().find(|vote| request.break_glass && vote.break_glass);
        let list_item =
            |request: &ApprovalRequest| ApprovalRequestListItem::from_approval_request(request, viewer, now);
        Self {
            summary: list_item(request),
            is_irreversible: operation.traits.irreversible,
            is_awaited: progress.is_awaited,
            outcome: progress.outcome,
            front_end: match operation.front_end {
                FrontEndKind::Aws => "AWS",
                FrontEndKind::Mcp => "MCP",
            },
            required_permissions: operation
                .required_permissions
                .iter()
                .map(RequiredPermissionView::from_permission)
                .collect(),
            tags: details.tags.iter().map(ResourceTagsView::from_tags).collect(),
            parameters: parameter_views(&operation.parameters, &operation.sensitive_pointers),
            uninspected: operation.uninspected_parts.iter().map(DisplayText::new).collect(),
            traits: describe_traits(operation.traits),
            account: DisplayText::new(operation.account.as_deref().unwrap_or("-")),
            region: DisplayText::new(operation.region.as_deref().unwrap_or("-")),
            caller: CallerView::from_caller(&details.caller),
            session: details.session.to_string(),
            exchange: details.exchange.to_string(),
            source_address: details.source_address.to_string(),
            user_agent: details.user_agent.as_ref().map(DisplayText::new),
            reason: DisplayText::new(&details.reason),
            policy_set: DisplayText::new(&details.policy_set),
            digest: request.digest_hex(),
            body_sha256: operation.body_sha256.as_ref().map(DisplayText::new),
            requirements: details
                .requirements
                .iter()
                .map(|requirement| RequirementView::new(requirement, request, viewer))
                .collect(),
            vote_count: request.votes.len(),
            history: request.history.iter().map(|event| HistoryEventView::new(event, request)).collect(),
            grant_until: request.grant_until.map(|at| TimeView::new(at, now)),
            is_time_bound: request.time_bound,
            break_glass_vote: break_glass_vote.map(VoteView::from_vote),
            is_withdrawn: request.is_withdrawn(),
            denial_vote: request.last_denial().map(VoteView::from_vote),
            use_count: request.uses,
            voting,
            similar_requests: similar.iter().map(list_item).collect(),
        }
    }
}

/// An event of the history in words.
fn event_label(kind: ApprovalEventKind, is_time_bound: bool) -> &'static str {
    match kind {
        ApprovalEventKind::Requested => "requested",
        ApprovalEventKind::ApproveOnce => "approved once",
        ApprovalEventKind::ApproveTimeBound => "approved a time-bound grant",
        ApprovalEventKind::Deny => "denied",
        ApprovalEventKind::BreakGlass => "break-glass used",
        ApprovalEventKind::Granted if is_time_bound => "time-bound grant created",
        ApprovalEventKind::Granted => "grant created",
        ApprovalEventKind::Withdrawn if is_time_bound => "time-bound grant revoked",
        ApprovalEventKind::Withdrawn => "approval withdrawn",
        ApprovalEventKind::Consumed => "consumed",
        ApprovalEventKind::TimedOut => "timed out",
        ApprovalEventKind::Expired => "expired",
        ApprovalEventKind::Superseded => "superseded",
        ApprovalEventKind::Corrupt => "corrupt",
    }
}

fn describe_traits(traits: OperationTraits) -> Vec<&'static str> {
    [
        (traits.irreversible, "destroys data or resources that cannot be restored"),
        (traits.escalates, "can give a principal more permissions"),
        (traits.indirect, "runs code or makes another service act"),
        (traits.returns_credentials, "returns credentials"),
    ]
    .into_iter()
    .filter_map(|(applies, text)| applies.then_some(text))
    .collect()
}

/// The parameters by name, as they were recorded: masked values stay masked. The documents within a parameter follow it.
fn parameter_views(parameters: &Value, sensitive_pointers: &[String]) -> Vec<ParameterView> {
    match parameters {
        Value::Object(members) => members
            .iter()
            .flat_map(|(name, value)| views_of_parameter(name, value, sensitive_pointers))
            .collect(),
        Value::Null => Vec::new(),
        other => views_of_parameter("", other, sensitive_pointers),
    }
}

fn views_of_parameter(name: &str, value: &Value, sensitive_pointers: &[String]) -> Vec<ParameterView> {
    // The name as a JSON Pointer token (RFC 6901 section 3).
    let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
    let is_masked = sensitive_pointers
        .iter()
        .any(|path| path.strip_prefix(&pointer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    let document = value.as_str().and_then(DocumentText::from_text);
    let (text, max_chars) = match (&document, value) {
        (Some(document), _) => (DisplayText::from_multiline(document.text()), MAX_DOCUMENT_CHARS),
        (None, Value::String(text)) => (DisplayText::new(text), MAX_PARAMETER_CHARS),
        (None, other) => (DisplayText::from_json(other), MAX_PARAMETER_CHARS),
    };
    let (value_text, hidden_chars) = text.truncate_chars(max_chars);
    let mut views = vec![ParameterView {
        name: DisplayText::new(name),
        value: value_text,
        hidden_chars,
        is_masked,
        document: document.as_ref().map(DocumentText::label),
    }];
    if !value.is_string() {
        let mut documents = Vec::new();
        collect_documents(value, name, &mut documents);
        views.extend(documents.into_iter().map(|(name, document)| {
            let text = DisplayText::from_multiline(document.text());
            let (value, hidden_chars) = text.truncate_chars(MAX_DOCUMENT_CHARS);
            ParameterView { name, value, hidden_chars, is_masked, document: Some(document.label()) }
        }));
    }
    views
}

/// The documents and the texts of several lines within a value, with their paths. The value itself is shown beside them.
fn collect_documents(value: &Value, path: &str, documents: &mut Vec<(DisplayText, DocumentText)>) {
    if documents.len() >= MAX_INNER_DOCUMENTS {
        return;
    }
    match value {
        Value::String(text) => {
            documents
                .extend(DocumentText::from_text(text).map(|document| (DisplayText::new(path), document)));
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect_documents(item, &format!("{path}/{index}"), documents);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                collect_documents(member, &format!("{path}/{name}"), documents);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

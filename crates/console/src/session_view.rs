//! Sessions and exchanges as the pages show them. The journal's history holds untrusted text; here it becomes
//! [`DisplayText`].

use crate::display_text::DisplayText;
use durward_approval::ApprovalRequestId;
use durward_core::{CredentialScope, ExchangeId, SessionId, timestamps::format_utc};
use durward_journal::history::{ExchangeHistory, JournalScan, RevocationScope, SessionHistory};
use time::OffsetDateTime;

/// One session.
pub struct SessionView {
    pub id: SessionId,
    pub caller: DisplayText,
    pub groups: DisplayText,
    pub connection: DisplayText,
    pub opened: String,
    pub expires: String,
    pub last_exchange: String,
    /// The number of exchanges that were allowed or approved.
    pub permitted: u64,
    /// The number of exchanges that were refused, for whatever reason.
    pub refused: u64,
    /// The number of exchanges that are waiting for approval.
    pub awaiting_approval: u64,
    pub revocation: Option<RevocationView>,
}

pub struct RevocationView {
    pub by: DisplayText,
    pub at: String,
    pub reason: DisplayText,
    /// All sessions of the caller were revoked, not this one alone.
    pub is_for_caller: bool,
}

impl SessionView {
    pub fn from_history(session: &SessionHistory) -> Self {
        let caller = session.caller.as_ref();
        Self {
            id: session.id,
            caller: caller.map_or_else(|| DisplayText::new("-"), DisplayText::from_caller),
            groups: DisplayText::new(caller.map(|caller| caller.groups.join(", ")).unwrap_or_default()),
            connection: DisplayText::new(session.connection.as_deref().unwrap_or("-")),
            opened: time_or_dash(session.opened),
            expires: time_or_dash(session.expires),
            last_exchange: time_or_dash(session.last_exchange),
            permitted: session.counts.permitted(),
            refused: session.counts.not_permitted(),
            awaiting_approval: session.counts.awaiting_approval,
            revocation: session.revocation.as_ref().map(|revocation| RevocationView {
                by: DisplayText::new(&revocation.by),
                at: format_utc(revocation.at),
                reason: DisplayText::new(&revocation.reason),
                is_for_caller: revocation.scope == RevocationScope::Caller,
            }),
        }
    }
}

fn time_or_dash(at: Option<OffsetDateTime>) -> String {
    at.map_or_else(|| "-".to_owned(), format_utc)
}

/// One exchange of a session.
pub struct ExchangeView {
    pub id: ExchangeId,
    /// The approval request that it waited for, whose grant it used, or that was denied.
    pub approval_request: Option<ApprovalRequestId>,
    pub time: String,
    pub disposition: String,
    /// The CSS class of the disposition.
    pub disposition_class: &'static str,
    pub title: DisplayText,
    pub resources: Vec<DisplayText>,
    pub policies: DisplayText,
    pub outcome: DisplayText,
    pub credential_scope: &'static str,
    pub masked_values: u64,
}

impl ExchangeView {
    pub fn from_history(exchange: &ExchangeHistory) -> Self {
        let operation = exchange.operation.as_ref();
        let mut resources: Vec<DisplayText> = Vec::new();
        for permission in operation.iter().flat_map(|operation| &operation.required_permissions) {
            let resource = DisplayText::new(permission.resource.to_text());
            if !resources.contains(&resource) {
                resources.push(resource);
            }
        }
        let policies = exchange.decision.as_ref().map(|decision| decision.policies.join(", "));
        let title = operation.map(durward_core::Operation::qualified_name);
        Self {
            id: exchange.id,
            approval_request: find_approval_request(exchange),
            time: time_or_dash(exchange.first_recorded),
            disposition: exchange.disposition.as_str().replace('_', " "),
            disposition_class: exchange.disposition.as_str(),
            title: DisplayText::new(title.as_deref().unwrap_or("(not decoded)")),
            resources,
            policies: DisplayText::new(policies.unwrap_or_default()),
            outcome: DisplayText::new(outcome_text(exchange)),
            credential_scope: match exchange.issued_credential.as_ref().map(|credential| credential.scope) {
                Some(CredentialScope::Operation) => "operation",
                Some(CredentialScope::Actions) => "actions",
                Some(CredentialScope::Session) => "role",
                None => "",
            },
            masked_values: exchange.masked_values(),
        }
    }
}

/// The approval request of the exchange.
fn find_approval_request(exchange: &ExchangeHistory) -> Option<ApprovalRequestId> {
    exchange.approval_request.as_deref()?.parse().ok()
}

/// How the exchange ended, in words.
pub fn outcome_text(exchange: &ExchangeHistory) -> String {
    if let Some(refusal) = &exchange.refusal {
        return refusal.message.clone();
    }
    if let Some(coalesced) = &exchange.coalesced {
        return format!("{}, the stored response of exchange {}", coalesced.status, coalesced.executed_by);
    }
    let Some(outcome) = &exchange.outcome else {
        let is_waiting = !exchange.disposition.is_permitted();
        return if is_waiting { "waiting for approval" } else { "no outcome recorded" }.to_owned();
    };
    let error_code = outcome.error_code.as_ref().map(|code| format!(" {code}")).unwrap_or_default();
    let failure = outcome.failure.as_ref().map(|failure| format!(", failed: {failure}")).unwrap_or_default();
    format!("{}{error_code}{failure}", outcome.status)
}

/// The extent to which the journal could be read.
pub struct JournalScanView {
    pub corruption: Option<DisplayText>,
    pub newer_records: u64,
    pub omitted_entries: u64,
}

impl JournalScanView {
    pub fn new(scan: &JournalScan, omitted_entries: u64) -> Self {
        Self {
            corruption: scan.corruption.as_ref().map(|corruption| DisplayText::new(corruption.to_string())),
            newer_records: scan.newer_records,
            omitted_entries,
        }
    }
}

//! Sessions and their exchanges, put together from the records in the order of the journal.
//!
//! A list keeps one entry per session whatever the journal's size; a story keeps the exchanges of one session.

use super::terminal_text::{escape_for_terminal, format_duration, format_utc};
use durward_core::{Caller, CredentialScope, Decision, ExchangeId, Operation, SessionId, Verdict};
use durward_journal::{Cause, JournalEntry, JournalRecord, MaskedCount};
use serde::Serialize;
use std::{collections::HashMap, fmt::Write as _};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

#[derive(Default, Serialize)]
pub(super) struct ExchangeCounts {
    pub(super) allowed: u64,
    pub(super) denied: u64,
}

#[derive(Serialize)]
pub(super) struct SessionSummary {
    pub(super) session: SessionId,
    pub(super) caller: Option<Caller>,
    pub(super) connection: Option<String>,
    pub(super) opened: Option<String>,
    pub(super) expires: Option<String>,
    pub(super) last_exchange: Option<String>,
    pub(super) allowed: u64,
    pub(super) denied: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) revoked: Option<SessionRevocation>,
    /// Number of the record that first named it: the order of the list.
    #[serde(skip)]
    pub(super) first_record: u64,
}

/// Who ended a session before its time.
#[derive(Clone, Serialize)]
pub(super) struct SessionRevocation {
    pub(super) by: String,
    pub(super) at: String,
    pub(super) reason: String,
}

#[derive(Default)]
pub(super) struct SessionIndex {
    pub(super) by_session_id: HashMap<SessionId, SessionSummary>,
    pub(super) without_session: ExchangeCounts,
}

impl SessionIndex {
    pub(super) fn add_record(&mut self, entry: &JournalEntry, record: JournalRecord) {
        let time = entry.record_time().map(str::to_owned);
        match record {
            JournalRecord::SessionOpened { session, caller, connection, expires, .. } => {
                let session = self.session_entry(session, entry);
                session.caller = Some(caller);
                session.connection = Some(connection);
                session.opened = time;
                session.expires = expires.format(&Rfc3339).ok();
            }
            JournalRecord::Intent { session, caller, connection, decision, .. } => {
                self.count_exchange(
                    session,
                    entry,
                    decision.verdict == Verdict::Allow,
                    caller,
                    Some(connection),
                    time,
                );
            }
            JournalRecord::Refused { session, caller, connection, .. } => {
                self.count_exchange(session, entry, false, caller, connection, time);
            }
            JournalRecord::Coalesced { session, caller, connection, .. } => {
                self.count_exchange(Some(session), entry, true, Some(caller), Some(connection), time);
            }
            JournalRecord::SessionRevoked { session, caller, by, reason, at } => {
                let revoked = SessionRevocation { by, reason, at: at.format(&Rfc3339).unwrap_or_default() };
                let is_of = |one: &SessionSummary| match (session, &caller) {
                    (Some(session), _) => one.session == session,
                    (None, Some(caller)) => one.caller.as_ref().is_some_and(|one| one.id() == *caller),
                    (None, None) => false,
                };
                // All that a caller opened later is recorded after this.
                for one in self.by_session_id.values_mut().filter(|one| one.revoked.is_none() && is_of(one)) {
                    one.revoked = Some(revoked.clone());
                }
            }
            JournalRecord::SignInRefused { .. }
            | JournalRecord::ApprovalRequested { .. }
            | JournalRecord::ApprovalRequestChanged { .. }
            | JournalRecord::CredentialIssued { .. }
            | JournalRecord::Outcome { .. } => {}
        }
    }

    fn count_exchange(
        &mut self,
        session: Option<SessionId>,
        entry: &JournalEntry,
        allowed: bool,
        caller: Option<Caller>,
        connection: Option<String>,
        time: Option<String>,
    ) {
        let (count_allowed, count_denied) = match session {
            None => (&mut self.without_session.allowed, &mut self.without_session.denied),
            Some(session) => {
                let session = self.session_entry(session, entry);
                // A session that another replica opened is known by its exchanges only.
                if session.caller.is_none() {
                    session.caller = caller;
                }
                if session.connection.is_none() {
                    session.connection = connection;
                }
                session.last_exchange = time;
                (&mut session.allowed, &mut session.denied)
            }
        };
        *(if allowed { count_allowed } else { count_denied }) += 1;
    }

    fn session_entry(&mut self, session: SessionId, entry: &JournalEntry) -> &mut SessionSummary {
        self.by_session_id.entry(session).or_insert_with(|| SessionSummary {
            session,
            caller: None,
            connection: None,
            opened: None,
            expires: None,
            last_exchange: None,
            allowed: 0,
            denied: 0,
            revoked: None,
            first_record: entry.position.record_number,
        })
    }
}

/// One exchange of the session that is shown.
#[derive(Serialize)]
pub(super) struct ExchangeHistory {
    exchange: ExchangeId,
    time: Option<String>,
    operation: Option<Operation>,
    decision: Option<Decision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caused_by: Option<Cause>,
    /// Why it never went upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_credential: Option<IssuedCredentialSummary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<OutcomeSummary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    coalesced: Option<CoalescedResponse>,
}

/// The answer of another exchange, which this one was given.
#[derive(Serialize)]
struct CoalescedResponse {
    executed_by: ExchangeId,
    approval_request: String,
    status: u16,
    duration_us: u64,
}

#[derive(Serialize)]
struct IssuedCredentialSummary {
    access_key_id: String,
    scope: CredentialScope,
}

#[derive(Serialize)]
struct OutcomeSummary {
    status: u16,
    error_code: Option<String>,
    request_bytes: u64,
    response_bytes: u64,
    masked: Vec<MaskedCount>,
    upstream_request_id: Option<String>,
    duration_us: u64,
    failure: Option<String>,
}

/// Whose exchanges a story tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HistorySelection {
    Session(SessionId),
    /// One exchange that belongs to no session.
    SessionlessExchange(ExchangeId),
}

/// The exchange that a record begins, and its session.
pub(super) fn exchange_and_session(record: &JournalRecord) -> Option<(ExchangeId, Option<SessionId>)> {
    match record {
        JournalRecord::Intent { exchange, session, .. }
        | JournalRecord::Refused { exchange, session, .. } => Some((*exchange, *session)),
        JournalRecord::ApprovalRequested { exchange, session, .. }
        | JournalRecord::Coalesced { exchange, session, .. } => Some((*exchange, Some(*session))),
        _ => None,
    }
}

pub(super) struct SessionHistory {
    selection: HistorySelection,
    pub(super) sessions: SessionIndex,
    pub(super) exchanges: Vec<ExchangeHistory>,
    exchange_positions: HashMap<ExchangeId, usize>,
}

impl SessionHistory {
    pub(super) fn for_selection(wanted: HistorySelection) -> Self {
        Self {
            selection: wanted,
            sessions: SessionIndex::default(),
            exchanges: Vec::new(),
            exchange_positions: HashMap::new(),
        }
    }

    pub(super) fn add_record(&mut self, entry: &JournalEntry, record: JournalRecord) {
        match &record {
            JournalRecord::SessionOpened { session, .. }
                if self.selection == HistorySelection::Session(*session) =>
            {
                self.sessions.add_record(entry, record);
            }
            // Of the one session that is kept here, or of none.
            JournalRecord::SessionRevoked { .. } => self.sessions.add_record(entry, record),
            JournalRecord::CredentialIssued { exchange, access_key_id, scope, .. } => {
                if let Some(shown) = self.exchange_entry(exchange) {
                    shown.issued_credential =
                        Some(IssuedCredentialSummary { access_key_id: access_key_id.clone(), scope: *scope });
                }
            }
            JournalRecord::Outcome { exchange, .. } => {
                if let Some(shown) = self.exchange_entry(exchange) {
                    shown.outcome = outcome_summary(record);
                }
            }
            _ if self.selects(&record) => {
                if let Some(shown) = ExchangeHistory::from_record(entry, &record) {
                    self.exchange_positions.insert(shown.exchange, self.exchanges.len());
                    self.exchanges.push(shown);
                    self.sessions.add_record(entry, record);
                }
            }
            _ => {}
        }
    }

    fn selects(&self, record: &JournalRecord) -> bool {
        exchange_and_session(record).is_some_and(|(exchange, session)| match self.selection {
            HistorySelection::Session(wanted) => session == Some(wanted),
            HistorySelection::SessionlessExchange(wanted) => exchange == wanted,
        })
    }

    fn exchange_entry(&mut self, exchange: &ExchangeId) -> Option<&mut ExchangeHistory> {
        self.exchange_positions.get(exchange).and_then(|index| self.exchanges.get_mut(*index))
    }
}

fn outcome_summary(record: JournalRecord) -> Option<OutcomeSummary> {
    let JournalRecord::Outcome {
        status,
        error_code,
        request_bytes,
        response_bytes,
        masked,
        upstream_request_id,
        duration_us,
        failure,
        ..
    } = record
    else {
        return None;
    };
    Some(OutcomeSummary {
        status,
        error_code,
        request_bytes,
        response_bytes,
        masked,
        upstream_request_id,
        duration_us,
        failure,
    })
}

impl ExchangeHistory {
    /// What a record begins that is no question to people: that comes before an intent or a refusal.
    fn from_record(entry: &JournalEntry, record: &JournalRecord) -> Option<Self> {
        let (exchange, _session) = exchange_and_session(record)?;
        let empty = Self {
            exchange,
            time: entry.record_time().map(str::to_owned),
            operation: None,
            decision: None,
            caused_by: None,
            refusal: None,
            issued_credential: None,
            outcome: None,
            coalesced: None,
        };
        match record {
            JournalRecord::Intent { operation, decision, caused_by: link_to, .. } => Some(Self {
                operation: Some(operation.clone()),
                decision: Some(decision.clone()),
                caused_by: link_to.clone(),
                ..empty
            }),
            JournalRecord::Refused { operation, decision, message, .. } => Some(Self {
                operation: operation.clone(),
                decision: decision.clone(),
                refusal: Some(message.clone()),
                ..empty
            }),
            JournalRecord::Coalesced {
                approval_request: ask,
                executed_by,
                operation,
                decision,
                status,
                duration_us,
                ..
            } => Some(Self {
                operation: Some(operation.clone()),
                decision: Some(decision.clone()),
                coalesced: Some(CoalescedResponse {
                    executed_by: *executed_by,
                    approval_request: ask.clone(),
                    status: *status,
                    duration_us: *duration_us,
                }),
                ..empty
            }),
            _ => None,
        }
    }

    pub(super) fn id(&self) -> ExchangeId {
        self.exchange
    }

    /// When it was decided.
    pub(super) fn decided_at(&self) -> Option<OffsetDateTime> {
        OffsetDateTime::parse(self.time.as_deref()?, &Rfc3339).ok()
    }

    /// Time, verdict, operation, resources, then what there is of status, policies, duration and masking.
    pub(super) fn format_line(&self) -> String {
        let verdict = match (&self.refusal, &self.decision) {
            _ if self.coalesced.is_some() => "allow",
            (_, Some(decision)) if decision.verdict == Verdict::RequireApproval => "ask",
            (Some(_), _) => "deny",
            (None, Some(decision)) if decision.verdict == Verdict::Allow => "allow",
            (None, _) => "deny",
        };
        let title =
            self.operation.as_ref().map_or_else(|| "(not decoded)".to_owned(), Operation::qualified_name);
        let mut line =
            format!("{}  {verdict:<5}  {}", format_utc(self.time.as_deref()), escape_for_terminal(&title));
        if let Some(operation) = &self.operation {
            line.push(' ');
            line.push_str(&escape_for_terminal(&format_resources(operation)));
        }
        let mut add = |text: String| {
            line.push_str("  ");
            line.push_str(&text);
        };
        match &self.outcome {
            Some(outcome) => {
                add(match &outcome.error_code {
                    Some(code) => format!("{} {}", outcome.status, escape_for_terminal(code)),
                    None => outcome.status.to_string(),
                });
                add(format_duration(outcome.duration_us));
                let masked: u64 = outcome.masked.iter().map(|masked| masked.count).sum();
                if masked > 0 {
                    add(format!("masked {masked}"));
                }
                if let Some(failure) = &outcome.failure {
                    add(format!("failed: {}", escape_for_terminal(failure)));
                }
            }
            None if self.coalesced.is_some() => {}
            None if self.refusal.is_none() => add("(no outcome recorded)".to_owned()),
            None => {}
        }
        if let Some(joined) = &self.coalesced {
            add(joined.status.to_string());
            add(format_duration(joined.duration_us));
            add(format!(
                "stored answer of exchange {}, ask {}",
                joined.executed_by,
                escape_for_terminal(&joined.approval_request)
            ));
        }
        if let Some(decision) = self.decision.as_ref().filter(|decision| !decision.policies.is_empty()) {
            add(format!("policy {}", escape_for_terminal(&decision.policies.join(", "))));
        }
        if let Some(refused) = &self.refusal {
            add(escape_for_terminal(refused));
        }
        line
    }
}

/// The distinct resources of an operation; the first three of many.
fn format_resources(operation: &Operation) -> String {
    let mut names: Vec<String> = Vec::new();
    for demand in &operation.required_permissions {
        let name = demand.resource.to_text();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let more = names.len().saturating_sub(3);
    names.truncate(3);
    let mut out = names.join(", ");
    if more > 0 {
        // Writing to a String cannot fail.
        let _infallible = write!(out, " and {more} more");
    }
    out
}

//! Sessions and their exchanges as the journal tells them.
//!
//! Only what the journal proves is shown. Memory does not grow with the journal: the newest sessions, and of one session the
//! newest exchanges, are kept.

use crate::approval_request_view::{format_rfc3339, format_rfc3339_as_utc};
use crate::display_text::DisplayText;
use durward_core::{Caller, CredentialScope, Decision, ExchangeId, Operation, SessionId, Verdict};
use durward_journal::{JournalEntry, JournalRecord, read_journal};
use serde::Serialize;
use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Sessions of the list.
const MAX_LISTED_SESSIONS: usize = 500;
/// Exchanges of one session.
const MAX_LISTED_EXCHANGES: usize = 1_000;

/// One session of the list. Times are as they were recorded, RFC 3339.
#[derive(Serialize)]
pub struct SessionHistory {
    #[serde(rename = "session")]
    pub id: SessionId,
    pub caller: Option<Caller>,
    pub connection: Option<String>,
    pub opened: Option<String>,
    pub expires: Option<String>,
    #[serde(rename = "last_exchange")]
    pub last_exchange: Option<String>,
    pub allowed: u64,
    #[serde(rename = "denied")]
    pub refused: u64,
}

impl SessionHistory {
    /// When it began, for what is revoked of its caller; a session that is no more than a token began before it was opened.
    pub fn started_at(&self) -> OffsetDateTime {
        let opened = || OffsetDateTime::parse(self.opened.as_deref()?, &Rfc3339).ok();
        durward_identity::session_start_time(self.id).or_else(opened).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

/// What a reading of the whole journal came to.
#[derive(Default, Serialize)]
pub struct JournalScan {
    /// Where the journal is not as it was written; nothing after it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corruption: Option<DisplayText>,
    /// Records of a newer version, left out.
    pub newer_records: u64,
    /// Older entries that are not kept.
    pub omitted_entries: u64,
}

/// One exchange of a session.
#[derive(Serialize)]
pub struct ExchangeHistory {
    #[serde(rename = "exchange")]
    pub id: ExchangeId,
    /// RFC 3339.
    #[serde(rename = "time")]
    pub recorded_at: Option<String>,
    #[serde(skip)]
    pub time_text: DisplayText,
    pub verdict: &'static str,
    pub title: DisplayText,
    pub resources: Vec<DisplayText>,
    pub policies: DisplayText,
    pub outcome: DisplayText,
    /// How the credential was cut.
    pub credential_scope: &'static str,
    pub masked_count: u64,
}

fn scan_journal(
    dir: &Path,
    mut take: impl FnMut(&JournalEntry, JournalRecord, &mut JournalScan),
) -> JournalScan {
    let mut reading = JournalScan::default();
    for entry in read_journal(dir) {
        match entry {
            Ok(entry) => match entry.decode_record() {
                Ok(record) => take(&entry, record, &mut reading),
                Err(_newer) => reading.newer_records += 1,
            },
            Err(broken) => reading.corruption = Some(DisplayText::new(broken.to_string())),
        }
    }
    reading
}

/// The newest sessions, newest first.
pub fn list_sessions(dir: &Path) -> (Vec<SessionHistory>, JournalScan) {
    let mut sessions: BTreeMap<SessionId, SessionHistory> = BTreeMap::new();
    let reading = scan_journal(dir, |entry, record, reading| {
        update_session(&mut sessions, entry, &record);
        // Ids sort by time: the first is the oldest.
        if sessions.len() > MAX_LISTED_SESSIONS {
            sessions.pop_first();
            reading.omitted_entries += 1;
        }
    });
    (sessions.into_values().rev().collect(), reading)
}

fn update_session(
    sessions: &mut BTreeMap<SessionId, SessionHistory>,
    entry: &JournalEntry,
    record: &JournalRecord,
) {
    let (id, caller, connection, permitted) = match record {
        JournalRecord::SessionOpened { session, caller, connection, .. } => {
            (session, Some(caller), Some(connection), None)
        }
        JournalRecord::Intent { session: Some(session), caller, connection, .. } => {
            (session, caller.as_ref(), Some(connection), Some(true))
        }
        JournalRecord::Refused { session: Some(session), caller, connection, .. } => {
            (session, caller.as_ref(), connection.as_ref(), Some(false))
        }
        JournalRecord::Coalesced { session, caller, connection, .. } => {
            (session, Some(caller), Some(connection), Some(true))
        }
        _ => return,
    };
    let session = sessions.entry(*id).or_insert_with(|| SessionHistory {
        id: *id,
        caller: None,
        connection: None,
        opened: None,
        expires: None,
        last_exchange: None,
        allowed: 0,
        refused: 0,
    });
    if session.caller.is_none() {
        session.caller = caller.cloned();
    }
    if session.connection.is_none() {
        session.connection = connection.cloned();
    }
    let time = entry.record_time().map(str::to_owned);
    match permitted {
        None => {
            session.opened = time;
            if let JournalRecord::SessionOpened { expires, .. } = record {
                session.expires = Some(format_rfc3339(*expires));
            }
        }
        Some(allowed) => {
            session.last_exchange = time;
            *(if allowed { &mut session.allowed } else { &mut session.refused }) += 1;
        }
    }
}

/// How many sessions of this caller the journal knows.
pub fn count_sessions(dir: &Path, caller: &str) -> u64 {
    let mut count = 0;
    scan_journal(dir, |_entry, record, _reading| {
        if let JournalRecord::SessionOpened { caller: one, .. } = record
            && one.id() == caller
        {
            count += 1;
        }
    });
    count
}

/// One session with its newest exchanges, oldest of them first. None: the journal does not know it.
pub fn session_history(
    dir: &Path,
    wanted: SessionId,
) -> (Option<SessionHistory>, VecDeque<ExchangeHistory>, JournalScan) {
    let mut sessions = BTreeMap::new();
    let mut exchanges: VecDeque<ExchangeHistory> = VecDeque::new();
    let reading = scan_journal(dir, |entry, record, reading| {
        let shown = match &record {
            JournalRecord::SessionOpened { session, .. } if *session == wanted => None,
            JournalRecord::Intent {
                exchange,
                session: Some(session),
                operation,
                decision,
                grant: approval,
                ..
            } if *session == wanted => {
                let went = if approval.is_some() {
                    ExchangeDisposition::Approved
                } else {
                    ExchangeDisposition::Allowed
                };
                Some(new_exchange_history(entry, *exchange, Some(operation), Some(decision), went))
            }
            JournalRecord::Refused {
                exchange, session: Some(session), operation, decision, message, ..
            } if *session == wanted => {
                let begun = new_exchange_history(
                    entry,
                    *exchange,
                    operation.as_ref(),
                    decision.as_ref(),
                    ExchangeDisposition::Refused,
                );
                Some(ExchangeHistory { outcome: DisplayText::new(message), ..begun })
            }
            JournalRecord::Coalesced {
                exchange, executed_by, session, operation, decision, status, ..
            } if *session == wanted => {
                let begun = new_exchange_history(
                    entry,
                    *exchange,
                    Some(operation),
                    Some(decision),
                    ExchangeDisposition::Approved,
                );
                let outcome =
                    DisplayText::new(format!("{status}, the stored response of exchange {executed_by}"));
                Some(ExchangeHistory { outcome, ..begun })
            }
            JournalRecord::CredentialIssued { exchange, scope, .. } => {
                if let Some(shown) = find_exchange(&mut exchanges, *exchange) {
                    shown.credential_scope = match scope {
                        CredentialScope::Operation => "this operation",
                        CredentialScope::Actions => "its actions",
                        CredentialScope::Session => "the whole role",
                    };
                }
                return;
            }
            JournalRecord::Outcome { exchange, status, error_code, masked, failure, .. } => {
                if let Some(shown) = find_exchange(&mut exchanges, *exchange) {
                    let code = error_code.as_ref().map(|code| format!(" {code}")).unwrap_or_default();
                    let failure =
                        failure.as_ref().map(|why| format!(", broke off: {why}")).unwrap_or_default();
                    shown.outcome = DisplayText::new(format!("{status}{code}{failure}"));
                    shown.masked_count = masked.iter().map(|one| one.count).sum();
                }
                return;
            }
            _ => return,
        };
        update_session(&mut sessions, entry, &record);
        if let Some(shown) = shown {
            exchanges.push_back(shown);
            if exchanges.len() > MAX_LISTED_EXCHANGES {
                exchanges.pop_front();
                reading.omitted_entries += 1;
            }
        }
    });
    (sessions.remove(&wanted), exchanges, reading)
}

fn find_exchange(exchanges: &mut VecDeque<ExchangeHistory>, id: ExchangeId) -> Option<&mut ExchangeHistory> {
    exchanges.iter_mut().rev().find(|exchange| exchange.id == id)
}

/// How far an exchange came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ExchangeDisposition {
    Allowed,
    /// Lifted by people.
    Approved,
    Refused,
}

fn new_exchange_history(
    entry: &JournalEntry,
    id: ExchangeId,
    operation: Option<&Operation>,
    decision: Option<&Decision>,
    went: ExchangeDisposition,
) -> ExchangeHistory {
    let asked = decision.is_some_and(|decision| decision.verdict == Verdict::RequireApproval);
    let verdict = match went {
        ExchangeDisposition::Allowed => "allowed",
        ExchangeDisposition::Approved => "approved",
        ExchangeDisposition::Refused if asked => "approval-required",
        ExchangeDisposition::Refused => "refused",
    };
    let mut resources: Vec<DisplayText> = Vec::new();
    for demand in operation.iter().flat_map(|operation| &operation.required_permissions) {
        let resource = DisplayText::new(demand.resource.to_text());
        if !resources.contains(&resource) {
            resources.push(resource);
        }
    }
    ExchangeHistory {
        id,
        recorded_at: entry.record_time().map(str::to_owned),
        time_text: entry.record_time().map_or_else(|| DisplayText::new("-"), format_rfc3339_as_utc),
        verdict,
        title: operation.map_or_else(
            || DisplayText::new("(not decoded)"),
            |operation| DisplayText::new(operation.qualified_name()),
        ),
        resources,
        policies: DisplayText::new(decision.map(|decision| decision.policies.join(", ")).unwrap_or_default()),
        outcome: DisplayText::new(if went == ExchangeDisposition::Refused {
            ""
        } else {
            "no outcome recorded"
        }),
        credential_scope: "",
        masked_count: 0,
    }
}

/// `corp/agent-7 for alice`.
pub fn describe_caller(caller: &Caller) -> DisplayText {
    let mut text = caller.id();
    if !caller.act.is_empty() {
        text.push_str(" for ");
        text.push_str(&caller.act.join(", "));
    }
    DisplayText::new(text)
}

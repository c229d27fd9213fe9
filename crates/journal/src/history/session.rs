//! One session: its caller, the number of its exchanges, and its revocation.

use super::exchange::{Disposition, DispositionCounts, decided_exchange, requested_exchange};
use crate::{
    JournalEntry, JournalRecord,
    record::rfc3339_micros::{serialize as serialize_time, serialize_option as serialize_optional_time},
};
use durward_core::{Caller, ExchangeId, FrontEndKind, SessionId, timestamps::to_unix_millis};
use serde::Serialize;
use std::collections::HashSet;
use time::OffsetDateTime;

/// A session as the journal tells it. Empty optional fields are left out of the JSON, as they are in the records.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SessionHistory {
    #[serde(rename = "session")]
    pub id: SessionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<Caller>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// The front end of its exchanges. `None` if it has none yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub front_end: Option<FrontEndKind>,
    /// When it was opened. `None` if another replica opened it: that is in the other replica's journal.
    #[serde(serialize_with = "serialize_optional_time", skip_serializing_if = "Option::is_none")]
    pub opened: Option<OffsetDateTime>,
    #[serde(serialize_with = "serialize_optional_time", skip_serializing_if = "Option::is_none")]
    pub expires: Option<OffsetDateTime>,
    /// When the last of its exchanges was first recorded or decided.
    #[serde(serialize_with = "serialize_optional_time", skip_serializing_if = "Option::is_none")]
    pub last_exchange: Option<OffsetDateTime>,
    /// The first revocation of it that was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocation: Option<SessionRevocation>,
    /// The outcomes of its exchanges.
    pub counts: DispositionCounts,
}

/// The end of a session before it expired: by whom, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionRevocation {
    pub scope: RevocationScope,
    /// The person, as provider and subject.
    pub by: String,
    #[serde(serialize_with = "serialize_time")]
    pub at: OffsetDateTime,
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationScope {
    /// This session alone.
    Session,
    /// Every session that its caller had begun until then.
    Caller,
}

impl SessionHistory {
    /// When it began: the time in its id. A session that is one token has a derived id, which holds no time: it counts from
    /// when it was opened.
    pub fn started_at(&self) -> Option<OffsetDateTime> {
        self.id.created_at().or(self.opened)
    }
}

/// The sessions to list.
#[derive(Debug, Clone, Default)]
pub struct SessionFilter {
    /// `<provider>/<subject>`. `None`: every caller.
    pub caller: Option<String>,
    /// `None`: every connection.
    pub connection: Option<String>,
}

impl SessionFilter {
    /// Returns true if a record of a session belongs to a session to list, as far as the record says.
    pub(super) fn matches_record(&self, record: &JournalRecord) -> bool {
        let Some(RecordParties { caller, connection, .. }) = record_parties(record) else { return true };
        let is_of_caller = |wanted: &String| caller.is_none_or(|caller| caller.id() == *wanted);
        let is_on_connection = |wanted: &String| connection.is_none_or(|connection| connection == wanted);
        self.caller.as_ref().is_none_or(is_of_caller) && self.connection.as_ref().is_none_or(is_on_connection)
    }
}

/// What a record of a session says of it.
struct RecordParties<'a> {
    caller: Option<&'a Caller>,
    connection: Option<&'a String>,
    front_end: Option<FrontEndKind>,
}

fn record_parties(record: &JournalRecord) -> Option<RecordParties<'_>> {
    let (caller, connection, front_end) = match record {
        JournalRecord::SessionOpened { caller, connection, .. } => (Some(caller), Some(connection), None),
        JournalRecord::Intent { caller, connection, front_end, .. } => {
            (caller.as_ref(), Some(connection), Some(*front_end))
        }
        JournalRecord::Refused { caller, connection, front_end, .. } => {
            (caller.as_ref(), connection.as_ref(), Some(*front_end))
        }
        JournalRecord::ApprovalRequested { caller, connection, front_end, .. }
        | JournalRecord::Coalesced { caller, connection, front_end, .. } => {
            (Some(caller), Some(connection), Some(*front_end))
        }
        _ => return None,
    };
    Some(RecordParties { caller, connection, front_end })
}

/// Puts a session together from its records.
pub(super) struct SessionBuilder {
    history: SessionHistory,
    /// Its exchanges that wait for people. Each is counted anew when it is decided.
    awaiting_approval: HashSet<ExchangeId>,
    /// The number of the record that first named it.
    pub first_record: u64,
    /// The number of the record that last named it.
    pub last_record: u64,
}

impl SessionBuilder {
    pub fn new(id: SessionId, entry: &JournalEntry) -> Self {
        let history = SessionHistory {
            id,
            caller: None,
            connection: None,
            front_end: None,
            opened: None,
            expires: None,
            last_exchange: None,
            revocation: None,
            counts: DispositionCounts::default(),
        };
        let first_record = entry.position.record_number;
        Self { history, awaiting_approval: HashSet::new(), first_record, last_record: first_record }
    }

    /// Empty for a session whose caller no record has named.
    pub fn caller_id(&self) -> String {
        self.history.caller.as_ref().map(Caller::id).unwrap_or_default()
    }

    pub fn into_history(self) -> SessionHistory {
        self.history
    }

    /// Adds a record that belongs to this session.
    pub fn add_record(&mut self, entry: &JournalEntry, record: &JournalRecord) {
        self.last_record = entry.position.record_number;
        let time = entry.recorded_at();
        let history = &mut self.history;
        if let JournalRecord::SessionOpened { expires, .. } = record {
            // A session that is one token is recorded again after the gateway was started again.
            history.opened = history.opened.or(time);
            history.expires = Some(*expires);
        }
        let Some(RecordParties { caller, connection, front_end }) = record_parties(record) else { return };
        // A session that another replica opened is known by its exchanges only.
        if history.caller.is_none() {
            history.caller = caller.cloned();
        }
        if history.connection.is_none() {
            history.connection = connection.cloned();
        }
        if front_end.is_some() {
            history.front_end = front_end;
            history.last_exchange = time.or(history.last_exchange);
        }
        if let Some((exchange, _session)) = requested_exchange(record)
            && self.awaiting_approval.insert(exchange)
        {
            history.counts.add(Disposition::AwaitingApproval);
        }
        if let Some(decided) = decided_exchange(record) {
            if self.awaiting_approval.remove(&decided.of.0) {
                history.counts.remove(Disposition::AwaitingApproval);
            }
            history.counts.add(decided.disposition);
        }
    }

    /// Applies a revocation if it is of this session.
    pub fn apply_revocation(&mut self, record: &JournalRecord) {
        let JournalRecord::SessionRevoked { session, caller, by, reason, at } = record else { return };
        // The first revocation stands: a session cannot end twice, and a record may come twice.
        if self.history.revocation.is_some() {
            return;
        }
        let scope = match (session, caller) {
            (Some(session), _) if *session == self.history.id => RevocationScope::Session,
            (None, Some(caller)) if self.is_of_caller_and_began_until(caller, *at) => RevocationScope::Caller,
            _ => return,
        };
        self.history.revocation =
            Some(SessionRevocation { scope, by: by.clone(), at: *at, reason: reason.clone() });
    }

    /// Compared in milliseconds, as the store keeps times and as the gateway compares them.
    fn is_of_caller_and_began_until(&self, caller: &str, at: OffsetDateTime) -> bool {
        self.history.caller.as_ref().is_some_and(|own| own.id() == caller)
            && self.history.started_at().is_none_or(|began| to_unix_millis(began) <= to_unix_millis(at))
    }
}

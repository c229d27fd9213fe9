//! Sessions, exchanges and their outcomes, put together from journal records.
//!
//! This is the one reader of records: the CLI, the console and the admin API render what it returns. Its types
//! serialize to the one JSON form of a session and of an exchange. It holds no text for a terminal or a page, and it does not
//! escape: recorded values are untrusted, so whoever renders them escapes them.
//!
//! Each function makes one pass over the entries of [`read_journal`](crate::read_journal). Memory grows with the bound that
//! the function is given, not with the journal. Nothing after a corruption is read.
//!
//! - [`list_sessions`]: the sessions, with the outcomes of their exchanges
//! - [`read_session`]: one session with its exchanges
//! - [`find_exchange`]: one exchange, whether it belongs to a session or not
//! - [`count_sessions_of_caller`]: the number of sessions that a caller opened

mod exchange;
mod session;

pub use exchange::{
    CoalescedResponse, Disposition, DispositionCounts, ExchangeHistory, ExchangeOutcome, ExchangeRefusal,
    IssuedCredential,
};
pub use session::{RevocationScope, SessionFilter, SessionHistory, SessionRevocation};

use crate::{JournalCorruption, JournalEntry, JournalRecord};
use durward_core::{ExchangeId, SessionId};
use exchange::{decided_exchange, requested_exchange};
use serde::{Serialize, Serializer};
use session::SessionBuilder;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// The sessions that the journal names.
#[derive(Debug, Serialize)]
pub struct SessionList {
    /// In the order of their first records, the oldest first.
    pub sessions: Vec<SessionHistory>,
    /// The exchanges that belong to no session: their caller was never authenticated.
    pub without_session: DispositionCounts,
    /// The number of sessions that were left out because of the bound.
    pub omitted_sessions: u64,
    pub journal_scan: JournalScan,
}

/// One session with its exchanges.
#[derive(Debug, Serialize)]
pub struct SessionDetail {
    /// `None` if the journal does not name this session.
    pub session: Option<SessionHistory>,
    /// In the order of their first records, the oldest first.
    pub exchanges: VecDeque<ExchangeHistory>,
    /// The number of exchanges that were left out because of the bound: the oldest. The counts of the session include them.
    pub omitted_exchanges: u64,
    pub journal_scan: JournalScan,
}

/// The result of a search for one exchange.
#[derive(Debug, Serialize)]
pub struct ExchangeLookup {
    /// `None` if the journal does not have this exchange.
    pub exchange: Option<ExchangeHistory>,
    pub journal_scan: JournalScan,
}

/// The extent to which the journal was read.
#[derive(Debug, Default, Serialize)]
pub struct JournalScan {
    /// The number of records that were left out because a newer version wrote them.
    pub newer_records: u64,
    /// The first position at which the journal is not as it was written. Nothing after it was read.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "serialize_corruption")]
    pub corruption: Option<JournalCorruption>,
}

#[expect(clippy::ref_option, reason = "serde's `serialize_with` passes a reference to the field")]
fn serialize_corruption<S: Serializer>(
    corruption: &Option<JournalCorruption>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match corruption {
        Some(corruption) => serializer.collect_str(corruption),
        None => serializer.serialize_none(),
    }
}

/// Lists the sessions that the filter wants, at most `max_sessions` of them: those whose last record is the newest. If they are too many, the caller with
/// the most sessions loses its oldest: nobody hides the sessions of others behind thousands of its own.
///
/// A session that was left out and is used again later is listed without `opened`, and its counts begin there. This happens
/// only if `max_sessions` other sessions were used in between.
pub fn list_sessions(
    entries: impl IntoIterator<Item = Result<JournalEntry, JournalCorruption>>,
    filter: &SessionFilter,
    max_sessions: usize,
) -> SessionList {
    let mut sessions: HashMap<SessionId, SessionBuilder> = HashMap::new();
    // By caller, ordered by last record. Ids do not give this order: a session that is one MCP token has a derived id without a time.
    let mut by_caller: HashMap<String, BTreeMap<u64, SessionId>> = HashMap::new();
    let mut without_session = DispositionCounts::default();
    let mut omitted_sessions = 0;
    let journal_scan = scan_records(entries, |entry, record| {
        if let JournalRecord::SessionRevoked { .. } = record {
            for session in sessions.values_mut() {
                session.apply_revocation(&record);
            }
            return;
        }
        let Some(session) = session_of(&record) else {
            if let Some(decided) = decided_exchange(&record) {
                without_session.add(decided.disposition);
            }
            return;
        };
        if !filter.matches_record(&record) {
            return;
        }
        let builder = sessions.entry(session).or_insert_with(|| SessionBuilder::new(session, entry));
        if let Some(of_caller) = by_caller.get_mut(&builder.caller_id()) {
            of_caller.remove(&builder.last_record);
        }
        builder.add_record(entry, &record);
        by_caller.entry(builder.caller_id()).or_default().insert(builder.last_record, session);
        if sessions.len() > max_sessions
            && let Some(oldest) = take_oldest_of_largest(&mut by_caller)
        {
            sessions.remove(&oldest);
            omitted_sessions += 1;
        }
    });
    let mut sessions: Vec<_> = sessions.into_values().collect();
    sessions.sort_by_key(|session| session.first_record);
    let sessions = sessions.into_iter().map(SessionBuilder::into_history).collect();
    SessionList { sessions, without_session, omitted_sessions, journal_scan }
}

/// Takes out the oldest session of the caller that has the most; of two such callers, the older one.
fn take_oldest_of_largest(by_caller: &mut HashMap<String, BTreeMap<u64, SessionId>>) -> Option<SessionId> {
    by_caller.retain(|_caller, sessions| !sessions.is_empty());
    let oldest_record = |sessions: &BTreeMap<u64, SessionId>| sessions.keys().next().copied();
    let largest = by_caller
        .values_mut()
        .max_by_key(|sessions| (sessions.len(), std::cmp::Reverse(oldest_record(sessions))))?;
    largest.pop_first().map(|(_last_record, session)| session)
}

/// Reads one session and its newest exchanges, at most `max_exchanges` of them.
pub fn read_session(
    entries: impl IntoIterator<Item = Result<JournalEntry, JournalCorruption>>,
    id: SessionId,
    max_exchanges: usize,
) -> SessionDetail {
    let mut session: Option<SessionBuilder> = None;
    let mut exchanges = ExchangeCollector::new(max_exchanges);
    let journal_scan = scan_records(entries, |entry, record| {
        if session_of(&record) == Some(id) {
            session.get_or_insert_with(|| SessionBuilder::new(id, entry)).add_record(entry, &record);
        } else if let Some(session) = &mut session {
            session.apply_revocation(&record);
        }
        exchanges.add_record(entry, record, |_exchange, of| of == Some(id));
    });
    SessionDetail {
        session: session.map(SessionBuilder::into_history),
        exchanges: exchanges.kept,
        omitted_exchanges: exchanges.omitted,
        journal_scan,
    }
}

/// Finds one exchange.
pub fn find_exchange(
    entries: impl IntoIterator<Item = Result<JournalEntry, JournalCorruption>>,
    id: ExchangeId,
) -> ExchangeLookup {
    let mut exchanges = ExchangeCollector::new(1);
    let journal_scan = scan_records(entries, |entry, record| {
        exchanges.add_record(entry, record, |exchange, _session| exchange == id);
    });
    ExchangeLookup { exchange: exchanges.kept.pop_front(), journal_scan }
}

/// Counts the sessions that the caller `<provider>/<subject>` opened, as far as the journal can be read.
pub fn count_sessions_of_caller(
    entries: impl IntoIterator<Item = Result<JournalEntry, JournalCorruption>>,
    caller_id: &str,
) -> u64 {
    let mut count = 0;
    scan_records(entries, |_entry, record| {
        if let JournalRecord::SessionOpened { caller, .. } = record
            && caller.id() == caller_id
        {
            count += 1;
        }
    });
    count
}

/// Passes each record that this version can decode to `take`, until the journal ends or is corrupt.
fn scan_records(
    entries: impl IntoIterator<Item = Result<JournalEntry, JournalCorruption>>,
    mut take: impl FnMut(&JournalEntry, JournalRecord),
) -> JournalScan {
    let mut scan = JournalScan::default();
    for entry in entries {
        match entry {
            Ok(entry) => match entry.decode_record() {
                Ok(record) => take(&entry, record),
                // Not an error: the chain proves the record, and after a downgrade the older records must stay readable.
                Err(_newer) => scan.newer_records += 1,
            },
            Err(corruption) => {
                scan.corruption = Some(corruption);
                break;
            }
        }
    }
    scan
}

/// The session that a record belongs to. A revocation belongs to none: it may be one of several sessions.
fn session_of(record: &JournalRecord) -> Option<SessionId> {
    match record {
        JournalRecord::SessionOpened { session, .. } => Some(*session),
        _ => requested_exchange(record).or_else(|| decided_exchange(record).map(|decided| decided.of))?.1,
    }
}

/// Puts exchanges together and keeps the newest of them.
struct ExchangeCollector {
    kept: VecDeque<ExchangeHistory>,
    max_kept: usize,
    omitted: u64,
    /// The number of exchanges that came before each. Less `omitted`, it is the index into `kept`.
    sequence_numbers: HashMap<ExchangeId, u64>,
}

impl ExchangeCollector {
    fn new(max_kept: usize) -> Self {
        Self { kept: VecDeque::new(), max_kept, omitted: 0, sequence_numbers: HashMap::new() }
    }

    /// Adds the record to its exchange. An exchange is taken up with its first record, if `selects` says so.
    fn add_record(
        &mut self,
        entry: &JournalEntry,
        record: JournalRecord,
        selects: impl FnOnce(ExchangeId, Option<SessionId>) -> bool,
    ) {
        let first =
            requested_exchange(&record).or_else(|| decided_exchange(&record).map(|decided| decided.of));
        if let Some((exchange, session)) = first
            && selects(exchange, session)
            && !self.sequence_numbers.contains_key(&exchange)
        {
            self.sequence_numbers.insert(exchange, self.omitted + self.kept.len() as u64);
            self.kept.push_back(ExchangeHistory::new(exchange, session, entry));
            if self.kept.len() > self.max_kept
                && let Some(oldest) = self.kept.pop_front()
            {
                self.sequence_numbers.remove(&oldest.id);
                self.omitted += 1;
            }
        }
        let exchange = match &record {
            JournalRecord::CredentialIssued { exchange, .. } | JournalRecord::Outcome { exchange, .. } => {
                *exchange
            }
            _ => match first {
                Some((exchange, _session)) => exchange,
                None => return,
            },
        };
        let Some(number) = self.sequence_numbers.get(&exchange) else { return };
        if let Some(history) =
            usize::try_from(number - self.omitted).ok().and_then(|at| self.kept.get_mut(at))
        {
            history.add_record(entry, record);
        }
    }
}

#[cfg(test)]
mod tests;

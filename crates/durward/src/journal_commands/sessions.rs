//! Sessions and their exchanges, put together from the records in the order of the journal.
//!
//! A list keeps one entry per session whatever the journal's size; a story keeps the exchanges of one session.

use super::text::{duration, moment, plain};
use durward_core::{Caller, Decision, ExchangeId, Operation, SessionId, Verdict};
use durward_journal::{Entry, LentScope, LinkTo, Masked, Record};
use serde::Serialize;
use std::{collections::HashMap, fmt::Write as _};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

#[derive(Default, Serialize)]
pub(super) struct Tally {
    pub(super) allowed: u64,
    pub(super) denied: u64,
}

#[derive(Serialize)]
pub(super) struct Session {
    pub(super) session: SessionId,
    pub(super) caller: Option<Caller>,
    pub(super) connection: Option<String>,
    pub(super) opened: Option<String>,
    pub(super) expires: Option<String>,
    pub(super) last_exchange: Option<String>,
    pub(super) allowed: u64,
    pub(super) denied: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) revoked: Option<Revoked>,
    /// Number of the record that first named it: the order of the list.
    #[serde(skip)]
    pub(super) number: u64,
}

/// Who ended a session before its time.
#[derive(Clone, Serialize)]
pub(super) struct Revoked {
    pub(super) by: String,
    pub(super) at: String,
    pub(super) reason: String,
}

#[derive(Default)]
pub(super) struct Sessions {
    pub(super) by_id: HashMap<SessionId, Session>,
    pub(super) without: Tally,
}

impl Sessions {
    pub(super) fn add(&mut self, entry: &Entry, record: Record) {
        let time = entry.time().map(str::to_owned);
        match record {
            Record::SessionOpened { session, caller, connection, expires, .. } => {
                let session = self.named(session, entry);
                session.caller = Some(caller);
                session.connection = Some(connection);
                session.opened = time;
                session.expires = expires.format(&Rfc3339).ok();
            }
            Record::Intent { session, caller, connection, decision, .. } => {
                self.count(
                    session,
                    entry,
                    decision.verdict == Verdict::Allow,
                    caller,
                    Some(connection),
                    time,
                );
            }
            Record::Refused { session, caller, connection, .. } => {
                self.count(session, entry, false, caller, connection, time);
            }
            Record::Joined { session, caller, connection, .. } => {
                self.count(Some(session), entry, true, Some(caller), Some(connection), time);
            }
            Record::SessionRevoked { session, caller, by, reason, at } => {
                let revoked = Revoked { by, reason, at: at.format(&Rfc3339).unwrap_or_default() };
                let is_of = |one: &Session| match (session, &caller) {
                    (Some(session), _) => one.session == session,
                    (None, Some(caller)) => one.caller.as_ref().is_some_and(|one| one.id() == *caller),
                    (None, None) => false,
                };
                // All that a caller opened later is recorded after this.
                for one in self.by_id.values_mut().filter(|one| one.revoked.is_none() && is_of(one)) {
                    one.revoked = Some(revoked.clone());
                }
            }
            Record::SignInRefused { .. }
            | Record::Asked { .. }
            | Record::AskChanged { .. }
            | Record::Lent { .. }
            | Record::Outcome { .. } => {}
        }
    }

    fn count(
        &mut self,
        session: Option<SessionId>,
        entry: &Entry,
        allowed: bool,
        caller: Option<Caller>,
        connection: Option<String>,
        time: Option<String>,
    ) {
        let (count_allowed, count_denied) = match session {
            None => (&mut self.without.allowed, &mut self.without.denied),
            Some(session) => {
                let session = self.named(session, entry);
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

    fn named(&mut self, session: SessionId, entry: &Entry) -> &mut Session {
        self.by_id.entry(session).or_insert_with(|| Session {
            session,
            caller: None,
            connection: None,
            opened: None,
            expires: None,
            last_exchange: None,
            allowed: 0,
            denied: 0,
            revoked: None,
            number: entry.position.record,
        })
    }
}

/// One exchange of the session that is shown.
#[derive(Serialize)]
pub(super) struct Exchange {
    exchange: ExchangeId,
    time: Option<String>,
    operation: Option<Operation>,
    decision: Option<Decision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_to: Option<LinkTo>,
    /// Why it never went upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lent: Option<Lent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    joined: Option<Joined>,
}

/// The answer of another exchange, which this one was given.
#[derive(Serialize)]
struct Joined {
    executed_by: ExchangeId,
    ask: String,
    status: u16,
    duration_us: u64,
}

#[derive(Serialize)]
struct Lent {
    access_key_id: String,
    scope: LentScope,
}

#[derive(Serialize)]
struct Outcome {
    status: u16,
    error_code: Option<String>,
    request_bytes: u64,
    response_bytes: u64,
    masked: Vec<Masked>,
    upstream_request_id: Option<String>,
    duration_us: u64,
    failure: Option<String>,
}

/// Whose exchanges a story tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Session(SessionId),
    /// One exchange that belongs to no session.
    Alone(ExchangeId),
}

/// The exchange that a record begins, and its session.
pub(super) fn belongs(record: &Record) -> Option<(ExchangeId, Option<SessionId>)> {
    match record {
        Record::Intent { exchange, session, .. } | Record::Refused { exchange, session, .. } => {
            Some((*exchange, *session))
        }
        Record::Asked { exchange, session, .. } | Record::Joined { exchange, session, .. } => {
            Some((*exchange, Some(*session)))
        }
        _ => None,
    }
}

pub(super) struct Story {
    wanted: Wanted,
    pub(super) sessions: Sessions,
    pub(super) exchanges: Vec<Exchange>,
    index: HashMap<ExchangeId, usize>,
}

impl Story {
    pub(super) fn of(wanted: Wanted) -> Self {
        Self { wanted, sessions: Sessions::default(), exchanges: Vec::new(), index: HashMap::new() }
    }

    pub(super) fn add(&mut self, entry: &Entry, record: Record) {
        match &record {
            Record::SessionOpened { session, .. } if self.wanted == Wanted::Session(*session) => {
                self.sessions.add(entry, record);
            }
            // Of the one session that is kept here, or of none.
            Record::SessionRevoked { .. } => self.sessions.add(entry, record),
            Record::Lent { exchange, access_key_id, scope, .. } => {
                if let Some(shown) = self.begun(exchange) {
                    shown.lent = Some(Lent { access_key_id: access_key_id.clone(), scope: *scope });
                }
            }
            Record::Outcome { exchange, .. } => {
                if let Some(shown) = self.begun(exchange) {
                    shown.outcome = outcome(record);
                }
            }
            _ if self.wants(&record) => {
                if let Some(shown) = Exchange::begun(entry, &record) {
                    self.index.insert(shown.exchange, self.exchanges.len());
                    self.exchanges.push(shown);
                    self.sessions.add(entry, record);
                }
            }
            _ => {}
        }
    }

    fn wants(&self, record: &Record) -> bool {
        belongs(record).is_some_and(|(exchange, session)| match self.wanted {
            Wanted::Session(wanted) => session == Some(wanted),
            Wanted::Alone(wanted) => exchange == wanted,
        })
    }

    fn begun(&mut self, exchange: &ExchangeId) -> Option<&mut Exchange> {
        self.index.get(exchange).and_then(|index| self.exchanges.get_mut(*index))
    }
}

fn outcome(record: Record) -> Option<Outcome> {
    let Record::Outcome {
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
    Some(Outcome {
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

impl Exchange {
    /// What a record begins that is no question to people: that comes before an intent or a refusal.
    fn begun(entry: &Entry, record: &Record) -> Option<Self> {
        let (exchange, _session) = belongs(record)?;
        let empty = Self {
            exchange,
            time: entry.time().map(str::to_owned),
            operation: None,
            decision: None,
            link_to: None,
            refused: None,
            lent: None,
            outcome: None,
            joined: None,
        };
        match record {
            Record::Intent { operation, decision, link_to, .. } => Some(Self {
                operation: Some(operation.clone()),
                decision: Some(decision.clone()),
                link_to: link_to.clone(),
                ..empty
            }),
            Record::Refused { operation, decision, message, .. } => Some(Self {
                operation: operation.clone(),
                decision: decision.clone(),
                refused: Some(message.clone()),
                ..empty
            }),
            Record::Joined { ask, executed_by, operation, decision, status, duration_us, .. } => Some(Self {
                operation: Some(operation.clone()),
                decision: Some(decision.clone()),
                joined: Some(Joined {
                    executed_by: *executed_by,
                    ask: ask.clone(),
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
    pub(super) fn at(&self) -> Option<OffsetDateTime> {
        OffsetDateTime::parse(self.time.as_deref()?, &Rfc3339).ok()
    }

    /// Time, verdict, operation, resources, then what there is of status, policies, duration and masking.
    pub(super) fn line(&self) -> String {
        let verdict = match (&self.refused, &self.decision) {
            _ if self.joined.is_some() => "allow",
            (_, Some(decision)) if decision.verdict == Verdict::Ask => "ask",
            (Some(_), _) => "deny",
            (None, Some(decision)) if decision.verdict == Verdict::Allow => "allow",
            (None, _) => "deny",
        };
        let title = self.operation.as_ref().map_or_else(|| "(not decoded)".to_owned(), Operation::title);
        let mut line = format!("{}  {verdict:<5}  {}", moment(self.time.as_deref()), plain(&title));
        if let Some(operation) = &self.operation {
            line.push(' ');
            line.push_str(&plain(&resources(operation)));
        }
        let mut add = |text: String| {
            line.push_str("  ");
            line.push_str(&text);
        };
        match &self.outcome {
            Some(outcome) => {
                add(match &outcome.error_code {
                    Some(code) => format!("{} {}", outcome.status, plain(code)),
                    None => outcome.status.to_string(),
                });
                add(duration(outcome.duration_us));
                let masked: u64 = outcome.masked.iter().map(|masked| masked.count).sum();
                if masked > 0 {
                    add(format!("masked {masked}"));
                }
                if let Some(failure) = &outcome.failure {
                    add(format!("failed: {}", plain(failure)));
                }
            }
            None if self.joined.is_some() => {}
            None if self.refused.is_none() => add("(no outcome recorded)".to_owned()),
            None => {}
        }
        if let Some(joined) = &self.joined {
            add(joined.status.to_string());
            add(duration(joined.duration_us));
            add(format!("stored answer of exchange {}, ask {}", joined.executed_by, plain(&joined.ask)));
        }
        if let Some(decision) = self.decision.as_ref().filter(|decision| !decision.policies.is_empty()) {
            add(format!("policy {}", plain(&decision.policies.join(", "))));
        }
        if let Some(refused) = &self.refused {
            add(plain(refused));
        }
        line
    }
}

/// The distinct resources of an operation; the first three of many.
fn resources(operation: &Operation) -> String {
    let mut names: Vec<String> = Vec::new();
    for demand in &operation.demands {
        let name = demand.resource.as_text();
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

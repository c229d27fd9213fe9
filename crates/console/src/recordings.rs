//! Sessions and their exchanges as the journal tells them.
//!
//! Only what the journal proves is shown. Memory does not grow with the journal: the newest sessions, and of one session the
//! newest exchanges, are kept.

use crate::text::Text;
use crate::view::{moment, moment_of};
use durward_core::{Caller, Decision, ExchangeId, Operation, SessionId, Verdict};
use durward_journal::{Entry, LentScope, Record, read};
use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
};

/// Sessions of the list.
const SESSIONS: usize = 500;
/// Exchanges of one session.
const EXCHANGES: usize = 1_000;

/// One session of the list.
pub struct Session {
    pub id: SessionId,
    pub caller: Text,
    pub groups: Text,
    pub connection: Text,
    pub opened: Text,
    pub expires: Text,
    pub last: Text,
    pub allowed: u64,
    pub refused: u64,
}

/// What a reading of the whole journal came to.
#[derive(Default)]
pub struct Reading {
    /// Where the journal is not as it was written; nothing after it was read.
    pub broken: Option<Text>,
    /// Records of a newer version, left out.
    pub newer: u64,
    /// Older entries that are not kept.
    pub left_out: u64,
}

/// One exchange of a session.
pub struct Exchange {
    pub id: ExchangeId,
    pub time: Text,
    pub verdict: &'static str,
    pub title: Text,
    pub resources: Vec<Text>,
    pub policies: Text,
    pub outcome: Text,
    /// How the credential was cut.
    pub scope: &'static str,
    pub masked: u64,
}

fn each(dir: &Path, mut take: impl FnMut(&Entry, Record, &mut Reading)) -> Reading {
    let mut reading = Reading::default();
    for entry in read(dir) {
        match entry {
            Ok(entry) => match entry.record() {
                Ok(record) => take(&entry, record, &mut reading),
                Err(_newer) => reading.newer += 1,
            },
            Err(broken) => reading.broken = Some(Text::new(broken.to_string())),
        }
    }
    reading
}

/// The newest sessions, newest first.
pub fn sessions(dir: &Path) -> (Vec<Session>, Reading) {
    let mut sessions: BTreeMap<SessionId, Session> = BTreeMap::new();
    let reading = each(dir, |entry, record, reading| {
        add(&mut sessions, entry, &record);
        // Ids sort by time: the first is the oldest.
        if sessions.len() > SESSIONS {
            sessions.pop_first();
            reading.left_out += 1;
        }
    });
    (sessions.into_values().rev().collect(), reading)
}

fn add(sessions: &mut BTreeMap<SessionId, Session>, entry: &Entry, record: &Record) {
    let (id, caller, connection, permitted) = match record {
        Record::SessionOpened { session, caller, connection, .. } => {
            (session, Some(caller), Some(connection), None)
        }
        Record::Intent { session: Some(session), caller, connection, .. } => {
            (session, caller.as_ref(), Some(connection), Some(true))
        }
        Record::Refused { session: Some(session), caller, connection, .. } => {
            (session, caller.as_ref(), connection.as_ref(), Some(false))
        }
        _ => return,
    };
    let session = sessions.entry(*id).or_insert_with(|| Session {
        id: *id,
        caller: Text::new("-"),
        groups: Text::new(""),
        connection: Text::new("-"),
        opened: Text::new("-"),
        expires: Text::new("-"),
        last: Text::new("-"),
        allowed: 0,
        refused: 0,
    });
    if let Some(caller) = caller
        && session.caller.as_str() == "-"
    {
        session.caller = who(caller);
        session.groups = Text::new(caller.groups.join(", "));
    }
    if let Some(connection) = connection
        && session.connection.as_str() == "-"
    {
        session.connection = Text::new(connection);
    }
    match permitted {
        None => {
            session.opened = stamp(entry);
            if let Record::SessionOpened { expires, .. } = record {
                session.expires = moment(*expires);
            }
        }
        Some(allowed) => {
            session.last = stamp(entry);
            *(if allowed { &mut session.allowed } else { &mut session.refused }) += 1;
        }
    }
}

/// One session with its newest exchanges, oldest of them first. None: the journal does not know it.
pub fn story(dir: &Path, wanted: SessionId) -> (Option<Session>, VecDeque<Exchange>, Reading) {
    let mut sessions = BTreeMap::new();
    let mut exchanges: VecDeque<Exchange> = VecDeque::new();
    let reading = each(dir, |entry, record, reading| {
        let shown = match &record {
            Record::SessionOpened { session, .. } if *session == wanted => None,
            Record::Intent { exchange, session: Some(session), operation, decision, approval, .. }
                if *session == wanted =>
            {
                let went = if approval.is_some() { Went::Approved } else { Went::Allowed };
                Some(begun(entry, *exchange, Some(operation), Some(decision), went))
            }
            Record::Refused { exchange, session: Some(session), operation, decision, message, .. }
                if *session == wanted =>
            {
                let begun = begun(entry, *exchange, operation.as_ref(), decision.as_ref(), Went::Nowhere);
                Some(Exchange { outcome: Text::new(message), ..begun })
            }
            Record::Lent { exchange, scope, .. } => {
                if let Some(shown) = of(&mut exchanges, *exchange) {
                    shown.scope = match scope {
                        LentScope::Operation => "this operation",
                        LentScope::Actions => "its actions",
                        LentScope::Session => "the whole role",
                    };
                }
                return;
            }
            Record::Outcome { exchange, status, error_code, masked, failure, .. } => {
                if let Some(shown) = of(&mut exchanges, *exchange) {
                    let code = error_code.as_ref().map(|code| format!(" {code}")).unwrap_or_default();
                    let failure =
                        failure.as_ref().map(|why| format!(", broke off: {why}")).unwrap_or_default();
                    shown.outcome = Text::new(format!("{status}{code}{failure}"));
                    shown.masked = masked.iter().map(|one| one.count).sum();
                }
                return;
            }
            _ => return,
        };
        add(&mut sessions, entry, &record);
        if let Some(shown) = shown {
            exchanges.push_back(shown);
            if exchanges.len() > EXCHANGES {
                exchanges.pop_front();
                reading.left_out += 1;
            }
        }
    });
    (sessions.remove(&wanted), exchanges, reading)
}

fn of(exchanges: &mut VecDeque<Exchange>, id: ExchangeId) -> Option<&mut Exchange> {
    exchanges.iter_mut().rev().find(|exchange| exchange.id == id)
}

/// How far an exchange came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Went {
    Allowed,
    /// Lifted by people.
    Approved,
    Nowhere,
}

fn begun(
    entry: &Entry,
    id: ExchangeId,
    operation: Option<&Operation>,
    decision: Option<&Decision>,
    went: Went,
) -> Exchange {
    let asked = decision.is_some_and(|decision| decision.verdict == Verdict::Ask);
    let verdict = match went {
        Went::Allowed => "allowed",
        Went::Approved => "approved",
        Went::Nowhere if asked => "asked",
        Went::Nowhere => "refused",
    };
    let mut resources: Vec<Text> = Vec::new();
    for demand in operation.iter().flat_map(|operation| &operation.demands) {
        let resource = Text::new(demand.resource.as_text());
        if !resources.contains(&resource) {
            resources.push(resource);
        }
    }
    Exchange {
        id,
        time: stamp(entry),
        verdict,
        title: operation.map_or_else(|| Text::new("(not decoded)"), |operation| Text::new(operation.title())),
        resources,
        policies: Text::new(decision.map(|decision| decision.policies.join(", ")).unwrap_or_default()),
        outcome: Text::new(if went == Went::Nowhere { "" } else { "no outcome recorded" }),
        scope: "",
        masked: 0,
    }
}

fn stamp(entry: &Entry) -> Text {
    entry.time().map_or_else(|| Text::new("-"), moment_of)
}

/// `corp/agent-7 for alice`.
pub fn who(caller: &Caller) -> Text {
    let mut text = caller.id();
    if !caller.act.is_empty() {
        text.push_str(" for ");
        text.push_str(&caller.act.join(", "));
    }
    Text::new(text)
}

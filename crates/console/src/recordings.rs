//! Sessions and their exchanges as the journal tells them.
//!
//! Only what the journal proves is shown. Memory does not grow with the journal: the newest sessions, and of one session the
//! newest exchanges, are kept.

use crate::text::Text;
use crate::view::{moment_of, stamp};
use durward_core::{Caller, Decision, ExchangeId, Operation, SessionId, Verdict};
use durward_journal::{Entry, LentScope, Record, read};
use serde::Serialize;
use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Sessions of the list.
const SESSIONS: usize = 500;
/// Exchanges of one session.
const EXCHANGES: usize = 1_000;

/// One session of the list. Times are as they were recorded, RFC 3339.
#[derive(Serialize)]
pub struct Session {
    #[serde(rename = "session")]
    pub id: SessionId,
    pub caller: Option<Caller>,
    pub connection: Option<String>,
    pub opened: Option<String>,
    pub expires: Option<String>,
    #[serde(rename = "last_exchange")]
    pub last: Option<String>,
    pub allowed: u64,
    #[serde(rename = "denied")]
    pub refused: u64,
}

impl Session {
    /// When it began, for what is revoked of its caller; a session that is no more than a token began before it was opened.
    pub fn began(&self) -> OffsetDateTime {
        let opened = || OffsetDateTime::parse(self.opened.as_deref()?, &Rfc3339).ok();
        durward_identity::began(self.id).or_else(opened).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

/// What a reading of the whole journal came to.
#[derive(Default, Serialize)]
pub struct Reading {
    /// Where the journal is not as it was written; nothing after it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<Text>,
    /// Records of a newer version, left out.
    pub newer: u64,
    /// Older entries that are not kept.
    pub left_out: u64,
}

/// One exchange of a session.
#[derive(Serialize)]
pub struct Exchange {
    #[serde(rename = "exchange")]
    pub id: ExchangeId,
    /// RFC 3339.
    #[serde(rename = "time")]
    pub stamp: Option<String>,
    #[serde(skip)]
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
        Record::Joined { session, caller, connection, .. } => {
            (session, Some(caller), Some(connection), Some(true))
        }
        _ => return,
    };
    let session = sessions.entry(*id).or_insert_with(|| Session {
        id: *id,
        caller: None,
        connection: None,
        opened: None,
        expires: None,
        last: None,
        allowed: 0,
        refused: 0,
    });
    if session.caller.is_none() {
        session.caller = caller.cloned();
    }
    if session.connection.is_none() {
        session.connection = connection.cloned();
    }
    let time = entry.time().map(str::to_owned);
    match permitted {
        None => {
            session.opened = time;
            if let Record::SessionOpened { expires, .. } = record {
                session.expires = Some(stamp(*expires));
            }
        }
        Some(allowed) => {
            session.last = time;
            *(if allowed { &mut session.allowed } else { &mut session.refused }) += 1;
        }
    }
}

/// How many sessions of this caller the journal knows.
pub fn sessions_of(dir: &Path, caller: &str) -> u64 {
    let mut count = 0;
    each(dir, |_entry, record, _reading| {
        if let Record::SessionOpened { caller: one, .. } = record
            && one.id() == caller
        {
            count += 1;
        }
    });
    count
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
            Record::Joined { exchange, executed_by, session, operation, decision, status, .. }
                if *session == wanted =>
            {
                let begun = begun(entry, *exchange, Some(operation), Some(decision), Went::Approved);
                let outcome = Text::new(format!("{status}, the stored answer of exchange {executed_by}"));
                Some(Exchange { outcome, ..begun })
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
        stamp: entry.time().map(str::to_owned),
        time: entry.time().map_or_else(|| Text::new("-"), moment_of),
        verdict,
        title: operation.map_or_else(|| Text::new("(not decoded)"), |operation| Text::new(operation.title())),
        resources,
        policies: Text::new(decision.map(|decision| decision.policies.join(", ")).unwrap_or_default()),
        outcome: Text::new(if went == Went::Nowhere { "" } else { "no outcome recorded" }),
        scope: "",
        masked: 0,
    }
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

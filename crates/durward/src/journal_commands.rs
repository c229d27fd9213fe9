//! `durward journal verify` and `durward sessions ls|show|replay`: what the journal says, for people and as JSON.
//!
//! They only read, also while a gateway appends. Whatever was recorded is untrusted text: control and direction characters are
//! escaped before it reaches a terminal. What follows damage in the journal is never shown.

mod session_history;
pub(crate) mod terminal_text;

use durward_core::{ExchangeId, SessionId};
use durward_journal::{JournalCorruption, JournalEntry, JournalRecord, read_journal};
use serde::Serialize;
use session_history::{
    ExchangeCounts, ExchangeHistory, HistorySelection, SessionHistory, SessionIndex, SessionSummary,
    exchange_and_session,
};
use std::{
    io::{self, Write},
    path::Path,
    time::Duration,
};
use terminal_text::{escape_for_terminal, format_caller, format_utc, write_json, write_table};

/// Exit code: done.
const EXIT_DONE: u8 = 0;
/// Exit code: not found, or not as it was written.
const EXIT_REFUSED: u8 = 1;
/// Exit code: there is no journal to look at.
pub const EXIT_NO_JOURNAL: u8 = 2;

/// Whether there is a journal in `dir`; the error text is for people.
pub fn require_journal(dir: &Path) -> Result<(), String> {
    let shown = escape_for_terminal(&dir.display().to_string());
    let below = dir.join("journal");
    match durward_journal::journal_exists(dir) {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) if durward_journal::journal_exists(&below).is_ok_and(|exists| exists) => {
            Err(format!(
                "there is no journal in {shown}\n  hint: there is one in {}: name that",
                escape_for_terminal(&below.display().to_string())
            ))
        }
        Ok(false) => Err(format!(
            "there is no journal in {shown}\n  hint: name the directory `journal` of data_dir with --dir, or the configuration \
             file with --config; a gateway that never started has none"
        )),
        Err(error) => Err(format!(
            "there is no journal to read in {shown}: {error}\n  hint: name the directory `journal` of data_dir with --dir, or \
             the configuration file with --config"
        )),
    }
}

/// Checks the journal in `dir`, where [`find`] found one, and says what it holds, or where it is not what was written.
pub fn print_verification(dir: &Path, out: &mut dyn Write) -> io::Result<u8> {
    let shown = escape_for_terminal(&dir.display().to_string());
    match durward_journal::verify_journal(dir) {
        Err(broken) => {
            writeln!(out, "journal {shown} is NOT as it was written")?;
            write_corruption(&broken, out)?;
            Ok(EXIT_REFUSED)
        }
        Ok(found) => {
            writeln!(out, "journal {shown} is as it was written")?;
            writeln!(out, "  segments    {}", found.segment_count)?;
            writeln!(out, "  records     {}", found.record_count)?;
            if let (Some(first), Some(last)) = (&found.first_record_time, &found.last_record_time) {
                writeln!(out, "  first       {}", escape_for_terminal(first))?;
                writeln!(out, "  last        {}", escape_for_terminal(last))?;
            }
            writeln!(out, "  chain head  {}", found.head_link)?;
            if let Some(tail) = &found.tail {
                writeln!(
                    out,
                    "  unfinished  {} bytes at the end of {}, at byte {}: an append in progress, or one that a crash cut off\n              \
                     (acknowledged to nobody; the next start of the gateway removes it)",
                    tail.bytes,
                    escape_for_terminal(&tail.file.display().to_string()),
                    tail.offset
                )?;
            }
            writeln!(
                out,
                "keep the chain head elsewhere: it proves later that no record was cut off at the end"
            )?;
            Ok(EXIT_DONE)
        }
    }
}

/// Lists the sessions that the journal in `dir` knows, oldest first.
pub fn list_sessions(dir: &Path, json: bool, out: &mut dyn Write) -> io::Result<u8> {
    let mut sessions = SessionIndex::default();
    let end = scan_journal(dir, |entry, record| sessions.add_record(entry, record));
    let code = end.exit_code();
    let mut listed: Vec<_> = sessions.by_session_id.into_values().collect();
    listed.sort_by_key(|session| (session.first_record, session.session));
    if json {
        let without_session = sessions.without_session;
        write_json(&SessionList { sessions: listed, without_session, end: &end }, out)?;
        return Ok(code);
    }
    if listed.is_empty() {
        writeln!(out, "no sessions recorded")?;
    } else {
        let row = |session: &SessionSummary| {
            [
                session.session.to_string(),
                escape_for_terminal(&format_caller(session.caller.as_ref())),
                escape_for_terminal(session.connection.as_deref().unwrap_or("-")),
                format_utc(session.opened.as_deref()),
                format_utc(session.last_exchange.as_deref()),
                session.allowed.to_string(),
                session.denied.to_string(),
                session.revoked.as_ref().map_or_else(String::new, |revoked| format_utc(Some(&revoked.at))),
            ]
        };
        let head =
            ["SESSION", "CALLER", "CONNECTION", "OPENED", "LAST EXCHANGE", "ALLOWED", "DENIED", "REVOKED"]
                .map(str::to_owned);
        let rows: Vec<_> = std::iter::once(head).chain(listed.iter().map(row)).collect();
        write_table(&rows, out)?;
    }
    let ExchangeCounts { allowed, denied, .. } = sessions.without_session;
    if allowed + denied > 0 {
        writeln!(out, "without a session: {allowed} allowed, {denied} denied")?;
    }
    end.write_warnings(out)?;
    Ok(code)
}

/// Shows each exchange of one session, one a line, in the order in which they were decided. `id` is that of the session, or of
/// an exchange, which is marked then.
pub fn show_session(dir: &Path, id: &str, json: bool, out: &mut dyn Write) -> io::Result<u8> {
    let Some(place) = resolve_id(dir, id) else {
        writeln!(
            out,
            "`{}` is no id of a session or an exchange: `durward sessions ls` lists sessions, errors end in [exchange <id>]",
            escape_for_terminal(id)
        )?;
        return Ok(EXIT_REFUSED);
    };
    let mut story = SessionHistory::for_selection(place.selection);
    let end = scan_journal(dir, |entry, record| story.add_record(entry, record));
    let session = story.sessions.by_session_id.into_values().next();
    if json {
        let shown = SessionDetail {
            session: session.as_ref(),
            exchange: place.exchange,
            exchanges: &story.exchanges,
            end: &end,
        };
        write_json(&shown, out)?;
    } else if session.is_none() && story.exchanges.is_empty() {
        writeln!(out, "the journal has no session and no exchange {}", escape_for_terminal(id))?;
        writeln!(out, "(a sign-in that was refused is in it by its time and caller only)")?;
        end.write_warnings(out)?;
    } else {
        match &session {
            Some(session) => write_session_header(session, out)?,
            None => writeln!(out, "session     none: the exchange belongs to no session")?,
        }
        if !story.exchanges.is_empty() {
            writeln!(out)?;
        }
        if let Some(asked) =
            place.exchange.filter(|asked| !story.exchanges.iter().any(|one| one.id() == *asked))
        {
            writeln!(out, "exchange {asked} asked people, and nothing came of it yet")?;
        }
        for exchange in &story.exchanges {
            let mark = match place.exchange {
                None => "",
                Some(wanted) if exchange.id() == wanted => "> ",
                Some(_other) => "  ",
            };
            writeln!(out, "{mark}{}", exchange.format_line())?;
        }
        end.write_warnings(out)?;
    }
    let found = session.is_some() || !story.exchanges.is_empty();
    Ok(if found { end.exit_code() } else { EXIT_REFUSED })
}

/// Where the journal has an id.
struct ResolvedId {
    selection: HistorySelection,
    /// The exchange, if it is the id of one.
    exchange: Option<ExchangeId>,
}

/// What `id` is the id of, as far as the journal tells; the id of a session unless it is that of an exchange.
fn resolve_id(dir: &Path, id: &str) -> Option<ResolvedId> {
    let session: SessionId = id.parse().ok()?;
    let exchange: ExchangeId = id.parse().ok()?;
    let mut place = ResolvedId { selection: HistorySelection::Session(session), exchange: None };
    scan_journal(dir, |_entry, record| {
        if let Some((found, of)) = exchange_and_session(&record).filter(|(found, _of)| *found == exchange) {
            place = ResolvedId {
                selection: of.map_or(HistorySelection::SessionlessExchange(found), HistorySelection::Session),
                exchange: Some(found),
            };
        }
    });
    Some(place)
}

/// Writes the exchanges of the session `id` one after the other, with `wait` for the time that was between them.
pub fn replay_session(
    dir: &Path,
    id: &str,
    mut wait: impl FnMut(Duration),
    out: &mut dyn Write,
) -> io::Result<u8> {
    let Ok(wanted) = id.parse::<SessionId>() else {
        writeln!(out, "`{}` is no session id: `durward sessions ls` lists them", escape_for_terminal(id))?;
        return Ok(EXIT_REFUSED);
    };
    let mut story = SessionHistory::for_selection(HistorySelection::Session(wanted));
    let end = scan_journal(dir, |entry, record| story.add_record(entry, record));
    let Some(session) = story.sessions.by_session_id.remove(&wanted) else {
        writeln!(out, "the journal has no session {wanted}")?;
        end.write_warnings(out)?;
        return Ok(EXIT_REFUSED);
    };
    write_session_header(&session, out)?;
    writeln!(out)?;
    let mut before = None;
    for exchange in &story.exchanges {
        let at = exchange.decided_at();
        if let (Some(before), Some(at)) = (before, at) {
            // Neighbours may be microseconds out of order.
            wait(Duration::try_from(at - before).unwrap_or_default());
        }
        writeln!(out, "{}", exchange.format_line())?;
        out.flush()?;
        before = at.or(before);
    }
    end.write_warnings(out)?;
    Ok(end.exit_code())
}

fn write_session_header(session: &SessionSummary, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "session     {}", session.session)?;
    writeln!(out, "caller      {}", escape_for_terminal(&format_caller(session.caller.as_ref())))?;
    if let Some(caller) = session.caller.as_ref().filter(|caller| !caller.groups.is_empty()) {
        writeln!(out, "groups      {}", escape_for_terminal(&caller.groups.join(", ")))?;
    }
    writeln!(out, "connection  {}", escape_for_terminal(session.connection.as_deref().unwrap_or("-")))?;
    writeln!(out, "opened      {}", format_utc(session.opened.as_deref()))?;
    writeln!(out, "expires     {}", format_utc(session.expires.as_deref()))?;
    if let Some(revoked) = &session.revoked {
        let (by, reason) = (escape_for_terminal(&revoked.by), escape_for_terminal(&revoked.reason));
        writeln!(out, "revoked     {} by {by}: {reason}", format_utc(Some(&revoked.at)))?;
    }
    writeln!(out, "exchanges   {} allowed, {} denied", session.allowed, session.denied)
}

/// How a scan ended.
#[derive(Serialize)]
struct ScanSummary {
    /// Records of a type that this version does not know.
    #[serde(skip_serializing_if = "is_zero")]
    unknown_records: u64,
    /// Where the journal is damaged; nothing after that was read.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "serialize_display")]
    broken: Option<JournalCorruption>,
}

impl ScanSummary {
    fn exit_code(&self) -> u8 {
        if self.broken.is_some() { EXIT_REFUSED } else { EXIT_DONE }
    }

    fn write_warnings(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.unknown_records > 0 {
            writeln!(out, "{} records of a newer version were left out", self.unknown_records)?;
        }
        if let Some(broken) = &self.broken {
            writeln!(out, "the journal is NOT as it was written; nothing after this place was read")?;
            write_corruption(broken, out)?;
        }
        Ok(())
    }
}

fn write_corruption(broken: &JournalCorruption, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "  file        {}", escape_for_terminal(&broken.file.display().to_string()))?;
    writeln!(out, "  byte        {}", broken.offset)?;
    writeln!(out, "  record      {}", broken.record_number)?;
    writeln!(out, "  what        {}", escape_for_terminal(&broken.kind.to_string()))?;
    if let Some(time) = &broken.record_time {
        writeln!(out, "  its time    {} (as far as it can be believed)", escape_for_terminal(time))?;
    }
    if let Some(time) = &broken.last_good_time {
        writeln!(out, "  good until  {}", escape_for_terminal(time))?;
    }
    Ok(())
}

#[expect(clippy::ref_option, reason = "serde's `serialize_with` passes a reference to the field")]
fn serialize_display<S: serde::Serializer>(
    broken: &Option<JournalCorruption>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match broken {
        Some(broken) => serializer.collect_str(broken),
        None => serializer.serialize_none(),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's `skip_serializing_if` passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Reads every record that can be proved.
fn scan_journal(dir: &Path, mut each: impl FnMut(&JournalEntry, JournalRecord)) -> ScanSummary {
    let mut end = ScanSummary { unknown_records: 0, broken: None };
    for entry in read_journal(dir) {
        match entry {
            Ok(entry) => match entry.decode_record() {
                Ok(record) => each(&entry, record),
                Err(_newer) => end.unknown_records += 1,
            },
            Err(broken) => end.broken = Some(broken),
        }
    }
    end
}

#[derive(Serialize)]
struct SessionList<'a> {
    sessions: Vec<SessionSummary>,
    without_session: ExchangeCounts,
    #[serde(flatten)]
    end: &'a ScanSummary,
}

#[derive(Serialize)]
struct SessionDetail<'a> {
    session: Option<&'a SessionSummary>,
    /// The one that was asked for, if it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    exchange: Option<ExchangeId>,
    exchanges: &'a [ExchangeHistory],
    #[serde(flatten)]
    end: &'a ScanSummary,
}

#[cfg(test)]
mod tests;

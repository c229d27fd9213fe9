//! `durward sessions ls`, `show` and `replay`.

use super::exchange_line::{format_exchange_line, pause_between};
use super::{EXIT_REFUSED, scan_exit_code, write_scan_warnings};
use crate::terminal_text::{ListEntry, escape_for_terminal, format_caller, write_json, write_list};
use durward_core::timestamps::format_utc;
use durward_core::{ExchangeId, SessionId};
use durward_journal::history::{
    self, DispositionCounts, SessionDetail, SessionFilter, SessionHistory, SessionList,
};
use durward_journal::read_journal;
use serde::Serialize;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;
use time::OffsetDateTime;

/// The commands show the whole journal: a terminal, unlike a page, has no use for a part of it.
const NO_BOUND: usize = usize::MAX;

/// Lists the sessions of the journal in `dir`, oldest first.
pub fn list_sessions(dir: &Path, as_json: bool, out: &mut dyn Write) -> io::Result<u8> {
    let list = history::list_sessions(read_journal(dir), &SessionFilter::default(), NO_BOUND);
    if as_json {
        write_json(&list, out)?;
    } else {
        write_session_list(&list, out)?;
    }
    Ok(scan_exit_code(&list.journal_scan))
}

pub(super) fn write_session_list(list: &SessionList, out: &mut dyn Write) -> io::Result<()> {
    if list.sessions.is_empty() {
        writeln!(out, "no sessions recorded")?;
    } else {
        let entries: Vec<_> = list.sessions.iter().map(session_entry).collect();
        write_list(["SESSION", "OPENED", "PERMITTED", "REFUSED"], &entries, out)?;
    }
    if list.without_session.total() > 0 {
        writeln!(out, "without a session: {}", format_counts(list.without_session))?;
    }
    write_scan_warnings(&list.journal_scan, out)
}

fn session_entry(session: &SessionHistory) -> ListEntry<4> {
    let connection = session.connection.as_deref().unwrap_or("-");
    let mut details = vec![
        format!("{} on {}", caller_of(session), escape_for_terminal(connection)),
        format!("last exchange {}", format_optional_time(session.last_exchange)),
    ];
    if let Some(revocation) = &session.revocation {
        details.push(format!("revoked {}", format_utc(revocation.at)));
    }
    ListEntry {
        cells: [
            session.id.to_string(),
            format_optional_time(session.opened),
            session.counts.permitted().to_string(),
            session.counts.not_permitted().to_string(),
        ],
        details,
    }
}

/// A session as JSON. `exchange` is set if its id selected the session.
#[derive(Serialize)]
struct ShownSession<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    exchange: Option<ExchangeId>,
    #[serde(flatten)]
    detail: &'a SessionDetail,
}

/// Shows each exchange of one session on a line of its own. `id` names the session, or an exchange, which is then marked.
pub fn show_session(dir: &Path, id: &str, as_json: bool, out: &mut dyn Write) -> io::Result<u8> {
    let (Ok(session_id), Ok(exchange_id)) = (id.parse::<SessionId>(), id.parse::<ExchangeId>()) else {
        writeln!(
            out,
            "`{}` is not the id of a session or an exchange: `durward sessions ls` lists sessions, errors end in \
             [exchange <id>]",
            escape_for_terminal(id)
        )?;
        return Ok(EXIT_REFUSED);
    };
    // Ids of sessions and exchanges look the same: errors give callers the id of an exchange.
    let lookup = history::find_exchange(read_journal(dir), exchange_id);
    let marked = lookup.exchange.is_some().then_some(exchange_id);
    let detail = match lookup.exchange {
        None => history::read_session(read_journal(dir), session_id, NO_BOUND),
        Some(exchange) => match exchange.session {
            Some(session) => history::read_session(read_journal(dir), session, NO_BOUND),
            None => SessionDetail {
                session: None,
                exchanges: VecDeque::from([exchange]),
                omitted_exchanges: 0,
                journal_scan: lookup.journal_scan,
            },
        },
    };
    if as_json {
        write_json(&ShownSession { exchange: marked, detail: &detail }, out)?;
    } else {
        write_session_detail(&detail, marked, id, out)?;
    }
    let is_found = detail.session.is_some() || marked.is_some();
    Ok(if is_found { scan_exit_code(&detail.journal_scan) } else { EXIT_REFUSED })
}

fn write_session_detail(
    detail: &SessionDetail,
    marked: Option<ExchangeId>,
    id: &str,
    out: &mut dyn Write,
) -> io::Result<()> {
    match &detail.session {
        Some(session) => write_session_header(session, out)?,
        None if marked.is_some() => writeln!(out, "session     none: the exchange belongs to no session")?,
        None => {
            writeln!(out, "the journal has no session and no exchange {}", escape_for_terminal(id))?;
            writeln!(out, "(a refused sign-in has no id: it is recorded by its time and caller only)")?;
        }
    }
    if !detail.exchanges.is_empty() {
        writeln!(out)?;
    }
    for exchange in &detail.exchanges {
        let mark = match marked {
            None => "",
            Some(id) if exchange.id == id => "> ",
            Some(_other) => "  ",
        };
        writeln!(out, "{mark}{}", format_exchange_line(exchange))?;
    }
    write_scan_warnings(&detail.journal_scan, out)
}

/// Shows the exchanges of a session one after the other. `wait` is called with the time that was between two of them.
pub fn replay_session(
    dir: &Path,
    id: &str,
    wait: impl FnMut(Duration),
    out: &mut dyn Write,
) -> io::Result<u8> {
    let Ok(session) = id.parse::<SessionId>() else {
        writeln!(out, "`{}` is not a session id: `durward sessions ls` lists them", escape_for_terminal(id))?;
        return Ok(EXIT_REFUSED);
    };
    let detail = history::read_session(read_journal(dir), session, NO_BOUND);
    if detail.session.is_none() {
        writeln!(out, "the journal has no session {session}")?;
        write_scan_warnings(&detail.journal_scan, out)?;
        return Ok(EXIT_REFUSED);
    }
    replay_exchanges(&detail, wait, out)?;
    Ok(scan_exit_code(&detail.journal_scan))
}

pub(super) fn replay_exchanges(
    detail: &SessionDetail,
    mut wait: impl FnMut(Duration),
    out: &mut dyn Write,
) -> io::Result<()> {
    if let Some(session) = &detail.session {
        write_session_header(session, out)?;
        writeln!(out)?;
    }
    for (index, exchange) in detail.exchanges.iter().enumerate() {
        if let Some(before) = index.checked_sub(1).and_then(|before| detail.exchanges.get(before)) {
            wait(pause_between(before.first_recorded, exchange.first_recorded));
        }
        writeln!(out, "{}", format_exchange_line(exchange))?;
        // Each line is to be seen before the next pause.
        out.flush()?;
    }
    write_scan_warnings(&detail.journal_scan, out)
}

fn write_session_header(session: &SessionHistory, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "session     {}", session.id)?;
    writeln!(out, "caller      {}", caller_of(session))?;
    if let Some(caller) = session.caller.as_ref().filter(|caller| !caller.groups.is_empty()) {
        writeln!(out, "groups      {}", escape_for_terminal(&caller.groups.join(", ")))?;
    }
    writeln!(out, "connection  {}", escape_for_terminal(session.connection.as_deref().unwrap_or("-")))?;
    writeln!(out, "opened      {}", format_optional_time(session.opened))?;
    writeln!(out, "expires     {}", format_optional_time(session.expires))?;
    if let Some(revocation) = &session.revocation {
        let (by, reason) = (escape_for_terminal(&revocation.by), escape_for_terminal(&revocation.reason));
        writeln!(out, "revoked     {} by {by}: {reason}", format_utc(revocation.at))?;
    }
    writeln!(out, "exchanges   {}", format_counts(session.counts))
}

fn caller_of(session: &SessionHistory) -> String {
    session.caller.as_ref().map_or_else(|| "-".to_owned(), format_caller)
}

fn format_optional_time(time: Option<OffsetDateTime>) -> String {
    time.map_or_else(|| "-".to_owned(), format_utc)
}

fn format_counts(counts: DispositionCounts) -> String {
    let awaiting = match counts.awaiting_approval {
        0 => String::new(),
        count => format!(", {count} awaiting approval"),
    };
    format!("{} permitted, {} refused{awaiting}", counts.permitted(), counts.not_permitted())
}

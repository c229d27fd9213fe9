//! `durward journal verify` and `durward sessions ls|show|replay`: what the journal says, for people and as JSON.
//!
//! They only read, also while a gateway appends. Whatever was recorded is untrusted text: control and direction characters are
//! escaped before it reaches a terminal. What follows damage in the journal is never shown.

mod sessions;
pub(crate) mod text;

use durward_core::{ExchangeId, SessionId};
use durward_journal::{Broken, Entry, Record, read};
use serde::Serialize;
use sessions::{Exchange, Session, Sessions, Story, Tally, Wanted, belongs};
use std::{
    io::{self, Write},
    path::Path,
    time::Duration,
};
use text::{moment, plain, who, write_json, write_table};

/// Exit code: done.
const DONE: u8 = 0;
/// Exit code: not found, or not as it was written.
const REFUSED: u8 = 1;
/// Exit code: there is no journal to look at.
pub const ABSENT: u8 = 2;

/// Whether there is a journal in `dir`; the error text is for people.
pub fn find(dir: &Path) -> Result<(), String> {
    let shown = plain(&dir.display().to_string());
    let below = dir.join("journal");
    match durward_journal::exists(dir) {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) if durward_journal::exists(&below).is_ok_and(|exists| exists) => Err(format!(
            "there is no journal in {shown}\n  hint: there is one in {}: name that",
            plain(&below.display().to_string())
        )),
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
pub fn verify(dir: &Path, out: &mut dyn Write) -> io::Result<u8> {
    let shown = plain(&dir.display().to_string());
    match durward_journal::verify(dir) {
        Err(broken) => {
            writeln!(out, "journal {shown} is NOT as it was written")?;
            tell_broken(&broken, out)?;
            Ok(REFUSED)
        }
        Ok(found) => {
            writeln!(out, "journal {shown} is as it was written")?;
            writeln!(out, "  segments    {}", found.segments)?;
            writeln!(out, "  records     {}", found.records)?;
            if let (Some(first), Some(last)) = (&found.first, &found.last) {
                writeln!(out, "  first       {}", plain(first))?;
                writeln!(out, "  last        {}", plain(last))?;
            }
            writeln!(out, "  chain head  {}", found.link)?;
            if let Some(tail) = &found.tail {
                writeln!(
                    out,
                    "  unfinished  {} bytes at the end of {}, at byte {}: an append in progress, or one that a crash cut off\n              \
                     (acknowledged to nobody; the next start of the gateway removes it)",
                    tail.bytes,
                    plain(&tail.file.display().to_string()),
                    tail.offset
                )?;
            }
            writeln!(
                out,
                "keep the chain head elsewhere: it proves later that no record was cut off at the end"
            )?;
            Ok(DONE)
        }
    }
}

/// Lists the sessions that the journal in `dir` knows, oldest first.
pub fn sessions_ls(dir: &Path, json: bool, out: &mut dyn Write) -> io::Result<u8> {
    let mut sessions = Sessions::default();
    let end = scan(dir, |entry, record| sessions.add(entry, record));
    let code = end.code();
    let mut listed: Vec<_> = sessions.by_id.into_values().collect();
    listed.sort_by_key(|session| (session.number, session.session));
    if json {
        let without_session = sessions.without;
        write_json(&SessionList { sessions: listed, without_session, end: &end }, out)?;
        return Ok(code);
    }
    if listed.is_empty() {
        writeln!(out, "no sessions recorded")?;
    } else {
        let row = |session: &Session| {
            [
                session.session.to_string(),
                plain(&who(session.caller.as_ref())),
                plain(session.connection.as_deref().unwrap_or("-")),
                moment(session.opened.as_deref()),
                moment(session.last_exchange.as_deref()),
                session.allowed.to_string(),
                session.denied.to_string(),
                session.revoked.as_ref().map_or_else(String::new, |revoked| moment(Some(&revoked.at))),
            ]
        };
        let head =
            ["SESSION", "CALLER", "CONNECTION", "OPENED", "LAST EXCHANGE", "ALLOWED", "DENIED", "REVOKED"]
                .map(str::to_owned);
        let rows: Vec<_> = std::iter::once(head).chain(listed.iter().map(row)).collect();
        write_table(&rows, out)?;
    }
    let Tally { allowed, denied, .. } = sessions.without;
    if allowed + denied > 0 {
        writeln!(out, "without a session: {allowed} allowed, {denied} denied")?;
    }
    end.tell(out)?;
    Ok(code)
}

/// Shows each exchange of one session, one a line, in the order in which they were decided. `id` is that of the session, or of
/// an exchange, which is marked then.
pub fn sessions_show(dir: &Path, id: &str, json: bool, out: &mut dyn Write) -> io::Result<u8> {
    let Some(place) = place_of(dir, id) else {
        writeln!(
            out,
            "`{}` is no id of a session or an exchange: `durward sessions ls` lists sessions, errors end in [exchange <id>]",
            plain(id)
        )?;
        return Ok(REFUSED);
    };
    let mut story = Story::of(place.wanted);
    let end = scan(dir, |entry, record| story.add(entry, record));
    let session = story.sessions.by_id.into_values().next();
    if json {
        let shown = Shown {
            session: session.as_ref(),
            exchange: place.exchange,
            exchanges: &story.exchanges,
            end: &end,
        };
        write_json(&shown, out)?;
    } else if session.is_none() && story.exchanges.is_empty() {
        writeln!(out, "the journal has no session and no exchange {}", plain(id))?;
        writeln!(out, "(a sign-in that was refused is in it by its time and caller only)")?;
        end.tell(out)?;
    } else {
        match &session {
            Some(session) => write_head(session, out)?,
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
            writeln!(out, "{mark}{}", exchange.line())?;
        }
        end.tell(out)?;
    }
    let found = session.is_some() || !story.exchanges.is_empty();
    Ok(if found { end.code() } else { REFUSED })
}

/// Where the journal has an id.
struct Place {
    wanted: Wanted,
    /// The exchange, if it is the id of one.
    exchange: Option<ExchangeId>,
}

/// What `id` is the id of, as far as the journal tells; the id of a session unless it is that of an exchange.
fn place_of(dir: &Path, id: &str) -> Option<Place> {
    let session: SessionId = id.parse().ok()?;
    let exchange: ExchangeId = id.parse().ok()?;
    let mut place = Place { wanted: Wanted::Session(session), exchange: None };
    scan(dir, |_entry, record| {
        if let Some((found, of)) = belongs(&record).filter(|(found, _of)| *found == exchange) {
            place = Place { wanted: of.map_or(Wanted::Alone(found), Wanted::Session), exchange: Some(found) };
        }
    });
    Some(place)
}

/// Writes the exchanges of the session `id` one after the other, with `wait` for the time that was between them.
pub fn sessions_replay(
    dir: &Path,
    id: &str,
    mut wait: impl FnMut(Duration),
    out: &mut dyn Write,
) -> io::Result<u8> {
    let Ok(wanted) = id.parse::<SessionId>() else {
        writeln!(out, "`{}` is no session id: `durward sessions ls` lists them", plain(id))?;
        return Ok(REFUSED);
    };
    let mut story = Story::of(Wanted::Session(wanted));
    let end = scan(dir, |entry, record| story.add(entry, record));
    let Some(session) = story.sessions.by_id.remove(&wanted) else {
        writeln!(out, "the journal has no session {wanted}")?;
        end.tell(out)?;
        return Ok(REFUSED);
    };
    write_head(&session, out)?;
    writeln!(out)?;
    let mut before = None;
    for exchange in &story.exchanges {
        let at = exchange.at();
        if let (Some(before), Some(at)) = (before, at) {
            // Neighbours may be microseconds out of order.
            wait(Duration::try_from(at - before).unwrap_or_default());
        }
        writeln!(out, "{}", exchange.line())?;
        out.flush()?;
        before = at.or(before);
    }
    end.tell(out)?;
    Ok(end.code())
}

fn write_head(session: &Session, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "session     {}", session.session)?;
    writeln!(out, "caller      {}", plain(&who(session.caller.as_ref())))?;
    if let Some(caller) = session.caller.as_ref().filter(|caller| !caller.groups.is_empty()) {
        writeln!(out, "groups      {}", plain(&caller.groups.join(", ")))?;
    }
    writeln!(out, "connection  {}", plain(session.connection.as_deref().unwrap_or("-")))?;
    writeln!(out, "opened      {}", moment(session.opened.as_deref()))?;
    writeln!(out, "expires     {}", moment(session.expires.as_deref()))?;
    if let Some(revoked) = &session.revoked {
        let (by, reason) = (plain(&revoked.by), plain(&revoked.reason));
        writeln!(out, "revoked     {} by {by}: {reason}", moment(Some(&revoked.at)))?;
    }
    writeln!(out, "exchanges   {} allowed, {} denied", session.allowed, session.denied)
}

/// How a scan ended.
#[derive(Serialize)]
struct End {
    /// Records of a type that this version does not know.
    #[serde(skip_serializing_if = "is_zero")]
    unknown_records: u64,
    /// Where the journal is damaged; nothing after that was read.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    broken: Option<Broken>,
}

impl End {
    fn code(&self) -> u8 {
        if self.broken.is_some() { REFUSED } else { DONE }
    }

    fn tell(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.unknown_records > 0 {
            writeln!(out, "{} records of a newer version were left out", self.unknown_records)?;
        }
        if let Some(broken) = &self.broken {
            writeln!(out, "the journal is NOT as it was written; nothing after this place was read")?;
            tell_broken(broken, out)?;
        }
        Ok(())
    }
}

fn tell_broken(broken: &Broken, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "  file        {}", plain(&broken.file.display().to_string()))?;
    writeln!(out, "  byte        {}", broken.offset)?;
    writeln!(out, "  record      {}", broken.record)?;
    writeln!(out, "  what        {}", plain(&broken.what.to_string()))?;
    if let Some(time) = &broken.time {
        writeln!(out, "  its time    {} (as far as it can be believed)", plain(time))?;
    }
    if let Some(time) = &broken.last_good {
        writeln!(out, "  good until  {}", plain(time))?;
    }
    Ok(())
}

#[expect(clippy::ref_option, reason = "serde's `serialize_with` passes a reference to the field")]
fn as_text<S: serde::Serializer>(broken: &Option<Broken>, serializer: S) -> Result<S::Ok, S::Error> {
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
fn scan(dir: &Path, mut each: impl FnMut(&Entry, Record)) -> End {
    let mut end = End { unknown_records: 0, broken: None };
    for entry in read(dir) {
        match entry {
            Ok(entry) => match entry.record() {
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
    sessions: Vec<Session>,
    without_session: Tally,
    #[serde(flatten)]
    end: &'a End,
}

#[derive(Serialize)]
struct Shown<'a> {
    session: Option<&'a Session>,
    /// The one that was asked for, if it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    exchange: Option<ExchangeId>,
    exchanges: &'a [Exchange],
    #[serde(flatten)]
    end: &'a End,
}

#[cfg(test)]
mod tests;

//! `durward sessions ls|show|replay|revoke`: what callers did, from the journal, and the end of it, through the admin API.
//!
//! The first three need no running gateway. A revocation is that of the person who is signed in. Exit codes: 0 done, 1 refused
//! or not found, 2 usage, or no journal.

use crate::JournalDir;
use crate::admin_api::{Api, Gateway, print, text};
use crate::journal_commands::{self, text::plain};
use crate::output::{Stdout, complain};
use clap::{Args, Subcommand};
use serde_json::json;
use std::time::Duration;

#[derive(Subcommand)]
pub enum SessionCommand {
    /// List sessions
    Ls {
        #[command(flatten)]
        journal: JournalDir,
        #[arg(long)]
        json: bool,
    },
    /// Show the exchanges of one session, or of the one that an exchange belongs to
    Show {
        /// The session's id, or that of an exchange as errors name it
        #[arg(value_name = "SESSION|EXCHANGE")]
        id: String,
        #[command(flatten)]
        journal: JournalDir,
        #[arg(long)]
        json: bool,
    },
    /// Show the exchanges of one session as they came, with the time that was between them
    Replay {
        session: String,
        /// So many times as fast
        #[arg(long, default_value_t = 1.0, value_name = "TIMES", value_parser = speed)]
        speed: f64,
        /// Longest pause (5s, 1m)
        #[arg(long, default_value = "5s", value_name = "TIME", value_parser = pause)]
        pause: Duration,
        #[command(flatten)]
        journal: JournalDir,
    },
    /// Revoke a session, or all of a caller that began until now: what they ask is refused from then on
    Revoke(Revoke),
}

#[derive(Args)]
pub struct Revoke {
    /// The session's id
    #[arg(required_unless_present = "caller", conflicts_with = "caller")]
    session: Option<String>,
    /// Every session of this caller, as <provider>/<subject>; of a person also the sign-ins to the console
    #[arg(long)]
    caller: Option<String>,
    /// Why; for the record
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    gateway: Gateway,
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse::<f64>().ok().filter(|speed| (0.01..=10_000.0).contains(speed));
    speed.ok_or_else(|| "write a number from 0.01 to 10000".to_owned())
}

fn pause(text: &str) -> Result<Duration, String> {
    durward_core::parse_duration(text).ok_or_else(|| "write a number and s, m, h or d, as in 5s".to_owned())
}

pub fn run(command: SessionCommand) -> Result<u8, String> {
    let mut out = Stdout;
    match command {
        SessionCommand::Ls { journal, json } => {
            journal.look(|dir| journal_commands::sessions_ls(dir, json, &mut out))
        }
        SessionCommand::Show { id, journal, json } => {
            journal.look(|dir| journal_commands::sessions_show(dir, &id, json, &mut out))
        }
        SessionCommand::Replay { session, speed, pause, journal } => {
            let wait = |gap: Duration| std::thread::sleep(gap.div_f64(speed).min(pause));
            journal.look(|dir| journal_commands::sessions_replay(dir, &session, wait, &mut out))
        }
        SessionCommand::Revoke(revoke) => crate::block_on(self::revoke(&revoke)),
    }
}

async fn revoke(revoke: &Revoke) -> Result<u8, String> {
    let api = Api::new(&revoke.gateway)?;
    let json = revoke.gateway.json;
    if let Some(caller) = &revoke.caller {
        let done = api.post("/callers/revoke", &json!({"caller": caller, "reason": revoke.reason})).await?;
        print(json, &done, |out| {
            writeln!(out, "revoked all sessions of {} that began until now", text(&done["caller"]))
        })?;
        return Ok(known(done["sessions"] != 0, "caller"));
    }
    let id = revoke.session.as_deref().unwrap_or_default();
    if id.parse::<durward_core::SessionId>().is_err() {
        return Err(format!("`{}` is no session's id: `durward sessions ls` lists them", plain(id)));
    }
    let done = api.post(&format!("/sessions/{id}/revoke"), &json!({"reason": revoke.reason})).await?;
    print(json, &done, |out| {
        let of = done["caller"].as_str().map(|caller| format!(" of {}", plain(caller))).unwrap_or_default();
        writeln!(out, "revoked session {}{of}", text(&done["session"]))?;
        let by = text(&done["revoked"]["by"]);
        writeln!(out, "by {by}: {}", text(&done["revoked"]["reason"]))
    })?;
    Ok(known(done["known"] == true, "session"))
}

/// A revocation of something unknown holds, but may be a slip of the pen.
fn known(known: bool, what: &str) -> u8 {
    if !known {
        complain(&format!("the journal of this gateway knows no such {what}: is it written right?"));
    }
    u8::from(!known)
}

//! `durward sessions ls|show|replay|revoke`: what callers did, from the journal, and the end of it, through the admin API.
//!
//! The first three need no running gateway. A revocation is that of the person who is signed in. Exit codes: 0 done, 1 refused
//! or not found, 2 usage, or no journal.

use crate::admin_api::{AdminApiArgs, AdminApiClient, format_scalar, print_result};
use crate::command_line::JournalDirArgs;
use crate::journal_commands::{self, terminal_text::escape_for_terminal};
use crate::terminal_output::{PipeSafeStdout, print_error};
use clap::{Args, Subcommand};
use serde_json::json;
use std::time::Duration;

#[derive(Subcommand)]
pub enum SessionCommand {
    /// List sessions
    Ls {
        #[command(flatten)]
        journal: JournalDirArgs,
        #[arg(long)]
        json: bool,
    },
    /// Show the exchanges of one session, or of the one that an exchange belongs to
    Show {
        /// The session's id, or that of an exchange as errors name it
        #[arg(value_name = "SESSION|EXCHANGE")]
        id: String,
        #[command(flatten)]
        journal: JournalDirArgs,
        #[arg(long)]
        json: bool,
    },
    /// Show the exchanges of one session as they came, with the time that was between them
    Replay {
        session: String,
        /// So many times as fast
        #[arg(long, default_value_t = 1.0, value_name = "TIMES", value_parser = parse_speed)]
        speed: f64,
        /// Longest pause (5s, 1m)
        #[arg(long, default_value = "5s", value_name = "TIME", value_parser = parse_pause)]
        pause: Duration,
        #[command(flatten)]
        journal: JournalDirArgs,
    },
    /// Revoke a session, or all of a caller that began until now: what they ask is refused from then on
    Revoke(RevokeArgs),
}

#[derive(Args)]
pub struct RevokeArgs {
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
    gateway: AdminApiArgs,
}

fn parse_speed(text: &str) -> Result<f64, String> {
    let speed = text.parse::<f64>().ok().filter(|speed| (0.01..=10_000.0).contains(speed));
    speed.ok_or_else(|| "write a number from 0.01 to 10000".to_owned())
}

fn parse_pause(text: &str) -> Result<Duration, String> {
    durward_core::parse_duration(text).ok_or_else(|| "write a number and s, m, h or d, as in 5s".to_owned())
}

pub fn run_session_command(command: SessionCommand) -> Result<u8, String> {
    let mut out = PipeSafeStdout;
    match command {
        SessionCommand::Ls { journal, json } => {
            journal.run_with_journal(|dir| journal_commands::list_sessions(dir, json, &mut out))
        }
        SessionCommand::Show { id, journal, json } => {
            journal.run_with_journal(|dir| journal_commands::show_session(dir, &id, json, &mut out))
        }
        SessionCommand::Replay { session, speed, pause, journal } => {
            let wait = |gap: Duration| std::thread::sleep(gap.div_f64(speed).min(pause));
            journal.run_with_journal(|dir| journal_commands::replay_session(dir, &session, wait, &mut out))
        }
        SessionCommand::Revoke(revoke) => crate::command_line::block_on(self::revoke_sessions(&revoke)),
    }
}

async fn revoke_sessions(revoke: &RevokeArgs) -> Result<u8, String> {
    let api = AdminApiClient::new(&revoke.gateway)?;
    let json = revoke.gateway.json;
    if let Some(caller) = &revoke.caller {
        let done = api.post("/callers/revoke", &json!({"caller": caller, "reason": revoke.reason})).await?;
        print_result(json, &done, |out| {
            writeln!(out, "revoked all sessions of {} that began until now", format_scalar(&done["caller"]))
        })?;
        return Ok(exit_code_if_known(done["sessions"] != 0, "caller"));
    }
    let id = revoke.session.as_deref().unwrap_or_default();
    if id.parse::<durward_core::SessionId>().is_err() {
        return Err(format!(
            "`{}` is no session's id: `durward sessions ls` lists them",
            escape_for_terminal(id)
        ));
    }
    let done = api.post(&format!("/sessions/{id}/revoke"), &json!({"reason": revoke.reason})).await?;
    print_result(json, &done, |out| {
        let of = done["caller"]
            .as_str()
            .map(|caller| format!(" of {}", escape_for_terminal(caller)))
            .unwrap_or_default();
        writeln!(out, "revoked session {}{of}", format_scalar(&done["session"]))?;
        let by = format_scalar(&done["revocation"]["by"]);
        writeln!(out, "by {by}: {}", format_scalar(&done["revocation"]["reason"]))
    })?;
    Ok(exit_code_if_known(done["known"] == true, "session"))
}

/// A revocation of something unknown holds, but may be a slip of the pen.
fn exit_code_if_known(known: bool, what: &str) -> u8 {
    if !known {
        print_error(&format!("the journal of this gateway knows no such {what}: is it written right?"));
    }
    u8::from(!known)
}

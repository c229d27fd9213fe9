//! `durward sessions ls|show|replay|revoke`: sessions in the journal, and their revocation through the admin API.
//!
//! The first three need no running gateway. A revocation is recorded as that of the signed-in user. Exit codes: 0 done,
//! 1 refused or not found, 2 usage or no journal.

use crate::admin_api::{AdminApiArgs, AdminApiClient, print_result};
use crate::argument_values::{parse_duration_argument, parse_speed_factor};
use crate::command_error::CommandError;
use crate::config::ConfigError;
use crate::journal_commands::{self, EXIT_NO_JOURNAL, JournalDirArgs};
use crate::json_values::format_scalar;
use crate::terminal_output::{PipeSafeStdout, print_error};
use crate::terminal_text::escape_for_terminal;
use clap::{Args, Subcommand};
use durward_core::SessionId;
use serde_json::json;
use std::io;
use std::path::Path;
use std::time::Duration;

#[derive(Subcommand)]
pub enum SessionCommand {
    /// List sessions, oldest first
    Ls {
        #[command(flatten)]
        journal: JournalDirArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the exchanges of a session
    Show {
        /// Id of a session, or of an exchange of it: `[exchange <id>]` at the end of an error
        #[arg(value_name = "SESSION|EXCHANGE")]
        id: String,
        #[command(flatten)]
        journal: JournalDirArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the exchanges of a session with the pauses between them
    Replay {
        /// Id of the session
        session: String,
        /// Speed factor
        #[arg(long, default_value_t = 1.0, value_name = "FACTOR", value_parser = parse_speed_factor)]
        speed: f64,
        /// Longest pause (5s, 1m)
        #[arg(long, default_value = "5s", value_name = "TIME", value_parser = parse_duration_argument)]
        max_pause: Duration,
        #[command(flatten)]
        journal: JournalDirArgs,
    },
    /// Revoke a session, or every session of a caller started before now
    Revoke(RevokeArgs),
}

#[derive(Args)]
pub struct RevokeArgs {
    /// Id of the session
    #[arg(required_unless_present = "caller", conflicts_with = "caller")]
    session: Option<String>,
    /// Revoke every session of this caller, and its sign-ins to the console
    #[arg(long, value_name = "PROVIDER/SUBJECT")]
    caller: Option<String>,
    /// Reason (journaled)
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    api: AdminApiArgs,
}

/// Why a session command ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum SessionCommandError {
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Config(#[from] ConfigError),
}

pub async fn run_session_command(command: SessionCommand) -> Result<u8, SessionCommandError> {
    let mut out = PipeSafeStdout;
    match command {
        SessionCommand::Ls { journal, json } => {
            with_journal(&journal, |dir| journal_commands::list_sessions(dir, json, &mut out))
        }
        SessionCommand::Show { id, journal, json } => {
            with_journal(&journal, |dir| journal_commands::show_session(dir, &id, json, &mut out))
        }
        SessionCommand::Replay { session, speed, max_pause, journal } => {
            // Blocking is fine: nothing else runs in this process.
            let wait = |gap: Duration| std::thread::sleep(gap.div_f64(speed).min(max_pause));
            with_journal(&journal, |dir| journal_commands::replay_session(dir, &session, wait, &mut out))
        }
        SessionCommand::Revoke(args) => Ok(revoke_sessions(&args).await?),
    }
}

fn with_journal(
    journal: &JournalDirArgs,
    command: impl FnOnce(&Path) -> io::Result<u8>,
) -> Result<u8, SessionCommandError> {
    match journal.find_journal()? {
        Some(dir) => Ok(command(&dir).map_err(CommandError::Output)?),
        None => Ok(EXIT_NO_JOURNAL),
    }
}

async fn revoke_sessions(args: &RevokeArgs) -> Result<u8, CommandError> {
    let api = AdminApiClient::new(&args.api)?;
    if let Some(caller) = &args.caller {
        let revocation = json!({"caller": caller, "reason": args.reason});
        let revoked = api.post("/callers/revoke", &revocation).await?;
        print_result(args.api.json, &revoked, |out| {
            writeln!(out, "revoked all sessions of {} started before now", format_scalar(&revoked["caller"]))
        })?;
        return Ok(exit_code_if_known(revoked["sessions"] != 0, "caller"));
    }
    let id = args.session.as_deref().unwrap_or_default();
    if id.parse::<SessionId>().is_err() {
        return Err(CommandError::Refused(format!(
            "`{}` is not a session id: `durward sessions ls` lists them",
            escape_for_terminal(id)
        )));
    }
    let revoked = api.post(&format!("/sessions/{id}/revoke"), &json!({"reason": args.reason})).await?;
    print_result(args.api.json, &revoked, |out| {
        let caller = match revoked["caller"].as_str() {
            Some(caller) => format!(" of {}", escape_for_terminal(caller)),
            None => String::new(),
        };
        writeln!(out, "revoked session {}{caller}", format_scalar(&revoked["session"]))?;
        let by = format_scalar(&revoked["revocation"]["by"]);
        writeln!(out, "by {by}: {}", format_scalar(&revoked["revocation"]["reason"]))
    })?;
    Ok(exit_code_if_known(revoked["known"] == true, "session"))
}

/// A revocation of something that the journal does not know is in force, but may be a typing error.
fn exit_code_if_known(is_known: bool, kind: &str) -> u8 {
    if !is_known {
        print_error(&format!("no such {kind} in the journal of this gateway: check the spelling"));
    }
    u8::from(!is_known)
}

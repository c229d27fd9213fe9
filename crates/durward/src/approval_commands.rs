//! `durward approvals ls|show|approve|deny|watch`: the admin API for approvers at a terminal and for scripts.
//!
//! A vote is cast as the user whose token is sent. A text that a caller could have written is printed with its control and
//! direction characters escaped. Exit codes: 0 done, 1 refused or not found, 2 usage.

mod request_details;
mod request_summary;
mod watch;

pub use request_details::write_request_details;
pub use request_summary::{describe_resource, format_missing_votes};

use crate::admin_api::{AdminApiArgs, AdminApiClient, encode_query_value, print_result};
use crate::argument_values::parse_duration_argument;
use crate::command_error::CommandError;
use crate::json_values::{format_scalar, list_items};
use crate::terminal_text::{ListEntry, escape_for_terminal, format_time, write_list};
use clap::Subcommand;
use durward_core::timestamps::format_rfc3339_seconds;
use request_summary::{format_broad_grants, format_operation, format_request_caller, format_state};
use serde_json::{Value, json};
use std::io::Write;
use std::time::Duration;
use time::OffsetDateTime;

#[derive(Subcommand)]
pub enum ApprovalCommand {
    /// List approval requests, newest first
    Ls {
        /// Comma-separated states: pending, approved, denied, timed_out, consumed, expired, corrupt; or all
        #[arg(long, default_value = "pending", value_name = "STATES")]
        state: String,
        /// List the time-bound grants that are in force, with how often they were used and who approved them
        #[arg(long, conflicts_with = "state")]
        time_bound: bool,
        /// List only the requests of this caller
        #[arg(long, value_name = "PROVIDER/SUBJECT")]
        caller: Option<String>,
        #[command(flatten)]
        api: AdminApiArgs,
    },
    /// Show one approval request in full
    Show {
        /// Id of the approval request
        id: String,
        #[command(flatten)]
        api: AdminApiArgs,
    },
    /// Approve a request: this exact operation, once
    Approve {
        /// Id of the approval request
        id: String,
        /// Create a time-bound grant that lasts this long (15m, 2h)
        #[arg(long = "for", value_name = "TIME", value_parser = parse_duration_argument, conflicts_with = "break_glass")]
        grant_duration: Option<Duration>,
        /// Override the quorum as a member of the break-glass group
        #[arg(long, requires = "reason")]
        break_glass: bool,
        /// Comment on the approval, or reason for the override (journaled; the caller does not read it)
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        api: AdminApiArgs,
    },
    /// Deny a request, or revoke an unused or time-bound grant
    #[command(visible_alias = "revoke")]
    Deny {
        /// Id of the approval request
        id: String,
        /// Reason; the caller reads it
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        api: AdminApiArgs,
    },
    /// Print pending requests, then follow changes until stopped
    Watch {
        #[command(flatten)]
        api: AdminApiArgs,
    },
}

pub async fn run_approval_command(command: &ApprovalCommand) -> Result<u8, CommandError> {
    match command {
        ApprovalCommand::Ls { time_bound: true, caller, api, .. } => {
            list_time_bound_grants(api, caller.as_deref()).await
        }
        ApprovalCommand::Ls { state, caller, api, .. } => list_requests(api, state, caller.as_deref()).await,
        ApprovalCommand::Show { id, api } => {
            let request = AdminApiClient::new(api)?.get(&request_path(id)?).await?;
            print_result(api.json, &request, |out| write_request_details(&request, out))
        }
        ApprovalCommand::Approve { id, grant_duration, break_glass, reason, api } => {
            let mut vote = match (grant_duration, break_glass) {
                (Some(duration), _) => {
                    let until = format_rfc3339_seconds(OffsetDateTime::now_utc() + *duration);
                    json!({"vote": "approve_time_bound", "until": until})
                }
                (None, true) => json!({"vote": "break_glass"}),
                (None, false) => json!({"vote": "approve_once"}),
            };
            if let Some(reason) = reason {
                vote["reason"] = json!(reason);
            }
            cast_vote(api, id, &vote).await
        }
        ApprovalCommand::Deny { id, reason, api } => {
            cast_vote(api, id, &json!({"vote": "deny", "reason": reason})).await
        }
        ApprovalCommand::Watch { api } => watch::watch_requests(api).await,
    }
}

async fn list_requests(args: &AdminApiArgs, states: &str, caller: Option<&str>) -> Result<u8, CommandError> {
    let mut path = format!("/approval-requests?state={}", encode_query_value(states));
    if let Some(caller) = caller {
        path = format!("{path}&caller={}", encode_query_value(caller));
    }
    let response = AdminApiClient::new(args)?.get(&path).await?;
    print_result(args.json, &response, |out| {
        write_request_list(list_items(&response["approval_requests"]), out)
    })
}

fn write_request_list(requests: &[Value], out: &mut dyn Write) -> std::io::Result<()> {
    if requests.is_empty() {
        return writeln!(out, "no approval requests");
    }
    let entries: Vec<_> = requests
        .iter()
        .map(|request| {
            let missing = format_missing_votes(request);
            let state = format_state(request);
            let mut details = vec![format_operation(request), format_request_caller(request)];
            details.extend(format_broad_grants(request).iter().map(|grant| format!("BROAD GRANT {grant}")));
            if !missing.is_empty() {
                details.push(format!("missing {missing}"));
            }
            if !state.marks.is_empty() {
                details.push(state.marks.join(", "));
            }
            ListEntry {
                cells: [
                    format_scalar(&request["id"]),
                    state.word,
                    format_scalar(&request["risk"]["score"]),
                    format_time(request["deadline"].as_str()),
                ],
                details,
            }
        })
        .collect();
    write_list(["REQUEST", "STATE", "RISK", "DEADLINE"], &entries, out)
}

/// Lists the grants under which operations now pass without an approval request.
async fn list_time_bound_grants(args: &AdminApiArgs, caller: Option<&str>) -> Result<u8, CommandError> {
    let path = match caller {
        Some(caller) => format!("/time-bound-grants?caller={}", encode_query_value(caller)),
        None => "/time-bound-grants".to_owned(),
    };
    let response = AdminApiClient::new(args)?.get(&path).await?;
    print_result(args.json, &response, |out| {
        write_grant_list(list_items(&response["time_bound_grants"]), out)?;
        if response["may_be_incomplete"] == true {
            writeln!(
                out,
                "there are more approved requests than the gateway lists: name a caller with --caller"
            )?;
        }
        Ok(())
    })
}

fn write_grant_list(requests: &[Value], out: &mut dyn Write) -> std::io::Result<()> {
    if requests.is_empty() {
        return writeln!(out, "no time-bound grants");
    }
    let entries: Vec<_> = requests
        .iter()
        .map(|request| {
            let approvals = list_items(&request["votes"]).iter().filter(|vote| vote["is_approval"] == true);
            let approvers: Vec<String> = approvals.map(|vote| format_scalar(&vote["by"]["id"])).collect();
            ListEntry {
                cells: [
                    format_scalar(&request["id"]),
                    format_time(request["grant_until"].as_str()),
                    format_scalar(&request["uses"]),
                ],
                details: vec![
                    format_operation(request),
                    format_request_caller(request),
                    format!("approved by {}", approvers.join(", ")),
                ],
            }
        })
        .collect();
    write_list(["REQUEST", "VALID UNTIL", "USES"], &entries, out)
}

async fn cast_vote(args: &AdminApiArgs, id: &str, vote: &Value) -> Result<u8, CommandError> {
    let request = AdminApiClient::new(args)?.post(&format!("{}/votes", request_path(id)?), vote).await?;
    print_result(args.json, &request, |out| write_vote_result(&request, vote["until"].as_str(), out))
}

/// Writes what a vote led to. `wanted_until` is the end of the time-bound grant that the voter requested.
fn write_vote_result(
    request: &Value,
    wanted_until: Option<&str>,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let (id, state) = (format_scalar(&request["id"]), format_state(request));
    writeln!(out, "{id}  {state}  {}", format_scalar(&request["title"]))?;
    let until = format_time(request["grant_until"].as_str());
    match (request["state"].as_str(), wanted_until, request["time_bound"] == true) {
        (Some("pending"), Some(wanted), _) => writeln!(
            out,
            "your vote is recorded, for a time-bound grant until {}; missing votes: {}",
            format_time(Some(wanted)),
            format_missing_votes(request)
        ),
        (Some("pending"), None, _) => {
            writeln!(out, "your vote is recorded; missing votes: {}", format_missing_votes(request))
        }
        (Some("approved"), _, true) => writeln!(
            out,
            "a time-bound grant until {until}: this caller, these actions, these resources, any parameters"
        ),
        (Some("approved"), Some(_wanted), false) => writeln!(
            out,
            "no time-bound grant, because not every approver gave a time: valid once, until {until}"
        ),
        (Some("approved"), None, false) => writeln!(out, "valid once, until {until}"),
        (Some("denied"), _, true) => {
            writeln!(out, "the time-bound grant is revoked: no more requests pass on it")
        }
        _ => Ok(()),
    }
}

/// The API path of an approval request. An id is checked here, because it becomes part of the path.
fn request_path(id: &str) -> Result<String, CommandError> {
    let is_id =
        // Anything else could change the path: `../sessions/x/revoke` would be another request with the same token.
        !id.is_empty() && id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if is_id {
        return Ok(format!("/approval-requests/{id}"));
    }
    Err(CommandError::Refused(format!(
        "`{}` is not an approval request id: `durward approvals ls` lists them",
        escape_for_terminal(id)
    )))
}

#[cfg(test)]
mod tests;

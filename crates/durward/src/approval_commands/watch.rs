//! `durward approvals watch`: pending approval requests, then each one that changes, until stopped.

use super::request_path;
use super::request_summary::{
    format_broad_grants, format_missing_votes, format_operation, format_request_caller, format_state,
};
use crate::admin_api::{AdminApiArgs, AdminApiClient};
use crate::command_error::CommandError;
use crate::json_values::{format_scalar, list_items};
use crate::terminal_output::PipeSafeStdout;
use crate::terminal_text::escape_json;
use http_body_util::BodyExt as _;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

/// Pause before the event stream is opened again: a restarting gateway is back within seconds.
const RECONNECT_DELAY: Duration = Duration::from_secs(2);
/// Longest event that is read. An event holds one id.
const MAX_EVENT_BYTES: usize = 64 << 10;

/// Returns only with an error. A gateway that becomes unreachable is tried again, once it was reached.
pub async fn watch_requests(args: &AdminApiArgs) -> Result<u8, CommandError> {
    let mut watcher = RequestWatcher {
        api: AdminApiClient::new(args)?,
        as_json: args.json,
        printed: BTreeSet::new(),
        was_connected: false,
    };
    loop {
        match watcher.follow_event_stream().await {
            Err(CommandError::Unreachable(reason)) if watcher.was_connected => {
                tracing::warn!("{reason}; trying again");
            }
            Err(error) => return Err(error),
            Ok(()) => {}
        }
        tokio::time::sleep(RECONNECT_DELAY).await;
    }
}

struct RequestWatcher {
    api: AdminApiClient,
    as_json: bool,
    /// Ids that have been printed: a reconnect does not print what is still pending again.
    printed: BTreeSet<String>,
    was_connected: bool,
}

impl RequestWatcher {
    /// Prints the pending requests that were not printed yet, then each change, until the stream ends.
    async fn follow_event_stream(&mut self) -> Result<(), CommandError> {
        // The stream is opened before the list is read: a change in between is in the stream.
        let mut events = self.api.open_event_stream("/events").await?;
        self.was_connected = true;
        let pending = self.api.get("/approval-requests?state=pending&limit=1000").await?;
        for request in list_items(&pending["approval_requests"]).iter().rev() {
            // Oldest first, as they would have come on the stream.
            if self.printed.insert(format_scalar(&request["id"])) {
                self.print_request(request)?;
            }
        }
        let mut unread = String::new();
        while let Some(frame) = events.frame().await {
            let frame = frame.map_err(|error| {
                CommandError::Unreachable(format!("the gateway closed the event stream: {error}"))
            })?;
            let Ok(data) = frame.into_data() else { continue };
            unread.push_str(&String::from_utf8_lossy(&data));
            while let Some((event, rest)) = unread.split_once("\n\n") {
                let id = changed_request_id(event);
                unread = rest.to_owned();
                if let Some(id) = id {
                    let request = self.api.get(&request_path(&id)?).await?;
                    self.printed.insert(id);
                    self.print_request(&request)?;
                }
            }
            // Another server behind the URL could fill the memory with an event that never ends.
            if unread.len() > MAX_EVENT_BYTES {
                return Err(CommandError::Refused(
                    "the event stream is not from a Durward console".to_owned(),
                ));
            }
        }
        Ok(())
    }

    fn print_request(&self, request: &Value) -> Result<(), CommandError> {
        let mut out = PipeSafeStdout;
        let line =
            if self.as_json { escape_json(&request.to_string()) } else { format_request_line(request) };
        writeln!(out, "{line}").and_then(|()| out.flush()).map_err(CommandError::Output)
    }
}

/// The id in an event of the stream. Keep-alive comments have none.
fn changed_request_id(event: &str) -> Option<String> {
    let data = event.lines().find_map(|line| line.strip_prefix("data: "))?;
    let data: Value = serde_json::from_str(data).ok()?;
    data["id"].as_str().map(str::to_owned)
}

fn format_request_line(request: &Value) -> String {
    let missing = if request["state"] == "pending" {
        format!("  missing {}", format_missing_votes(request))
    } else {
        String::new()
    };
    let line = format!(
        "{}  {:<9}  risk {:>3}  {}  {}{missing}",
        format_scalar(&request["id"]),
        format_state(request).to_string(),
        format_scalar(&request["risk"]["score"]),
        format_request_caller(request),
        format_operation(request),
    );
    let mut parts = vec![line];
    parts.extend(format_broad_grants(request).iter().map(|grant| format!("BROAD GRANT {grant}")));
    parts.join("  ")
}

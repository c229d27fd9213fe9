//! `durward approvals ls|show|approve|deny|watch`: the admin API for people at a terminal and for scripts.
//!
//! The answer is that of the person whose token is sent. Everything a caller could have written is shown with its control
//! and direction characters escaped. Exit codes: 0 done, 1 refused or not found, 2 usage.

use crate::admin_api::{
    AdminApiArgs, AdminApiClient, RemoteError, encode_query_value, format_scalar, list_items, print_result,
};
use crate::journal_commands::terminal_text::{escape_for_terminal, format_utc, write_table};
use crate::terminal_output::PipeSafeStdout;
use bytes::Bytes;
use clap::Subcommand;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Between two attempts to listen again.
const RECONNECT_DELAY: Duration = Duration::from_secs(2);

#[derive(Subcommand)]
pub enum ApprovalCommand {
    /// List asks, newest first
    Ls {
        /// pending, approved, denied, timed_out, used, expired, damaged (several with commas), or all
        #[arg(long, default_value = "pending", value_name = "STATES")]
        state: String,
        /// The windows that are open: who may do what until when without asking, how often it was done, who opened them
        #[arg(long, conflicts_with = "state")]
        time_bound: bool,
        /// Only those of this caller, as <provider>/<subject>
        #[arg(long)]
        caller: Option<String>,
        #[command(flatten)]
        gateway: AdminApiArgs,
    },
    /// Show one ask with all that is known about it
    Show {
        /// The ask's id
        id: String,
        #[command(flatten)]
        gateway: AdminApiArgs,
    },
    /// Approve an ask: exactly this operation, once
    Approve {
        /// The ask's id
        id: String,
        /// Approve every such operation of this caller for so long (15m, 2h)
        #[arg(long = "for", value_name = "TIME", value_parser = parse_duration_arg, conflicts_with = "break_glass")]
        grant_duration: Option<Duration>,
        /// Go past the quorum as a member of the break-glass group
        #[arg(long, requires = "reason")]
        break_glass: bool,
        /// Why; for the record
        #[arg(long, requires = "break_glass")]
        reason: Option<String>,
        #[command(flatten)]
        gateway: AdminApiArgs,
    },
    /// Deny an ask, take an approval back that was not used, or close an open window
    #[command(visible_alias = "close")]
    Deny {
        /// The ask's id
        id: String,
        /// Why; the caller reads it
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        gateway: AdminApiArgs,
    },
    /// Print what waits, then every ask that changes, until stopped
    Watch {
        #[command(flatten)]
        gateway: AdminApiArgs,
    },
}

fn parse_duration_arg(text: &str) -> Result<Duration, String> {
    durward_core::parse_duration(text).ok_or_else(|| "write a number and s, m, h or d, as in 30m".to_owned())
}

pub async fn run_approval_command(command: &ApprovalCommand) -> Result<u8, String> {
    match command {
        ApprovalCommand::Ls { time_bound: true, caller, gateway, .. } => {
            list_time_bound_grants(gateway, caller.as_deref()).await
        }
        ApprovalCommand::Ls { state, caller, gateway, .. } => {
            list_requests(gateway, state, caller.as_deref()).await
        }
        ApprovalCommand::Show { id, gateway } => {
            let api = AdminApiClient::new(gateway)?;
            let ask = api.get(&format!("/asks/{}", path_segment(id)?)).await?;
            print_result(gateway.json, &ask, |out| write_request_details(&ask, out))
        }
        ApprovalCommand::Approve { id, grant_duration: window, break_glass, reason, gateway } => {
            let answer = match (window, break_glass) {
                (Some(window), _) => {
                    let until = (OffsetDateTime::now_utc() + *window)
                        .format(&Rfc3339)
                        .map_err(|_error| "the time is too far off")?;
                    json!({"answer": "approve_window", "until": until})
                }
                (None, true) => json!({"answer": "break_glass", "reason": reason}),
                (None, false) => json!({"answer": "approve_once"}),
            };
            cast_vote(gateway, id, &answer).await
        }
        ApprovalCommand::Deny { id, reason, gateway } => {
            cast_vote(gateway, id, &json!({"answer": "deny", "reason": reason})).await
        }
        ApprovalCommand::Watch { gateway } => watch_requests(gateway).await,
    }
}

async fn list_requests(gateway: &AdminApiArgs, state: &str, caller: Option<&str>) -> Result<u8, String> {
    let mut path = format!("/asks?state={}", encode_query_value(state));
    if let Some(caller) = caller {
        path = format!("{path}&caller={}", encode_query_value(caller));
    }
    let listed = AdminApiClient::new(gateway)?.get(&path).await?;
    print_result(gateway.json, &listed, |out| {
        let asks = listed["asks"].as_array().map(Vec::as_slice).unwrap_or_default();
        if asks.is_empty() {
            return writeln!(out, "no asks");
        }
        let head = ["ASK", "STATE", "RISK", "ANSWER BY", "CALLER", "OPERATION", "RESOURCE", "NEEDS"];
        let row = |ask: &Value| {
            [
                format_scalar(&ask["id"]),
                format_state(ask),
                format_scalar(&ask["risk"]["score"]),
                format_utc(ask["deadline"].as_str()),
                format_caller(ask),
                format_scalar(&ask["title"]),
                format_resources(ask),
                format_missing_votes(ask),
            ]
        };
        let rows: Vec<_> = std::iter::once(head.map(str::to_owned)).chain(asks.iter().map(row)).collect();
        write_table(&rows, out)
    })
}

/// What passes now without anybody being asked.
async fn list_time_bound_grants(gateway: &AdminApiArgs, caller: Option<&str>) -> Result<u8, String> {
    let mut path = "/asks?state=approved&limit=1000".to_owned();
    if let Some(caller) = caller {
        path = format!("{path}&caller={}", encode_query_value(caller));
    }
    let mut listed = AdminApiClient::new(gateway)?.get(&path).await?;
    if let Some(asks) = listed["asks"].as_array_mut() {
        asks.retain(|ask| ask["window"] == true);
    }
    print_result(gateway.json, &listed, |out| {
        let asks = list_items(&listed["asks"]);
        if asks.is_empty() {
            return writeln!(out, "no open windows");
        }
        let head = ["ASK", "OPEN UNTIL", "USED", "CALLER", "OPERATION", "RESOURCE", "OPENED BY"];
        let row = |ask: &Value| {
            let openers = list_items(&ask["votes"]).iter().filter(|vote| vote["approve"] == true);
            let openers: Vec<String> = openers.map(|vote| format_scalar(&vote["by"]["id"])).collect();
            [
                format_scalar(&ask["id"]),
                format_utc(ask["grant_until"].as_str()),
                format_scalar(&ask["uses"]),
                format_caller(ask),
                format_scalar(&ask["title"]),
                format_resources(ask),
                openers.join(", "),
            ]
        };
        let rows: Vec<_> = std::iter::once(head.map(str::to_owned)).chain(asks.iter().map(row)).collect();
        write_table(&rows, out)
    })
}

async fn cast_vote(gateway: &AdminApiArgs, id: &str, answer: &Value) -> Result<u8, String> {
    let api = AdminApiClient::new(gateway)?;
    let ask = api.post(&format!("/asks/{}/answer", path_segment(id)?), answer).await?;
    print_result(gateway.json, &ask, |out| {
        writeln!(
            out,
            "{}  {}  {}",
            format_scalar(&ask["id"]),
            format_state(&ask),
            format_scalar(&ask["title"])
        )?;
        let until = format_utc(ask["grant_until"].as_str());
        match (ask["state"].as_str(), answer["until"].as_str(), ask["window"] == true) {
            (Some("pending"), Some(wanted), _) => writeln!(
                out,
                "your answer is recorded, for a window until {}; still needed: {}",
                format_utc(Some(wanted)),
                format_missing_votes(&ask)
            ),
            (Some("pending"), None, _) => {
                writeln!(out, "your answer is recorded; still needed: {}", format_missing_votes(&ask))
            }
            (Some("approved"), _, true) => writeln!(
                out,
                "a window until {until}: this caller, these actions, these resources, any parameters"
            ),
            (Some("approved"), Some(_wanted), false) => {
                writeln!(out, "no window, since not every approver gave a time: good once, until {until}")
            }
            (Some("approved"), None, false) => writeln!(out, "good once, until {until}"),
            (Some("denied"), _, true) => writeln!(out, "the window is closed: nothing more passes by it"),
            _ => Ok(()),
        }
    })
}

pub(crate) fn write_request_details(ask: &Value, out: &mut dyn Write) -> std::io::Result<()> {
    let what = &ask["what"];
    let operation = &what["operation"];
    let mut line = |name: &str, value: &str| {
        if value.is_empty() { Ok(()) } else { writeln!(out, "{name:<15}{value}") }
    };
    line("ask", &format_scalar(&ask["id"]))?;
    line("state", &format_scalar(&ask["state"]))?;
    for vote in list_items(&ask["votes"]).iter().filter(|vote| vote["break_glass"] == true) {
        let reason = escape_for_terminal(vote["reason"].as_str().unwrap_or_default());
        line("BREAK-GLASS", &format!("by {}: {reason}", format_scalar(&vote["by"]["id"])))?;
    }
    line("operation", &format_scalar(&ask["title"]))?;
    for demand in list_items(&operation["demands"]) {
        let resource = format_resource(&demand["resource"]);
        line(
            "  action",
            &format!(
                "{} on {resource} ({})",
                format_scalar(&demand["action"]),
                format_scalar(&demand["access_level"])
            ),
        )?;
    }
    for (resource, tags) in what["tags"].as_object().into_iter().flatten() {
        let tag = |(key, value): (&String, &Value)| {
            format!("{}={}", escape_for_terminal(key), format_scalar(value))
        };
        let tags: Vec<String> = tags.as_object().into_iter().flatten().map(tag).collect();
        let tags = if tags.is_empty() { "none".to_owned() } else { tags.join(", ") };
        line("  tags", &format!("{tags} on {}", escape_for_terminal(resource)))?;
    }
    line("account", &format_scalar(&operation["account"]))?;
    line("region", &format_scalar(&operation["region"]))?;
    for (name, value) in operation["parameters"].as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        line("  parameter", &format!("{} = {}", escape_for_terminal(name), escape_for_terminal(&value)))?;
    }
    for part in list_items(&operation["uninspected"]) {
        line("NOT INSPECTED", &format_scalar(part))?;
    }
    line("risk", &format!("{} of 100", format_scalar(&ask["risk"]["score"])))?;
    for reason in list_items(&ask["risk"]["reasons"]) {
        line("  because", &format_scalar(reason))?;
    }
    line("caller", &format_caller(ask))?;
    line("groups", &join_values(&what["caller"]["groups"]))?;
    line("connection", &format_scalar(&what["connection"]))?;
    line("from", &format_scalar(&what["source_address"]))?;
    if let Some(agent) = what["user_agent"].as_str() {
        line("agent says", &format!("\"{}\" (its own words)", escape_for_terminal(agent)))?;
    }
    line("session", &format_scalar(&what["session"]))?;
    let times = match ask["attempts"].as_u64() {
        Some(2..) => format!(", {} times", format_scalar(&ask["attempts"])),
        _ => String::new(),
    };
    line("asked", &format!("{}{times}", format_utc(ask["created"].as_str())))?;
    line("answer by", &format_utc(ask["deadline"].as_str()))?;
    let until = format_utc(ask["grant_until"].as_str());
    if ask["window"] == true {
        let uses = if ask["uses"] == 1 {
            "once".to_owned()
        } else {
            format!("{} times", format_scalar(&ask["uses"]))
        };
        let end = if ask["grant_until"].is_string() { until } else { "it was closed".to_owned() };
        line("approved for", &format!("a window until {end}, used {uses}"))?;
        line("", "  this caller, these actions, these resources, any parameters")?;
    } else if ask["grant_until"].is_string() {
        line("good until", &format!("{until}, once"))?;
    }
    line("policy says", &format_scalar(&what["reason"]))?;
    for one in list_items(&what["requirements"]) {
        line(
            "  lifted by",
            &format!(
                "{} of {} (policy {})",
                format_scalar(&one["quorum"]),
                format_scalar(&one["group"]),
                format_scalar(&one["policy"])
            ),
        )?;
    }
    let past = if ask["break_glass"] == true { ", by break-glass" } else { "" };
    line("still needed", &format!("{}{past}", format_missing_votes(ask)))?;
    for vote in list_items(&ask["votes"]) {
        let did = if vote["approve"] != true {
            "denied".to_owned()
        } else if vote["break_glass"] == true {
            "BROKE THE GLASS".to_owned()
        } else if vote["window"].is_string() {
            format!("approved a window until {},", format_utc(vote["window"].as_str()))
        } else {
            "approved once".to_owned()
        };
        let reason = vote["reason"]
            .as_str()
            .map(|reason| format!(": {}", escape_for_terminal(reason)))
            .unwrap_or_default();
        line(
            "answer",
            &format!(
                "{} {did} {}{reason}",
                format_scalar(&vote["by"]["id"]),
                format_utc(vote["at"].as_str())
            ),
        )?;
    }
    line("digest", &format_scalar(&what["digest"]))?;
    line(
        "you",
        &if ask["you"]["may_approve"] == true {
            "may approve it".to_owned()
        } else {
            format_scalar(&ask["you"]["why_not"])
        },
    )
}

async fn watch_requests(gateway: &AdminApiArgs) -> Result<u8, String> {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut connected = false;
    loop {
        match follow_event_stream(gateway, &mut seen, &mut connected).await {
            Ok(()) => {}
            Err(StreamEnd::Rejected(why)) => return Err(why),
            Err(StreamEnd::Disconnected(why)) if !connected => return Err(why),
            Err(StreamEnd::Disconnected(why)) => tracing::warn!("{why}; trying again"),
        }
        tokio::time::sleep(RECONNECT_DELAY).await;
    }
}

/// Why listening ended.
enum StreamEnd {
    Rejected(String),
    Disconnected(String),
}

/// Prints what waits and was not printed, then what changes, until the stream ends.
async fn follow_event_stream(
    gateway: &AdminApiArgs,
    seen: &mut BTreeSet<String>,
    connected: &mut bool,
) -> Result<(), StreamEnd> {
    let refused = |failure: RemoteError| match failure {
        RemoteError::Rejected(why) => StreamEnd::Rejected(why),
        RemoteError::Unreachable(why) => StreamEnd::Disconnected(why),
    };
    let api = AdminApiClient::new(gateway).map_err(StreamEnd::Rejected)?;
    // First the stream, then the list: nothing that changes in between is missed.
    let mut events = api.send_authorized("GET", "/events", Bytes::new()).await.map_err(refused)?.into_body();
    *connected = true;
    let printed = |ask: &Value| {
        write_request_line(gateway.json, ask).map_err(|error| StreamEnd::Rejected(error.to_string()))
    };
    let waiting =
        api.request_json("GET", "/asks?state=pending&limit=1000", Bytes::new()).await.map_err(refused)?;
    for ask in list_items(&waiting["asks"]).iter().rev() {
        if seen.insert(format_scalar(&ask["id"])) {
            printed(ask)?;
        }
    }
    let mut text_so_far = String::new();
    while let Some(frame) = events.frame().await {
        let frame =
            frame.map_err(|error| StreamEnd::Disconnected(format!("the gateway broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        text_so_far.push_str(&String::from_utf8_lossy(&data));
        while let Some((event, rest)) = text_so_far.split_once("\n\n") {
            let id = event
                .lines()
                .find_map(|line| line.strip_prefix("data: "))
                .and_then(|data| serde_json::from_str::<Value>(data).ok())
                .and_then(|data| data["id"].as_str().map(str::to_owned));
            text_so_far = rest.to_owned();
            if let Some(id) = id {
                let path = format!("/asks/{}", path_segment(&id).map_err(StreamEnd::Rejected)?);
                let ask = api.request_json("GET", &path, Bytes::new()).await.map_err(refused)?;
                seen.insert(id);
                printed(&ask)?;
            }
        }
        if text_so_far.len() > 64 << 10 {
            return Err(StreamEnd::Rejected("the gateway's events are not events".to_owned()));
        }
    }
    Ok(())
}

fn write_request_line(json: bool, ask: &Value) -> std::io::Result<()> {
    let mut out = PipeSafeStdout;
    if json {
        let line = ask.to_string();
        let mut safe = String::with_capacity(line.len());
        for character in line.chars() {
            if durward_core::is_invisible(character) {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    // Writing to a String cannot fail.
                    let _infallible = write!(safe, "\\u{unit:04x}");
                }
            } else {
                safe.push(character);
            }
        }
        writeln!(out, "{safe}")?;
    } else {
        let needs = if ask["state"] == "pending" {
            format!("  needs {}", format_missing_votes(ask))
        } else {
            String::new()
        };
        writeln!(
            out,
            "{}  {:<9}  risk {:>3}  {}  {} {}{needs}",
            format_scalar(&ask["id"]),
            format_state(ask),
            format_scalar(&ask["risk"]["score"]),
            format_caller(ask),
            format_scalar(&ask["title"]),
            format_resources(ask),
        )?;
    }
    out.flush()
}

/// An id as it may stand in a path.
fn path_segment(id: &str) -> Result<String, String> {
    let plain_id =
        !id.is_empty() && id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if plain_id {
        Ok(id.to_owned())
    } else {
        Err(format!("`{}` is no ask's id: `durward approvals ls` lists them", escape_for_terminal(id)))
    }
}

/// The state, and what is out of the ordinary about it.
fn format_state(ask: &Value) -> String {
    let state = format_scalar(&ask["state"]);
    match (ask["break_glass"] == true, ask["window"] == true) {
        (true, _) => format!("{state} BREAK-GLASS"),
        (false, true) => format!("{state} window"),
        (false, false) => state,
    }
}

fn join_values(value: &Value) -> String {
    list_items(value).iter().map(format_scalar).collect::<Vec<_>>().join(", ")
}

fn format_caller(ask: &Value) -> String {
    let caller = &ask["what"]["caller"];
    let mut out = format!("{}/{}", format_scalar(&caller["provider"]), format_scalar(&caller["subject"]));
    let act = join_values(&caller["act"]);
    if !act.is_empty() {
        out.push_str(" for ");
        out.push_str(&act);
    }
    out
}

fn format_missing_votes(ask: &Value) -> String {
    let one = |missing: &Value| {
        format!("{} of {}", format_scalar(&missing["people"]), format_scalar(&missing["group"]))
    };
    match list_items(&ask["missing"]) {
        [] => "nobody".to_owned(),
        missing => missing.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}

/// A resource in the notation of core.
fn format_resource(value: &Value) -> String {
    match serde_json::from_value::<durward_core::Resource>(value.clone()) {
        Ok(resource) => escape_for_terminal(&resource.to_text()),
        Err(_newer) => format_scalar(value),
    }
}

/// The distinct resources; the first three of many.
fn format_resources(ask: &Value) -> String {
    let mut names: Vec<String> = Vec::new();
    for demand in list_items(&ask["what"]["operation"]["demands"]) {
        let name = format_resource(&demand["resource"]);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let more = names.len().saturating_sub(3);
    names.truncate(3);
    let listed = names.join(", ");
    if more > 0 { format!("{listed} and {more} more") } else { listed }
}

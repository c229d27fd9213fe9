//! `durward approvals ls|show|approve|deny|watch`: the admin API for people at a terminal and for scripts.
//!
//! The answer is that of the person whose token is sent. Everything a caller could have written is shown with its control
//! and direction characters escaped. Exit codes: 0 done, 1 refused or not found, 2 usage.

use crate::admin_api::{Api, Failure, Gateway, encoded, items, print, text};
use crate::journal_commands::text::{moment, plain, write_table};
use crate::output::Stdout;
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
const PAUSE: Duration = Duration::from_secs(2);

#[derive(Subcommand)]
pub enum ApprovalCommand {
    /// List asks, newest first
    Ls {
        /// pending, approved, denied, timed_out, used, expired, damaged (several with commas), or all
        #[arg(long, default_value = "pending", value_name = "STATES")]
        state: String,
        /// The windows that are open: who may do what until when without asking, how often it was done, who opened them
        #[arg(long, conflicts_with = "state")]
        windows: bool,
        /// Only those of this caller, as <provider>/<subject>
        #[arg(long)]
        caller: Option<String>,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Show one ask with all that is known about it
    Show {
        /// The ask's id
        id: String,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Approve an ask: exactly this operation, once
    Approve {
        /// The ask's id
        id: String,
        /// Approve every such operation of this caller for so long (15m, 2h)
        #[arg(long = "for", value_name = "TIME", value_parser = duration, conflicts_with = "break_glass")]
        window: Option<Duration>,
        /// Go past the quorum as a member of the break-glass group
        #[arg(long, requires = "reason")]
        break_glass: bool,
        /// Why; for the record
        #[arg(long, requires = "break_glass")]
        reason: Option<String>,
        #[command(flatten)]
        gateway: Gateway,
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
        gateway: Gateway,
    },
    /// Print what waits, then every ask that changes, until stopped
    Watch {
        #[command(flatten)]
        gateway: Gateway,
    },
}

fn duration(text: &str) -> Result<Duration, String> {
    durward_core::parse_duration(text).ok_or_else(|| "write a number and s, m, h or d, as in 30m".to_owned())
}

pub async fn run(command: &ApprovalCommand) -> Result<u8, String> {
    match command {
        ApprovalCommand::Ls { windows: true, caller, gateway, .. } => {
            list_windows(gateway, caller.as_deref()).await
        }
        ApprovalCommand::Ls { state, caller, gateway, .. } => ls(gateway, state, caller.as_deref()).await,
        ApprovalCommand::Show { id, gateway } => {
            let api = Api::new(gateway)?;
            let ask = api.get(&format!("/asks/{}", segment(id)?)).await?;
            print(gateway.json, &ask, |out| show(&ask, out))
        }
        ApprovalCommand::Approve { id, window, break_glass, reason, gateway } => {
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
            answer_with(gateway, id, &answer).await
        }
        ApprovalCommand::Deny { id, reason, gateway } => {
            answer_with(gateway, id, &json!({"answer": "deny", "reason": reason})).await
        }
        ApprovalCommand::Watch { gateway } => watch(gateway).await,
    }
}

async fn ls(gateway: &Gateway, state: &str, caller: Option<&str>) -> Result<u8, String> {
    let mut path = format!("/asks?state={}", encoded(state));
    if let Some(caller) = caller {
        path = format!("{path}&caller={}", encoded(caller));
    }
    let listed = Api::new(gateway)?.get(&path).await?;
    print(gateway.json, &listed, |out| {
        let asks = listed["asks"].as_array().map(Vec::as_slice).unwrap_or_default();
        if asks.is_empty() {
            return writeln!(out, "no asks");
        }
        let head = ["ASK", "STATE", "RISK", "ANSWER BY", "CALLER", "OPERATION", "RESOURCE", "NEEDS"];
        let row = |ask: &Value| {
            [
                text(&ask["id"]),
                state_of(ask),
                text(&ask["risk"]["score"]),
                moment(ask["deadline"].as_str()),
                caller_of(ask),
                text(&ask["title"]),
                resources(ask),
                needs(ask),
            ]
        };
        let rows: Vec<_> = std::iter::once(head.map(str::to_owned)).chain(asks.iter().map(row)).collect();
        write_table(&rows, out)
    })
}

/// What passes now without anybody being asked.
async fn list_windows(gateway: &Gateway, caller: Option<&str>) -> Result<u8, String> {
    let mut path = "/asks?state=approved&limit=1000".to_owned();
    if let Some(caller) = caller {
        path = format!("{path}&caller={}", encoded(caller));
    }
    let mut listed = Api::new(gateway)?.get(&path).await?;
    if let Some(asks) = listed["asks"].as_array_mut() {
        asks.retain(|ask| ask["window"] == true);
    }
    print(gateway.json, &listed, |out| {
        let asks = items(&listed["asks"]);
        if asks.is_empty() {
            return writeln!(out, "no open windows");
        }
        let head = ["ASK", "OPEN UNTIL", "USED", "CALLER", "OPERATION", "RESOURCE", "OPENED BY"];
        let row = |ask: &Value| {
            let openers = items(&ask["votes"]).iter().filter(|vote| vote["approve"] == true);
            let openers: Vec<String> = openers.map(|vote| text(&vote["by"]["id"])).collect();
            [
                text(&ask["id"]),
                moment(ask["grant_until"].as_str()),
                text(&ask["uses"]),
                caller_of(ask),
                text(&ask["title"]),
                resources(ask),
                openers.join(", "),
            ]
        };
        let rows: Vec<_> = std::iter::once(head.map(str::to_owned)).chain(asks.iter().map(row)).collect();
        write_table(&rows, out)
    })
}

async fn answer_with(gateway: &Gateway, id: &str, answer: &Value) -> Result<u8, String> {
    let api = Api::new(gateway)?;
    let ask = api.post(&format!("/asks/{}/answer", segment(id)?), answer).await?;
    print(gateway.json, &ask, |out| {
        writeln!(out, "{}  {}  {}", text(&ask["id"]), state_of(&ask), text(&ask["title"]))?;
        let until = moment(ask["grant_until"].as_str());
        match (ask["state"].as_str(), answer["until"].as_str(), ask["window"] == true) {
            (Some("pending"), Some(wanted), _) => writeln!(
                out,
                "your answer is recorded, for a window until {}; still needed: {}",
                moment(Some(wanted)),
                needs(&ask)
            ),
            (Some("pending"), None, _) => {
                writeln!(out, "your answer is recorded; still needed: {}", needs(&ask))
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

pub(crate) fn show(ask: &Value, out: &mut dyn Write) -> std::io::Result<()> {
    let what = &ask["what"];
    let operation = &what["operation"];
    let mut line = |name: &str, value: &str| {
        if value.is_empty() { Ok(()) } else { writeln!(out, "{name:<15}{value}") }
    };
    line("ask", &text(&ask["id"]))?;
    line("state", &text(&ask["state"]))?;
    for vote in items(&ask["votes"]).iter().filter(|vote| vote["break_glass"] == true) {
        let reason = plain(vote["reason"].as_str().unwrap_or_default());
        line("BREAK-GLASS", &format!("by {}: {reason}", text(&vote["by"]["id"])))?;
    }
    line("operation", &text(&ask["title"]))?;
    for demand in items(&operation["demands"]) {
        let resource = resource(&demand["resource"]);
        line(
            "  action",
            &format!("{} on {resource} ({})", text(&demand["action"]), text(&demand["access_level"])),
        )?;
    }
    for (resource, tags) in what["tags"].as_object().into_iter().flatten() {
        let tag = |(key, value): (&String, &Value)| format!("{}={}", plain(key), text(value));
        let tags: Vec<String> = tags.as_object().into_iter().flatten().map(tag).collect();
        let tags = if tags.is_empty() { "none".to_owned() } else { tags.join(", ") };
        line("  tags", &format!("{tags} on {}", plain(resource)))?;
    }
    line("account", &text(&operation["account"]))?;
    line("region", &text(&operation["region"]))?;
    for (name, value) in operation["parameters"].as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        line("  parameter", &format!("{} = {}", plain(name), plain(&value)))?;
    }
    for part in items(&operation["uninspected"]) {
        line("NOT INSPECTED", &text(part))?;
    }
    line("risk", &format!("{} of 100", text(&ask["risk"]["score"])))?;
    for reason in items(&ask["risk"]["reasons"]) {
        line("  because", &text(reason))?;
    }
    line("caller", &caller_of(ask))?;
    line("groups", &words(&what["caller"]["groups"]))?;
    line("connection", &text(&what["connection"]))?;
    line("from", &text(&what["source_address"]))?;
    if let Some(agent) = what["user_agent"].as_str() {
        line("agent says", &format!("\"{}\" (its own words)", plain(agent)))?;
    }
    line("session", &text(&what["session"]))?;
    let times = match ask["attempts"].as_u64() {
        Some(2..) => format!(", {} times", text(&ask["attempts"])),
        _ => String::new(),
    };
    line("asked", &format!("{}{times}", moment(ask["created"].as_str())))?;
    line("answer by", &moment(ask["deadline"].as_str()))?;
    let until = moment(ask["grant_until"].as_str());
    if ask["window"] == true {
        let uses = if ask["uses"] == 1 { "once".to_owned() } else { format!("{} times", text(&ask["uses"])) };
        let end = if ask["grant_until"].is_string() { until } else { "it was closed".to_owned() };
        line("approved for", &format!("a window until {end}, used {uses}"))?;
        line("", "  this caller, these actions, these resources, any parameters")?;
    } else if ask["grant_until"].is_string() {
        line("good until", &format!("{until}, once"))?;
    }
    line("policy says", &text(&what["reason"]))?;
    for one in items(&what["requirements"]) {
        line(
            "  lifted by",
            &format!("{} of {} (policy {})", text(&one["quorum"]), text(&one["group"]), text(&one["policy"])),
        )?;
    }
    let past = if ask["break_glass"] == true { ", by break-glass" } else { "" };
    line("still needed", &format!("{}{past}", needs(ask)))?;
    for vote in items(&ask["votes"]) {
        let did = if vote["approve"] != true {
            "denied".to_owned()
        } else if vote["break_glass"] == true {
            "BROKE THE GLASS".to_owned()
        } else if vote["window"].is_string() {
            format!("approved a window until {},", moment(vote["window"].as_str()))
        } else {
            "approved once".to_owned()
        };
        let reason = vote["reason"].as_str().map(|reason| format!(": {}", plain(reason))).unwrap_or_default();
        line(
            "answer",
            &format!("{} {did} {}{reason}", text(&vote["by"]["id"]), moment(vote["at"].as_str())),
        )?;
    }
    line("digest", &text(&what["digest"]))?;
    line(
        "you",
        &if ask["you"]["may_approve"] == true {
            "may approve it".to_owned()
        } else {
            text(&ask["you"]["why_not"])
        },
    )
}

async fn watch(gateway: &Gateway) -> Result<u8, String> {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut connected = false;
    loop {
        match listen(gateway, &mut seen, &mut connected).await {
            Ok(()) => {}
            Err(Ended::Refused(why)) => return Err(why),
            Err(Ended::Lost(why)) if !connected => return Err(why),
            Err(Ended::Lost(why)) => tracing::warn!("{why}; trying again"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Why listening ended.
enum Ended {
    Refused(String),
    Lost(String),
}

/// Prints what waits and was not printed, then what changes, until the stream ends.
async fn listen(gateway: &Gateway, seen: &mut BTreeSet<String>, connected: &mut bool) -> Result<(), Ended> {
    let refused = |failure: Failure| match failure {
        Failure::Answer(why) => Ended::Refused(why),
        Failure::Way(why) => Ended::Lost(why),
    };
    let api = Api::new(gateway).map_err(Ended::Refused)?;
    // First the stream, then the list: nothing that changes in between is missed.
    let mut events = api.send("GET", "/events", Bytes::new()).await.map_err(refused)?.into_body();
    *connected = true;
    let printed =
        |ask: &Value| one_line(gateway.json, ask).map_err(|error| Ended::Refused(error.to_string()));
    let waiting = api.call("GET", "/asks?state=pending&limit=1000", Bytes::new()).await.map_err(refused)?;
    for ask in items(&waiting["asks"]).iter().rev() {
        if seen.insert(text(&ask["id"])) {
            printed(ask)?;
        }
    }
    let mut text_so_far = String::new();
    while let Some(frame) = events.frame().await {
        let frame = frame.map_err(|error| Ended::Lost(format!("the gateway broke off: {error}")))?;
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
                let path = format!("/asks/{}", segment(&id).map_err(Ended::Refused)?);
                let ask = api.call("GET", &path, Bytes::new()).await.map_err(refused)?;
                seen.insert(id);
                printed(&ask)?;
            }
        }
        if text_so_far.len() > 64 << 10 {
            return Err(Ended::Refused("the gateway's events are not events".to_owned()));
        }
    }
    Ok(())
}

fn one_line(json: bool, ask: &Value) -> std::io::Result<()> {
    let mut out = Stdout;
    if json {
        let line = ask.to_string();
        let mut safe = String::with_capacity(line.len());
        for character in line.chars() {
            if durward_core::is_hidden(character) {
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
        let needs = if ask["state"] == "pending" { format!("  needs {}", needs(ask)) } else { String::new() };
        writeln!(
            out,
            "{}  {:<9}  risk {:>3}  {}  {} {}{needs}",
            text(&ask["id"]),
            state_of(ask),
            text(&ask["risk"]["score"]),
            caller_of(ask),
            text(&ask["title"]),
            resources(ask),
        )?;
    }
    out.flush()
}

/// An id as it may stand in a path.
fn segment(id: &str) -> Result<String, String> {
    let plain_id =
        !id.is_empty() && id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if plain_id {
        Ok(id.to_owned())
    } else {
        Err(format!("`{}` is no ask's id: `durward approvals ls` lists them", plain(id)))
    }
}

/// The state, and what is out of the ordinary about it.
fn state_of(ask: &Value) -> String {
    let state = text(&ask["state"]);
    match (ask["break_glass"] == true, ask["window"] == true) {
        (true, _) => format!("{state} BREAK-GLASS"),
        (false, true) => format!("{state} window"),
        (false, false) => state,
    }
}

fn words(value: &Value) -> String {
    items(value).iter().map(text).collect::<Vec<_>>().join(", ")
}

fn caller_of(ask: &Value) -> String {
    let caller = &ask["what"]["caller"];
    let mut out = format!("{}/{}", text(&caller["provider"]), text(&caller["subject"]));
    let act = words(&caller["act"]);
    if !act.is_empty() {
        out.push_str(" for ");
        out.push_str(&act);
    }
    out
}

fn needs(ask: &Value) -> String {
    let one = |missing: &Value| format!("{} of {}", text(&missing["people"]), text(&missing["group"]));
    match items(&ask["missing"]) {
        [] => "nobody".to_owned(),
        missing => missing.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}

/// A resource in the notation of core.
fn resource(value: &Value) -> String {
    match serde_json::from_value::<durward_core::Resource>(value.clone()) {
        Ok(resource) => plain(&resource.as_text()),
        Err(_newer) => text(value),
    }
}

/// The distinct resources; the first three of many.
fn resources(ask: &Value) -> String {
    let mut names: Vec<String> = Vec::new();
    for demand in items(&ask["what"]["operation"]["demands"]) {
        let name = resource(&demand["resource"]);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let more = names.len().saturating_sub(3);
    names.truncate(3);
    let listed = names.join(", ");
    if more > 0 { format!("{listed} and {more} more") } else { listed }
}

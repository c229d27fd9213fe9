//! `durward approvals show`: an approval request in full.

use super::request_summary::{
    describe_resource, format_broad_grants, format_missing_votes, format_operation, format_request_caller,
};
use crate::json_values::{format_scalar, list_items};
use crate::terminal_text::{TERMINAL_COLUMNS, escape_for_terminal, format_time};
use durward_core::DocumentText;
use serde_json::Value;
use std::io::{self, Write};

/// Most characters of one document that are printed.
const MAX_DOCUMENT_CHARS: usize = 64_000;
/// Characters of a document on one line: what a terminal shows after the bar.
const DOCUMENT_COLUMNS: usize = TERMINAL_COLUMNS - 6;

/// Writes labelled lines. A line without a value is left out.
struct LabelledLines<'a>(&'a mut dyn Write);

impl LabelledLines<'_> {
    fn write(&mut self, label: &str, value: &str) -> io::Result<()> {
        if value.is_empty() { Ok(()) } else { writeln!(self.0, "{label:<15}{value}") }
    }
}

/// Writes everything an approver needs to decide. What is dangerous or unknown is marked in capitals.
pub fn write_request_details(request: &Value, out: &mut dyn Write) -> io::Result<()> {
    let mut lines = LabelledLines(out);
    lines.write("request", &format_scalar(&request["id"]))?;
    lines.write("state", &format_scalar(&request["state"]))?;
    for vote in list_items(&request["votes"]).iter().filter(|vote| vote["break_glass"] == true) {
        let reason = escape_for_terminal(vote["reason"].as_str().unwrap_or_default());
        lines.write("BREAK-GLASS", &format!("by {}: {reason}", format_scalar(&vote["by"]["id"])))?;
    }
    let operation = &request["details"]["operation"];
    lines.write("operation", &format_operation(request))?;
    lines.write("risk", &format!("{} of 100", format_scalar(&request["risk"]["score"])))?;
    for grant in format_broad_grants(request) {
        lines.write("BROAD GRANT", &grant)?;
    }
    if operation["traits"]["irreversible"] == true {
        lines.write("IRREVERSIBLE", "this cannot be undone")?;
    }
    for part in list_items(&operation["uninspected_parts"]) {
        lines.write("NOT INSPECTED", &format_scalar(part))?;
    }
    if request["state"] == "pending" {
        let is_waiting = request["caller_is_waiting"] == true;
        lines.write(
            "waiting",
            if is_waiting { "yes: it runs at once if it is approved" } else { "no caller, at this gateway" },
        )?;
    }
    write_operation(request, &mut lines)?;
    for reason in list_items(&request["risk"]["reasons"]) {
        lines.write("  because", &format_scalar(reason))?;
    }
    write_origin(request, &mut lines)?;
    write_grant(request, &mut lines)?;
    write_requirements(request, &mut lines)?;
    for vote in list_items(&request["votes"]) {
        lines.write("vote", &format_vote(vote))?;
    }
    lines.write("digest", &format_scalar(&request["details"]["digest"]))?;
    let you = if request["voter"]["may_approve"] == true {
        "may approve it".to_owned()
    } else {
        format_scalar(&request["voter"]["refusal"])
    };
    lines.write("you", &you)
}

fn write_operation(request: &Value, lines: &mut LabelledLines<'_>) -> io::Result<()> {
    let details = &request["details"];
    let operation = &details["operation"];
    for permission in list_items(&operation["required_permissions"]) {
        let (action, resource) =
            (format_scalar(&permission["action"]), describe_resource(&permission["resource"]));
        let access_level = format_scalar(&permission["access_level"]);
        lines.write("  action", &format!("{action} on {resource} ({access_level})"))?;
    }
    for (resource, tags) in details["tags"].as_object().into_iter().flatten() {
        let tags: Vec<String> = tags
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| format!("{}={}", escape_for_terminal(key), format_scalar(value)))
            .collect();
        let tags = if tags.is_empty() { "none".to_owned() } else { tags.join(", ") };
        lines.write("  tags", &format!("{tags} on {}", escape_for_terminal(resource)))?;
    }
    lines.write("account", &format_scalar(&operation["account"]))?;
    lines.write("region", &format_scalar(&operation["region"]))?;
    for (name, value) in operation["parameters"].as_object().into_iter().flatten() {
        write_parameter(name, value, lines)?;
    }
    Ok(())
}

/// Writes a parameter on one line, or as a block below its name if it is a document or has several lines.
fn write_parameter(name: &str, value: &Value, lines: &mut LabelledLines<'_>) -> io::Result<()> {
    if let Some(document) = value.as_str().and_then(DocumentText::from_text) {
        return write_document(name, &document, lines);
    }
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let parameter = format!("{} = {}", escape_for_terminal(name), escape_for_terminal(&text));
    lines.write("  parameter", &parameter)?;
    write_inner_documents(name, value, lines)
}

/// Writes the documents within a parameter that is not a string.
fn write_inner_documents(path: &str, value: &Value, lines: &mut LabelledLines<'_>) -> io::Result<()> {
    let write_inner = |path: &str, value: &Value, lines: &mut LabelledLines<'_>| match value
        .as_str()
        .and_then(DocumentText::from_text)
    {
        Some(document) => write_document(path, &document, lines),
        None => write_inner_documents(path, value, lines),
    };
    for (index, item) in list_items(value).iter().enumerate() {
        write_inner(&format!("{path}/{index}"), item, lines)?;
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        write_inner(&format!("{path}/{name}"), member, lines)?;
    }
    Ok(())
}

/// Every line of the block begins with a bar, also where a long line is broken: no line of a caller looks like one of ours.
fn write_document(name: &str, document: &DocumentText, lines: &mut LabelledLines<'_>) -> io::Result<()> {
    lines.write("  parameter", &format!("{} ({})", escape_for_terminal(name), document.label()))?;
    let mut shown_chars = 0;
    for line in document.text().split('\n') {
        let line: Vec<char> = escape_for_terminal(&line.replace('\t', "    ")).chars().collect();
        let is_empty = line.is_empty();
        for part in line.chunks(DOCUMENT_COLUMNS).chain(is_empty.then_some(&[][..])) {
            if shown_chars > MAX_DOCUMENT_CHARS {
                return lines.write("NOT SHOWN", "the rest of this document; --json prints all of it");
            }
            shown_chars += part.len() + 1;
            writeln!(lines.0, "    | {}", part.iter().collect::<String>())?;
        }
    }
    Ok(())
}

/// Writes who sent the request, from where and when.
fn write_origin(request: &Value, lines: &mut LabelledLines<'_>) -> io::Result<()> {
    let details = &request["details"];
    lines.write("caller", &format_request_caller(request))?;
    let groups: Vec<String> = list_items(&details["caller"]["groups"]).iter().map(format_scalar).collect();
    lines.write("groups", &groups.join(", "))?;
    lines.write("connection", &format_scalar(&details["connection"]))?;
    lines.write("from", &format_scalar(&details["source_address"]))?;
    if let Some(agent) = details["user_agent"].as_str() {
        // The only text here that the caller chooses freely: an approver must not take it for the gateway's.
        lines.write("user agent", &format!("\"{}\" (the caller's own words)", escape_for_terminal(agent)))?;
    }
    lines.write("session", &format_scalar(&details["session"]))?;
    let attempts = match request["attempts"].as_u64() {
        Some(count @ 2..) => format!(", {count} times"),
        _ => String::new(),
    };
    lines.write("requested", &format!("{}{attempts}", format_time(request["created"].as_str())))?;
    lines.write("deadline", &format_time(request["deadline"].as_str()))
}

fn write_grant(request: &Value, lines: &mut LabelledLines<'_>) -> io::Result<()> {
    let until = request["grant_until"].as_str().map(|until| format_time(Some(until)));
    if request["time_bound"] == true {
        let uses = if request["uses"] == 1 {
            "once".to_owned()
        } else {
            format!("{} times", format_scalar(&request["uses"]))
        };
        let grant = match until {
            Some(until) => format!("time-bound grant until {until}, used {uses}"),
            None => format!("time-bound grant, revoked, used {uses}"),
        };
        lines.write("approved for", &grant)?;
        return lines.write("", "  this caller, these actions, these resources, any parameters");
    }
    match until {
        Some(until) => lines.write("valid until", &format!("{until}, once")),
        None => Ok(()),
    }
}

fn write_requirements(request: &Value, lines: &mut LabelledLines<'_>) -> io::Result<()> {
    let details = &request["details"];
    lines.write("reason", &format_scalar(&details["reason"]))?;
    for requirement in list_items(&details["requirements"]) {
        let (quorum, group) = (format_scalar(&requirement["quorum"]), format_scalar(&requirement["group"]));
        let policy = format_scalar(&requirement["policy"]);
        lines.write("  requires", &format!("{quorum} of {group} (policy {policy})"))?;
    }
    let missing = format_missing_votes(request);
    let missing = if missing.is_empty() { "none".to_owned() } else { missing };
    let overridden = if request["break_glass"] == true { ", overridden by break-glass" } else { "" };
    lines.write("missing votes", &format!("{missing}{overridden}"))
}

fn format_vote(vote: &Value) -> String {
    let choice = if vote["is_approval"] != true {
        "denied".to_owned()
    } else if vote["break_glass"] == true {
        "BREAK-GLASS".to_owned()
    } else if vote["time_bound_until"].is_string() {
        format!("approved until {},", format_time(vote["time_bound_until"].as_str()))
    } else {
        "approved once".to_owned()
    };
    let reason = vote["reason"].as_str().map(|reason| format!(": {}", escape_for_terminal(reason)));
    format!(
        "{} {choice} {}{}",
        format_scalar(&vote["by"]["id"]),
        format_time(vote["at"].as_str()),
        reason.unwrap_or_default()
    )
}

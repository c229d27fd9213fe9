//! Messages for Slack-compatible incoming webhooks: `blocks` for Slack, `text` with the same words for those that know only that.
//!
//! Whatever somebody else wrote stands in a code span, with `&`, `<`, `>` and the backtick escaped: nothing in it is a mention, a
//! link or a style, in Slack or in those that read Markdown.

use crate::NotificationEvent;
use crate::request_summary::{BatchSummary, RequestSummary};
use serde_json::{Value, json};

/// Characters of one section (Slack's limit is 3,000).
const MAX_SECTION_CHARS: usize = 2_800;

fn escape_mrkdwn(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Somebody else's text.
fn code_span(text: &str) -> String {
    format!("`{}`", escape_mrkdwn(&text.replace('`', "\\u{60}")))
}

/// A sentence, which is somebody else's text unless it has nothing that any reader could take for more. The gateway names
/// policies in backticks: within a code span they would be escaped beyond reading.
fn plain_or_code(text: &str) -> String {
    let text = &text.replace('`', "'");
    let plain = |character: char| character.is_ascii_alphanumeric() || " ,'()-+%;".contains(character);
    if text.chars().all(plain) { text.to_owned() } else { code_span(text) }
}

fn format_link(url: &str, text: &str) -> String {
    format!("<{}|{text}>", escape_mrkdwn(url))
}

pub(crate) fn render_request(brief: &RequestSummary) -> Value {
    let mut first = brief.format_headline(code_span);
    if brief.event == NotificationEvent::BreakGlass {
        first = format!(":rotating_light: {first}");
    }
    let mut lines = vec![
        first,
        format_link(
            &brief.url,
            if brief.event == NotificationEvent::Opened { "Look and answer" } else { "Look at it" },
        ),
    ];
    if !brief.uninspected_parts.is_empty() {
        let parts: Vec<String> = brief.uninspected_parts.iter().map(|part| code_span(part)).collect();
        lines.push(format!(":warning: *Not inspected*, nobody can say what is in it: {}", parts.join(", ")));
    }
    if let Some(outcome) = brief.outcome.as_ref().filter(|outcome| !outcome.note.is_empty()) {
        lines.push(format!("*{}*: {}", outcome.label, plain_or_code(&outcome.note)));
    }
    for (action, resource) in &brief.required_permissions {
        lines.push(format!("• {} on {}", code_span(action), code_span(resource)));
    }
    if brief.unlisted_permissions > 0 {
        lines.push(format!("• and {} more", brief.unlisted_permissions));
    }
    if !brief.tags.is_empty() {
        let tags: Vec<String> = brief.tags.iter().map(|tag| code_span(tag)).collect();
        lines.push(format!("*Tags* {}", tags.join(" ")));
    }
    let mut place = Vec::new();
    for (what, text) in [("Account", &brief.account), ("Region", &brief.region)] {
        if let Some(text) = text {
            place.push(format!("*{what}* {}", code_span(text)));
        }
    }
    place.push(format!("*Connection* {}", code_span(&brief.connection)));
    lines.push(place.join(" · "));
    let mut who = format!("*Asked by* {}, {}", code_span(&brief.caller), brief.caller_kind);
    if !brief.on_behalf_of.is_empty() {
        let behalf: Vec<String> = brief.on_behalf_of.iter().map(|one| code_span(one)).collect();
        who = format!("{who}, on behalf of {}", behalf.join(", "));
    }
    lines.push(who);
    let reasons: Vec<String> = brief.risk_reasons.iter().map(|reason| plain_or_code(reason)).collect();
    lines.push(format!("*Risk* {} of 100, {}: {}", brief.risk_score, brief.risk_level(), reasons.join("; ")));
    for one in &brief.requirements {
        lines.push(format!(
            "*Policy* {} asks {} of {}",
            code_span(&one.policy),
            one.quorum,
            code_span(&one.group)
        ));
    }
    if !brief.policy_reason.is_empty() {
        lines.push(format!("*Policy says* {}", plain_or_code(&brief.policy_reason)));
    }
    if brief.event == NotificationEvent::Opened {
        lines.push(format!("*Until* {} ({}), {}", brief.deadline, brief.time_left, brief.timeout_effect));
    }
    build_message(&lines, "Opening the link decides nothing.")
}

pub(crate) fn render_batch(summary: &BatchSummary) -> Value {
    let mut lines = vec![summary.headline(), format_link(&summary.queue_url, "See all of them")];
    let (listed, more) = summary.listed_requests();
    for gist in listed {
        lines.push(format!("• {} {}", code_span(&gist.headline), format_link(&gist.url, "open")));
    }
    if more > 0 {
        lines.push(format!("• and {more} more"));
    }
    build_message(&lines, "There were too many for a message each.")
}

/// The first line stands by itself; the rest fills as many sections as it needs.
fn build_message(lines: &[String], note: &str) -> Value {
    let section =
        |text: &str| json!({"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": true}});
    let (first, rest) = lines.split_at(1.min(lines.len()));
    let mut blocks: Vec<Value> = first.iter().map(|line| section(line)).collect();
    let mut text = String::new();
    for line in rest {
        if !text.is_empty() && text.chars().count() + line.chars().count() >= MAX_SECTION_CHARS {
            blocks.push(section(&std::mem::take(&mut text)));
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text += line;
    }
    blocks.push(section(&text));
    blocks.push(json!({"type": "context", "elements": [{"type": "mrkdwn", "text": note, "verbatim": true}]}));
    json!({"text": lines.join("\n"), "blocks": blocks})
}

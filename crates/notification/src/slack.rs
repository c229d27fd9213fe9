//! Messages for Slack-compatible incoming webhooks: `blocks` for Slack, `text` with the same words for those that know only that.
//!
//! Whatever somebody else wrote stands in a code span, with `&`, `<`, `>` and the backtick escaped: nothing in it is a mention, a
//! link or a style, in Slack or in those that read Markdown.

use crate::Event;
use crate::brief::{Brief, Summary};
use serde_json::{Value, json};

/// Characters of one section (Slack's limit is 3,000).
const SECTION: usize = 2_800;

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Somebody else's text.
fn code(text: &str) -> String {
    format!("`{}`", escape(&text.replace('`', "\\u{60}")))
}

/// A sentence, which is somebody else's text unless it has nothing that any reader could take for more. The gateway names
/// policies in backticks: within a code span they would be escaped beyond reading.
fn words(text: &str) -> String {
    let text = &text.replace('`', "'");
    let plain = |character: char| character.is_ascii_alphanumeric() || " ,'()-+%;".contains(character);
    if text.chars().all(plain) { text.to_owned() } else { code(text) }
}

fn link(url: &str, text: &str) -> String {
    format!("<{}|{text}>", escape(url))
}

pub(crate) fn render(brief: &Brief) -> Value {
    let mut first = brief.line(code);
    if brief.event == Event::BreakGlass {
        first = format!(":rotating_light: {first}");
    }
    let mut lines = vec![
        first,
        link(&brief.url, if brief.event == Event::Opened { "Look and answer" } else { "Look at it" }),
    ];
    if !brief.uninspected.is_empty() {
        let parts: Vec<String> = brief.uninspected.iter().map(|part| code(part)).collect();
        lines.push(format!(":warning: *Not inspected*, nobody can say what is in it: {}", parts.join(", ")));
    }
    if let Some(outcome) = brief.outcome.as_ref().filter(|outcome| !outcome.note.is_empty()) {
        lines.push(format!("*{}*: {}", outcome.word, words(&outcome.note)));
    }
    for (action, resource) in &brief.demands {
        lines.push(format!("• {} on {}", code(action), code(resource)));
    }
    if brief.more > 0 {
        lines.push(format!("• and {} more", brief.more));
    }
    if !brief.tags.is_empty() {
        let tags: Vec<String> = brief.tags.iter().map(|tag| code(tag)).collect();
        lines.push(format!("*Tags* {}", tags.join(" ")));
    }
    let mut place = Vec::new();
    for (what, text) in [("Account", &brief.account), ("Region", &brief.region)] {
        if let Some(text) = text {
            place.push(format!("*{what}* {}", code(text)));
        }
    }
    place.push(format!("*Connection* {}", code(&brief.connection)));
    lines.push(place.join(" · "));
    let mut who = format!("*Asked by* {}, {}", code(&brief.caller), brief.kind);
    if !brief.behalf.is_empty() {
        let behalf: Vec<String> = brief.behalf.iter().map(|one| code(one)).collect();
        who = format!("{who}, on behalf of {}", behalf.join(", "));
    }
    lines.push(who);
    let reasons: Vec<String> = brief.reasons.iter().map(|reason| words(reason)).collect();
    lines.push(format!("*Risk* {} of 100, {}: {}", brief.risk, brief.risk_word(), reasons.join("; ")));
    for one in &brief.required {
        lines.push(format!("*Policy* {} asks {} of {}", code(&one.policy), one.people, code(&one.group)));
    }
    if !brief.reason.is_empty() {
        lines.push(format!("*Policy says* {}", words(&brief.reason)));
    }
    if brief.event == Event::Opened {
        lines.push(format!("*Until* {} ({}), {}", brief.until, brief.left, brief.then));
    }
    message(&lines, "Opening the link decides nothing.")
}

pub(crate) fn render_summary(summary: &Summary) -> Value {
    let mut lines = vec![summary.headline(), link(&summary.url, "See all of them")];
    let (listed, more) = summary.listed();
    for gist in listed {
        lines.push(format!("• {} {}", code(&gist.headline), link(&gist.url, "open")));
    }
    if more > 0 {
        lines.push(format!("• and {more} more"));
    }
    message(&lines, "There were too many for a message each.")
}

/// The first line stands by itself; the rest fills as many sections as it needs.
fn message(lines: &[String], note: &str) -> Value {
    let section =
        |text: &str| json!({"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": true}});
    let (first, rest) = lines.split_at(1.min(lines.len()));
    let mut blocks: Vec<Value> = first.iter().map(|line| section(line)).collect();
    let mut text = String::new();
    for line in rest {
        if !text.is_empty() && text.chars().count() + line.chars().count() >= SECTION {
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

//! Messages for Slack-compatible incoming webhooks: `blocks` for Slack, `text` with the same words for receivers that know only
//! that.
//!
//! Two promises. Text of others is in a code span with `&`, `<`, `>` and the backtick escaped, so that nothing in it is a
//! mention, a link or a style, in Slack or in receivers that read Markdown. And no text of others makes Slack refuse the message:
//! every text is cut after it is escaped, and long lists are wrapped.

use crate::NotificationEvent;
use crate::request_summary::{
    BROAD_GRANT_HEADING, BatchSummary, LINK_NOTE, RequestSummary, UNINSPECTED_WARNING,
};
use serde_json::{Value, json};

/// Characters of one section. Slack refuses a message with a section of more than 3,000 as `invalid_blocks` (Slack API, "Section
/// block"), so that a caller who could choose the text of one would silence the channel.
const MAX_SECTION_CHARS: usize = 2_800;
/// Characters at which a list begins a new line.
const MAX_LIST_LINE_CHARS: usize = 1_200;
/// Characters of one text of others after it is escaped. Escaping makes it up to six times longer. With this the longest message
/// fits into a Mattermost post too (16,383 characters).
const MAX_SPAN_CHARS: usize = 240;
/// Characters of one headline in a batch after it is escaped.
const MAX_HEADLINE_SPAN_CHARS: usize = 600;

/// The `mrkdwn` of one character of others. Slack reads `&`, `<` and `>` as control characters (Slack API, "Escaping text"). A
/// backtick would end the code span.
fn escape_character(character: char) -> String {
    match character {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '`' => "\\u{60}".to_owned(),
        other => other.to_string(),
    }
}

/// The escaped text, without its middle if it is longer than `max_chars`. No escape sequence is cut in two.
fn escape_and_cut(text: &str, max_chars: usize) -> String {
    let escaped: Vec<String> = text.chars().map(escape_character).collect();
    let length: usize = escaped.iter().map(|part| part.chars().count()).sum();
    if length <= max_chars {
        return escaped.concat();
    }
    let fitting = |parts: &mut dyn Iterator<Item = &String>, budget: usize| {
        let mut used = 0;
        parts
            .take_while(|part| {
                used += part.chars().count();
                used <= budget
            })
            .count()
    };
    let tail_chars = max_chars / 3;
    let head = fitting(&mut escaped.iter(), max_chars - tail_chars - 3);
    let tail = fitting(&mut escaped.iter().rev(), tail_chars);
    let (head, tail) = (escaped.iter().take(head), escaped.iter().skip(escaped.len() - tail));
    head.map(String::as_str).chain(["..."]).chain(tail.map(String::as_str)).collect()
}

fn code_span_within(text: &str, max_chars: usize) -> String {
    // Two backticks with nothing between them are no code span, but may open one that swallows what follows.
    let text = if text.is_empty() { "(empty)" } else { text };
    format!("`{}`", escape_and_cut(text, max_chars))
}

/// Text of others.
fn code_span(text: &str) -> String {
    code_span_within(text, MAX_SPAN_CHARS)
}

/// A sentence. It is text of others unless it consists of characters that mean nothing to any receiver. The gateway's own
/// sentences name policies in backticks: those become quotes.
fn plain_or_code(text: &str) -> String {
    let text = &text.replace('`', "'");
    let is_plain = |character: char| character.is_ascii_alphanumeric() || " ,'()-+%;".contains(character);
    if text.chars().all(is_plain) && text.len() <= MAX_SPAN_CHARS { text.to_owned() } else { code_span(text) }
}

fn format_link(url: &str, label: &str) -> String {
    let url: String = url.chars().map(escape_character).collect();
    format!("<{url}|{label}>")
}

/// A list after its heading, on as many lines as it needs.
fn list_lines(heading: &str, items: &[String], separator: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = heading.to_owned();
    let mut is_first_in_line = true;
    for item in items {
        if !is_first_in_line && line.chars().count() + item.chars().count() > MAX_LIST_LINE_CHARS {
            lines.push(std::mem::take(&mut line));
            is_first_in_line = true;
        }
        if !is_first_in_line {
            line.push_str(separator);
        }
        line.push_str(item);
        is_first_in_line = false;
    }
    lines.push(line);
    lines
}

fn code_spans(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| code_span(text)).collect()
}

pub(crate) fn render_request(summary: &RequestSummary) -> Value {
    let mut headline = summary.format_headline(code_span);
    if summary.event == NotificationEvent::BreakGlass {
        headline = format!(":rotating_light: {headline}");
    }
    let mut lines = vec![headline, format_link(&summary.url, summary.link_label())];
    if !summary.broad_grants.is_empty() {
        let heading = format!(":warning: *{BROAD_GRANT_HEADING}*: ");
        lines.extend(list_lines(&heading, &code_spans(&summary.broad_grants), ", "));
    }
    if !summary.uninspected_parts.is_empty() {
        let heading = format!(":warning: *Not inspected*, {UNINSPECTED_WARNING}: ");
        lines.extend(list_lines(&heading, &code_spans(&summary.uninspected_parts), ", "));
    }
    if let Some(outcome) = summary.outcome.as_ref().filter(|outcome| !outcome.note.is_empty()) {
        lines.push(format!("*{}*: {}", outcome.label, plain_or_code(&outcome.note)));
    }
    for (action, resource) in &summary.required_permissions {
        lines.push(format!("• {} on {}", code_span(action), code_span(resource)));
    }
    if summary.unlisted_permissions > 0 {
        lines.push(format!("• and {} more", summary.unlisted_permissions));
    }
    if !summary.tags.is_empty() {
        lines.extend(list_lines("*Tags* ", &code_spans(&summary.tags), " "));
    }
    let mut place = Vec::new();
    for (label, text) in [("Account", &summary.account), ("Region", &summary.region)] {
        if let Some(text) = text {
            place.push(format!("*{label}* {}", code_span(text)));
        }
    }
    place.push(format!("*Connection* {}", code_span(&summary.connection)));
    lines.push(place.join(" · "));
    let caller = format!("*Requested by* {}, {}", code_span(&summary.caller), summary.caller_kind_text());
    if summary.on_behalf_of.is_empty() {
        lines.push(caller);
    } else {
        let heading = format!("{caller}, on behalf of ");
        lines.extend(list_lines(&heading, &code_spans(&summary.on_behalf_of), ", "));
    }
    let reasons: Vec<String> = summary.risk_reasons.iter().map(|reason| plain_or_code(reason)).collect();
    let heading = format!("*Risk* {} of 100, {}: ", summary.risk_score, summary.risk_level);
    lines.extend(list_lines(&heading, &reasons, "; "));
    for requirement in &summary.requirements {
        lines.push(format!(
            "*Policy* {} requires {} of {}",
            code_span(&requirement.policy),
            requirement.quorum,
            code_span(&requirement.group)
        ));
    }
    if !summary.policy_reason.is_empty() {
        lines.push(format!("*Policy says* {}", plain_or_code(&summary.policy_reason)));
    }
    if summary.event == NotificationEvent::Opened {
        lines.push(format!("*Until* {}", summary.deadline_text()));
    }
    build_message(&lines, LINK_NOTE)
}

pub(crate) fn render_batch(batch: &BatchSummary) -> Value {
    let mut lines = vec![batch.headline(), format_link(&batch.queue_url, "View all")];
    let (listed, more) = batch.listed_requests();
    for request in listed {
        let headline = code_span_within(&request.headline, MAX_HEADLINE_SPAN_CHARS);
        lines.push(format!("• {headline} {}", format_link(&request.url, "open")));
    }
    if more > 0 {
        lines.push(format!("• and {more} more"));
    }
    build_message(&lines, "There were too many for a message each.")
}

/// The first line is a section of its own; the others fill as many sections as they need.
fn build_message(lines: &[String], note: &str) -> Value {
    let section =
        // `verbatim`: without it, Slack makes links of URLs and mentions of names in the text (Slack API, "Text object").
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

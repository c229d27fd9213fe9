//! Messages as mail: plain text alone. It adds nothing that HTML would show better, and nothing in it can be styled or hidden.

use crate::NotificationEvent;
use crate::request_summary::{BatchSummary, RequestSummary};

/// A mail before it has a sender and readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EmailContent {
    pub subject: String,
    pub text: String,
}

/// Somebody else's text, so that mail programs make no link of it.
fn defuse_links(text: &str) -> String {
    text.replace("://", ":\\u{2f}\\u{2f}").replace("www.", "www\\u{2e}").replace("mailto:", "mailto\\u{3a}")
}

pub(crate) fn render_request(brief: &RequestSummary) -> EmailContent {
    let first = brief.format_headline(defuse_links);
    let mut text = format!("{first}\n\n");
    let mut say = |line: String| {
        text += &line;
        text.push('\n');
    };
    say(match brief.event {
        NotificationEvent::Opened => format!("Look and answer: {}", brief.url),
        NotificationEvent::Closed | NotificationEvent::BreakGlass => format!("Look at it: {}", brief.url),
    });
    say("Opening the link decides nothing.\n".to_owned());
    if !brief.uninspected_parts.is_empty() {
        say("NOT INSPECTED: nobody can say what is in it".to_owned());
        for part in &brief.uninspected_parts {
            say(format!("              - {}", defuse_links(part)));
        }
    }
    let mut row = |name: &str, text: &str| say(format!("{name:<14}{}", defuse_links(text)));
    if let Some(outcome) = &brief.outcome {
        row(
            "Outcome",
            &[outcome.label, &outcome.note]
                .into_iter()
                .filter(|text| !text.is_empty())
                .collect::<Vec<_>>()
                .join(": "),
        );
    }
    for (index, (action, resource)) in brief.required_permissions.iter().enumerate() {
        row(if index == 0 { "What" } else { "" }, &format!("{action} on {resource}"));
    }
    if brief.unlisted_permissions > 0 {
        row("", &format!("and {} more", brief.unlisted_permissions));
    }
    for (index, tag) in brief.tags.iter().enumerate() {
        row(if index == 0 { "Tags" } else { "" }, tag);
    }
    if let Some(account) = &brief.account {
        row("Account", account);
    }
    if let Some(region) = &brief.region {
        row("Region", region);
    }
    row("Connection", &brief.connection);
    row("Asked by", &format!("{}, {}", brief.caller, brief.caller_kind));
    for (index, one) in brief.on_behalf_of.iter().enumerate() {
        row(if index == 0 { "On behalf of" } else { "" }, one);
    }
    row("Risk", &format!("{} of 100, {}", brief.risk_score, brief.risk_level()));
    for reason in &brief.risk_reasons {
        row("", reason);
    }
    for (index, one) in brief.requirements.iter().enumerate() {
        row(
            if index == 0 { "Policy" } else { "" },
            &format!("{} asks {} of {}", one.policy, one.quorum, one.group),
        );
    }
    if !brief.policy_reason.is_empty() {
        row("", &brief.policy_reason);
    }
    if brief.event == NotificationEvent::Opened {
        row("Until", &format!("{} ({}), {}", brief.deadline, brief.time_left, brief.timeout_effect));
    }
    EmailContent { subject: format!("Durward: {first}"), text }
}

pub(crate) fn render_batch(summary: &BatchSummary) -> EmailContent {
    let first = summary.headline();
    let mut text = format!(
        "{first}\n\nSee all of them: {}\nThere were too many for a mail each.\n\n",
        summary.queue_url
    );
    let (listed, more) = summary.listed_requests();
    text.extend(listed.map(|gist| format!("- {}\n  {}\n", defuse_links(&gist.headline), gist.url)));
    text.extend((more > 0).then(|| format!("- and {more} more\n")));
    EmailContent { subject: format!("Durward: {first}"), text }
}

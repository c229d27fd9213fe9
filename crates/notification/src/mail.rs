//! Messages as mail: plain text alone. It adds nothing that HTML would show better, and nothing in it can be styled or hidden.

use crate::Event;
use crate::brief::{Brief, Summary};

/// A mail before it has a sender and readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mail {
    pub subject: String,
    pub text: String,
}

/// Somebody else's text, so that mail programs make no link of it.
fn inert(text: &str) -> String {
    text.replace("://", ":\\u{2f}\\u{2f}").replace("www.", "www\\u{2e}").replace("mailto:", "mailto\\u{3a}")
}

pub(crate) fn render(brief: &Brief) -> Mail {
    let first = brief.line(inert);
    let mut text = format!("{first}\n\n");
    let mut say = |line: String| {
        text += &line;
        text.push('\n');
    };
    say(match brief.event {
        Event::Opened => format!("Look and answer: {}", brief.url),
        Event::Closed | Event::BreakGlass => format!("Look at it: {}", brief.url),
    });
    say("Opening the link decides nothing.\n".to_owned());
    if !brief.uninspected.is_empty() {
        say("NOT INSPECTED: nobody can say what is in it".to_owned());
        for part in &brief.uninspected {
            say(format!("              - {}", inert(part)));
        }
    }
    let mut row = |name: &str, text: &str| say(format!("{name:<14}{}", inert(text)));
    if let Some(outcome) = &brief.outcome {
        row(
            "Outcome",
            &[outcome.word, &outcome.note]
                .into_iter()
                .filter(|text| !text.is_empty())
                .collect::<Vec<_>>()
                .join(": "),
        );
    }
    for (index, (action, resource)) in brief.demands.iter().enumerate() {
        row(if index == 0 { "What" } else { "" }, &format!("{action} on {resource}"));
    }
    if brief.more > 0 {
        row("", &format!("and {} more", brief.more));
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
    row("Asked by", &format!("{}, {}", brief.caller, brief.kind));
    for (index, one) in brief.behalf.iter().enumerate() {
        row(if index == 0 { "On behalf of" } else { "" }, one);
    }
    row("Risk", &format!("{} of 100, {}", brief.risk, brief.risk_word()));
    for reason in &brief.reasons {
        row("", reason);
    }
    for (index, one) in brief.required.iter().enumerate() {
        row(
            if index == 0 { "Policy" } else { "" },
            &format!("{} asks {} of {}", one.policy, one.people, one.group),
        );
    }
    if !brief.reason.is_empty() {
        row("", &brief.reason);
    }
    if brief.event == Event::Opened {
        row("Until", &format!("{} ({}), {}", brief.until, brief.left, brief.then));
    }
    Mail { subject: format!("Durward: {first}"), text }
}

pub(crate) fn render_summary(summary: &Summary) -> Mail {
    let first = summary.headline();
    let mut text =
        format!("{first}\n\nSee all of them: {}\nThere were too many for a mail each.\n\n", summary.url);
    let (listed, more) = summary.listed();
    text.extend(listed.map(|gist| format!("- {}\n  {}\n", inert(&gist.headline), gist.url)));
    text.extend((more > 0).then(|| format!("- and {more} more\n")));
    Mail { subject: format!("Durward: {first}"), text }
}

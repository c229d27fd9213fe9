//! Messages as mail: plain text only. HTML would show nothing better, and would allow styles and hidden text.

use crate::request_summary::{
    BROAD_GRANT_HEADING, BatchSummary, LINK_NOTE, RequestSummary, UNINSPECTED_WARNING,
};

/// The subject and text of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EmailContent {
    pub subject: String,
    pub text: String,
}

/// Text of others, so that mail programs make no link of it.
fn defuse_links(text: &str) -> String {
    // Mail programs find links in plain text by these beginnings, so a caller could place a link to a page that imitates the
    // console.
    text.replace("://", ":\\u{2f}\\u{2f}").replace("www.", "www\\u{2e}").replace("mailto:", "mailto\\u{3a}")
}

/// The lines of a mail.
struct MailText(String);

impl MailText {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    /// A line with a label, or the next value under the label before.
    fn row(&mut self, label: &str, text: &str) {
        self.line(&format!("{label:<14}{}", defuse_links(text)));
    }

    /// One line for each text, the first with the label.
    fn rows<'t>(&mut self, label: &str, texts: impl IntoIterator<Item = &'t String>) {
        for (index, text) in texts.into_iter().enumerate() {
            self.row(if index == 0 { label } else { "" }, text);
        }
    }
}

pub(crate) fn render_request(summary: &RequestSummary) -> EmailContent {
    let headline = summary.format_headline(defuse_links);
    let mut text = MailText(format!("{headline}\n\n"));
    text.line(&format!("{}: {}", summary.link_label(), summary.url));
    text.line(&format!("{LINK_NOTE}\n"));
    if !summary.broad_grants.is_empty() {
        text.line(&format!("{}:", BROAD_GRANT_HEADING.to_uppercase()));
        for grant in &summary.broad_grants {
            text.line(&format!("              - {}", defuse_links(grant)));
        }
    }
    if !summary.uninspected_parts.is_empty() {
        text.line(&format!("NOT INSPECTED: {UNINSPECTED_WARNING}"));
        for part in &summary.uninspected_parts {
            text.line(&format!("              - {}", defuse_links(part)));
        }
    }
    if let Some(outcome) = &summary.outcome {
        let note = if outcome.note.is_empty() { String::new() } else { format!(": {}", outcome.note) };
        text.row("Outcome", &format!("{}{note}", outcome.label));
    }
    let permissions: Vec<String> = summary
        .required_permissions
        .iter()
        .map(|(action, resource)| format!("{action} on {resource}"))
        .collect();
    text.rows("What", &permissions);
    if summary.unlisted_permissions > 0 {
        text.row("", &format!("and {} more", summary.unlisted_permissions));
    }
    text.rows("Tags", &summary.tags);
    text.rows("Account", &summary.account);
    text.rows("Region", &summary.region);
    text.row("Connection", &summary.connection);
    text.row("Requested by", &format!("{}, {}", summary.caller, summary.caller_kind_text()));
    text.rows("On behalf of", &summary.on_behalf_of);
    text.row("Risk", &format!("{} of 100, {}", summary.risk_score, summary.risk_level));
    text.rows("", &summary.risk_reasons);
    let requirements: Vec<String> = summary
        .requirements
        .iter()
        .map(|one| format!("{} requires {} of {}", one.policy, one.quorum, one.group))
        .collect();
    text.rows("Policy", &requirements);
    if !summary.policy_reason.is_empty() {
        text.row("", &summary.policy_reason);
    }
    if summary.event == crate::NotificationEvent::Opened {
        text.row("Until", &summary.deadline_text());
    }
    EmailContent { subject: format!("Durward: {headline}"), text: text.0 }
}

pub(crate) fn render_batch(batch: &BatchSummary) -> EmailContent {
    let headline = batch.headline();
    let mut text = MailText(format!("{headline}\n\n"));
    text.line(&format!("View all: {}", batch.queue_url));
    text.line("There were too many for a mail each.\n");
    let (listed, more) = batch.listed_requests();
    for request in listed {
        text.line(&format!("- {}\n  {}", defuse_links(&request.headline), request.url));
    }
    if more > 0 {
        text.line(&format!("- and {more} more"));
    }
    EmailContent { subject: format!("Durward: {headline}"), text: text.0 }
}

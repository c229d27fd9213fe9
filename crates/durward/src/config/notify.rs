//! `[[notify.slack]]`, `[[notify.email]]` and `[[notify.webhook]]`: the channels that notify approvers.

use super::{Config, ConfigProblem, is_plain_name};
use durward_notification::{MailServer, NotificationEvent, check_mail_address, check_webhook_url};
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifyConfig {
    #[serde(default)]
    pub slack: Vec<SlackConfig>,
    #[serde(default)]
    pub email: Vec<EmailConfig>,
    #[serde(default)]
    pub webhook: Vec<WebhookConfig>,
}

/// An incoming webhook of Slack, or of a service that accepts the same messages.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlackConfig {
    pub name: String,
    /// File that holds its URL. The URL is a secret: it is all that a sender needs.
    pub url_file: PathBuf,
    /// Notify only of approval requests on which one of these groups may vote. By default of all.
    #[serde(default)]
    pub groups: Vec<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmailConfig {
    pub name: String,
    /// `smtp://host:587` (STARTTLS) or `smtps://host:465`.
    pub server: String,
    pub from: String,
    pub to: Vec<String>,
    pub username: Option<String>,
    /// File that holds the password.
    pub password_file: Option<PathBuf>,
    #[serde(default)]
    pub groups: Vec<String>,
}

/// A webhook for programs, signed as the Standard Webhooks specification says.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    pub name: String,
    pub url: String,
    /// File that holds its secret, `whsec_...`. Several, one on each line, while secrets are rotated.
    pub secret_file: PathBuf,
    #[serde(default)]
    pub groups: Vec<String>,
    #[serde(default = "all_event_names")]
    pub events: Vec<String>,
}

/// A channel's name is part of log lines, and of the keys of its deliveries in the store.
const MAX_CHANNEL_NAME_CHARS: usize = 64;

fn all_event_names() -> Vec<String> {
    NotificationEvent::ALL.map(|event| event.as_str().to_owned()).to_vec()
}

impl NotifyConfig {
    /// Paths are relative to the configuration file's directory.
    pub fn resolve_paths(&mut self, base: &Path) {
        let slack = self.slack.iter_mut().map(|slack| &mut slack.url_file);
        let email = self.email.iter_mut().filter_map(|email| email.password_file.as_mut());
        let webhook = self.webhook.iter_mut().map(|webhook| &mut webhook.secret_file);
        for file in slack.chain(email).chain(webhook) {
            *file = base.join(&file);
        }
    }

    /// The key path and the value of each channel's name.
    fn channel_names(&self) -> Vec<(String, &str)> {
        let key_path = |kind: &str, index: usize| format!("notify.{kind}.{index}.name");
        let slack =
            self.slack.iter().enumerate().map(|(at, slack)| (key_path("slack", at), slack.name.as_str()));
        let email =
            self.email.iter().enumerate().map(|(at, email)| (key_path("email", at), email.name.as_str()));
        let webhook = self.webhook.iter().enumerate();
        let webhook = webhook.map(|(at, webhook)| (key_path("webhook", at), webhook.name.as_str()));
        slack.chain(email).chain(webhook).collect()
    }
}

pub fn check_notify(config: &Config, problems: &mut Vec<ConfigProblem>) {
    let notify = &config.notify;
    let names = notify.channel_names();
    if names.is_empty() {
        return;
    }
    if config.console.as_ref().is_none_or(|console| console.public_url.is_none()) {
        problems.push(ConfigProblem::new(
            "notify",
            "notifications link to the console and need its address: add [console] public_url = \"https://durward.example.com\"",
        ));
    }
    for (number, (key_path, name)) in names.iter().enumerate() {
        if name.len() > MAX_CHANNEL_NAME_CHARS || !is_plain_name(name) {
            problems.push(ConfigProblem::new(
                key_path,
                format!("`{name}`: a channel's name has 1 to {MAX_CHANNEL_NAME_CHARS} letters, digits, `-`, `_` and `.`"),
            ));
        }
        if names.iter().take(number).any(|(_key_path, other)| other == name) {
            let reason = format!("`{name}` is the name of two channels: give each its own");
            problems.push(ConfigProblem::new(key_path, reason));
        }
    }
    for (index, email) in notify.email.iter().enumerate() {
        let mut report = |key, reason| {
            problems.push(ConfigProblem::new(format!("notify.email.{index}.{key}"), reason));
        };
        check_email(email, &mut report);
    }
    for (index, webhook) in notify.webhook.iter().enumerate() {
        let mut report = |key, reason| {
            problems.push(ConfigProblem::new(format!("notify.webhook.{index}.{key}"), reason));
        };
        check_webhook(webhook, &mut report);
    }
}

fn check_email(email: &EmailConfig, report: &mut impl FnMut(&'static str, String)) {
    if let Err(reason) = MailServer::parse(&email.server) {
        report("server", reason.to_string());
    }
    if let Err(reason) = check_mail_address(&email.from) {
        report("from", reason.to_string());
    }
    for recipient in &email.to {
        if let Err(reason) = check_mail_address(recipient) {
            report("to", reason.to_string());
        }
    }
    if email.to.is_empty() {
        report("to", format!("`{}` has no recipients: name at least one address", email.name));
    }
    match (&email.username, &email.password_file) {
        (Some(user), None) => report("username", format!("`{user}` has no password: add password_file")),
        // A password without a user name is never sent, so it is a mistake and not a choice.
        (None, Some(_file)) => {
            report(
                "password_file",
                format!("`{}` has a password and no user name: add username", email.name),
            );
        }
        _ => {}
    }
}

fn check_webhook(webhook: &WebhookConfig, report: &mut impl FnMut(&'static str, String)) {
    if let Err(reason) = check_webhook_url(&webhook.url) {
        report("url", format!("`{}`: {reason}", webhook.url));
    }
    let known = all_event_names().join(", ");
    for event in &webhook.events {
        if NotificationEvent::parse(event).is_none() {
            report("events", format!("`{event}` is not an event: write some of {known}"));
        }
    }
    if webhook.events.is_empty() {
        let name = &webhook.name;
        report("events", format!("`{name}` has no events: remove `events`, or write some of {known}"));
    }
}

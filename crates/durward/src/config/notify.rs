//! `[[notify.slack]]`, `[[notify.email]]` and `[[notify.webhook]]`: how people learn that something waits for them.

use super::{Config, ConfigProblem};
use durward_notification::{MailServer, NotificationEvent, check_mail_address, check_webhook_url};
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifyConfig {
    #[serde(default)]
    pub slack: Vec<SlackConfig>,
    #[serde(default)]
    pub email: Vec<EmailConfig>,
    #[serde(default)]
    pub webhook: Vec<WebhookConfig>,
}

/// An incoming webhook of Slack, or of what takes the same messages.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlackConfig {
    pub name: String,
    /// File that holds its URL: whoever knows that can post.
    pub url_file: PathBuf,
    /// Only asks that one of these groups may answer; by default all.
    #[serde(default)]
    pub groups: Vec<String>,
}

#[derive(Debug, Deserialize)]
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

/// A webhook for programs, signed as Standard Webhooks says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    pub name: String,
    pub url: String,
    /// File that holds its secret, `whsec_...`; several, one a line, while they are changed.
    pub secret_file: PathBuf,
    #[serde(default)]
    pub groups: Vec<String>,
    #[serde(default = "all_event_names")]
    pub events: Vec<String>,
}

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

    /// The name of each channel, and where that stands.
    fn channel_names(&self) -> Vec<(String, &str)> {
        let place = |kind: &str, index: usize| format!("notify.{kind}.{index}.name");
        let slack =
            self.slack.iter().enumerate().map(|(at, slack)| (place("slack", at), slack.name.as_str()));
        let email =
            self.email.iter().enumerate().map(|(at, email)| (place("email", at), email.name.as_str()));
        let webhook = self.webhook.iter().enumerate();
        let webhook = webhook.map(|(at, webhook)| (place("webhook", at), webhook.name.as_str()));
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
            "the messages link to the console and must know its address: add [console] public_url = \"https://durward.example.com\"",
        ));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    for (number, (place, name)) in names.iter().enumerate() {
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
            problems.push(ConfigProblem::new(
                place,
                format!("`{name}`: a channel's name has up to 64 letters, digits, `-`, `_` and `.` only"),
            ));
        }
        if names.iter().take(number).any(|(_place, other)| other == name) {
            let why = format!("`{name}` is the name of two channels: give each its own");
            problems.push(ConfigProblem::new(place, why));
        }
    }
    for (index, email) in notify.email.iter().enumerate() {
        let mut wrong = |key, why| {
            problems.push(ConfigProblem::new(format!("notify.email.{index}.{key}"), why));
        };
        check_email(email, &mut wrong);
    }
    for (index, webhook) in notify.webhook.iter().enumerate() {
        let mut wrong = |key, why| {
            problems.push(ConfigProblem::new(format!("notify.webhook.{index}.{key}"), why));
        };
        check_webhook(webhook, &mut wrong);
    }
}

fn check_email(email: &EmailConfig, wrong: &mut impl FnMut(&'static str, String)) {
    if let Err(why) = MailServer::parse(&email.server) {
        wrong("server", why.to_string());
    }
    if let Err(why) = check_mail_address(&email.from) {
        wrong("from", why.to_string());
    }
    for reader in &email.to {
        if let Err(why) = check_mail_address(reader) {
            wrong("to", why.to_string());
        }
    }
    if email.to.is_empty() {
        wrong("to", format!("`{}` has nobody to write to: name at least one address", email.name));
    }
    match (&email.username, &email.password_file) {
        (Some(user), None) => wrong("username", format!("`{user}` has no password: add password_file")),
        (None, Some(_file)) => {
            wrong("password_file", format!("`{}` has a password and no user: add username", email.name));
        }
        _ => {}
    }
}

fn check_webhook(webhook: &WebhookConfig, wrong: &mut impl FnMut(&'static str, String)) {
    if let Err(why) = check_webhook_url(&webhook.url) {
        wrong("url", format!("`{}`: {why}", webhook.url));
    }
    let known = all_event_names().join(", ");
    for event in &webhook.events {
        if NotificationEvent::parse(event).is_none() {
            wrong("events", format!("`{event}` is not an event: write some of {known}"));
        }
    }
    if webhook.events.is_empty() {
        let name = &webhook.name;
        wrong(
            "events",
            format!("`{name}` would be told nothing: leave `events` out, or write some of {known}"),
        );
    }
}

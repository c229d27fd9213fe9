//! The notification channels of the configuration, with their secrets and an HTTP client of their own.

use crate::config::{Config, Diagnostics};
use crate::start_error::StartError;
use durward_approval::{Approvals, Store, system_clock};
use durward_core::Secret;
use durward_gateway::outbound_http_client::OutboundHttpClient;
use durward_gateway::upstream_client::UpstreamClient;
use durward_notification::{ChannelError, MailServer, NotificationChannel, NotificationEvent, Notifier};
use std::sync::Arc;

/// Opens the channels: Slack, e-mail, then webhooks. A channel with a problem is left out and reported.
pub fn open_channels(config: &Config, findings: &mut Diagnostics) -> Vec<NotificationChannel> {
    let mut channels = Vec::new();
    for (index, slack) in config.notify.slack.iter().enumerate() {
        let key_path = format!("notify.slack.{index}.url_file");
        let Some(url) = findings.load_secret(&key_path, &slack.url_file) else { continue };
        let channel = NotificationChannel::slack(&slack.name, slack.groups.clone(), &url);
        let channel = channel.map_err(|error| format!("{}: {error}", slack.url_file.display()));
        channels.extend(findings.value_or_problem(&key_path, channel));
    }
    for (index, email) in config.notify.email.iter().enumerate() {
        let table = format!("notify.email.{index}");
        let password = email.password_file.as_deref();
        let password =
            password.and_then(|file| findings.load_secret(&format!("{table}.password_file"), file));
        if findings.has_problems_in(&table) {
            continue;
        }
        let channel = MailServer::parse(&email.server).and_then(|mut server| {
            server.credentials = email.username.clone().zip(password);
            NotificationChannel::email(&email.name, email.groups.clone(), server, &email.from, &email.to)
        });
        channels.extend(findings.value_or_problem(&table, channel));
    }
    for (index, webhook) in config.notify.webhook.iter().enumerate() {
        let table = format!("notify.webhook.{index}");
        let key_path = format!("{table}.secret_file");
        let secret = findings.load_secret(&key_path, &webhook.secret_file);
        let Some(secret) = secret.filter(|_secret| !findings.has_problems_in(&table)) else { continue };
        let events = webhook.events.iter().filter_map(|event| NotificationEvent::parse(event)).collect();
        let url = Secret::new(&webhook.url);
        let channel =
            NotificationChannel::webhook(&webhook.name, webhook.groups.clone(), &url, &secret, events);
        let in_file = |error: ChannelError| format!("{}: {error}", webhook.secret_file.display());
        channels.extend(findings.value_or_problem(&key_path, channel.map_err(in_file)));
    }
    channels
}

/// Builds the notifier. Its HTTP client trusts the origins of the channels, private ones too, so it is not shared with any
/// other part of the gateway.
pub fn build_notifier(
    config: &Config,
    approvals: Arc<Approvals>,
    store: Store,
    channels: Vec<NotificationChannel>,
) -> Result<Notifier, StartError> {
    let trusted = channels.iter().filter_map(NotificationChannel::origin).collect();
    let client = UpstreamClient::new(trusted).map_err(StartError::HttpClient)?;
    let client = Arc::new(OutboundHttpClient(Arc::new(client)));
    // A configuration with channels and without a public URL is rejected at the start.
    let console_url =
        config.console.as_ref().and_then(|console| console.public_url.as_deref()).unwrap_or_default();
    Ok(Notifier::new(approvals, store, channels, client, console_url, system_clock()))
}

//! Opens the channels of the configuration: their secrets read, their way out by the gateway's own transport.

use crate::config::{Config, Diagnostics};
use crate::serve::parse_origin;
use durward_approval::{Approvals, Store, system_clock};
use durward_core::Secret;
use durward_gateway::outbound_http_client::OutboundHttpClient;
use durward_gateway::upstream_client::UpstreamClient;
use durward_notification::{ChannelError, MailServer, NotificationChannel, NotificationEvent, Notifier};
use std::sync::Arc;

/// The channels that are configured, in the order slack, email, webhook, without those that something is wrong with.
pub fn open_channels(config: &Config, findings: &mut Diagnostics) -> Vec<NotificationChannel> {
    let mut channels = Vec::new();
    for (index, slack) in config.notify.slack.iter().enumerate() {
        let place = format!("notify.slack.{index}.url_file");
        let Some(url) = findings.load_secret(&place, &slack.url_file) else { continue };
        let channel = NotificationChannel::slack(&slack.name, slack.groups.clone(), &url);
        let channel = channel.map_err(|why| format!("{}: {why}", slack.url_file.display()));
        channels.extend(findings.value_or_problem(&place, channel));
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
        let place = format!("{table}.secret_file");
        let secret = findings.load_secret(&place, &webhook.secret_file);
        let Some(secret) = secret.filter(|_secret| !findings.has_problems_in(&table)) else { continue };
        let events = webhook.events.iter().filter_map(|event| NotificationEvent::parse(event)).collect();
        let url = Secret::new(&webhook.url);
        let channel =
            NotificationChannel::webhook(&webhook.name, webhook.groups.clone(), &url, &secret, events);
        let in_file = |why: ChannelError| format!("{}: {why}", webhook.secret_file.display());
        channels.extend(findings.value_or_problem(&place, channel.map_err(in_file)));
    }
    channels
}

/// What tells people, with a way out of its own: that leads to the configured webhooks, private ones too, and serves nobody else.
pub fn build_notifier(
    config: &Config,
    approvals: Arc<Approvals>,
    store: Store,
    channels: Vec<NotificationChannel>,
) -> Result<Notifier, String> {
    let trusted = channels.iter().filter_map(NotificationChannel::origin);
    let trusted = trusted.map(|origin| parse_origin(&origin.url())).collect::<Result<_, _>>()?;
    let outward = Arc::new(OutboundHttpClient(Arc::new(UpstreamClient::new(trusted)?)));
    // With channels there is an address: the configuration is checked for it.
    let console =
        config.console.as_ref().and_then(|console| console.public_url.as_deref()).unwrap_or_default();
    Ok(Notifier::new(approvals, store, channels, outward, console, system_clock()))
}

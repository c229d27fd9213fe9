//! Opens the channels of the configuration: their secrets read, their way out by the gateway's own transport.

use crate::config::Config;
use crate::serve;
use durward_approval::{Approvals, Store, system_clock};
use durward_core::Secret;
use durward_credential::Transport as _;
use durward_gateway::outward::Outward;
use durward_gateway::transport::Transport;
use durward_notification::{Channel, Event, MailServer, Notifier};
use http::{Request, Response};
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

/// The way out to webhooks.
struct Webhooks(Outward);

impl durward_notification::Outward for Webhooks {
    fn send(
        &self,
        request: Request<bytes::Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<bytes::Bytes>, String>> + Send + '_>> {
        self.0.send(request)
    }
}

/// The channels that are configured, in the order slack, email, webhook.
pub fn channels(config: &Config) -> Result<Vec<Channel>, String> {
    let mut channels = Vec::new();
    for slack in &config.notify.slack {
        let url = secret(&slack.url_file)?;
        let channel = Channel::slack(&slack.name, slack.groups.clone(), &url);
        channels.push(channel.map_err(|why| format!("{}: {why}", slack.url_file.display()))?);
    }
    for email in &config.notify.email {
        let mut server = MailServer::parse(&email.server).map_err(|why| why.to_string())?;
        if let (Some(user), Some(file)) = (&email.username, &email.password_file) {
            server.credentials = Some((user.clone(), secret(file)?));
        }
        let channel = Channel::email(&email.name, email.groups.clone(), server, &email.from, &email.to);
        channels.push(channel.map_err(|why| format!("[[notify.email]] `{}`: {why}", email.name))?);
    }
    for webhook in &config.notify.webhook {
        let events = webhook.events.iter().filter_map(|event| Event::parse(event)).collect();
        let channel = Channel::webhook(
            &webhook.name,
            webhook.groups.clone(),
            &Secret::new(&webhook.url),
            &secret(&webhook.secret_file)?,
            events,
        );
        channels.push(channel.map_err(|why| format!("{}: {why}", webhook.secret_file.display()))?);
    }
    Ok(channels)
}

fn secret(file: &Path) -> Result<Secret, String> {
    let text =
        String::from_utf8(crate::read(file)?).map_err(|_error| format!("{}: not text", file.display()))?;
    match text.trim() {
        "" => Err(format!("{}: the file of a channel's secret is empty", file.display())),
        secret => Ok(Secret::new(secret)),
    }
}

/// What tells people, with a way out of its own: that leads to the configured webhooks, private ones too, and serves nobody else.
pub fn notifier(
    config: &Config,
    approvals: Arc<Approvals>,
    store: Store,
    channels: Vec<Channel>,
) -> Result<Notifier, String> {
    let trusted = channels.iter().filter_map(Channel::origin);
    let trusted = trusted.map(|url| serve::origin(&url)).collect::<Result<_, _>>()?;
    let outward = Arc::new(Webhooks(Outward(Arc::new(Transport::new(trusted)?))));
    // With channels there is an address: the configuration is checked for it.
    let console = config.console.as_ref().and_then(|console| console.url.as_deref()).unwrap_or_default();
    Ok(Notifier::new(approvals, store, channels, outward, console, system_clock()))
}

//! The notification channels of the configuration.

use crate::rate_limit::{LEASE_MARGIN, SMTP_TIMEOUT, WEBHOOK_TIMEOUT};
use crate::smtp::{MailServer, MailTransport, parse_mailbox};
use crate::webhook_signature::WebhookSigningKey;
use crate::webhook_url::WebhookUrl;
use crate::{ChannelError, NotificationEvent};
use durward_core::limits::{MAX_MESSAGES_PER_MINUTE, MAX_WEBHOOKS_PER_MINUTE};
use durward_core::{Origin, Secret};
use lettre::message::Mailbox;

/// The way in which a channel reaches its receivers.
#[derive(Debug, Clone)]
pub(crate) enum ChannelKind {
    Slack(WebhookUrl),
    Email { transport: Box<MailTransport>, sender: Box<Mailbox>, recipients: Vec<Mailbox> },
    Webhook { url: WebhookUrl, signing_keys: Vec<WebhookSigningKey> },
}

/// One `[[notify.*]]` table.
#[derive(Debug, Clone)]
pub struct NotificationChannel {
    pub(crate) name: String,
    /// Only requests that one of these groups may vote on. Empty: all.
    pub(crate) groups: Vec<String>,
    pub(crate) events: Vec<NotificationEvent>,
    pub(crate) kind: ChannelKind,
}

impl NotificationChannel {
    /// A Slack-compatible incoming webhook.
    pub fn slack(name: &str, groups: Vec<String>, url: &Secret) -> Result<Self, ChannelError> {
        Ok(Self::new(name, groups, ChannelKind::Slack(WebhookUrl::parse(url)?)))
    }

    /// Mail to every address of `to`, from `from`, as `Durward <durward@example.com>`.
    pub fn email(
        name: &str,
        groups: Vec<String>,
        server: MailServer,
        from: &str,
        to: &[String],
    ) -> Result<Self, ChannelError> {
        if to.is_empty() {
            return Err(ChannelError::NoRecipient);
        }
        let sender = parse_mailbox(from)?;
        let kind = ChannelKind::Email {
            transport: Box::new(server.build_transport(&sender)?),
            sender: Box::new(sender),
            recipients: to.iter().map(|address| parse_mailbox(address)).collect::<Result<_, _>>()?,
        };
        Ok(Self::new(name, groups, kind))
    }

    /// A webhook signed as Standard Webhooks specifies. `secrets` holds one `whsec_...` a line; each of them signs.
    pub fn webhook(
        name: &str,
        groups: Vec<String>,
        url: &Secret,
        secrets: &Secret,
        events: Vec<NotificationEvent>,
    ) -> Result<Self, ChannelError> {
        let signing_keys = WebhookSigningKey::parse_all(secrets)?;
        let url = WebhookUrl::parse(url)?;
        let channel = Self::new(name, groups, ChannelKind::Webhook { url, signing_keys });
        Ok(Self { events, ..channel })
    }

    fn new(name: &str, groups: Vec<String>, kind: ChannelKind) -> Self {
        Self { name: name.to_owned(), groups, events: NotificationEvent::ALL.to_vec(), kind }
    }

    /// The origin that it sends to over HTTP. `durward::notification_channels` builds an HTTP client that reaches the origins
    /// of all channels and no other private address.
    pub fn origin(&self) -> Option<Origin> {
        match &self.kind {
            ChannelKind::Slack(url) | ChannelKind::Webhook { url, .. } => Origin::from_uri(&url.uri),
            ChannelKind::Email { .. } => None,
        }
    }

    /// `slack`, `email` or `webhook`.
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            ChannelKind::Slack(_) => "slack",
            ChannelKind::Email { .. } => "email",
            ChannelKind::Webhook { .. } => "webhook",
        }
    }

    /// The time for which a message belongs to the process that sends it, in milliseconds: longer than any attempt takes, so that
    /// no other process sends it at the same time.
    pub(crate) fn lease_millis(&self) -> i64 {
        let attempt = match self.kind {
            ChannelKind::Email { .. } => SMTP_TIMEOUT,
            ChannelKind::Slack(_) | ChannelKind::Webhook { .. } => WEBHOOK_TIMEOUT,
        };
        (attempt + LEASE_MARGIN).as_millis() as i64
    }

    /// Returns true if people read the channel. They are notified of the end of a request only if they were notified of its
    /// beginning, and of no more in a minute than they can read. Programs are notified of everything.
    pub(crate) fn is_for_people(&self) -> bool {
        !matches!(self.kind, ChannelKind::Webhook { .. })
    }

    pub(crate) fn max_messages_per_minute(&self) -> usize {
        if self.is_for_people() { MAX_MESSAGES_PER_MINUTE } else { MAX_WEBHOOKS_PER_MINUTE }
    }
}

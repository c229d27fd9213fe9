//! The ways to people, as the operator configured them. What is secret of them (addresses of webhooks, keys, passwords) is never
//! printed.

use crate::rate_limit;
use crate::send::MailTransport;
use crate::webhook::WebhookSigningKey;
use durward_core::Secret;
use http::Uri;
use lettre::message::Mailbox;
use std::net::IpAddr;

/// What is told of an ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotificationEvent {
    /// It waits for people.
    Opened,
    /// It was approved or denied, or its time is over.
    Closed,
    /// Somebody went past the quorum.
    BreakGlass,
}

impl NotificationEvent {
    pub const ALL: [Self; 3] = [Self::Opened, Self::Closed, Self::BreakGlass];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "ask.opened",
            Self::Closed => "ask.closed",
            Self::BreakGlass => "ask.break_glass",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == text)
    }
}

/// Why a channel cannot be used. The text holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelError(String);

impl ChannelError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl std::fmt::Display for ChannelError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ChannelError {}

/// Where mail is handed in.
#[derive(Debug, Clone)]
pub struct MailServer {
    pub host: String,
    pub port: u16,
    /// TLS from the first byte (`smtps`); otherwise STARTTLS, which only a loopback server may lack.
    pub implicit_tls: bool,
    pub credentials: Option<(String, Secret)>,
}

impl MailServer {
    /// From `smtp://host:587` or `smtps://host:465`.
    pub fn parse(url: &str) -> Result<Self, ChannelError> {
        let wrong = || {
            ChannelError::new(format!(
                "`{url}` is not a mail server: write smtp://host:587 or smtps://host:465"
            ))
        };
        let (tls, rest) = match url.split_once("://") {
            Some(("smtp", rest)) => (false, rest),
            Some(("smtps", rest)) => (true, rest),
            _ => return Err(wrong()),
        };
        let authority: http::uri::Authority = rest.parse().map_err(|_error| wrong())?;
        if rest.contains('@') || authority.host().is_empty() {
            return Err(wrong());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = match (authority.port(), authority.port_u16()) {
            (None, _) => {
                if tls {
                    465
                } else {
                    587
                }
            }
            (Some(_), Some(port)) => port,
            (Some(_), None) => return Err(wrong()),
        };
        Ok(Self { host, port, implicit_tls: tls, credentials: None })
    }

    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback_host(&self.host)
    }
}

fn is_loopback_host(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A webhook's address. Whoever knows it can post there, so it is not printed.
#[derive(Clone)]
pub(crate) struct WebhookUrl {
    pub(crate) uri: Uri,
}

impl WebhookUrl {
    fn parse(url: &Secret) -> Result<Self, ChannelError> {
        let wrong = || ChannelError::new("the address is not a URL: write https://host/path");
        let uri: Uri = url.expose().trim().parse().map_err(|_error| wrong())?;
        let host = uri.host().ok_or_else(wrong)?.trim_start_matches('[').trim_end_matches(']');
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(ChannelError::new(
                "the address holds a user or password, which are not sent: leave them out",
            ));
        }
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if is_loopback_host(host) => {}
            Some("http") => {
                return Err(ChannelError::new(
                    "what is asked would travel in the clear: write https:// (http:// is for loopback only)",
                ));
            }
            _ => return Err(wrong()),
        }
        Ok(Self { uri })
    }
}

impl std::fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Address(…)")
    }
}

fn parse_mailbox(text: &str) -> Result<Mailbox, ChannelError> {
    text.parse().map_err(|_error| {
        ChannelError::new(format!("`{text}` is not a mail address: write name@example.com"))
    })
}

/// Whether mail can go to or come from this, as `name@example.com` or `Name <name@example.com>`.
pub fn check_mail_address(text: &str) -> Result<(), ChannelError> {
    parse_mailbox(text).map(|_mailbox| ())
}

/// Whether a webhook can have this address.
pub fn check_webhook_url(url: &str) -> Result<(), ChannelError> {
    WebhookUrl::parse(&Secret::new(url)).map(|_address| ())
}

/// How a channel reaches people.
#[derive(Debug, Clone)]
pub(crate) enum ChannelKind {
    Slack(WebhookUrl),
    Email { transport: Box<MailTransport>, sender: Box<Mailbox>, recipients: Vec<Mailbox> },
    Webhook { url: WebhookUrl, signing_keys: Vec<WebhookSigningKey> },
}

/// One `[[notify.*]]`.
#[derive(Debug, Clone)]
pub struct NotificationChannel {
    pub(crate) name: String,
    /// Only asks that one of these may answer. Empty: all.
    pub(crate) groups: Vec<String>,
    pub(crate) events: Vec<NotificationEvent>,
    pub(crate) kind: ChannelKind,
}

impl NotificationChannel {
    /// A Slack-compatible incoming webhook.
    pub fn slack(name: &str, groups: Vec<String>, url: &Secret) -> Result<Self, ChannelError> {
        Ok(Self::new(name, groups, ChannelKind::Slack(WebhookUrl::parse(url)?)))
    }

    /// Mail to each of `to`, from `from`, as `Durward <durward@example.com>`.
    pub fn email(
        name: &str,
        groups: Vec<String>,
        server: MailServer,
        from: &str,
        to: &[String],
    ) -> Result<Self, ChannelError> {
        if to.is_empty() {
            return Err(ChannelError::new("nobody to write to: name at least one address in `to`"));
        }
        let from = parse_mailbox(from)?;
        let way = ChannelKind::Email {
            transport: Box::new(server.build_transport(&from)?),
            sender: Box::new(from),
            recipients: to.iter().map(|one| parse_mailbox(one)).collect::<Result<_, _>>()?,
        };
        Ok(Self::new(name, groups, way))
    }

    /// A webhook signed as Standard Webhooks says. `secrets` holds one `whsec_...` a line: each signs, so that they can be changed.
    pub fn webhook(
        name: &str,
        groups: Vec<String>,
        url: &Secret,
        secrets: &Secret,
        events: Vec<NotificationEvent>,
    ) -> Result<Self, ChannelError> {
        let keys = WebhookSigningKey::parse_all(secrets)?;
        let channel = Self::new(
            name,
            groups,
            ChannelKind::Webhook { url: WebhookUrl::parse(url)?, signing_keys: keys },
        );
        Ok(Self { events, ..channel })
    }

    fn new(name: &str, groups: Vec<String>, way: ChannelKind) -> Self {
        Self { name: name.to_owned(), groups, events: NotificationEvent::ALL.to_vec(), kind: way }
    }

    /// Where it sends to, if by HTTP: the transport must be allowed to go there.
    pub fn origin(&self) -> Option<String> {
        match &self.kind {
            ChannelKind::Slack(address) | ChannelKind::Webhook { url: address, .. } => {
                let authority = address.uri.authority()?;
                Some(format!("{}://{authority}", address.uri.scheme_str()?))
            }
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

    /// For how long a message belongs to who sends it, in milliseconds: longer than any attempt takes.
    pub(crate) fn lease_millis(&self) -> i64 {
        let attempt = match self.kind {
            ChannelKind::Email { .. } => rate_limit::SMTP_TIMEOUT,
            ChannelKind::Slack(_) | ChannelKind::Webhook { .. } => rate_limit::WEBHOOK_TIMEOUT,
        };
        (attempt + rate_limit::LEASE_MARGIN).as_millis() as i64
    }

    /// People read it: they are told the end of what they were told the beginning of, and not more in a minute than they
    /// can read. Programs are told all.
    pub(crate) fn is_for_people(&self) -> bool {
        !matches!(self.kind, ChannelKind::Webhook { .. })
    }
}

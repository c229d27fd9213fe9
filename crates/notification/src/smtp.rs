//! Sends mail by SMTP, with TLS everywhere except to this machine.

use crate::ChannelError;
use crate::email::EmailContent;
use crate::rate_limit::SMTP_TIMEOUT;
use crate::send_failure::{SendFailure, sanitize_error_text};
use durward_core::{Secret, is_loopback_host};
use lettre::address::Envelope;
use lettre::message::header::{HeaderName as MailHeaderName, HeaderValue as MailHeaderValue};
use lettre::message::{Mailbox, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};

/// Port of message submission with STARTTLS (RFC 6409 section 3.1).
const SUBMISSION_PORT: u16 = 587;
/// Port of message submission with TLS from the first byte (RFC 8314 section 7.3).
const SUBMISSIONS_PORT: u16 = 465;

/// The server that takes the mail.
#[derive(Debug, Clone)]
pub struct MailServer {
    pub host: String,
    pub port: u16,
    /// TLS from the first byte (`smtps`); otherwise STARTTLS, which only a loopback server may lack.
    pub implicit_tls: bool,
    pub credentials: Option<(String, Secret)>,
}

pub(crate) type MailTransport = AsyncSmtpTransport<Tokio1Executor>;

impl MailServer {
    /// Parses `smtp://host:587` or `smtps://host:465`.
    pub fn parse(url: &str) -> Result<Self, ChannelError> {
        let invalid = || ChannelError::InvalidMailServer(url.to_owned());
        let (implicit_tls, rest) = match url.split_once("://") {
            Some(("smtp", rest)) => (false, rest),
            Some(("smtps", rest)) => (true, rest),
            _ => return Err(invalid()),
        };
        let authority: http::uri::Authority = rest.parse().map_err(|_error| invalid())?;
        // Credentials have settings of their own, `username` and `password_file`: no secret is in the configuration.
        if rest.contains('@') || authority.host().is_empty() {
            return Err(invalid());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = match (authority.port(), authority.port_u16()) {
            (None, _) if implicit_tls => SUBMISSIONS_PORT,
            (None, _) => SUBMISSION_PORT,
            (Some(_), Some(port)) => port,
            (Some(_), None) => return Err(invalid()),
        };
        Ok(Self { host, port, implicit_tls, credentials: None })
    }

    fn tls_mode(&self) -> Result<Tls, ChannelError> {
        if !self.implicit_tls && is_loopback_host(&self.host) {
            return Ok(Tls::None);
        }
        let parameters = TlsParameters::new_rustls(self.host.clone()).map_err(|error| ChannelError::Tls {
            host: sanitize_error_text(&self.host),
            reason: error.to_string(),
        })?;
        // Required, not opportunistic: an attacker who strips STARTTLS from the greeting gets no mail (RFC 3207 section 6).
        Ok(if self.implicit_tls { Tls::Wrapper(parameters) } else { Tls::Required(parameters) })
    }

    /// A transport for mail from this sender.
    pub(crate) fn build_transport(&self, from: &Mailbox) -> Result<MailTransport, ChannelError> {
        // "Dangerous" is only that this builder has no TLS by default: it is set here.
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(self.host.clone())
            .port(self.port)
            .tls(self.tls_mode()?)
            .timeout(Some(SMTP_TIMEOUT))
            // Not the name of this machine: it would reveal an internal name to every receiver.
            .hello_name(ClientId::Domain(from.email.domain().to_owned()));
        if let Some((user, password)) = &self.credentials {
            builder = builder.credentials(Credentials::new(user.clone(), password.expose().to_owned()));
        }
        Ok(builder.build())
    }
}

pub(crate) fn parse_mailbox(text: &str) -> Result<Mailbox, ChannelError> {
    text.parse().map_err(|_error| ChannelError::InvalidMailAddress(text.to_owned()))
}

/// Checks that mail can go to or come from this address, written as `name@example.com` or `Name <name@example.com>`.
pub fn check_mail_address(text: &str) -> Result<(), ChannelError> {
    parse_mailbox(text).map(|_mailbox| ())
}

/// A mail with its sender, its recipients and its thread.
pub(crate) struct OutgoingEmail<'a> {
    pub sender: &'a Mailbox,
    pub recipients: &'a [Mailbox],
    pub content: EmailContent,
    pub message_id: String,
    /// The id of the mail that this one follows.
    pub in_reply_to: Option<String>,
}

/// Sends one mail. `Some`: it arrived, but some recipients were refused, as the text says.
///
/// If the server refuses it permanently and there are several recipients, it is sent to each alone, so that one address that no
/// longer exists does not keep it from the others.
pub(crate) async fn send_email(
    transport: &MailTransport,
    email: OutgoingEmail<'_>,
) -> Result<Option<String>, SendFailure> {
    match tokio::time::timeout(SMTP_TIMEOUT, try_send_email(transport, email)).await {
        Ok(result) => result,
        Err(_elapsed) => Err(SendFailure::MailTimedOut),
    }
}

async fn try_send_email(
    transport: &MailTransport,
    email: OutgoingEmail<'_>,
) -> Result<Option<String>, SendFailure> {
    let message = compose_email(&email)?;
    let bytes = message.formatted();
    let failure = match transport.send_raw(message.envelope(), &bytes).await {
        Ok(_accepted) => return Ok(None),
        Err(error) => smtp_failure(&error),
    };
    // A temporary failure (4yz) is retried as a whole later; a permanent one (5yz) can be due to one address alone (RFC 5321
    // section 4.2.1).
    if !failure.is_permanent() || email.recipients.len() < 2 {
        return Err(failure);
    }
    let mut refusals = Vec::new();
    for recipient in email.recipients {
        // The envelope decides who gets the mail (RFC 5321 section 2.3.1); the message still names all recipients.
        let envelope = Envelope::new(Some(email.sender.email.clone()), vec![recipient.email.clone()])
            .map_err(|error| SendFailure::invalid_message(&error))?;
        if let Err(error) = transport.send_raw(&envelope, &bytes).await {
            refusals.push(format!("{}: {}", recipient.email, smtp_failure(&error)));
        }
    }
    if refusals.len() == email.recipients.len() {
        Err(failure)
    } else {
        Ok(Some(sanitize_error_text(&refusals.join("; "))))
    }
}

fn smtp_failure(error: &lettre::transport::smtp::Error) -> SendFailure {
    SendFailure::Mail { text: sanitize_error_text(&error.to_string()), is_permanent: error.is_permanent() }
}

fn compose_email(email: &OutgoingEmail<'_>) -> Result<Message, SendFailure> {
    let mut builder = Message::builder()
        .from(email.sender.clone())
        .subject(email.content.subject.clone())
        .message_id(Some(email.message_id.clone()))
        // RFC 3834 section 5: automatic responders do not respond to this.
        .raw_header(MailHeaderValue::new(
            MailHeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        ));
    for recipient in email.recipients {
        builder = builder.to(recipient.clone());
    }
    if let Some(parent) = &email.in_reply_to {
        builder = builder.in_reply_to(parent.clone()).references(parent.clone());
    }
    builder
        .singlepart(SinglePart::plain(email.content.text.clone()))
        .map_err(|error| SendFailure::invalid_message(&error))
}

#[cfg(test)]
mod tests;

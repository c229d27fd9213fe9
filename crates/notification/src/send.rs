//! Hands one message to one channel, once: by HTTP through the gateway's own way out, or by SMTP.

use crate::channel::{ChannelError, MailServer, WebhookUrl};
use crate::email::EmailContent;
use crate::rate_limit::{SMTP_TIMEOUT, WEBHOOK_TIMEOUT};
use bytes::Bytes;
use durward_core::escape_invisible;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use lettre::address::Envelope;
use lettre::message::header::{HeaderName as MailHeaderName, HeaderValue as MailHeaderValue};
use lettre::message::{Mailbox, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use std::future::Future;
use std::pin::Pin;
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

/// Characters of what a server said that are kept.
const MAX_ERROR_TEXT_CHARS: usize = 200;

/// The way out to webhooks: no redirects, checked addresses, verified TLS, a bound on size and time.
pub trait HttpClient: Send + Sync {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, String>> + Send + '_>>;
}

/// Why a message did not arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SendFailure {
    /// For people; holds no secret.
    pub text: String,
    /// Trying again would change nothing.
    pub is_permanent: bool,
    /// How long the server asked to wait, in milliseconds.
    pub retry_after_millis: Option<i64>,
}

impl SendFailure {
    fn transient(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_permanent: false, retry_after_millis: None }
    }
}

fn sanitize_error_text(text: &str) -> String {
    escape_invisible(text).chars().take(MAX_ERROR_TEXT_CHARS).collect()
}

/// Posts JSON with these headers beside the usual ones.
pub(crate) async fn post_json(
    outward: &dyn HttpClient,
    address: &WebhookUrl,
    headers: HeaderMap,
    body: Bytes,
    now: OffsetDateTime,
) -> Result<(), SendFailure> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = address.uri.clone();
    *request.headers_mut() = headers;
    let mut set = |name: HeaderName, value: &'static str| {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    };
    set(header::CONTENT_TYPE, "application/json");
    set(header::USER_AGENT, concat!("durward/", env!("CARGO_PKG_VERSION")));
    let answered = tokio::time::timeout(WEBHOOK_TIMEOUT, outward.send(request)).await;
    let answer = match answered {
        Err(_elapsed) => return Err(SendFailure::transient("it did not answer in time")),
        // What the transport says names the host; the rest of the address is the secret.
        Ok(Err(error)) => {
            let secret = address.uri.path_and_query().map(http::uri::PathAndQuery::as_str);
            let error = match secret {
                Some(secret) if secret.len() > 1 => error.replace(secret, "/..."),
                _ => error,
            };
            return Err(SendFailure::transient(sanitize_error_text(&error)));
        }
        Ok(Ok(answer)) => answer,
    };
    check_response(&answer, now)
}

fn check_response(answer: &Response<Bytes>, now: OffsetDateTime) -> Result<(), SendFailure> {
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let mut text = format!("it answered {}", status.as_u16());
    // Slack says what was wrong in one word, as `invalid_blocks`; longer bodies may hold anything.
    let word = std::str::from_utf8(answer.body()).unwrap_or_default().trim();
    if (1..=60).contains(&word.len())
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_- ".contains(&byte))
    {
        text = format!("{text} ({word})");
    }
    if status.is_redirection() {
        text += ", a redirect, which is not followed: configure the address it leads to";
    }
    let permanent =
        status.is_redirection() || (status.is_client_error() && !matches!(status.as_u16(), 408 | 429));
    Err(SendFailure {
        text,
        is_permanent: permanent,
        retry_after_millis: parse_retry_after(answer.headers(), now),
    })
}

/// `Retry-After` in milliseconds: seconds, or a date.
fn parse_retry_after(headers: &HeaderMap, now: OffsetDateTime) -> Option<i64> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = match text.parse::<u32>() {
        Ok(seconds) => i64::from(seconds),
        Err(_not_a_number) => (OffsetDateTime::parse(text, &Rfc2822).ok()? - now).whole_seconds().max(0),
    };
    Some(seconds.saturating_mul(1_000))
}

/// Where mail goes out, with TLS made ready.
pub(crate) type MailTransport = AsyncSmtpTransport<Tokio1Executor>;

impl MailServer {
    /// Nothing is sent in the clear but to this machine itself.
    fn tls_mode(&self) -> Result<Tls, ChannelError> {
        Ok(if self.implicit_tls || !self.is_loopback() {
            let parameters = TlsParameters::new_rustls(self.host.clone()).map_err(|error| {
                ChannelError::new(format!(
                    "TLS to `{}` cannot be prepared: {error}",
                    sanitize_error_text(&self.host)
                ))
            })?;
            // Required, not opportunistic: who strips STARTTLS from the greeting gets no mail.
            if self.implicit_tls { Tls::Wrapper(parameters) } else { Tls::Required(parameters) }
        } else {
            Tls::None
        })
    }

    /// A way to hand in mail from this sender.
    pub(crate) fn build_transport(&self, from: &Mailbox) -> Result<MailTransport, ChannelError> {
        let tls = self.tls_mode()?;
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(self.host.clone())
            .port(self.port)
            .tls(tls)
            .timeout(Some(SMTP_TIMEOUT))
            .hello_name(ClientId::Domain(from.email.domain().to_owned()));
        if let Some((user, password)) = &self.credentials {
            builder = builder.credentials(Credentials::new(user.clone(), password.expose().to_owned()));
        }
        Ok(builder.build())
    }
}

/// A mail with its readers and its place in a conversation.
pub(crate) struct OutgoingEmail<'a> {
    pub sender: &'a Mailbox,
    pub recipients: &'a [Mailbox],
    pub content: EmailContent,
    pub message_id: String,
    /// The id of the mail that this one follows.
    pub in_reply_to: Option<String>,
}

/// Hands in one mail. If the server refuses it for good and there are several readers, each is tried alone, so that one address
/// that is gone does not keep it from the others; the text then says who was refused.
pub(crate) async fn send_email(
    transport: &MailTransport,
    letter: OutgoingEmail<'_>,
) -> Result<Option<String>, SendFailure> {
    let work = async {
        let message = compose_email(&letter)?;
        let bytes = message.formatted();
        let all = match transport.send_raw(message.envelope(), &bytes).await {
            Ok(_accepted) => return Ok(None),
            Err(error) => smtp_failure(&error),
        };
        if !all.is_permanent || letter.recipients.len() < 2 {
            return Err(all);
        }
        let mut refusals = Vec::new();
        for reader in letter.recipients {
            let envelope = Envelope::new(Some(letter.sender.email.clone()), vec![reader.email.clone()])
                .map_err(|error| compose_failure(&error))?;
            if let Err(error) = transport.send_raw(&envelope, &bytes).await {
                refusals.push(format!("{}: {}", reader.email, smtp_failure(&error).text));
            }
        }
        if refusals.len() == letter.recipients.len() {
            Err(all)
        } else {
            Ok(Some(sanitize_error_text(&refusals.join("; "))))
        }
    };
    match tokio::time::timeout(SMTP_TIMEOUT, work).await {
        Ok(done) => done,
        Err(_elapsed) => Err(SendFailure::transient("the mail server did not take it in time")),
    }
}

fn compose_failure(error: &dyn std::fmt::Display) -> SendFailure {
    SendFailure {
        text: sanitize_error_text(&format!("the mail cannot be written: {error}")),
        is_permanent: true,
        retry_after_millis: None,
    }
}

fn smtp_failure(error: &lettre::transport::smtp::Error) -> SendFailure {
    SendFailure {
        text: sanitize_error_text(&error.to_string()),
        is_permanent: error.is_permanent(),
        retry_after_millis: None,
    }
}

fn compose_email(letter: &OutgoingEmail<'_>) -> Result<Message, SendFailure> {
    let mut builder = Message::builder()
        .from(letter.sender.clone())
        .subject(letter.content.subject.clone())
        .message_id(Some(letter.message_id.clone()))
        // RFC 3834: no holiday notices in answer to this
        .raw_header(MailHeaderValue::new(
            MailHeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        ));
    for reader in letter.recipients {
        builder = builder.to(reader.clone());
    }
    if let Some(follows) = &letter.in_reply_to {
        builder = builder.in_reply_to(follows.clone()).references(follows.clone());
    }
    builder
        .singlepart(SinglePart::plain(letter.content.text.clone()))
        .map_err(|error| compose_failure(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn test_response(
        status: u16,
        headers: &[(&'static str, &'static str)],
        body: &'static str,
    ) -> Response<Bytes> {
        let mut answer = Response::new(Bytes::from_static(body.as_bytes()));
        *answer.status_mut() = status.try_into().unwrap();
        for (name, value) in headers {
            answer.headers_mut().insert(*name, HeaderValue::from_static(value));
        }
        answer
    }

    #[test]
    fn what_a_server_refuses_for_good_is_not_tried_again() {
        let now = datetime!(1994-11-06 08:49:00 UTC);
        assert_eq!(check_response(&test_response(204, &[], ""), now), Ok(()));
        for (status, permanent) in [
            (301, true),
            (400, true),
            (404, true),
            (410, true),
            (408, false),
            (429, false),
            (500, false),
            (503, false),
        ] {
            let failure = check_response(&test_response(status, &[], ""), now).unwrap_err();
            assert_eq!(failure.is_permanent, permanent, "{status}");
        }
        let failure = check_response(&test_response(400, &[], "invalid_blocks\n"), now).unwrap_err();
        assert_eq!(failure.text, "it answered 400 (invalid_blocks)");
        let failure =
            check_response(&test_response(403, &[], "https://hooks.test/T0/secret"), now).unwrap_err();
        assert_eq!(failure.text, "it answered 403", "a body may repeat the address");
    }

    #[test]
    fn the_server_says_when_to_come_back() {
        let now = datetime!(1994-11-06 08:49:00 UTC);
        for (text, wanted) in [
            ("7", Some(7_000)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37_000)),
            ("Sun, 06 Nov 1994 08:48:00 GMT", Some(0)),
            ("soon", None),
        ] {
            let failure = check_response(&test_response(429, &[("retry-after", text)], ""), now).unwrap_err();
            assert_eq!(failure.retry_after_millis, wanted, "{text}");
        }
    }

    #[test]
    fn mail_leaves_this_machine_only_by_tls() {
        for (url, wanted) in [
            ("smtps://mail.example.com", "wrapper"),
            ("smtps://127.0.0.1:465", "wrapper"),
            ("smtp://mail.example.com:587", "required"),
            ("smtp://10.0.0.1:25", "required"),
            ("smtp://localhost:25", "none"),
            ("smtp://[::1]:25", "none"),
        ] {
            let found = match MailServer::parse(url).unwrap().tls_mode().unwrap() {
                Tls::Wrapper(_) => "wrapper",
                Tls::Required(_) => "required",
                Tls::None => "none",
                Tls::Opportunistic(_) => "opportunistic",
            };
            assert_eq!(found, wanted, "{url}");
        }
    }

    #[test]
    fn nothing_adds_a_header_to_a_mail() {
        let from: Mailbox = "Durward <durward@example.com>".parse().unwrap();
        let to: Vec<Mailbox> = vec!["oncall@example.com".parse().unwrap()];
        let letter = OutgoingEmail {
            sender: &from,
            recipients: &to,
            content: EmailContent {
                subject: "a\r\nBcc: eve@example.com\r\n\r\nx".to_owned(),
                text: "t\u{e9}\n".to_owned(),
            },
            message_id: "<a.opened@example.com>".to_owned(),
            in_reply_to: Some("<b@example.com>".to_owned()),
        };
        let text = String::from_utf8(compose_email(&letter).unwrap().formatted()).unwrap();
        let (head, _body) = text.split_once("\r\n\r\n").unwrap();
        assert!(!head.to_lowercase().contains("\nbcc"), "{head}");
        for wanted in [
            "Message-ID: <a.opened@example.com>",
            "In-Reply-To: <b@example.com>",
            "Auto-Submitted: auto-generated",
        ] {
            assert!(head.contains(wanted), "{wanted}: {head}");
        }
    }
}

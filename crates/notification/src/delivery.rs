//! One message on its way: what it says now, by the channel's own means.

use crate::channel::ChannelKind;
use crate::request_summary::{BatchSummary, RequestHeadline, RequestSummary};
use crate::send::{self, HttpClient, OutgoingEmail, SendFailure};
use crate::{NotificationChannel, NotificationEvent, email, slack, webhook};
use aws_lc_rs::digest;
use bytes::Bytes;
use durward_approval::ApprovalRequest;
use durward_store::DeliveryRow;
use http::{HeaderMap, HeaderName, HeaderValue};
use lettre::message::Mailbox;
use serde_json::Value;
use std::fmt::Write as _;
use time::OffsetDateTime;

/// What goes out in one message.
pub(crate) enum MessageContent {
    Single(NotificationEvent, Box<ApprovalRequest>),
    Batch(Vec<(NotificationEvent, ApprovalRequest)>),
}

/// What every message of a gateway shares.
pub(crate) struct SendContext<'a> {
    pub http_client: &'a dyn HttpClient,
    /// The address of the console.
    pub console_url: &'a str,
    pub now: OffsetDateTime,
}

impl SendContext<'_> {
    /// Sends, once. A text: it arrived, but not everywhere.
    pub async fn send_message(
        &self,
        channel: &NotificationChannel,
        id: &str,
        content: &MessageContent,
    ) -> Result<Option<String>, SendFailure> {
        match &channel.kind {
            ChannelKind::Slack(address) => {
                let message = match content {
                    MessageContent::Single(event, ask) => {
                        slack::render_request(&self.summarize_request(ask, *event))
                    }
                    MessageContent::Batch(asks) => slack::render_batch(&self.summarize_batch(asks)),
                };
                let body = Bytes::from(message.to_string());
                send::post_json(self.http_client, address, HeaderMap::new(), body, self.now)
                    .await
                    .map(|()| None)
            }
            ChannelKind::Webhook { url: address, signing_keys: keys } => {
                let message = match content {
                    MessageContent::Single(event, ask) => {
                        webhook::render_request(ask, &self.summarize_request(ask, *event), *event)
                    }
                    MessageContent::Batch(asks) => {
                        webhook::render_batch(&self.summarize_batch(asks), self.now)
                    }
                };
                let (headers, body) = signed_request(keys, id, &message, self.now)?;
                send::post_json(self.http_client, address, headers, body, self.now).await.map(|()| None)
            }
            ChannelKind::Email { transport, sender: from, recipients: to } => {
                let name = |text: &str| format!("<{text}.{}@{}>", channel.name, from.email.domain());
                let (mail, follows) = match content {
                    MessageContent::Single(event, ask) => {
                        let follows = (*event != NotificationEvent::Opened)
                            .then(|| name(&message_id(&ask.id.to_string(), NotificationEvent::Opened)));
                        (email::render_request(&self.summarize_request(ask, *event)), follows)
                    }
                    MessageContent::Batch(asks) => (email::render_batch(&self.summarize_batch(asks)), None),
                };
                let from: &Mailbox = from;
                send::send_email(
                    transport,
                    OutgoingEmail {
                        sender: from,
                        recipients: to,
                        content: mail,
                        message_id: name(id),
                        in_reply_to: follows,
                    },
                )
                .await
            }
        }
    }

    fn summarize_request(&self, ask: &ApprovalRequest, event: NotificationEvent) -> RequestSummary {
        RequestSummary::from_request(ask, event, self.console_url, self.now)
    }

    fn summarize_batch(&self, asks: &[(NotificationEvent, ApprovalRequest)]) -> BatchSummary {
        let mut summary = BatchSummary {
            queue_url: format!("{}/", self.console_url),
            opened: Vec::new(),
            closed: Vec::new(),
        };
        for (event, ask) in asks {
            let brief = self.summarize_request(ask, *event);
            let gist = RequestHeadline {
                approval_request: ask.id.to_string(),
                headline: brief.headline(),
                url: brief.url,
            };
            if *event == NotificationEvent::Opened {
                summary.opened.push(gist)
            } else {
                summary.closed.push(gist)
            }
        }
        summary
    }
}

fn signed_request(
    keys: &[webhook::WebhookSigningKey],
    id: &str,
    message: &Value,
    now: OffsetDateTime,
) -> Result<(HeaderMap, Bytes), SendFailure> {
    let body = Bytes::from(message.to_string());
    let timestamp = now.unix_timestamp();
    let signature = webhook::sign_message(keys, id, timestamp, &body);
    let mut headers = HeaderMap::new();
    for (name, value) in
        [("webhook-id", id), ("webhook-timestamp", &timestamp.to_string()), ("webhook-signature", &signature)]
    {
        let value = HeaderValue::from_str(value).map_err(|error| SendFailure {
            text: format!("its signature cannot be sent: {error}"),
            is_permanent: true,
            retry_after_millis: None,
        })?;
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok((headers, body))
}

/// The id of a message, the same for each attempt: receivers tell repeats by it.
pub(crate) fn message_id(ask: &str, event: NotificationEvent) -> String {
    format!("msg_{ask}_{}", event.as_str().trim_start_matches("ask."))
}

/// The id of a message about several.
pub(crate) fn batch_message_id(rows: &[DeliveryRow]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for row in rows {
        context.update(format!("{} {}\n", row.approval_request, row.event).as_bytes());
    }
    let mut id = "msg_".to_owned();
    for byte in context.finish().as_ref().iter().take(16) {
        // Writing to a String cannot fail.
        let _infallible = write!(id, "{byte:02x}");
    }
    id + "_summary"
}

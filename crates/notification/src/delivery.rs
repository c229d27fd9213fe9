//! Sends one message over one channel, with its content as of now.

use crate::channel::ChannelKind;
use crate::request_summary::{BatchSummary, RequestHeadline, RequestSummary};
use crate::send_failure::SendFailure;
use crate::smtp::{OutgoingEmail, send_email};
use crate::webhook_client::post_json;
use crate::webhook_signature::{WebhookSigningKey, sign_message};
use crate::{NotificationChannel, NotificationEvent, email, slack, webhook};
use aws_lc_rs::digest;
use bytes::Bytes;
use durward_approval::ApprovalRequest;
use durward_core::{HttpClient, encode_hex};
use durward_store::DeliveryRow;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use time::OffsetDateTime;

/// Bytes of the digest in the id of a batch message: enough that no two batches have the same.
const BATCH_ID_DIGEST_BYTES: usize = 16;

/// The content of one message.
pub(crate) enum MessageContent {
    Single(NotificationEvent, Box<ApprovalRequest>),
    Batch(Vec<(NotificationEvent, ApprovalRequest)>),
}

/// The context that all messages of a gateway share.
pub(crate) struct SendContext<'a> {
    pub http_client: &'a dyn HttpClient,
    pub console_url: &'a str,
    pub now: OffsetDateTime,
}

impl SendContext<'_> {
    /// Sends a message once. `Some`: it arrived, but not everywhere, as the text says.
    pub async fn send_message(
        &self,
        channel: &NotificationChannel,
        id: &str,
        content: &MessageContent,
    ) -> Result<Option<String>, SendFailure> {
        match &channel.kind {
            ChannelKind::Slack(url) => {
                let message = match content {
                    MessageContent::Single(event, request) => {
                        slack::render_request(&self.summarize_request(request, *event))
                    }
                    MessageContent::Batch(requests) => slack::render_batch(&self.summarize_batch(requests)),
                };
                let body = Bytes::from(message.to_string());
                post_json(self.http_client, url, HeaderMap::new(), body, self.now).await.map(|()| None)
            }
            ChannelKind::Webhook { url, signing_keys } => {
                let message = match content {
                    MessageContent::Single(event, request) => {
                        webhook::render_request(request, &self.summarize_request(request, *event), *event)
                    }
                    MessageContent::Batch(requests) => {
                        webhook::render_batch(&self.summarize_batch(requests), self.now)
                    }
                };
                let (headers, body) = signed_request(signing_keys, id, &message, self.now)?;
                post_json(self.http_client, url, headers, body, self.now).await.map(|()| None)
            }
            ChannelKind::Email { transport, sender, recipients } => {
                let mail_id = |id: &str| format!("<{id}.{}@{}>", channel.name, sender.email.domain());
                let (mail, in_reply_to) = match content {
                    MessageContent::Single(event, request) => {
                        let opened = message_id(&request.id.to_string(), NotificationEvent::Opened);
                        // Mail programs show it in one thread with the first mail (RFC 5322 section 3.6.4).
                        let in_reply_to = (*event != NotificationEvent::Opened).then(|| mail_id(&opened));
                        (email::render_request(&self.summarize_request(request, *event)), in_reply_to)
                    }
                    MessageContent::Batch(requests) => {
                        (email::render_batch(&self.summarize_batch(requests)), None)
                    }
                };
                let message_id = mail_id(id);
                send_email(
                    transport,
                    OutgoingEmail { sender, recipients, content: mail, message_id, in_reply_to },
                )
                .await
            }
        }
    }

    fn summarize_request(&self, request: &ApprovalRequest, event: NotificationEvent) -> RequestSummary {
        RequestSummary::from_request(request, event, self.console_url, self.now)
    }

    fn summarize_batch(&self, requests: &[(NotificationEvent, ApprovalRequest)]) -> BatchSummary {
        let mut batch = BatchSummary {
            queue_url: format!("{}/", self.console_url),
            opened: Vec::new(),
            closed: Vec::new(),
        };
        for (event, request) in requests {
            let summary = self.summarize_request(request, *event);
            let headline = RequestHeadline {
                approval_request: request.id.to_string(),
                headline: summary.headline(),
                url: summary.url,
            };
            if *event == NotificationEvent::Opened {
                batch.opened.push(headline);
            } else {
                batch.closed.push(headline);
            }
        }
        batch
    }
}

/// The headers of Standard Webhooks ("Webhook headers") and the body that they sign.
fn signed_request(
    keys: &[WebhookSigningKey],
    id: &str,
    message: &Value,
    now: OffsetDateTime,
) -> Result<(HeaderMap, Bytes), SendFailure> {
    let body = Bytes::from(message.to_string());
    let timestamp = now.unix_timestamp();
    let signature = sign_message(keys, id, timestamp, &body);
    let mut headers = HeaderMap::new();
    for (name, value) in
        [("webhook-id", id), ("webhook-timestamp", &timestamp.to_string()), ("webhook-signature", &signature)]
    {
        let value = HeaderValue::from_str(value).map_err(|error| SendFailure::invalid_message(&error))?;
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok((headers, body))
}

/// The id of a message, the same for every attempt, so that receivers recognise repeats.
pub(crate) fn message_id(approval_request: &str, event: NotificationEvent) -> String {
    format!("msg_{approval_request}_{}", event.short_name())
}

/// The id of a batch message: the same for the same deliveries.
pub(crate) fn batch_message_id(deliveries: &[DeliveryRow]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for delivery in deliveries {
        context.update(format!("{} {}\n", delivery.approval_request, delivery.event).as_bytes());
    }
    let digest = context.finish();
    let bytes: Vec<u8> = digest.as_ref().iter().take(BATCH_ID_DIGEST_BYTES).copied().collect();
    format!("msg_{}_summary", encode_hex(&bytes))
}

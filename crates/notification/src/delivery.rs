//! One message on its way: what it says now, by the channel's own means.

use crate::brief::{Brief, Gist, Summary};
use crate::channel::Way;
use crate::send::{self, Failure, Letter, Outward};
use crate::{Channel, Event, mail, slack, webhook};
use aws_lc_rs::digest;
use bytes::Bytes;
use durward_approval::Ask;
use durward_store::DeliveryRow;
use http::{HeaderMap, HeaderName, HeaderValue};
use lettre::message::Mailbox;
use serde_json::Value;
use std::fmt::Write as _;
use time::OffsetDateTime;

/// What goes out in one message.
pub(crate) enum Content {
    One(Event, Box<Ask>),
    Together(Vec<(Event, Ask)>),
}

/// What every message of a gateway shares.
pub(crate) struct Setting<'a> {
    pub outward: &'a dyn Outward,
    /// The address of the console.
    pub console: &'a str,
    pub now: OffsetDateTime,
}

impl Setting<'_> {
    /// Sends, once. A text: it arrived, but not everywhere.
    pub async fn send(
        &self,
        channel: &Channel,
        id: &str,
        content: &Content,
    ) -> Result<Option<String>, Failure> {
        match &channel.way {
            Way::Slack(address) => {
                let message = match content {
                    Content::One(event, ask) => slack::render(&self.brief(ask, *event)),
                    Content::Together(asks) => slack::render_summary(&self.summary(asks)),
                };
                let body = Bytes::from(message.to_string());
                send::post(self.outward, address, HeaderMap::new(), body, self.now).await.map(|()| None)
            }
            Way::Webhook { address, keys } => {
                let message = match content {
                    Content::One(event, ask) => webhook::render(ask, &self.brief(ask, *event), *event),
                    Content::Together(asks) => webhook::render_summary(&self.summary(asks), self.now),
                };
                let (headers, body) = signed(keys, id, &message, self.now)?;
                send::post(self.outward, address, headers, body, self.now).await.map(|()| None)
            }
            Way::Email { transport, from, to } => {
                let name = |text: &str| format!("<{text}.{}@{}>", channel.name, from.email.domain());
                let (mail, follows) = match content {
                    Content::One(event, ask) => {
                        let follows = (*event != Event::Opened)
                            .then(|| name(&id_of(&ask.id.to_string(), Event::Opened)));
                        (mail::render(&self.brief(ask, *event)), follows)
                    }
                    Content::Together(asks) => (mail::render_summary(&self.summary(asks)), None),
                };
                let from: &Mailbox = from;
                send::mail(transport, Letter { from, to, mail, id: name(id), follows }).await
            }
        }
    }

    fn brief(&self, ask: &Ask, event: Event) -> Brief {
        Brief::of(ask, event, self.console, self.now)
    }

    fn summary(&self, asks: &[(Event, Ask)]) -> Summary {
        let mut summary =
            Summary { url: format!("{}/", self.console), opened: Vec::new(), closed: Vec::new() };
        for (event, ask) in asks {
            let brief = self.brief(ask, *event);
            let gist = Gist { ask: ask.id.to_string(), headline: brief.headline(), url: brief.url };
            if *event == Event::Opened { summary.opened.push(gist) } else { summary.closed.push(gist) }
        }
        summary
    }
}

fn signed(
    keys: &[webhook::Key],
    id: &str,
    message: &Value,
    now: OffsetDateTime,
) -> Result<(HeaderMap, Bytes), Failure> {
    let body = Bytes::from(message.to_string());
    let timestamp = now.unix_timestamp();
    let signature = webhook::sign(keys, id, timestamp, &body);
    let mut headers = HeaderMap::new();
    for (name, value) in
        [("webhook-id", id), ("webhook-timestamp", &timestamp.to_string()), ("webhook-signature", &signature)]
    {
        let value = HeaderValue::from_str(value).map_err(|error| Failure {
            text: format!("its signature cannot be sent: {error}"),
            permanent: true,
            retry_after: None,
        })?;
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok((headers, body))
}

/// The id of a message, the same for each attempt: receivers tell repeats by it.
pub(crate) fn id_of(ask: &str, event: Event) -> String {
    format!("msg_{ask}_{}", event.as_str().trim_start_matches("ask."))
}

/// The id of a message about several.
pub(crate) fn id_of_all(rows: &[DeliveryRow]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for row in rows {
        context.update(format!("{} {}\n", row.ask, row.event).as_bytes());
    }
    let mut id = "msg_".to_owned();
    for byte in context.finish().as_ref().iter().take(16) {
        // Writing to a String cannot fail.
        let _infallible = write!(id, "{byte:02x}");
    }
    id + "_summary"
}

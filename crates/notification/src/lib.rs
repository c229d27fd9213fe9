//! Notifies the approvers of an approval request, and programs that follow it.
//!
//! The crate holds the channels (Slack-compatible webhooks, mail, signed webhooks), the content of messages, and the delivery of
//! messages. It sends HTTP through `durward_core::HttpClient`, and mail through its own SMTP client.
//!
//! Promises:
//! - Deliveries are derived from the approval requests in the store, not from what this process saw: a crash loses none. A
//!   message is sent at least once; it is given up after a day, or at once if the receiver refuses it for good. A new channel
//!   gets the requests that are pending, not those that ended before.
//! - Nothing here decides anything. A link only opens the console.
//! - A channel that fails delays no other channel and no approval.
//! - No text that a caller can choose becomes a mention, a link, a style, a line or a mail header, or makes a receiver refuse
//!   the message.
//!
//! Begin with [`Notifier`], then `request_summary` (the content of a message) and `rate_limit` (the time of sending).

mod channel;
mod channel_error;
mod channel_status;
mod delivery;
mod email;
mod notification_event;
mod notifier;
mod rate_limit;
mod request_summary;
mod send_failure;
mod slack;
mod smtp;
mod webhook;
mod webhook_client;
mod webhook_signature;
mod webhook_url;

pub use channel::NotificationChannel;
pub use channel_error::ChannelError;
pub use channel_status::{ChannelStatus, ChannelStatusReader};
pub use notification_event::NotificationEvent;
pub use notifier::Notifier;
pub use smtp::{MailServer, check_mail_address};
pub use webhook_url::check_webhook_url;

#[cfg(test)]
mod tests;

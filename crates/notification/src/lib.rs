//! Tells the people who may answer an ask.
//!
//! Slack-compatible webhooks, mail, and signed webhooks. What is sent follows from the asks in the store, so nothing is lost by
//! a crash; it is sent at least once. Nothing here decides anything, a link only opens the console, and no channel that does not
//! work delays another or an approval.

mod channel;
mod channel_status;
mod delivery;
mod email;
mod notifier;
mod rate_limit;
mod request_summary;
mod send;
mod slack;
mod webhook;

pub use channel::{
    ChannelError, MailServer, NotificationChannel, NotificationEvent, check_mail_address, check_webhook_url,
};
pub use channel_status::{ChannelStatus, ChannelStatusReader};
pub use notifier::Notifier;
pub use send::HttpClient;

#[cfg(test)]
mod tests;

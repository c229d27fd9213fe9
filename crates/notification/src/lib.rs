//! Tells the people who may answer an ask.
//!
//! Slack-compatible webhooks, mail, and signed webhooks. What is sent follows from the asks in the store, so nothing is lost by
//! a crash; it is sent at least once. Nothing here decides anything, a link only opens the console, and no channel that does not
//! work delays another or an approval.

mod brief;
mod channel;
mod delivery;
mod mail;
mod notifier;
mod pace;
mod send;
mod slack;
mod status;
mod webhook;

pub use channel::{Channel, ChannelError, Event, MailServer, check_address, check_url};
pub use notifier::Notifier;
pub use send::Outward;
pub use status::{ChannelStatus, Channels};

#[cfg(test)]
mod tests;

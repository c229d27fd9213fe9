//! The events that channels are notified of.

/// An event of an approval request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotificationEvent {
    /// It waits for votes.
    Opened,
    /// It was approved or denied, or its time is over.
    Closed,
    /// A person bypassed the quorum.
    BreakGlass,
}

impl NotificationEvent {
    pub const ALL: [Self; 3] = [Self::Opened, Self::Closed, Self::BreakGlass];

    /// The name in the configuration, the store and webhooks.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "approval_request.opened",
            Self::Closed => "approval_request.closed",
            Self::BreakGlass => "approval_request.break_glass",
        }
    }

    /// The last part of the name, for ids of messages.
    pub(crate) fn short_name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Closed => "closed",
            Self::BreakGlass => "break_glass",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == text)
    }
}

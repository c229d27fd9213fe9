//! Why a message did not arrive.

use crate::rate_limit::{SMTP_TIMEOUT, WEBHOOK_TIMEOUT};
use durward_core::escape_invisible;

/// Characters that are kept of a text of a server.
const MAX_ERROR_TEXT_CHARS: usize = 200;

/// Why a message did not arrive. No message contains a secret; the texts of servers are without invisible characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendFailure {
    #[error("no response within {} seconds", WEBHOOK_TIMEOUT.as_secs())]
    WebhookTimedOut,
    /// The HTTP client got no response.
    #[error("{0}")]
    Unreachable(String),
    #[error("HTTP status {status}{}", word.as_deref().map(|word| format!(" ({word})")).unwrap_or_default())]
    Refused {
        status: u16,
        /// The error word of the receiver, as `invalid_blocks` of Slack.
        word: Option<String>,
        /// The time that the receiver asked to wait, in milliseconds.
        retry_after_millis: Option<i64>,
    },
    #[error("HTTP status {status}, a redirect, which is not followed: configure the address it leads to")]
    Redirected { status: u16 },
    #[error("the mail server timed out after {} seconds", SMTP_TIMEOUT.as_secs())]
    MailTimedOut,
    /// The mail server, or the connection to it, failed.
    #[error("{text}")]
    Mail { text: String, is_permanent: bool },
    #[error("the message cannot be written: {0}")]
    InvalidMessage(String),
}

impl SendFailure {
    /// Returns true if the same message would fail again.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::WebhookTimedOut | Self::Unreachable(_) | Self::MailTimedOut => false,
            // 408 Request Timeout and 429 Too Many Requests (RFC 9110 section 15.5.9, RFC 6585 section 4) invite a retry.
            Self::Refused { status, .. } => (400..500).contains(status) && !matches!(status, 408 | 429),
            Self::Mail { is_permanent, .. } => *is_permanent,
            // A redirect is not followed: it would carry the details of an approval request to an address that nobody configured.
            Self::Redirected { .. } | Self::InvalidMessage(_) => true,
        }
    }

    /// The time that the receiver asked to wait, in milliseconds.
    pub(crate) fn retry_after_millis(&self) -> Option<i64> {
        match self {
            Self::Refused { retry_after_millis, .. } => *retry_after_millis,
            _ => None,
        }
    }

    pub(crate) fn invalid_message(error: &dyn std::fmt::Display) -> Self {
        Self::InvalidMessage(sanitize_error_text(&error.to_string()))
    }
}

/// A text of a server, short and without invisible characters.
pub(crate) fn sanitize_error_text(text: &str) -> String {
    escape_invisible(text).chars().take(MAX_ERROR_TEXT_CHARS).collect()
}

//! Why a channel cannot be used.

/// Why a channel cannot be used. No message contains a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    #[error("`{0}` is not a mail server: write smtp://host:587 or smtps://host:465")]
    InvalidMailServer(String),
    #[error("`{0}` is not a mail address: write name@example.com")]
    InvalidMailAddress(String),
    #[error("there is no recipient: name at least one address in `to`")]
    NoRecipient,
    #[error("TLS to `{host}` cannot be prepared: {reason}")]
    Tls { host: String, reason: String },
    #[error("the address is not a URL: write https://host/path")]
    InvalidUrl,
    #[error("the address holds a user or password, which are not sent: leave them out")]
    UrlWithCredentials,
    #[error("the request would travel unencrypted: write https:// (http:// is for loopback only)")]
    UnencryptedUrl,
    #[error(
        "the secret is not one of Standard Webhooks: write whsec_ and the base64 of 24 to 64 random bytes"
    )]
    InvalidSigningSecret,
}

//! The URL of a webhook.

use crate::ChannelError;
use durward_core::{Secret, is_loopback_host};
use http::Uri;

/// The URL of a webhook. It is a secret, and never printed: with an incoming webhook, knowing the URL is all it takes to post.
#[derive(Clone)]
pub(crate) struct WebhookUrl {
    pub(crate) uri: Uri,
}

impl WebhookUrl {
    pub(crate) fn parse(url: &Secret) -> Result<Self, ChannelError> {
        let uri: Uri = url.expose().trim().parse().map_err(|_error| ChannelError::InvalidUrl)?;
        let host = uri.host().ok_or(ChannelError::InvalidUrl)?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(ChannelError::UrlWithCredentials);
        }
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if is_loopback_host(host) => {}
            Some("http") => return Err(ChannelError::UnencryptedUrl),
            _ => return Err(ChannelError::InvalidUrl),
        }
        Ok(Self { uri })
    }
}

impl std::fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookUrl(…)")
    }
}

/// Checks that a webhook can have this URL.
pub fn check_webhook_url(url: &str) -> Result<(), ChannelError> {
    WebhookUrl::parse(&Secret::new(url)).map(|_url| ())
}

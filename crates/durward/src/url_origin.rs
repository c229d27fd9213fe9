//! The origin of a URL, and the check that a secret may be sent there.

use durward_core::{Origin, OriginError, redact_user_info};
use http::Uri;

/// The origin of an `http` or `https` URL. A path may follow it: issuers and MCP endpoints have one.
pub fn origin_of_url(url: &str) -> Result<Origin, OriginError> {
    let parsed: Uri = url.parse().map_err(|_error| OriginError::NotAUrl(redact_user_info(url)))?;
    Origin::from_uri(&parsed).ok_or_else(|| OriginError::NotAUrl(redact_user_info(url)))
}

/// Returns true if a secret can be sent to this origin without being read on the way: over TLS, or on this machine.
pub fn is_confidential(origin: &Origin) -> bool {
    origin.uses_tls || origin.is_loopback()
}

/// [`is_confidential`] of a URL; false for a text that is not one.
pub fn is_confidential_url(url: &str) -> bool {
    origin_of_url(url).is_ok_and(|origin| is_confidential(&origin))
}

//! Signs requests that go upstream. The signature covers every header except those that a proxy on the way may change.

use super::canonical_request::CanonicalRequest;
use super::inbound::format_timestamp;
use super::{PathCanonicalization, SIGNING_ALGORITHM, SigningKey, build_string_to_sign};
use durward_core::Secret;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use time::OffsetDateTime;

/// The credential and scope of a signature.
#[derive(Debug, Clone, Copy)]
pub struct SigningParams<'a> {
    pub access_key_id: &'a str,
    pub session_token: Option<&'a Secret>,
    /// Derived from the secret for `region`, `service` and the day of `signing_time`.
    pub signing_key: &'a SigningKey,
    pub region: &'a str,
    pub service: &'a str,
    pub signing_time: OffsetDateTime,
}

/// The request cannot be signed, so it must not be sent.
#[derive(Debug, thiserror::Error)]
#[error("the request cannot be signed: {0}")]
pub struct SigningError(String);

/// Headers that a proxy may change (RFC 9110 section 7.6.1), and the signature itself. The AWS SDKs leave `user-agent` and
/// `x-amzn-trace-id` out of their signatures, too.
fn is_unsigned_header(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "authorization"
            | "connection"
            | "expect"
            | "te"
            | "transfer-encoding"
            | "user-agent"
            | "x-amzn-trace-id"
    )
}

/// Signs a request in place. `headers` must hold `host` and everything else that is sent. `payload_hash` is the text for the
/// canonical request; it also becomes `x-amz-content-sha256` where S3 requires that header or it is there already.
pub fn sign_request(
    signer: &SigningParams<'_>,
    method: &Method,
    path: &str,
    query: &str,
    headers: &mut HeaderMap,
    payload_hash: &str,
) -> Result<(), SigningError> {
    let value = |text: &str| HeaderValue::from_str(text).map_err(|error| SigningError(error.to_string()));
    let style = PathCanonicalization::for_service(signer.service);
    let timestamp = format_timestamp(signer.signing_time);
    headers.insert("x-amz-date", value(&timestamp)?);
    if let Some(token) = signer.session_token {
        let mut token = value(token.expose())?;
        // Marked values are left out of `Debug`, and HTTP/2 never puts them into its header table (RFC 7541 section 7.1.3).
        token.set_sensitive(true);
        headers.insert("x-amz-security-token", token);
    }
    if style == PathCanonicalization::S3 || headers.contains_key("x-amz-content-sha256") {
        headers.insert("x-amz-content-sha256", value(payload_hash)?);
    }
    let mut signed_headers: Vec<String> = headers
        .keys()
        .filter(|name| !is_unsigned_header(name))
        .map(|name| name.as_str().to_owned())
        .collect();
    signed_headers.sort_unstable();
    let canonical = CanonicalRequest {
        method: method.as_str(),
        path,
        query,
        headers,
        signed_headers: &signed_headers,
        payload_hash,
        path_canonicalization: style,
    }
    .to_text()
    .map_err(|error| SigningError(error.to_string()))?;
    let scope = format!("{}/{}/{}/aws4_request", &timestamp[..8], signer.region, signer.service);
    let signature = signer.signing_key.sign(build_string_to_sign(&timestamp, &scope, &canonical).as_bytes());
    let mut authorization = value(&format!(
        "{SIGNING_ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={}",
        signer.access_key_id,
        signed_headers.join(";"),
        signature.to_hex()
    ))?;
    authorization.set_sensitive(true);
    headers.insert(http::header::AUTHORIZATION, authorization);
    Ok(())
}

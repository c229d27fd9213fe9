//! Signing what goes upstream. The signature covers every header that goes along but those a hop may change.

use super::canonical_request::CanonicalRequest;
use super::inbound::format_timestamp;
use super::{PathCanonicalization, SIGNING_ALGORITHM, SigningKey, build_string_to_sign};
use durward_core::Secret;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use time::OffsetDateTime;

/// What signs, and for whom.
#[derive(Debug, Clone, Copy)]
pub struct SigningParams<'a> {
    pub access_key_id: &'a str,
    pub session_token: Option<&'a Secret>,
    /// Derived from the secret for `region`, `service` and the day of `at`.
    pub signing_key: &'a SigningKey,
    pub region: &'a str,
    pub service: &'a str,
    pub signing_time: OffsetDateTime,
}

/// A header or value that cannot be written; the request must not be sent.
#[derive(Debug, thiserror::Error)]
#[error("the request cannot be signed: {0}")]
pub struct SigningError(String);

/// Left out of the signature: a hop may change them, or they are the signature.
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

/// Signs a request in place. `headers` must hold `host` and whatever travels on; `payload_hash` is the text for the
/// canonical request, written as `x-amz-content-sha256` where S3 wants it or the header is there already.
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
    .map_err(|name| SigningError(format!("header `{name}` is not text")))?;
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

//! The documents that an identity provider publishes, and the URLs that it may name in them.
//!
//! Promises: a document that names another issuer is never used. A URL from a document is requested only if it is `https`, or
//! if it is plain `http` on loopback and the issuer is plain `http` too.

use durward_core::{HttpClient, HttpClientError, HttpLimits, is_loopback_host};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use serde::{Deserialize, de::DeserializeOwned};
use std::time::Duration;

/// One document. Real ones are below 20 KB.
const DOCUMENT_LIMITS: HttpLimits =
    HttpLimits { timeout: Duration::from_secs(10), max_response_bytes: 512 << 10 };
/// Characters of untrusted text in one log line.
const MAX_LOGGED_CHARS: usize = 200;

/// Why a document of a provider cannot be used. The texts hold addresses and statuses, and no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderDocumentError {
    #[error("{url}: {error}")]
    Http { url: String, error: HttpClientError },
    #[error("{url}: returned {status}")]
    Status { url: String, status: StatusCode },
    #[error("{url}: not a discovery document: {reason}")]
    Malformed { url: String, reason: String },
    /// The issuer is quoted and cut.
    #[error("{url}: it names another issuer, {issuer}")]
    OtherIssuer { url: String, issuer: String },
    /// A member of the document names a URL that we do not request. The URL is quoted and cut.
    #[error("{member} {url}: {reason}")]
    UnusableUrl { member: &'static str, url: String, reason: ProviderUrlError },
}

/// Why a URL of a provider is not requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProviderUrlError {
    #[error("not a URL: write https://host")]
    NotAUrl,
    #[error("must not have a fragment")]
    HasFragment,
    #[error("must have a host and no user name")]
    NoPlainHost,
    #[error("plain http is accepted only on loopback: use https")]
    PlainHttp,
    #[error("must begin with https://")]
    OtherScheme,
}

/// Fetches the discovery document of an issuer and reads the members that `T` names.
pub(crate) async fn fetch_discovery<T: DeserializeOwned>(
    issuer: &str,
    http_client: &dyn HttpClient,
) -> Result<T, ProviderDocumentError> {
    #[derive(Deserialize)]
    struct IssuerMember {
        issuer: String,
    }
    // OpenID Connect Discovery 1.0 section 4.1: a terminating slash of the issuer is removed first.
    let url = format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer));
    let document = fetch_document(&url, http_client).await?.into_body();
    let malformed = |error: serde_json::Error| ProviderDocumentError::Malformed {
        url: url.clone(),
        reason: error.to_string(),
    };
    let named: IssuerMember = serde_json::from_slice(&document).map_err(malformed)?;
    // OpenID Connect Discovery 1.0 section 4.3: they must be identical. Otherwise one provider could vouch for the callers
    // of another (mix-up attack).
    if named.issuer != issuer {
        let issuer = quote_for_log(&named.issuer);
        return Err(ProviderDocumentError::OtherIssuer { url, issuer });
    }
    serde_json::from_slice(&document).map_err(malformed)
}

/// Fetches a JSON document; every status but 200 is an error.
pub(crate) async fn fetch_document(
    url: &str,
    http_client: &dyn HttpClient,
) -> Result<Response<bytes::Bytes>, ProviderDocumentError> {
    let failed = |error| ProviderDocumentError::Http { url: url.to_owned(), error };
    let mut request = Request::new(bytes::Bytes::new());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = url.parse().map_err(|error: http::uri::InvalidUri| {
        failed(HttpClientError::InvalidRequest(url.to_owned(), error.to_string()))
    })?;
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let response = http_client.send(request, DOCUMENT_LIMITS).await.map_err(failed)?;
    match response.status() {
        // No redirect is followed: a document from another host would not be the one that the issuer publishes under its own
        // name.
        StatusCode::OK => Ok(response),
        status => Err(ProviderDocumentError::Status { url: url.to_owned(), status }),
    }
}

/// Checks a URL that the document of `issuer` names in `member`.
pub(crate) fn check_named_url(
    member: &'static str,
    url: &str,
    issuer: &str,
) -> Result<(), ProviderDocumentError> {
    check_provider_url(url, is_plain_http(issuer)).map_err(|reason| ProviderDocumentError::UnusableUrl {
        member,
        url: quote_for_log(url),
        reason,
    })
}

/// Accepts a URL that we may request: `https`, or `http` on loopback where that is permitted.
pub(crate) fn check_provider_url(url: &str, permits_plain_loopback: bool) -> Result<(), ProviderUrlError> {
    let uri: Uri = url.parse().map_err(|_error| ProviderUrlError::NotAUrl)?;
    // `Uri` drops a fragment silently.
    if url.contains('#') {
        return Err(ProviderUrlError::HasFragment);
    }
    // Userinfo is a trick against readers: `https://login.example.com@evil.example` is a URL of evil.example (RFC 3986 section
    // 7.6).
    if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
        return Err(ProviderUrlError::NoPlainHost);
    }
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if permits_plain_loopback && uri.host().is_some_and(is_loopback_host) => Ok(()),
        Some("http") => Err(ProviderUrlError::PlainHttp),
        _ => Err(ProviderUrlError::OtherScheme),
    }
}

fn is_plain_http(issuer: &str) -> bool {
    issuer.parse::<Uri>().is_ok_and(|issuer| issuer.scheme_str() == Some("http"))
}

/// Untrusted text for a log line: cut, quoted and escaped.
pub(crate) fn quote_for_log(text: &str) -> String {
    let cut: String = text.chars().take(MAX_LOGGED_CHARS).collect();
    format!("{cut:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_plain_http_only_on_loopback() {
        for url in
            ["https://idp.example/a", "http://127.0.0.1:1/a", "http://[::1]:1", "http://localhost:8080/x"]
        {
            assert_eq!(check_provider_url(url, true), Ok(()), "{url}");
        }
        for (url, reason) in [
            ("http://idp.example", ProviderUrlError::PlainHttp),
            ("http://127.0.0.1.example.com", ProviderUrlError::PlainHttp),
            ("http://localhost.example.com", ProviderUrlError::PlainHttp),
            ("http://169.254.169.254/latest", ProviderUrlError::PlainHttp),
            ("https://user@idp.example", ProviderUrlError::NoPlainHost),
            ("https://idp.example/#x", ProviderUrlError::HasFragment),
            ("ftp://idp.example", ProviderUrlError::OtherScheme),
            ("/relative", ProviderUrlError::NoPlainHost),
            ("idp.example", ProviderUrlError::OtherScheme),
            ("", ProviderUrlError::NotAUrl),
        ] {
            assert_eq!(check_provider_url(url, true), Err(reason), "{url}");
        }
        assert_eq!(check_provider_url("http://127.0.0.1:1/a", false), Err(ProviderUrlError::PlainHttp));
    }

    #[test]
    fn a_document_may_name_plain_http_only_if_its_issuer_is_plain() {
        let check = |url, issuer| check_named_url("token_endpoint", url, issuer).is_ok();
        assert!(check("https://a.example/token", "https://b.example"));
        assert!(check("http://127.0.0.1:9/token", "http://127.0.0.1:8"));
        assert!(!check("http://127.0.0.1:9/token", "https://a.example"));
        assert!(!check("http://a.example/token", "https://a.example"));
        assert!(!check("http://a.example/token", "http://a.example"));
        assert!(!check("http://169.254.169.254/token", "http://127.0.0.1:8"));
        assert!(!check("https://user@a.example/token", "https://a.example"));
        assert!(!check("javascript:alert(1)", "https://a.example"));
    }
}

//! The console as an OpenID Connect client of one provider: its discovery document, and codes for ID tokens.
//!
//! Nothing here verifies a token; see [`crate::oidc_sign_in`].

use crate::settings::SignInProvider;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use durward_core::{HttpClient, HttpLimits, lock_ignoring_poison};
use durward_identity::{
    ProviderDocumentError,
    relying_party::{
        AuthorizationResponseError, DiscoveryDocument, TokenResponse, encode_form, encode_form_value,
    },
};
use http::{HeaderValue, Method, Request, StatusCode, header};
use std::sync::{Arc, Mutex};
use time::{Duration, OffsetDateTime};

/// The time for which a discovery document is used before it is fetched again.
const DISCOVERY_TTL: Duration = Duration::minutes(10);
/// The time for which a failed fetch is not repeated. Anybody can start a sign-in, and each would send a request to a provider that
/// fails, and wait for it.
const FAILED_DISCOVERY_TTL: Duration = Duration::seconds(10);
/// A token response holds a few JWTs. A user waits for it, so the timeout is short.
const TOKEN_REQUEST_LIMITS: HttpLimits =
    HttpLimits { timeout: std::time::Duration::from_secs(10), max_response_bytes: 1 << 20 };

/// Why a provider gave no ID token.
#[derive(Debug, thiserror::Error)]
pub enum OidcClientError {
    #[error(transparent)]
    Discovery(#[from] ProviderDocumentError),
    #[error("its discovery document could not be fetched")]
    DiscoveryFailed,
    #[error("its token endpoint is not a URL")]
    InvalidTokenEndpoint,
    #[error("the client secret cannot be sent in a header")]
    InvalidClientSecret,
    #[error("its token endpoint cannot be reached")]
    TokenEndpointUnreachable,
    #[error("its token endpoint responded with {0} and no JSON")]
    MalformedTokenResponse(StatusCode),
    #[error(transparent)]
    Rejected(#[from] AuthorizationResponseError),
}

/// The client of one provider, with a cached discovery document.
pub struct OidcClient {
    pub settings: SignInProvider,
    http_client: Arc<dyn HttpClient>,
    discovery: Arc<DiscoveryCache>,
}

/// The last fetch of a discovery document.
#[derive(Default)]
struct DiscoveryCache {
    /// When it began, and what it gave.
    last_fetch: Mutex<Option<(OffsetDateTime, DiscoveryResult)>>,
    /// Locked by the one task that fetches.
    fetching: tokio::sync::Mutex<()>,
}

type DiscoveryResult = Result<Arc<DiscoveryDocument>, ProviderDocumentError>;

impl DiscoveryCache {
    fn get(&self, now: OffsetDateTime) -> Option<DiscoveryResult> {
        let (fetched_at, result) = lock_ignoring_poison(&self.last_fetch).clone()?;
        let ttl = if result.is_ok() { DISCOVERY_TTL } else { FAILED_DISCOVERY_TTL };
        // The absolute age: a clock that was set back must not keep a result for longer.
        ((now - fetched_at).abs() < ttl).then_some(result)
    }
}

impl OidcClient {
    pub fn new(settings: SignInProvider, http_client: Arc<dyn HttpClient>) -> Self {
        Self { settings, http_client, discovery: Arc::default() }
    }

    pub fn name(&self) -> &str {
        &self.settings.provider.name
    }

    pub async fn load_discovery(
        &self,
        now: OffsetDateTime,
    ) -> Result<Arc<DiscoveryDocument>, OidcClientError> {
        if let Some(known) = self.discovery.get(now) {
            return Ok(known?);
        }
        let (cache, http_client) = (self.discovery.clone(), self.http_client.clone());
        let (provider, issuer) = (self.name().to_owned(), self.settings.provider.issuer.clone());
        // A task of its own: a browser that leaves must not end the fetch, so that the next one would start another.
        let fetch = tokio::spawn(async move {
            let _one_at_a_time = cache.fetching.lock().await;
            // Another task may have fetched it while this one waited.
            if let Some(known) = cache.get(now) {
                return known;
            }
            let result = DiscoveryDocument::fetch_document(&issuer, http_client.as_ref()).await.map(Arc::new);
            if let Err(error) = &result {
                tracing::warn!(provider, %error, "sign-in: the discovery document is not usable");
            }
            *lock_ignoring_poison(&cache.last_fetch) = Some((now, result.clone()));
            result
        });
        fetch.await.map_err(|error| {
            tracing::error!(provider = self.name(), %error, "sign-in: the fetch of the discovery document panicked or was cancelled");
            OidcClientError::DiscoveryFailed
        })?
        .map_err(Into::into)
    }

    /// Exchanges an authorization code for the ID token.
    pub async fn exchange_code(
        &self,
        discovery: &DiscoveryDocument,
        redirect_uri: &str,
        code: &str,
        code_verifier: &str,
    ) -> Result<String, OidcClientError> {
        let request = self.token_request(discovery, redirect_uri, code, code_verifier)?;
        let sent = self.http_client.send(request, TOKEN_REQUEST_LIMITS).await;
        let response = sent.map_err(|error| {
            tracing::warn!(provider = self.name(), %error, "sign-in: the token endpoint cannot be reached");
            OidcClientError::TokenEndpointUnreachable
        })?;
        let status = response.status();
        let tokens: TokenResponse = serde_json::from_slice(response.body())
            .map_err(|_not_json| OidcClientError::MalformedTokenResponse(status))?;
        let error_text = tokens.error_text();
        if let (true, Some(token)) = (status.is_success(), tokens.id_token) {
            return Ok(token);
        }
        tracing::warn!(
            provider = self.name(),
            %status,
            error = error_text,
            "sign-in: the token endpoint refused the code"
        );
        Err(AuthorizationResponseError::ProviderError(error_text).into())
    }

    fn token_request(
        &self,
        discovery: &DiscoveryDocument,
        redirect_uri: &str,
        code: &str,
        code_verifier: &str,
    ) -> Result<Request<Bytes>, OidcClientError> {
        let mut parameters = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", code_verifier),
            ("client_id", self.settings.client_id.as_str()),
        ];
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = Method::POST;
        *request.uri_mut() =
            discovery.token_endpoint.parse().map_err(|_invalid| OidcClientError::InvalidTokenEndpoint)?;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let methods = &discovery.token_endpoint_auth_methods_supported;
        if let Some(secret) = &self.settings.client_secret {
            // Without a list of methods the default is `client_secret_basic` (OpenID Connect Discovery 1.0 section 3).
            if methods.is_empty() || methods.iter().any(|method| method == "client_secret_basic") {
                // Both parts are form-encoded before they are joined (RFC 6749 section 2.3.1).
                let credentials = format!(
                    "{}:{}",
                    encode_form_value(&self.settings.client_id),
                    encode_form_value(secret.expose())
                );
                let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(credentials)))
                    .map_err(|_invalid| OidcClientError::InvalidClientSecret)?;
                // Keeps the value out of `Debug` output, and out of the HPACK tables of HTTP/2 (RFC 7541 section 7.1.3).
                value.set_sensitive(true);
                headers.insert(header::AUTHORIZATION, value);
            } else {
                parameters.push(("client_secret", secret.expose()));
            }
        }
        let body = encode_form(&parameters);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        *request.body_mut() = Bytes::from(body);
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use durward_core::{HttpClientError, HttpFuture};
    use durward_identity::ProviderConfig;
    use http::Response;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A provider that fails until it is repaired, and counts requests.
    #[derive(Default)]
    struct FailingProvider {
        requests: AtomicUsize,
        is_repaired: Mutex<bool>,
    }

    impl HttpClient for FailingProvider {
        fn send(&self, _request: Request<Bytes>, _limits: HttpLimits) -> HttpFuture<'_> {
            self.requests.fetch_add(1, Ordering::SeqCst);
            let is_repaired = *lock_ignoring_poison(&self.is_repaired);
            Box::pin(async move {
                // Gives the other sign-ins a turn, so that they arrive during this request.
                tokio::task::yield_now().await;
                let body = r#"{"issuer":"https://idp.example","authorization_endpoint":"https://idp.example/a",
                    "token_endpoint":"https://idp.example/t"}"#;
                if !is_repaired {
                    return Err(HttpClientError::Failed("connection refused".to_owned()));
                }
                Ok(Response::new(Bytes::from_static(body.as_bytes())))
            })
        }
    }

    fn test_client() -> (Arc<FailingProvider>, Arc<OidcClient>) {
        let provider = Arc::new(FailingProvider::default());
        let settings = SignInProvider {
            provider: ProviderConfig::new("corp", "https://idp.example", vec!["console".to_owned()]),
            client_id: "console".to_owned(),
            client_secret: None,
            scopes: Vec::new(),
        };
        (provider.clone(), Arc::new(OidcClient::new(settings, provider)))
    }

    #[tokio::test]
    async fn sign_ins_at_a_provider_that_fails_cost_one_request_in_ten_seconds() {
        let (provider, client) = test_client();
        let now = OffsetDateTime::UNIX_EPOCH;
        let requests = || provider.requests.load(Ordering::SeqCst);
        let mut sign_ins = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let client = client.clone();
            sign_ins.spawn(async move { client.load_discovery(now).await.is_err() });
        }
        assert_eq!(sign_ins.join_all().await, [true; 50]);
        for seconds in 0..10 {
            let refused = client.load_discovery(now + Duration::seconds(seconds)).await;
            assert!(matches!(refused, Err(OidcClientError::Discovery(_))));
        }
        assert_eq!(requests(), 1);
        *lock_ignoring_poison(&provider.is_repaired) = true;
        assert!(client.load_discovery(now + Duration::seconds(9)).await.is_err());
        assert!(client.load_discovery(now + Duration::seconds(10)).await.is_ok());
        assert!(client.load_discovery(now + Duration::seconds(600)).await.is_ok());
        assert_eq!(requests(), 2);
    }
}

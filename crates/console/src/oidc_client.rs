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
/// A token response holds a few JWTs. A user waits for it, so the timeout is short.
const TOKEN_REQUEST_LIMITS: HttpLimits =
    HttpLimits { timeout: std::time::Duration::from_secs(10), max_response_bytes: 1 << 20 };

/// Why a provider gave no ID token.
#[derive(Debug, thiserror::Error)]
pub enum OidcClientError {
    #[error(transparent)]
    Discovery(#[from] ProviderDocumentError),
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
    cached_discovery: Mutex<Option<(OffsetDateTime, Arc<DiscoveryDocument>)>>,
}

impl OidcClient {
    pub fn new(settings: SignInProvider, http_client: Arc<dyn HttpClient>) -> Self {
        Self { settings, http_client, cached_discovery: Mutex::new(None) }
    }

    pub fn name(&self) -> &str {
        &self.settings.provider.name
    }

    pub async fn load_discovery(
        &self,
        now: OffsetDateTime,
    ) -> Result<Arc<DiscoveryDocument>, OidcClientError> {
        let cached = lock_ignoring_poison(&self.cached_discovery).clone();
        if let Some((fetched_at, discovery)) = cached
            // The absolute age: a clock that was set back must not keep a document for longer.
            && (now - fetched_at).abs() < DISCOVERY_TTL
        {
            return Ok(discovery);
        }
        let issuer = &self.settings.provider.issuer;
        let fetched = DiscoveryDocument::fetch_document(issuer, self.http_client.as_ref()).await;
        let discovery = Arc::new(fetched.inspect_err(|error| {
            tracing::warn!(provider = self.name(), %error, "sign-in: the discovery document is not usable");
        })?);
        *lock_ignoring_poison(&self.cached_discovery) = Some((now, discovery.clone()));
        Ok(discovery)
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

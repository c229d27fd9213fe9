//! The OpenID Connect relying party, as the console and the command line need it: the provider's discovery document, the
//! authentication request and its response in the authorization code flow with PKCE (RFC 7636, RFC 9207), and forms.
//!
//! Promises: an endpoint is used only over TLS, or over plain http if the issuer itself is plain http on loopback. The code of
//! a response can be read only together with the checks of its `state` and `iss`. Nothing here verifies a token;
//! [`TokenVerifier`](crate::TokenVerifier) does.

use crate::discovery::{ProviderDocumentError, check_named_url, fetch_discovery};
use aws_lc_rs::{constant_time, digest, rand};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use durward_core::HttpClient;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;

/// Characters of a provider's error text that are passed on.
const MAX_PROVIDER_ERROR_CHARS: usize = 300;
/// All characters but the unreserved ones of RFC 3986 section 2.3.
const FORM_VALUE_ESCAPES: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The parts of a discovery document that a client needs.
#[derive(Debug, Clone, Deserialize)]
pub struct DiscoveryDocument {
    pub issuer: String,
    pub authorization_endpoint: String,
    pub token_endpoint: String,
    pub jwks_uri: Option<String>,
    /// RFC 8628.
    pub device_authorization_endpoint: Option<String>,
    /// RFC 7009.
    pub revocation_endpoint: Option<String>,
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
    #[serde(default)]
    pub token_endpoint_auth_methods_supported: Vec<String>,
    pub scopes_supported: Option<Vec<String>>,
}

impl DiscoveryDocument {
    /// Fetches the document of an issuer and checks every URL in it.
    pub async fn fetch_document(
        issuer: &str,
        http_client: &dyn HttpClient,
    ) -> Result<Self, ProviderDocumentError> {
        let discovery: Self = fetch_discovery(issuer, http_client).await?;
        // The token endpoint gets the client secret and the code: a plain URL would send both in the clear.
        for (member, url) in discovery.named_endpoints() {
            check_named_url(member, url, issuer)?;
        }
        Ok(discovery)
    }

    fn named_endpoints(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("authorization_endpoint", Some(&self.authorization_endpoint)),
            ("token_endpoint", Some(&self.token_endpoint)),
            ("jwks_uri", self.jwks_uri.as_ref()),
            ("device_authorization_endpoint", self.device_authorization_endpoint.as_ref()),
            ("revocation_endpoint", self.revocation_endpoint.as_ref()),
        ]
        .into_iter()
        .filter_map(|(member, url)| Some((member, url?.as_str())))
    }

    /// The URLs of all endpoints that the document names.
    pub fn endpoints(&self) -> impl Iterator<Item = &str> {
        self.named_endpoints().map(|(_member, url)| url)
    }

    /// The URL of the provider's page on which a person signs in.
    pub fn authorization_url(&self, attempt: &AuthenticationRequest<'_>) -> String {
        let scope = scope_parameter(attempt.scopes);
        let challenge = code_challenge(attempt.code_verifier);
        let mut parameters = vec![
            ("response_type", "code"),
            ("client_id", attempt.client_id),
            ("redirect_uri", attempt.redirect_uri),
            ("scope", &scope),
            ("state", attempt.state),
            ("nonce", attempt.nonce),
            ("code_challenge", &challenge),
            // Not `plain`: whoever reads the request would have the verifier (RFC 7636 section 7.2, RFC 9700 section 2.1.1).
            ("code_challenge_method", "S256"),
        ];
        // OpenID Connect Core section 11: without this, a provider need not give offline access.
        if attempt.scopes.iter().any(|scope| scope == "offline_access") {
            parameters.push(("prompt", "consent"));
        }
        let parameters = encode_form(&parameters);
        // RFC 6749 section 3.1: the endpoint may have a query of its own, which must be kept.
        let separator = if self.authorization_endpoint.contains('?') { '&' } else { '?' };
        format!("{}{separator}{parameters}", self.authorization_endpoint)
    }

    /// The code of a response that belongs to the request with this `state` and comes from this provider.
    pub fn authorization_code<'a>(
        &self,
        response: &'a AuthorizationResponse,
        state: &str,
    ) -> Result<&'a str, AuthorizationResponseError> {
        // Login CSRF (RFC 6749 section 10.12): without this, an attacker could sign a person in with their own code.
        if !response.has_state(state) {
            return Err(AuthorizationResponseError::StateMismatch);
        }
        // RFC 9207 section 2.4: a provider that promises `iss` must send it, or another one could pass off its code (mix-up).
        let is_from_issuer = match &response.iss {
            Some(iss) => *iss == self.issuer,
            None => !self.authorization_response_iss_parameter_supported,
        };
        if !is_from_issuer {
            return Err(AuthorizationResponseError::IssuerMismatch);
        }
        // After `state` and `iss`: otherwise any page could show a user an error text of its choice here.
        if let Some(error) = &response.error {
            let text = response.error_description.as_deref().unwrap_or(error);
            return Err(AuthorizationResponseError::ProviderError(
                text.chars().take(MAX_PROVIDER_ERROR_CHARS).collect(),
            ));
        }
        let code = response.code.as_deref().filter(|code| !code.is_empty());
        code.ok_or_else(|| AuthorizationResponseError::ProviderError("it sent no code".to_owned()))
    }
}

/// The parameters of one attempt to sign in.
#[derive(Debug, Clone, Copy)]
pub struct AuthenticationRequest<'a> {
    pub client_id: &'a str,
    pub redirect_uri: &'a str,
    /// Beside `openid`.
    pub scopes: &'a [String],
    pub state: &'a str,
    pub nonce: &'a str,
    /// The secret of PKCE: only its hash is sent with this request.
    pub code_verifier: &'a str,
}

/// The parameters with which the provider sends a person back. [`DiscoveryDocument::authorization_code`] reads them.
#[derive(Debug, Default, Deserialize)]
pub struct AuthorizationResponse {
    code: Option<String>,
    state: Option<String>,
    iss: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

impl AuthorizationResponse {
    /// The response in a query. `None` if a parameter occurs twice (RFC 6749 section 3.1 forbids that) or is not UTF-8.
    pub fn parse_query(query: &str) -> Option<Self> {
        let mut response = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let parameter = match name {
                "code" => &mut response.code,
                "state" => &mut response.state,
                "iss" => &mut response.iss,
                "error" => &mut response.error,
                "error_description" => &mut response.error_description,
                _ => continue,
            };
            // The parameters are form-encoded (RFC 6749 section 4.1.2), where a plus is a space.
            let value = value.replace('+', " ");
            let value = percent_decode_str(&value).decode_utf8().ok()?;
            if parameter.replace(value.into_owned()).is_some() {
                return None;
            }
        }
        Some(response)
    }

    /// Returns true if it belongs to the request with this `state`.
    pub fn has_state(&self, state: &str) -> bool {
        constant_time_eq(self.state.as_deref().unwrap_or_default(), state)
    }
}

/// Why a response cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizationResponseError {
    #[error("this sign-in was not started in this browser. Sign in again")]
    StateMismatch,
    #[error("the response comes from another issuer (iss)")]
    IssuerMismatch,
    /// The provider's own text, cut.
    #[error("the identity provider refused: {0}")]
    ProviderError(String),
}

/// The response of a token endpoint, successful or not.
#[derive(Default, Deserialize)]
pub struct TokenResponse {
    pub id_token: Option<String>,
    pub refresh_token: Option<String>,
    pub error: Option<String>,
    pub error_description: Option<String>,
}

impl TokenResponse {
    /// The provider's own error text, cut.
    pub fn error_text(&self) -> String {
        let text = self.error_description.as_deref().or(self.error.as_deref());
        text.unwrap_or("it sent no ID token").chars().take(MAX_PROVIDER_ERROR_CHARS).collect()
    }
}

/// The PKCE code challenge of a verifier by the method `S256` (RFC 7636 section 4.2).
pub fn code_challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()).as_ref())
}

/// The value of `scope`: `openid` and `scopes`.
pub fn scope_parameter(scopes: &[String]) -> String {
    scopes.iter().fold("openid".to_owned(), |joined, scope| joined + " " + scope)
}

/// Pairs as `application/x-www-form-urlencoded`.
pub fn encode_form(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{name}={}", encode_form_value(value))).collect();
    pairs.join("&")
}

/// A value, percent-encoded for a form or a query.
pub fn encode_form_value(value: &str) -> String {
    utf8_percent_encode(value, FORM_VALUE_ESCAPES).to_string()
}

/// Returns true if two secrets are equal. The time that this takes does not depend on where they differ.
pub fn constant_time_eq(one: &str, other: &str) -> bool {
    constant_time::verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

/// 32 random bytes as text. `None` if the system's random number generator failed.
pub fn random_text() -> Option<String> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use durward_core::{HttpClientError, HttpFuture, HttpLimits};
    use http::{Request, Response};

    fn discovery_document() -> DiscoveryDocument {
        serde_json::from_value(serde_json::json!({
            "issuer": "https://idp.example",
            "authorization_endpoint": "https://idp.example/auth?tenant=1",
            "token_endpoint": "https://idp.example/token",
        }))
        .expect("a document")
    }

    #[test]
    fn the_request_has_state_nonce_and_the_hash_of_the_verifier() {
        let page = discovery_document().authorization_url(&AuthenticationRequest {
            client_id: "cli",
            redirect_uri: "http://127.0.0.1:9/callback",
            scopes: &["profile".to_owned()],
            state: "s",
            nonce: "n",
            // The example of RFC 7636, appendix B.
            code_verifier: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        });
        assert_eq!(
            page,
            "https://idp.example/auth?tenant=1&response_type=code&client_id=cli&redirect_uri=http%3A%2F%2F127.0.0.1%3A9%2F\
             callback&scope=openid%20profile&state=s&nonce=n&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM\
             &code_challenge_method=S256"
        );
    }

    #[test]
    fn reads_each_parameter_of_a_response_once() {
        let response = AuthorizationResponse::parse_query(
            "code=a%2Fb&state=s&error_description=not+today%21&session_state=x",
        )
        .expect("a response");
        assert_eq!((response.code.as_deref(), response.state.as_deref()), (Some("a/b"), Some("s")));
        assert_eq!(response.error_description.as_deref(), Some("not today!"));
        for twice in ["state=s&state=t", "code=a&state=s&code=b", "state=%ff"] {
            assert!(AuthorizationResponse::parse_query(twice).is_none(), "{twice}");
        }
    }

    #[test]
    fn accepts_a_code_only_from_this_issuer_and_for_this_state() {
        let mut provider = discovery_document();
        let response = |query: &[(&str, &str)]| -> AuthorizationResponse {
            AuthorizationResponse::parse_query(&encode_form(query)).expect("a response")
        };
        assert_eq!(provider.authorization_code(&response(&[("state", "s"), ("code", "c")]), "s"), Ok("c"));
        assert_eq!(
            provider.authorization_code(&response(&[("state", "t"), ("code", "c")]), "s"),
            Err(AuthorizationResponseError::StateMismatch)
        );
        assert_eq!(
            provider.authorization_code(&response(&[("code", "c")]), "s"),
            Err(AuthorizationResponseError::StateMismatch)
        );
        let foreign = response(&[("state", "s"), ("code", "c"), ("iss", "https://evil.example")]);
        assert_eq!(
            provider.authorization_code(&foreign, "s"),
            Err(AuthorizationResponseError::IssuerMismatch)
        );
        let denied = response(&[("state", "s"), ("error", "access_denied")]);
        assert_eq!(
            provider.authorization_code(&denied, "s"),
            Err(AuthorizationResponseError::ProviderError("access_denied".to_owned()))
        );
        provider.authorization_response_iss_parameter_supported = true;
        let silent = response(&[("state", "s"), ("code", "c")]);
        assert_eq!(
            provider.authorization_code(&silent, "s"),
            Err(AuthorizationResponseError::IssuerMismatch)
        );
        let empty = response(&[("state", "s"), ("iss", "https://idp.example"), ("code", "")]);
        assert!(matches!(
            provider.authorization_code(&empty, "s"),
            Err(AuthorizationResponseError::ProviderError(_))
        ));
    }

    /// Responds with one document, or with one failure, to every request.
    struct OneDocumentClient(TestResponse);

    type TestResponse = Result<(u16, String), HttpClientError>;

    impl HttpClient for OneDocumentClient {
        fn send(&self, request: Request<Bytes>, limits: HttpLimits) -> HttpFuture<'_> {
            assert_eq!(request.uri(), "https://idp.example/.well-known/openid-configuration");
            let response = self.0.clone().and_then(|(status, body)| {
                if body.len() > limits.max_response_bytes {
                    return Err(HttpClientError::Failed("the response is too large".to_owned()));
                }
                Ok(Response::builder().status(status).body(body.into()).expect("a response"))
            });
            Box::pin(std::future::ready(response))
        }
    }

    #[tokio::test]
    async fn a_document_that_cannot_be_trusted_is_refused() {
        type Matches = fn(&ProviderDocumentError) -> bool;
        let document = |member: &str, value: &str| {
            let mut document = serde_json::json!({
                "issuer": "https://idp.example",
                "authorization_endpoint": "https://idp.example/auth",
                "token_endpoint": "https://idp.example/token",
            });
            document[member] = value.into();
            document.to_string()
        };
        let fetch = async |response| {
            DiscoveryDocument::fetch_document("https://idp.example", &OneDocumentClient(response)).await
        };
        let good =
            fetch(Ok((200, document("jwks_uri", "https://keys.example/set")))).await.expect("a document");
        assert_eq!(good.endpoints().last(), Some("https://keys.example/set"));

        let is_unusable: Matches = |error| matches!(error, ProviderDocumentError::UnusableUrl { .. });
        let is_malformed: Matches = |error| matches!(error, ProviderDocumentError::Malformed { .. });
        let is_http: Matches = |error| matches!(error, ProviderDocumentError::Http { .. });
        let cases: Vec<(&str, TestResponse, Matches)> = vec![
            ("another issuer", Ok((200, document("issuer", "https://idp.example/"))), |error| {
                matches!(error, ProviderDocumentError::OtherIssuer { .. })
            }),
            ("a plain endpoint", Ok((200, document("token_endpoint", "http://idp.example/t"))), is_unusable),
            ("a plain key set", Ok((200, document("jwks_uri", "http://127.0.0.1/keys"))), is_unusable),
            ("a script", Ok((200, document("authorization_endpoint", "javascript:alert(1)"))), is_unusable),
            ("a file", Ok((200, document("revocation_endpoint", "file:///etc/passwd"))), is_unusable),
            ("an error", Ok((500, document("jwks_uri", "https://keys.example/set"))), |error| {
                matches!(error, ProviderDocumentError::Status { .. })
            }),
            ("a redirect", Ok((302, String::new())), |error| {
                matches!(error, ProviderDocumentError::Status { .. })
            }),
            ("not JSON", Ok((200, "<html>".to_owned())), is_malformed),
            ("no endpoints", Ok((200, r#"{"issuer":"https://idp.example"}"#.to_owned())), is_malformed),
            ("a huge document", Ok((200, document("pad", &"x".repeat(600 << 10)))), is_http),
            ("no connection", Err(HttpClientError::Failed("connection refused".to_owned())), is_http),
        ];
        for (case, response, is_expected) in cases {
            let error = fetch(response).await.expect_err(case);
            assert!(is_expected(&error), "{case}: {error}");
        }
    }
}

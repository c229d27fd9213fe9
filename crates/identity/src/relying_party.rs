//! What a client of an OpenID provider needs, be it the console or the command line: the provider's discovery document, the
//! request and the answer of the authorization code flow with PKCE (RFC 7636, RFC 9207), and forms.
//!
//! An endpoint is used only over TLS, or over plain http where the issuer itself is on loopback. Nothing here verifies a
//! token; [`crate::Verifier`] does.

use crate::ProviderHttpClient;
use aws_lc_rs::{constant_time, digest, rand};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;

/// Bytes of a discovery document.
const MAX_DISCOVERY_BYTES: usize = 512 << 10;
/// Characters of a provider's own words that are passed on.
const MAX_PROVIDER_ERROR_CHARS: usize = 300;
/// Everything but the unreserved characters of RFC 3986.
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
    /// Fetches and checks the document of an issuer. The error is for people and holds nothing but addresses.
    pub async fn fetch_document(issuer: &str, fetch: &dyn ProviderHttpClient) -> Result<Self, String> {
        let url = format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer));
        let fetched = fetch.get(&url).await?;
        if fetched.status != 200 || fetched.body.len() > MAX_DISCOVERY_BYTES {
            return Err(format!("{url} answered {}", fetched.status));
        }
        let discovery: Self = serde_json::from_slice(&fetched.body)
            .map_err(|error| format!("{url} is not a discovery document: {error}"))?;
        if discovery.issuer != issuer {
            return Err(format!("{url} speaks for another issuer"));
        }
        if discovery.endpoints().any(|endpoint| !is_usable_endpoint(endpoint, issuer)) {
            return Err(format!("{url} names an endpoint that is not https"));
        }
        Ok(discovery)
    }

    /// Every endpoint that is named.
    pub fn endpoints(&self) -> impl Iterator<Item = &str> {
        let optional = [&self.jwks_uri, &self.device_authorization_endpoint, &self.revocation_endpoint];
        [self.authorization_endpoint.as_str(), self.token_endpoint.as_str()]
            .into_iter()
            .chain(optional.into_iter().filter_map(|endpoint| endpoint.as_deref()))
    }

    /// The address of the provider's page where a person signs in. `scopes` are beside `openid`.
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
            ("code_challenge_method", "S256"),
        ];
        // OpenID Connect Core section 11: without this, a provider need not give offline access.
        if attempt.scopes.iter().any(|scope| scope == "offline_access") {
            parameters.push(("prompt", "consent"));
        }
        let parameters = encode_form(&parameters);
        let joint = if self.authorization_endpoint.contains('?') { '&' } else { '?' };
        format!("{}{joint}{parameters}", self.authorization_endpoint)
    }

    /// The code of an answer that belongs to the attempt with this `state` and comes from this provider.
    pub fn authorization_code<'a>(
        &self,
        answer: &'a AuthorizationResponse,
        state: &str,
    ) -> Result<&'a str, AuthorizationResponseError> {
        if !answer.has_state(state) {
            return Err(AuthorizationResponseError::StateMismatch);
        }
        let from_issuer = match &answer.iss {
            Some(iss) => *iss == self.issuer,
            None => !self.authorization_response_iss_parameter_supported,
        };
        if !from_issuer {
            return Err(AuthorizationResponseError::IssuerMismatch);
        }
        if let Some(error) = &answer.error {
            let said = answer.error_description.as_deref().unwrap_or(error);
            return Err(AuthorizationResponseError::ProviderError(
                said.chars().take(MAX_PROVIDER_ERROR_CHARS).collect(),
            ));
        }
        let code = answer.code.as_deref().filter(|code| !code.is_empty());
        code.ok_or_else(|| AuthorizationResponseError::ProviderError("it sent no code".to_owned()))
    }
}

/// One attempt to sign in.
#[derive(Debug, Clone, Copy)]
pub struct AuthenticationRequest<'a> {
    pub client_id: &'a str,
    pub redirect_uri: &'a str,
    pub scopes: &'a [String],
    pub state: &'a str,
    pub nonce: &'a str,
    /// Of PKCE: it stays here, and its hash goes out.
    pub code_verifier: &'a str,
}

/// The parameters with which the provider sends a person back.
#[derive(Debug, Default, Deserialize)]
pub struct AuthorizationResponse {
    pub code: Option<String>,
    pub state: Option<String>,
    pub iss: Option<String>,
    pub error: Option<String>,
    pub error_description: Option<String>,
}

impl AuthorizationResponse {
    /// The answer in a query; none if a parameter is there twice or is not text.
    pub fn parse_query(query: &str) -> Option<Self> {
        let mut answer = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let place = match name {
                "code" => &mut answer.code,
                "state" => &mut answer.state,
                "iss" => &mut answer.iss,
                "error" => &mut answer.error,
                "error_description" => &mut answer.error_description,
                _ => continue,
            };
            let value = value.replace('+', " ");
            let value = percent_decode_str(&value).decode_utf8().ok()?;
            if place.replace(value.into_owned()).is_some() {
                return None;
            }
        }
        Some(answer)
    }

    /// Whether it belongs to the attempt with this `state`.
    pub fn has_state(&self, state: &str) -> bool {
        constant_time_eq(self.state.as_deref().unwrap_or_default(), state)
    }
}

/// Why an answer leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizationResponseError {
    #[error("the answer does not belong to the sign-in that was begun here (state)")]
    StateMismatch,
    #[error("the answer comes from another issuer than the one asked (iss)")]
    IssuerMismatch,
    /// Holds the provider's own words.
    #[error("the identity provider refused: {0}")]
    ProviderError(String),
}

/// What a token endpoint answers, good or bad.
#[derive(Default, Deserialize)]
pub struct TokenResponse {
    pub id_token: Option<String>,
    pub refresh_token: Option<String>,
    pub error: Option<String>,
    pub error_description: Option<String>,
}

impl TokenResponse {
    /// What the provider says is wrong, in its own words.
    pub fn error_text(&self) -> String {
        let said = self.error_description.as_deref().or(self.error.as_deref());
        said.unwrap_or("it sent no ID token").chars().take(MAX_PROVIDER_ERROR_CHARS).collect()
    }
}

/// The hash of a PKCE verifier that goes out before it, by the method `S256`.
pub fn code_challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()).as_ref())
}

/// The value of `scope`: `openid` and these.
pub fn scope_parameter(more: &[String]) -> String {
    more.iter().fold("openid".to_owned(), |mut scope, one| {
        scope.push(' ');
        scope.push_str(one);
        scope
    })
}

/// Pairs as `application/x-www-form-urlencoded`.
pub fn encode_form(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{name}={}", encode_form_value(value))).collect();
    pairs.join("&")
}

/// A value as it stands in a form or a query.
pub fn encode_form_value(value: &str) -> String {
    utf8_percent_encode(value, FORM_VALUE_ESCAPES).to_string()
}

/// The `nonce` of an ID token that has been verified already; this looks at nothing but the payload.
pub fn id_token_nonce(verified: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct NonceClaim {
        nonce: Option<String>,
    }
    let payload = URL_SAFE_NO_PAD.decode(verified.trim().split('.').nth(1)?).ok()?;
    serde_json::from_slice::<NonceClaim>(&payload).ok()?.nonce
}

/// Whether two secrets are the same, in a time that does not depend on where they differ.
pub fn constant_time_eq(one: &str, other: &str) -> bool {
    constant_time::verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

/// 32 random bytes as text; none if the system has no randomness.
pub fn random_text() -> Option<String> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

/// `https`, or plain `http` where the issuer itself is plain, which the configuration permits on loopback only.
fn is_usable_endpoint(endpoint: &str, issuer: &str) -> bool {
    let Ok(url) = endpoint.parse::<http::Uri>() else { return false };
    if endpoint.contains('#') || url.authority().is_none_or(|authority| authority.as_str().contains('@')) {
        return false;
    }
    match url.scheme_str() {
        Some("https") => true,
        Some("http") => issuer
            .parse::<http::Uri>()
            .is_ok_and(|issuer| issuer.scheme_str() == Some("http") && issuer.host() == url.host()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_plain_http_only_from_a_plain_issuer_on_the_same_host() {
        assert!(is_usable_endpoint("https://a.example/token", "https://b.example"));
        assert!(is_usable_endpoint("http://127.0.0.1:9/token", "http://127.0.0.1:8"));
        assert!(!is_usable_endpoint("http://a.example/token", "https://a.example"));
        assert!(!is_usable_endpoint("http://169.254.169.254/token", "http://127.0.0.1:8"));
        assert!(!is_usable_endpoint("https://user@a.example/token", "https://a.example"));
        assert!(!is_usable_endpoint("javascript:alert(1)", "https://a.example"));
    }

    fn discovery_document() -> DiscoveryDocument {
        serde_json::from_value(serde_json::json!({
            "issuer": "https://idp.example",
            "authorization_endpoint": "https://idp.example/auth?tenant=1",
            "token_endpoint": "https://idp.example/token",
        }))
        .expect("a document")
    }

    #[test]
    fn sends_state_nonce_and_the_hash_of_the_verifier() {
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
        let answer = AuthorizationResponse::parse_query(
            "code=a%2Fb&state=s&error_description=not+today%21&session_state=x",
        )
        .expect("one");
        assert_eq!((answer.code.as_deref(), answer.state.as_deref()), (Some("a/b"), Some("s")));
        assert_eq!(answer.error_description.as_deref(), Some("not today!"));
        for twice in ["state=s&state=t", "code=a&state=s&code=b", "state=%ff"] {
            assert!(AuthorizationResponse::parse_query(twice).is_none(), "{twice}");
        }
    }

    #[test]
    fn accepts_a_code_only_from_this_issuer_and_for_this_state() {
        let mut provider = discovery_document();
        let answer = |query: &[(&str, &str)]| -> AuthorizationResponse {
            AuthorizationResponse::parse_query(&encode_form(query)).expect("an answer")
        };
        assert_eq!(provider.authorization_code(&answer(&[("state", "s"), ("code", "c")]), "s"), Ok("c"));
        assert_eq!(
            provider.authorization_code(&answer(&[("state", "t"), ("code", "c")]), "s"),
            Err(AuthorizationResponseError::StateMismatch)
        );
        assert_eq!(
            provider.authorization_code(&answer(&[("code", "c")]), "s"),
            Err(AuthorizationResponseError::StateMismatch)
        );
        let foreign = answer(&[("state", "s"), ("code", "c"), ("iss", "https://evil.example")]);
        assert_eq!(
            provider.authorization_code(&foreign, "s"),
            Err(AuthorizationResponseError::IssuerMismatch)
        );
        let denied = answer(&[("state", "s"), ("error", "access_denied")]);
        assert_eq!(
            provider.authorization_code(&denied, "s"),
            Err(AuthorizationResponseError::ProviderError("access_denied".to_owned()))
        );
        provider.authorization_response_iss_parameter_supported = true;
        let silent = answer(&[("state", "s"), ("code", "c")]);
        assert_eq!(
            provider.authorization_code(&silent, "s"),
            Err(AuthorizationResponseError::IssuerMismatch)
        );
        let empty = answer(&[("state", "s"), ("iss", "https://idp.example"), ("code", "")]);
        assert!(matches!(
            provider.authorization_code(&empty, "s"),
            Err(AuthorizationResponseError::ProviderError(_))
        ));
    }
}

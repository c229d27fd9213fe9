//! What a client of an OpenID provider needs, be it the console or the command line: the provider's discovery document, the
//! request and the answer of the authorization code flow with PKCE (RFC 7636, RFC 9207), and forms.
//!
//! An endpoint is used only over TLS, or over plain http where the issuer itself is on loopback. Nothing here verifies a
//! token; [`crate::Verifier`] does.

use crate::Fetch;
use aws_lc_rs::{constant_time, digest, rand};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;

/// Bytes of a discovery document.
const DOCUMENT: usize = 512 << 10;
/// Characters of a provider's own words that are passed on.
const WORDS: usize = 300;
/// Everything but the unreserved characters of RFC 3986.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The parts of a discovery document that a client needs.
#[derive(Debug, Clone, Deserialize)]
pub struct Discovery {
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

impl Discovery {
    /// Fetches and checks the document of an issuer. The error is for people and holds nothing but addresses.
    pub async fn read(issuer: &str, fetch: &dyn Fetch) -> Result<Self, String> {
        let url = format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer));
        let fetched = fetch.get(&url).await?;
        if fetched.status != 200 || fetched.body.len() > DOCUMENT {
            return Err(format!("{url} answered {}", fetched.status));
        }
        let discovery: Self = serde_json::from_slice(&fetched.body)
            .map_err(|error| format!("{url} is not a discovery document: {error}"))?;
        if discovery.issuer != issuer {
            return Err(format!("{url} speaks for another issuer"));
        }
        if discovery.endpoints().any(|endpoint| !usable(endpoint, issuer)) {
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
    pub fn sign_in_page(&self, attempt: &Attempt<'_>) -> String {
        let scope = scope(attempt.scopes);
        let challenge = challenge(attempt.verifier);
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
        let parameters = form(&parameters);
        let joint = if self.authorization_endpoint.contains('?') { '&' } else { '?' };
        format!("{}{joint}{parameters}", self.authorization_endpoint)
    }

    /// The code of an answer that belongs to the attempt with this `state` and comes from this provider.
    pub fn code<'a>(&self, answer: &'a Answer, state: &str) -> Result<&'a str, AnswerError> {
        if !answer.belongs_to(state) {
            return Err(AnswerError::State);
        }
        let from_issuer = match &answer.iss {
            Some(iss) => *iss == self.issuer,
            None => !self.authorization_response_iss_parameter_supported,
        };
        if !from_issuer {
            return Err(AnswerError::Issuer);
        }
        if let Some(error) = &answer.error {
            let said = answer.error_description.as_deref().unwrap_or(error);
            return Err(AnswerError::Provider(said.chars().take(WORDS).collect()));
        }
        let code = answer.code.as_deref().filter(|code| !code.is_empty());
        code.ok_or_else(|| AnswerError::Provider("it sent no code".to_owned()))
    }
}

/// One attempt to sign in.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    pub client_id: &'a str,
    pub redirect_uri: &'a str,
    pub scopes: &'a [String],
    pub state: &'a str,
    pub nonce: &'a str,
    /// Of PKCE: it stays here, and its hash goes out.
    pub verifier: &'a str,
}

/// The parameters with which the provider sends a person back.
#[derive(Debug, Default, Deserialize)]
pub struct Answer {
    pub code: Option<String>,
    pub state: Option<String>,
    pub iss: Option<String>,
    pub error: Option<String>,
    pub error_description: Option<String>,
}

impl Answer {
    /// The answer in a query; none if a parameter is there twice or is not text.
    pub fn of_query(query: &str) -> Option<Self> {
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
    pub fn belongs_to(&self, state: &str) -> bool {
        same(self.state.as_deref().unwrap_or_default(), state)
    }
}

/// Why an answer leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    #[error("the answer does not belong to the sign-in that was begun here (state)")]
    State,
    #[error("the answer comes from another issuer than the one asked (iss)")]
    Issuer,
    /// Holds the provider's own words.
    #[error("the identity provider refused: {0}")]
    Provider(String),
}

/// What a token endpoint answers, good or bad.
#[derive(Default, Deserialize)]
pub struct Tokens {
    pub id_token: Option<String>,
    pub refresh_token: Option<String>,
    pub error: Option<String>,
    pub error_description: Option<String>,
}

impl Tokens {
    /// What the provider says is wrong, in its own words.
    pub fn said(&self) -> String {
        let said = self.error_description.as_deref().or(self.error.as_deref());
        said.unwrap_or("it sent no ID token").chars().take(WORDS).collect()
    }
}

/// The hash of a PKCE verifier that goes out before it, by the method `S256`.
pub fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()).as_ref())
}

/// The value of `scope`: `openid` and these.
pub fn scope(more: &[String]) -> String {
    more.iter().fold("openid".to_owned(), |mut scope, one| {
        scope.push(' ');
        scope.push_str(one);
        scope
    })
}

/// Pairs as `application/x-www-form-urlencoded`.
pub fn form(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    pairs.join("&")
}

/// A value as it stands in a form or a query.
pub fn encoded(value: &str) -> String {
    utf8_percent_encode(value, VALUE).to_string()
}

/// The `nonce` of an ID token that has been verified already; this looks at nothing but the payload.
pub fn nonce(verified: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        nonce: Option<String>,
    }
    let payload = URL_SAFE_NO_PAD.decode(verified.trim().split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Claims>(&payload).ok()?.nonce
}

/// Whether two secrets are the same, in a time that does not depend on where they differ.
pub fn same(one: &str, other: &str) -> bool {
    constant_time::verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

/// 32 random bytes as text; none if the system has no randomness.
pub fn random_text() -> Option<String> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

/// `https`, or plain `http` where the issuer itself is plain, which the configuration permits on loopback only.
fn usable(endpoint: &str, issuer: &str) -> bool {
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
    fn takes_plain_http_only_from_a_plain_issuer_on_the_same_host() {
        assert!(usable("https://a.example/token", "https://b.example"));
        assert!(usable("http://127.0.0.1:9/token", "http://127.0.0.1:8"));
        assert!(!usable("http://a.example/token", "https://a.example"));
        assert!(!usable("http://169.254.169.254/token", "http://127.0.0.1:8"));
        assert!(!usable("https://user@a.example/token", "https://a.example"));
        assert!(!usable("javascript:alert(1)", "https://a.example"));
    }

    fn discovery() -> Discovery {
        serde_json::from_value(serde_json::json!({
            "issuer": "https://idp.example",
            "authorization_endpoint": "https://idp.example/auth?tenant=1",
            "token_endpoint": "https://idp.example/token",
        }))
        .expect("a document")
    }

    #[test]
    fn asks_with_state_nonce_and_the_hash_of_the_verifier() {
        let page = discovery().sign_in_page(&Attempt {
            client_id: "cli",
            redirect_uri: "http://127.0.0.1:9/callback",
            scopes: &["profile".to_owned()],
            state: "s",
            nonce: "n",
            // The example of RFC 7636, appendix B.
            verifier: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        });
        assert_eq!(
            page,
            "https://idp.example/auth?tenant=1&response_type=code&client_id=cli&redirect_uri=http%3A%2F%2F127.0.0.1%3A9%2F\
             callback&scope=openid%20profile&state=s&nonce=n&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM\
             &code_challenge_method=S256"
        );
    }

    #[test]
    fn reads_each_parameter_of_an_answer_once() {
        let answer = Answer::of_query("code=a%2Fb&state=s&error_description=not+today%21&session_state=x")
            .expect("one");
        assert_eq!((answer.code.as_deref(), answer.state.as_deref()), (Some("a/b"), Some("s")));
        assert_eq!(answer.error_description.as_deref(), Some("not today!"));
        for twice in ["state=s&state=t", "code=a&state=s&code=b", "state=%ff"] {
            assert!(Answer::of_query(twice).is_none(), "{twice}");
        }
    }

    #[test]
    fn takes_a_code_only_from_the_provider_asked_and_for_this_attempt() {
        let mut provider = discovery();
        let answer =
            |query: &[(&str, &str)]| -> Answer { Answer::of_query(&form(query)).expect("an answer") };
        assert_eq!(provider.code(&answer(&[("state", "s"), ("code", "c")]), "s"), Ok("c"));
        assert_eq!(provider.code(&answer(&[("state", "t"), ("code", "c")]), "s"), Err(AnswerError::State));
        assert_eq!(provider.code(&answer(&[("code", "c")]), "s"), Err(AnswerError::State));
        let foreign = answer(&[("state", "s"), ("code", "c"), ("iss", "https://evil.example")]);
        assert_eq!(provider.code(&foreign, "s"), Err(AnswerError::Issuer));
        let denied = answer(&[("state", "s"), ("error", "access_denied")]);
        assert_eq!(provider.code(&denied, "s"), Err(AnswerError::Provider("access_denied".to_owned())));
        provider.authorization_response_iss_parameter_supported = true;
        let silent = answer(&[("state", "s"), ("code", "c")]);
        assert_eq!(provider.code(&silent, "s"), Err(AnswerError::Issuer));
        let empty = answer(&[("state", "s"), ("iss", "https://idp.example"), ("code", "")]);
        assert!(matches!(provider.code(&empty, "s"), Err(AnswerError::Provider(_))));
    }
}

//! Sign-in by the OpenID Connect authorization code flow, with PKCE (RFC 7636), state, nonce and the issuer of the answer
//! (RFC 9207). The ID token itself is verified by the identity room; what only a client can check is checked here.
//!
//! What belongs to one attempt travels in a sealed cookie: attempts cost no memory, and an answer counts only in the browser
//! that asked.

use crate::{Inner, SignInProvider, people, seal::random_text};
use aws_lc_rs::{constant_time, digest};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use durward_approval::Person;
use durward_identity::Fetch;
use http::{HeaderValue, Method, Request, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use time::{Duration, OffsetDateTime};

/// How long a person may take at the identity provider.
pub const PATIENCE: Duration = Duration::minutes(10);
/// How long a discovery document is used.
const DISCOVERY: Duration = Duration::minutes(10);
/// Bytes of a discovery document or of a token answer.
const DOCUMENT: usize = 512 << 10;
/// Everything but the unreserved characters of RFC 3986.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Why a sign-in came to nothing. The text is for the person; what stands in `Provider` is the provider's own words.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    #[error("there is no such identity provider")]
    NoProvider,
    #[error("the sign-in was not begun in this browser, or longer than ten minutes ago: begin again")]
    NotBegun,
    #[error("the answer does not belong to the sign-in that this browser began (state): begin again")]
    State,
    #[error("the answer comes from another issuer than the one asked (iss)")]
    Issuer,
    #[error("the identity provider refused: {0}")]
    Provider(String),
    #[error("the identity provider cannot be used now: {0}")]
    Unavailable(String),
    #[error("the identity provider's ID token is not accepted: {0}")]
    Token(String),
    #[error("you are signed in to the identity provider, but not in a group that may use this console")]
    NotAdmitted,
    #[error("too many people are signed in: try again later")]
    Full,
    #[error("the gateway could not keep who you are: {0}")]
    Store(String),
}

/// One provider with what it says of itself.
pub struct Client {
    pub options: SignInProvider,
    fetch: Arc<dyn Fetch>,
    known: Mutex<Option<(OffsetDateTime, Arc<Discovery>)>>,
}

/// The parts of a discovery document that a client needs.
#[derive(Debug, Deserialize)]
struct Discovery {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

/// One attempt, as the cookie keeps it.
#[derive(Serialize, Deserialize)]
struct Attempt {
    provider: String,
    state: String,
    nonce: String,
    verifier: String,
    /// Where to go after.
    to: String,
    expires: i64,
}

/// The parameters of the provider's answer.
#[derive(Debug, Default, Deserialize)]
pub struct Answer {
    code: Option<String>,
    state: Option<String>,
    iss: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

/// What only a client looks at in an ID token that is already verified.
#[derive(Deserialize)]
struct ClientClaims {
    nonce: Option<String>,
}

impl Client {
    pub fn new(options: SignInProvider, fetch: Arc<dyn Fetch>) -> Self {
        Self { options, fetch, known: Mutex::new(None) }
    }

    pub fn name(&self) -> &str {
        &self.options.provider.name
    }

    async fn discovery(&self, now: OffsetDateTime) -> Result<Arc<Discovery>, SignInError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, discovery)) = known
            && (now - at).abs() < DISCOVERY
        {
            return Ok(discovery);
        }
        let issuer = &self.options.provider.issuer;
        let url = format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer));
        let unavailable = |why: String| {
            tracing::warn!(
                provider = self.name(),
                why,
                "sign-in: the provider's discovery document is not usable"
            );
            SignInError::Unavailable(why)
        };
        let fetched = self.fetch.get(&url).await.map_err(unavailable)?;
        if fetched.status != 200 || fetched.body.len() > DOCUMENT {
            return Err(unavailable(format!("{url} answered {}", fetched.status)));
        }
        let discovery: Discovery = serde_json::from_slice(&fetched.body)
            .map_err(|error| unavailable(format!("{url} is not a discovery document: {error}")))?;
        if &discovery.issuer != issuer {
            return Err(unavailable(format!("{url} speaks for another issuer")));
        }
        for endpoint in [&discovery.authorization_endpoint, &discovery.token_endpoint] {
            if !usable(endpoint, issuer) {
                return Err(unavailable(format!("{url} names an endpoint that is not https")));
            }
        }
        let discovery = Arc::new(discovery);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, discovery.clone()));
        Ok(discovery)
    }
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

fn query(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, VALUE))).collect();
    pairs.join("&")
}

fn redirect_uri(inner: &Inner) -> String {
    format!("{}/signin/callback", inner.origin.url())
}

/// Where a person may be sent after: a path of ours, nothing that a browser could read as another host.
pub fn local(to: &str) -> &str {
    let ours = to.starts_with('/')
        && !to.starts_with("//")
        && !to.contains(['\\', '#'])
        && to.bytes().all(|byte| byte.is_ascii_graphic())
        && to.len() <= 512;
    if ours { to } else { "/" }
}

/// Begins a sign-in: the address of the provider's page, and the cookie's value.
pub async fn begin(inner: &Inner, provider: &str, to: &str) -> Result<(String, String), SignInError> {
    let client =
        inner.clients.iter().find(|client| client.name() == provider).ok_or(SignInError::NoProvider)?;
    let now = (inner.now)();
    let discovery = client.discovery(now).await?;
    let random = || random_text().ok_or(SignInError::Full);
    let attempt = Attempt {
        provider: provider.to_owned(),
        state: random()?,
        nonce: random()?,
        verifier: random()?,
        to: local(to).to_owned(),
        expires: (now + PATIENCE).unix_timestamp(),
    };
    let challenge =
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, attempt.verifier.as_bytes()).as_ref());
    let mut scope = "openid".to_owned();
    for one in &client.options.scopes {
        scope.push(' ');
        scope.push_str(one);
    }
    let parameters = query(&[
        ("response_type", "code"),
        ("client_id", &client.options.client_id),
        ("redirect_uri", &redirect_uri(inner)),
        ("scope", &scope),
        ("state", &attempt.state),
        ("nonce", &attempt.nonce),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ]);
    let joint = if discovery.authorization_endpoint.contains('?') { '&' } else { '?' };
    let sealed = serde_json::to_vec(&attempt).ok().and_then(|text| inner.seal.seal(&text));
    let cookie = sealed.ok_or(SignInError::Full)?;
    Ok((format!("{}{joint}{parameters}", discovery.authorization_endpoint), cookie))
}

/// Ends a sign-in: the new session's id, and where to go.
pub async fn finish(
    inner: &Inner,
    cookie: Option<&str>,
    answer: &Answer,
) -> Result<(String, String), SignInError> {
    let now = (inner.now)();
    let attempt: Attempt = cookie
        .and_then(|cookie| inner.seal.open(cookie))
        .and_then(|text| serde_json::from_slice(&text).ok())
        .filter(|attempt: &Attempt| attempt.expires > now.unix_timestamp())
        .ok_or(SignInError::NotBegun)?;
    let state = answer.state.as_deref().unwrap_or_default();
    if constant_time::verify_slices_are_equal(state.as_bytes(), attempt.state.as_bytes()).is_err() {
        return Err(SignInError::State);
    }
    let client = inner
        .clients
        .iter()
        .find(|client| client.name() == attempt.provider)
        .ok_or(SignInError::NoProvider)?;
    let discovery = client.discovery(now).await?;
    let from_issuer = match &answer.iss {
        Some(iss) => *iss == discovery.issuer,
        None => !discovery.authorization_response_iss_parameter_supported,
    };
    if !from_issuer {
        return Err(SignInError::Issuer);
    }
    if let Some(error) = &answer.error {
        let said = answer.error_description.as_deref().unwrap_or(error);
        return Err(SignInError::Provider(said.chars().take(300).collect()));
    }
    let code = answer.code.as_deref().filter(|code| !code.is_empty());
    let code = code.ok_or_else(|| SignInError::Provider("it sent no code".to_owned()))?;
    let token = exchange(inner, client, &discovery, code, &attempt.verifier).await?;
    let person = verify(inner, client, &token, &attempt.nonce, now).await?;
    if !people::admitted(inner, &person.groups) {
        return Err(SignInError::NotAdmitted);
    }
    inner.approvals.person_seen(&person).await.map_err(|error| {
        tracing::error!(%error, "sign-in: the person could not be stored");
        SignInError::Store("its store does not answer".to_owned())
    })?;
    tracing::info!(person = person.id, "signed in to the console");
    let id = inner.sessions.begin(person, now).ok_or(SignInError::Full)?;
    Ok((id, attempt.to))
}

/// Trades the code for the ID token.
async fn exchange(
    inner: &Inner,
    client: &Client,
    discovery: &Discovery,
    code: &str,
    verifier: &str,
) -> Result<String, SignInError> {
    #[derive(Deserialize)]
    struct Tokens {
        id_token: Option<String>,
        error: Option<String>,
        error_description: Option<String>,
    }
    let options = &client.options;
    let redirect = redirect_uri(inner);
    let mut form = vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", redirect.as_str()),
        ("code_verifier", verifier),
        ("client_id", options.client_id.as_str()),
    ];
    let mut request = Request::new(Bytes::new());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = discovery
        .token_endpoint
        .parse()
        .map_err(|_error| SignInError::Unavailable("its token endpoint is not a URL".to_owned()))?;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let methods = &discovery.token_endpoint_auth_methods_supported;
    if let Some(secret) = &options.client_secret {
        // OpenID Connect Discovery 1.0 section 3: without a list, `client_secret_basic`.
        if methods.is_empty() || methods.iter().any(|method| method == "client_secret_basic") {
            let encoded = |text: &str| utf8_percent_encode(text, VALUE).to_string();
            let pair = format!("{}:{}", encoded(&options.client_id), encoded(secret.expose()));
            let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair)))
                .map_err(|_error| SignInError::Unavailable("the client secret is not usable".to_owned()))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        } else {
            form.push(("client_secret", secret.expose()));
        }
    }
    let body = query(&form);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    *request.body_mut() = Bytes::from(body);
    let response = inner.outward.send(request).await.map_err(|why| {
        tracing::warn!(provider = client.name(), why, "sign-in: the token endpoint cannot be reached");
        SignInError::Unavailable("its token endpoint cannot be reached".to_owned())
    })?;
    let status = response.status();
    let tokens: Tokens = serde_json::from_slice(response.body()).map_err(|_error| {
        SignInError::Unavailable(format!("its token endpoint answered {status} and no JSON"))
    })?;
    if let (true, Some(token)) = (status.is_success(), tokens.id_token) {
        return Ok(token);
    }
    let said = tokens.error_description.or(tokens.error).unwrap_or_else(|| "it sent no ID token".to_owned());
    tracing::warn!(provider = client.name(), %status, said, "sign-in: the token endpoint refused the code");
    Err(SignInError::Provider(said.chars().take(300).collect()))
}

async fn verify(
    inner: &Inner,
    client: &Client,
    token: &str,
    nonce: &str,
    now: OffsetDateTime,
) -> Result<Person, SignInError> {
    let verified =
        inner.sign_in.verify(token, now).await.map_err(|error| SignInError::Token(error.to_string()))?;
    let wrong = |why: &str| SignInError::Token(why.to_owned());
    if verified.caller.provider != client.name() {
        return Err(wrong("it is from another provider than the one asked"));
    }
    let claims: ClientClaims = people::claims(token).ok_or_else(|| wrong("its nonce is not a string"))?;
    let given = claims.nonce.unwrap_or_default();
    if constant_time::verify_slices_are_equal(given.as_bytes(), nonce.as_bytes()).is_err() {
        return Err(wrong("it was not issued for this sign-in (nonce)"));
    }
    if !people::of_client(token, &client.options.client_id) {
        return Err(wrong("it was issued to another client (azp)"));
    }
    people::person(&verified.caller, token).map_err(|why| wrong(&why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sends_people_only_to_our_own_paths_after() {
        for good in ["/", "/asks/0190", "/sessions?x=y"] {
            assert_eq!(local(good), good);
        }
        for bad in [
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "",
            "asks",
            "/a\r\nb",
            "/a#b",
            "/\u{e9}",
        ] {
            assert_eq!(local(bad), "/", "{bad}");
        }
    }

    #[test]
    fn takes_plain_http_only_from_a_plain_issuer_on_the_same_host() {
        assert!(usable("https://a.example/token", "https://b.example"));
        assert!(usable("http://127.0.0.1:9/token", "http://127.0.0.1:8"));
        assert!(!usable("http://a.example/token", "https://a.example"));
        assert!(!usable("http://169.254.169.254/token", "http://127.0.0.1:8"));
        assert!(!usable("https://user@a.example/token", "https://a.example"));
        assert!(!usable("javascript:alert(1)", "https://a.example"));
    }
}

//! Sign-in by the OpenID Connect authorization code flow, with PKCE (RFC 7636), state, nonce and the issuer of the answer
//! (RFC 9207). The ID token itself is verified by the identity room; what only a client can check is checked here.
//!
//! What belongs to one attempt travels in a sealed cookie: attempts cost no memory, and an answer counts only in the browser
//! that asked.

use crate::{Inner, SignInProvider, people};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use durward_approval::Person;
use durward_identity::Fetch;
use durward_identity::relying_party::{
    self, Answer, AnswerError, Discovery, Tokens, encoded, form, random_text, same,
};
use http::{HeaderValue, Method, Request, header};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use time::{Duration, OffsetDateTime};

/// How long a person may take at the identity provider.
pub const PATIENCE: Duration = Duration::minutes(10);
/// How long a discovery document is used.
const DISCOVERY: Duration = Duration::minutes(10);

/// Why a sign-in came to nothing. The text is for the person; what stands in `Provider` is the provider's own words.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    #[error("there is no such identity provider")]
    NoProvider,
    #[error("the sign-in was not begun in this browser, or longer than ten minutes ago: begin again")]
    NotBegun,
    #[error(transparent)]
    Answer(#[from] AnswerError),
    #[error("the identity provider cannot be used now: {0}")]
    Unavailable(String),
    #[error("the identity provider's ID token is not accepted: {0}")]
    Token(String),
    #[error("you are signed in to the identity provider, but not in a group that may use this console")]
    NotAdmitted,
    #[error("your sign-ins were revoked while you signed in: begin again")]
    Revoked,
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

/// One attempt, as the cookie keeps it.
#[derive(Serialize, Deserialize)]
struct Attempt {
    provider: String,
    state: String,
    nonce: String,
    verifier: String,
    /// Where to go after.
    to: String,
    /// Nanoseconds since 1970.
    began: i128,
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
        let read = Discovery::read(&self.options.provider.issuer, self.fetch.as_ref()).await;
        let discovery = read.map_err(|why| {
            tracing::warn!(
                provider = self.name(),
                why,
                "sign-in: the provider's discovery document is not usable"
            );
            SignInError::Unavailable(why)
        })?;
        let discovery = Arc::new(discovery);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, discovery.clone()));
        Ok(discovery)
    }
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
        began: now.unix_timestamp_nanos(),
    };
    let page = discovery.sign_in_page(&relying_party::Attempt {
        client_id: &client.options.client_id,
        redirect_uri: &redirect_uri(inner),
        scopes: &client.options.scopes,
        state: &attempt.state,
        nonce: &attempt.nonce,
        verifier: &attempt.verifier,
    });
    let sealed = serde_json::to_vec(&attempt).ok().and_then(|text| inner.seal.seal(&text));
    let cookie = sealed.ok_or(SignInError::Full)?;
    Ok((page, cookie))
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
        .ok_or(SignInError::NotBegun)?;
    let attempt_began = OffsetDateTime::from_unix_timestamp_nanos(attempt.began)
        .ok()
        .filter(|began| now < *began + PATIENCE)
        .ok_or(SignInError::NotBegun)?;
    // Before anything is asked of the provider it names.
    if !answer.belongs_to(&attempt.state) {
        return Err(AnswerError::State.into());
    }
    let client = inner
        .clients
        .iter()
        .find(|client| client.name() == attempt.provider)
        .ok_or(SignInError::NoProvider)?;
    let discovery = client.discovery(now).await?;
    let code = discovery.code(answer, &attempt.state)?;
    let token = exchange(inner, client, &discovery, code, &attempt.verifier).await?;
    let person = verify(inner, client, &token, &attempt.nonce, now).await?;
    if !people::admitted(inner, &person.groups) {
        return Err(SignInError::NotAdmitted);
    }
    inner.approvals.person_seen(&person).await.map_err(|error| {
        tracing::error!(%error, "sign-in: the person could not be stored");
        SignInError::Store("its store does not answer".to_owned())
    })?;
    let unstored = |error| {
        tracing::error!(%error, "sign-in: it could not be stored");
        SignInError::Store("its store does not answer".to_owned())
    };
    let session = inner.sessions.begin(&person, now).await.map_err(unstored)?.ok_or(SignInError::Full)?;
    // A revocation that came before the session was there ended nothing. It counts for whatever began until then, and this
    // began with the attempt: the code is older than the token that was got for it.
    if inner.revocations.is_person_revoked(&person.id, attempt_began).await.map_err(unstored)? {
        inner.sessions.end(&session).await.map_err(unstored)?;
        return Err(SignInError::Revoked);
    }
    tracing::info!(person = person.id, "signed in to the console");
    Ok((session, attempt.to))
}

/// Trades the code for the ID token.
async fn exchange(
    inner: &Inner,
    client: &Client,
    discovery: &Discovery,
    code: &str,
    verifier: &str,
) -> Result<String, SignInError> {
    let options = &client.options;
    let redirect = redirect_uri(inner);
    let mut pairs = vec![
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
            let pair = format!("{}:{}", encoded(&options.client_id), encoded(secret.expose()));
            let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair)))
                .map_err(|_error| SignInError::Unavailable("the client secret is not usable".to_owned()))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        } else {
            pairs.push(("client_secret", secret.expose()));
        }
    }
    let body = form(&pairs);
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
    let said = tokens.said();
    if let (true, Some(token)) = (status.is_success(), tokens.id_token) {
        return Ok(token);
    }
    tracing::warn!(provider = client.name(), %status, said, "sign-in: the token endpoint refused the code");
    Err(AnswerError::Provider(said).into())
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
    if !relying_party::nonce(token).is_some_and(|given| same(&given, nonce)) {
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
}

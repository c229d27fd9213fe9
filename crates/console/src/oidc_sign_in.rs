//! Sign-in by the OpenID Connect authorization code flow, with PKCE (RFC 7636), state, nonce and the issuer of the answer
//! (RFC 9207). The ID token itself is verified by the identity room; what only a client can check is checked here.
//!
//! What belongs to one attempt travels in a sealed cookie: attempts cost no memory, and an answer counts only in the browser
//! that asked.

use crate::{ConsoleState, SignInProvider, users};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use durward_approval::Approver;
use durward_identity::relying_party::{
    self, AuthorizationResponse, AuthorizationResponseError, DiscoveryDocument, TokenResponse, encode_form,
    encode_form_value, random_text,
};
use http::{HeaderValue, Method, Request, header};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use time::{Duration, OffsetDateTime};

/// How long a person may take at the identity provider.
pub const SIGN_IN_TIMEOUT: Duration = Duration::minutes(10);
/// How long a discovery document is used.
const DISCOVERY_TTL: Duration = Duration::minutes(10);

/// Why a sign-in came to nothing. The text is for the person; what stands in `Provider` is the provider's own words.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    #[error("there is no such identity provider")]
    UnknownProvider,
    #[error("the sign-in was not begun in this browser, or longer than ten minutes ago: begin again")]
    NotStarted,
    #[error(transparent)]
    AuthorizationResponse(#[from] AuthorizationResponseError),
    #[error("the identity provider cannot be used now: {0}")]
    ProviderUnavailable(String),
    #[error("the identity provider's ID token is not accepted: {0}")]
    InvalidIdToken(String),
    #[error("you are signed in to the identity provider, but not in a group that may use this console")]
    NotAdmitted,
    #[error("your sign-ins were revoked while you signed in: begin again")]
    Revoked,
    #[error("too many people are signed in: try again later")]
    TooManyLogins,
    #[error("the gateway could not keep who you are: {0}")]
    Store(String),
}

/// One provider with what it says of itself.
pub struct OidcClient {
    pub settings: SignInProvider,
    discovery_client: Arc<dyn durward_core::HttpClient>,
    cached_discovery: Mutex<Option<(OffsetDateTime, Arc<DiscoveryDocument>)>>,
}

/// One attempt, as the cookie keeps it.
#[derive(Serialize, Deserialize)]
struct SignInAttempt {
    provider: String,
    state: String,
    nonce: String,
    code_verifier: String,
    /// Where to go after.
    return_path: String,
    /// Nanoseconds since 1970.
    started_at: i128,
}

impl OidcClient {
    pub fn new(options: SignInProvider, fetch: Arc<dyn durward_core::HttpClient>) -> Self {
        Self { settings: options, discovery_client: fetch, cached_discovery: Mutex::new(None) }
    }

    pub fn name(&self) -> &str {
        &self.settings.provider.name
    }

    async fn load_discovery(&self, now: OffsetDateTime) -> Result<Arc<DiscoveryDocument>, SignInError> {
        let known = self.cached_discovery.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, discovery)) = known
            && (now - at).abs() < DISCOVERY_TTL
        {
            return Ok(discovery);
        }
        let read =
            DiscoveryDocument::fetch_document(&self.settings.provider.issuer, self.discovery_client.as_ref())
                .await;
        let discovery = read.map_err(|error| {
            let why = error.to_string();
            tracing::warn!(
                provider = self.name(),
                why,
                "sign-in: the provider's discovery document is not usable"
            );
            SignInError::ProviderUnavailable(why)
        })?;
        let discovery = Arc::new(discovery);
        *self.cached_discovery.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((now, discovery.clone()));
        Ok(discovery)
    }
}

fn redirect_uri(inner: &ConsoleState) -> String {
    format!("{}/signin/callback", inner.origin.url())
}

/// Where a person may be sent after: a path of ours, nothing that a browser could read as another host.
pub fn local_path_or_root(to: &str) -> &str {
    let ours = to.starts_with('/')
        && !to.starts_with("//")
        && !to.contains(['\\', '#'])
        && to.bytes().all(|byte| byte.is_ascii_graphic())
        && to.len() <= 512;
    if ours { to } else { "/" }
}

/// Begins a sign-in: the address of the provider's page, and the cookie's value.
pub async fn begin_sign_in(
    inner: &ConsoleState,
    provider: &str,
    to: &str,
) -> Result<(String, String), SignInError> {
    let client = inner
        .oidc_clients
        .iter()
        .find(|client| client.name() == provider)
        .ok_or(SignInError::UnknownProvider)?;
    let now = (inner.clock)();
    let discovery = client.load_discovery(now).await?;
    let random = || random_text().ok_or(SignInError::TooManyLogins);
    let attempt = SignInAttempt {
        provider: provider.to_owned(),
        state: random()?,
        nonce: random()?,
        code_verifier: random()?,
        return_path: local_path_or_root(to).to_owned(),
        started_at: now.unix_timestamp_nanos(),
    };
    let page = discovery.authorization_url(&relying_party::AuthenticationRequest {
        client_id: &client.settings.client_id,
        redirect_uri: &redirect_uri(inner),
        scopes: &client.settings.scopes,
        state: &attempt.state,
        nonce: &attempt.nonce,
        code_verifier: &attempt.code_verifier,
    });
    let sealed = serde_json::to_vec(&attempt).ok().and_then(|text| inner.cookie_sealer.seal(&text));
    let cookie = sealed.ok_or(SignInError::TooManyLogins)?;
    Ok((page, cookie))
}

/// Ends a sign-in: the new session's id, and where to go.
pub async fn finish_sign_in(
    inner: &ConsoleState,
    cookie: Option<&str>,
    answer: &AuthorizationResponse,
) -> Result<(String, String), SignInError> {
    let now = (inner.clock)();
    let attempt: SignInAttempt = cookie
        .and_then(|cookie| inner.cookie_sealer.open(cookie))
        .and_then(|text| serde_json::from_slice(&text).ok())
        .ok_or(SignInError::NotStarted)?;
    let attempt_began = OffsetDateTime::from_unix_timestamp_nanos(attempt.started_at)
        .ok()
        .filter(|began| now < *began + SIGN_IN_TIMEOUT)
        .ok_or(SignInError::NotStarted)?;
    // Before anything is asked of the provider it names.
    if !answer.has_state(&attempt.state) {
        return Err(AuthorizationResponseError::StateMismatch.into());
    }
    let client = inner
        .oidc_clients
        .iter()
        .find(|client| client.name() == attempt.provider)
        .ok_or(SignInError::UnknownProvider)?;
    let discovery = client.load_discovery(now).await?;
    let code = discovery.authorization_code(answer, &attempt.state)?;
    let token = exchange_code(inner, client, &discovery, code, &attempt.code_verifier).await?;
    let person = verify_id_token(inner, client, &token, &attempt.nonce, now).await?;
    if !users::is_admitted(inner, &person.groups) {
        return Err(SignInError::NotAdmitted);
    }
    inner.approvals.upsert_user(&person).await.map_err(|error| {
        tracing::error!(%error, "sign-in: the person could not be stored");
        SignInError::Store("its store does not respond".to_owned())
    })?;
    let unstored = |error| {
        tracing::error!(%error, "sign-in: it could not be stored");
        SignInError::Store("its store does not respond".to_owned())
    };
    let session =
        inner.logins.create_login(&person, now).await.map_err(unstored)?.ok_or(SignInError::TooManyLogins)?;
    // A revocation that came before the session was there ended nothing. It counts for whatever began until then, and this
    // began with the attempt: the code is older than the token that was got for it.
    if inner.revocations.is_user_revoked(&person.id, attempt_began).await.map_err(unstored)? {
        inner.logins.end_login(&session).await.map_err(unstored)?;
        return Err(SignInError::Revoked);
    }
    tracing::info!(person = person.id, "signed in to the console");
    Ok((session, attempt.return_path))
}

/// Trades the code for the ID token.
async fn exchange_code(
    inner: &ConsoleState,
    client: &OidcClient,
    discovery: &DiscoveryDocument,
    code: &str,
    verifier: &str,
) -> Result<String, SignInError> {
    let options = &client.settings;
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
        .map_err(|_error| SignInError::ProviderUnavailable("its token endpoint is not a URL".to_owned()))?;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let methods = &discovery.token_endpoint_auth_methods_supported;
    if let Some(secret) = &options.client_secret {
        // OpenID Connect Discovery 1.0 section 3: without a list, `client_secret_basic`.
        if methods.is_empty() || methods.iter().any(|method| method == "client_secret_basic") {
            let pair =
                format!("{}:{}", encode_form_value(&options.client_id), encode_form_value(secret.expose()));
            let mut value =
                HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair))).map_err(|_error| {
                    SignInError::ProviderUnavailable("the client secret is not usable".to_owned())
                })?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        } else {
            pairs.push(("client_secret", secret.expose()));
        }
    }
    let body = encode_form(&pairs);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    *request.body_mut() = Bytes::from(body);
    let response = inner.token_client.send(request).await.map_err(|why| {
        tracing::warn!(provider = client.name(), why, "sign-in: the token endpoint cannot be reached");
        SignInError::ProviderUnavailable("its token endpoint cannot be reached".to_owned())
    })?;
    let status = response.status();
    let tokens: TokenResponse = serde_json::from_slice(response.body()).map_err(|_error| {
        SignInError::ProviderUnavailable(format!("its token endpoint responded with {status} and no JSON"))
    })?;
    let said = tokens.error_text();
    if let (true, Some(token)) = (status.is_success(), tokens.id_token) {
        return Ok(token);
    }
    tracing::warn!(provider = client.name(), %status, said, "sign-in: the token endpoint refused the code");
    Err(AuthorizationResponseError::ProviderError(said).into())
}

async fn verify_id_token(
    inner: &ConsoleState,
    client: &OidcClient,
    token: &str,
    nonce: &str,
    now: OffsetDateTime,
) -> Result<Approver, SignInError> {
    let verified = inner
        .id_token_verifier
        .verify(token, now)
        .await
        .map_err(|error| SignInError::InvalidIdToken(error.to_string()))?;
    let wrong = |why: &str| SignInError::InvalidIdToken(why.to_owned());
    if verified.caller.provider != client.name() {
        return Err(wrong("it is from another provider than the one chosen"));
    }
    if !verified.has_nonce(nonce) {
        return Err(wrong("it was not issued for this sign-in (nonce)"));
    }
    if !verified.is_issued_to_client(&client.settings.client_id) {
        return Err(wrong("it was issued to another client (azp)"));
    }
    users::person_from_token(&verified).map_err(|why| wrong(&why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sends_people_only_to_our_own_paths_after() {
        for good in ["/", "/approvals/0190", "/sessions?x=y"] {
            assert_eq!(local_path_or_root(good), good);
        }
        for bad in [
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "",
            "approvals",
            "/a\r\nb",
            "/a#b",
            "/\u{e9}",
        ] {
            assert_eq!(local_path_or_root(bad), "/", "{bad}");
        }
    }
}

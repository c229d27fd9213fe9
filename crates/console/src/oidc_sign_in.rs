//! Sign-in by the OpenID Connect authorization code flow, with PKCE (RFC 7636), state, nonce and the issuer in the
//! authorization response (RFC 9207). [`durward_identity`] verifies the ID token; the checks that only a client can make are
//! here.
//!
//! The state of a sign-in travels in a sealed cookie. A sign-in that is never finished therefore costs no memory, and a
//! response counts only in the browser that started the sign-in.

use crate::{
    finished_sign_ins::RepeatedSignIn,
    logins::LoginError,
    oidc_client::{OidcClient, OidcClientError},
    state::ConsoleState,
    users::{self, NotAPersonError},
};
use durward_approval::{Approver, UpsertUserError};
use durward_identity::relying_party::{
    AuthenticationRequest, AuthorizationResponse, AuthorizationResponseError, random_text,
};
use durward_store::StoreError;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

/// The time in which a user must sign in at the identity provider.
pub const SIGN_IN_TIMEOUT: Duration = Duration::minutes(10);
/// Longest path to which a user returns after the sign-in; longer ones become `/`, so that the cookie stays below the 4,096
/// bytes that browsers must accept (RFC 6265 section 6.1).
const MAX_RETURN_PATH_BYTES: usize = 512;

/// Why a sign-in failed. The text is for the user; it may contain the provider's own words.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    #[error("there is no such identity provider")]
    UnknownProvider,
    #[error("the sign-in was not started in this browser, or more than ten minutes ago: start again")]
    NotStarted,
    #[error(transparent)]
    AuthorizationResponse(#[from] AuthorizationResponseError),
    #[error("the identity provider cannot be used now: {0}")]
    ProviderUnavailable(OidcClientError),
    #[error("the identity provider's ID token is not accepted: {0}")]
    InvalidIdToken(#[from] IdTokenError),
    /// The name, the subject or the groups are too long to be stored.
    #[error("what the identity provider says about you is not accepted: {0}")]
    TooLong(UpsertUserError),
    #[error("{}", users::NOT_ADMITTED)]
    NotAdmitted,
    #[error("this sign-in was already finished: start again")]
    AlreadyFinished,
    #[error("your sign-ins were revoked while you signed in: start again")]
    Revoked,
    #[error("too many users are signed in: try again later")]
    TooManyLogins,
    #[error("the gateway failed to create the login, and its log says why: try again later")]
    Internal,
}

/// The fault of an ID token that the provider issued.
#[derive(Debug, thiserror::Error)]
pub enum IdTokenError {
    /// The token does not verify.
    #[error("{0}")]
    Invalid(#[from] durward_identity::TokenError),
    #[error("it is from another provider than the one chosen")]
    OtherProvider,
    #[error("it was not issued for this sign-in (nonce)")]
    NonceMismatch,
    #[error("it was issued to another client (azp)")]
    OtherClient,
    /// OpenID Connect Core section 3.1.3.7: a client rejects it.
    #[error(
        "it is also for another application (aud), which could sign in with it: get one for the console alone, or list that application in console_audience"
    )]
    OtherAudience,
    #[error(transparent)]
    NotAPerson(#[from] NotAPersonError),
}

impl From<OidcClientError> for SignInError {
    fn from(error: OidcClientError) -> Self {
        match error {
            OidcClientError::Rejected(rejection) => Self::AuthorizationResponse(rejection),
            unavailable => Self::ProviderUnavailable(unavailable),
        }
    }
}

impl From<StoreError> for SignInError {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "sign-in: the store failed");
        Self::Internal
    }
}

impl From<UpsertUserError> for SignInError {
    fn from(error: UpsertUserError) -> Self {
        match error {
            UpsertUserError::Store(error) => error.into(),
            too_long @ UpsertUserError::TooLong { .. } => Self::TooLong(too_long),
        }
    }
}

impl From<RepeatedSignIn> for SignInError {
    fn from(error: RepeatedSignIn) -> Self {
        match error {
            RepeatedSignIn::AlreadyFinished => Self::AlreadyFinished,
            RepeatedSignIn::TooMany => Self::TooManyLogins,
        }
    }
}

impl From<LoginError> for SignInError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::TooMany => Self::TooManyLogins,
            LoginError::Store(error) => error.into(),
            LoginError::NoRandomness => {
                tracing::error!(%error, "sign-in: no login id");
                Self::Internal
            }
        }
    }
}

/// The state of one sign-in, as its cookie holds it.
#[derive(Serialize, Deserialize)]
struct SignInAttempt {
    provider: String,
    state: String,
    nonce: String,
    code_verifier: String,
    /// The path to which the user goes afterwards.
    return_path: String,
    /// Nanoseconds since the Unix epoch.
    started_at: i128,
}

fn redirect_uri(state: &ConsoleState) -> String {
    format!("{}/signin/callback", state.origin)
}

/// The path itself if it stays on the console, else `/`.
///
/// An open redirect behind a sign-in page is a phishing tool. Browsers read `//host` and `/\host` as another host (WHATWG URL
/// standard, "relative slash state").
pub fn local_path_or_root(path: &str) -> &str {
    let is_local = path.starts_with('/')
        && !path.starts_with("//")
        && !path.contains(['\\', '#'])
        && path.bytes().all(|byte| byte.is_ascii_graphic())
        && path.len() <= MAX_RETURN_PATH_BYTES;
    if is_local { path } else { "/" }
}

fn find_client<'a>(state: &'a ConsoleState, provider: &str) -> Result<&'a OidcClient, SignInError> {
    let client = state.oidc_clients.iter().find(|client| client.name() == provider);
    client.ok_or(SignInError::UnknownProvider)
}

/// Starts a sign-in. Returns the URL of the provider's page and the value of the sign-in cookie.
pub async fn begin_sign_in(
    state: &ConsoleState,
    provider: &str,
    return_path: &str,
) -> Result<(String, String), SignInError> {
    let client = find_client(state, provider)?;
    let now = (state.clock)();
    let discovery = client.load_discovery(now).await?;
    let random = || {
        random_text().ok_or_else(|| {
            tracing::error!("sign-in: the system's random number generator failed");
            SignInError::Internal
        })
    };
    let attempt = SignInAttempt {
        provider: provider.to_owned(),
        state: random()?,
        nonce: random()?,
        code_verifier: random()?,
        return_path: local_path_or_root(return_path).to_owned(),
        started_at: now.unix_timestamp_nanos(),
    };
    let url = discovery.authorization_url(&AuthenticationRequest {
        client_id: &client.settings.client_id,
        redirect_uri: &redirect_uri(state),
        scopes: &client.settings.scopes,
        state: &attempt.state,
        nonce: &attempt.nonce,
        code_verifier: &attempt.code_verifier,
    });
    let sealed = serde_json::to_vec(&attempt).ok().and_then(|text| state.cookie_sealer.seal(&text));
    let cookie = sealed.ok_or_else(|| {
        tracing::error!("sign-in: the cookie could not be sealed");
        SignInError::Internal
    })?;
    Ok((url, cookie))
}

/// Finishes a sign-in. Returns the id of the new login and the path to which the user goes.
pub async fn finish_sign_in(
    state: &ConsoleState,
    cookie: Option<&str>,
    response: &AuthorizationResponse,
) -> Result<(String, String), SignInError> {
    let now = (state.clock)();
    let attempt: SignInAttempt = cookie
        .and_then(|cookie| state.cookie_sealer.open(cookie))
        .and_then(|text| serde_json::from_slice(&text).ok())
        .ok_or(SignInError::NotStarted)?;
    let started_at = OffsetDateTime::from_unix_timestamp_nanos(attempt.started_at)
        .ok()
        // The age is checked here, too: `Max-Age` only tells the browser when to drop the cookie (RFC 6265 section 5.3), and a
        // copy of it lives on.
        .filter(|started_at| now < *started_at + SIGN_IN_TIMEOUT)
        .ok_or(SignInError::NotStarted)?;
    // Login CSRF (RFC 6749 section 10.12): checked before any request to the provider.
    if !response.has_state(&attempt.state) {
        return Err(AuthorizationResponseError::StateMismatch.into());
    }
    let client = find_client(state, &attempt.provider)?;
    let discovery = client.load_discovery(now).await?;
    let code = discovery.authorization_code(response, &attempt.state)?;
    let token = client.exchange_code(&discovery, &redirect_uri(state), code, &attempt.code_verifier).await?;
    let person = verify_id_token(state, client, &token, &attempt.nonce, now).await?;
    if !users::is_admitted(state, &person.groups) {
        users::record_lost_membership(state, &person).await;
        return Err(SignInError::NotAdmitted);
    }
    state.finished_sign_ins.finish(&attempt.state, started_at + SIGN_IN_TIMEOUT, now)?;
    state.approvals.upsert_user(&person).await?;
    // A new id for each sign-in: one that existed before it could have been planted by an attacker (session fixation).
    let login_id = state.logins.create_login(&person, now).await?;
    // A revocation just before this point found no login to end. It covers everything that started before it, and this
    // sign-in started with the attempt, although its token is newer.
    if state.revocations.is_user_revoked(&person.id, started_at).await? {
        state.logins.end_login(&login_id).await?;
        return Err(SignInError::Revoked);
    }
    tracing::info!(person = person.id, "signed in to the console");
    Ok((login_id, attempt.return_path))
}

async fn verify_id_token(
    state: &ConsoleState,
    client: &OidcClient,
    token: &str,
    nonce: &str,
    now: OffsetDateTime,
) -> Result<Approver, IdTokenError> {
    let verified = state.id_token_verifier.verify(token, now).await?;
    // Mix-up attack (RFC 9207 section 1): a token of one provider must not complete a sign-in that was started at another.
    if verified.caller.provider != client.name() {
        return Err(IdTokenError::OtherProvider);
    }
    // The nonce binds the token to this browser's sign-in: without it, a code that an attacker obtained for themselves, or
    // stole, could be injected here (OpenID Connect Core 1.0 section 15.5.2, RFC 9700 section 4.5).
    if !verified.has_nonce(nonce) {
        return Err(IdTokenError::NonceMismatch);
    }
    if !verified.is_issued_to_client(&client.settings.client_id) {
        return Err(IdTokenError::OtherClient);
    }
    // Another application that receives the token could sign in here with it, as could an agent with one for a front end.
    let providers = &state.settings.api_token_providers;
    let trusted = providers.iter().find(|one| one.provider.name == client.name());
    let own = [client.settings.client_id.clone()];
    let is_trusted = match trusted {
        Some(provider) => users::has_only_trusted_audiences(provider, &verified),
        None => verified.is_only_for_audiences(&own),
    };
    if !is_trusted {
        return Err(IdTokenError::OtherAudience);
    }
    Ok(users::person_from_token(&verified)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_return_only_to_paths_of_the_console() {
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

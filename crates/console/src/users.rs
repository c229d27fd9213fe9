//! The users of the console: a verified person, from a browser's login or from a bearer token, with the rights of that person.
//!
//! A workload is never a user, and neither is an agent that acts for a person: agents must not vote on their own requests.

use crate::{
    cookies::ConsoleCookie,
    logins::SignedInUser,
    settings::{ApiTokenProvider, ConsoleSettings},
    state::ConsoleState,
};
use durward_approval::Approver;
use durward_core::{CallerKind, RefusalReason};
use durward_identity::{TokenError, VerifiedToken};
use durward_store::StoreError;
use http::{HeaderMap, header};
use std::sync::Arc;
use time::OffsetDateTime;

/// The message to a person whom nothing admits.
pub const NOT_ADMITTED: &str = "you are in no group that may use the console ([console] allowed_groups; without it, the approvers \
    in policies may): ask its operator";

/// Longest display name of a user, which the provider chooses.
const MAX_NAME_CHARS: usize = 100;

/// The user of a request's session cookie.
pub async fn find_signed_in_user(
    state: &ConsoleState,
    headers: &HeaderMap,
) -> Result<Option<Arc<SignedInUser>>, StoreError> {
    match ConsoleCookie::Session.read_value(headers, state.origin.uses_tls) {
        Some(id) => find_user_of_login(state, id).await,
        None => Ok(None),
    }
}

/// The user of a login. A login lives for an hour and over restarts: whom policies or the configuration no longer admit has none.
pub async fn find_user_of_login(
    state: &ConsoleState,
    login_id: &str,
) -> Result<Option<Arc<SignedInUser>>, StoreError> {
    let user = state.logins.find_user(login_id, (state.clock)()).await?;
    Ok(user.filter(|user| is_admitted(state, &user.person.groups)))
}

/// Why a bearer token gives no access to the admin API. The texts are for the person who sent it.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticationError {
    #[error("send `Authorization: Bearer <token>` with a token of your identity provider")]
    MissingToken,
    #[error("the Authorization header is not `Bearer <token>`")]
    MalformedHeader,
    /// The token does not verify, or its person is revoked.
    #[error("{0}")]
    InvalidToken(String),
    #[error(transparent)]
    NotAUserToken(#[from] UserTokenError),
    #[error(transparent)]
    NotAPerson(#[from] NotAPersonError),
    #[error("{NOT_ADMITTED}")]
    NotAdmitted,
    /// The token cannot be verified, because its provider's keys cannot be fetched.
    #[error("{0}")]
    ProviderUnavailable(String),
    /// It cannot be determined if the person is revoked.
    #[error("{0}")]
    Unavailable(String),
}

/// Why a verified token is not one with which people use the admin API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UserTokenError {
    #[error(
        "the admin API does not accept this token: send an ID token of the console's or the command line's client \
         (console_client_id, cli_client_id), or a token for an audience of console_audience"
    )]
    OtherAudience,
    #[error(
        "the token is also for a front end (aud), so an agent may hold it: get one for the console alone"
    )]
    FrontEndAudience,
    #[error(
        "the token was issued to another client than the console's or the command line's, or for another application too \
         (aud): send an ID token for one of them alone"
    )]
    OtherClient,
}

/// Why the subject of a verified token is not a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAPersonError {
    #[error("this is a workload's token, and only people use the console")]
    Workload,
    #[error("this is the token of an agent that acts for you, and only you yourself may vote")]
    ActingAgent,
}

/// Accepts an ID token of one of the gateway's own clients, or a token for an audience that exists for users of the console.
///
/// A token for a front end is refused, whatever else it is for: agents hold such tokens, also those of the people they act
/// for, and would otherwise approve their own requests (confused deputy).
fn check_user_token(
    provider: Option<&ApiTokenProvider>,
    token: &VerifiedToken,
) -> Result<(), UserTokenError> {
    let provider = provider.ok_or(UserTokenError::OtherAudience)?;
    if provider.front_end_audiences.iter().any(|audience| token.is_for_audience(audience)) {
        return Err(UserTokenError::FrontEndAudience);
    }
    let has_user_audience = provider.audiences.iter().any(|audience| token.is_for_audience(audience));
    let is_own_id_token = || {
        let mut clients = provider.client_ids.iter();
        clients.any(|client| token.is_for_audience(client) && token.is_issued_to_client(client))
            && has_only_trusted_audiences(provider, token)
    };
    if has_user_audience || is_own_id_token() { Ok(()) } else { Err(UserTokenError::OtherClient) }
}

/// Returns true if an ID token is for the gateway's own clients and for audiences of its users alone, and for no front end. OpenID
/// Connect Core section 3.1.3.7: a client rejects an ID token with an audience that it does not trust, because whoever receives
/// that token could use it here.
pub fn has_only_trusted_audiences(provider: &ApiTokenProvider, token: &VerifiedToken) -> bool {
    let is_for_front_end =
        provider.front_end_audiences.iter().any(|audience| token.is_for_audience(audience));
    let trusted: Vec<&String> = provider.client_ids.iter().chain(&provider.audiences).collect();
    !is_for_front_end && token.is_only_for_audiences(&trusted)
}

/// Authenticates the person of an `Authorization: Bearer` header.
pub async fn authenticate_bearer(
    state: &ConsoleState,
    headers: &HeaderMap,
) -> Result<Approver, AuthenticationError> {
    let token = bearer_token(headers)?;
    let now = (state.clock)();
    let verified = state.api_token_verifier.verify(token, now).await.map_err(|error| match &error {
        TokenError::KeysUnavailable { .. } => {
            AuthenticationError::ProviderUnavailable(error.refusal().message)
        }
        TokenError::UnknownIssuer(_) | TokenError::ForeignAudience(_) => UserTokenError::OtherAudience.into(),
        _ => AuthenticationError::InvalidToken(error.refusal().message),
    })?;
    let mut providers = state.settings.api_token_providers.iter();
    let provider = providers.find(|one| one.provider.name == verified.caller.provider);
    check_user_token(provider, &verified)?;
    let person = person_from_token(&verified)?;
    if !is_admitted(state, &person.groups) {
        record_lost_membership(state, &person).await;
        return Err(AuthenticationError::NotAdmitted);
    }
    // By the time of issue: a token from before the revocation is refused, and one of a sign-in after it is accepted.
    match state.revocations.check_user(&person.id, person.groups_as_of) {
        Ok(()) => Ok(person),
        Err(refusal) if refusal.reason == RefusalReason::InvalidToken => {
            Err(AuthenticationError::InvalidToken(refusal.message))
        }
        Err(refusal) => Err(AuthenticationError::Unavailable(refusal.message)),
    }
}

fn bearer_token(headers: &HeaderMap) -> Result<&str, AuthenticationError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Err(AuthenticationError::MissingToken),
        (Some(value), None) => value.to_str().ok(),
        // A proxy in front of the console may have checked the other one.
        (Some(_), Some(_)) => None,
    };
    value
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _token)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_scheme, token)| token.trim())
        .ok_or(AuthenticationError::MalformedHeader)
}

/// Returns true if members of these groups may use the console: as configured, or else those to whom the configuration or a policy gives
/// something to do here. Everybody else whom the provider vouches for, which may be a whole company, sees nothing.
pub fn is_admitted(state: &ConsoleState, groups: &[String]) -> bool {
    let ConsoleSettings { allowed_groups, revoke_groups, break_glass_group, .. } = &state.settings;
    if !allowed_groups.is_empty() {
        return allowed_groups.iter().any(|group| groups.contains(group));
    }
    revoke_groups.iter().chain(break_glass_group).any(|group| groups.contains(group))
        || state.policies.current().has_approvers_among(groups)
}

/// Records the groups of a person who is not admitted, if the console knows the person: votes of somebody who left a group no longer
/// count, and this may be the only time that the provider says so.
pub async fn record_lost_membership(state: &ConsoleState, person: &Approver) {
    if let Err(error) = state.approvals.update_known_user(person).await {
        tracing::error!(person = person.id, %error, "the groups of a person who is not admitted could not be recorded");
    }
}

/// Returns true if this person may revoke sessions.
pub fn may_revoke_sessions(state: &ConsoleState, person: &Approver) -> bool {
    let allowed = &state.settings.revoke_groups;
    allowed.is_empty() || allowed.iter().any(|group| person.groups.contains(group))
}

/// The person whom a verified token identifies.
pub fn person_from_token(token: &VerifiedToken) -> Result<Approver, NotAPersonError> {
    let caller = &token.caller;
    if caller.kind != CallerKind::Human {
        return Err(NotAPersonError::Workload);
    }
    if !caller.act.is_empty() {
        return Err(NotAPersonError::ActingAgent);
    }
    let name = ["name", "preferred_username", "email"]
        .into_iter()
        .filter_map(|claim| token.text_claim(claim))
        .find(|name| !name.trim().is_empty())
        .unwrap_or(&caller.subject);
    Ok(Approver {
        id: caller.id(),
        // The name is displayed only. Users choose it themselves at many providers, so the id is shown beside it.
        name: name.chars().take(MAX_NAME_CHARS).collect(),
        subject: caller.subject.clone(),
        groups: caller.groups.clone(),
        // Without `iat` the groups count as infinitely old, so that any newer statement about the person outweighs them.
        groups_as_of: token.issued_at.unwrap_or(OffsetDateTime::UNIX_EPOCH),
    })
}

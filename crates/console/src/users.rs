//! Who stands in front of the console: a person, verified, from a browser's session or from a token of the same providers.
//!
//! A workload is never a person, and neither is an agent that acts for one.

use crate::{
    ApiTokenProvider, ConsoleState,
    logins::{ConsoleCookie, SignedInUser},
};
use axum::{body::Body, extract::FromRequestParts};
use durward_approval::{ApprovalRequest, Approver};
use durward_core::{CallerKind, RefusalReason};
use durward_identity::{TokenError, VerifiedToken};
use durward_store::StoreError;
use http::{HeaderMap, Method, Response, StatusCode, header, request::Parts};
use std::sync::Arc;

/// A person whose browser is signed in. As an argument of a page it sends everybody else to the sign-in page.
pub struct BrowserUser(pub Arc<SignedInUser>);

impl FromRequestParts<Arc<ConsoleState>> for BrowserUser {
    type Rejection = Response<Body>;

    async fn from_request_parts(
        parts: &mut Parts,
        inner: &Arc<ConsoleState>,
    ) -> Result<Self, Self::Rejection> {
        match find_signed_in_user(inner, &parts.headers).await {
            Ok(Some(session)) => return Ok(Self(session)),
            Ok(None) => {}
            Err(error) => return Err(crate::pages::internal_error_page(inner, None, &error)),
        }
        let fetched = parts.headers.get("sec-fetch-dest").is_some_and(|dest| dest == "empty");
        if parts.method != Method::GET || fetched {
            return Err(crate::pages::error_page(
                inner,
                None,
                StatusCode::UNAUTHORIZED,
                "You are not signed in",
                "Nothing was changed. Sign in, then try again.",
            ));
        }
        let to = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        Err(crate::pages::redirect_see_other(&crate::pages::sign_in::sign_in_link(to)))
    }
}

/// The session of a request's cookie.
pub async fn find_signed_in_user(
    inner: &ConsoleState,
    headers: &HeaderMap,
) -> Result<Option<Arc<SignedInUser>>, StoreError> {
    match ConsoleCookie::Session.read_value(headers, inner.origin.is_tls) {
        Some(id) => inner.logins.find_user(id, (inner.clock)()).await,
        None => Ok(None),
    }
}

/// Why a token does not let somebody in.
pub enum AuthenticationError {
    /// No token at all.
    MissingToken,
    /// Not one we accept.
    TokenRefused(String),
    /// Verified, but not somebody who may come in.
    NotAdmitted(String),
    /// Nothing is known: its provider cannot be asked.
    ProviderUnavailable(String),
    /// Nothing is known: a part of the gateway fails.
    Internal(String),
}

const NOT_A_USER_TOKEN: &str = "the token is not one by which people vote here: send an ID token of the console's or the \
     command line's client (console_client_id, cli_client_id), or a token for an audience of console_audience";

/// Whether a verified token is one that lets a person in: an ID token of one of our own clients, or a token for an audience
/// that exists for this. What the doors take lets nobody in, for agents hold such tokens, also those of people.
fn check_user_token(people: Option<&ApiTokenProvider>, verified: &VerifiedToken) -> Result<(), &'static str> {
    let people = people.ok_or(NOT_A_USER_TOKEN)?;
    if people.front_end_audiences.iter().any(|one| verified.is_for_audience(one)) {
        return Err(
            "the token is also for a front end (aud), so an agent may hold it: get one for the console alone",
        );
    }
    if people.audiences.iter().any(|one| verified.is_for_audience(one)) {
        return Ok(());
    }
    if people
        .client_ids
        .iter()
        .any(|client| verified.is_for_audience(client) && verified.is_issued_to_client(client))
    {
        return Ok(());
    }
    Err("the token was issued to another client than the console's or the command line's: send an ID token")
}

/// The person of an `Authorization: Bearer` header.
pub async fn authenticate_bearer(
    inner: &ConsoleState,
    headers: &HeaderMap,
) -> Result<Approver, AuthenticationError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Err(AuthenticationError::MissingToken),
        (Some(value), None) => value.to_str().ok(),
        (Some(_), Some(_)) => None,
    };
    let token = value
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _token)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_scheme, token)| token.trim())
        .ok_or_else(|| {
            AuthenticationError::TokenRefused("the Authorization header is not `Bearer <token>`".to_owned())
        })?;
    let now = (inner.clock)();
    let verified = inner.api_token_verifier.verify(token, now).await.map_err(|error| match &error {
        TokenError::KeysUnavailable { .. } => {
            AuthenticationError::ProviderUnavailable(error.refusal().message)
        }
        TokenError::UnknownIssuer(_) | TokenError::ForeignAudience(_) => {
            AuthenticationError::TokenRefused(NOT_A_USER_TOKEN.to_owned())
        }
        _ => AuthenticationError::TokenRefused(error.refusal().message),
    })?;
    let people =
        inner.settings.api_token_providers.iter().find(|one| one.provider.name == verified.caller.provider);
    check_user_token(people, &verified).map_err(|why| AuthenticationError::TokenRefused(why.to_owned()))?;
    let person = person_from_token(&verified).map_err(AuthenticationError::NotAdmitted)?;
    if !is_admitted(inner, &person.groups) {
        return Err(AuthenticationError::NotAdmitted(
            "you are in no group that may use the console ([console] allowed_groups)".to_owned(),
        ));
    }
    match inner.revocations.check_user(&person.id, person.groups_as_of) {
        Ok(()) => Ok(person),
        Err(refusal) if refusal.reason == RefusalReason::InvalidToken => {
            Err(AuthenticationError::TokenRefused(refusal.message))
        }
        Err(refusal) => Err(AuthenticationError::Internal(refusal.message)),
    }
}

/// Whether the operator lets these groups in.
pub fn is_admitted(inner: &ConsoleState, groups: &[String]) -> bool {
    let wanted = &inner.settings.allowed_groups;
    wanted.is_empty() || wanted.iter().any(|wanted| groups.contains(wanted))
}

/// Whether the operator lets this person revoke sessions.
pub fn may_revoke_sessions(inner: &ConsoleState, person: &Approver) -> bool {
    let wanted = &inner.settings.revoke_groups;
    wanted.is_empty() || wanted.iter().any(|wanted| person.groups.contains(wanted))
}

/// The person that a verified token speaks for.
pub fn person_from_token(verified: &VerifiedToken) -> Result<Approver, String> {
    let caller = &verified.caller;
    if caller.kind != CallerKind::Human {
        return Err("this is a workload's token, and only people use the console".to_owned());
    }
    if !caller.act.is_empty() {
        return Err("this token is an agent's that acts for you, and only you yourself may vote".to_owned());
    }
    let name = ["name", "preferred_username", "email"]
        .into_iter()
        .filter_map(|claim| verified.text_claim(claim))
        .find(|name| !name.trim().is_empty())
        .unwrap_or(&caller.subject);
    Ok(Approver {
        id: caller.id(),
        name: name.chars().take(100).collect(),
        subject: caller.subject.clone(),
        groups: caller.groups.clone(),
        // Without a time of issue the groups are as old as can be: anything newer that is known outweighs them.
        groups_as_of: verified.issued_at.unwrap_or(time::OffsetDateTime::UNIX_EPOCH),
    })
}

/// Why this person cannot answer this ask, as far as a page can tell; the approval room decides when they do.
pub fn vote_refusal(ask: &ApprovalRequest, person: &Approver) -> Option<String> {
    if is_own_request(ask, person) {
        return Some(
            "This is your own request, or that of an agent acting for you. Somebody else must vote on it."
                .to_owned(),
        );
    }
    if ask.votes.iter().any(|vote| vote.by.id == person.id) {
        return Some("You have already voted on this request.".to_owned());
    }
    let mut groups: Vec<&str> = ask.details.requirements.iter().map(|one| one.group.as_str()).collect();
    groups.sort_unstable();
    groups.dedup();
    if is_approver(ask, person) {
        return None;
    }
    Some(format!(
        "Members of {} vote on this request, and you are in none of these groups.",
        groups.join(" and ")
    ))
}

/// Whether the person is in one of the groups whose members answer.
pub fn is_approver(ask: &ApprovalRequest, person: &Approver) -> bool {
    ask.details.requirements.iter().any(|one| person.groups.contains(&one.group))
}

/// Whether the request is the person's own, or that of an agent acting for them.
pub fn is_own_request(ask: &ApprovalRequest, person: &Approver) -> bool {
    let caller = &ask.details.caller;
    let is_me = |subject: &String| *subject == person.id || subject.eq_ignore_ascii_case(&person.subject);
    caller.id() == person.id || is_me(&caller.subject) || caller.act.iter().any(is_me)
}

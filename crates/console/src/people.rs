//! Who stands in front of the console: a person, verified, from a browser's session or from a token of the same providers.
//!
//! A workload is never a person, and neither is an agent that acts for one.

use crate::{
    Inner, People,
    sessions::{Cookie, SignedIn},
};
use axum::{body::Body, extract::FromRequestParts};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use durward_approval::{Ask, Person};
use durward_core::{Caller, CallerKind, Reason};
use durward_identity::TokenError;
use durward_store::StoreError;
use http::{HeaderMap, Method, Response, StatusCode, header, request::Parts};
use serde::{Deserialize, de::DeserializeOwned};
use std::sync::Arc;

/// A person whose browser is signed in. As an argument of a page it sends everybody else to the sign-in page.
pub struct Visitor(pub Arc<SignedIn>);

impl FromRequestParts<Arc<Inner>> for Visitor {
    type Rejection = Response<Body>;

    async fn from_request_parts(parts: &mut Parts, inner: &Arc<Inner>) -> Result<Self, Self::Rejection> {
        match signed_in(inner, &parts.headers).await {
            Ok(Some(session)) => return Ok(Self(session)),
            Ok(None) => {}
            Err(error) => return Err(crate::pages::broken(inner, None, &error)),
        }
        let fetched = parts.headers.get("sec-fetch-dest").is_some_and(|dest| dest == "empty");
        if parts.method != Method::GET || fetched {
            return Err(crate::pages::problem(
                inner,
                None,
                StatusCode::UNAUTHORIZED,
                "You are not signed in",
                "Your sign-in has ended or never was. Nothing was changed. Sign in, then do it again.",
            ));
        }
        let to = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        Err(crate::pages::see_other(&crate::pages::signin::link(to)))
    }
}

/// The session of a request's cookie.
pub async fn signed_in(inner: &Inner, headers: &HeaderMap) -> Result<Option<Arc<SignedIn>>, StoreError> {
    match Cookie::Session.read(headers, inner.origin.tls) {
        Some(id) => inner.sessions.find(id, (inner.now)()).await,
        None => Ok(None),
    }
}

/// Why a token does not let somebody in.
pub enum Unknown {
    /// No token at all.
    Missing,
    /// Not one we accept.
    Refused(String),
    /// Verified, but not somebody who may come in.
    NotAdmitted(String),
    /// Nothing is known: its provider cannot be asked.
    Unavailable(String),
    /// Nothing is known: a part of the gateway fails.
    Broken(String),
}

const NOT_FOR_PEOPLE: &str = "the token is not one by which people answer here: send an ID token of the console's or the \
     command line's client (console_client_id, cli_client_id), or a token for an audience of console_audience";

/// Whether a verified token is one that lets a person in: an ID token of one of our own clients, or a token for an audience
/// that exists for this. What the doors take lets nobody in, for agents hold such tokens, also those of people.
fn is_for_people(people: Option<&People>, verified: &str) -> Result<(), &'static str> {
    #[derive(Deserialize)]
    struct Audience {
        aud: OneOrMany,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    let people = people.ok_or(NOT_FOR_PEOPLE)?;
    let audience = match claims(verified).ok_or(NOT_FOR_PEOPLE)? {
        Audience { aud: OneOrMany::One(one) } => vec![one],
        Audience { aud: OneOrMany::Many(many) } => many,
    };
    if audience.iter().any(|one| people.doors.contains(one)) {
        return Err(
            "the token is for a door too (aud), so an agent may hold it: get one for the console alone",
        );
    }
    if audience.iter().any(|one| people.audience.contains(one)) {
        return Ok(());
    }
    if people.clients.iter().any(|client| audience.contains(client) && of_client(verified, client)) {
        return Ok(());
    }
    Err("the token was issued to another client than the console's or the command line's: send an ID token")
}

/// The person of an `Authorization: Bearer` header.
pub async fn bearer(inner: &Inner, headers: &HeaderMap) -> Result<Person, Unknown> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Err(Unknown::Missing),
        (Some(value), None) => value.to_str().ok(),
        (Some(_), Some(_)) => None,
    };
    let token = value
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _token)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_scheme, token)| token.trim())
        .ok_or_else(|| Unknown::Refused("the Authorization header is not `Bearer <token>`".to_owned()))?;
    let now = (inner.now)();
    let verified = inner.people.verify(token, now).await.map_err(|error| match &error {
        TokenError::Unavailable { .. } => Unknown::Unavailable(error.refusal().message),
        TokenError::UnknownIssuer(_) | TokenError::ForeignAudience(_) => {
            Unknown::Refused(NOT_FOR_PEOPLE.to_owned())
        }
        _ => Unknown::Refused(error.refusal().message),
    })?;
    let people = inner.settings.people.iter().find(|one| one.provider.name == verified.caller.provider);
    is_for_people(people, token).map_err(|why| Unknown::Refused(why.to_owned()))?;
    let person = person(&verified.caller, token).map_err(Unknown::NotAdmitted)?;
    if !admitted(inner, &person.groups) {
        return Err(Unknown::NotAdmitted(
            "you are in no group that may use the console ([console] groups)".to_owned(),
        ));
    }
    match inner.revocations.check_person(&person.id, person.as_of) {
        Ok(()) => Ok(person),
        Err(refusal) if refusal.reason == Reason::InvalidToken => Err(Unknown::Refused(refusal.message)),
        Err(refusal) => Err(Unknown::Broken(refusal.message)),
    }
}

/// Whether the operator lets these groups in.
pub fn admitted(inner: &Inner, groups: &[String]) -> bool {
    let wanted = &inner.settings.groups;
    wanted.is_empty() || wanted.iter().any(|wanted| groups.contains(wanted))
}

/// Whether the operator lets this person revoke sessions.
pub fn may_revoke(inner: &Inner, person: &Person) -> bool {
    let wanted = &inner.settings.revoke_groups;
    wanted.is_empty() || wanted.iter().any(|wanted| person.groups.contains(wanted))
}

/// The person that a verified token speaks for.
pub fn person(caller: &Caller, token: &str) -> Result<Person, String> {
    #[derive(Default, Deserialize)]
    struct Names {
        name: Option<String>,
        preferred_username: Option<String>,
        email: Option<String>,
    }
    #[derive(Deserialize)]
    struct Issued {
        iat: i64,
    }
    if caller.kind != CallerKind::Human {
        return Err("this is a workload's token, and only people use the console".to_owned());
    }
    if !caller.act.is_empty() {
        return Err("this token is an agent's that acts for you, and only you yourself may answer".to_owned());
    }
    let issued =
        claims::<Issued>(token).and_then(|issued| time::OffsetDateTime::from_unix_timestamp(issued.iat).ok());
    let names: Names = claims(token).unwrap_or_default();
    let name = [names.name, names.preferred_username, names.email]
        .into_iter()
        .flatten()
        .find(|name| !name.trim().is_empty())
        .unwrap_or_else(|| caller.subject.clone());
    Ok(Person {
        id: caller.id(),
        name: name.chars().take(100).collect(),
        subject: caller.subject.clone(),
        groups: caller.groups.clone(),
        // Without a time of issue the groups are as old as can be: anything newer that is known outweighs them.
        as_of: issued.unwrap_or(time::OffsetDateTime::UNIX_EPOCH),
    })
}

/// Whether a verified token with the client's audience is one that the client itself got for a person: providers also issue
/// access tokens for the same audience to workloads, and those name another client or their own type.
pub fn of_client(verified: &str, client: &str) -> bool {
    let part = |index| -> Option<serde_json::Value> {
        let text = verified.trim().split('.').nth(index)?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
    };
    let (Some(header), Some(claims)) = (part(0), part(1)) else { return false };
    let access = header["typ"].as_str().is_some_and(|typ| typ.to_ascii_lowercase().ends_with("at+jwt"));
    let parties = ["azp", "client_id", "appid"].iter().filter_map(|name| claims.get(name));
    !access && parties.into_iter().all(|party| party == client)
}

/// Claims of a token that has been verified already; this looks at nothing but the payload.
pub fn claims<T: DeserializeOwned>(verified: &str) -> Option<T> {
    let payload = verified.trim().split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// Why this person cannot answer this ask, as far as a page can tell; the approval room decides when they do.
pub fn cannot_answer(ask: &Ask, person: &Person) -> Option<String> {
    if is_own(ask, person) {
        return Some(
            "This is your own request, or that of an agent acting for you. Somebody else must answer it."
                .to_owned(),
        );
    }
    if ask.votes.iter().any(|vote| vote.by.id == person.id) {
        return Some("You have answered this ask.".to_owned());
    }
    let mut groups: Vec<&str> = ask.what.requirements.iter().map(|one| one.group.as_str()).collect();
    groups.sort_unstable();
    groups.dedup();
    if is_entitled(ask, person) {
        return None;
    }
    Some(format!("Members of {} answer this ask, and you are in none of these groups.", groups.join(" and ")))
}

/// Whether the person is in one of the groups whose members answer.
pub fn is_entitled(ask: &Ask, person: &Person) -> bool {
    ask.what.requirements.iter().any(|one| person.groups.contains(&one.group))
}

/// Whether the request is the person's own, or that of an agent acting for them.
pub fn is_own(ask: &Ask, person: &Person) -> bool {
    let caller = &ask.what.caller;
    let is_me = |subject: &String| *subject == person.id || subject.eq_ignore_ascii_case(&person.subject);
    caller.id() == person.id || is_me(&caller.subject) || caller.act.iter().any(is_me)
}

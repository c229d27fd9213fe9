//! The authorization code flow with PKCE, for the console and `durward login`: the page, a code, an ID token.
//!
//! Whoever chooses a name gets a code that is good once, for a minute, for the same client, the same `redirect_uri` to the
//! letter, and for whoever knows the verifier of the challenge.

use super::{Answer, PEOPLE, State, Wrong, decoded, page::page};
use aws_lc_rs::{digest, rand};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{StatusCode, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a code is good.
const CODE: Duration = Duration::from_mins(1);
/// Codes at once.
const MOST: usize = 256;
/// How long an ID token is good; `expires_in` says the same.
const ID_TOKEN: Duration = Duration::from_hours(1);

/// The codes that were given out and not traded yet.
#[derive(Default)]
pub(super) struct Codes(Mutex<HashMap<String, Grant>>);

#[cfg(test)]
impl Codes {
    /// Makes every code so much older.
    pub(super) fn age(&self, by: Duration) {
        for grant in self.0.lock().unwrap_or_else(PoisonError::into_inner).values_mut() {
            grant.until -= by;
        }
    }
}

/// What a code stands for.
struct Grant {
    subject: String,
    name: String,
    groups: Vec<String>,
    client: String,
    redirect: String,
    nonce: Option<String>,
    challenge: String,
    until: Instant,
}

/// Who signs in: a person of [`PEOPLE`], or whoever one says one is.
fn who(fields: &HashMap<String, String>) -> Result<Option<(String, String, Vec<String>)>, Wrong> {
    let field = |name: &str| fields.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
    let Some(person) = field("person") else {
        let groups = field("groups").unwrap_or_default().split(',').map(str::trim);
        let groups = groups.filter(|one| !one.is_empty()).map(str::to_owned).collect();
        return Ok(field("sub").map(|subject| (subject.to_owned(), subject.to_owned(), groups)));
    };
    let known = PEOPLE.iter().find(|known| known.subject == person);
    match (known, field("sub"), field("groups")) {
        (Some(known), None, None) => {
            let groups = known.groups.iter().map(|group| (*group).to_owned()).collect();
            Ok(Some((known.subject.to_owned(), known.name.to_owned(), groups)))
        }
        _ => Err(Wrong(
            StatusCode::BAD_REQUEST,
            "person is nobody of the page, or sub or groups is there, too",
        )),
    }
}

fn fields(form: &str) -> Result<HashMap<String, String>, Wrong> {
    let mut fields = HashMap::new();
    for field in form.split('&').filter(|field| !field.is_empty()) {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        let value = decoded(value)
            .ok_or(Wrong(StatusCode::BAD_REQUEST, "a value is not UTF-8 in percent encoding"))?;
        if fields.insert(name.to_owned(), value).is_some() {
            return Err(Wrong(StatusCode::BAD_REQUEST, "a parameter is there twice"));
        }
    }
    Ok(fields)
}

/// `GET /authorize`: the page that asks who one is; with `person` or `sub`, back to the client with a code.
pub(super) fn authorize(state: &State, query: &str) -> Result<Answer, Wrong> {
    let wrong = |why| Wrong(StatusCode::BAD_REQUEST, why);
    let fields = fields(query)?;
    let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let redirect = field("redirect_uri");
    let target: Uri = redirect.parse().map_err(|_| wrong("redirect_uri is not a URL"))?;
    if !matches!(target.scheme_str(), Some("http" | "https")) || redirect.contains('#') {
        return Err(wrong("redirect_uri is not an http or https URL, or has a fragment"));
    }
    if !target.host().is_some_and(super::is_loopback) {
        return Err(wrong("redirect_uri is not on loopback"));
    }
    if field("response_type") != "code" || field("client_id").is_empty() {
        return Err(wrong("response_type is not code, or client_id is missing"));
    }
    if field("code_challenge_method") != "S256" || field("code_challenge").is_empty() {
        return Err(wrong("PKCE with S256 is needed (code_challenge, code_challenge_method)"));
    }
    let Some((subject, name, groups)) = who(&fields)? else {
        return Ok(Answer {
            body: page(&fields),
            kind: "text/html; charset=utf-8",
            cache: "no-store",
            to: None,
        });
    };
    let mut random = [0; 32];
    rand::fill(&mut random).map_err(|_| Wrong(StatusCode::INTERNAL_SERVER_ERROR, "no randomness"))?;
    let code = URL_SAFE_NO_PAD.encode(random);
    let grant = Grant {
        subject,
        name,
        groups,
        client: field("client_id"),
        redirect: redirect.clone(),
        nonce: fields.get("nonce").cloned(),
        challenge: field("code_challenge"),
        until: Instant::now() + CODE,
    };
    let mut codes = state.codes.0.lock().unwrap_or_else(PoisonError::into_inner);
    codes.retain(|_code, grant| grant.until > Instant::now());
    if codes.len() >= MOST {
        return Err(Wrong(StatusCode::SERVICE_UNAVAILABLE, "too many sign-ins at once"));
    }
    codes.insert(code.clone(), grant);
    let joint = if redirect.contains('?') { '&' } else { '?' };
    let to = format!(
        "{redirect}{joint}code={code}&state={}&iss={}",
        utf8_percent_encode(&field("state"), NON_ALPHANUMERIC),
        utf8_percent_encode(&state.url, NON_ALPHANUMERIC)
    );
    Ok(Answer { body: String::new(), kind: "text/plain; charset=utf-8", cache: "no-store", to: Some(to) })
}

/// `POST /token` with a code. A code is good once, whatever comes of it.
pub(super) fn trade(state: &State, form: &str) -> Result<Answer, Wrong> {
    let refused = Wrong(StatusCode::BAD_REQUEST, "{\"error\":\"invalid_grant\"}");
    let fields = fields(form)?;
    let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    let grant = state.codes.0.lock().unwrap_or_else(PoisonError::into_inner).remove(field("code"));
    let Some(grant) = grant.filter(|grant| grant.until > Instant::now()) else { return Err(refused) };
    let challenge =
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, field("code_verifier").as_bytes()).as_ref());
    if challenge != grant.challenge
        || field("redirect_uri") != grant.redirect
        || field("client_id") != grant.client
    {
        return Err(refused);
    }
    let mut claims = state.claims(&grant.subject, &json!(grant.groups), &json!(grant.client), ID_TOKEN);
    claims["name"] = json!(grant.name);
    if let Some(nonce) = grant.nonce {
        claims["nonce"] = json!(nonce);
    }
    let token = state.sign(&claims);
    let body = json!({"id_token": token, "access_token": "none", "token_type": "Bearer", "expires_in": ID_TOKEN.as_secs()});
    Ok(Answer { body: body.to_string(), kind: "application/json", cache: "no-store", to: None })
}

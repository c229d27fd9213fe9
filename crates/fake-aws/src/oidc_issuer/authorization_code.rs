//! The authorization code flow with PKCE, for the console and `durward login`: the page, a code, an ID token.
//!
//! Whoever chooses a name gets a code that is good once, for a minute, for the same client, the same `redirect_uri` to the
//! letter, and for whoever knows the verifier of the challenge.

use super::{
    DEMO_USERS, IssuerError, IssuerResponse, IssuerState, decode_form_value,
    sign_in_page::render_sign_in_page,
};
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
const CODE_LIFETIME: Duration = Duration::from_mins(1);
/// Codes at once.
const MAX_PENDING_CODES: usize = 256;
/// How long an ID token is good; `expires_in` says the same.
const ID_TOKEN_LIFETIME: Duration = Duration::from_hours(1);

/// The codes that were given out and not traded yet.
#[derive(Default)]
pub(super) struct PendingCodes(Mutex<HashMap<String, CodeGrant>>);

#[cfg(test)]
impl PendingCodes {
    /// Makes every code so much older.
    pub(super) fn age_codes(&self, by: Duration) {
        for grant in self.0.lock().unwrap_or_else(PoisonError::into_inner).values_mut() {
            grant.expires_at -= by;
        }
    }
}

/// What a code stands for.
struct CodeGrant {
    subject: String,
    name: String,
    groups: Vec<String>,
    client_id: String,
    redirect_uri: String,
    nonce: Option<String>,
    code_challenge: String,
    expires_at: Instant,
}

/// Who signs in: a person of [`PEOPLE`], or whoever one says one is.
fn chosen_user(
    fields: &HashMap<String, String>,
) -> Result<Option<(String, String, Vec<String>)>, IssuerError> {
    let field = |name: &str| fields.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
    let Some(person) = field("person") else {
        let groups = field("groups").unwrap_or_default().split(',').map(str::trim);
        let groups = groups.filter(|one| !one.is_empty()).map(str::to_owned).collect();
        return Ok(field("sub").map(|subject| (subject.to_owned(), subject.to_owned(), groups)));
    };
    let known = DEMO_USERS.iter().find(|known| known.subject == person);
    match (known, field("sub"), field("groups")) {
        (Some(known), None, None) => {
            let groups = known.groups.iter().map(|group| (*group).to_owned()).collect();
            Ok(Some((known.subject.to_owned(), known.name.to_owned(), groups)))
        }
        _ => Err(IssuerError(
            StatusCode::BAD_REQUEST,
            "person is nobody of the page, or sub or groups is there, too",
        )),
    }
}

fn parse_form_fields(form: &str) -> Result<HashMap<String, String>, IssuerError> {
    let mut fields = HashMap::new();
    for field in form.split('&').filter(|field| !field.is_empty()) {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        let value = decode_form_value(value)
            .ok_or(IssuerError(StatusCode::BAD_REQUEST, "a value is not UTF-8 in percent encoding"))?;
        if fields.insert(name.to_owned(), value).is_some() {
            return Err(IssuerError(StatusCode::BAD_REQUEST, "a parameter is there twice"));
        }
    }
    Ok(fields)
}

/// `GET /authorize`: the page that asks who one is; with `person` or `sub`, back to the client with a code.
pub(super) fn handle_authorization_request(
    state: &IssuerState,
    query: &str,
) -> Result<IssuerResponse, IssuerError> {
    let wrong = |why| IssuerError(StatusCode::BAD_REQUEST, why);
    let fields = parse_form_fields(query)?;
    let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let redirect = field("redirect_uri");
    let target: Uri = redirect.parse().map_err(|_| wrong("redirect_uri is not a URL"))?;
    if !matches!(target.scheme_str(), Some("http" | "https")) || redirect.contains('#') {
        return Err(wrong("redirect_uri is not an http or https URL, or has a fragment"));
    }
    if !target.host().is_some_and(super::is_loopback_host) {
        return Err(wrong("redirect_uri is not on loopback"));
    }
    if field("response_type") != "code" || field("client_id").is_empty() {
        return Err(wrong("response_type is not code, or client_id is missing"));
    }
    if field("code_challenge_method") != "S256" || field("code_challenge").is_empty() {
        return Err(wrong("PKCE with S256 is needed (code_challenge, code_challenge_method)"));
    }
    let Some((subject, name, groups)) = chosen_user(&fields)? else {
        return Ok(IssuerResponse {
            body: render_sign_in_page(&fields),
            content_type: "text/html; charset=utf-8",
            cache_control: "no-store",
            redirect_location: None,
        });
    };
    let mut random = [0; 32];
    rand::fill(&mut random).map_err(|_| IssuerError(StatusCode::INTERNAL_SERVER_ERROR, "no randomness"))?;
    let code = URL_SAFE_NO_PAD.encode(random);
    let grant = CodeGrant {
        subject,
        name,
        groups,
        client_id: field("client_id"),
        redirect_uri: redirect.clone(),
        nonce: fields.get("nonce").cloned(),
        code_challenge: field("code_challenge"),
        expires_at: Instant::now() + CODE_LIFETIME,
    };
    let mut codes = state.pending_codes.0.lock().unwrap_or_else(PoisonError::into_inner);
    codes.retain(|_code, grant| grant.expires_at > Instant::now());
    if codes.len() >= MAX_PENDING_CODES {
        return Err(IssuerError(StatusCode::SERVICE_UNAVAILABLE, "too many sign-ins at once"));
    }
    codes.insert(code.clone(), grant);
    let joint = if redirect.contains('?') { '&' } else { '?' };
    let to = format!(
        "{redirect}{joint}code={code}&state={}&iss={}",
        utf8_percent_encode(&field("state"), NON_ALPHANUMERIC),
        utf8_percent_encode(&state.url, NON_ALPHANUMERIC)
    );
    Ok(IssuerResponse {
        body: String::new(),
        content_type: "text/plain; charset=utf-8",
        cache_control: "no-store",
        redirect_location: Some(to),
    })
}

/// `POST /token` with a code. A code is good once, whatever comes of it.
pub(super) fn exchange_code(state: &IssuerState, form: &str) -> Result<IssuerResponse, IssuerError> {
    let refused = IssuerError(StatusCode::BAD_REQUEST, "{\"error\":\"invalid_grant\"}");
    let fields = parse_form_fields(form)?;
    let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    let grant = state.pending_codes.0.lock().unwrap_or_else(PoisonError::into_inner).remove(field("code"));
    let Some(grant) = grant.filter(|grant| grant.expires_at > Instant::now()) else { return Err(refused) };
    let challenge =
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, field("code_verifier").as_bytes()).as_ref());
    if challenge != grant.code_challenge
        || field("redirect_uri") != grant.redirect_uri
        || field("client_id") != grant.client_id
    {
        return Err(refused);
    }
    let mut claims =
        state.token_claims(&grant.subject, &json!(grant.groups), &json!(grant.client_id), ID_TOKEN_LIFETIME);
    claims["name"] = json!(grant.name);
    if let Some(nonce) = grant.nonce {
        claims["nonce"] = json!(nonce);
    }
    let token = state.sign_token(&claims);
    let body = json!({"id_token": token, "access_token": "none", "token_type": "Bearer", "expires_in": ID_TOKEN_LIFETIME.as_secs()});
    Ok(IssuerResponse {
        body: body.to_string(),
        content_type: "application/json",
        cache_control: "no-store",
        redirect_location: None,
    })
}

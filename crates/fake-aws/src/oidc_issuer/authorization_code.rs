//! The authorization code flow with PKCE, for the console and `durward login`.
//!
//! A code is valid once, for a minute, for the same client, for the same `redirect_uri` byte by byte, and only with the
//! verifier of the PKCE challenge (RFC 7636).

use super::{
    DEMO_USERS, INVALID_PERCENT_ENCODING, IssuerError, IssuerResponse, IssuerState,
    sign_in_page::render_sign_in_page,
};
use crate::form::parse_form;
use aws_lc_rs::{digest, rand};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use durward_core::lock_ignoring_poison;
use http::{StatusCode, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

/// The lifetime of a code.
const CODE_LIFETIME: Duration = Duration::from_mins(1);
const MAX_PENDING_CODES: usize = 256;
/// Of an ID token; `expires_in` says the same.
const ID_TOKEN_LIFETIME: Duration = Duration::from_hours(1);

/// The codes that were issued and not exchanged yet.
#[derive(Default)]
pub(super) struct PendingCodes(Mutex<HashMap<String, CodeGrant>>);

#[cfg(test)]
impl PendingCodes {
    /// Makes every code older by this much.
    pub(super) fn age_codes(&self, by: Duration) {
        for grant in lock_ignoring_poison(&self.0).values_mut() {
            grant.expires_at -= by;
        }
    }
}

/// The sign-in that a code belongs to.
struct CodeGrant {
    user: SignedInUser,
    client_id: String,
    redirect_uri: String,
    nonce: Option<String>,
    /// Another audience of the ID token beside the client, from `aud`: a provider that is configured so.
    other_audience: Option<String>,
    code_challenge: String,
    expires_at: Instant,
}

struct SignedInUser {
    subject: String,
    name: String,
    groups: Vec<String>,
}

/// The user whom the request names: one of [`DEMO_USERS`] by `user`, or any subject by `sub` and `groups`. `None` where it
/// names nobody yet.
fn chosen_user(fields: &HashMap<String, String>) -> Result<Option<SignedInUser>, IssuerError> {
    let field = |name: &str| fields.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
    let Some(user) = field("user") else {
        let groups = field("groups").unwrap_or_default().split(',').map(str::trim);
        let groups = groups.filter(|group| !group.is_empty()).map(str::to_owned).collect();
        return Ok(field("sub").map(|subject| SignedInUser {
            subject: subject.to_owned(),
            name: subject.to_owned(),
            groups,
        }));
    };
    let known = DEMO_USERS.iter().find(|known| known.subject == user);
    match (known, field("sub"), field("groups")) {
        (Some(known), None, None) => Ok(Some(SignedInUser {
            subject: known.subject.to_owned(),
            name: known.name.to_owned(),
            groups: known.groups.iter().map(|group| (*group).to_owned()).collect(),
        })),
        _ => Err(IssuerError::bad_request("unknown user, or combined with sub or groups")),
    }
}

fn parse_distinct_fields(form: &str) -> Result<HashMap<String, String>, IssuerError> {
    let mut fields = HashMap::new();
    for (name, value) in parse_form(form).ok_or(IssuerError::bad_request(INVALID_PERCENT_ENCODING))? {
        // RFC 6749, section 3.1: request parameters must not be included more than once.
        if fields.insert(name, value).is_some() {
            return Err(IssuerError::bad_request("duplicate parameter"));
        }
    }
    Ok(fields)
}

/// `GET /authorize`: the sign-in page; with `user` or `sub`, a redirect to the client with a code.
pub(super) fn handle_authorization_request(
    state: &IssuerState,
    query: &str,
) -> Result<IssuerResponse, IssuerError> {
    let wrong = IssuerError::bad_request;
    let fields = parse_distinct_fields(query)?;
    let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let redirect = field("redirect_uri");
    let target: Uri = redirect.parse().map_err(|_| wrong("redirect_uri is not a URL"))?;
    if !matches!(target.scheme_str(), Some("http" | "https")) || redirect.contains('#') {
        return Err(wrong("redirect_uri is not an http or https URL, or has a fragment"));
    }
    if !target.host().is_some_and(durward_core::is_loopback_host) {
        return Err(wrong("redirect_uri is not on loopback"));
    }
    if field("response_type") != "code" || field("client_id").is_empty() {
        return Err(wrong("response_type is not code, or client_id is missing"));
    }
    if field("code_challenge_method") != "S256" || field("code_challenge").is_empty() {
        return Err(wrong("PKCE with S256 is required (code_challenge, code_challenge_method)"));
    }
    let Some(user) = chosen_user(&fields)? else {
        return Ok(IssuerResponse {
            body: render_sign_in_page(&fields),
            content_type: "text/html; charset=utf-8",
            cache_control: "no-store",
            redirect_location: None,
        });
    };
    let mut random = [0; 32];
    rand::fill(&mut random).expect("aws-lc ends the process when it has no randomness");
    let code = URL_SAFE_NO_PAD.encode(random);
    let grant = CodeGrant {
        user,
        client_id: field("client_id"),
        redirect_uri: redirect.clone(),
        nonce: fields.get("nonce").cloned(),
        other_audience: fields.get("aud").cloned(),
        code_challenge: field("code_challenge"),
        expires_at: Instant::now() + CODE_LIFETIME,
    };
    let mut codes = lock_ignoring_poison(&state.pending_codes.0);
    codes.retain(|_code, grant| grant.expires_at > Instant::now());
    if codes.len() >= MAX_PENDING_CODES {
        return Err(IssuerError::text(StatusCode::SERVICE_UNAVAILABLE, "too many sign-ins at once"));
    }
    codes.insert(code.clone(), grant);
    let separator = if redirect.contains('?') { '&' } else { '?' };
    let location = format!(
        "{redirect}{separator}code={code}&state={}&iss={}",
        utf8_percent_encode(&field("state"), NON_ALPHANUMERIC),
        utf8_percent_encode(&state.url, NON_ALPHANUMERIC)
    );
    Ok(IssuerResponse {
        body: String::new(),
        content_type: "text/plain; charset=utf-8",
        cache_control: "no-store",
        redirect_location: Some(location),
    })
}

/// `POST /token` with a code. A failed attempt uses the code up too: a stolen code cannot be tried with guessed verifiers.
pub(super) fn exchange_code(state: &IssuerState, form: &str) -> Result<IssuerResponse, IssuerError> {
    let refused = IssuerError::invalid_grant();
    let fields = parse_distinct_fields(form)?;
    let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    let grant = lock_ignoring_poison(&state.pending_codes.0).remove(field("code"));
    let Some(grant) = grant.filter(|grant| grant.expires_at > Instant::now()) else { return Err(refused) };
    let challenge =
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, field("code_verifier").as_bytes()).as_ref());
    if challenge != grant.code_challenge
        || field("redirect_uri") != grant.redirect_uri
        || field("client_id") != grant.client_id
    {
        return Err(refused);
    }
    let audience = match &grant.other_audience {
        Some(other) => json!([grant.client_id, other]),
        None => json!(grant.client_id),
    };
    let mut claims =
        state.token_claims(&grant.user.subject, &json!(grant.user.groups), &audience, ID_TOKEN_LIFETIME);
    if grant.other_audience.is_some() {
        claims["azp"] = json!(grant.client_id);
    }
    claims["name"] = json!(grant.user.name);
    if let Some(nonce) = grant.nonce {
        claims["nonce"] = json!(nonce);
    }
    let token = state.sign_token(&claims);
    // RFC 6749 requires an access token; no client of ours uses it.
    let body = json!({"id_token": token, "access_token": "none", "token_type": "Bearer", "expires_in": ID_TOKEN_LIFETIME.as_secs()});
    Ok(IssuerResponse {
        body: body.to_string(),
        content_type: "application/json",
        cache_control: "no-store",
        redirect_location: None,
    })
}

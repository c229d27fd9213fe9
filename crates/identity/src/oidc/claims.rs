//! The claims of a token whose signature has verified (RFC 7519 section 4, RFC 8693 section 4.1, OpenID Connect Core
//! section 2), read strictly: a claim of the wrong type refuses the token instead of counting as absent.

use super::claim_values::{JsonObject, string_or_list};
use super::verified_token::{TokenContents, VerifiedToken};
use super::{ProviderConfig, TokenError};
use aws_lc_rs::digest;
use durward_core::{Caller, encode_hex, limits::CLOCK_LEEWAY};
use serde_json::Value;
use time::OffsetDateTime;

/// Bytes of a subject. OpenID Connect Core section 2 permits 255; CI providers write whole repository paths.
const MAX_SUBJECT_BYTES: usize = 1_024;
/// Bytes of one group.
const MAX_GROUP_BYTES: usize = 512;
/// Groups of one caller. A token of the largest size that is read holds fewer real ones.
const MAX_GROUPS: usize = 2_000;
/// Actors in an `act` chain.
const MAX_ACTORS: usize = 8;
/// Bytes of a `jti` that is recorded as it is; a longer one is replaced by the hash of the token.
const MAX_TOKEN_ID_BYTES: usize = 256;

/// `iss`, to select the provider. Nothing has been verified yet.
pub(super) fn unverified_issuer(claims: &JsonObject) -> Result<&str, TokenError> {
    claims
        .get("iss")
        .and_then(Value::as_str)
        .ok_or(TokenError::Invalid("it does not name its issuer (iss) as a string"))
}

pub(super) fn validate_claims(
    config: &ProviderConfig,
    header: JsonObject,
    claims: JsonObject,
    token: &str,
    now: OffsetDateTime,
) -> Result<VerifiedToken, TokenError> {
    // RFC 7519 section 4.1.3: who is not in `aud` must reject the token. Otherwise any service could reuse the tokens that it
    // receives here.
    check_audience(config, &claims)?;
    let (expires_at, issued_at) = check_times(&claims, now)?;
    let subject = plain_string(claims.get("sub"), MAX_SUBJECT_BYTES).ok_or(TokenError::Invalid(
        "its subject (sub) is missing, empty, too long or has control characters",
    ))?;
    let caller = Caller {
        provider: config.name.clone(),
        issuer: config.issuer.clone(),
        subject: subject.to_owned(),
        kind: config.kind,
        groups: read_groups(config, &claims)?,
        act: read_actors(&claims)?,
    };
    let token_id = token_id(&claims, token);
    Ok(VerifiedToken { caller, expires_at, issued_at, token_id, contents: TokenContents { header, claims } })
}

fn check_audience(config: &ProviderConfig, claims: &JsonObject) -> Result<(), TokenError> {
    let audience = string_or_list(claims.get("aud"))
        .filter(|audience| !audience.is_empty())
        .ok_or(TokenError::Invalid("its audience (aud) is missing or not a string or list of strings"))?;
    if !audience.iter().any(|one| config.audience.iter().any(|ours| ours == one)) {
        return Err(TokenError::ForeignAudience(config.name.clone()));
    }
    // `azp` is the claim of ID tokens (OpenID Connect Core section 2), `client_id` that of access tokens (RFC 9068 section 2.2).
    let party = match claims.get("azp").or_else(|| claims.get("client_id")) {
        None => None,
        Some(Value::String(party)) => Some(party),
        Some(_) => return Err(TokenError::Invalid("its client (azp or client_id) is not a string")),
    };
    let is_accepted = if config.authorized_parties.is_empty() {
        // OpenID Connect Core section 3.1.3.7: an ID token is for its client, and names it in `azp` if it has other audiences
        // too. An access token is issued to a client that is none of its audiences.
        let party = party.filter(|party| claims.contains_key("azp") && audience.contains(&party.as_str()));
        party.is_none_or(|party| config.audience.contains(party))
    } else {
        party.is_some_and(|party| config.authorized_parties.contains(party))
    };
    if is_accepted {
        Ok(())
    } else {
        Err(TokenError::Invalid("it was issued to a client that is not accepted here (azp)"))
    }
}

/// The times of expiry and, if the token has one, of issue.
fn check_times(
    claims: &JsonObject,
    now: OffsetDateTime,
) -> Result<(OffsetDateTime, Option<OffsetDateTime>), TokenError> {
    let expires = parse_numeric_date(claims.get("exp"))
        .map_err(|()| TokenError::Invalid("its expiry (exp) is not a date"))?
        // RFC 7519 makes `exp` optional. A token without it would be valid for ever, so it is required here.
        .ok_or(TokenError::Invalid("it has no expiry (exp)"))?;
    let starts = parse_numeric_date(claims.get("nbf"))
        .map_err(|()| TokenError::Invalid("its start (nbf) is not a date"))?;
    let issued = parse_numeric_date(claims.get("iat"))
        .map_err(|()| TokenError::Invalid("its issue time (iat) is not a date"))?;
    // Differences, not sums: a date near the end of the calendar must not overflow.
    let ahead = |date: OffsetDateTime| date - now > CLOCK_LEEWAY;
    // `>=`: the current time must be before `exp` (RFC 7519 section 4.1.4).
    if now - expires >= CLOCK_LEEWAY {
        return Err(TokenError::Expired { at: expires });
    }
    if starts.is_some_and(ahead) {
        return Err(TokenError::Invalid("it is not valid yet (nbf): check the clocks"));
    }
    if issued.is_some_and(ahead) {
        return Err(TokenError::Invalid("it was issued in the future (iat): check the clocks"));
    }
    Ok((expires, issued))
}

/// A NumericDate (RFC 7519 section 2): seconds, whose fraction is cut off. `Err`: the claim is present and is not one.
fn parse_numeric_date(claim: Option<&Value>) -> Result<Option<OffsetDateTime>, ()> {
    let Some(claim) = claim else { return Ok(None) };
    let seconds = match (claim.as_i64(), claim.as_f64()) {
        (Some(seconds), _) => seconds,
        // The conversion saturates, and a date beyond the calendar is refused below.
        (None, Some(seconds)) => seconds as i64,
        (None, None) => return Err(()),
    };
    OffsetDateTime::from_unix_timestamp(seconds).map(Some).map_err(|_| ())
}

fn read_groups(config: &ProviderConfig, claims: &JsonObject) -> Result<Vec<String>, TokenError> {
    // A provider that leaves out a long list names the claim here (OpenID Connect Core section 5.6.2; Microsoft Entra ID
    // calls it group overage). Without groups, no policy that forbids a group would apply to the caller.
    if claims.get("_claim_names").is_some_and(|names| names.get(&config.groups_claim).is_some()) {
        return Err(TokenError::Invalid(
            "its provider left out the groups because they are too many: configure it to send only the groups of this application",
        ));
    }
    let wrong =
        TokenError::Invalid("its groups are not a string or list of non-empty strings of usual length");
    let Some(claim) = claims.get(&config.groups_claim) else { return Ok(Vec::new()) };
    let Some(groups) = string_or_list(Some(claim)).filter(|groups| groups.len() <= MAX_GROUPS) else {
        return Err(wrong);
    };
    if groups.iter().any(|group| !is_plain_text(group, MAX_GROUP_BYTES)) {
        return Err(wrong);
    }
    let mut groups: Vec<String> = groups.into_iter().map(str::to_owned).collect();
    // Sorted, so that a provider that changes the order does not change the caller: credentials are cached by it.
    groups.sort_unstable();
    groups.dedup();
    Ok(groups)
}

/// Describes the groups claim if it holds no groups. The text holds nothing of the token.
pub(super) fn describe_missing_groups(config: &ProviderConfig, claims: &JsonObject) -> Option<&'static str> {
    let Some(claim) = claims.get(&config.groups_claim) else { return Some("nothing: the claim is missing") };
    match claim {
        Value::Null => Some("null"),
        Value::Bool(_) => Some("a boolean"),
        Value::Number(_) => Some("a number"),
        Value::Object(_) => Some("an object"),
        Value::Array(list) if !list.iter().all(Value::is_string) => Some("a list of more than strings"),
        Value::Array(_) | Value::String(_) => None,
    }
}

/// The subjects of the `act` chain, nearest actor first.
fn read_actors(claims: &JsonObject) -> Result<Vec<String>, TokenError> {
    let mut actors = Vec::new();
    let mut next = claims.get("act");
    // A loop and not a recursion, with a limit: the sender decides how deep the chain nests.
    while let Some(actor) = next {
        let subject = actor.as_object().and_then(|actor| plain_string(actor.get("sub"), MAX_SUBJECT_BYTES));
        let (Some(subject), true) = (subject, actors.len() < MAX_ACTORS) else {
            return Err(TokenError::Invalid("its chain of actors (act) is malformed or too long"));
        };
        actors.push(subject.to_owned());
        next = actor.get("act");
    }
    Ok(actors)
}

fn token_id(claims: &JsonObject, token: &str) -> String {
    if let Some(id) = plain_string(claims.get("jti"), MAX_TOKEN_ID_BYTES) {
        return id.to_owned();
    }
    format!("sha256:{}", encode_hex(digest::digest(&digest::SHA256, token.as_bytes()).as_ref()))
}

fn plain_string(claim: Option<&Value>, max_bytes: usize) -> Option<&str> {
    claim?.as_str().filter(|text| is_plain_text(text, max_bytes))
}

fn is_plain_text(text: &str, max_bytes: usize) -> bool {
    // Control characters would forge lines of logs and of terminals (CWE-117).
    !text.is_empty() && text.len() <= max_bytes && !text.contains(char::is_control)
}

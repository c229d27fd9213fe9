//! Verifies the signature of a caller: the Authorization header or the query parameters of a presigned URL.
//!
//! Parsing and verifying are separate steps, because the secret is sealed in the session token that parsing finds.
//!
//! Promise: a second credential, an unsigned `x-amz-*` header or an unsorted list of headers refuses the request. Credentials
//! in the query beside those in the header have bypassed authentication elsewhere (MinIO, CVE-2026-41145).

use super::canonical_request::CanonicalRequest;
use super::{
    PathCanonicalization, SIGNING_ALGORITHM, Signature, SigningKey, UNSIGNED_PAYLOAD, build_string_to_sign,
};
use crate::form::{ParameterPair, PlusSign, parse_pairs};
use crate::refusals::malformed_request;
use durward_core::{Refusal, RefusalReason, limits};
use http::{HeaderMap, Method};
use time::{OffsetDateTime, PrimitiveDateTime, macros::format_description};

/// The parts of a request that its signature covers.
#[derive(Debug, Clone, Copy)]
pub struct SignedRequestHead<'a> {
    pub method: &'a Method,
    /// As sent, percent-encoded, without the query.
    pub path: &'a str,
    /// As sent, without the `?`.
    pub query: &'a str,
    pub headers: &'a HeaderMap,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureLocation {
    Header,
    /// A presigned URL, valid this many seconds from its date.
    Query {
        expires_seconds: u64,
    },
}

/// The way in which the signature covers the body, by `x-amz-content-sha256`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PayloadMode {
    /// The header is absent (outside S3): the signature covers the SHA-256 of the body.
    BodyHash,
    /// The SHA-256 that the header declares, in lower-case hexadecimal.
    Sha256(String),
    Unsigned,
    /// `STREAMING-UNSIGNED-PAYLOAD-TRAILER`
    ChunkedUnsignedTrailer,
    /// `STREAMING-AWS4-HMAC-SHA256-PAYLOAD`
    ChunkedSigned,
    /// `STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER`
    ChunkedSignedTrailer,
}

impl PayloadMode {
    /// The text in the canonical request; `None` if the body must be hashed first.
    pub fn canonical_text(&self) -> Option<&str> {
        match self {
            Self::BodyHash => None,
            Self::Sha256(hash) => Some(hash),
            Self::Unsigned => Some(UNSIGNED_PAYLOAD),
            Self::ChunkedUnsignedTrailer => Some("STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
            Self::ChunkedSigned => Some("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
            Self::ChunkedSignedTrailer => Some("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"),
        }
    }

    pub fn is_chunked(&self) -> bool {
        matches!(self, Self::ChunkedUnsignedTrailer | Self::ChunkedSigned | Self::ChunkedSignedTrailer)
    }
}

/// The credential and signature of a request, not yet verified.
#[derive(Debug, Clone)]
pub struct ClaimedSignature {
    pub location: SignatureLocation,
    pub access_key_id: String,
    /// `YYYYMMDD`, from the credential scope.
    pub scope_date: String,
    pub region: String,
    pub service: String,
    pub signed_headers: Vec<String>,
    pub signature: Signature,
    /// `YYYYMMDDTHHMMSSZ`
    pub timestamp: String,
    pub signing_time: OffsetDateTime,
    pub session_token: String,
    pub payload_mode: PayloadMode,
}

/// Headers that may occur only once: of two, this gateway and AWS could read different ones.
const SINGLE_VALUE_HEADERS: [&str; 8] = [
    "authorization",
    "host",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-decoded-content-length",
    "x-amz-security-token",
    "x-amz-target",
    "content-type",
];

/// Parses the single credential of a request.
pub fn parse_claimed_signature(head: &SignedRequestHead<'_>) -> Result<ClaimedSignature, Refusal> {
    for name in SINGLE_VALUE_HEADERS {
        if head.headers.get_all(name).iter().nth(1).is_some() {
            return Err(malformed_request(format!("header `{name}` occurs more than once")));
        }
    }
    let query = parse_pairs(head.query, PlusSign::Literal)?;
    // In any case of letters: a reader that ignores case would find a second credential there.
    let in_query = query.iter().any(|(name, _value)| {
        ["x-amz-algorithm", "x-amz-credential", "x-amz-signature"]
            .iter()
            .any(|signature_key| name.eq_ignore_ascii_case(signature_key))
    });
    let claimed = match (header_text(head.headers, "authorization")?, in_query) {
        (Some(_both), true) => {
            return Err(malformed_request(
                "credentials are both in the Authorization header and in the query",
            ));
        }
        (Some(authorization), false) => parse_authorization_header(head, authorization)?,
        (None, true) => parse_presigned_query(head, &query)?,
        (None, false) if query.iter().any(|(name, _value)| name == "AWSAccessKeyId") => {
            return Err(malformed_request(
                "Signature Version 2 is not supported; sign with Signature Version 4 (boto3: Config(signature_version=\"s3v4\"))",
            ));
        }
        (None, false) => {
            return Err(Refusal::new(
                RefusalReason::MissingAuthentication,
                "the request is not signed; sign in with AssumeRoleWithWebIdentity at this endpoint and sign with that credential",
            ));
        }
    };
    require_signed_headers(head, &claimed)?;
    Ok(claimed)
}

fn parse_authorization_header(
    head: &SignedRequestHead<'_>,
    authorization: &str,
) -> Result<ClaimedSignature, Refusal> {
    let Some(fields) = authorization.strip_prefix(SIGNING_ALGORITHM).and_then(|rest| rest.strip_prefix(' '))
    else {
        return Err(malformed_request(format!(
            "the Authorization header does not use {SIGNING_ALGORITHM}; Signature Version 2, SigV4a and bearer tokens are not supported here"
        )));
    };
    let (mut credential, mut signed_headers, mut signature) = (None, None, None);
    for field in fields.split(',') {
        let (name, value) = field
            .trim_matches([' ', '\t'])
            .split_once('=')
            .ok_or_else(|| malformed_request("a part of the Authorization header has no `=`"))?;
        let slot = match name {
            "Credential" => &mut credential,
            "SignedHeaders" => &mut signed_headers,
            "Signature" => &mut signature,
            _ => return Err(malformed_request("the Authorization header has an unknown part")),
        };
        // Of two lists of signed headers, one reader could verify the first and another trust the second.
        if slot.replace(value).is_some() {
            return Err(malformed_request(format!("`{name}` occurs twice in the Authorization header")));
        }
    }
    let timestamp = header_text(head.headers, "x-amz-date")?
        .ok_or_else(|| malformed_request("header `x-amz-date` is missing"))?;
    let session_token = header_text(head.headers, "x-amz-security-token")?.unwrap_or_default();
    let payload = match header_text(head.headers, "x-amz-content-sha256")? {
        None => PayloadMode::BodyHash,
        Some(value) => parse_payload_mode(value)?,
    };
    build_claimed_signature(
        SignatureLocation::Header,
        credential,
        signed_headers,
        signature,
        timestamp,
        session_token.to_owned(),
        payload,
    )
}

fn parse_presigned_query(
    head: &SignedRequestHead<'_>,
    query: &[ParameterPair<'_>],
) -> Result<ClaimedSignature, Refusal> {
    let single = |wanted: &str| -> Result<Option<&str>, Refusal> {
        let mut found = None;
        for (name, value) in query {
            // A reader that ignores case would take the other spelling.
            if name.eq_ignore_ascii_case(wanted) {
                if name != wanted || found.is_some() {
                    return Err(malformed_request(format!(
                        "query parameter `{wanted}` is given twice or in another case"
                    )));
                }
                found = Some(value.as_ref());
            }
        }
        Ok(found)
    };
    if single("X-Amz-Algorithm")? != Some(SIGNING_ALGORITHM) {
        return Err(malformed_request(format!(
            "query parameter `X-Amz-Algorithm` is not {SIGNING_ALGORITHM}"
        )));
    }
    let (credential, signed_headers, signature) =
        (single("X-Amz-Credential")?, single("X-Amz-SignedHeaders")?, single("X-Amz-Signature")?);
    let timestamp =
        single("X-Amz-Date")?.ok_or_else(|| malformed_request("query parameter `X-Amz-Date` is missing"))?;
    let expires = single("X-Amz-Expires")?
        .and_then(|text| text.parse::<u64>().ok())
        .filter(|seconds| (1..=limits::MAX_PRESIGN_EXPIRES.as_secs()).contains(seconds))
        .ok_or_else(|| {
            malformed_request(format!(
                "query parameter `X-Amz-Expires` must be 1 to {} seconds",
                limits::MAX_PRESIGN_EXPIRES.as_secs()
            ))
        })?;
    let session_token = single("X-Amz-Security-Token")?.unwrap_or_default().to_owned();
    let payload = match (single("X-Amz-Content-Sha256")?, header_text(head.headers, "x-amz-content-sha256")?)
    {
        (None, None) => PayloadMode::Unsigned,
        (Some(value), None) => parse_payload_mode(value)?,
        (None, Some(value)) => parse_payload_mode(value)?,
        (Some(_query), Some(_header)) => {
            return Err(malformed_request("`x-amz-content-sha256` is both in the query and in a header"));
        }
    };
    // The date and token of a presigned request are in its query. Readers that look into the headers first would find others.
    if head.headers.contains_key("x-amz-date") || head.headers.contains_key("x-amz-security-token") {
        return Err(malformed_request(
            "a presigned request must not carry `x-amz-date` or `x-amz-security-token` headers",
        ));
    }
    let mut claimed = build_claimed_signature(
        SignatureLocation::Query { expires_seconds: expires },
        credential,
        signed_headers,
        signature,
        timestamp,
        session_token,
        payload,
    )?;
    if claimed.payload_mode == PayloadMode::Unsigned
        && PathCanonicalization::for_service(&claimed.service) == PathCanonicalization::Normalized
    {
        // Outside S3 a presigned request signs the hash of its (usually empty) body, as botocore and the SDK for Rust do.
        claimed.payload_mode = PayloadMode::BodyHash;
    }
    Ok(claimed)
}

fn build_claimed_signature(
    location: SignatureLocation,
    credential: Option<&str>,
    signed_headers: Option<&str>,
    signature: Option<&str>,
    timestamp: &str,
    session_token: String,
    payload: PayloadMode,
) -> Result<ClaimedSignature, Refusal> {
    let (Some(credential), Some(signed_headers), Some(signature)) = (credential, signed_headers, signature)
    else {
        return Err(malformed_request("the signature needs Credential, SignedHeaders and Signature"));
    };
    let parts: Vec<&str> = credential.split('/').collect();
    let [access_key_id, date, region, service, "aws4_request"] = parts.as_slice() else {
        return Err(malformed_request(
            "the credential scope is not `<access key id>/<date>/<region>/<service>/aws4_request`",
        ));
    };
    // Region and service become parts of host names and ARNs: a `.`, `/` or `:` in them could name another host or resource.
    if !is_scope_word(service) || !is_scope_word(region) {
        return Err(malformed_request("the credential scope's region or service is not a plain word"));
    }
    let signature = Signature::parse(signature)
        .ok_or_else(|| malformed_request("the signature is not 64 lower-case hexadecimal digits"))?;
    let signing_time = parse_timestamp(timestamp)
        .ok_or_else(|| malformed_request("the signature's date is not `YYYYMMDDTHHMMSSZ`"))?;
    // AWS refuses this, too: the signing key is derived from the date of the scope, and the skew is checked on the other.
    if timestamp.get(..8) != Some(date) {
        return Err(malformed_request("the date of the credential scope is not the date of the request"));
    }
    let signed_headers: Vec<String> = signed_headers.split(';').map(str::to_owned).collect();
    // SigV4 requires the order, and `require_signed_headers` relies on it for its binary search.
    let is_sorted = signed_headers.windows(2).all(|pair| matches!(pair, [one, two] if one < two));
    let is_lower_case =
        signed_headers.iter().all(|name| !name.is_empty() && !name.bytes().any(|b| b.is_ascii_uppercase()));
    if !is_sorted || !is_lower_case {
        return Err(malformed_request("SignedHeaders must be lower case, sorted and without repeats"));
    }
    Ok(ClaimedSignature {
        location,
        access_key_id: (*access_key_id).to_owned(),
        scope_date: (*date).to_owned(),
        region: (*region).to_owned(),
        service: (*service).to_owned(),
        signed_headers,
        signature,
        timestamp: timestamp.to_owned(),
        signing_time,
        session_token,
        payload_mode: payload,
    })
}

fn is_scope_word(word: &str) -> bool {
    (1..=64).contains(&word.len())
        && word
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_')
}

/// The signature must cover `host` and every `x-amz-*` header that is present. Otherwise anyone on the way could add
/// `x-amz-copy-source` or another header that changes the operation.
fn require_signed_headers(head: &SignedRequestHead<'_>, claimed: &ClaimedSignature) -> Result<(), Refusal> {
    let signed = |name: &str| claimed.signed_headers.binary_search_by(|item| item.as_str().cmp(name)).is_ok();
    if !signed("host") {
        return Err(malformed_request("header `host` is not signed"));
    }
    for name in head.headers.keys() {
        let name = name.as_str();
        if name.starts_with("x-amz-") && !signed(name) {
            return Err(malformed_request(format!("header `{name}` is not signed; sign it or leave it out")));
        }
    }
    Ok(())
}

fn parse_payload_mode(value: &str) -> Result<PayloadMode, Refusal> {
    match value {
        UNSIGNED_PAYLOAD => Ok(PayloadMode::Unsigned),
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Ok(PayloadMode::ChunkedUnsignedTrailer),
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => Ok(PayloadMode::ChunkedSigned),
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => Ok(PayloadMode::ChunkedSignedTrailer),
        // Modes that are not listed are refused, never taken as unsigned: MinIO skipped the signature in one of them
        // (CVE-2026-40344).
        hash if Signature::parse(hash).is_some() => Ok(PayloadMode::Sha256(hash.to_owned())),
        _ => Err(malformed_request(
            "`x-amz-content-sha256` is neither a lower-case SHA-256 nor a payload mode that is supported",
        )),
    }
}

impl ClaimedSignature {
    /// `<date>/<region>/<service>/aws4_request`
    pub fn credential_scope(&self) -> String {
        format!("{}/{}/{}/aws4_request", self.scope_date, self.region, self.service)
    }

    /// Refuses a date outside the allowed clock skew, and an expired presigned URL.
    pub fn check_signing_time(&self, now: OffsetDateTime) -> Result<(), Refusal> {
        let skew = time::Duration::try_from(limits::MAX_CLOCK_SKEW).unwrap_or_default();
        let ahead = self.signing_time - now;
        let skewed = || {
            let clock = format_timestamp(now);
            let message = format!("the request is dated {}, but this clock says {clock}", self.timestamp);
            Err(Refusal::new(RefusalReason::ClockSkew, message))
        };
        match self.location {
            _ if ahead > skew => skewed(),
            SignatureLocation::Header if -ahead > skew => skewed(),
            SignatureLocation::Query { expires_seconds: expires }
                if -ahead > time::Duration::seconds(i64::try_from(expires).unwrap_or(0)) =>
            {
                Err(Refusal::new(RefusalReason::RequestExpired, "the presigned URL has expired"))
            }
            _ => Ok(()),
        }
    }

    /// Verifies the signature over `head` and `payload_hash` (the SHA-256 of the body in hexadecimal, or the text of the mode).
    pub fn verify_signature(
        &self,
        head: &SignedRequestHead<'_>,
        payload_hash: &str,
        key: &SigningKey,
    ) -> Result<(), Refusal> {
        let canonical = CanonicalRequest {
            method: head.method.as_str(),
            path: head.path,
            query: head.query,
            headers: head.headers,
            signed_headers: &self.signed_headers,
            payload_hash,
            path_canonicalization: PathCanonicalization::for_service(&self.service),
        }
        .to_text()
        .map_err(|error| malformed_request(error.to_string()))?;
        let expected =
            key.sign(build_string_to_sign(&self.timestamp, &self.credential_scope(), &canonical).as_bytes());
        if expected.matches(&self.signature) {
            Ok(())
        } else {
            Err(Refusal::new(
                RefusalReason::SignatureMismatch,
                "the signature does not match the request; check that nothing between the client and this gateway changes requests",
            ))
        }
    }
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    headers
        .get(name)
        .map(|value| {
            value.to_str().map_err(|_invalid| malformed_request(format!("header `{name}` is not plain text")))
        })
        .transpose()
}

const TIMESTAMP_FORMAT: &[time::format_description::FormatItem<'_>] =
    format_description!("[year][month][day]T[hour][minute][second]Z");

/// Parses `YYYYMMDDTHHMMSSZ`.
fn parse_timestamp(text: &str) -> Option<OffsetDateTime> {
    if text.len() != 16 || !text.is_ascii() {
        return None;
    }
    PrimitiveDateTime::parse(text, TIMESTAMP_FORMAT).ok().map(PrimitiveDateTime::assume_utc)
}

/// `at` as `YYYYMMDDTHHMMSSZ`, in UTC.
pub fn format_timestamp(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!(
        "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

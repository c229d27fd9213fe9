//! What a caller signed: the Authorization header or query parameters, read strictly, and the check itself.
//!
//! Reading and checking are apart because the secret comes from the session token that reading finds. Nothing here
//! is lenient: a second credential, an unsigned `x-amz-*` header or an unsorted header list refuses the request.

use super::canonical_request::CanonicalRequest;
use super::{
    PathCanonicalization, SIGNING_ALGORITHM, Signature, SigningKey, UNSIGNED_PAYLOAD, build_string_to_sign,
};
use durward_core::{Refusal, RefusalReason, limits};
use http::{HeaderMap, Method};
use std::borrow::Cow;
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

/// What `x-amz-content-sha256` says about the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PayloadMode {
    /// The header is absent (all services but S3): the signature covers the SHA-256 of the body.
    BodyHash,
    /// Lower-case hex SHA-256, declared in the header.
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
    /// The text in the canonical request; `None` where the body must be hashed first.
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

/// A credential and signature as read from a request; not yet checked.
#[derive(Debug, Clone)]
pub struct ClaimedSignature {
    pub location: SignatureLocation,
    pub access_key_id: String,
    /// `YYYYMMDD` of the scope.
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

fn malformed_request(message: impl Into<String>) -> Refusal {
    Refusal::new(RefusalReason::Malformed, message)
}

/// Headers that may occur once only: two of them would let two readers disagree.
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

/// Reads the one credential of a request.
pub fn parse_claimed_signature(head: &SignedRequestHead<'_>) -> Result<ClaimedSignature, Refusal> {
    for name in SINGLE_VALUE_HEADERS {
        if head.headers.get_all(name).iter().nth(1).is_some() {
            return Err(malformed_request(format!("header `{name}` occurs more than once")));
        }
    }
    let in_query = decode_query_pairs(head.query).any(|(name, _value)| {
        let name = name.to_ascii_lowercase();
        name == "x-amz-algorithm" || name == "x-amz-credential" || name == "x-amz-signature"
    });
    let claimed = match (header_text(head.headers, "authorization")?, in_query) {
        (Some(_both), true) => {
            return Err(malformed_request(
                "credentials are both in the Authorization header and in the query",
            ));
        }
        (Some(authorization), false) => parse_authorization_header(head, authorization)?,
        (None, true) => parse_presigned_query(head)?,
        (None, false) if decode_query_pairs(head.query).any(|(name, _value)| name == "AWSAccessKeyId") => {
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

fn parse_presigned_query(head: &SignedRequestHead<'_>) -> Result<ClaimedSignature, Refusal> {
    let one = |wanted: &str| -> Result<Option<String>, Refusal> {
        let mut found = None;
        for (name, value) in decode_query_pairs(head.query) {
            if name.eq_ignore_ascii_case(wanted) {
                if name != wanted || found.is_some() {
                    return Err(malformed_request(format!(
                        "query parameter `{wanted}` is repeated or spelt in another case"
                    )));
                }
                found = Some(value.into_owned());
            }
        }
        Ok(found)
    };
    if one("X-Amz-Algorithm")?.as_deref() != Some(SIGNING_ALGORITHM) {
        return Err(malformed_request(format!(
            "query parameter `X-Amz-Algorithm` is not {SIGNING_ALGORITHM}"
        )));
    }
    let (credential, signed_headers, signature) =
        (one("X-Amz-Credential")?, one("X-Amz-SignedHeaders")?, one("X-Amz-Signature")?);
    let timestamp =
        one("X-Amz-Date")?.ok_or_else(|| malformed_request("query parameter `X-Amz-Date` is missing"))?;
    let expires = one("X-Amz-Expires")?
        .and_then(|text| text.parse::<u64>().ok())
        .filter(|seconds| (1..=limits::MAX_PRESIGN_EXPIRES.as_secs()).contains(seconds))
        .ok_or_else(|| malformed_request("query parameter `X-Amz-Expires` must be 1 to 604800 seconds"))?;
    let session_token = one("X-Amz-Security-Token")?.unwrap_or_default();
    let payload = match (one("X-Amz-Content-Sha256")?, header_text(head.headers, "x-amz-content-sha256")?) {
        (None, None) => PayloadMode::Unsigned,
        (Some(value), None) => parse_payload_mode(&value)?,
        (None, Some(value)) => parse_payload_mode(value)?,
        (Some(_query), Some(_header)) => {
            return Err(malformed_request("`x-amz-content-sha256` is both in the query and in a header"));
        }
    };
    if head.headers.contains_key("x-amz-date") || head.headers.contains_key("x-amz-security-token") {
        return Err(malformed_request(
            "a presigned request must not carry `x-amz-date` or `x-amz-security-token` headers",
        ));
    }
    let mut claimed = build_claimed_signature(
        SignatureLocation::Query { expires_seconds: expires },
        credential.as_deref(),
        signed_headers.as_deref(),
        signature.as_deref(),
        &timestamp,
        session_token,
        payload,
    )?;
    if claimed.payload_mode == PayloadMode::Unsigned
        && PathCanonicalization::for_service(&claimed.service) == PathCanonicalization::Normalized
    {
        // Outside S3 a presigned request signs the hash of its (usually empty) body.
        claimed.payload_mode = PayloadMode::BodyHash;
    }
    Ok(claimed)
}

fn build_claimed_signature(
    form: SignatureLocation,
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
    if !is_scope_word(service) || !is_scope_word(region) {
        return Err(malformed_request("the credential scope's region or service is not a plain word"));
    }
    let signature = Signature::parse(signature)
        .ok_or_else(|| malformed_request("the signature is not 64 lower-case hexadecimal digits"))?;
    let at = parse_timestamp(timestamp)
        .ok_or_else(|| malformed_request("the signature's date is not `YYYYMMDDTHHMMSSZ`"))?;
    if timestamp.get(..8) != Some(date) {
        return Err(malformed_request("the date of the credential scope is not the date of the request"));
    }
    let signed_headers: Vec<String> = signed_headers.split(';').map(str::to_owned).collect();
    let sorted = signed_headers.windows(2).all(|pair| matches!(pair, [one, two] if one < two));
    let lower =
        signed_headers.iter().all(|name| !name.is_empty() && !name.bytes().any(|b| b.is_ascii_uppercase()));
    if !sorted || !lower {
        return Err(malformed_request("SignedHeaders must be lower case, sorted and without repeats"));
    }
    Ok(ClaimedSignature {
        location: form,
        access_key_id: (*access_key_id).to_owned(),
        scope_date: (*date).to_owned(),
        region: (*region).to_owned(),
        service: (*service).to_owned(),
        signed_headers,
        signature,
        timestamp: timestamp.to_owned(),
        signing_time: at,
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

/// `host`, and every `x-amz-*` header that is there, must be covered by the signature.
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

    /// Whether the date is inside the clock window, and a presigned URL still valid.
    pub fn check_signing_time(&self, now: OffsetDateTime) -> Result<(), Refusal> {
        let skew = time::Duration::try_from(limits::MAX_CLOCK_SKEW).unwrap_or_default();
        let ahead = self.signing_time - now;
        if ahead > skew {
            return Err(Refusal::new(
                RefusalReason::ClockSkew,
                format!(
                    "the request is dated {} and this clock says {}",
                    self.timestamp,
                    format_timestamp(now)
                ),
            ));
        }
        match self.location {
            SignatureLocation::Header if -ahead > skew => Err(Refusal::new(
                RefusalReason::ClockSkew,
                format!(
                    "the request is dated {} and this clock says {}",
                    self.timestamp,
                    format_timestamp(now)
                ),
            )),
            SignatureLocation::Query { expires_seconds: expires }
                if -ahead > time::Duration::seconds(i64::try_from(expires).unwrap_or(0)) =>
            {
                Err(Refusal::new(RefusalReason::RequestExpired, "the presigned URL has expired"))
            }
            _ => Ok(()),
        }
    }

    /// Checks the signature over `head` and `payload_hash` (the hex SHA-256 of the body, or the mode's text).
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
        .map_err(|name| malformed_request(format!("signed header `{name}` is missing or is not text")))?;
        let ours =
            key.sign(build_string_to_sign(&self.timestamp, &self.credential_scope(), &canonical).as_bytes());
        if ours.matches(&self.signature) {
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

fn decode_query_pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let decode = |text| percent_encoding::percent_decode_str(text).decode_utf8_lossy();
    query.split('&').filter(|pair| !pair.is_empty()).map(move |pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

const TIMESTAMP_FORMAT: &[time::format_description::FormatItem<'_>] =
    format_description!("[year][month][day]T[hour][minute][second]Z");

/// `YYYYMMDDTHHMMSSZ`
pub fn parse_timestamp(text: &str) -> Option<OffsetDateTime> {
    if text.len() != 16 || !text.is_ascii() {
        return None;
    }
    PrimitiveDateTime::parse(text, TIMESTAMP_FORMAT).ok().map(PrimitiveDateTime::assume_utc)
}

/// `YYYYMMDDTHHMMSSZ`
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

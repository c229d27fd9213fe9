//! What a caller signed: the Authorization header or query parameters, read strictly, and the check itself.
//!
//! Reading and checking are apart because the secret comes from the session token that reading finds. Nothing here
//! is lenient: a second credential, an unsigned `x-amz-*` header or an unsorted header list refuses the request.

use super::canonical::Canonical;
use super::{ALGORITHM, Signature, SigningKey, Style, UNSIGNED_PAYLOAD, string_to_sign};
use durward_core::{Reason, Refusal, limits};
use http::{HeaderMap, Method};
use std::borrow::Cow;
use time::{OffsetDateTime, PrimitiveDateTime, macros::format_description};

/// The parts of a request that its signature covers.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    pub method: &'a Method,
    /// As sent, percent-encoded, without the query.
    pub path: &'a str,
    /// As sent, without the `?`.
    pub query: &'a str,
    pub headers: &'a HeaderMap,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Header,
    /// A presigned URL, valid this many seconds from its date.
    Query {
        expires: u64,
    },
}

/// What `x-amz-content-sha256` says about the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
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

impl Payload {
    /// The text in the canonical request; `None` where the body must be hashed first.
    pub fn as_text(&self) -> Option<&str> {
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
pub struct Claimed {
    pub form: Form,
    pub access_key_id: String,
    /// `YYYYMMDD` of the scope.
    pub date: String,
    pub region: String,
    pub service: String,
    pub signed_headers: Vec<String>,
    pub signature: Signature,
    /// `YYYYMMDDTHHMMSSZ`
    pub timestamp: String,
    pub at: OffsetDateTime,
    pub session_token: String,
    pub payload: Payload,
}

fn malformed(message: impl Into<String>) -> Refusal {
    Refusal::new(Reason::Malformed, message)
}

/// Headers that may occur once only: two of them would let two readers disagree.
const SINGLE: [&str; 8] = [
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
pub fn read(head: &Head<'_>) -> Result<Claimed, Refusal> {
    for name in SINGLE {
        if head.headers.get_all(name).iter().nth(1).is_some() {
            return Err(malformed(format!("header `{name}` occurs more than once")));
        }
    }
    let in_query = query_pairs(head.query).any(|(name, _value)| {
        let name = name.to_ascii_lowercase();
        name == "x-amz-algorithm" || name == "x-amz-credential" || name == "x-amz-signature"
    });
    let claimed = match (text(head.headers, "authorization")?, in_query) {
        (Some(_both), true) => {
            return Err(malformed("credentials are both in the Authorization header and in the query"));
        }
        (Some(authorization), false) => read_header(head, authorization)?,
        (None, true) => read_query(head)?,
        (None, false) if query_pairs(head.query).any(|(name, _value)| name == "AWSAccessKeyId") => {
            return Err(malformed(
                "Signature Version 2 is not supported; sign with Signature Version 4 (boto3: Config(signature_version=\"s3v4\"))",
            ));
        }
        (None, false) => {
            return Err(Refusal::new(
                Reason::MissingAuthentication,
                "the request is not signed; sign in with AssumeRoleWithWebIdentity at this endpoint and sign with that credential",
            ));
        }
    };
    require_signed(head, &claimed)?;
    Ok(claimed)
}

fn read_header(head: &Head<'_>, authorization: &str) -> Result<Claimed, Refusal> {
    let Some(fields) = authorization.strip_prefix(ALGORITHM).and_then(|rest| rest.strip_prefix(' ')) else {
        return Err(malformed(format!(
            "the Authorization header does not use {ALGORITHM}; Signature Version 2, SigV4a and bearer tokens are not supported here"
        )));
    };
    let (mut credential, mut signed_headers, mut signature) = (None, None, None);
    for field in fields.split(',') {
        let (name, value) = field
            .trim_matches([' ', '\t'])
            .split_once('=')
            .ok_or_else(|| malformed("a part of the Authorization header has no `=`"))?;
        let slot = match name {
            "Credential" => &mut credential,
            "SignedHeaders" => &mut signed_headers,
            "Signature" => &mut signature,
            _ => return Err(malformed("the Authorization header has an unknown part")),
        };
        if slot.replace(value).is_some() {
            return Err(malformed(format!("`{name}` occurs twice in the Authorization header")));
        }
    }
    let timestamp =
        text(head.headers, "x-amz-date")?.ok_or_else(|| malformed("header `x-amz-date` is missing"))?;
    let session_token = text(head.headers, "x-amz-security-token")?.unwrap_or_default();
    let payload = match text(head.headers, "x-amz-content-sha256")? {
        None => Payload::BodyHash,
        Some(value) => read_payload(value)?,
    };
    claim(Form::Header, credential, signed_headers, signature, timestamp, session_token.to_owned(), payload)
}

fn read_query(head: &Head<'_>) -> Result<Claimed, Refusal> {
    let one = |wanted: &str| -> Result<Option<String>, Refusal> {
        let mut found = None;
        for (name, value) in query_pairs(head.query) {
            if name.eq_ignore_ascii_case(wanted) {
                if name != wanted || found.is_some() {
                    return Err(malformed(format!(
                        "query parameter `{wanted}` is repeated or spelt in another case"
                    )));
                }
                found = Some(value.into_owned());
            }
        }
        Ok(found)
    };
    if one("X-Amz-Algorithm")?.as_deref() != Some(ALGORITHM) {
        return Err(malformed(format!("query parameter `X-Amz-Algorithm` is not {ALGORITHM}")));
    }
    let (credential, signed_headers, signature) =
        (one("X-Amz-Credential")?, one("X-Amz-SignedHeaders")?, one("X-Amz-Signature")?);
    let timestamp = one("X-Amz-Date")?.ok_or_else(|| malformed("query parameter `X-Amz-Date` is missing"))?;
    let expires = one("X-Amz-Expires")?
        .and_then(|text| text.parse::<u64>().ok())
        .filter(|seconds| (1..=limits::PRESIGN.as_secs()).contains(seconds))
        .ok_or_else(|| malformed("query parameter `X-Amz-Expires` must be 1 to 604800 seconds"))?;
    let session_token = one("X-Amz-Security-Token")?.unwrap_or_default();
    let payload = match (one("X-Amz-Content-Sha256")?, text(head.headers, "x-amz-content-sha256")?) {
        (None, None) => Payload::Unsigned,
        (Some(value), None) => read_payload(&value)?,
        (None, Some(value)) => read_payload(value)?,
        (Some(_query), Some(_header)) => {
            return Err(malformed("`x-amz-content-sha256` is both in the query and in a header"));
        }
    };
    if head.headers.contains_key("x-amz-date") || head.headers.contains_key("x-amz-security-token") {
        return Err(malformed(
            "a presigned request must not carry `x-amz-date` or `x-amz-security-token` headers",
        ));
    }
    let mut claimed = claim(
        Form::Query { expires },
        credential.as_deref(),
        signed_headers.as_deref(),
        signature.as_deref(),
        &timestamp,
        session_token,
        payload,
    )?;
    if claimed.payload == Payload::Unsigned && Style::of(&claimed.service) == Style::Other {
        // Outside S3 a presigned request signs the hash of its (usually empty) body.
        claimed.payload = Payload::BodyHash;
    }
    Ok(claimed)
}

fn claim(
    form: Form,
    credential: Option<&str>,
    signed_headers: Option<&str>,
    signature: Option<&str>,
    timestamp: &str,
    session_token: String,
    payload: Payload,
) -> Result<Claimed, Refusal> {
    let (Some(credential), Some(signed_headers), Some(signature)) = (credential, signed_headers, signature)
    else {
        return Err(malformed("the signature needs Credential, SignedHeaders and Signature"));
    };
    let parts: Vec<&str> = credential.split('/').collect();
    let [access_key_id, date, region, service, "aws4_request"] = parts.as_slice() else {
        return Err(malformed(
            "the credential scope is not `<access key id>/<date>/<region>/<service>/aws4_request`",
        ));
    };
    if !is_scope_word(service) || !is_scope_word(region) {
        return Err(malformed("the credential scope's region or service is not a plain word"));
    }
    let signature = Signature::parse(signature)
        .ok_or_else(|| malformed("the signature is not 64 lower-case hexadecimal digits"))?;
    let at = parse_timestamp(timestamp)
        .ok_or_else(|| malformed("the signature's date is not `YYYYMMDDTHHMMSSZ`"))?;
    if timestamp.get(..8) != Some(date) {
        return Err(malformed("the date of the credential scope is not the date of the request"));
    }
    let signed_headers: Vec<String> = signed_headers.split(';').map(str::to_owned).collect();
    let sorted = signed_headers.windows(2).all(|pair| matches!(pair, [one, two] if one < two));
    let lower =
        signed_headers.iter().all(|name| !name.is_empty() && !name.bytes().any(|b| b.is_ascii_uppercase()));
    if !sorted || !lower {
        return Err(malformed("SignedHeaders must be lower case, sorted and without repeats"));
    }
    Ok(Claimed {
        form,
        access_key_id: (*access_key_id).to_owned(),
        date: (*date).to_owned(),
        region: (*region).to_owned(),
        service: (*service).to_owned(),
        signed_headers,
        signature,
        timestamp: timestamp.to_owned(),
        at,
        session_token,
        payload,
    })
}

fn is_scope_word(word: &str) -> bool {
    (1..=64).contains(&word.len())
        && word
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_')
}

/// `host`, and every `x-amz-*` header that is there, must be covered by the signature.
fn require_signed(head: &Head<'_>, claimed: &Claimed) -> Result<(), Refusal> {
    let signed = |name: &str| claimed.signed_headers.binary_search_by(|item| item.as_str().cmp(name)).is_ok();
    if !signed("host") {
        return Err(malformed("header `host` is not signed"));
    }
    for name in head.headers.keys() {
        let name = name.as_str();
        if name.starts_with("x-amz-") && !signed(name) {
            return Err(malformed(format!("header `{name}` is not signed; sign it or leave it out")));
        }
    }
    Ok(())
}

fn read_payload(value: &str) -> Result<Payload, Refusal> {
    match value {
        UNSIGNED_PAYLOAD => Ok(Payload::Unsigned),
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Ok(Payload::ChunkedUnsignedTrailer),
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => Ok(Payload::ChunkedSigned),
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => Ok(Payload::ChunkedSignedTrailer),
        hash if Signature::parse(hash).is_some() => Ok(Payload::Sha256(hash.to_owned())),
        _ => Err(malformed(
            "`x-amz-content-sha256` is neither a lower-case SHA-256 nor a payload mode that is supported",
        )),
    }
}

impl Claimed {
    /// `<date>/<region>/<service>/aws4_request`
    pub fn scope(&self) -> String {
        format!("{}/{}/{}/aws4_request", self.date, self.region, self.service)
    }

    /// Whether the date is inside the clock window, and a presigned URL still valid.
    pub fn check_time(&self, now: OffsetDateTime) -> Result<(), Refusal> {
        let skew = time::Duration::try_from(limits::CLOCK_SKEW).unwrap_or_default();
        let ahead = self.at - now;
        if ahead > skew {
            return Err(Refusal::new(
                Reason::ClockSkew,
                format!(
                    "the request is dated {} and this clock says {}",
                    self.timestamp,
                    format_timestamp(now)
                ),
            ));
        }
        match self.form {
            Form::Header if -ahead > skew => Err(Refusal::new(
                Reason::ClockSkew,
                format!(
                    "the request is dated {} and this clock says {}",
                    self.timestamp,
                    format_timestamp(now)
                ),
            )),
            Form::Query { expires }
                if -ahead > time::Duration::seconds(i64::try_from(expires).unwrap_or(0)) =>
            {
                Err(Refusal::new(Reason::RequestExpired, "the presigned URL has expired"))
            }
            _ => Ok(()),
        }
    }

    /// Checks the signature over `head` and `payload_hash` (the hex SHA-256 of the body, or the mode's text).
    pub fn check(&self, head: &Head<'_>, payload_hash: &str, key: &SigningKey) -> Result<(), Refusal> {
        let canonical = Canonical {
            method: head.method.as_str(),
            path: head.path,
            query: head.query,
            headers: head.headers,
            signed_headers: &self.signed_headers,
            payload_hash,
            style: Style::of(&self.service),
        }
        .request()
        .map_err(|name| malformed(format!("signed header `{name}` is missing or is not text")))?;
        let ours = key.sign(string_to_sign(&self.timestamp, &self.scope(), &canonical).as_bytes());
        if ours.matches(&self.signature) {
            Ok(())
        } else {
            Err(Refusal::new(
                Reason::SignatureMismatch,
                "the signature does not match the request; check that nothing between the client and this gateway changes requests",
            ))
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    headers
        .get(name)
        .map(|value| {
            value.to_str().map_err(|_invalid| malformed(format!("header `{name}` is not plain text")))
        })
        .transpose()
}

fn query_pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let decode = |text| percent_encoding::percent_decode_str(text).decode_utf8_lossy();
    query.split('&').filter(|pair| !pair.is_empty()).map(move |pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

const TIMESTAMP: &[time::format_description::FormatItem<'_>] =
    format_description!("[year][month][day]T[hour][minute][second]Z");

/// `YYYYMMDDTHHMMSSZ`
pub fn parse_timestamp(text: &str) -> Option<OffsetDateTime> {
    if text.len() != 16 || !text.is_ascii() {
        return None;
    }
    PrimitiveDateTime::parse(text, TIMESTAMP).ok().map(PrimitiveDateTime::assume_utc)
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

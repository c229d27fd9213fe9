//! The compact form of a JWS (RFC 7515 section 7.1), read strictly: three parts, unpadded base64url, JSON objects without
//! duplicate names. Header parameters that would change the meaning of the signature are refused.
//!
//! Nothing here is verified. Header parameters that carry or name a key (`jwk`, `jku`, `x5c`, `x5u`) are never read: the sender
//! of a token would choose the key that verifies it.

use super::{SignatureAlgorithm, TokenError};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use durward_core::parse_strict_json;
use serde_json::{Map, Value};

/// Bytes of a `kid`. Real ones are hashes or short names.
const MAX_KID_BYTES: usize = 1_024;

/// A well-formed token. The signature has not been verified.
#[derive(Debug)]
pub(super) struct UnverifiedJws<'a> {
    pub algorithm: SignatureAlgorithm,
    pub kid: Option<String>,
    pub header: Map<String, Value>,
    pub claims: Map<String, Value>,
    /// The header and payload exactly as received, which the signature covers.
    pub signing_input: &'a str,
    pub signature: Vec<u8>,
}

pub(super) fn parse_jws(token: &str) -> Result<UnverifiedJws<'_>, TokenError> {
    let dots = token.bytes().filter(|byte| *byte == b'.').count();
    if dots == 4 {
        return Err(TokenError::Invalid("it is encrypted (JWE); only signed tokens are accepted"));
    }
    // The signed bytes are a part of the text as received: encoding them anew could sign other bytes (RFC 7515 section 5.2).
    let (Some((signed, signature)), 2) = (token.rsplit_once('.'), dots) else {
        return Err(TokenError::Invalid("it is not a JWT: three parts joined by dots are expected"));
    };
    let Some((header, payload)) = signed.split_once('.') else {
        return Err(TokenError::Invalid("it is not a JWT: three parts joined by dots are expected"));
    };
    let header = decode_json_object(header)
        .ok_or(TokenError::Invalid("its header is not a base64url JSON object with distinct names"))?;
    let (algorithm, kid) = check_header(&header)?;
    let claims = decode_json_object(payload)
        .ok_or(TokenError::Invalid("its payload is not a base64url JSON object with distinct names"))?;
    let signature = URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| TokenError::Invalid("its signature is not unpadded base64url"))?;
    Ok(UnverifiedJws { algorithm, kid, header, claims, signing_input: signed, signature })
}

/// The algorithm and the key id, if no parameter changes the meaning of the signature.
fn check_header(header: &Map<String, Value>) -> Result<(SignatureAlgorithm, Option<String>), TokenError> {
    // RFC 7515 section 4.1.11: a critical extension that is not understood must be refused. RFC 7797 section 3: `b64` changes
    // the bytes that are signed.
    for (name, reason) in [
        ("crit", "its header requires extensions (crit) that are not supported"),
        ("b64", "its header changes the payload's encoding (b64)"),
        ("enc", "it is encrypted (enc); only signed tokens are accepted"),
        ("zip", "it is compressed (zip); only plain signed tokens are accepted"),
    ] {
        if header.contains_key(name) {
            return Err(TokenError::Invalid(reason));
        }
    }
    // RFC 8725 section 3.11: other kinds of JWT from the same provider (logout tokens, DPoP proofs) carry another type.
    match header.get("typ") {
        None => {}
        Some(Value::String(typ)) if is_accepted_type(typ) => {}
        Some(_) => return Err(TokenError::Invalid("its type (typ) is neither JWT nor at+jwt")),
    }
    let algorithm = header
        .get("alg")
        .and_then(Value::as_str)
        // `none`, in any letter case, and the HMAC algorithms are no values of the type (RFC 8725 sections 2.1 and 3.2).
        .and_then(SignatureAlgorithm::parse)
        .ok_or(TokenError::Invalid("its signature algorithm (alg) is not accepted"))?;
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) if kid.len() <= MAX_KID_BYTES => Some(kid.clone()),
        Some(_) => {
            return Err(TokenError::Invalid("its key id (kid) is not a string or is too long"));
        }
    };
    Ok((algorithm, kid))
}

/// Media types may be written without `application/` and in any case (RFC 7515 section 4.1.9).
fn is_accepted_type(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
}

/// RFC 7519 section 4 permits duplicate names to be refused. Two readers may take different ones of two members of one name.
fn decode_json_object(part: &str) -> Option<Map<String, Value>> {
    match parse_strict_json(&URL_SAFE_NO_PAD.decode(part).ok()?) {
        Ok(Value::Object(object)) => Some(object),
        _ => None,
    }
}

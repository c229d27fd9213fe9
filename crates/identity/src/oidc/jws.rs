//! The compact form of a JWS (RFC 7515 section 7.1), read strictly: three parts, unpadded base64url, JSON objects without
//! duplicate names. Header parameters that would change what is verified are refused; those that carry a key are not read.

use super::{SignatureAlgorithm, TokenError};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

/// Longest `kid` that is looked at. Real ones are hashes or short names.
const MAX_KID_BYTES: usize = 1_024;

/// A token that is well-formed and nothing more: the signature has not been verified.
#[derive(Debug)]
pub(super) struct UnverifiedJws<'a> {
    pub algorithm: SignatureAlgorithm,
    pub kid: Option<String>,
    pub claims: Map<String, Value>,
    /// What the signature covers: header and payload as they came.
    pub signing_input: &'a str,
    pub signature: Vec<u8>,
}

pub(super) fn parse_jws(token: &str) -> Result<UnverifiedJws<'_>, TokenError> {
    let dots = token.bytes().filter(|byte| *byte == b'.').count();
    if dots == 4 {
        return Err(TokenError::Invalid("it is encrypted (JWE); only signed tokens are accepted"));
    }
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
    Ok(UnverifiedJws { algorithm, kid, claims, signing_input: signed, signature })
}

fn check_header(header: &Map<String, Value>) -> Result<(SignatureAlgorithm, Option<String>), TokenError> {
    for (name, why) in [
        ("crit", "its header demands extensions (crit) that are not supported"),
        ("b64", "its header changes the payload's encoding (b64)"),
        ("enc", "it is encrypted (enc); only signed tokens are accepted"),
        ("zip", "it is compressed (zip); only plain signed tokens are accepted"),
    ] {
        if header.contains_key(name) {
            return Err(TokenError::Invalid(why));
        }
    }
    match header.get("typ") {
        None => {}
        Some(Value::String(typ)) if is_accepted_type(typ) => {}
        Some(_) => return Err(TokenError::Invalid("its type (typ) is neither JWT nor at+jwt")),
    }
    let algorithm = header
        .get("alg")
        .and_then(Value::as_str)
        .and_then(SignatureAlgorithm::parse)
        .ok_or(TokenError::Invalid("its signature algorithm (alg) is not accepted"))?;
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) if kid.len() <= MAX_KID_BYTES => Some(kid.clone()),
        Some(_) => {
            return Err(TokenError::Invalid("its key id (kid) is not a string of at most 1,024 bytes"));
        }
    };
    Ok((algorithm, kid))
}

/// Media types may be written without `application/` and in any case (RFC 7515 section 4.1.9).
fn is_accepted_type(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
}

fn decode_json_object(part: &str) -> Option<Map<String, Value>> {
    let json = URL_SAFE_NO_PAD.decode(part).ok()?;
    let mut reader = serde_json::Deserializer::from_slice(&json);
    let object = reader.deserialize_map(DistinctNamesVisitor).ok()?;
    reader.end().ok()?;
    Some(object)
}

/// Two members of one name are read differently by different readers; RFC 7515 and RFC 7519 let us refuse them.
struct DistinctNamesVisitor;

impl<'de> Visitor<'de> for DistinctNamesVisitor {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object with distinct names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, value)) = members.next_entry::<String, Value>()? {
            if object.insert(name, value).is_some() {
                return Err(serde::de::Error::custom("a name occurs twice"));
            }
        }
        Ok(object)
    }
}

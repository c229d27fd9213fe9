//! Signature algorithms and the public keys of a provider's JWK set (RFC 7517, RFC 7518 section 6).
//!
//! Promises: symmetric keys and algorithms do not exist here, so a public key can never serve as an HMAC secret (algorithm
//! confusion, RFC 8725 section 2.1). A key works only with the algorithms that its type, curve, `use`, `key_ops` and `alg` permit.

use aws_lc_rs::signature::{self, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;
use std::{collections::HashMap, sync::Arc};

/// Keys of one JWK set that are read.
const MAX_KEYS_PER_SET: usize = 200;

/// A signature algorithm of RFC 7518 section 3.1, RFC 8037 or RFC 9864 that tokens may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SignatureAlgorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    /// Ed25519 only, under its names `EdDSA` and `Ed25519`.
    EdDsa,
}

impl SignatureAlgorithm {
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// The algorithm with exactly this name; case matters (RFC 7515 section 4.1.1).
    pub fn parse(name: &str) -> Option<Self> {
        if name == "Ed25519" {
            return Some(Self::EdDsa);
        }
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// The key that a token needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyQuery<'a> {
    pub kid: Option<&'a str>,
    pub algorithm: SignatureAlgorithm,
}

#[derive(Debug)]
pub(super) enum KeyMatch {
    One(Arc<VerificationKey>),
    /// No key has the id, or without an id none has the algorithm.
    None,
    /// Keys have the id, but none may be used with the algorithm.
    Unsuitable,
    Ambiguous,
}

/// A usable public key, ready to verify under each algorithm it permits.
#[derive(Debug)]
pub(super) struct VerificationKey {
    kid: Option<String>,
    parsed_keys: HashMap<SignatureAlgorithm, ParsedPublicKey>,
}

impl VerificationKey {
    pub fn verify_signature(&self, algorithm: SignatureAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        self.parsed_keys.get(&algorithm).is_some_and(|key| key.verify_sig(message, signature).is_ok())
    }
}

/// Why a JWK set cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwkSetError {
    #[error("not a JWK set: {0}")]
    Malformed(String),
    #[error("a JWK set of {0} keys; at most {MAX_KEYS_PER_SET} are read")]
    TooManyKeys(usize),
    #[error("a JWK set without a key that can be used")]
    Empty,
}

/// The usable keys of a provider.
#[derive(Debug)]
pub(super) struct JwkSet(Vec<Arc<VerificationKey>>);

impl JwkSet {
    /// Reads a JWK set. Keys that are symmetric, malformed, of an unknown kind or not for signatures are left out, as
    /// RFC 7517 section 5 recommends, so that one unusual key does not lock out all callers.
    pub fn parse(json: &[u8]) -> Result<Self, JwkSetError> {
        #[derive(Deserialize)]
        struct JwkSetDocument {
            keys: Vec<Value>,
        }
        let document: JwkSetDocument =
            serde_json::from_slice(json).map_err(|error| JwkSetError::Malformed(error.to_string()))?;
        // Parsing an RSA key costs more than reading it, so the limit on bytes alone would not bound the work.
        if document.keys.len() > MAX_KEYS_PER_SET {
            return Err(JwkSetError::TooManyKeys(document.keys.len()));
        }
        let keys = document
            .keys
            .into_iter()
            .filter_map(|key| serde_json::from_value::<Jwk>(key).ok())
            .filter_map(Jwk::into_verification_key)
            .map(Arc::new);
        Ok(Self(keys.collect()))
    }

    /// An error for a set without keys. A provider that fails may answer with one, and it must not replace a good set: every caller
    /// would be locked out until the next refresh.
    pub fn ensure_not_empty(self) -> Result<Self, JwkSetError> {
        if self.0.is_empty() { Err(JwkSetError::Empty) } else { Ok(self) }
    }

    pub fn select_key(&self, wanted: &KeyQuery<'_>) -> KeyMatch {
        let mut candidates = self
            .0
            .iter()
            // The `kid` only narrows the choice among the keys of the provider; it is compared, and never used as a path or a
            // query (RFC 8725 section 3.10).
            .filter(|key| wanted.kid.is_none_or(|kid| key.kid.as_deref() == Some(kid)))
            .peekable();
        let is_known = wanted.kid.is_some() && candidates.peek().is_some();
        let mut suitable = candidates.filter(|key| key.parsed_keys.contains_key(&wanted.algorithm));
        // Of several keys that fit, none is tried: a key set with two keys of one id is a fault of the provider.
        match (suitable.next(), suitable.next()) {
            (Some(key), None) => KeyMatch::One(key.clone()),
            (Some(_), Some(_)) => KeyMatch::Ambiguous,
            (None, _) if is_known => KeyMatch::Unsuitable,
            (None, _) => KeyMatch::None,
        }
    }
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwk {
    fn into_verification_key(self) -> Option<VerificationKey> {
        // RFC 7517 sections 4.2 and 4.3: a key for encryption must not verify signatures, whatever its type could do.
        let is_for_signatures = self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !is_for_signatures {
            return None;
        }
        // A key that is bound to an algorithm we do not know cannot verify anything.
        let bound_to = match &self.alg {
            None => None,
            Some(alg) => Some(SignatureAlgorithm::parse(alg)?),
        };
        let mut parsed_keys = self.parse_public_keys()?;
        parsed_keys.retain(|algorithm, _key| bound_to.is_none_or(|bound_to| bound_to == *algorithm));
        if parsed_keys.is_empty() {
            return None;
        }
        Some(VerificationKey { kid: self.kid, parsed_keys })
    }

    fn parse_public_keys(&self) -> Option<HashMap<SignatureAlgorithm, ParsedPublicKey>> {
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                let (n, e) = (decode_base64url(self.n.as_deref()?)?, decode_base64url(self.e.as_deref()?)?);
                // RFC 7518 section 3.3 requires 2048 bits. aws-lc enforces 2048 to 8192 bits when it verifies; a key of
                // another length is left out of the set already.
                if !(256..=1_024).contains(&n.len()) {
                    return None;
                }
                let key = RsaPublicKeyComponents { n: n.as_slice(), e: e.as_slice() };
                rsa_algorithms()
                    .into_iter()
                    .map(|(algorithm, parameters)| {
                        Some((algorithm, key.to_parsed_public_key(parameters).ok()?))
                    })
                    .collect()
            }
            // RFC 7518 section 3.4: each algorithm has one curve, and the signature is `r || s` of fixed length, not DER.
            ("EC", Some("P-256")) => {
                let key =
                    UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, self.uncompressed_point(32)?);
                Some(HashMap::from([(SignatureAlgorithm::Es256, key.parse().ok()?)]))
            }
            ("EC", Some("P-384")) => {
                let key =
                    UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, self.uncompressed_point(48)?);
                Some(HashMap::from([(SignatureAlgorithm::Es384, key.parse().ok()?)]))
            }
            ("OKP", Some("Ed25519")) => {
                let x = decode_base64url(self.x.as_deref()?).filter(|x| x.len() == 32)?;
                let key = UnparsedPublicKey::new(&signature::ED25519, x);
                Some(HashMap::from([(SignatureAlgorithm::EdDsa, key.parse().ok()?)]))
            }
            _ => None,
        }
    }

    /// The uncompressed point (SEC 1 section 2.3.3). Coordinates have the curve's full length (RFC 7518 section 6.2.1.2).
    fn uncompressed_point(&self, length: usize) -> Option<Vec<u8>> {
        let coordinate =
            |text: &Option<String>| decode_base64url(text.as_deref()?).filter(|bytes| bytes.len() == length);
        Some([&[4], coordinate(&self.x)?.as_slice(), coordinate(&self.y)?.as_slice()].concat())
    }
}

fn rsa_algorithms() -> [(SignatureAlgorithm, &'static RsaParameters); 6] {
    [
        (SignatureAlgorithm::Rs256, &signature::RSA_PKCS1_2048_8192_SHA256),
        (SignatureAlgorithm::Rs384, &signature::RSA_PKCS1_2048_8192_SHA384),
        (SignatureAlgorithm::Rs512, &signature::RSA_PKCS1_2048_8192_SHA512),
        (SignatureAlgorithm::Ps256, &signature::RSA_PSS_2048_8192_SHA256),
        (SignatureAlgorithm::Ps384, &signature::RSA_PSS_2048_8192_SHA384),
        (SignatureAlgorithm::Ps512, &signature::RSA_PSS_2048_8192_SHA512),
    ]
}

fn decode_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

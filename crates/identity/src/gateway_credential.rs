//! Gateway credentials: AWS keys in form only, which the gateway issues at sign-in and which AWS itself does not accept.
//!
//! The session token is the claims, sealed with AES-256-GCM-SIV (RFC 8452). The secret access key is derived from the access key
//! id and the nonce of the token. Any replica with the seal keys can therefore open a credential without a look-up.
//!
//! Promises: a token that was changed, or that is presented with another access key id, does not open. Revocation is not checked
//! here: see [`Revocations`](crate::Revocations), which goes by the session id at every use.

mod cache;
mod key_file;
#[cfg(test)]
mod tests;

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest, hkdf, hmac, rand,
};
use base64::{Engine as _, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use cache::OpenedCredentialCache;
use durward_core::{Caller, Refusal, RefusalReason, Secret, SessionId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use time::OffsetDateTime;
use zeroize::Zeroizing;

pub use key_file::KeyFileError;

/// First byte of a token. Another layout gets another number.
const TOKEN_VERSION: u8 = 1;
const KEY_ID_BYTES: usize = 4;
/// Version, key id and nonce, before the sealed claims.
const TOKEN_HEADER_BYTES: usize = 1 + KEY_ID_BYTES + NONCE_LEN;
const AEAD_TAG_BYTES: usize = 16;
/// Longest session token. Its claims come from an identity token of at most 20,000 characters.
const MAX_SESSION_TOKEN_CHARS: usize = 32 << 10;
/// Access key ids begin with this, so that people and secret scanners can tell them from those of AWS.
const ACCESS_KEY_ID_PREFIX: &str = "DWRD";
/// Prefix and 16 base32 characters: the length of an access key id of AWS.
const ACCESS_KEY_ID_CHARS: usize = 20;
/// The length of a secret access key of AWS.
const SECRET_ACCESS_KEY_CHARS: usize = 40;
/// Master keys of one gateway. A rotation needs two.
const MAX_MASTER_KEYS: usize = 16;

/// The session, the caller and the connection of a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayCredentialClaims {
    pub session: SessionId,
    pub caller: Caller,
    /// Name of the `[[aws.connection]]` it was issued for.
    pub connection: String,
    /// When the identity provider issued the token that proved who the caller is. A revocation of the caller is compared with it:
    /// the session itself can be opened anew with an old token. Kept in whole seconds, as `expires_at` is.
    pub proved_at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
}

/// The claims as they are sealed. The names are short because every request carries them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealedClaims<C> {
    s: SessionId,
    c: C,
    n: String,
    i: i64,
    e: i64,
}

/// A new credential, in the shape of an STS response.
#[derive(Debug, Clone)]
pub struct GatewayCredential {
    pub access_key_id: String,
    pub secret_access_key: Secret,
    pub session_token: Secret,
    pub expires_at: OffsetDateTime,
}

/// A presented credential: its claims, and the secret that its requests must be signed with.
#[derive(Debug, Clone)]
pub struct OpenedCredential {
    pub claims: Arc<GatewayCredentialClaims>,
    pub secret_access_key: Secret,
}

/// Why a credential is not accepted or cannot be issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GatewayCredentialError {
    #[error("the session token or access key id does not have the form of a gateway credential")]
    Malformed,
    /// It was not issued by this gateway for this access key id, or it was changed.
    #[error("the credential was not issued by this gateway")]
    Foreign,
    #[error("the credential has expired")]
    Expired,
    #[error("a credential could not be sealed")]
    SealFailed,
    /// The claims do not fit into a session token that would be opened again.
    #[error("the caller's claims do not fit into a session token of {MAX_SESSION_TOKEN_CHARS} characters")]
    ClaimsTooLarge,
}

impl GatewayCredentialError {
    /// The refusal with the text that the caller may read; the rest is in the detail.
    pub fn refusal(self) -> Refusal {
        match self {
            Self::Malformed | Self::Foreign => Refusal::new(
                RefusalReason::InvalidToken,
                "the credential was not issued by this gateway: sign in again (AssumeRoleWithWebIdentity)",
            )
            .with_detail(self),
            Self::Expired => Refusal::new(
                RefusalReason::ExpiredToken,
                "the gateway credential has expired: sign in again (AssumeRoleWithWebIdentity)",
            ),
            Self::SealFailed => {
                Refusal::new(RefusalReason::Internal, "the gateway could not issue a credential")
                    .with_detail(self)
            }
            Self::ClaimsTooLarge => Refusal::new(
                RefusalReason::TooLarge,
                "the identity token has too many or too long groups for a gateway credential",
            )
            .with_detail(self),
        }
    }
}

/// The keys that seal and open credentials. The first one issues; all of them open.
pub struct SealKeys {
    keys: Vec<SealKey>,
    opened_credentials: OpenedCredentialCache,
}

struct SealKey {
    id: [u8; KEY_ID_BYTES],
    sealing_key: LessSafeKey,
    secret_derivation_key: hmac::Key,
}

impl SealKeys {
    /// Keys from master keys of 32 random bytes, the issuing one first. `None` for no master key, for too many, and for duplicates.
    pub fn from_master_keys(masters: &[Zeroizing<[u8; 32]>]) -> Option<Self> {
        if masters.is_empty() || masters.len() > MAX_MASTER_KEYS {
            return None;
        }
        let keys: Vec<SealKey> =
            masters.iter().map(|master| SealKey::from_master_key(master)).collect::<Option<_>>()?;
        // Two keys with one id would make `open` try only the first of them.
        let distinct = keys
            .iter()
            .enumerate()
            .all(|(index, key)| keys.iter().skip(index + 1).all(|other| other.id != key.id));
        distinct.then(|| Self { keys, opened_credentials: OpenedCredentialCache::default() })
    }

    /// Issues a credential for `claims`, whose times are cut to whole seconds.
    pub fn issue(
        &self,
        claims: &GatewayCredentialClaims,
    ) -> Result<GatewayCredential, GatewayCredentialError> {
        let key = self.keys.first().ok_or(GatewayCredentialError::SealFailed)?;
        let access_key_id = generate_access_key_id()?;
        // If two random nonces were ever equal, GCM-SIV would reveal only whether the claims are equal too (RFC 8452 section 1);
        // plain GCM would lose the key that authenticates all tokens.
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| GatewayCredentialError::SealFailed)?;
        let session_token = key.seal_claims(claims, &access_key_id, nonce)?;
        Ok(GatewayCredential {
            secret_access_key: key.derive_secret_access_key(&access_key_id, nonce),
            session_token,
            expires_at: claims
                .expires_at
                .replace_nanosecond(0)
                .map_err(|_| GatewayCredentialError::SealFailed)?,
            access_key_id,
        })
    }

    /// Opens a credential, if this gateway issued exactly this pair and it has not expired.
    pub fn open(
        &self,
        access_key_id: &str,
        session_token: &str,
        now: OffsetDateTime,
    ) -> Result<OpenedCredential, GatewayCredentialError> {
        // Before any work: anyone can send a token, and the length bounds what decoding it costs.
        if !is_gateway_access_key_id(access_key_id) || session_token.len() > MAX_SESSION_TOKEN_CHARS {
            return Err(GatewayCredentialError::Malformed);
        }
        let digest = credential_digest(access_key_id, session_token);
        let cached = self.opened_credentials.get(&digest);
        let is_new = cached.is_none();
        let opened = cached.map_or_else(|| self.open_uncached(access_key_id, session_token), Ok)?;
        // At every use: the cache keeps entries past their expiry.
        if now >= opened.claims.expires_at {
            self.opened_credentials.remove(&digest);
            return Err(GatewayCredentialError::Expired);
        }
        if is_new {
            // Only after everything has been checked: nobody can fill the cache with credentials that are forged or expired.
            self.opened_credentials.insert(digest, &opened);
        }
        Ok(opened)
    }

    fn open_uncached(
        &self,
        access_key_id: &str,
        session_token: &str,
    ) -> Result<OpenedCredential, GatewayCredentialError> {
        let mut token =
            URL_SAFE_NO_PAD.decode(session_token).map_err(|_| GatewayCredentialError::Malformed)?;
        let (head, sealed) =
            token.split_at_mut_checked(TOKEN_HEADER_BYTES).ok_or(GatewayCredentialError::Malformed)?;
        let (&mut version, rest) = head.split_first_mut().ok_or(GatewayCredentialError::Malformed)?;
        let (id, nonce) = rest.split_at_checked(KEY_ID_BYTES).ok_or(GatewayCredentialError::Malformed)?;
        if version != TOKEN_VERSION || sealed.len() < AEAD_TAG_BYTES {
            return Err(GatewayCredentialError::Malformed);
        }
        let nonce: [u8; NONCE_LEN] = nonce.try_into().map_err(|_| GatewayCredentialError::Malformed)?;
        // The key id only selects the key. It is part of the associated data, so a changed id does not open.
        let key = self.keys.iter().find(|key| key.id == id).ok_or(GatewayCredentialError::Foreign)?;
        let claims = key.open_claims(access_key_id, nonce, sealed)?;
        Ok(OpenedCredential {
            claims: Arc::new(claims),
            secret_access_key: key.derive_secret_access_key(access_key_id, nonce),
        })
    }
}

impl std::fmt::Debug for SealKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealKeys({} keys)", self.keys.len())
    }
}

impl SealKey {
    /// HKDF (RFC 5869) gives each use a key of its own, so that the output of one use reveals nothing about another.
    fn from_master_key(master: &[u8; 32]) -> Option<Self> {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"durward gateway credential").extract(master);
        let expand = |purpose: &[u8]| {
            let mut key = Zeroizing::new([0; 32]);
            root.expand(&[purpose], hkdf::HKDF_SHA256).ok()?.fill(key.as_mut_slice()).ok()?;
            Some(key)
        };
        // Derived and not random, so that the id needs no place of its own in the key file. It reveals nothing of the key (RFC
        // 5869 section 3.2).
        let id = expand(b"key id")?;
        Some(Self {
            id: id.first_chunk().copied()?,
            sealing_key: LessSafeKey::new(
                UnboundKey::new(&AES_256_GCM_SIV, expand(b"seal")?.as_slice()).ok()?,
            ),
            secret_derivation_key: hmac::Key::new(
                hmac::HMAC_SHA256,
                expand(b"secret access key")?.as_slice(),
            ),
        })
    }

    fn seal_claims(
        &self,
        claims: &GatewayCredentialClaims,
        access_key_id: &str,
        nonce: [u8; NONCE_LEN],
    ) -> Result<Secret, GatewayCredentialError> {
        let claims = SealedClaims {
            s: claims.session,
            c: &claims.caller,
            n: claims.connection.clone(),
            i: claims.proved_at.unix_timestamp(),
            e: claims.expires_at.unix_timestamp(),
        };
        let mut sealed = serde_json::to_vec(&claims).map_err(|_| GatewayCredentialError::SealFailed)?;
        self.sealing_key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(self.associated_data(access_key_id).as_slice()),
                &mut sealed,
            )
            .map_err(|_| GatewayCredentialError::SealFailed)?;
        let token = [[TOKEN_VERSION].as_slice(), &self.id, &nonce, &sealed].concat();
        let token = URL_SAFE_NO_PAD.encode(token);
        // A credential that could not be opened again must not be issued.
        if token.len() > MAX_SESSION_TOKEN_CHARS {
            Err(GatewayCredentialError::ClaimsTooLarge)
        } else {
            Ok(Secret::new(token))
        }
    }

    fn open_claims(
        &self,
        access_key_id: &str,
        nonce: [u8; NONCE_LEN],
        sealed: &mut [u8],
    ) -> Result<GatewayCredentialClaims, GatewayCredentialError> {
        let associated = self.associated_data(access_key_id);
        let claims = self
            .sealing_key
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(associated.as_slice()), sealed)
            .map_err(|_| GatewayCredentialError::Foreign)?;
        // The gateway sealed it, so this fails only for a token of another version of the gateway.
        let claims: SealedClaims<Caller> =
            serde_json::from_slice(claims).map_err(|_| GatewayCredentialError::Malformed)?;
        let parse_time = |seconds| {
            OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| GatewayCredentialError::Malformed)
        };
        Ok(GatewayCredentialClaims {
            session: claims.s,
            caller: claims.c,
            connection: claims.n,
            proved_at: parse_time(claims.i)?,
            expires_at: parse_time(claims.e)?,
        })
    }

    /// Binds a token to its access key id and layout. All parts have fixed lengths, so that no two inputs give the same bytes.
    fn associated_data(&self, access_key_id: &str) -> Vec<u8> {
        [[TOKEN_VERSION].as_slice(), &self.id, access_key_id.as_bytes()].concat()
    }

    /// 240 bits that only a holder of the master key can compute.
    fn derive_secret_access_key(&self, access_key_id: &str, nonce: [u8; NONCE_LEN]) -> Secret {
        let mut mac = hmac::Context::with_key(&self.secret_derivation_key);
        mac.update(&nonce);
        mac.update(access_key_id.as_bytes());
        let mut secret = STANDARD.encode(mac.sign());
        secret.truncate(SECRET_ACCESS_KEY_CHARS);
        Secret::new(secret)
    }
}

fn generate_access_key_id() -> Result<String, GatewayCredentialError> {
    const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut random = [0; ACCESS_KEY_ID_CHARS - ACCESS_KEY_ID_PREFIX.len()];
    rand::fill(&mut random).map_err(|_| GatewayCredentialError::SealFailed)?;
    // 256 is a multiple of 32, so that all letters are equally likely.
    let letters =
        random.iter().filter_map(|byte| BASE32.get(usize::from(byte & 31)).copied().map(char::from));
    Ok(ACCESS_KEY_ID_PREFIX.chars().chain(letters).collect())
}

fn is_gateway_access_key_id(access_key_id: &str) -> bool {
    access_key_id.len() == ACCESS_KEY_ID_CHARS
        && access_key_id
            .strip_prefix(ACCESS_KEY_ID_PREFIX)
            .is_some_and(|letters| letters.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7')))
}

/// The cache key of a presented pair. The id has a fixed length, so that no two pairs give the same bytes.
fn credential_digest(access_key_id: &str, session_token: &str) -> [u8; 32] {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(access_key_id.as_bytes());
    hash.update(session_token.as_bytes());
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.finish().as_ref());
    digest
}

//! Gateway credentials: what the gateway hands out at sign-in in the form of AWS keys, useless at AWS.
//!
//! The session token is the claims, sealed with AES-256-GCM-SIV; the secret is derived from the access key id and the
//! token's nonce. So any replica with the seal keys opens a credential without looking anything up, and nothing that a
//! caller can change opens at all. Revocation is not here: it goes by the session id, at every use.

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

/// First byte of a token; another layout gets another number.
const TOKEN_VERSION: u8 = 1;
const KEY_ID_BYTES: usize = 4;
/// Version, key id and nonce, before the sealed claims.
const TOKEN_HEADER_BYTES: usize = 1 + KEY_ID_BYTES + NONCE_LEN;
const AEAD_TAG_BYTES: usize = 16;
/// Longest session token that is looked at: claims come from an identity token of at most 20,000 characters.
const MAX_SESSION_TOKEN_CHARS: usize = 32 << 10;
/// Access key ids begin with this, so that people and secret scanners can tell them from AWS's.
const ACCESS_KEY_ID_PREFIX: &str = "DWRD";
/// Prefix and 16 base32 characters: the length of AWS's.
const ACCESS_KEY_ID_CHARS: usize = 20;
/// The length of AWS's secrets.
const SECRET_ACCESS_KEY_CHARS: usize = 40;
/// Master keys of one gateway; a rotation needs two.
const MAX_MASTER_KEYS: usize = 16;

/// What a credential stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayCredentialClaims {
    pub session: SessionId,
    pub caller: Caller,
    /// Name of the `[[aws.connection]]` it was issued for.
    pub connection: String,
    /// Kept to the second, as `expires`.
    pub issued_at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
}

/// The claims as they are sealed. Names are short because every request carries them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealedClaims<C> {
    s: SessionId,
    c: C,
    n: String,
    i: i64,
    e: i64,
}

/// A new credential, in the shape of an STS answer.
#[derive(Debug, Clone)]
pub struct GatewayCredential {
    pub access_key_id: String,
    pub secret_access_key: Secret,
    pub session_token: Secret,
    pub expires_at: OffsetDateTime,
}

/// A credential that was presented: what it stands for, and the secret its requests are signed with.
#[derive(Debug, Clone)]
pub struct OpenedCredential {
    pub claims: Arc<GatewayCredentialClaims>,
    pub secret_access_key: Secret,
}

/// Why a credential is not accepted or not issued.
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
}

impl GatewayCredentialError {
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
        }
    }
}

/// The keys that seal and open credentials: the first one issues, every one opens.
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
    /// Keys from masters of 32 random bytes, the issuing one first. `None` without a master, with too many, or with one
    /// twice.
    pub fn from_master_keys(masters: &[Zeroizing<[u8; 32]>]) -> Option<Self> {
        if masters.is_empty() || masters.len() > MAX_MASTER_KEYS {
            return None;
        }
        let keys: Vec<SealKey> =
            masters.iter().map(|master| SealKey::from_master_key(master)).collect::<Option<_>>()?;
        let distinct = keys
            .iter()
            .enumerate()
            .all(|(index, key)| keys.iter().skip(index + 1).all(|other| other.id != key.id));
        distinct.then(|| Self { keys, opened_credentials: OpenedCredentialCache::default() })
    }

    /// A credential for `claims`. Times are cut to whole seconds.
    pub fn issue(
        &self,
        claims: &GatewayCredentialClaims,
    ) -> Result<GatewayCredential, GatewayCredentialError> {
        let key = self.keys.first().ok_or(GatewayCredentialError::SealFailed)?;
        let access_key_id = generate_access_key_id()?;
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

    /// What the credential stands for, if this gateway issued exactly this pair and it has not expired.
    pub fn open(
        &self,
        access_key_id: &str,
        session_token: &str,
        now: OffsetDateTime,
    ) -> Result<OpenedCredential, GatewayCredentialError> {
        if !is_gateway_access_key_id(access_key_id) || session_token.len() > MAX_SESSION_TOKEN_CHARS {
            return Err(GatewayCredentialError::Malformed);
        }
        let digest = credential_digest(access_key_id, session_token);
        let cached = self.opened_credentials.get(&digest);
        let fresh = cached.is_none();
        let opened = cached.map_or_else(|| self.open_uncached(access_key_id, session_token), Ok)?;
        if now >= opened.claims.expires_at {
            self.opened_credentials.remove(&digest);
            return Err(GatewayCredentialError::Expired);
        }
        if fresh {
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
    /// HKDF (RFC 5869) gives each use its own key, so that no two uses can be played against each other.
    fn from_master_key(master: &[u8; 32]) -> Option<Self> {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"durward gateway credential").extract(master);
        let expand = |purpose: &[u8]| {
            let mut key = Zeroizing::new([0; 32]);
            root.expand(&[purpose], hkdf::HKDF_SHA256).ok()?.fill(key.as_mut_slice()).ok()?;
            Some(key)
        };
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
            i: claims.issued_at.unix_timestamp(),
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
        // What could not be opened again must not be issued.
        if token.len() > MAX_SESSION_TOKEN_CHARS {
            Err(GatewayCredentialError::SealFailed)
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
        // We sealed it, so this fails only for what another version of the gateway wrote.
        let claims: SealedClaims<Caller> =
            serde_json::from_slice(claims).map_err(|_| GatewayCredentialError::Malformed)?;
        let time = |seconds| {
            OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| GatewayCredentialError::Malformed)
        };
        Ok(GatewayCredentialClaims {
            session: claims.s,
            caller: claims.c,
            connection: claims.n,
            issued_at: time(claims.i)?,
            expires_at: time(claims.e)?,
        })
    }

    /// Binds a token to its access key id and layout. All parts have fixed lengths.
    fn associated_data(&self, access_key_id: &str) -> Vec<u8> {
        [[TOKEN_VERSION].as_slice(), &self.id, access_key_id.as_bytes()].concat()
    }

    /// 240 bits that only holders of the master can compute.
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

/// What the cache knows a presented pair by. The id's length is fixed, so the two cannot be shifted against each other.
fn credential_digest(access_key_id: &str, session_token: &str) -> [u8; 32] {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(access_key_id.as_bytes());
    hash.update(session_token.as_bytes());
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.finish().as_ref());
    digest
}

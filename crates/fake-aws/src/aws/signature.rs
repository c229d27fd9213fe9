//! The signer of a request.

use super::response::FakeAwsError;
use super::state::FakeAwsState;
use bytes::Bytes;
use durward_aws::sigv4::inbound::{self, PayloadMode, SignedRequestHead};
use durward_aws::sigv4::{SigningKey, sha256_hex};
use time::OffsetDateTime;

/// The access key whose signature is right, and the service that it signed for.
pub struct VerifiedSigner {
    pub access_key_id: String,
    pub service: String,
}

/// Verifies the signature, the session token, the time and the hash of the body.
pub fn verify_signature(
    state: &FakeAwsState,
    head: &SignedRequestHead<'_>,
    body: &Bytes,
) -> Result<VerifiedSigner, FakeAwsError> {
    let claimed = inbound::parse_claimed_signature(head)
        .map_err(|refusal| FakeAwsError::denied("IncompleteSignature", refusal.message))?;
    let now = OffsetDateTime::now_utc();
    claimed
        .check_signing_time(now)
        .map_err(|refusal| FakeAwsError::denied("RequestTimeTooSkewed", refusal.message))?;
    let secret = state.secret_of(&claimed.access_key_id, &claimed.session_token, now).ok_or_else(|| {
        FakeAwsError::denied("InvalidClientTokenId", "The security token included in the request is invalid")
    })?;
    let hash = match &claimed.payload_mode {
        PayloadMode::BodyHash => sha256_hex(body),
        payload => payload.canonical_text().unwrap_or_default().to_owned(),
    };
    if matches!(&claimed.payload_mode, PayloadMode::Sha256(declared) if *declared != sha256_hex(body)) {
        return Err(FakeAwsError::denied(
            "XAmzContentSHA256Mismatch",
            "the body does not have the hash that was signed",
        ));
    }
    let key = SigningKey::derive(secret, &claimed.scope_date, &claimed.region, &claimed.service);
    claimed
        .verify_signature(head, &hash, &key)
        .map_err(|refusal| FakeAwsError::denied("SignatureDoesNotMatch", refusal.message))?;
    Ok(VerifiedSigner { access_key_id: claimed.access_key_id, service: claimed.service })
}

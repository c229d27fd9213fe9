//! A token whose signature, issuer, audience and times have been checked.
//!
//! Its claims and header travel in the type. No reader decodes the text of a token a second time, where it could decode one
//! that has not been verified.

use super::claim_values::{JsonObject, string_or_list};
use aws_lc_rs::constant_time;
use durward_core::Caller;
use serde_json::Value;
use time::OffsetDateTime;

/// A verified token. Only [`TokenVerifier::verify`](super::TokenVerifier::verify) makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedToken {
    pub caller: Caller,
    /// `exp` of the token, without the clock leeway: it can be up to a minute in the past.
    pub expires_at: OffsetDateTime,
    /// `iat` of the token, if it has one.
    pub issued_at: Option<OffsetDateTime>,
    /// `jti`, or `sha256:` and the hash of the token. For records, not for access.
    pub token_id: String,
    pub(super) contents: TokenContents,
}

/// Header and payload. `Debug` leaves them out: they hold personal data.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct TokenContents {
    pub header: JsonObject,
    pub claims: JsonObject,
}

impl std::fmt::Debug for TokenContents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenContents(..)")
    }
}

impl VerifiedToken {
    /// A claim that is a string.
    pub fn text_claim(&self, name: &str) -> Option<&str> {
        self.contents.claims.get(name)?.as_str()
    }

    /// Returns true if `audience` is one of its audiences (`aud`).
    pub fn is_for_audience(&self, audience: &str) -> bool {
        string_or_list(self.contents.claims.get("aud")).is_some_and(|audiences| audiences.contains(&audience))
    }

    /// Returns true if each of its audiences (`aud`) is one of `trusted`: nobody else holds it as a token for themselves.
    pub fn is_only_for_audiences(&self, trusted: &[impl AsRef<str>]) -> bool {
        string_or_list(self.contents.claims.get("aud")).is_some_and(|audiences| {
            audiences.iter().all(|audience| trusted.iter().any(|one| one.as_ref() == *audience))
        })
    }

    /// Returns true if the client `client` obtained this token for a person: an ID token, not an access token.
    ///
    /// An audience alone does not show that: providers also issue access tokens for the same audience to workloads. Those
    /// name another client (`azp`, `client_id`, or `appid` of Microsoft Entra ID) or the type `at+jwt` (RFC 9068 section 2.1).
    pub fn is_issued_to_client(&self, client: &str) -> bool {
        let typ = self.contents.header.get("typ").and_then(Value::as_str).unwrap_or_default();
        let is_access_token = typ.to_ascii_lowercase().ends_with("at+jwt");
        let mut parties =
            ["azp", "client_id", "appid"].iter().filter_map(|name| self.contents.claims.get(*name));
        !is_access_token && parties.all(|party| party == client)
    }

    /// Returns true if its `nonce` is that of a sign-in (OpenID Connect Core section 3.1.3.7): it was not issued for another one.
    pub fn has_nonce(&self, nonce: &str) -> bool {
        self.text_claim("nonce").is_some_and(|claimed| {
            constant_time::verify_slices_are_equal(claimed.as_bytes(), nonce.as_bytes()).is_ok()
        })
    }

    /// A token that nobody verified and that has no claims, for tests of other crates.
    #[cfg(feature = "testing")]
    pub fn for_tests(caller: Caller, token_id: &str) -> Self {
        let contents = TokenContents { header: JsonObject::new(), claims: JsonObject::new() };
        Self {
            caller,
            expires_at: OffsetDateTime::UNIX_EPOCH,
            issued_at: None,
            token_id: token_id.to_owned(),
            contents,
        }
    }
}

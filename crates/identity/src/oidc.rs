//! Verification of OIDC tokens: ID tokens, access tokens in JWT form (RFC 9068) and workload tokens.
//!
//! A token names its issuer; exactly one configured provider has that issuer, and only that provider's keys, audiences
//! and claim names are used on it. The algorithm comes from our allow-list and from the key, never from the token alone,
//! and no key or address inside a token is ever used.

mod claim_values;
mod claims;
mod jws;
mod key_source;
#[cfg(test)]
mod tests;
mod verification_keys;
mod verified_token;

use crate::discovery::{check_provider_url, quote_for_log};
use durward_core::{CallerKind, HttpClient, Refusal, RefusalReason, limits};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{collections::BTreeSet, sync::Arc};
use time::OffsetDateTime;

pub use key_source::KeySetError;
use key_source::KeySource;
pub use verification_keys::{JwkSetError, SignatureAlgorithm};
pub use verified_token::VerifiedToken;

/// One `[[identity.oidc]]` of the configuration.
#[derive(Debug, Clone)]
pub struct ProviderConfig {
    pub name: String,
    /// `iss` of its tokens, byte for byte, and the base of the discovery URL. `http` only on loopback.
    pub issuer: String,
    /// A token must be for at least one of these.
    pub audience: Vec<String>,
    /// The claim that holds the caller's groups, as a string or a list of strings. It is a name, not a path.
    pub groups_claim: String,
    pub kind: CallerKind,
    /// Signature algorithms that are accepted.
    pub algorithms: Vec<SignatureAlgorithm>,
    /// Clients (`azp`, or `client_id` of RFC 9068) whose tokens are accepted. Empty: every client. Even then an ID token,
    /// whose `azp` is one of its audiences, is accepted only if that client is in `audience`.
    pub authorized_parties: Vec<String>,
}

impl ProviderConfig {
    /// A provider of workloads with the defaults: groups in `groups`, every algorithm, every client.
    pub fn new(name: impl Into<String>, issuer: impl Into<String>, audience: Vec<String>) -> Self {
        Self {
            name: name.into(),
            issuer: issuer.into(),
            audience,
            groups_claim: "groups".to_owned(),
            kind: CallerKind::Workload,
            algorithms: SignatureAlgorithm::ALL.to_vec(),
            authorized_parties: Vec::new(),
        }
    }
}

/// Why the configured providers cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("identity.oidc \"{provider}\": {key}: {reason}")]
pub struct ProviderConfigError {
    /// The index of the provider in the configuration, from 0.
    pub index: usize,
    pub provider: String,
    /// The setting that is wrong.
    pub key: &'static str,
    pub reason: String,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the identity token expired at {at}")]
    Expired { at: OffsetDateTime },
    /// It is not a token, or not one that may be trusted. The reason holds nothing of the token.
    #[error("the identity token is not valid: {0}")]
    Invalid(&'static str),
    /// No configured provider has this issuer, which is quoted and cut for the log.
    #[error("no identity provider is configured for the issuer {0}")]
    UnknownIssuer(String),
    /// It was issued for another service. Holds the provider's name, for the log.
    #[error("the identity token of \"{0}\" is for another audience")]
    ForeignAudience(String),
    /// The provider's keys are not available, so the token can be neither accepted nor rejected.
    #[error("the keys of identity provider \"{provider}\" are not available: {reason}")]
    KeysUnavailable { provider: String, reason: KeySetError },
}

impl TokenError {
    /// The refusal with the text that the caller may read; the rest is in the detail.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Expired { .. } => Refusal::new(
                RefusalReason::ExpiredToken,
                "the identity token has expired: get a new one from your identity provider",
            )
            .with_detail(self),
            Self::Invalid(_) => Refusal::new(RefusalReason::InvalidToken, self.to_string()),
            Self::UnknownIssuer(_) => Refusal::new(
                RefusalReason::InvalidToken,
                "the issuer of the identity token is not one this gateway accepts (iss)",
            )
            .with_detail(self),
            Self::ForeignAudience(_) => Refusal::new(
                RefusalReason::InvalidToken,
                "the identity token is not meant for this gateway: request one with its audience (aud)",
            )
            .with_detail(self),
            Self::KeysUnavailable { .. } => Refusal::new(
                RefusalReason::Upstream,
                "the identity provider's signing keys cannot be fetched now: try again in a few seconds",
            )
            .with_detail(self),
        }
    }
}

/// Verifies tokens of all configured providers.
pub struct TokenVerifier {
    providers: Vec<ConfiguredProvider>,
}

struct ConfiguredProvider {
    config: ProviderConfig,
    key_source: Arc<KeySource>,
    /// True if the log already has the warning that its tokens have no groups in `groups_claim`.
    has_warned_of_groups: AtomicBool,
}

impl TokenVerifier {
    /// Checks the configuration; nothing is fetched before the first token.
    pub fn new(
        configs: Vec<ProviderConfig>,
        http_client: Arc<dyn HttpClient>,
    ) -> Result<Self, ProviderConfigError> {
        if let Some(error) = Self::check_providers(&configs).into_iter().next() {
            return Err(error);
        }
        let provider = |config: ProviderConfig| ConfiguredProvider {
            key_source: Arc::new(KeySource::new(&config.issuer, http_client.clone())),
            config,
            has_warned_of_groups: AtomicBool::new(false),
        };
        Ok(Self { providers: configs.into_iter().map(provider).collect() })
    }

    /// Everything for which [`Self::new`] would reject these providers.
    pub fn check_providers(configs: &[ProviderConfig]) -> Vec<ProviderConfigError> {
        let mut errors = Vec::new();
        let mut names = BTreeSet::new();
        let mut issuers = BTreeSet::new();
        for (index, config) in configs.iter().enumerate() {
            let mut report = |key, reason: String| {
                errors.push(ProviderConfigError { index, provider: config.name.clone(), key, reason });
            };
            check_provider_config(config, &mut report);
            if !names.insert(&config.name) {
                report("name", format!("`{}` is another provider too: names must differ", config.name));
            }
            // The issuer alone selects the provider of a token: the second of two with one issuer would never be used.
            if !issuers.insert(&config.issuer) {
                let issuer = &config.issuer;
                let reason =
                    format!("`{issuer}` is another provider's too: list all its audiences in one provider");
                report("issuer", reason);
            }
        }
        errors
    }

    /// Verifies a token and identifies its caller. `now` also ages the cached keys.
    pub async fn verify(&self, token: &str, now: OffsetDateTime) -> Result<VerifiedToken, TokenError> {
        // A token file ends with a line feed, which the AWS SDKs send as part of `WebIdentityToken`.
        let token = token.trim();
        if token.is_empty() {
            return Err(TokenError::Invalid("it is empty"));
        }
        if token.len() > limits::MAX_WEB_IDENTITY_TOKEN_CHARS {
            return Err(TokenError::Invalid("it is longer than STS permits for a WebIdentityToken"));
        }
        let jws = jws::parse_jws(token)?;
        // The issuer only selects whose keys, audiences and claim names apply: a forged one selects keys that do not verify.
        let issuer = claims::unverified_issuer(&jws.claims)?;
        let provider = self
            .providers
            .iter()
            // Byte for byte (OpenID Connect Core section 3.1.3.7): a prefix or another letter case is another issuer.
            .find(|provider| provider.config.issuer == issuer)
            .ok_or_else(|| TokenError::UnknownIssuer(quote_for_log(issuer)))?;
        // RFC 8725 section 3.1: the verifier decides which algorithms are permitted, not the token.
        if !provider.config.algorithms.contains(&jws.algorithm) {
            return Err(TokenError::Invalid(
                "its signature algorithm (alg) is not accepted for this provider",
            ));
        }
        let key = provider.find_key(&jws, now).await?;
        if !key.verify_signature(jws.algorithm, jws.signing_input.as_bytes(), &jws.signature) {
            return Err(TokenError::Invalid("its signature does not verify"));
        }
        // After the signature: an unsigned token must not write log lines.
        if let Some(found) = provider.first_groups_problem(&jws.claims) {
            tracing::warn!(
                provider = provider.config.name,
                issuer = provider.config.issuer,
                groups_claim = provider.config.groups_claim,
                found,
                "a token has no groups in the configured groups_claim (a dot in the name is not a path); logged once per provider"
            );
        }
        claims::validate_claims(&provider.config, jws.header, jws.claims, token, now)
    }
}

impl ConfiguredProvider {
    /// The first time, describes the claim of a verified token that should hold groups and does not.
    fn first_groups_problem(&self, claims: &claim_values::JsonObject) -> Option<&'static str> {
        let found = claims::describe_missing_groups(&self.config, claims)?;
        (!self.has_warned_of_groups.swap(true, Ordering::Relaxed)).then_some(found)
    }

    async fn find_key(
        &self,
        jws: &jws::UnverifiedJws<'_>,
        now: OffsetDateTime,
    ) -> Result<Arc<verification_keys::VerificationKey>, TokenError> {
        let wanted = verification_keys::KeyQuery { kid: jws.kid.as_deref(), algorithm: jws.algorithm };
        self.key_source.find_key(&wanted, now).await.map_err(|missing| match missing {
            key_source::KeyLookupError::UnknownKey => {
                TokenError::Invalid("the key that signed it (kid) is not one of its provider's keys")
            }
            key_source::KeyLookupError::Ambiguous => {
                TokenError::Invalid("it does not say which of its provider's keys signed it (kid)")
            }
            key_source::KeyLookupError::UnsuitableAlgorithm => {
                TokenError::Invalid("its signature algorithm (alg) is not the one of the key it names (kid)")
            }
            key_source::KeyLookupError::Unavailable(reason) => {
                TokenError::KeysUnavailable { provider: self.config.name.clone(), reason }
            }
        })
    }
}

impl std::fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.providers.iter().map(|provider| &provider.config.name)).finish()
    }
}

fn check_provider_config(config: &ProviderConfig, report: &mut impl FnMut(&'static str, String)) {
    // A name with a slash could give two callers one id: `a/b` with subject `c`, and `a` with subject `b/c`. `=` is the same for
    // source identities (`credential/src/attribution.rs`).
    if config.name.is_empty() || config.name.contains(['/', '=']) || config.name.contains(char::is_control) {
        report(
            "name",
            "must not be empty nor hold \"/\" or \"=\" (caller ids are <name>/<subject>, source identities <name>=<subject>)"
                .to_owned(),
        );
    }
    let issuer = &config.issuer;
    if let Err(error) = check_provider_url(issuer, true) {
        report("issuer", format!("`{issuer}`: {error}"));
    } else if issuer.contains('?') {
        // OpenID Connect Discovery 1.0 section 3: an issuer has no query or fragment.
        report("issuer", format!("`{issuer}`: must not have a query"));
    }
    if config.audience.is_empty() || config.audience.iter().any(String::is_empty) {
        report("audience", "must name at least one audience (aud), and none may be empty".to_owned());
    }
    if config.groups_claim.is_empty() {
        report("groups_claim", "must name a claim".to_owned());
    }
    if config.algorithms.is_empty() {
        report("algorithms", "must name at least one algorithm".to_owned());
    }
    if config.authorized_parties.iter().any(String::is_empty) {
        report("authorized_parties", "must not hold an empty client id".to_owned());
    }
}

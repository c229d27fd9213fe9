//! The gateway's own AWS credential, with which it assumes other roles.
//!
//! Promises: it comes from the first configured source of the standard chain, it is renewed before it expires, and it is never
//! given to a caller.

mod provider_chain;

use crate::single_flight::SingleFlight;
use durward_core::timestamps::{Clock, system_clock};
use durward_core::{HttpClient, Secret, lock_ignoring_poison};
use provider_chain::CredentialProviderChain;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use time::OffsetDateTime;

/// A credential is renewed this long before it expires. One without an expiry is looked up again after this time, because the
/// file that it comes from may have changed.
const RENEWAL_MARGIN: Duration = Duration::from_mins(5);

/// The gateway's own credential. Its secrets are wiped when the last holder drops it.
#[derive(Debug, Clone)]
pub struct BaseCredential {
    pub access_key_id: String,
    pub secret_access_key: Secret,
    pub session_token: Option<Secret>,
    /// `None`: it is long-lived, or its source does not say.
    pub expires_at: Option<OffsetDateTime>,
    /// The source that it was found in, for operators: `environment`, `instance metadata`, ...
    pub source: &'static str,
}

impl BaseCredential {
    /// Returns true if the credential is an access key that never expires: temporary credentials always have a session token.
    fn is_long_lived(&self) -> bool {
        self.session_token.is_none()
    }
}

/// Why the gateway has no identity. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GatewayIdentityError {
    /// A configured source does not work. Later sources are not tried: they would be another identity.
    #[error("{source_name} is configured but returned no credential: {detail}")]
    SourceFailed { source_name: &'static str, detail: String },
    #[error("no credential found in {tried}; give the gateway a role or a web identity ({last})")]
    NotFound { tried: String, last: String },
    #[error("{source_name} returned a credential that has expired")]
    Expired { source_name: &'static str },
}

/// The outcome of the last lookup of the gateway's credential, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityStatus {
    /// The source of the credential, or why there is none.
    pub outcome: Result<&'static str, GatewayIdentityError>,
    /// Since when lookups have succeeded, or failed, without a change.
    pub since: OffsetDateTime,
    pub checked_at: OffsetDateTime,
    /// It is an access key that never expires. Give the gateway a role or a web identity instead.
    pub is_long_lived: bool,
}

enum CredentialSource {
    Static(Arc<BaseCredential>),
    ProviderChain(CredentialProviderChain),
}

struct CachedCredential {
    credential: Arc<BaseCredential>,
    renew_at: OffsetDateTime,
}

/// Finds the gateway's credential and keeps it.
pub struct GatewayIdentity {
    source: CredentialSource,
    clock: Clock,
    cached_credential: Mutex<Option<CachedCredential>>,
    single_flight: SingleFlight<(), Result<Arc<BaseCredential>, GatewayIdentityError>>,
    has_warned_of_long_lived_key: AtomicBool,
    status: Mutex<Option<IdentityStatus>>,
}

impl GatewayIdentity {
    /// The standard chain: environment, shared files, SSO, web identity, process, container, instance metadata.
    /// `metadata_client` sends to the container and instance endpoints, which are link-local; `service_client` to all others.
    pub fn from_provider_chain(
        service_client: Arc<dyn HttpClient>,
        metadata_client: Arc<dyn HttpClient>,
    ) -> Self {
        Self::with_source(CredentialSource::ProviderChain(CredentialProviderChain::new(
            service_client,
            metadata_client,
            provider_chain::ProcessEnvironment,
        )))
    }

    /// A given credential, for the demo, for an emulator and for tests. It counts as short-lived: AWS does not know it.
    pub fn from_static_credential(
        access_key_id: impl Into<String>,
        secret: Secret,
        session_token: Option<Secret>,
    ) -> Self {
        Self::with_source(CredentialSource::Static(Arc::new(BaseCredential {
            access_key_id: access_key_id.into(),
            secret_access_key: secret,
            session_token,
            expires_at: None,
            source: "a fixed credential",
        })))
    }

    fn with_source(source: CredentialSource) -> Self {
        Self {
            source,
            clock: system_clock(),
            cached_credential: Mutex::new(None),
            single_flight: SingleFlight::new(),
            has_warned_of_long_lived_key: AtomicBool::new(false),
            status: Mutex::new(None),
        }
    }

    #[cfg(test)]
    #[must_use]
    pub(crate) fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The gateway's credential. It is kept in memory until five minutes before it expires.
    pub async fn credential(&self) -> Result<Arc<BaseCredential>, GatewayIdentityError> {
        let chain = match &self.source {
            CredentialSource::Static(credential) => return Ok(credential.clone()),
            CredentialSource::ProviderChain(chain) => chain,
        };
        if let Some(credential) = self.cached_credential() {
            return Ok(credential);
        }
        self.single_flight
            .run((), || async {
                // Another flight may have ended between the check above and this one.
                if let Some(credential) = self.cached_credential() {
                    return Ok(credential);
                }
                let found = chain.find_credential().await.map(Arc::new);
                let found = found.and_then(|found| self.cache_credential(&found).map(|()| found));
                self.record_status(found.as_deref());
                found
            })
            .await
    }

    /// The outcome of the last lookup, without a new one. `None`: no credential was needed yet.
    pub fn status(&self) -> Option<IdentityStatus> {
        if let CredentialSource::Static(credential) = &self.source {
            let now = (self.clock)();
            return Some(IdentityStatus {
                outcome: Ok(credential.source),
                since: now,
                checked_at: now,
                is_long_lived: false,
            });
        }
        lock_ignoring_poison(&self.status).clone()
    }

    fn record_status(&self, found: Result<&BaseCredential, &GatewayIdentityError>) {
        let now = (self.clock)();
        let mut status = lock_ignoring_poison(&self.status);
        let unchanged = status.as_ref().filter(|last| last.outcome.is_ok() == found.is_ok());
        let since = unchanged.map_or(now, |last| last.since);
        *status = Some(IdentityStatus {
            outcome: found.map(|found| found.source).map_err(Clone::clone),
            since,
            checked_at: now,
            is_long_lived: found.is_ok_and(BaseCredential::is_long_lived),
        });
    }

    /// Forgets the credential, because AWS responded that it has expired. The next request looks it up again.
    pub(crate) fn forget_credential(&self) {
        *lock_ignoring_poison(&self.cached_credential) = None;
    }

    fn cached_credential(&self) -> Option<Arc<BaseCredential>> {
        let now = (self.clock)();
        let cached = lock_ignoring_poison(&self.cached_credential);
        cached.as_ref().filter(|cached| now < cached.renew_at).map(|cached| cached.credential.clone())
    }

    fn cache_credential(&self, found: &Arc<BaseCredential>) -> Result<(), GatewayIdentityError> {
        let now = (self.clock)();
        // A file that nobody renews gives the same expired credential again: each call to STS would fail with a less clear error.
        if found.expires_at.is_some_and(|expires| expires <= now) {
            return Err(GatewayIdentityError::Expired { source_name: found.source });
        }
        if found.is_long_lived() && !self.has_warned_of_long_lived_key.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                source = found.source,
                "the gateway uses a long-lived access key; give it a role or a web identity instead"
            );
        }
        let renew_at = found.expires_at.map_or(now + RENEWAL_MARGIN, |expires| expires - RENEWAL_MARGIN);
        *lock_ignoring_poison(&self.cached_credential) =
            Some(CachedCredential { credential: found.clone(), renew_at });
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! What the gateway itself is to AWS: the credential it assumes other roles with. Found by the standard chain, renewed
//! before it expires, never lent to anybody.

mod provider_chain;

use crate::single_flight::SingleFlight;
use crate::{Clock, HttpClient, system_clock};
use durward_core::Secret;
use provider_chain::CredentialProviderChain;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use time::OffsetDateTime;

/// A credential is renewed this long before it expires. One without an expiry is looked up again as often, since a file
/// may have changed.
const RENEWAL_MARGIN: Duration = Duration::from_mins(5);

/// The gateway's own credential. Its secrets are wiped when the last holder drops it.
#[derive(Debug, Clone)]
pub struct BaseCredential {
    pub access_key_id: String,
    pub secret_access_key: Secret,
    pub session_token: Option<Secret>,
    /// None: long-lived, or of unknown life.
    pub expires_at: Option<OffsetDateTime>,
    /// Where it was found, for operators: `environment`, `instance metadata`, ...
    pub source: &'static str,
}

/// Why the gateway has no identity. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GatewayIdentityError {
    /// A source that is configured does not work. Later sources are not tried: they would be somebody else.
    #[error("{source_name} is configured but gives no credential: {detail}")]
    SourceFailed { source_name: &'static str, detail: String },
    #[error("no credential found in {tried}; give the gateway a role or a web identity ({last})")]
    NotFound { tried: String, last: String },
    #[error("{source_name} gave a credential that has expired")]
    Expired { source_name: &'static str },
}

/// What came of looking for the gateway's identity the last time, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityStatus {
    /// Where a credential was found, or why none was.
    pub outcome: Result<&'static str, GatewayIdentityError>,
    /// Since when it has been found, or has not.
    pub since: OffsetDateTime,
    pub checked_at: OffsetDateTime,
    /// It is an access key without an end. Give the gateway a role or a web identity instead.
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

/// Finds and keeps the gateway's credential.
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
    /// `metadata` reaches the container and instance endpoints, which are link-local; `transport` all others.
    pub fn from_provider_chain(transport: Arc<dyn HttpClient>, metadata: Arc<dyn HttpClient>) -> Self {
        Self::with_source(CredentialSource::ProviderChain(CredentialProviderChain::new(
            transport,
            metadata,
            provider_chain::ProcessEnvironment,
        )))
    }

    /// A given credential, for the demo, for an emulator and for tests.
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

    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The gateway's credential, from memory until five minutes before it expires.
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

    /// What came of the last look, without looking. None: nobody has needed a credential yet.
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
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn record_status(&self, found: Result<&BaseCredential, &GatewayIdentityError>) {
        let now = (self.clock)();
        let mut looked = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let as_before = looked.as_ref().filter(|before| before.outcome.is_ok() == found.is_ok());
        let since = as_before.map_or(now, |before| before.since);
        *looked = Some(IdentityStatus {
            outcome: found.map(|found| found.source).map_err(Clone::clone),
            since,
            checked_at: now,
            is_long_lived: found.is_ok_and(|found| found.session_token.is_none()),
        });
    }

    /// Forgets the credential: AWS says it has expired.
    pub fn forget_credential(&self) {
        *self.cached_credential.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn cached_credential(&self) -> Option<Arc<BaseCredential>> {
        let now = (self.clock)();
        let held = self.cached_credential.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().filter(|held| now < held.renew_at).map(|held| held.credential.clone())
    }

    fn cache_credential(&self, found: &Arc<BaseCredential>) -> Result<(), GatewayIdentityError> {
        let now = (self.clock)();
        if found.expires_at.is_some_and(|expires| expires <= now) {
            return Err(GatewayIdentityError::Expired { source_name: found.source });
        }
        if found.session_token.is_none() && !self.has_warned_of_long_lived_key.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                source = found.source,
                "the gateway uses a long-lived access key; give it a role or a web identity instead"
            );
        }
        let renew_at = found.expires_at.map_or(now + RENEWAL_MARGIN, |expires| expires - RENEWAL_MARGIN);
        *self.cached_credential.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(CachedCredential { credential: found.clone(), renew_at });
        Ok(())
    }
}

#[cfg(test)]
mod tests;

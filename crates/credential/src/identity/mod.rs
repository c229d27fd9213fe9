//! What the gateway itself is to AWS: the credential it assumes other roles with. Found by the standard chain, renewed
//! before it expires, never lent to anybody.

mod chain;

use crate::flight::Flights;
use crate::{Clock, Transport, system_clock};
use chain::Chain;
use durward_core::Secret;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use time::OffsetDateTime;

/// A credential is renewed this long before it expires. One without an expiry is looked up again as often, since a file
/// may have changed.
const RENEWAL: Duration = Duration::from_mins(5);

/// The gateway's own credential. Its secrets are wiped when the last holder drops it.
#[derive(Debug, Clone)]
pub struct BaseCredential {
    pub access_key_id: String,
    pub secret: Secret,
    pub session_token: Option<Secret>,
    /// None: long-lived, or of unknown life.
    pub expires: Option<OffsetDateTime>,
    /// Where it was found, for operators: `environment`, `instance metadata`, ...
    pub source: &'static str,
}

/// Why the gateway has no identity. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// A source that is configured does not work. Later sources are not tried: they would be somebody else.
    #[error("{source_name} is configured but gives no credential: {detail}")]
    Source { source_name: &'static str, detail: String },
    #[error("no credential found in {tried}; give the gateway a role or a web identity ({last})")]
    NotFound { tried: String, last: String },
    #[error("{source_name} gave a credential that has expired")]
    Expired { source_name: &'static str },
}

enum Source {
    Static(Arc<BaseCredential>),
    Chain(Chain),
}

struct Held {
    credential: Arc<BaseCredential>,
    renew_at: OffsetDateTime,
}

/// Finds and keeps the gateway's credential.
pub struct BaseIdentity {
    source: Source,
    clock: Clock,
    held: Mutex<Option<Held>>,
    flights: Flights<(), Result<Arc<BaseCredential>, IdentityError>>,
    warned: AtomicBool,
}

impl BaseIdentity {
    /// The standard chain: environment, shared files, SSO, web identity, process, container, instance metadata.
    /// `metadata` reaches the container and instance endpoints, which are link-local; `transport` all others.
    pub fn chain(transport: Arc<dyn Transport>, metadata: Arc<dyn Transport>) -> Self {
        Self::of(Source::Chain(Chain::new(transport, metadata, chain::ProcessEnv)))
    }

    /// A given credential, for the demo, for an emulator and for tests.
    pub fn fixed(access_key_id: impl Into<String>, secret: Secret, session_token: Option<Secret>) -> Self {
        Self::of(Source::Static(Arc::new(BaseCredential {
            access_key_id: access_key_id.into(),
            secret,
            session_token,
            expires: None,
            source: "a fixed credential",
        })))
    }

    fn of(source: Source) -> Self {
        Self {
            source,
            clock: system_clock(),
            held: Mutex::new(None),
            flights: Flights::new(),
            warned: AtomicBool::new(false),
        }
    }

    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The gateway's credential, from memory until five minutes before it expires.
    pub async fn credential(&self) -> Result<Arc<BaseCredential>, IdentityError> {
        let chain = match &self.source {
            Source::Static(credential) => return Ok(credential.clone()),
            Source::Chain(chain) => chain,
        };
        if let Some(credential) = self.held() {
            return Ok(credential);
        }
        self.flights
            .run((), || async {
                if let Some(credential) = self.held() {
                    return Ok(credential);
                }
                let found = Arc::new(chain.find().await?);
                self.keep(&found)?;
                Ok(found)
            })
            .await
    }

    /// Forgets the credential: AWS says it has expired.
    pub fn forget(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn held(&self) -> Option<Arc<BaseCredential>> {
        let now = (self.clock)();
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().filter(|held| now < held.renew_at).map(|held| held.credential.clone())
    }

    fn keep(&self, found: &Arc<BaseCredential>) -> Result<(), IdentityError> {
        let now = (self.clock)();
        if found.expires.is_some_and(|expires| expires <= now) {
            return Err(IdentityError::Expired { source_name: found.source });
        }
        if found.session_token.is_none() && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                source = found.source,
                "the gateway uses a long-lived access key; give it a role or a web identity instead"
            );
        }
        let renew_at = found.expires.map_or(now + RENEWAL, |expires| expires - RENEWAL);
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Held { credential: found.clone(), renew_at });
        Ok(())
    }
}

#[cfg(test)]
mod tests;

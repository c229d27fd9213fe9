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

/// What came of looking for the gateway's identity the last time, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastLook {
    /// Where a credential was found, or why none was.
    pub outcome: Result<&'static str, IdentityError>,
    /// Since when it has been found, or has not.
    pub since: OffsetDateTime,
    pub at: OffsetDateTime,
    /// It is an access key without an end. Give the gateway a role or a web identity instead.
    pub long_lived: bool,
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
    looked: Mutex<Option<LastLook>>,
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
            looked: Mutex::new(None),
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
                let found = chain.find().await.map(Arc::new);
                let found = found.and_then(|found| self.keep(&found).map(|()| found));
                self.note(found.as_deref());
                found
            })
            .await
    }

    /// What came of the last look, without looking. None: nobody has needed a credential yet.
    pub fn last_look(&self) -> Option<LastLook> {
        if let Source::Static(credential) = &self.source {
            let now = (self.clock)();
            return Some(LastLook { outcome: Ok(credential.source), since: now, at: now, long_lived: false });
        }
        self.looked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, found: Result<&BaseCredential, &IdentityError>) {
        let now = (self.clock)();
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let as_before = looked.as_ref().filter(|before| before.outcome.is_ok() == found.is_ok());
        let since = as_before.map_or(now, |before| before.since);
        *looked = Some(LastLook {
            outcome: found.map(|found| found.source).map_err(Clone::clone),
            since,
            at: now,
            long_lived: found.is_ok_and(|found| found.session_token.is_none()),
        });
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

//! The signing keys of one provider: fetched by discovery and from its JWK set, then cached.
//!
//! Promises: however many tokens with unknown keys arrive, a provider gets at most one request in ten seconds, from one task at a
//! time. The last good set stays in use while the provider cannot be reached, for at most a day.

use super::verification_keys::{JwkSet, JwkSetError, KeyMatch, KeyQuery, VerificationKey};
use crate::discovery::{ProviderDocumentError, check_named_url, fetch_discovery, fetch_document};
use durward_core::limits::{CLOCK_LEEWAY, MAX_STALE_KEY_SET_AGE};
use durward_core::{HttpClient, lock_ignoring_poison};
use http::header;
use serde::Deserialize;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use time::OffsetDateTime;
use tokio::sync::OwnedMutexGuard;

/// Shortest time for which a set is used, whatever `Cache-Control` says. Otherwise `max-age=0` would cost a fetch per request.
const MIN_KEY_SET_TTL: Duration = Duration::from_mins(1);
/// Longest time for which a set is used without a refresh, whatever `Cache-Control` says: how long a withdrawn key is accepted.
const MAX_KEY_SET_TTL: Duration = Duration::from_hours(1);
/// For a response without `Cache-Control: max-age`.
const DEFAULT_KEY_SET_TTL: Duration = Duration::from_mins(10);
/// Pause between two fetches of the set. Anyone can send tokens with unknown key ids, and each would cause a fetch.
const MIN_REFRESH_INTERVAL: Duration = Duration::from_secs(10);
/// For the discovery document and the set together.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no key.
#[derive(Debug)]
pub(super) enum KeyLookupError {
    UnknownKey,
    Ambiguous,
    UnsuitableAlgorithm,
    Unavailable(KeySetError),
}

/// Why the keys of a provider are not available.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    #[error(transparent)]
    Document(#[from] ProviderDocumentError),
    #[error("{url}: {error}")]
    JwkSet { url: String, error: JwkSetError },
    #[error("no response within {} s", REFRESH_TIMEOUT.as_secs())]
    TimedOut,
    #[error("the last key set is too old")]
    TooOld,
}

pub(super) struct KeySource {
    issuer: String,
    http_client: Arc<dyn HttpClient>,
    cached_set: Mutex<Option<Arc<CachedKeySet>>>,
    /// Locked by the one task that sends requests to the provider.
    refresh_attempts: Arc<tokio::sync::Mutex<RefreshAttempts>>,
}

struct CachedKeySet {
    key_set: JwkSet,
    fetched_at: OffsetDateTime,
    ttl: Duration,
}

#[derive(Default)]
struct RefreshAttempts {
    last_attempt: Option<OffsetDateTime>,
    last_failure: Option<KeySetError>,
}

impl CachedKeySet {
    fn is_fresh(&self, now: OffsetDateTime) -> bool {
        is_within(self.fetched_at, now, self.ttl)
    }

    fn is_usable(&self, now: OffsetDateTime) -> bool {
        is_within(self.fetched_at, now, MAX_STALE_KEY_SET_AGE)
    }
}

/// Returns true if less than `span` passed since `then`. A clock that was set back counts as time passed: otherwise a set would
/// stay fresh for as long as the clock was set back. A task that read the clock shortly before another one wrote `then` does not.
fn is_within(then: OffsetDateTime, now: OffsetDateTime, span: Duration) -> bool {
    let age = now - then;
    age < span && then - now < CLOCK_LEEWAY
}

impl KeySource {
    pub fn new(issuer: &str, http_client: Arc<dyn HttpClient>) -> Self {
        Self {
            issuer: issuer.to_owned(),
            http_client,
            cached_set: Mutex::default(),
            refresh_attempts: Arc::default(),
        }
    }

    /// The one key that fits, after at most one refresh.
    pub async fn find_key(
        self: &Arc<Self>,
        wanted: &KeyQuery<'_>,
        now: OffsetDateTime,
    ) -> Result<Arc<VerificationKey>, KeyLookupError> {
        let before = self.cached_set().filter(|cached| cached.is_usable(now));
        if let Some(cached) = &before {
            let choice = cached.key_set.select_key(wanted);
            if !matches!(choice, KeyMatch::None) {
                if !cached.is_fresh(now)
                    && let Ok(attempts) = self.refresh_attempts.clone().try_lock_owned()
                {
                    // The set is stale and no task refreshes it. If one does, the last good set is used meanwhile.
                    self.refresh_key_set(attempts, now).await;
                    return self.find_cached_key(wanted, now).await;
                }
                return into_single_key(choice);
            }
        }
        let attempts = self.refresh_attempts.clone().lock_owned().await;
        // Another task may have fetched a new set while this one waited for the lock.
        let after = self.cached_set().filter(|cached| cached.is_usable(now));
        let is_unchanged = match (&before, &after) {
            (Some(before), Some(after)) => Arc::ptr_eq(before, after),
            (None, None) => true,
            _ => false,
        };
        if is_unchanged {
            self.refresh_key_set(attempts, now).await;
        } else {
            drop(attempts);
        }
        self.find_cached_key(wanted, now).await
    }

    async fn find_cached_key(
        &self,
        wanted: &KeyQuery<'_>,
        now: OffsetDateTime,
    ) -> Result<Arc<VerificationKey>, KeyLookupError> {
        let Some(cached) = self.cached_set().filter(|cached| cached.is_usable(now)) else {
            let failure = self.refresh_attempts.lock().await.last_failure.clone();
            return Err(KeyLookupError::Unavailable(failure.unwrap_or(KeySetError::TooOld)));
        };
        into_single_key(cached.key_set.select_key(wanted))
    }

    fn cached_set(&self) -> Option<Arc<CachedKeySet>> {
        lock_ignoring_poison(&self.cached_set).clone()
    }

    /// Fetches the set, unless the last attempt was a moment ago. Runs as a task of its own: if the caller's connection closed
    /// during the fetch, the pause would have begun without a new set.
    async fn refresh_key_set(
        self: &Arc<Self>,
        mut attempts: OwnedMutexGuard<RefreshAttempts>,
        now: OffsetDateTime,
    ) {
        if attempts.last_attempt.is_some_and(|last| is_within(last, now, MIN_REFRESH_INTERVAL)) {
            return;
        }
        // Before the fetch: failures count, too, or an outage of the provider would be met with a request for each token.
        attempts.last_attempt = Some(now);
        let source = self.clone();
        let task = tokio::spawn(async move {
            let fetched = tokio::time::timeout(REFRESH_TIMEOUT, source.fetch_key_set(now)).await;
            match fetched.unwrap_or(Err(KeySetError::TimedOut)) {
                Ok(cached) => {
                    attempts.last_failure = None;
                    *lock_ignoring_poison(&source.cached_set) = Some(Arc::new(cached));
                }
                Err(error) => {
                    tracing::warn!(issuer = source.issuer, %error, "the keys of an identity provider were not refreshed");
                    attempts.last_failure = Some(error);
                }
            }
        });
        if let Err(error) = task.await {
            tracing::error!(issuer = self.issuer, %error, "the task that refreshes an identity provider's keys panicked or was cancelled");
        }
    }

    async fn fetch_key_set(&self, now: OffsetDateTime) -> Result<CachedKeySet, KeySetError> {
        #[derive(Deserialize)]
        struct JwksDiscovery {
            jwks_uri: String,
        }
        let http_client = &*self.http_client;
        let JwksDiscovery { jwks_uri } = fetch_discovery(&self.issuer, http_client).await?;
        // A document that was tampered with must not make the gateway request internal addresses (SSRF) or read keys in clear.
        check_named_url("jwks_uri", &jwks_uri, &self.issuer)?;
        let response = fetch_document(&jwks_uri, http_client).await?;
        let key_set = JwkSet::parse(response.body())
            .and_then(JwkSet::ensure_not_empty)
            .map_err(|error| KeySetError::JwkSet { url: jwks_uri.clone(), error })?;
        let cache_control = response.headers().get(header::CACHE_CONTROL);
        let ttl = key_set_ttl(cache_control.and_then(|value| value.to_str().ok()));
        Ok(CachedKeySet { key_set, fetched_at: now, ttl })
    }
}

fn into_single_key(choice: KeyMatch) -> Result<Arc<VerificationKey>, KeyLookupError> {
    match choice {
        KeyMatch::One(key) => Ok(key),
        KeyMatch::None => Err(KeyLookupError::UnknownKey),
        KeyMatch::Unsuitable => Err(KeyLookupError::UnsuitableAlgorithm),
        KeyMatch::Ambiguous => Err(KeyLookupError::Ambiguous),
    }
}

/// `max-age` (RFC 9111 section 5.2.2.1) between the shortest and the longest time. "Do not store" means the shortest.
fn key_set_ttl(cache_control: Option<&str>) -> Duration {
    let mut lifetime = DEFAULT_KEY_SET_TTL;
    for directive in cache_control.unwrap_or_default().split(',') {
        let directive = directive.trim().to_ascii_lowercase();
        if directive == "no-store" || directive == "no-cache" {
            return MIN_KEY_SET_TTL;
        }
        if let Some(seconds) = directive.strip_prefix("max-age=") {
            lifetime = seconds.trim_matches('"').parse().map_or(MIN_KEY_SET_TTL, Duration::from_secs);
        }
    }
    lifetime.clamp(MIN_KEY_SET_TTL, MAX_KEY_SET_TTL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_a_set_between_a_minute_and_an_hour() {
        for (header, seconds) in [
            (None, 600),
            (Some("public, max-age=1800, must-revalidate"), 1_800),
            (Some("Max-Age=\"120\""), 120),
            (Some("max-age=0"), 60),
            (Some("max-age=31536000"), 3_600),
            (Some("max-age=99999999999999999999"), 60),
            (Some("max-age=1800, no-store"), 60),
            (Some("no-cache"), 60),
            (Some("immutable"), 600),
        ] {
            assert_eq!(key_set_ttl(header), Duration::from_secs(seconds), "{header:?}");
        }
    }

    #[test]
    fn a_clock_set_back_counts_as_time_passed_but_an_overtaken_task_does_not() {
        let then = OffsetDateTime::UNIX_EPOCH;
        let within = |milliseconds| {
            is_within(then, then + time::Duration::milliseconds(milliseconds), MIN_KEY_SET_TTL)
        };
        for (milliseconds, expected) in [
            (0, true),
            (59_999, true),
            (60_000, false),
            (-5, true),
            (-59_999, true),
            (-60_000, false),
            (-9_000_000, false),
        ] {
            assert_eq!(within(milliseconds), expected, "{milliseconds}");
        }
    }
}

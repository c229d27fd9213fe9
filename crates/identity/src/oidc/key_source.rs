//! Where a provider's keys come from: discovery, then its JWK set, cached.
//!
//! However many tokens with unknown keys arrive, a provider is asked at most once in ten seconds and by one task at a
//! time. The last good set stays in use while the provider cannot be reached, for at most a day.

use super::{
    CLOCK_LEEWAY, FetchedDocument, ProviderHttpClient,
    verification_keys::{JwkSet, KeyMatch, KeyQuery, VerificationKey},
};
use http::Uri;
use serde::Deserialize;
use std::{
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use time::OffsetDateTime;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// A set is used at least this long, whatever `Cache-Control` says.
const MIN_KEY_SET_TTL: Duration = Duration::from_mins(1);
/// A set is asked for again after this long, whatever `Cache-Control` says.
const MAX_KEY_SET_TTL: Duration = Duration::from_hours(1);
/// When `Cache-Control` says nothing.
const DEFAULT_KEY_SET_TTL: Duration = Duration::from_mins(10);
/// Between two requests for the set.
const MIN_REFRESH_INTERVAL: Duration = Duration::from_secs(10);
/// How long a set outlives the last successful request: long enough for an outage, short enough that somebody who cuts
/// us off from the provider cannot keep a withdrawn key alive.
const MAX_STALE_KEY_SET_AGE: Duration = Duration::from_hours(24);
/// For discovery and set together.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest document that is parsed, in bytes. Real ones are below 20 KB.
const MAX_DOCUMENT_BYTES: usize = 512 << 10;

/// Why there is no key.
#[derive(Debug)]
pub(super) enum KeyLookupError {
    UnknownKey,
    Ambiguous,
    UnsuitableAlgorithm,
    Unavailable(String),
}

pub(super) struct KeySource {
    issuer: String,
    http_client: Arc<dyn ProviderHttpClient>,
    cached_set: RwLock<Option<Arc<CachedKeySet>>>,
    /// Held by the one task that asks the provider.
    refresh_attempts: Arc<Mutex<RefreshAttempts>>,
}

struct CachedKeySet {
    key_set: JwkSet,
    fetched_at: OffsetDateTime,
    ttl: Duration,
}

#[derive(Default)]
struct RefreshAttempts {
    last_attempt: Option<OffsetDateTime>,
    /// Why the last one failed.
    last_failure: Option<String>,
}

impl CachedKeySet {
    fn is_fresh(&self, now: OffsetDateTime) -> bool {
        is_within(self.fetched_at, now, self.ttl)
    }

    fn is_usable(&self, now: OffsetDateTime) -> bool {
        is_within(self.fetched_at, now, MAX_STALE_KEY_SET_AGE)
    }
}

/// Whether less than `span` passed since `then`. A clock that was set back counts as time passed; a caller that read the
/// clock a little before another one wrote `then` does not.
fn is_within(then: OffsetDateTime, now: OffsetDateTime, span: Duration) -> bool {
    let age = now - then;
    age < span && then - now < CLOCK_LEEWAY
}

impl KeySource {
    pub fn new(issuer: &str, fetch: Arc<dyn ProviderHttpClient>) -> Self {
        Self {
            issuer: issuer.to_owned(),
            http_client: fetch,
            cached_set: RwLock::default(),
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
                    // Stale and nobody is asking: ask, and look again. If somebody is, the last good set will do.
                    self.refresh_key_set(attempts, now).await;
                    return self.find_cached_key(wanted, now).await;
                }
                return into_single_key(choice);
            }
        }
        let attempts = self.refresh_attempts.clone().lock_owned().await;
        // Another task may have brought a new set while we waited for the lock.
        let after = self.cached_set().filter(|cached| cached.is_usable(now));
        let unchanged = match (&before, &after) {
            (Some(before), Some(after)) => Arc::ptr_eq(before, after),
            (None, None) => true,
            _ => false,
        };
        if unchanged {
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
            return Err(KeyLookupError::Unavailable(
                failure.unwrap_or_else(|| "they are too old".to_owned()),
            ));
        };
        into_single_key(cached.key_set.select_key(wanted))
    }

    fn cached_set(&self) -> Option<Arc<CachedKeySet>> {
        self.cached_set.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the provider unless it was asked a moment ago. Runs as a task of its own: a caller that goes away must not
    /// leave the pause begun and the set unfetched.
    async fn refresh_key_set(
        self: &Arc<Self>,
        mut attempts: OwnedMutexGuard<RefreshAttempts>,
        now: OffsetDateTime,
    ) {
        if attempts.last_attempt.is_some_and(|last| is_within(last, now, MIN_REFRESH_INTERVAL)) {
            return;
        }
        attempts.last_attempt = Some(now);
        let source = self.clone();
        let task = tokio::spawn(async move {
            let answer = match tokio::time::timeout(REFRESH_TIMEOUT, source.fetch_key_set(now)).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("no answer within {} s", REFRESH_TIMEOUT.as_secs())),
            };
            match answer {
                Ok(cached) => {
                    attempts.last_failure = None;
                    *source.cached_set.write().unwrap_or_else(PoisonError::into_inner) =
                        Some(Arc::new(cached));
                }
                Err(why) => {
                    tracing::warn!(
                        issuer = source.issuer,
                        why,
                        "the keys of an identity provider were not refreshed"
                    );
                    attempts.last_failure = Some(why);
                }
            }
        });
        if let Err(error) = task.await {
            tracing::error!(issuer = self.issuer, %error, "the refresh of an identity provider's keys broke off");
        }
    }

    async fn fetch_key_set(&self, now: OffsetDateTime) -> Result<CachedKeySet, String> {
        #[derive(Deserialize)]
        struct JwksDiscovery {
            issuer: String,
            jwks_uri: String,
        }
        // OpenID Connect Discovery 1.0 section 4.1: a terminating slash is removed first.
        let url = format!(
            "{}/.well-known/openid-configuration",
            self.issuer.strip_suffix('/').unwrap_or(&self.issuer)
        );
        let discovery: JwksDiscovery = serde_json::from_slice(&self.fetch_document(&url).await?.body)
            .map_err(|error| format!("{url}: not a discovery document: {error}"))?;
        if discovery.issuer != self.issuer {
            return Err(format!(
                "{url}: it speaks for another issuer, {}",
                super::quote_for_log(&discovery.issuer)
            ));
        }
        let url = discovery.jwks_uri;
        check_provider_url(&url, self.issuer.starts_with("http:"))
            .map_err(|why| format!("jwks_uri {}: {why}", super::quote_for_log(&url)))?;
        let set = self.fetch_document(&url).await?;
        let keys = JwkSet::parse(&set.body).map_err(|why| format!("{url}: {why}"))?;
        Ok(CachedKeySet { key_set: keys, fetched_at: now, ttl: key_set_ttl(set.cache_control.as_deref()) })
    }

    async fn fetch_document(&self, url: &str) -> Result<FetchedDocument, String> {
        let fetched = self.http_client.get(url).await.map_err(|why| format!("{url}: {why}"))?;
        if fetched.status != 200 {
            return Err(format!("{url}: answered {}", fetched.status));
        }
        if fetched.body.len() > MAX_DOCUMENT_BYTES {
            return Err(format!("{url}: answered more than {MAX_DOCUMENT_BYTES} bytes"));
        }
        Ok(fetched)
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

/// `max-age` between floor and ceiling; "do not store" means the floor.
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

/// Whether we may ask this address: `https`, or `http` on loopback where that is permitted.
pub(super) fn check_provider_url(url: &str, plain_on_loopback: bool) -> Result<(), &'static str> {
    let uri: Uri = url.parse().map_err(|_| "not a URL: write https://host")?;
    // `Uri` drops a fragment without a word.
    if url.contains('#') {
        return Err("must not have a fragment");
    }
    if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
        return Err("must have a host and no user name");
    }
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if plain_on_loopback && uri.host().is_some_and(is_loopback_host) => Ok(()),
        Some("http") => Err("plain http is accepted only on loopback: use https"),
        _ => Err("must begin with https://"),
    }
}

fn is_loopback_host(host: &str) -> bool {
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || literal.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
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
    fn treats_a_clock_set_back_as_time_passed_but_not_a_caller_that_was_overtaken() {
        let then = OffsetDateTime::UNIX_EPOCH;
        let within = |milliseconds| {
            is_within(then, then + time::Duration::milliseconds(milliseconds), MIN_KEY_SET_TTL)
        };
        for (milliseconds, is) in [
            (0, true),
            (59_999, true),
            (60_000, false),
            (-5, true),
            (-59_999, true),
            (-60_000, false),
            (-9_000_000, false),
        ] {
            assert_eq!(within(milliseconds), is, "{milliseconds}");
        }
    }

    #[test]
    fn permits_plain_http_only_on_loopback() {
        for url in
            ["https://idp.example/a", "http://127.0.0.1:1/a", "http://[::1]:1", "http://localhost:8080/x"]
        {
            assert_eq!(check_provider_url(url, true), Ok(()), "{url}");
        }
        for url in [
            "http://idp.example",
            "http://127.0.0.1.example.com",
            "http://localhost.example.com",
            "http://169.254.169.254/latest",
            "https://user@idp.example",
            "https://idp.example/#x",
            "ftp://idp.example",
            "/relative",
            "idp.example",
            "",
        ] {
            assert!(check_provider_url(url, true).is_err(), "{url}");
        }
        assert!(check_provider_url("http://127.0.0.1:1/a", false).is_err());
    }
}

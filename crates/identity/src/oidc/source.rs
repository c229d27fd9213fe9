//! Where a provider's keys come from: discovery, then its JWK set, cached.
//!
//! However many tokens with unknown keys arrive, a provider is asked at most once in ten seconds and by one task at a
//! time. The last good set stays in use while the provider cannot be reached, for at most a day.

use super::{
    Fetch, Fetched, LEEWAY,
    keys::{Choice, Key, KeySet, Wanted},
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
const FLOOR: Duration = Duration::from_mins(1);
/// A set is asked for again after this long, whatever `Cache-Control` says.
const CEILING: Duration = Duration::from_hours(1);
/// When `Cache-Control` says nothing.
const USUAL: Duration = Duration::from_mins(10);
/// Between two requests for the set.
const PAUSE: Duration = Duration::from_secs(10);
/// How long a set outlives the last successful request: long enough for an outage, short enough that somebody who cuts
/// us off from the provider cannot keep a withdrawn key alive.
const LAST_GOOD: Duration = Duration::from_hours(24);
/// For discovery and set together.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest document that is parsed, in bytes. Real ones are below 20 KB.
const DOCUMENT: usize = 512 << 10;

/// Why there is no key.
#[derive(Debug)]
pub(super) enum Missing {
    Unknown,
    Ambiguous,
    Unsuitable,
    Unavailable(String),
}

pub(super) struct KeySource {
    issuer: String,
    fetch: Arc<dyn Fetch>,
    cached: RwLock<Option<Arc<Cached>>>,
    /// Held by the one task that asks the provider.
    attempts: Arc<Mutex<Attempts>>,
}

struct Cached {
    keys: KeySet,
    fetched: OffsetDateTime,
    lifetime: Duration,
}

#[derive(Default)]
struct Attempts {
    last: Option<OffsetDateTime>,
    /// Why the last one failed.
    failure: Option<String>,
}

impl Cached {
    fn fresh(&self, now: OffsetDateTime) -> bool {
        within(self.fetched, now, self.lifetime)
    }

    fn usable(&self, now: OffsetDateTime) -> bool {
        within(self.fetched, now, LAST_GOOD)
    }
}

/// Whether less than `span` passed since `then`. A clock that was set back counts as time passed; a caller that read the
/// clock a little before another one wrote `then` does not.
fn within(then: OffsetDateTime, now: OffsetDateTime, span: Duration) -> bool {
    let age = now - then;
    age < span && then - now < LEEWAY
}

impl KeySource {
    pub fn new(issuer: &str, fetch: Arc<dyn Fetch>) -> Self {
        Self { issuer: issuer.to_owned(), fetch, cached: RwLock::default(), attempts: Arc::default() }
    }

    /// The one key that fits, after at most one refresh.
    pub async fn find(
        self: &Arc<Self>,
        wanted: &Wanted<'_>,
        now: OffsetDateTime,
    ) -> Result<Arc<Key>, Missing> {
        let before = self.cached().filter(|cached| cached.usable(now));
        if let Some(cached) = &before {
            let choice = cached.keys.choose(wanted);
            if !matches!(choice, Choice::None) {
                if !cached.fresh(now)
                    && let Ok(attempts) = self.attempts.clone().try_lock_owned()
                {
                    // Stale and nobody is asking: ask, and look again. If somebody is, the last good set will do.
                    self.refresh(attempts, now).await;
                    return self.look_up(wanted, now).await;
                }
                return settle(choice);
            }
        }
        let attempts = self.attempts.clone().lock_owned().await;
        // Another task may have brought a new set while we waited for the lock.
        let after = self.cached().filter(|cached| cached.usable(now));
        let unchanged = match (&before, &after) {
            (Some(before), Some(after)) => Arc::ptr_eq(before, after),
            (None, None) => true,
            _ => false,
        };
        if unchanged {
            self.refresh(attempts, now).await;
        } else {
            drop(attempts);
        }
        self.look_up(wanted, now).await
    }

    async fn look_up(&self, wanted: &Wanted<'_>, now: OffsetDateTime) -> Result<Arc<Key>, Missing> {
        let Some(cached) = self.cached().filter(|cached| cached.usable(now)) else {
            let failure = self.attempts.lock().await.failure.clone();
            return Err(Missing::Unavailable(failure.unwrap_or_else(|| "they are too old".to_owned())));
        };
        settle(cached.keys.choose(wanted))
    }

    fn cached(&self) -> Option<Arc<Cached>> {
        self.cached.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the provider unless it was asked a moment ago. Runs as a task of its own: a caller that goes away must not
    /// leave the pause begun and the set unfetched.
    async fn refresh(self: &Arc<Self>, mut attempts: OwnedMutexGuard<Attempts>, now: OffsetDateTime) {
        if attempts.last.is_some_and(|last| within(last, now, PAUSE)) {
            return;
        }
        attempts.last = Some(now);
        let source = self.clone();
        let task = tokio::spawn(async move {
            let answer = match tokio::time::timeout(PATIENCE, source.load(now)).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
            };
            match answer {
                Ok(cached) => {
                    attempts.failure = None;
                    *source.cached.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(cached));
                }
                Err(why) => {
                    tracing::warn!(
                        issuer = source.issuer,
                        why,
                        "the keys of an identity provider were not refreshed"
                    );
                    attempts.failure = Some(why);
                }
            }
        });
        if let Err(error) = task.await {
            tracing::error!(issuer = self.issuer, %error, "the refresh of an identity provider's keys broke off");
        }
    }

    async fn load(&self, now: OffsetDateTime) -> Result<Cached, String> {
        #[derive(Deserialize)]
        struct Discovery {
            issuer: String,
            jwks_uri: String,
        }
        // OpenID Connect Discovery 1.0 section 4.1: a terminating slash is removed first.
        let url = format!(
            "{}/.well-known/openid-configuration",
            self.issuer.strip_suffix('/').unwrap_or(&self.issuer)
        );
        let discovery: Discovery = serde_json::from_slice(&self.get(&url).await?.body)
            .map_err(|error| format!("{url}: not a discovery document: {error}"))?;
        if discovery.issuer != self.issuer {
            return Err(format!("{url}: it speaks for another issuer, {}", super::quoted(&discovery.issuer)));
        }
        let url = discovery.jwks_uri;
        check_url(&url, self.issuer.starts_with("http:"))
            .map_err(|why| format!("jwks_uri {}: {why}", super::quoted(&url)))?;
        let set = self.get(&url).await?;
        let keys = KeySet::parse(&set.body).map_err(|why| format!("{url}: {why}"))?;
        Ok(Cached { keys, fetched: now, lifetime: lifetime(set.cache_control.as_deref()) })
    }

    async fn get(&self, url: &str) -> Result<Fetched, String> {
        let fetched = self.fetch.get(url).await.map_err(|why| format!("{url}: {why}"))?;
        if fetched.status != 200 {
            return Err(format!("{url}: answered {}", fetched.status));
        }
        if fetched.body.len() > DOCUMENT {
            return Err(format!("{url}: answered more than {DOCUMENT} bytes"));
        }
        Ok(fetched)
    }
}

fn settle(choice: Choice) -> Result<Arc<Key>, Missing> {
    match choice {
        Choice::One(key) => Ok(key),
        Choice::None => Err(Missing::Unknown),
        Choice::Unsuitable => Err(Missing::Unsuitable),
        Choice::Several => Err(Missing::Ambiguous),
    }
}

/// `max-age` between floor and ceiling; "do not store" means the floor.
fn lifetime(cache_control: Option<&str>) -> Duration {
    let mut lifetime = USUAL;
    for directive in cache_control.unwrap_or_default().split(',') {
        let directive = directive.trim().to_ascii_lowercase();
        if directive == "no-store" || directive == "no-cache" {
            return FLOOR;
        }
        if let Some(seconds) = directive.strip_prefix("max-age=") {
            lifetime = seconds.trim_matches('"').parse().map_or(FLOOR, Duration::from_secs);
        }
    }
    lifetime.clamp(FLOOR, CEILING)
}

/// Whether we may ask this address: `https`, or `http` on loopback where that is permitted.
pub(super) fn check_url(url: &str, plain_on_loopback: bool) -> Result<(), &'static str> {
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
        Some("http") if plain_on_loopback && uri.host().is_some_and(is_loopback) => Ok(()),
        Some("http") => Err("plain http is accepted only on loopback: use https"),
        _ => Err("must begin with https://"),
    }
}

fn is_loopback(host: &str) -> bool {
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
            assert_eq!(lifetime(header), Duration::from_secs(seconds), "{header:?}");
        }
    }

    #[test]
    fn takes_a_clock_that_was_set_back_for_time_passed_but_not_a_caller_that_was_overtaken() {
        let then = OffsetDateTime::UNIX_EPOCH;
        let within = |milliseconds| within(then, then + time::Duration::milliseconds(milliseconds), FLOOR);
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
    fn asks_plain_http_only_on_loopback() {
        for url in
            ["https://idp.example/a", "http://127.0.0.1:1/a", "http://[::1]:1", "http://localhost:8080/x"]
        {
            assert_eq!(check_url(url, true), Ok(()), "{url}");
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
            assert!(check_url(url, true).is_err(), "{url}");
        }
        assert!(check_url("http://127.0.0.1:1/a", false).is_err());
    }
}

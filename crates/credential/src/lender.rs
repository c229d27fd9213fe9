//! Lends a credential for one operation and remembers it for as long as its session policy holds.
//!
//! STS never issues for less than 900 seconds; what ends a loan sooner is the `aws:CurrentTime` condition of its session
//! policy, [`POLICY_WINDOW`] after it was asked for. A loan is lent again only to an ask that is equal in every input but
//! the exchange, and only within that window. An `exchange` tag therefore names the exchange that caused the loan.

use crate::attribution::{role_session_name, source_identity, tag_value};
use crate::error::printable;
use crate::flight::Flights;
use crate::policy::{PolicyExtras, Scope, SessionPolicy, action_policy, session_policy};
use crate::sts::AssumeRole;
use crate::{BaseIdentity, Clock, Transport, system_clock};
use durward_aws::sigv4::sha256_hex;
use durward_core::{Caller, ExchangeId, Operation, Resource, Secret, SessionId};
use http::Uri;
use key::Key;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use time::OffsetDateTime;

pub use crate::error::LendError;

mod key;

/// How long a session policy holds, from the ask on.
pub const POLICY_WINDOW: Duration = Duration::from_mins(1);
/// What fails faster than this is tried once more.
const AGAIN_WITHIN: Duration = Duration::from_secs(3);
/// A loan must leave the gateway this long before its policy ends, to arrive in time.
const SEND_MARGIN: Duration = Duration::from_secs(5);
/// A credential is not used this close to its expiry: our clock may differ from AWS's.
const EXPIRY_MARGIN: Duration = Duration::from_secs(30);
/// The same for `scope = "session"`, whose credentials go to long-running uses.
const SESSION_MARGIN: Duration = Duration::from_mins(5);
/// Loans that are remembered at once.
pub const MAX_CACHED: usize = 4_096;
/// A clock difference to AWS that is worth a warning: half of [`POLICY_WINDOW`].
const CLOCK_WARNING: Duration = Duration::from_secs(30);

/// How far a connection's credentials reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionScope {
    /// Cut to each operation.
    #[default]
    Operation,
    /// The whole role, once per session.
    Session,
}

/// An AWS role the gateway may assume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionConfig {
    pub name: String,
    pub role_arn: String,
    pub external_id: Option<String>,
    /// `DurationSeconds`: 900 seconds unless there is a reason (STS takes 900 to the role's maximum).
    pub duration: Duration,
    pub scope: ConnectionScope,
    /// The region whose STS is asked.
    pub region: String,
    pub extras: PolicyExtras,
}

impl ConnectionConfig {
    /// A connection with the defaults: 900 seconds, cut to the operation, no external id, no extras.
    pub fn new(name: impl Into<String>, role_arn: impl Into<String>, region: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            role_arn: role_arn.into(),
            external_id: None,
            duration: Duration::from_mins(15),
            scope: ConnectionScope::Operation,
            region: region.into(),
            extras: PolicyExtras::default(),
        }
    }
}

/// Who borrows what for.
#[derive(Debug, Clone, Copy)]
pub struct LendRequest<'a> {
    pub connection: &'a ConnectionConfig,
    pub caller: &'a Caller,
    pub session: SessionId,
    pub exchange: ExchangeId,
    pub operation: &'a Operation,
}

/// A lent credential. Its secrets are wiped when the last holder drops it.
#[derive(Debug)]
pub struct Lent {
    pub access_key_id: String,
    pub secret: Secret,
    pub session_token: Secret,
    /// When STS ends the credential.
    pub expires: OffsetDateTime,
    /// Until when it may be sent; never later than its session policy or its expiry.
    pub usable_until: OffsetDateTime,
    pub scope: Scope,
    /// Lower-case hex SHA-256 of the session policy; none with [`Scope::Session`].
    pub policy_sha256: Option<String>,
    session: SessionId,
}

/// The STS endpoint of a region, from our own tables or the emulator's address.
pub type StsEndpoint = Arc<dyn Fn(&str) -> Result<Uri, String> + Send + Sync>;

/// Lends credentials.
pub struct Lender {
    identity: Arc<BaseIdentity>,
    transport: Arc<dyn Transport>,
    endpoint: StsEndpoint,
    clock: Clock,
    cache: Mutex<HashMap<Key, Arc<Lent>>>,
    flights: Flights<Key, Result<Arc<Lent>, LendError>>,
    warned_of_clock: AtomicBool,
}

impl Lender {
    pub fn new(identity: Arc<BaseIdentity>, transport: Arc<dyn Transport>, endpoint: StsEndpoint) -> Self {
        Self {
            identity,
            transport,
            endpoint,
            clock: system_clock(),
            cache: Mutex::new(HashMap::new()),
            flights: Flights::new(),
            warned_of_clock: AtomicBool::new(false),
        }
    }

    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// A credential for `ask.operation`. Dropping the future is safe at any moment.
    pub async fn lend(&self, ask: &LendRequest<'_>) -> Result<Arc<Lent>, LendError> {
        let key = Key::of(ask);
        if let Some(lent) = self.cached(&key) {
            return Ok(lent);
        }
        // Boxed, for it is large and rare: what is lent from the cache must not pay for it.
        Box::pin(self.flights.run(key.clone(), || self.borrow(ask, key))).await
    }

    /// Forgets what was lent to a session that was revoked.
    pub fn forget(&self, session: SessionId) {
        self.entries(|cache| cache.retain(|_, lent| lent.session != session));
    }

    fn entries<T>(&self, with: impl FnOnce(&mut HashMap<Key, Arc<Lent>>) -> T) -> T {
        with(&mut self.cache.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn cached(&self, key: &Key) -> Option<Arc<Lent>> {
        let now = (self.clock)();
        self.entries(|cache| cache.get(key).filter(|lent| now < lent.usable_until).cloned())
    }

    async fn borrow(&self, ask: &LendRequest<'_>, key: Key) -> Result<Arc<Lent>, LendError> {
        if let Some(lent) = self.cached(&key) {
            return Ok(lent);
        }
        let lent = Arc::new(self.assume(ask).await?);
        let now = (self.clock)();
        if lent.usable_until <= now {
            return Err(LendError::Answer("the credential came too late or expires too soon to be used"));
        }
        self.entries(|cache| {
            cache.retain(|_, lent| now < lent.usable_until);
            if cache.len() >= MAX_CACHED
                && let Some(soonest) =
                    cache.iter().min_by_key(|(_, lent)| lent.usable_until).map(|(key, _)| key.clone())
            {
                cache.remove(&soonest);
            }
            cache.insert(key, lent.clone());
        });
        Ok(lent)
    }

    /// Asks STS: once, and once more each for a policy that does not pack, for a base credential that has expired, and for an
    /// answer that did not come: a connection that was kept may be closed by the other side just then, and an approval would be
    /// used up for nothing. Another credential of the same cut does no harm.
    async fn assume(&self, ask: &LendRequest<'_>) -> Result<Lent, LendError> {
        let LendRequest { connection, operation, .. } = *ask;
        let endpoint = (self.endpoint)(&connection.region)
            .map_err(|error| LendError::Request(printable(&error, &[])))?;
        let not_after = whole_second((self.clock)() + POLICY_WINDOW);
        let mut policy = match connection.scope {
            ConnectionScope::Operation => Some(session_policy(operation, not_after, &connection.extras)?),
            ConnectionScope::Session => None,
        };
        let (mut renewed, mut repeated) = (false, false);
        let begun = Instant::now();
        loop {
            match self.call(ask, &endpoint, policy.as_ref()).await {
                Ok(issued) => {
                    self.compare_clocks(issued.expires, connection.duration);
                    let usable_until = match &policy {
                        Some(_) => (not_after - SEND_MARGIN).min(issued.expires - EXPIRY_MARGIN),
                        None => issued.expires - SESSION_MARGIN,
                    };
                    return Ok(Lent {
                        access_key_id: issued.access_key_id,
                        secret: issued.secret,
                        session_token: issued.session_token,
                        expires: issued.expires,
                        usable_until,
                        scope: policy.as_ref().map_or(Scope::Session, |policy| policy.scope),
                        policy_sha256: policy.map(|policy| sha256_hex(policy.json.as_bytes())),
                        session: ask.session,
                    });
                }
                Err(LendError::Refused { code, .. })
                    if code == "PackedPolicyTooLarge"
                        && policy.as_ref().is_some_and(|policy| policy.scope == Scope::Operation) =>
                {
                    policy = Some(action_policy(operation, not_after, &connection.extras)?);
                }
                Err(LendError::Refused { code, .. })
                    if !renewed && matches!(code.as_str(), "ExpiredToken" | "ExpiredTokenException") =>
                {
                    renewed = true;
                    self.identity.forget();
                }
                Err(LendError::Unavailable(why)) if !repeated && begun.elapsed() < AGAIN_WITHIN => {
                    repeated = true;
                    tracing::debug!(why, "STS is asked once more");
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn call(
        &self,
        ask: &LendRequest<'_>,
        endpoint: &Uri,
        policy: Option<&SessionPolicy>,
    ) -> Result<crate::answer::Issued, LendError> {
        let base = self.identity.credential().await?;
        let connection = ask.connection;
        let request = AssumeRole {
            role_arn: &connection.role_arn,
            session_name: role_session_name(ask.session),
            source_identity: source_identity(ask.caller),
            external_id: connection.external_id.as_deref(),
            seconds: connection.duration.as_secs(),
            tags: vec![
                ("durward:caller", tag_value(&ask.caller.id())),
                ("durward:session", ask.session.to_string()),
                ("durward:exchange", ask.exchange.to_string()),
                ("durward:connection", tag_value(&connection.name)),
            ],
            policy: policy.map(|policy| policy.json.as_str()),
        };
        request.call(&*self.transport, endpoint, &connection.region, &base, (self.clock)()).await
    }

    /// STS counts `duration` from its own now. A gateway whose clock is behind would cut policies that are over already.
    fn compare_clocks(&self, expires: OffsetDateTime, duration: Duration) {
        let ahead = (self.clock)() - (expires - duration);
        if ahead.unsigned_abs() > CLOCK_WARNING && !self.warned_of_clock.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                seconds_ahead = ahead.whole_seconds(),
                "this machine's clock differs from AWS's; session policies may end early or late, set the clock"
            );
        }
    }
}

fn whole_second(at: OffsetDateTime) -> OffsetDateTime {
    at - time::Duration::nanoseconds(i64::from(at.nanosecond()))
}

#[cfg(test)]
mod tests;

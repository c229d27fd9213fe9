//! Lends a credential for one operation and remembers it for as long as its session policy holds.
//!
//! STS never issues for less than 900 seconds; what ends a loan sooner is the `aws:CurrentTime` condition of its session
//! policy, [`POLICY_WINDOW`] after it was asked for. A loan is lent again only to an ask that is equal in every input but
//! the exchange, and only within that window. An `exchange` tag therefore names the exchange that caused the loan.

use crate::attribution::{role_session_name, source_identity, tag_value};
use crate::error::sanitize_error_text;
use crate::session_policy::{
    SessionPolicy, SessionPolicyConditions, build_action_policy, build_session_policy,
};
use crate::single_flight::SingleFlight;
use crate::sts::AssumeRoleRequest;
use crate::{Clock, GatewayIdentity, HttpClient, system_clock};
use cache_key::CredentialCacheKey;
use durward_aws::sigv4::sha256_hex;
use durward_core::{Caller, CredentialScope, ExchangeId, Operation, Resource, Secret, SessionId};
use http::Uri;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use time::OffsetDateTime;

pub use crate::error::IssueError;

mod cache_key;

/// How long a session policy holds, from the ask on.
pub const SESSION_POLICY_LIFETIME: Duration = Duration::from_mins(1);
/// What fails faster than this is tried once more.
const STS_RETRY_CUTOFF: Duration = Duration::from_secs(3);
/// A loan must leave the gateway this long before its policy ends, to arrive in time.
const POLICY_EXPIRY_MARGIN: Duration = Duration::from_secs(5);
/// A credential is not used this close to its expiry: our clock may differ from AWS's.
const CREDENTIAL_EXPIRY_MARGIN: Duration = Duration::from_secs(30);
/// The same for `scope = "session"`, whose credentials go to long-running uses.
const SESSION_SCOPE_EXPIRY_MARGIN: Duration = Duration::from_mins(5);
/// Loans that are remembered at once.
pub const MAX_CACHED_CREDENTIALS: usize = 4_096;
/// A clock difference to AWS that is worth a warning: half of [`POLICY_WINDOW`].
const CLOCK_SKEW_WARNING: Duration = Duration::from_secs(30);

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
    pub session_duration: Duration,
    pub scope: ConnectionScope,
    /// The region whose STS is asked.
    pub region: String,
    pub policy_conditions: SessionPolicyConditions,
}

impl ConnectionConfig {
    /// A connection with the defaults: 900 seconds, cut to the operation, no external id, no extras.
    pub fn new(name: impl Into<String>, role_arn: impl Into<String>, region: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            role_arn: role_arn.into(),
            external_id: None,
            session_duration: Duration::from_mins(15),
            scope: ConnectionScope::Operation,
            region: region.into(),
            policy_conditions: SessionPolicyConditions::default(),
        }
    }
}

/// Who borrows what for.
#[derive(Debug, Clone, Copy)]
pub struct CredentialRequest<'a> {
    pub connection: &'a ConnectionConfig,
    pub caller: &'a Caller,
    pub session: SessionId,
    pub exchange: ExchangeId,
    pub operation: &'a Operation,
}

/// A lent credential. Its secrets are wiped when the last holder drops it.
#[derive(Debug)]
pub struct IssuedCredential {
    pub access_key_id: String,
    pub secret_access_key: Secret,
    pub session_token: Secret,
    /// When STS ends the credential.
    pub expires_at: OffsetDateTime,
    /// Until when it may be sent; never later than its session policy or its expiry.
    pub usable_until: OffsetDateTime,
    pub scope: CredentialScope,
    /// Lower-case hex SHA-256 of the session policy; none with [`Scope::Session`].
    pub policy_sha256: Option<String>,
    session: SessionId,
}

/// The STS endpoint of a region, from our own tables or the emulator's address.
pub type StsEndpoint = Arc<dyn Fn(&str) -> Result<Uri, String> + Send + Sync>;

/// Lends credentials.
pub struct CredentialIssuer {
    identity: Arc<GatewayIdentity>,
    http_client: Arc<dyn HttpClient>,
    sts_endpoint: StsEndpoint,
    clock: Clock,
    cache: Mutex<HashMap<CredentialCacheKey, Arc<IssuedCredential>>>,
    single_flight: SingleFlight<CredentialCacheKey, Result<Arc<IssuedCredential>, IssueError>>,
    has_warned_of_clock_skew: AtomicBool,
}

impl CredentialIssuer {
    pub fn new(
        identity: Arc<GatewayIdentity>,
        transport: Arc<dyn HttpClient>,
        endpoint: StsEndpoint,
    ) -> Self {
        Self {
            identity,
            http_client: transport,
            sts_endpoint: endpoint,
            clock: system_clock(),
            cache: Mutex::new(HashMap::new()),
            single_flight: SingleFlight::new(),
            has_warned_of_clock_skew: AtomicBool::new(false),
        }
    }

    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// A credential for `ask.operation`. Dropping the future is safe at any moment.
    pub async fn issue_credential(
        &self,
        ask: &CredentialRequest<'_>,
    ) -> Result<Arc<IssuedCredential>, IssueError> {
        let key = CredentialCacheKey::from_request(ask);
        if let Some(lent) = self.find_cached(&key) {
            return Ok(lent);
        }
        // Boxed, for it is large and rare: what is lent from the cache must not pay for it.
        Box::pin(self.single_flight.run(key.clone(), || self.issue_and_cache(ask, key))).await
    }

    /// Forgets what was lent to a session that was revoked.
    pub fn forget_session(&self, session: SessionId) {
        self.with_cache(|cache| cache.retain(|_, lent| lent.session != session));
    }

    fn with_cache<T>(
        &self,
        with: impl FnOnce(&mut HashMap<CredentialCacheKey, Arc<IssuedCredential>>) -> T,
    ) -> T {
        with(&mut self.cache.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn find_cached(&self, key: &CredentialCacheKey) -> Option<Arc<IssuedCredential>> {
        let now = (self.clock)();
        self.with_cache(|cache| cache.get(key).filter(|lent| now < lent.usable_until).cloned())
    }

    async fn issue_and_cache(
        &self,
        ask: &CredentialRequest<'_>,
        key: CredentialCacheKey,
    ) -> Result<Arc<IssuedCredential>, IssueError> {
        if let Some(lent) = self.find_cached(&key) {
            return Ok(lent);
        }
        let lent = Arc::new(self.assume_role_with_retries(ask).await?);
        let now = (self.clock)();
        if lent.usable_until <= now {
            return Err(IssueError::InvalidResponse(
                "the credential came too late or expires too soon to be used",
            ));
        }
        self.with_cache(|cache| {
            cache.retain(|_, lent| now < lent.usable_until);
            if cache.len() >= MAX_CACHED_CREDENTIALS
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
    async fn assume_role_with_retries(
        &self,
        ask: &CredentialRequest<'_>,
    ) -> Result<IssuedCredential, IssueError> {
        let CredentialRequest { connection, operation, .. } = *ask;
        let endpoint = (self.sts_endpoint)(&connection.region)
            .map_err(|error| IssueError::InvalidRequest(sanitize_error_text(&error, &[])))?;
        let not_after = truncate_to_second((self.clock)() + SESSION_POLICY_LIFETIME);
        let mut policy = match connection.scope {
            ConnectionScope::Operation => {
                Some(build_session_policy(operation, not_after, &connection.policy_conditions)?)
            }
            ConnectionScope::Session => None,
        };
        let (mut renewed, mut repeated) = (false, false);
        let begun = Instant::now();
        loop {
            match self.assume_role_once(ask, &endpoint, policy.as_ref()).await {
                Ok(issued) => {
                    self.check_clock_skew(issued.expires_at, connection.session_duration);
                    let usable_until = match &policy {
                        Some(_) => (not_after - POLICY_EXPIRY_MARGIN)
                            .min(issued.expires_at - CREDENTIAL_EXPIRY_MARGIN),
                        None => issued.expires_at - SESSION_SCOPE_EXPIRY_MARGIN,
                    };
                    return Ok(IssuedCredential {
                        access_key_id: issued.access_key_id,
                        secret_access_key: issued.secret_access_key,
                        session_token: issued.session_token,
                        expires_at: issued.expires_at,
                        usable_until,
                        scope: policy.as_ref().map_or(CredentialScope::Session, |policy| policy.scope),
                        policy_sha256: policy.map(|policy| sha256_hex(policy.json.as_bytes())),
                        session: ask.session,
                    });
                }
                Err(IssueError::Refused { code, .. })
                    if code == "PackedPolicyTooLarge"
                        && policy
                            .as_ref()
                            .is_some_and(|policy| policy.scope == CredentialScope::Operation) =>
                {
                    policy = Some(build_action_policy(operation, not_after, &connection.policy_conditions)?);
                }
                Err(IssueError::Refused { code, .. })
                    if !renewed && matches!(code.as_str(), "ExpiredToken" | "ExpiredTokenException") =>
                {
                    renewed = true;
                    self.identity.forget_credential();
                }
                Err(IssueError::Unavailable(why)) if !repeated && begun.elapsed() < STS_RETRY_CUTOFF => {
                    repeated = true;
                    tracing::debug!(why, "STS is asked once more");
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn assume_role_once(
        &self,
        ask: &CredentialRequest<'_>,
        endpoint: &Uri,
        policy: Option<&SessionPolicy>,
    ) -> Result<crate::sts_response::StsCredentials, IssueError> {
        let base = self.identity.credential().await?;
        let connection = ask.connection;
        let request = AssumeRoleRequest {
            role_arn: &connection.role_arn,
            role_session_name: role_session_name(ask.session),
            source_identity: source_identity(ask.caller),
            external_id: connection.external_id.as_deref(),
            duration_seconds: connection.session_duration.as_secs(),
            tags: vec![
                ("durward:caller", tag_value(&ask.caller.id())),
                ("durward:session", ask.session.to_string()),
                ("durward:exchange", ask.exchange.to_string()),
                ("durward:connection", tag_value(&connection.name)),
            ],
            policy_json: policy.map(|policy| policy.json.as_str()),
        };
        request.send(&*self.http_client, endpoint, &connection.region, &base, (self.clock)()).await
    }

    /// STS counts `duration` from its own now. A gateway whose clock is behind would cut policies that are over already.
    fn check_clock_skew(&self, expires: OffsetDateTime, duration: Duration) {
        let ahead = (self.clock)() - (expires - duration);
        if ahead.unsigned_abs() > CLOCK_SKEW_WARNING
            && !self.has_warned_of_clock_skew.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                seconds_ahead = ahead.whole_seconds(),
                "this machine's clock differs from AWS's; session policies may end early or late, set the clock"
            );
        }
    }
}

fn truncate_to_second(at: OffsetDateTime) -> OffsetDateTime {
    at - time::Duration::nanoseconds(i64::from(at.nanosecond()))
}

#[cfg(test)]
mod tests;

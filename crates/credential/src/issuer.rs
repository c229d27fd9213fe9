//! Issues a credential for one operation, and caches it for as long as its session policy permits anything.
//!
//! STS never issues a credential for less than 900 seconds. It becomes useless sooner by the `aws:CurrentTime` condition of its
//! session policy, [`SESSION_POLICY_LIFETIME`] after the request.
//!
//! Promises: a cached credential is used only for a request that is equal in every input but the exchange, and only within that
//! lifetime. Its `exchange` tag therefore names the first exchange that used it. After [`CredentialIssuer::forget_session`], no
//! credential of that session is in the cache.

use crate::attribution::{role_session_name, source_identity, tag_value};
use crate::error::{IssueError, StsEndpointError};
use crate::gateway_identity::GatewayIdentity;
use crate::session_policy::{
    SessionPolicy, SessionPolicyConditions, build_action_policy, build_session_policy,
};
use crate::single_flight::SingleFlight;
use crate::sts::AssumeRoleRequest;
use crate::sts_response::StsCredentials;
use cache_key::CredentialCacheKey;
use durward_aws::sigv4::sha256_hex;
use durward_core::limits::{MAX_CACHED_CREDENTIALS, SESSION_POLICY_LIFETIME};
use durward_core::timestamps::{Clock, system_clock};
use durward_core::{
    Arn, Caller, CredentialScope, ExchangeId, HttpClient, Operation, Secret, SessionId, lock_ignoring_poison,
};
use http::Uri;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::time::Instant;

mod cache_key;

/// A call that fails sooner than this is tried once more.
const STS_RETRY_CUTOFF: Duration = Duration::from_secs(3);
/// A credential is not used this close to the end of its session policy: the request must arrive in time.
const POLICY_EXPIRY_MARGIN: Duration = Duration::from_secs(5);
/// A credential is not used this close to its expiry: our clock may differ from that of AWS.
const CREDENTIAL_EXPIRY_MARGIN: Duration = Duration::from_secs(30);
/// The same for `scope = "session"`, whose credentials serve long-running requests.
const SESSION_SCOPE_EXPIRY_MARGIN: Duration = Duration::from_mins(5);
/// A clock difference to AWS that is worth a warning: half of [`SESSION_POLICY_LIFETIME`].
const CLOCK_SKEW_WARNING: Duration = Duration::from_secs(30);

/// The extent of the credentials of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ConnectionScope {
    /// To each operation.
    #[default]
    Operation,
    /// To the role: one credential per session.
    Session,
}

/// An AWS role that the gateway may assume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionConfig {
    pub name: String,
    pub role_arn: String,
    pub external_id: Option<String>,
    /// `DurationSeconds`: at least 900, at most the maximum of the role.
    pub session_duration: Duration,
    pub scope: ConnectionScope,
    /// The region whose STS is called.
    pub region: String,
    pub policy_conditions: SessionPolicyConditions,
}

impl ConnectionConfig {
    /// A connection with the defaults: 900 seconds, scoped to each operation, no external id, the buckets of its role's account, no other
    /// conditions.
    pub fn new(name: impl Into<String>, role_arn: impl Into<String>, region: impl Into<String>) -> Self {
        let role_arn = role_arn.into();
        let own_account = Arn::parse(&role_arn).map(|arn| arn.account.to_owned());
        let policy_conditions = SessionPolicyConditions {
            bucket_accounts: own_account.into_iter().collect(),
            ..SessionPolicyConditions::default()
        };
        Self {
            name: name.into(),
            role_arn,
            external_id: None,
            session_duration: Duration::from_mins(15),
            scope: ConnectionScope::Operation,
            region: region.into(),
            policy_conditions,
        }
    }
}

/// The operation that needs a credential, with everything that the credential depends on.
#[derive(Debug, Clone, Copy)]
pub struct CredentialRequest<'a> {
    pub connection: &'a ConnectionConfig,
    pub caller: &'a Caller,
    pub session: SessionId,
    pub exchange: ExchangeId,
    pub operation: &'a Operation,
}

/// An issued credential. Its secrets are wiped when the last holder drops it.
#[derive(Debug)]
pub struct IssuedCredential {
    pub access_key_id: String,
    pub secret_access_key: Secret,
    pub session_token: Secret,
    /// When the credential expires at AWS.
    pub expires_at: OffsetDateTime,
    /// The time until which a request may be sent with it: never later than its session policy or its expiry permit.
    pub usable_until: OffsetDateTime,
    pub scope: CredentialScope,
    /// SHA-256 of the session policy in lower-case hex; `None` with [`CredentialScope::Session`].
    pub policy_sha256: Option<String>,
    session: SessionId,
}

/// The STS endpoint of a region, from our own tables or the address of an emulator. A caller never chooses it: the response of a
/// chosen endpoint would be believed (CVE-2020-16250 of Vault).
pub type StsEndpoint = Arc<dyn Fn(&str) -> Result<Uri, StsEndpointError> + Send + Sync>;

#[derive(Default)]
struct CredentialCache {
    by_key: HashMap<CredentialCacheKey, Arc<IssuedCredential>>,
    /// The sessions of the calls in flight, each with the mark that their session was forgotten. A call that ended or was dropped
    /// leaves a dead reference.
    calls: Vec<(SessionId, Weak<AtomicBool>)>,
}

/// Issues credentials.
pub struct CredentialIssuer {
    identity: Arc<GatewayIdentity>,
    http_client: Arc<dyn HttpClient>,
    sts_endpoint: StsEndpoint,
    clock: Clock,
    cache: Mutex<CredentialCache>,
    single_flight: SingleFlight<CredentialCacheKey, Result<Arc<IssuedCredential>, IssueError>>,
    has_warned_of_clock_skew: AtomicBool,
}

impl CredentialCache {
    fn start_call(&mut self, session: SessionId) -> Arc<AtomicBool> {
        self.calls.retain(|(_session, call)| call.strong_count() > 0);
        let is_forgotten = Arc::default();
        self.calls.push((session, Arc::downgrade(&is_forgotten)));
        is_forgotten
    }

    fn forget_session(&mut self, session: SessionId) {
        self.by_key.retain(|_key, issued| issued.session != session);
        for (_session, call) in self.calls.iter().filter(|(of, _call)| *of == session) {
            if let Some(is_forgotten) = call.upgrade() {
                is_forgotten.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Both scans of the entries are cheap beside the call to STS that precedes each insertion.
    fn insert(&mut self, key: CredentialCacheKey, issued: Arc<IssuedCredential>, now: OffsetDateTime) {
        self.by_key.retain(|_key, cached| now < cached.usable_until);
        // The one that ends first is worth least. No use is counted, because entries live for less than a minute.
        if self.by_key.len() >= MAX_CACHED_CREDENTIALS
            && let Some(soonest) = self
                .by_key
                .iter()
                .min_by_key(|(_key, cached)| cached.usable_until)
                .map(|(key, _cached)| key.clone())
        {
            self.by_key.remove(&soonest);
        }
        self.by_key.insert(key, issued);
    }
}

impl CredentialIssuer {
    pub fn new(
        identity: Arc<GatewayIdentity>,
        http_client: Arc<dyn HttpClient>,
        sts_endpoint: StsEndpoint,
    ) -> Self {
        Self {
            identity,
            http_client,
            sts_endpoint,
            clock: system_clock(),
            cache: Mutex::default(),
            single_flight: SingleFlight::new(),
            has_warned_of_clock_skew: AtomicBool::new(false),
        }
    }

    #[cfg(test)]
    #[must_use]
    pub(crate) fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// A credential for `request.operation`. The future may be dropped at any moment.
    pub async fn issue_credential(
        &self,
        request: &CredentialRequest<'_>,
    ) -> Result<Arc<IssuedCredential>, IssueError> {
        let key = CredentialCacheKey::from_request(request);
        if let Some(cached) = self.find_cached(&key) {
            return Ok(cached);
        }
        // Boxed because it is large and rare: the future of the common case, a cached credential, would be as large.
        Box::pin(self.single_flight.run(key.clone(), || self.issue_and_cache(request, key))).await
    }

    /// Removes the credentials of a session that ended or was revoked.
    pub fn forget_session(&self, session: SessionId) {
        lock_ignoring_poison(&self.cache).forget_session(session);
    }

    fn find_cached(&self, key: &CredentialCacheKey) -> Option<Arc<IssuedCredential>> {
        let now = (self.clock)();
        lock_ignoring_poison(&self.cache).by_key.get(key).filter(|cached| now < cached.usable_until).cloned()
    }

    async fn issue_and_cache(
        &self,
        request: &CredentialRequest<'_>,
        key: CredentialCacheKey,
    ) -> Result<Arc<IssuedCredential>, IssueError> {
        // Before the call: a revocation that arrives while STS works must find this call.
        let is_forgotten = lock_ignoring_poison(&self.cache).start_call(request.session);
        if let Some(cached) = self.find_cached(&key) {
            return Ok(cached);
        }
        let issued = Arc::new(self.assume_role_with_retries(request).await?);
        let now = (self.clock)();
        // A slow call to STS can use up the minute of the session policy: a request that is signed now would be refused by AWS.
        if issued.usable_until <= now {
            return Err(IssueError::ExpiresTooSoon);
        }
        let mut cache = lock_ignoring_poison(&self.cache);
        // The credential of a session that was forgotten during the call must not stay in memory.
        if !is_forgotten.load(Ordering::Relaxed) {
            cache.insert(key, issued.clone(), now);
        }
        Ok(issued)
    }

    /// Calls STS, and once more each if the policy cannot be packed, if the gateway's own credential has expired, and if the call
    /// failed quickly: STS may close a kept connection at that moment, and an approval would be consumed for nothing. AssumeRole may
    /// be repeated: a second credential of the same scope does no harm.
    async fn assume_role_with_retries(
        &self,
        request: &CredentialRequest<'_>,
    ) -> Result<IssuedCredential, IssueError> {
        let CredentialRequest { connection, operation, .. } = *request;
        let endpoint = (self.sts_endpoint)(&connection.region)?;
        // The policy is written in whole seconds.
        let not_after = ((self.clock)() + SESSION_POLICY_LIFETIME).truncate_to_second();
        let mut policy = match connection.scope {
            ConnectionScope::Operation => {
                Some(build_session_policy(operation, not_after, &connection.policy_conditions)?)
            }
            ConnectionScope::Session => None,
        };
        let (mut has_renewed_identity, mut has_retried) = (false, false);
        loop {
            let started_at = Instant::now();
            match self.assume_role_once(request, &endpoint, policy.as_ref()).await {
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
                        session: request.session,
                    });
                }
                // STS compresses policy and tags into a binary form whose size it alone knows (STS API Reference, AssumeRole,
                // `PackedPolicySize`): a policy within the character limit can still be too large.
                Err(error)
                    if error.sts_error_code() == Some("PackedPolicyTooLarge")
                        && policy
                            .as_ref()
                            .is_some_and(|policy| policy.scope == CredentialScope::Operation) =>
                {
                    policy = Some(build_action_policy(operation, not_after, &connection.policy_conditions)?);
                }
                Err(error)
                    if !has_renewed_identity
                        && matches!(
                            error.sts_error_code(),
                            Some("ExpiredToken" | "ExpiredTokenException")
                        ) =>
                {
                    has_renewed_identity = true;
                    self.identity.forget_credential();
                }
                Err(IssueError::Unavailable(reason))
                    if !has_retried && started_at.elapsed() < STS_RETRY_CUTOFF =>
                {
                    has_retried = true;
                    tracing::debug!(reason, "retrying STS once");
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn assume_role_once(
        &self,
        credential_request: &CredentialRequest<'_>,
        endpoint: &Uri,
        policy: Option<&SessionPolicy>,
    ) -> Result<StsCredentials, IssueError> {
        // Per attempt and not per call: after `ExpiredToken` the second attempt must get the renewed credential.
        let base = self.identity.credential().await?;
        let CredentialRequest { connection, caller, session, exchange, operation: _ } = *credential_request;
        let request = AssumeRoleRequest {
            role_arn: &connection.role_arn,
            role_session_name: role_session_name(session),
            source_identity: source_identity(caller),
            external_id: connection.external_id.as_deref(),
            duration_seconds: connection.session_duration.as_secs(),
            tags: vec![
                ("durward:caller", tag_value(&caller.id())),
                ("durward:session", session.to_string()),
                ("durward:exchange", exchange.to_string()),
                ("durward:connection", tag_value(&connection.name)),
            ],
            policy_json: policy.map(|policy| policy.json.as_str()),
        };
        request.send(&*self.http_client, endpoint, &connection.region, &base, (self.clock)()).await
    }

    /// STS counts the duration from its own time, which reveals the difference of the clocks. A gateway whose clock is a minute
    /// behind would write session policies that have ended already.
    fn check_clock_skew(&self, expires_at: OffsetDateTime, duration: Duration) {
        let ahead = (self.clock)() - (expires_at - duration);
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

#[cfg(test)]
mod tests;

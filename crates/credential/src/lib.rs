//! The gateway's own AWS identity, STS AssumeRole cut to one operation, and its cache.
//!
//! [`BaseIdentity`] finds what the gateway itself is; [`Lender`] turns that into a credential for one operation.
//! Nothing here opens a connection: requests go out by the [`Transport`] the gateway gives, which checks addresses.

mod attribution;
mod error;
mod gateway_identity;
mod http_client;
mod issuer;
mod session_policy;
mod single_flight;
mod sts;
mod sts_response;

pub use gateway_identity::{BaseCredential, GatewayIdentity, GatewayIdentityError, IdentityStatus};
pub use http_client::HttpClient;
pub use issuer::{
    ConnectionConfig, ConnectionScope, CredentialIssuer, CredentialRequest, IssueError, IssuedCredential,
    MAX_CACHED_CREDENTIALS, SESSION_POLICY_LIFETIME, StsEndpoint,
};
pub use session_policy::{SessionPolicy, SessionPolicyConditions, SessionPolicyError, build_session_policy};

use std::sync::Arc;
use time::OffsetDateTime;

/// Where the time comes from, so that tests own it.
pub type Clock = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;

/// The system's clock.
pub fn system_clock() -> Clock {
    Arc::new(OffsetDateTime::now_utc)
}

#[cfg(test)]
mod fakes;

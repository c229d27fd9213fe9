//! The gateway's own AWS identity, STS AssumeRole cut to one operation, and its cache.
//!
//! [`BaseIdentity`] finds what the gateway itself is; [`Lender`] turns that into a credential for one operation.
//! Nothing here opens a connection: requests go out by the [`Transport`] the gateway gives, which checks addresses.

mod answer;
mod attribution;
mod error;
mod flight;
mod identity;
mod lender;
mod policy;
mod sts;
mod transport;

pub use identity::{BaseCredential, BaseIdentity, IdentityError, LastLook};
pub use lender::{
    ConnectionConfig, ConnectionScope, LendError, LendRequest, Lender, Lent, MAX_CACHED, POLICY_WINDOW,
    StsEndpoint,
};
pub use policy::{PolicyError, PolicyExtras, Scope, SessionPolicy, session_policy};
pub use transport::Transport;

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

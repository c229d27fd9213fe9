//! The gateway's own AWS identity, and the credentials that it issues for single operations with STS AssumeRole.
//!
//! Begin with [`CredentialIssuer::issue_credential`]. It gets the gateway's own credential from [`GatewayIdentity`], compiles a
//! session policy from the decoded operation, calls STS, and caches the result.
//!
//! Promises: a credential permits exactly the required permissions of one operation, or, if its scope says so, the actions of one
//! operation or the role. Two requests that differ in any input never share a credential. No error text holds a secret. Nothing
//! here opens a connection: requests are sent with the [`HttpClient`](durward_core::HttpClient) that the gateway passes in, which
//! checks addresses.

mod attribution;
mod error;
mod error_text;
mod gateway_identity;
mod issuer;
mod session_policy;
mod single_flight;
mod sts;
mod sts_response;

pub use error::{IssueError, StsEndpointError};
pub use gateway_identity::{BaseCredential, GatewayIdentity, GatewayIdentityError, IdentityStatus};
pub use issuer::{
    ConnectionConfig, ConnectionScope, CredentialIssuer, CredentialRequest, IssuedCredential, StsEndpoint,
};
pub use session_policy::{SessionPolicyConditions, SessionPolicyError};
pub use sts_response::StsResponseError;

#[cfg(test)]
mod fakes;

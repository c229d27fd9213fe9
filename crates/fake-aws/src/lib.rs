//! A small AWS and an OIDC issuer that run in process, for the demo and for tests.
//!
//! [`aws::FakeAws`] is strict about what Durward promises: signatures, body hashes, session tokens and session policies.
//! [`oidc_issuer::FakeOidcIssuer`] issues a token for any subject without a password, so it listens on loopback only.
//! Neither is for use outside of tests and the demo. Begin with `FakeAws::start` and `FakeOidcIssuer::start`.

pub mod aws;
mod form;
pub mod oidc_issuer;
mod session_policy;

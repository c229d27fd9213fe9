//! The identity of callers: OIDC tokens are verified here, gateway credentials are sealed and opened here, and revoked sessions
//! are known here.
//!
//! Begin with [`TokenVerifier::verify`] (a provider's token becomes a [`VerifiedToken`]), [`SealKeys`] (a gateway credential
//! is issued and opened) and [`Revocations::check_session`]. [`relying_party`] is for programs that sign people in.
//!
//! Promises: no function turns an error into a caller, and there is no anonymous caller. Only this crate can make a
//! [`VerifiedToken`], so claims are never read from a token that has not been verified. Network, time and the path of the key
//! file come in through arguments.

mod discovery;
pub mod gateway_credential;
pub mod oidc;
pub mod relying_party;
pub mod revocations;

pub use discovery::{ProviderDocumentError, ProviderUrlError};
pub use durward_core::limits::CLOCK_LEEWAY;
pub use gateway_credential::{
    GatewayCredential, GatewayCredentialClaims, GatewayCredentialError, KeyFileError, OpenedCredential,
    SealKeys,
};
pub use oidc::{
    KeySetError, ProviderConfig, ProviderConfigError, SignatureAlgorithm, TokenError, TokenVerifier,
    VerifiedToken,
};
pub use revocations::{Revocation, RevocationTarget, Revocations, RevokeError, session_start_time};

//! Who asks: OIDC tokens are verified here, gateway credentials are sealed and opened here, and what was revoked is known here.
//!
//! No function of this room turns an error into a caller: what cannot be verified is an error that says why, and
//! there is no anonymous caller. Network, time and the key file come in through arguments.

pub mod gateway_credential;
pub mod oidc;
pub mod relying_party;
pub mod revocations;

pub use gateway_credential::{
    GatewayCredential, GatewayCredentialClaims, GatewayCredentialError, KeyFileError, OpenedCredential,
    SealKeys,
};
pub use oidc::{
    CLOCK_LEEWAY, FetchedDocument, ProviderConfig, ProviderConfigError, ProviderHttpClient,
    SignatureAlgorithm, TokenError, TokenVerifier, VerifiedToken,
};
pub use revocations::{Revocation, RevocationTarget, Revocations, RevokeError, session_start_time};

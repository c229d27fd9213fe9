//! Who asks: OIDC tokens are verified here, gateway credentials are sealed and opened here, and what was revoked is known here.
//!
//! No function of this room turns an error into a caller: what cannot be verified is an error that says why, and
//! there is no anonymous caller. Network, time and the key file come in through arguments.

pub mod gateway_credential;
pub mod oidc;
pub mod relying_party;
pub mod revocations;

pub use gateway_credential::{Claims, CredentialError, GatewayCredential, KeyFileError, Opened, SealKeys};
pub use oidc::{
    Algorithm, ConfigError, Fetch, Fetched, LEEWAY, ProviderConfig, TokenError, Verified, Verifier,
};
pub use revocations::{Revocation, Revocations, RevokeError, Revoked, began};

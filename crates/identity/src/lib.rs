//! Who asks: OIDC tokens are verified here and gateway credentials are sealed and opened here.
//!
//! No function of this room turns an error into a caller: what cannot be verified is an error that says why, and
//! there is no anonymous caller. Network, time and the key file come in through arguments.

pub mod gateway_credential;
pub mod oidc;

pub use gateway_credential::{Claims, CredentialError, GatewayCredential, KeyFileError, Opened, SealKeys};
pub use oidc::{Algorithm, ConfigError, Fetch, Fetched, ProviderConfig, TokenError, Verified, Verifier};

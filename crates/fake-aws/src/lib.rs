//! A small strict AWS and an OIDC issuer, for the demo and in-process tests.

pub mod aws;
mod session_policy;

pub mod oidc_issuer;

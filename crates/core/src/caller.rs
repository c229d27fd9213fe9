//! The authenticated principal.

use serde::{Deserialize, Serialize};

/// A verified identity. Only `durward-identity` creates one, from a token that it has verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The configured name of the identity provider that authenticated the caller (`[[identity.oidc]] name`).
    pub provider: String,
    /// `iss` of the token, byte for byte.
    pub issuer: String,
    /// `sub` of the token.
    pub subject: String,
    pub kind: CallerKind,
    /// The groups of the token's groups claim, sorted, without duplicates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// On whose behalf it acts: the subjects of the token's `act` chain (RFC 8693 section 4.1), nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub act: Vec<String>,
}

/// The kind of a caller: a person or a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallerKind {
    Human,
    Workload,
}

impl CallerKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Workload => "workload",
        }
    }
}

impl Caller {
    /// The Cedar entity id of the caller: `<provider>/<subject>`.
    pub fn id(&self) -> String {
        // A provider name has no slash (`check_provider_config` of durward-identity), so two different pairs never give one id.
        format!("{}/{}", self.provider, self.subject)
    }
}

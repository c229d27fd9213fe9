//! Who asks.

use serde::{Deserialize, Serialize};

/// A verified identity. Only `durward-identity` makes one, from a token it has verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The configured name of the identity provider that vouched for the caller (`[[identity.oidc]] name`).
    pub provider: String,
    /// `iss` of the token, byte for byte.
    pub issuer: String,
    /// `sub` of the token.
    pub subject: String,
    pub kind: CallerKind,
    /// Groups from the provider's groups claim, sorted, without duplicates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// On whose behalf: the subjects of the token's `act` chain (RFC 8693 section 4.1), nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub act: Vec<String>,
}

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
        format!("{}/{}", self.provider, self.subject)
    }
}

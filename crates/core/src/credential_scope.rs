//! The scope of an issued credential.

use serde::{Deserialize, Serialize};

/// The extent of the session policy of an issued credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CredentialScope {
    /// The actions of one operation on its resources.
    Operation,
    /// The actions of one operation on any resource: its resources are unknown, or do not fit into a session policy.
    Actions,
    /// Everything that the role may do: the connection is configured so.
    Session,
}

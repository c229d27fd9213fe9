//! The configured AWS connections, found by name or by the role ARN that a client requests.

use durward_core::{Refusal, RefusalReason};
use durward_credential::ConnectionConfig;

/// Before the name of a connection in a role ARN: for clients that must give an ARN and need not know the real one.
const NAMED_ROLE_PREFIX: &str = "arn:aws:iam::000000000000:role/";

/// All configured AWS connections.
#[derive(Debug)]
pub struct Connections(Vec<ConnectionConfig>);

impl Connections {
    pub fn new(connections: Vec<ConnectionConfig>) -> Self {
        Self(connections)
    }

    /// The connection of this name; a session may outlive the configuration of its connection.
    pub fn find(&self, name: &str) -> Result<&ConnectionConfig, Refusal> {
        self.named(name).ok_or_else(|| {
            Refusal::new(
                RefusalReason::AccessDenied,
                format!("the connection `{name}` is no longer configured; sign in again"),
            )
        })
    }

    pub fn named(&self, name: &str) -> Option<&ConnectionConfig> {
        self.0.iter().find(|connection| connection.name == name)
    }

    /// The connection that a role ARN names: by its own ARN, or as `arn:aws:iam::000000000000:role/<connection>`.
    pub fn for_role(&self, role_arn: &str) -> Option<&ConnectionConfig> {
        let name = role_arn.strip_prefix(NAMED_ROLE_PREFIX);
        self.0
            .iter()
            .find(|connection| connection.role_arn == role_arn || name == Some(connection.name.as_str()))
    }
}

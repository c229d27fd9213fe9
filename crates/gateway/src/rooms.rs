//! Everything the line needs, wired once at start.

use crate::transport::Transport;
use durward_approval::Approvals;
use durward_catalog::Catalog;
use durward_core::{Reason, Refusal};
use durward_credential::{ConnectionConfig, Lender};
use durward_identity::{SealKeys, Verifier};
use durward_journal::Journal;
use durward_masking::Masker;
use durward_policy::Policies;
use std::sync::Arc;
use std::time::Duration;

pub struct Rooms {
    pub catalog: &'static Catalog,
    pub policies: Arc<Policies>,
    pub journal: Journal,
    pub masker: Masker,
    pub lender: Lender,
    pub seal: SealKeys,
    pub verifier: Verifier,
    pub transport: Arc<Transport>,
    pub connections: Vec<ConnectionConfig>,
    pub approvals: Arc<Approvals>,
    /// How long a caller is held open while people are asked; also the time they have where policy names none.
    pub hold: Duration,
    /// Places for requests that wait for people.
    pub held: tokio::sync::Semaphore,
}

impl Rooms {
    pub fn connection(&self, name: &str) -> Result<&ConnectionConfig, Refusal> {
        self.connections.iter().find(|connection| connection.name == name).ok_or_else(|| {
            Refusal::new(
                Reason::AccessDenied,
                format!("the connection `{name}` is no longer configured; sign in again"),
            )
        })
    }

    /// The connection that a role ARN names: by its own ARN, or as `arn:aws:iam::000000000000:role/<connection>`.
    pub fn connection_for_role(&self, role_arn: &str) -> Option<&ConnectionConfig> {
        let by_name = role_arn.strip_prefix("arn:aws:iam::000000000000:role/");
        self.connections
            .iter()
            .find(|connection| connection.role_arn == role_arn || by_name == Some(connection.name.as_str()))
    }
}

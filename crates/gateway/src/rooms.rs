//! Everything the line needs, wired once at start.

use crate::line::Stored;
use crate::tags::TagReader;
use crate::transport::Transport;
use durward_approval::{Approvals, AskId, Novelty};
use durward_catalog::Catalog;
use durward_core::{Caller, Operation, Reason, Refusal, ResourceTags, Risk, RiskyTag, Surroundings, assess};
use durward_credential::{ConnectionConfig, Lender};
use durward_identity::{Revocations, SealKeys, Verifier};
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
    pub revocations: Revocations,
    pub transport: Arc<Transport>,
    pub connections: Vec<ConnectionConfig>,
    pub tags: TagReader,
    pub novelty: Novelty,
    /// Tags that make what is done to a resource riskier.
    pub risky_tags: Vec<RiskyTag>,
    pub approvals: Arc<Approvals>,
    /// Where people reach the console, if there is one and they can.
    pub console_url: Option<String>,
    /// How long a caller is held open while people are asked; also the time they have where policy names none.
    pub hold: Duration,
    /// Places for requests that wait for people.
    pub held: crate::held::Held,
    /// Answers to approved operations, for other attempts of the same call.
    pub stored: Stored,
}

impl Rooms {
    /// How risky an operation is for this caller.
    pub async fn risk(
        &self,
        caller: &Caller,
        operation: &Operation,
        tags: &ResourceTags,
    ) -> Result<Risk, Refusal> {
        let novel = self.novelty.is_new(caller, operation).await.map_err(|error| {
            Refusal::new(Reason::Internal, "the risk cannot be computed, so this was not sent").detail(error)
        })?;
        let unnamed = crate::tags::names_too_little(self.catalog, operation);
        Ok(assess(operation, Surroundings { novel, tags: Some(tags), unnamed, risky_tags: &self.risky_tags }))
    }

    /// The page on which people see an ask and answer it.
    pub fn ask_page(&self, ask: AskId) -> Option<String> {
        let console = self.console_url.as_ref()?;
        Some(format!("{}/asks/{ask}", console.trim_end_matches('/')))
    }

    /// An ask as a refusal names it.
    pub fn ask_name(&self, ask: AskId) -> String {
        match self.ask_page(ask) {
            Some(page) => format!("ask {ask} ({page})"),
            None => format!("ask {ask}"),
        }
    }

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

//! Everything the line needs, wired once at start.

use crate::pipeline::IdempotencyCache;
use crate::resource_tags::TagReader;
use crate::upstream_client::UpstreamClient;
use durward_approval::{ApprovalRequestId, Approvals, FirstSeen};
use durward_catalog::Catalog;
use durward_core::{
    Caller, Operation, Refusal, RefusalReason, ResourceTags, RiskAssessment, RiskContext, RiskyTag,
    assess_risk,
};
use durward_credential::{ConnectionConfig, CredentialIssuer};
use durward_identity::{Revocations, SealKeys, TokenVerifier};
use durward_journal::Journal;
use durward_masking::Masker;
use durward_policy::PolicyStore;
use std::sync::Arc;
use std::time::Duration;

pub struct GatewayServices {
    pub catalog: &'static Catalog,
    pub policies: Arc<PolicyStore>,
    pub journal: Journal,
    pub masker: Masker,
    pub credential_issuer: CredentialIssuer,
    pub seal_keys: SealKeys,
    pub token_verifier: TokenVerifier,
    pub revocations: Revocations,
    pub upstream_client: Arc<UpstreamClient>,
    pub connections: Vec<ConnectionConfig>,
    pub tag_reader: TagReader,
    pub first_seen: FirstSeen,
    /// Tags that make what is done to a resource riskier.
    pub risky_tags: Vec<RiskyTag>,
    pub approvals: Arc<Approvals>,
    /// Where people reach the console, if there is one and they can.
    pub console_url: Option<String>,
    /// How long a caller is held open while people are asked; also the time they have where policy names none.
    pub hold_timeout: Duration,
    /// Places for requests that wait for people.
    pub held_requests: crate::held_requests::HeldRequests,
    /// Answers to approved operations, for other attempts of the same call.
    pub response_cache: IdempotencyCache,
}

impl GatewayServices {
    /// How risky an operation is for this caller.
    pub async fn assess_operation_risk(
        &self,
        caller: &Caller,
        operation: &Operation,
        tags: &ResourceTags,
    ) -> Result<RiskAssessment, Refusal> {
        let novel = self.first_seen.is_new(caller, operation).await.map_err(|error| {
            Refusal::new(RefusalReason::Internal, "the risk cannot be computed, so this was not sent")
                .with_detail(error)
        })?;
        let unnamed = crate::resource_tags::has_unnamed_resource(self.catalog, operation);
        Ok(assess_risk(
            operation,
            RiskContext {
                is_first_seen: novel,
                resource_tags: Some(tags),
                has_unnamed_resource: unnamed,
                risky_tags: &self.risky_tags,
            },
        ))
    }

    /// The page on which people see an ask and answer it.
    pub fn approval_page_url(&self, ask: ApprovalRequestId) -> Option<String> {
        let console = self.console_url.as_ref()?;
        Some(format!("{}/asks/{ask}", console.trim_end_matches('/')))
    }

    /// An ask as a refusal names it.
    pub fn approval_request_label(&self, ask: ApprovalRequestId) -> String {
        match self.approval_page_url(ask) {
            Some(page) => format!("ask {ask} ({page})"),
            None => format!("ask {ask}"),
        }
    }

    pub fn find_connection(&self, name: &str) -> Result<&ConnectionConfig, Refusal> {
        self.connections.iter().find(|connection| connection.name == name).ok_or_else(|| {
            Refusal::new(
                RefusalReason::AccessDenied,
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

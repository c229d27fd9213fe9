//! Builds the gateway from the configuration: the parts that hold its state, the pipeline's services, the two front ends.

use crate::approval_journal::open_approvals;
use crate::config::{
    AwsConnectionConfig, Config, ConnectionScopeConfig, LabelConfig, OidcProviderConfig, TagSource,
};
use crate::preflight::OpenedConfiguration;
use crate::start_error::StartError;
use crate::url_origin::origin_of_url;
use durward_approval::{Approvals, FirstSeen, Store};
use durward_catalog::Catalog;
use durward_core::{Origin, limits};
use durward_credential::{
    ConnectionConfig, ConnectionScope, CredentialIssuer, GatewayIdentity, StsEndpoint, StsEndpointError,
};
use durward_gateway::aws_frontend::{AwsFrontEnd, AwsFrontEndOptions, AwsService, SignIn};
use durward_gateway::mcp_frontend::{McpFrontEnd, McpFrontEndOptions, McpFrontEndServices, McpService};
use durward_gateway::outbound_http_client::OutboundHttpClient;
use durward_gateway::pipeline::{ApprovalStep, ApprovalStepOptions, Authorizer, Pipeline, PipelineServices};
use durward_gateway::resource_tags::{ResourceLabel, TagReader, TagReaderOptions};
use durward_gateway::upstream_client::UpstreamClient;
use durward_gateway::{
    ApprovalLinks, AwsClient, Connections, MemoryBudget, RefusalRecorder, ResponseMasker, RiskAssessor,
};
use durward_identity::{Revocations, SealKeys, TokenVerifier};
use durward_journal::{Journal, JournalOptions};
use durward_policy::PolicyStore;
use std::path::Path;
use std::sync::Arc;

/// The metadata services of EC2, ECS and EKS (AWS SDKs and Tools Reference, "Container credential provider" and "IMDS
/// credential provider"). They are link-local, so the client for upstreams refuses them.
const METADATA_SERVICE_HOSTS: [&str; 5] =
    ["169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23"];

/// The parts of a gateway that hold its state. Tests look into a running gateway through them.
#[derive(Clone)]
pub struct GatewayParts {
    pub approvals: Arc<Approvals>,
    pub journal: Arc<Journal>,
    pub policies: Arc<PolicyStore>,
    pub revocations: Revocations,
    pub seal_keys: Arc<SealKeys>,
    pub token_verifier: Arc<TokenVerifier>,
}

impl GatewayParts {
    /// Opens the journal and the keys below `data_dir`, and what the store holds.
    pub async fn open(
        config: &Config,
        opened: &OpenedConfiguration,
        store: &Store,
    ) -> Result<Self, StartError> {
        let providers = config.identity.oidc.iter().map(OidcProviderConfig::caller_provider).collect();
        let http_client = Arc::new(OutboundHttpClient(opened.upstream_client.clone()));
        Ok(Self {
            seal_keys: Arc::new(SealKeys::load_or_create(&config.data_dir.join("keys").join("seal.key"))?),
            journal: Arc::new(open_journal(&config.data_dir.join("journal"))?),
            approvals: Arc::new(open_approvals(config, store.clone()).await?),
            revocations: Revocations::open(store.clone()).await?,
            policies: opened.policies.clone(),
            token_verifier: Arc::new(TokenVerifier::new(providers, http_client)?),
        })
    }
}

/// The front ends with the pipeline behind them.
pub struct FrontEndServices {
    pub aws: AwsService,
    pub mcp: McpService,
    pub approval_step: Arc<ApprovalStep>,
}

/// Builds the pipeline and plugs both front ends into it.
pub fn build_front_ends(
    config: &Config,
    opened: &OpenedConfiguration,
    parts: &GatewayParts,
    store: &Store,
    identity: Arc<GatewayIdentity>,
    console_url: Option<String>,
) -> FrontEndServices {
    let connections = Arc::new(Connections::new(aws_connections(config)));
    let aws_client = Arc::new(build_aws_client(opened, parts, identity, connections.clone()));
    let approval_links = ApprovalLinks::new(console_url);
    let pipeline_services =
        build_pipeline_services(config, parts, store, aws_client.clone(), approval_links.clone());
    let approval_step = pipeline_services.approval_step.clone();
    // One for both front ends: they share the memory of the process.
    let request_memory =
        MemoryBudget::new(limits::MAX_REQUEST_MEMORY_KIB, limits::MAX_REQUEST_KIB_PER_CALLER);
    let aws = AwsService {
        sign_in: SignIn::new(
            parts.token_verifier.clone(),
            parts.policies.clone(),
            parts.seal_keys.clone(),
            connections,
            parts.revocations.clone(),
            parts.journal.clone(),
            pipeline_services.refusal_recorder.clone(),
        ),
        pipeline: Pipeline::new(
            AwsFrontEnd::new(
                aws_options(config),
                parts.seal_keys.clone(),
                parts.policies.clone(),
                request_memory.clone(),
                aws_client,
            ),
            pipeline_services.clone(),
        ),
    };
    let mcp_front_end = McpFrontEnd::new(
        mcp_options(config, opened),
        McpFrontEndServices {
            token_verifier: parts.token_verifier.clone(),
            policies: parts.policies.clone(),
            seal_keys: parts.seal_keys.clone(),
            revocations: parts.revocations.clone(),
            request_memory,
            journal: parts.journal.clone(),
            upstream_client: opened.upstream_client.clone(),
            approval_links,
        },
    );
    let mcp = McpService { pipeline: Pipeline::new(mcp_front_end, pipeline_services) };
    FrontEndServices { aws, mcp, approval_step }
}

fn build_pipeline_services(
    config: &Config,
    parts: &GatewayParts,
    store: &Store,
    aws_client: Arc<AwsClient>,
    links: ApprovalLinks,
) -> PipelineServices {
    let catalog = Catalog::embedded();
    let response_masker = Arc::new(ResponseMasker::new(config.masking.masker(), parts.policies.clone()));
    let risk_assessor =
        RiskAssessor::new(catalog, FirstSeen::new(store.clone()), config.approval.risky_tags());
    let tag_reader = TagReader::new(aws_client.clone(), tag_reader_options(config));
    PipelineServices {
        revocations: parts.revocations.clone(),
        authorizer: Arc::new(Authorizer::new(parts.policies.clone(), tag_reader, risk_assessor)),
        approval_step: Arc::new(ApprovalStep::new(ApprovalStepOptions {
            approvals: parts.approvals.clone(),
            policies: parts.policies.clone(),
            journal: parts.journal.clone(),
            revocations: parts.revocations.clone(),
            response_masker: response_masker.clone(),
            links,
            hold_timeout: config.approval.hold,
        })),
        aws_client,
        response_masker,
        journal: parts.journal.clone(),
        refusal_recorder: RefusalRecorder::new(parts.journal.clone()),
    }
}

fn build_aws_client(
    opened: &OpenedConfiguration,
    parts: &GatewayParts,
    identity: Arc<GatewayIdentity>,
    connections: Arc<Connections>,
) -> AwsClient {
    let http_client = Arc::new(OutboundHttpClient(opened.upstream_client.clone()));
    let sts = sts_endpoint(opened.aws_emulator.clone());
    AwsClient::new(
        Catalog::embedded(),
        connections,
        CredentialIssuer::new(identity, http_client, sts),
        parts.journal.clone(),
        opened.upstream_client.clone(),
        opened.aws_emulator.clone(),
    )
}

fn open_journal(dir: &Path) -> Result<Journal, StartError> {
    let journal = Journal::open(dir, JournalOptions::default())?;
    if let Some(recovered) = journal.recovered_tail() {
        tracing::warn!(
            ?recovered,
            "an append that a crash interrupted was removed; it was never acknowledged"
        );
    }
    Ok(journal)
}

fn aws_options(config: &Config) -> AwsFrontEndOptions {
    let mut gateway_dns_names = config.listen.aws_hostnames.clone();
    // Some clients resolve every name below it to loopback (RFC 6761, section 6.3), so that `bucket.localhost` works.
    gateway_dns_names.push("localhost".to_owned());
    AwsFrontEndOptions { gateway_dns_names, uses_tls: config.listen.clients_use_tls() }
}

fn mcp_options(config: &Config, opened: &OpenedConfiguration) -> McpFrontEndOptions {
    McpFrontEndOptions {
        servers: opened.mcp_servers.clone(),
        token_issuers: config.identity.oidc.iter().map(|oidc| oidc.issuer.clone()).collect(),
        allowed_origins: config.listen.mcp_allowed_origins.clone(),
        public_url: config.listen.mcp_public_url.clone(),
        uses_tls: config.listen.clients_use_tls(),
    }
}

/// The gateway's own AWS identity from the default provider chain of the SDKs.
pub fn default_identity(upstream_client: Arc<UpstreamClient>) -> Result<GatewayIdentity, StartError> {
    let http_client = Arc::new(OutboundHttpClient(upstream_client));
    Ok(GatewayIdentity::from_provider_chain(http_client, metadata_http_client()?))
}

/// A client that reaches the metadata services. No other part of the gateway gets it: a request that a caller can influence
/// must not reach them (server-side request forgery).
fn metadata_http_client() -> Result<Arc<OutboundHttpClient>, StartError> {
    let mut trusted: Vec<Origin> = METADATA_SERVICE_HOSTS
        .map(|host| Origin { uses_tls: false, host: host.to_owned(), port: 80 })
        .to_vec();
    if let Ok(url) = std::env::var("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
        // EKS Pod Identity and other agents choose the address. It comes from the environment of the gateway, so no caller
        // controls it.
        trusted.push(origin_of_url(&url).map_err(StartError::ContainerCredentialsUrl)?);
    }
    let client = UpstreamClient::new(trusted).map_err(StartError::HttpClient)?;
    Ok(Arc::new(OutboundHttpClient(Arc::new(client))))
}

fn aws_connections(config: &Config) -> Vec<ConnectionConfig> {
    let connection = |connection: &AwsConnectionConfig| ConnectionConfig {
        scope: match connection.scope {
            ConnectionScopeConfig::Operation => ConnectionScope::Operation,
            ConnectionScopeConfig::Session => ConnectionScope::Session,
        },
        ..role_connection(connection, &connection.name, &connection.role_arn)
    };
    config.aws.connection.iter().map(connection).collect()
}

/// A role of a configured connection, with what holds for all of its roles.
fn role_connection(connection: &AwsConnectionConfig, name: &str, role_arn: &str) -> ConnectionConfig {
    let mut role = ConnectionConfig::new(name, role_arn, &connection.region);
    role.external_id.clone_from(&connection.external_id);
    let bucket_accounts = &mut role.policy_conditions.bucket_accounts;
    if connection.bucket_accounts.iter().any(|account| account == "*") {
        bucket_accounts.clear();
    } else {
        bucket_accounts.extend(connection.bucket_accounts.iter().cloned());
    }
    role
}

fn tag_reader_options(config: &Config) -> TagReaderOptions {
    let label =
        |label: &LabelConfig| ResourceLabel { arn_pattern: label.arn.clone(), tags: label.tags.clone() };
    let reader = |connection: &AwsConnectionConfig| {
        let role_arn = connection.tag_reader_role_arn.as_ref()?;
        // No configured name has a space, so caches and logs never confuse this connection with another one.
        let name = format!("{} tags", connection.name);
        Some((connection.name.clone(), role_connection(connection, &name, role_arn)))
    };
    TagReaderOptions {
        labels: config.aws.label.iter().map(label).collect(),
        reads_from_aws: config.aws.tags == TagSource::Live,
        reader_connections: config.aws.connection.iter().filter_map(reader).collect(),
    }
}

/// The STS endpoint of a region: the emulator, or AWS's regional endpoint from our tables.
fn sts_endpoint(emulator: Option<Origin>) -> StsEndpoint {
    Arc::new(move |region| {
        let url = if let Some(emulator) = &emulator {
            emulator.url()
        } else {
            let endpoint = Catalog::embedded()
                // From our own tables, never from a caller: a chosen endpoint could return any credential (CVE-2020-16250 of
                // HashiCorp Vault).
                .resolve_endpoint("sts", region)
                .ok_or_else(|| StsEndpointError::UnknownRegion(region.to_owned()))?;
            format!("https://{}", endpoint.host)
        };
        format!("{url}/").parse().map_err(|_error| StsEndpointError::InvalidUrl(url))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_of_the_roles_account_unless_the_configuration_says_more() {
        let role_arn = "arn:aws:iam::123456789012:role/agents";
        let accounts_with = |configured: &[&str]| {
            let connection = AwsConnectionConfig {
                name: "prod".to_owned(),
                role_arn: role_arn.to_owned(),
                external_id: None,
                scope: ConnectionScopeConfig::Operation,
                tag_reader_role_arn: None,
                bucket_accounts: configured.iter().map(|account| (*account).to_owned()).collect(),
                region: "us-east-1".to_owned(),
            };
            role_connection(&connection, "prod", role_arn).policy_conditions.bucket_accounts
        };
        assert_eq!(accounts_with(&[]), ["123456789012"]);
        assert_eq!(accounts_with(&["999999999999"]), ["123456789012", "999999999999"]);
        assert_eq!(accounts_with(&["999999999999", "*"]), [""; 0], "any account");
    }
}

//! The console behind its listener: its settings from the configuration, and the parts of the gateway that it reads.

use crate::bound_listener::BoundListener;
use crate::config::{Config, ConnectionScopeConfig, Diagnostics, OidcProviderConfig};
use crate::start_error::StartError;
use durward_approval::{ApprovalLimits, Approvals, Store, system_clock};
use durward_catalog::Catalog;
use durward_console::{
    ApiTokenProvider, AwsIdentity, AwsIdentityState, CliClient, ConnectionKind, ConnectionSummary, Console,
    ConsoleDependencies, ConsoleSettings, SignInProvider,
};
use durward_core::CallerKind;
use durward_credential::GatewayIdentity;
use durward_gateway::ConnectionCounter;
use durward_gateway::body::BoxBody;
use durward_gateway::listener::{HttpService, serve_listener};
use durward_gateway::outbound_http_client::OutboundHttpClient;
use durward_gateway::upstream_client::UpstreamClient;
use durward_identity::{ProviderConfig, Revocations};
use durward_notification::ChannelStatusReader;
use durward_policy::PolicyStore;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::watch;

/// The time for which a page waits for the look-up of the gateway's own identity. A user should not wait longer for the health
/// page.
const IDENTITY_LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
/// The time for which a failed look-up is reported before the next one begins: on a machine without an identity each of them runs
/// into the time limits of the metadata services.
const FAILED_LOOKUP_RETRY_DELAY: Duration = Duration::from_secs(10);

/// The parts of the gateway that the console reads and commands.
pub struct ConsoleParts {
    pub approvals: Arc<Approvals>,
    pub revocations: Revocations,
    pub store: Store,
    pub channels: ChannelStatusReader,
    pub policies: Arc<PolicyStore>,
    pub upstream_client: Arc<UpstreamClient>,
    /// `None` if the gateway has no AWS front end, and so needs no AWS identity.
    pub aws_identity: Option<Arc<GatewayIdentity>>,
}

/// The console with its listener, ready to serve.
pub struct ConsoleServer {
    console: Console,
    listener: BoundListener,
}

impl ConsoleServer {
    pub fn open(
        config: &Config,
        parts: ConsoleParts,
        sign_in_providers: Vec<SignInProvider>,
        listener: BoundListener,
    ) -> Result<Self, StartError> {
        let dependencies = ConsoleDependencies {
            approvals: parts.approvals,
            revocations: parts.revocations,
            store: parts.store,
            channels: parts.channels,
            policies: parts.policies,
            schema_source: Catalog::embedded(),
            http_client: Arc::new(OutboundHttpClient(parts.upstream_client)),
            aws_identity: parts
                .aws_identity
                .map(|identity| Arc::new(GatewayAwsIdentity(identity)) as Arc<dyn AwsIdentity>),
            clock: system_clock(),
        };
        let url = console_url(config, listener.address);
        let console = Console::new(dependencies, console_settings(config, url, sign_in_providers))?;
        Ok(Self { console, listener })
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.address
    }

    /// Serves until `stopped` turns true.
    pub async fn serve(
        self,
        tls: Option<tokio_rustls::TlsAcceptor>,
        counter: Arc<ConnectionCounter>,
        stopped: watch::Receiver<bool>,
    ) {
        let service = Arc::new(ConsoleService(self.console));
        serve_listener(self.listener.listener, tls, service, counter, stopped).await;
    }
}

/// The console as a service of the gateway's listener.
struct ConsoleService(Console);

impl HttpService for ConsoleService {
    async fn serve_request(&self, _source: SocketAddr, request: Request<Incoming>) -> Response<BoxBody> {
        self.0.respond(request).await.map(|body| body.map_err(Into::into).boxed_unsync())
    }
}

/// The gateway's own AWS identity, looked up when a page shows it.
struct GatewayAwsIdentity(Arc<GatewayIdentity>);

impl AwsIdentity for GatewayAwsIdentity {
    fn state(&self) -> Pin<Box<dyn Future<Output = AwsIdentityState> + Send + '_>> {
        let identity = self.0.clone();
        Box::pin(async move {
            let failed_recently = identity.status().is_some_and(|status| {
                status.outcome.is_err()
                    && OffsetDateTime::now_utc() - status.checked_at < FAILED_LOOKUP_RETRY_DELAY
            });
            if !failed_recently {
                let lookup_identity = identity.clone();
                // A task of its own: it goes on when the page stops waiting, and leaves its result in `status`.
                let lookup = tokio::spawn(async move { drop(lookup_identity.credential().await) });
                let _in_time = tokio::time::timeout(IDENTITY_LOOKUP_TIMEOUT, lookup).await;
            }
            match identity.status() {
                None => AwsIdentityState::Unresolved,
                Some(status) => match status.outcome {
                    Ok(source) => AwsIdentityState::Found {
                        source: source.to_owned(),
                        long_lived: status.is_long_lived,
                    },
                    Err(error) => {
                        AwsIdentityState::Missing { since: status.since, reason: error.to_string() }
                    }
                },
            }
        })
    }
}

/// The URL of the console: as configured, or that of its listener.
fn console_url(config: &Config, address: SocketAddr) -> String {
    let scheme = if config.listen.tls.is_some() { "https" } else { "http" };
    public_url(config).unwrap_or_else(|| format!("{scheme}://{address}"))
}

/// The URL to which a refusal can send the user behind a caller. A listener on all addresses of a machine has none.
pub fn caller_facing_url(config: &Config, address: SocketAddr) -> Option<String> {
    let is_reachable = public_url(config).is_some() || !address.ip().is_unspecified();
    is_reachable.then(|| console_url(config, address))
}

fn public_url(config: &Config) -> Option<String> {
    config.console.as_ref().and_then(|console| console.public_url.clone())
}

fn console_settings(config: &Config, url: String, sign_in_providers: Vec<SignInProvider>) -> ConsoleSettings {
    let console = config.console.as_ref();
    let users = config.identity.oidc.iter().filter(|oidc| oidc.allows_user_sign_in());
    ConsoleSettings {
        url,
        sign_in_providers,
        api_token_providers: users.map(api_token_provider).collect(),
        allowed_groups: console.map(|console| console.allowed_groups.clone()).unwrap_or_default(),
        revoke_groups: console.map(|console| console.revoke_groups.clone()).unwrap_or_default(),
        break_glass_group: config.approval.break_glass_group.clone(),
        max_grant_duration: ApprovalLimits::default().max_time_bound,
        connections: list_connections(config),
        policy_dir: config.policy.dir.clone(),
        journal_dir: config.data_dir.join("journal"),
        version: env!("CARGO_PKG_VERSION"),
    }
}

/// A provider as the admin API sees it: the issuer of tokens that it accepts from users.
fn api_token_provider(oidc: &OidcProviderConfig) -> ApiTokenProvider {
    let client_ids: Vec<String> = oidc.user_client_ids().cloned().collect();
    // An ID token has its client as audience (OpenID Connect Core, section 2), so clients and audiences are one list.
    let audiences = client_ids.iter().chain(&oidc.console_audience).cloned().collect();
    let cli_client = oidc.cli_client_id.as_ref().map(|client_id| CliClient {
        client_id: client_id.clone(),
        scopes: oidc.cli_scopes.clone().unwrap_or_else(|| {
            // For a refresh token (OpenID Connect Core, section 11): a command line must not need a browser every hour.
            oidc.console_scopes.iter().cloned().chain(["offline_access".to_owned()]).collect()
        }),
    });
    ApiTokenProvider {
        provider: ProviderConfig {
            groups_claim: oidc.groups_claim.clone(),
            kind: CallerKind::Human,
            ..ProviderConfig::new(&oidc.name, &oidc.issuer, audiences)
        },
        client_ids,
        audiences: oidc.console_audience.clone(),
        front_end_audiences: oidc.audience.clone(),
        cli_client,
    }
}

/// The providers with which users sign in to the console. Empty if the console does not listen.
pub fn open_sign_in_providers(config: &Config, findings: &mut Diagnostics) -> Vec<SignInProvider> {
    let mut providers = Vec::new();
    if config.console_address().is_none() {
        return providers;
    }
    for (index, oidc) in config.identity.oidc.iter().enumerate() {
        let Some(client_id) = &oidc.console_client_id else { continue };
        let key_path = format!("identity.oidc.{index}.console_client_secret_file");
        let file = oidc.console_client_secret_file.as_deref();
        providers.push(SignInProvider {
            provider: ProviderConfig {
                groups_claim: oidc.groups_claim.clone(),
                // The code flow of this client needs a browser with a user in front of it.
                kind: CallerKind::Human,
                ..ProviderConfig::new(&oidc.name, &oidc.issuer, vec![client_id.clone()])
            },
            client_id: client_id.clone(),
            client_secret: file.and_then(|file| findings.load_secret(&key_path, file)),
            scopes: oidc.console_scopes.clone(),
        });
    }
    providers
}

fn list_connections(config: &Config) -> Vec<ConnectionSummary> {
    let aws = config.aws.connection.iter().map(|connection| ConnectionSummary {
        name: connection.name.clone(),
        kind: ConnectionKind::AwsRole,
        target: connection.role_arn.clone(),
        description: match connection.scope {
            ConnectionScopeConfig::Operation => "credentials scoped to each operation".to_owned(),
            ConnectionScopeConfig::Session => "one credential per session, with the whole role".to_owned(),
        },
    });
    let mcp = config.mcp.server.iter().map(|server| ConnectionSummary {
        name: server.name.clone(),
        kind: ConnectionKind::McpServer,
        target: server.url.clone(),
        description: "Streamable HTTP".to_owned(),
    });
    aws.chain(mcp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_get_the_public_url_or_a_specific_address() {
        for (address, table, expected) in [
            ("127.0.0.1:8600", "", Some("http://127.0.0.1:8600")),
            (
                "127.0.0.1:8600",
                "[listen.tls]\ncertificate_file = \"c\"\nkey_file = \"k\"",
                Some("https://127.0.0.1:8600"),
            ),
            ("0.0.0.0:8600", "", None),
            ("[::]:8600", "", None),
            ("0.0.0.0:8600", "[console]\npublic_url = \"https://gw.example\"", Some("https://gw.example")),
        ] {
            let config: Config =
                toml::from_str(&format!("{table}\n[policy]\ndir = \"p\"\n[identity]\n")).unwrap();
            let url = caller_facing_url(&config, address.parse().unwrap());
            assert_eq!(url.as_deref(), expected, "{address} {table}");
        }
    }
}

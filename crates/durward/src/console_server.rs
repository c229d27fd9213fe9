//! Opens the console: its settings from the configuration, the rooms it reads, and its listener in front of it.

use crate::config::{Config, ConnectionScopeConfig, Diagnostics, OidcProviderConfig};
use crate::serve::parse_origin;
use durward_approval::{ApprovalLimits, Store, system_clock};
use durward_catalog::Catalog;
use durward_console::{
    ApiTokenProvider, AwsIdentity, AwsIdentityState, CliClient, ConnectionSummary, Console,
    ConsoleDependencies, ConsoleSettings, SignInProvider,
};
use durward_core::CallerKind;
use durward_credential::GatewayIdentity;
use durward_gateway::body::BoxBody;
use durward_gateway::gateway_services::GatewayServices;
use durward_gateway::listener::HttpService;
use durward_gateway::outbound_http_client::OutboundHttpClient;
use durward_identity::ProviderConfig;
use durward_notification::ChannelStatusReader;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::net::TcpListener;

/// The console with its listener.
pub struct ConsoleServer {
    console: Console,
    pub listener: TcpListener,
}

/// How long a page waits for the gateway's own identity to be looked for.
const IDENTITY_LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
/// After a look that found nothing, the next page looks again only this much later.
const FAILED_LOOKUP_RETRY_DELAY: Duration = Duration::from_secs(10);

/// The gateway's own identity, as the console asks for it.
struct GatewayAwsIdentity(Arc<GatewayIdentity>);

impl AwsIdentity for GatewayAwsIdentity {
    fn state(&self) -> Pin<Box<dyn Future<Output = AwsIdentityState> + Send + '_>> {
        let identity = self.0.clone();
        Box::pin(async move {
            let failed_lately = identity.status().is_some_and(|look| {
                look.outcome.is_err()
                    && OffsetDateTime::now_utc() - look.checked_at < FAILED_LOOKUP_RETRY_DELAY
            });
            if !failed_lately {
                let looking = identity.clone();
                // It goes on when nobody waits any more; whatever came of it, the last look knows.
                let look = tokio::spawn(async move { drop(looking.credential().await) });
                let _in_time = tokio::time::timeout(IDENTITY_LOOKUP_TIMEOUT, look).await;
            }
            match identity.status() {
                None => AwsIdentityState::Unresolved,
                Some(look) => match look.outcome {
                    Ok(source) => {
                        AwsIdentityState::Found { source: source.to_owned(), long_lived: look.is_long_lived }
                    }
                    Err(why) => AwsIdentityState::Missing { since: look.since, reason: why.to_string() },
                },
            }
        })
    }
}

/// What answers on the console's listener.
pub struct ConsoleService(Console);

impl HttpService for ConsoleService {
    async fn serve_request(&self, _source: SocketAddr, request: Request<Incoming>) -> Response<BoxBody> {
        self.0.respond(request).await.map(|body| body.map_err(Into::into).boxed_unsync())
    }
}

impl ConsoleServer {
    pub fn address(&self) -> Result<SocketAddr, String> {
        self.listener.local_addr().map_err(|error| error.to_string())
    }

    /// Serves until `stopped` turns true.
    pub async fn serve(
        self,
        tls: Option<tokio_rustls::TlsAcceptor>,
        stopped: tokio::sync::watch::Receiver<bool>,
    ) {
        durward_gateway::listener::serve_listener(
            self.listener,
            tls,
            Arc::new(ConsoleService(self.console)),
            stopped,
        )
        .await;
    }
}

/// The console's listener before the console is behind it.
pub struct ConsoleListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl ConsoleListener {
    fn console_url(&self, config: &Config) -> String {
        let scheme = if config.listen.tls.is_some() { "https" } else { "http" };
        let chosen = config.console.as_ref().and_then(|console| console.public_url.clone());
        chosen.unwrap_or_else(|| format!("{scheme}://{}", self.address))
    }

    /// Where a caller can send its person. An address that stands for all of a machine's is none.
    pub fn caller_facing_url(&self, config: &Config) -> Option<String> {
        let chosen = config.console.as_ref().is_some_and(|console| console.public_url.is_some());
        (chosen || !self.address.ip().is_unspecified()).then(|| self.console_url(config))
    }
}

/// Listens for the console, if the configuration opens it.
pub async fn bind_console(config: &Config) -> Result<Option<ConsoleListener>, String> {
    let Some(address) = config.console_address() else { return Ok(None) };
    let listener = TcpListener::bind(address).await.map_err(|error| {
        format!("cannot listen on {address}: {error}\n  hint: choose another address with [listen] console")
    })?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    Ok(Some(ConsoleListener { listener, address }))
}

/// The console on its listener.
pub fn open_console(
    config: &Config,
    rooms: &GatewayServices,
    store: Store,
    channels: ChannelStatusReader,
    sign_in: Vec<SignInProvider>,
    listening: ConsoleListener,
    identity: Option<Arc<GatewayIdentity>>,
) -> Result<ConsoleServer, String> {
    let handles = ConsoleDependencies {
        approvals: rooms.approvals.clone(),
        revocations: rooms.revocations.clone(),
        store,
        channels,
        policies: rooms.policies.clone(),
        schema_source: Catalog::embedded(),
        http_client: Arc::new(OutboundHttpClient(rooms.upstream_client.clone())),
        aws_identity: identity.map(|identity| Arc::new(GatewayAwsIdentity(identity)) as Arc<dyn AwsIdentity>),
        clock: system_clock(),
    };
    let settings = console_settings(config, listening.console_url(config), sign_in)?;
    let console = Console::new(handles, settings).map_err(|error| error.to_string())?;
    Ok(ConsoleServer { console, listener: listening.listener })
}

fn console_settings(
    config: &Config,
    url: String,
    sign_in: Vec<SignInProvider>,
) -> Result<ConsoleSettings, String> {
    let chosen = config.console.as_ref();
    let limits = ApprovalLimits::default();
    let data_dir = config.data_dir.clone().ok_or("`data_dir` is not set")?;
    Ok(ConsoleSettings {
        url,
        sign_in_providers: sign_in,
        api_token_providers: config
            .identity
            .oidc
            .iter()
            .filter(|oidc| oidc.allows_user_sign_in())
            .map(admin_api_users)
            .collect(),
        allowed_groups: chosen.map(|console| console.allowed_groups.clone()).unwrap_or_default(),
        revoke_groups: chosen.map(|console| console.revoke_groups.clone()).unwrap_or_default(),
        break_glass_group: config.approval.break_glass_group.clone(),
        max_grant_duration: limits.max_time_bound,
        connections: list_console_connections(config),
        policy_dir: config.policy.dir.clone(),
        journal_dir: data_dir.join("journal"),
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// Whose tokens of a provider the admin API takes.
fn admin_api_users(oidc: &OidcProviderConfig) -> ApiTokenProvider {
    let clients: Vec<String> = oidc.user_client_ids().cloned().collect();
    let audience = clients.iter().chain(&oidc.console_audience).cloned().collect();
    let command_line = oidc.cli_client_id.as_ref().map(|client_id| CliClient {
        client_id: client_id.clone(),
        scopes: oidc.cli_scopes.clone().unwrap_or_else(|| {
            oidc.console_scopes.iter().cloned().chain(["offline_access".to_owned()]).collect()
        }),
    });
    ApiTokenProvider {
        provider: ProviderConfig {
            groups_claim: oidc.groups_claim.clone(),
            kind: CallerKind::Human,
            ..ProviderConfig::new(&oidc.name, &oidc.issuer, audience)
        },
        client_ids: clients,
        audiences: oidc.console_audience.clone(),
        front_end_audiences: oidc.audience.clone(),
        cli_client: command_line,
    }
}

/// How people sign in to the console, if it is open.
pub fn open_sign_in_providers(config: &Config, findings: &mut Diagnostics) -> Vec<SignInProvider> {
    let mut providers = Vec::new();
    let is_open = config.console_address().is_some();
    for (index, oidc) in config.identity.oidc.iter().enumerate().filter(|_provider| is_open) {
        let Some(client_id) = &oidc.console_client_id else { continue };
        let place = format!("identity.oidc.{index}.console_client_secret_file");
        let file = oidc.console_client_secret_file.as_deref();
        providers.push(SignInProvider {
            provider: ProviderConfig {
                groups_claim: oidc.groups_claim.clone(),
                // Whoever comes by the code flow of this client sat before a browser.
                kind: CallerKind::Human,
                ..ProviderConfig::new(&oidc.name, &oidc.issuer, vec![client_id.clone()])
            },
            client_id: client_id.clone(),
            client_secret: file.and_then(|file| findings.load_secret(&place, file)),
            scopes: oidc.console_scopes.clone(),
        });
    }
    providers
}

fn list_console_connections(config: &Config) -> Vec<ConnectionSummary> {
    let aws = config.aws.connection.iter().map(|connection| ConnectionSummary {
        name: connection.name.clone(),
        kind: "AWS role",
        target: connection.role_arn.clone(),
        description: match connection.scope {
            ConnectionScopeConfig::Operation => "credentials cut to each operation".to_owned(),
            ConnectionScopeConfig::Session => "the role as it is, once per session".to_owned(),
        },
    });
    let mcp = config.mcp.server.iter().map(|server| ConnectionSummary {
        name: server.name.clone(),
        kind: "MCP server",
        target: server.url.clone(),
        description: "Streamable HTTP".to_owned(),
    });
    aws.chain(mcp).collect()
}

/// Whether a URL names this machine by a loopback address or as `localhost`.
pub fn is_loopback_url(url: &str) -> bool {
    parse_origin(url).is_ok_and(|origin| {
        origin.host == "localhost"
            || origin.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn callers_get_the_configured_url_or_a_specific_address() {
        for (listen, url, sent) in [
            ("127.0.0.1:0", "", Some("http://127.0.0.1:")),
            ("0.0.0.0:0", "", None),
            ("[::]:0", "", None),
            ("0.0.0.0:0", "[console]\npublic_url = \"https://gw.example\"", Some("https://gw.example")),
        ] {
            let text =
                format!("[listen]\nconsole = \"{listen}\"\n{url}\n[policy]\ndir = \"p\"\n[identity]\n");
            let config: Config = toml::from_str(&text).unwrap();
            // A machine without IPv6 has nothing to say of it.
            let Ok(Some(listening)) = bind_console(&config).await else { continue };
            let told = listening.caller_facing_url(&config);
            assert_eq!(told.is_some(), sent.is_some(), "{listen}");
            assert!(told.unwrap_or_default().starts_with(sent.unwrap_or_default()), "{listen}");
        }
    }
}

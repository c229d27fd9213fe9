//! `durward serve`: wires the rooms from the configuration and runs until it is told to stop.

use crate::approval_journal;
use crate::config::{self, Config, ConfigSource};
use crate::console_server;
use crate::notification_channels;
use crate::preflight::{self, OpenedConfiguration};
use crate::revocation_journal;
use durward_approval::FirstSeen;
use durward_catalog::Catalog;
use durward_credential::{
    ConnectionConfig, ConnectionScope, CredentialIssuer, GatewayIdentity, StsEndpoint, StsEndpointError,
};
use durward_gateway::aws_frontend::AwsFrontEnd;
use durward_gateway::gateway_services::GatewayServices;
use durward_gateway::listener::{self, FrontEndService};
use durward_gateway::mcp_frontend::{self, McpFrontEnd};
use durward_gateway::outbound_http_client::OutboundHttpClient;
use durward_gateway::pipeline::IdempotencyCache;
use durward_gateway::resource_tags::{ResourceLabel, TagReader, TagReaderOptions};
use durward_gateway::upstream_client::{UpstreamClient, UpstreamOrigin};
use durward_identity::{Revocations, SealKeys, TokenVerifier};
use durward_journal::{Journal, JournalOptions};
use durward_masking::Masker;
use durward_notification::ChannelStatusReader;
use http::Uri;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A gateway that listens. Dropping it does not stop it; [`Running::stop`] does.
pub struct RunningGateway {
    /// Where the AWS door is, if it is open.
    pub aws_address: Option<SocketAddr>,
    /// Where the MCP door is, if it is open.
    pub mcp_address: Option<SocketAddr>,
    /// Where the console is, if it is open.
    pub console_address: Option<SocketAddr>,
    pub is_tls: bool,
    stop_sender: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
    pub services: Arc<GatewayServices>,
}

impl RunningGateway {
    /// Waits until everything recorded so far is durable.
    pub async fn flush_journal(&self) -> Result<(), String> {
        self.services.journal.flush().await.map_err(|error| error.to_string())
    }

    /// Stops accepting and returns when the listener is closed.
    pub async fn stop(self) {
        self.stop_sender.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the listener ended badly");
        }
    }
}

/// Starts a gateway; `identity` overrides the standard chain of the gateway's own AWS identity (for the demo).
pub async fn start_gateway(
    config: Config,
    identity: Option<GatewayIdentity>,
) -> Result<RunningGateway, String> {
    let ready = OpenedConfiguration::from_config(&config, &ConfigSource::default(), Vec::new())?;
    start_preflighted(config, ready, identity).await
}

/// Starts a gateway from the text of a `durward.toml`. Relative paths in it are relative to `base_dir`.
///
/// Begin here to run a gateway inside a test or another program. Give port 0 to the addresses of `[listen]` and read the
/// real ones from [`RunningGateway`].
pub async fn start_gateway_from_text(
    text: &str,
    base_dir: &Path,
    identity: Option<GatewayIdentity>,
) -> Result<RunningGateway, String> {
    start_gateway(config::parse_config(text, base_dir)?, identity).await
}

async fn start_preflighted(
    config: Config,
    ready: OpenedConfiguration,
    identity: Option<GatewayIdentity>,
) -> Result<RunningGateway, String> {
    let OpenedConfiguration {
        aws_emulator: emulator,
        mcp_servers: servers,
        upstream_client: transport,
        policies,
        tls_acceptor: tls,
        channels,
        database,
        sign_in_providers: sign_in,
        warnings,
    } = ready;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let data_dir = config.data_dir.clone().ok_or("`data_dir` is not set")?;
    let providers = config.identity.oidc.iter().map(config::OidcProviderConfig::caller_provider).collect();
    let verifier = TokenVerifier::new(providers, Arc::new(OutboundHttpClient(transport.clone())))
        .map_err(|error| error.to_string())?;
    let seal = SealKeys::load_or_create(&data_dir.join("keys").join("seal.key"))
        .map_err(|error| error.to_string())?;
    let journal = Journal::open(&data_dir.join("journal"), JournalOptions::default())
        .map_err(|error| error.to_string())?;
    if let Some(recovered) = journal.recovered_tail() {
        tracing::warn!(
            ?recovered,
            "an append that a crash interrupted was cut off; it had been acknowledged to nobody"
        );
    }
    let outward = Arc::new(OutboundHttpClient(transport.clone()));
    let identity = match identity {
        Some(identity) => identity,
        None => GatewayIdentity::from_provider_chain(outward.clone(), metadata_http_client()?),
    };
    let identity = Arc::new(identity);
    let lender = CredentialIssuer::new(identity.clone(), outward, sts_endpoint(emulator.clone()));
    let is_tls = tls.is_some();
    let tags = TagReader::new(tag_options(&config, emulator.clone()));
    let aws_door = AwsFrontEnd::new(emulator, aws_host_names(&config), is_tls);
    let mcp_door = McpFrontEnd::new(mcp_frontend::McpFrontEndOptions {
        servers,
        token_issuers: config.identity.oidc.iter().map(|oidc| oidc.issuer.clone()).collect(),
        allowed_origins: config.listen.mcp_allowed_origins.clone(),
        public_url: config.listen.mcp_public_url.clone(),
        uses_tls: is_tls,
    });
    let store = Box::pin(approval_journal::open_store(database.as_ref(), &data_dir)).await?;
    let people = console_server::bind_console(&config).await?;
    let rooms = Arc::new(GatewayServices {
        catalog: Catalog::embedded(),
        policies: policies.clone(),
        journal,
        masker: Masker::default(),
        credential_issuer: lender,
        seal_keys: seal,
        token_verifier: verifier,
        revocations: Revocations::open(store.clone()).await.map_err(|error| error.to_string())?,
        upstream_client: transport,
        connections: aws_connections(&config),
        tag_reader: tags,
        first_seen: FirstSeen::new(store.clone()),
        risky_tags: config.approval.risky_tags(),
        approvals: Arc::new(approval_journal::open_approvals(&config, store.clone()).await?),
        console_url: people.as_ref().and_then(|people| people.caller_facing_url(&config)),
        hold_timeout: config.approval.hold,
        held_requests: durward_gateway::held_requests::HeldRequests::default(),
        response_cache: IdempotencyCache::default(),
    });
    let kept = rooms.clone();
    let aws = bind_listener(config.aws_address(), "aws").await?;
    let mcp = bind_listener(config.mcp_address(), "mcp").await?;
    let told = ChannelStatusReader::new(store.clone(), &channels);
    let notifier =
        notification_channels::build_notifier(&config, rooms.approvals.clone(), store.clone(), channels)?;
    let identity = aws.is_some().then_some(identity);
    let people = people
        .map(|people| console_server::open_console(&config, &rooms, store, told, sign_in, people, identity))
        .transpose()?;
    if people.is_none() && policies.current().has_approval_policies() {
        tracing::warn!(
            "policies ask people (@approval) and there is no console in which they could answer: what they ask about is \
             refused after its time; open one with [listen] console, see docs/console.md"
        );
    }
    let (stop, stopped) = watch::channel(false);
    let running = RunningGateway {
        aws_address: listener_address(aws.as_ref())?,
        mcp_address: listener_address(mcp.as_ref())?,
        console_address: people.as_ref().map(console_server::ConsoleServer::address).transpose()?,
        is_tls,
        stop_sender: stop,
        task: tokio::spawn(async move {
            let aws = serve_front_end(
                aws,
                tls.clone(),
                FrontEndService { front_end: Arc::new(aws_door), services: rooms.clone() },
                stopped.clone(),
            );
            let asks = approval_journal::journal_approval_changes(rooms.clone());
            let revoked = revocation_journal::journal_revocations(rooms.clone());
            let telling = notifier.run();
            let mcp = serve_front_end(
                mcp,
                tls.clone(),
                FrontEndService { front_end: Arc::new(mcp_door), services: rooms },
                stopped.clone(),
            );
            let people = async {
                if let Some(people) = people {
                    people.serve(tls, stopped).await;
                }
            };
            tokio::select! {
                _all = async { tokio::join!(aws, mcp, people) } => {}
                () = policies.watch_directory() => {}
                () = asks => tracing::error!("what happens to asks is no longer recorded"),
                () = revoked => tracing::error!("what is revoked is no longer recorded"),
                () = telling => tracing::error!("nobody is told of asks any more"),
            }
        }),
        services: kept,
    };
    Ok(running)
}

/// A door's listener, if the door is to be open.
async fn bind_listener(address: Option<SocketAddr>, key: &str) -> Result<Option<TcpListener>, String> {
    let Some(address) = address else { return Ok(None) };
    TcpListener::bind(address).await.map(Some).map_err(|error| {
        format!("cannot listen on {address}: {error}\n  hint: choose another address with [listen] {key}")
    })
}

fn listener_address(listener: Option<&TcpListener>) -> Result<Option<SocketAddr>, String> {
    listener.map(TcpListener::local_addr).transpose().map_err(|error| error.to_string())
}

/// Serves a door that has a listener; one without stays closed.
async fn serve_front_end<D>(
    listener: Option<TcpListener>,
    tls: Option<tokio_rustls::TlsAcceptor>,
    door: FrontEndService<D>,
    stopped: watch::Receiver<bool>,
) where
    FrontEndService<D>: listener::HttpService,
{
    if let Some(listener) = listener {
        listener::serve_listener(listener, tls, Arc::new(door), stopped).await;
    }
}

pub async fn run_until_signal(path: &Path) -> Result<(), String> {
    let (config, ready) = preflight::open_configuration_file(path)?;
    let mut running = start_preflighted(config, ready, None).await?;
    for (door, address) in [
        ("AWS door", running.aws_address),
        ("MCP door", running.mcp_address),
        ("console", running.console_address),
    ] {
        if let Some(address) = address {
            tracing::info!(%address, tls = running.is_tls, "the {door} is open");
        }
    }
    tokio::select! {
        () = wait_for_signal() => {}
        _ended = &mut running.task => return Err("a part of the gateway ended; the log says which".to_owned()),
    }
    tracing::info!("stopping");
    running.stop().await;
    Ok(())
}

pub async fn wait_for_signal() {
    let interrupt = tokio::signal::ctrl_c();
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _interrupted = interrupt => {}
                _terminated = terminate.recv() => {}
            }
        }
        Err(_unavailable) => {
            if let Err(error) = interrupt.await {
                tracing::error!(%error, "cannot wait for a signal");
            }
        }
    }
}

pub fn parse_origin(url: &str) -> Result<UpstreamOrigin, String> {
    let parsed: Uri = url.parse().map_err(|_error| format!("`{url}` is not a URL: write https://host"))?;
    UpstreamOrigin::from_url(&parsed)
        .ok_or_else(|| format!("`{url}` is not an http or https URL: write https://host"))
}

fn aws_connections(config: &Config) -> Vec<ConnectionConfig> {
    let connection = |connection: &config::AwsConnectionConfig| ConnectionConfig {
        external_id: connection.external_id.clone(),
        scope: match connection.scope {
            config::ConnectionScopeConfig::Operation => ConnectionScope::Operation,
            config::ConnectionScopeConfig::Session => ConnectionScope::Session,
        },
        ..ConnectionConfig::new(&connection.name, &connection.role_arn, &connection.region)
    };
    config.aws.connection.iter().map(connection).collect()
}

/// How the tags of resources are read.
fn tag_options(config: &Config, emulator: Option<UpstreamOrigin>) -> TagReaderOptions {
    let label = |label: &config::LabelConfig| ResourceLabel {
        arn_pattern: label.arn.clone(),
        tags: label.tags.clone(),
    };
    let reader = |connection: &config::AwsConnectionConfig| {
        let role = connection.tag_reader_role_arn.as_ref()?;
        let name = format!("{} tags", connection.name);
        let reader = ConnectionConfig {
            external_id: connection.external_id.clone(),
            ..ConnectionConfig::new(name, role, &connection.region)
        };
        Some((connection.name.clone(), reader))
    };
    TagReaderOptions {
        labels: config.aws.label.iter().map(label).collect(),
        reads_from_aws: config.aws.tags == config::TagSource::Live,
        emulator,
        reader_connections: config.aws.connection.iter().filter_map(reader).collect(),
    }
}

/// The STS endpoint of a region: the emulator, or AWS's regional one from our tables.
fn sts_endpoint(emulator: Option<UpstreamOrigin>) -> StsEndpoint {
    Arc::new(move |region| {
        let url = if let Some(emulator) = &emulator {
            emulator.url()
        } else {
            let endpoint = Catalog::embedded().resolve_endpoint("sts", region);
            format!(
                "https://{}",
                endpoint.ok_or_else(|| StsEndpointError::UnknownRegion(region.to_owned()))?.host
            )
        };
        format!("{url}/").parse().map_err(|_error| StsEndpointError::InvalidUrl(url))
    })
}

/// The way to the metadata services of EC2, ECS and EKS, whose link-local addresses nothing else may reach.
fn metadata_http_client() -> Result<Arc<OutboundHttpClient>, String> {
    let service = |host: &str| UpstreamOrigin { uses_tls: false, host: host.to_owned(), port: 80 };
    let mut trusted: Vec<UpstreamOrigin> =
        ["169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23"]
            .map(service)
            .to_vec();
    if let Ok(url) = std::env::var("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
        trusted.push(parse_origin(&url)?);
    }
    Ok(Arc::new(OutboundHttpClient(Arc::new(UpstreamClient::new(trusted)?))))
}

/// `localhost` always, so that `bucket.localhost` works for clients that resolve it.
fn aws_host_names(config: &Config) -> Vec<String> {
    let mut names = config.listen.aws_hostnames.clone();
    names.push("localhost".to_owned());
    names
}

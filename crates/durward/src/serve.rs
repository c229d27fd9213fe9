//! `durward serve`: starts a gateway from a configuration and runs it until a signal stops it.
//!
//! A gateway can also run inside another process. [`start_gateway_from_text`] and [`start_gateway`] return a
//! [`RunningGateway`], which says where it listens and stops it.

use crate::approval_journal::{journal_approval_changes, open_store};
use crate::bound_listener::BoundListener;
use crate::config::{self, Config, ConfigSource};
use crate::console_server::{ConsoleParts, ConsoleServer, caller_facing_url};
use crate::file_descriptors::{console_connections, front_end_connections, raise_descriptor_limit};
use crate::gateway_wiring::{self, FrontEndServices, GatewayParts};
use crate::notification_channels::build_notifier;
use crate::preflight::{self, OpenedConfiguration};
use crate::revocation_journal::journal_revocations;
use durward_approval::Store;
use durward_credential::GatewayIdentity;
use durward_gateway::ConnectionCounter;
use durward_gateway::listener::{HttpService, serve_listener};
use durward_gateway::pipeline::ApprovalStep;
use durward_journal::JournalError;
use durward_notification::{ChannelStatusReader, Notifier};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::state_directory::check_state_directory;

pub use crate::start_error::StartError;

/// A gateway that listens. Dropping it does not stop it; [`RunningGateway::stop`] does.
pub struct RunningGateway {
    /// The address of the AWS front end. `None` if it is not configured.
    pub aws_address: Option<SocketAddr>,
    /// The address of the MCP front end. `None` if it is not configured.
    pub mcp_address: Option<SocketAddr>,
    /// The address of the console and the admin API. `None` if they are not configured.
    pub console_address: Option<SocketAddr>,
    pub uses_tls: bool,
    /// The parts that hold the gateway's state, for tests that look inside a running gateway.
    pub parts: GatewayParts,
    /// Holds the requests that wait for approval. For tests as well.
    pub approval_step: Arc<ApprovalStep>,
    stop_sender: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl RunningGateway {
    /// Waits until every record so far is durable in the journal.
    pub async fn flush_journal(&self) -> Result<(), JournalError> {
        self.parts.journal.flush().await
    }

    /// Stops accepting connections. Returns when all listeners are closed.
    pub async fn stop(self) {
        self.stop_sender.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the gateway's task panicked");
        }
    }
}

/// Starts a gateway from the text of a `durward.toml`. Relative paths in it are relative to `base_dir`.
///
/// Give port 0 to the addresses of `[listen]`, and read the real addresses from the result. `identity` replaces the default
/// provider chain of the gateway's own AWS identity.
pub async fn start_gateway_from_text(
    text: &str,
    base_dir: &Path,
    identity: Option<GatewayIdentity>,
) -> Result<RunningGateway, StartError> {
    start_gateway(config::parse_config(text, base_dir)?, identity).await
}

/// Starts a gateway from a configuration that [`config::load_config`] or [`config::parse_config`] returned.
pub async fn start_gateway(
    config: Config,
    identity: Option<GatewayIdentity>,
) -> Result<RunningGateway, StartError> {
    let opened = OpenedConfiguration::from_config(&config, &ConfigSource::default(), Vec::new())?;
    start_opened(&config, opened, identity).await
}

/// Starts a gateway from a configuration file and runs it until SIGINT or SIGTERM.
pub async fn run_until_signal(path: &Path) -> Result<(), StartError> {
    let (config, opened) = preflight::open_configuration_file(path)?;
    let mut gateway = start_opened(&config, opened, None).await?;
    for (listener, address) in [
        ("AWS front end", gateway.aws_address),
        ("MCP front end", gateway.mcp_address),
        ("console", gateway.console_address),
    ] {
        if let Some(address) = address {
            tracing::info!(%address, tls = gateway.uses_tls, "the {listener} is listening");
        }
    }
    tokio::select! {
        () = wait_for_signal() => {}
        _ended = &mut gateway.task => return Err(StartError::PartStopped),
    }
    tracing::info!("stopping");
    gateway.stop().await;
    Ok(())
}

/// Waits for SIGINT or SIGTERM.
pub async fn wait_for_signal() {
    let interrupt = tokio::signal::ctrl_c();
    match signal(SignalKind::terminate()) {
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

async fn start_opened(
    config: &Config,
    mut opened: OpenedConfiguration,
    identity: Option<GatewayIdentity>,
) -> Result<RunningGateway, StartError> {
    for warning in &opened.warnings {
        tracing::warn!("{warning}");
    }
    check_state_directory(&config.data_dir)?;
    // Boxed: the future of a database connection is large, and would make this one as large.
    let store = Box::pin(open_store(opened.database.as_ref(), &config.data_dir)).await?;
    let identity = match identity {
        Some(identity) => Arc::new(identity),
        None => Arc::new(gateway_wiring::default_identity(opened.upstream_client.clone())?),
    };
    let parts = Box::pin(GatewayParts::open(config, &opened, &store)).await?;
    // Refusals name the console's address, so it is bound before the front ends are built.
    let console_listener = BoundListener::bind_configured(config.console_address(), "console").await?;
    let console_url =
        console_listener.as_ref().and_then(|listener| caller_facing_url(config, listener.address));
    let front_ends =
        gateway_wiring::build_front_ends(config, &opened, &parts, &store, identity.clone(), console_url);
    let listeners = Listeners {
        aws: BoundListener::bind_configured(config.aws_address(), "aws").await?,
        mcp: BoundListener::bind_configured(config.mcp_address(), "mcp").await?,
        tls: opened.tls_acceptor.clone(),
    };
    // A gateway in front of MCP servers alone needs no AWS identity: its health page must not report a missing one.
    let identity = listeners.aws.is_some().then_some(identity);
    let console = open_console(config, &mut opened, &parts, &store, identity, console_listener)?;
    let notifier = build_notifier(config, parts.approvals.clone(), store, opened.channels)?;
    if console.is_none() && parts.policies.current().has_approval_policies() {
        tracing::warn!(
            "a policy requires approval (@approval) but no console is open for approvers: such requests are refused when \
             they time out; open one with [listen] console, see docs/console.md"
        );
    }
    let (stop_sender, stopped) = watch::channel(false);
    Ok(RunningGateway {
        aws_address: listeners.aws.as_ref().map(|listener| listener.address),
        mcp_address: listeners.mcp.as_ref().map(|listener| listener.address),
        console_address: console.as_ref().map(ConsoleServer::address),
        uses_tls: listeners.tls.is_some(),
        parts: parts.clone(),
        approval_step: front_ends.approval_step.clone(),
        stop_sender,
        task: tokio::spawn(run_gateway(listeners, front_ends, console, notifier, parts, stopped)),
    })
}

fn open_console(
    config: &Config,
    opened: &mut OpenedConfiguration,
    parts: &GatewayParts,
    store: &Store,
    aws_identity: Option<Arc<GatewayIdentity>>,
    listener: Option<BoundListener>,
) -> Result<Option<ConsoleServer>, StartError> {
    let Some(listener) = listener else { return Ok(None) };
    let console_parts = ConsoleParts {
        approvals: parts.approvals.clone(),
        revocations: parts.revocations.clone(),
        store: store.clone(),
        channels: ChannelStatusReader::new(store.clone(), &opened.channels),
        policies: opened.policies.clone(),
        upstream_client: opened.upstream_client.clone(),
        aws_identity,
    };
    let sign_in_providers = std::mem::take(&mut opened.sign_in_providers);
    ConsoleServer::open(config, console_parts, sign_in_providers, listener).map(Some)
}

/// The listeners of the front ends. A front end without one is not served.
struct Listeners {
    aws: Option<BoundListener>,
    mcp: Option<BoundListener>,
    tls: Option<TlsAcceptor>,
}

/// Runs every part of the gateway until `stopped` turns true. If one part ends by itself, all end: without it, decisions would
/// no longer be recorded, approvers no longer be notified, or policies no longer be reloaded.
async fn run_gateway(
    listeners: Listeners,
    front_ends: FrontEndServices,
    console: Option<ConsoleServer>,
    notifier: Notifier,
    parts: GatewayParts,
    stopped: watch::Receiver<bool>,
) {
    let Listeners { aws, mcp, tls } = listeners;
    let descriptor_limit = raise_descriptor_limit();
    let counter = ConnectionCounter::new(front_end_connections(descriptor_limit));
    let aws = serve_front_end(aws, front_ends.aws, tls.clone(), counter.clone(), stopped.clone());
    let mcp = serve_front_end(mcp, front_ends.mcp, tls.clone(), counter, stopped.clone());
    let console = async {
        if let Some(console) = console {
            let counter = ConnectionCounter::new(console_connections(descriptor_limit));
            console.serve(tls, counter, stopped).await;
        }
    };
    tokio::select! {
        _all = async { tokio::join!(aws, mcp, console) } => {}
        () = parts.policies.clone().watch_directory() => tracing::error!("the policy watcher stopped"),
        () = journal_approval_changes(&parts.approvals, &parts.journal) => {
            tracing::error!("the approval journal stopped");
        }
        () = journal_revocations(&parts.revocations, &parts.journal) => {
            tracing::error!("the revocation journal stopped");
        }
        () = notifier.run() => tracing::error!("the notifier stopped"),
    }
}

async fn serve_front_end(
    listener: Option<BoundListener>,
    service: impl HttpService,
    tls: Option<TlsAcceptor>,
    counter: Arc<ConnectionCounter>,
    stopped: watch::Receiver<bool>,
) {
    if let Some(listener) = listener {
        serve_listener(listener.listener, tls, Arc::new(service), counter, stopped).await;
    }
}

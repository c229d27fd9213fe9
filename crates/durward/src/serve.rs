//! `durward serve`: wires the rooms from the configuration and runs until it is told to stop.

use crate::approvals;
use crate::config::{self, Config, Source};
use crate::console;
use crate::notifications;
use crate::ready::{self, Ready};
use crate::revocations;
use durward_approval::Novelty;
use durward_catalog::Catalog;
use durward_credential::{BaseIdentity, ConnectionConfig, ConnectionScope, Lender, StsEndpoint};
use durward_gateway::aws_door::AwsDoor;
use durward_gateway::line::Stored;
use durward_gateway::listen::{self, Open};
use durward_gateway::mcp_door::{self, McpDoor};
use durward_gateway::outward::Outward;
use durward_gateway::rooms::Rooms;
use durward_gateway::tags::{Label, TagOptions, TagReader};
use durward_gateway::transport::{Origin, Transport};
use durward_identity::{Revocations, SealKeys, Verifier};
use durward_journal::{Journal, Options};
use durward_masking::Masker;
use durward_notification::Channels;
use http::Uri;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A gateway that listens. Dropping it does not stop it; [`Running::stop`] does.
pub struct Running {
    /// Where the AWS door is, if it is open.
    pub aws: Option<SocketAddr>,
    /// Where the MCP door is, if it is open.
    pub mcp: Option<SocketAddr>,
    /// Where the console is, if it is open.
    pub console: Option<SocketAddr>,
    pub tls: bool,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
    pub rooms: Arc<Rooms>,
}

impl Running {
    /// Waits until everything recorded so far is durable.
    pub async fn flush(&self) -> Result<(), String> {
        self.rooms.journal.flush().await.map_err(|error| error.to_string())
    }

    /// Stops accepting and returns when the listener is closed.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the listener ended badly");
        }
    }
}

/// Starts a gateway; `identity` overrides the standard chain of the gateway's own AWS identity (for the demo).
pub async fn start(config: Config, identity: Option<BaseIdentity>) -> Result<Running, String> {
    let ready = Ready::of(&config, &Source::default(), Vec::new())?;
    start_with(config, ready, identity).await
}

async fn start_with(config: Config, ready: Ready, identity: Option<BaseIdentity>) -> Result<Running, String> {
    let Ready { emulator, servers, transport, policies, tls, channels, database, sign_in, warnings } = ready;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let data_dir = config.data_dir.clone().ok_or("`data_dir` is not set")?;
    let providers = config.identity.oidc.iter().map(config::Oidc::provider).collect();
    let verifier =
        Verifier::new(providers, Arc::new(Outward(transport.clone()))).map_err(|error| error.to_string())?;
    let seal = SealKeys::load_or_create(&data_dir.join("keys").join("seal.key"))
        .map_err(|error| error.to_string())?;
    let journal =
        Journal::open(&data_dir.join("journal"), Options::default()).map_err(|error| error.to_string())?;
    if let Some(recovered) = journal.recovered() {
        tracing::warn!(
            ?recovered,
            "an append that a crash interrupted was cut off; it had been acknowledged to nobody"
        );
    }
    let outward = Arc::new(Outward(transport.clone()));
    let identity = match identity {
        Some(identity) => identity,
        None => BaseIdentity::chain(outward.clone(), metadata()?),
    };
    let identity = Arc::new(identity);
    let lender = Lender::new(identity.clone(), outward, sts_endpoint(emulator.clone()));
    let is_tls = tls.is_some();
    let tags = TagReader::new(tag_options(&config, emulator.clone()));
    let aws_door = AwsDoor::new(emulator, names(&config), is_tls);
    let mcp_door = McpDoor::new(mcp_door::Options {
        servers,
        issuers: config.identity.oidc.iter().map(|oidc| oidc.issuer.clone()).collect(),
        origins: config.listen.mcp_origins.clone(),
        url: config.listen.mcp_url.clone(),
        tls: is_tls,
    });
    let store = Box::pin(approvals::store(database.as_ref(), &data_dir)).await?;
    let people = console::listen(&config).await?;
    let rooms = Arc::new(Rooms {
        catalog: Catalog::embedded(),
        policies: policies.clone(),
        journal,
        masker: Masker::default(),
        lender,
        seal,
        verifier,
        revocations: Revocations::open(store.clone()).await.map_err(|error| error.to_string())?,
        transport,
        connections: connections(&config),
        tags,
        novelty: Novelty::new(store.clone()),
        risky_tags: config.approval.risky_tags(),
        approvals: Arc::new(approvals::open(&config, store.clone()).await?),
        console_url: people.as_ref().and_then(|people| people.url_for_callers(&config)),
        hold: config.approval.hold,
        held: durward_gateway::held::Held::default(),
        stored: Stored::default(),
    });
    let kept = rooms.clone();
    let aws = listener(config.aws_address(), "aws").await?;
    let mcp = listener(config.mcp_address(), "mcp").await?;
    let told = Channels::new(store.clone(), &channels);
    let notifier = notifications::notifier(&config, rooms.approvals.clone(), store.clone(), channels)?;
    let identity = aws.is_some().then_some(identity);
    let people = people
        .map(|people| console::open(&config, &rooms, store, told, sign_in, people, identity))
        .transpose()?;
    if people.is_none() && policies.current().asks() {
        tracing::warn!(
            "policies ask people (@approval) and there is no console in which they could answer: what they ask about is \
             refused after its time; open one with [listen] console, see docs/console.md"
        );
    }
    let (stop, stopped) = watch::channel(false);
    let running = Running {
        aws: address(aws.as_ref())?,
        mcp: address(mcp.as_ref())?,
        console: people.as_ref().map(console::Door::address).transpose()?,
        tls: is_tls,
        stop,
        task: tokio::spawn(async move {
            let aws = open(
                aws,
                tls.clone(),
                Open { door: Arc::new(aws_door), rooms: rooms.clone() },
                stopped.clone(),
            );
            let asks = approvals::record_changes(rooms.clone());
            let revoked = revocations::record(rooms.clone());
            let telling = notifier.run();
            let mcp = open(mcp, tls.clone(), Open { door: Arc::new(mcp_door), rooms }, stopped.clone());
            let people = async {
                if let Some(people) = people {
                    people.serve(tls, stopped).await;
                }
            };
            tokio::select! {
                _all = async { tokio::join!(aws, mcp, people) } => {}
                () = policies.watch() => {}
                () = asks => tracing::error!("what happens to asks is no longer recorded"),
                () = revoked => tracing::error!("what is revoked is no longer recorded"),
                () = telling => tracing::error!("nobody is told of asks any more"),
            }
        }),
        rooms: kept,
    };
    Ok(running)
}

/// A door's listener, if the door is to be open.
async fn listener(address: Option<SocketAddr>, key: &str) -> Result<Option<TcpListener>, String> {
    let Some(address) = address else { return Ok(None) };
    TcpListener::bind(address).await.map(Some).map_err(|error| {
        format!("cannot listen on {address}: {error}\n  hint: choose another address with [listen] {key}")
    })
}

fn address(listener: Option<&TcpListener>) -> Result<Option<SocketAddr>, String> {
    listener.map(TcpListener::local_addr).transpose().map_err(|error| error.to_string())
}

/// Serves a door that has a listener; one without stays closed.
async fn open<D>(
    listener: Option<TcpListener>,
    tls: Option<tokio_rustls::TlsAcceptor>,
    door: Open<D>,
    stopped: watch::Receiver<bool>,
) where
    Open<D>: listen::Serve,
{
    if let Some(listener) = listener {
        listen::serve(listener, tls, Arc::new(door), stopped).await;
    }
}

pub async fn serve(path: &Path) -> Result<(), String> {
    let (config, ready) = ready::load(path)?;
    let mut running = start_with(config, ready, None).await?;
    for (door, address) in
        [("AWS door", running.aws), ("MCP door", running.mcp), ("console", running.console)]
    {
        if let Some(address) = address {
            tracing::info!(%address, tls = running.tls, "the {door} is open");
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

pub fn origin(url: &str) -> Result<Origin, String> {
    let parsed: Uri = url.parse().map_err(|_error| format!("`{url}` is not a URL: write https://host"))?;
    Origin::of(&parsed).ok_or_else(|| format!("`{url}` is not an http or https URL: write https://host"))
}

fn connections(config: &Config) -> Vec<ConnectionConfig> {
    let connection = |connection: &config::Connection| ConnectionConfig {
        external_id: connection.external_id.clone(),
        scope: match connection.scope {
            config::Scope::Operation => ConnectionScope::Operation,
            config::Scope::Session => ConnectionScope::Session,
        },
        ..ConnectionConfig::new(&connection.name, &connection.role_arn, &connection.region)
    };
    config.aws.connection.iter().map(connection).collect()
}

/// How the tags of resources are read.
fn tag_options(config: &Config, emulator: Option<Origin>) -> TagOptions {
    let label = |label: &config::Label| Label { arn: label.arn.clone(), tags: label.tags.clone() };
    let reader = |connection: &config::Connection| {
        let role = connection.tags_role_arn.as_ref()?;
        let name = format!("{} tags", connection.name);
        let reader = ConnectionConfig {
            external_id: connection.external_id.clone(),
            ..ConnectionConfig::new(name, role, &connection.region)
        };
        Some((connection.name.clone(), reader))
    };
    TagOptions {
        labels: config.aws.label.iter().map(label).collect(),
        live: config.aws.tags == config::TagSource::Live,
        emulator,
        readers: config.aws.connection.iter().filter_map(reader).collect(),
    }
}

/// The STS endpoint of a region: the emulator, or AWS's regional one from our tables.
fn sts_endpoint(emulator: Option<Origin>) -> StsEndpoint {
    Arc::new(move |region| {
        let url = if let Some(emulator) = &emulator {
            emulator.url()
        } else {
            let endpoint = Catalog::embedded().endpoint("sts", region);
            format!(
                "https://{}",
                endpoint.ok_or_else(|| format!("no STS endpoint is known in region `{region}`"))?.host
            )
        };
        format!("{url}/").parse().map_err(|_error| format!("`{url}` is not a URL"))
    })
}

/// The way to the metadata services of EC2, ECS and EKS, whose link-local addresses nothing else may reach.
fn metadata() -> Result<Arc<Outward>, String> {
    let service = |host: &str| Origin { tls: false, host: host.to_owned(), port: 80 };
    let mut trusted: Vec<Origin> =
        ["169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23"]
            .map(service)
            .to_vec();
    if let Ok(url) = std::env::var("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
        trusted.push(origin(&url)?);
    }
    Ok(Arc::new(Outward(Arc::new(Transport::new(trusted)?))))
}

/// `localhost` always, so that `bucket.localhost` works for clients that resolve it.
fn names(config: &Config) -> Vec<String> {
    let mut names = config.listen.aws_names.clone();
    names.push("localhost".to_owned());
    names
}

//! Opens the console: its settings from the configuration, the rooms it reads, and its listener in front of it.

use crate::config::{Config, Findings, Oidc, Scope};
use crate::serve::origin;
use durward_approval::{Limits, Store, system_clock};
use durward_catalog::Catalog;
use durward_console::{
    AwsIdentity, CommandLine, Connection, Console, Handles, IdentityState, People, Settings, SignInProvider,
};
use durward_core::CallerKind;
use durward_credential::{BaseIdentity, Transport as _};
use durward_gateway::body::Body;
use durward_gateway::listen::Serve;
use durward_gateway::outward::Outward;
use durward_gateway::rooms::Rooms;
use durward_identity::ProviderConfig;
use durward_notification::Channels;
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
pub struct Door {
    console: Console,
    pub listener: TcpListener,
}

/// The way out to token endpoints.
struct TokenEndpoint(Outward);

impl durward_console::Outward for TokenEndpoint {
    fn send(
        &self,
        request: Request<bytes::Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<bytes::Bytes>, String>> + Send + '_>> {
        self.0.send(request)
    }
}

/// How long a page waits for the gateway's own identity to be looked for.
const LOOK: Duration = Duration::from_secs(2);
/// After a look that found nothing, the next page looks again only this much later.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// The gateway's own identity, as the console asks for it.
struct Own(Arc<BaseIdentity>);

impl AwsIdentity for Own {
    fn state(&self) -> Pin<Box<dyn Future<Output = IdentityState> + Send + '_>> {
        let identity = self.0.clone();
        Box::pin(async move {
            let failed_lately = identity.last_look().is_some_and(|look| {
                look.outcome.is_err() && OffsetDateTime::now_utc() - look.at < LOOK_AGAIN
            });
            if !failed_lately {
                let looking = identity.clone();
                // It goes on when nobody waits any more; whatever came of it, the last look knows.
                let look = tokio::spawn(async move { drop(looking.credential().await) });
                let _in_time = tokio::time::timeout(LOOK, look).await;
            }
            match identity.last_look() {
                None => IdentityState::Looking,
                Some(look) => match look.outcome {
                    Ok(source) => {
                        IdentityState::Found { source: source.to_owned(), long_lived: look.long_lived }
                    }
                    Err(why) => IdentityState::Missing { since: look.since, why: why.to_string() },
                },
            }
        })
    }
}

/// What answers on the console's listener.
pub struct Served(Console);

impl Serve for Served {
    async fn serve(&self, _source: SocketAddr, request: Request<Incoming>) -> Response<Body> {
        self.0.respond(request).await.map(|body| body.map_err(Into::into).boxed_unsync())
    }
}

impl Door {
    pub fn address(&self) -> Result<SocketAddr, String> {
        self.listener.local_addr().map_err(|error| error.to_string())
    }

    /// Serves until `stopped` turns true.
    pub async fn serve(
        self,
        tls: Option<tokio_rustls::TlsAcceptor>,
        stopped: tokio::sync::watch::Receiver<bool>,
    ) {
        durward_gateway::listen::serve(self.listener, tls, Arc::new(Served(self.console)), stopped).await;
    }
}

/// The console's listener before the console is behind it.
pub struct Listening {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listening {
    fn url(&self, config: &Config) -> String {
        let scheme = if config.listen.tls.is_some() { "https" } else { "http" };
        let chosen = config.console.as_ref().and_then(|console| console.url.clone());
        chosen.unwrap_or_else(|| format!("{scheme}://{}", self.address))
    }

    /// Where a caller can send its person. An address that stands for all of a machine's is none.
    pub fn url_for_callers(&self, config: &Config) -> Option<String> {
        let chosen = config.console.as_ref().is_some_and(|console| console.url.is_some());
        (chosen || !self.address.ip().is_unspecified()).then(|| self.url(config))
    }
}

/// Listens for the console, if the configuration opens it.
pub async fn listen(config: &Config) -> Result<Option<Listening>, String> {
    let Some(address) = config.console_address() else { return Ok(None) };
    let listener = TcpListener::bind(address).await.map_err(|error| {
        format!("cannot listen on {address}: {error}\n  hint: choose another address with [listen] console")
    })?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    Ok(Some(Listening { listener, address }))
}

/// The console on its listener.
pub fn open(
    config: &Config,
    rooms: &Rooms,
    store: Store,
    channels: Channels,
    sign_in: Vec<SignInProvider>,
    listening: Listening,
    identity: Option<Arc<BaseIdentity>>,
) -> Result<Door, String> {
    let handles = Handles {
        approvals: rooms.approvals.clone(),
        revocations: rooms.revocations.clone(),
        store,
        channels,
        policies: rooms.policies.clone(),
        vocabulary: Catalog::embedded(),
        fetch: Arc::new(Outward(rooms.transport.clone())),
        outward: Arc::new(TokenEndpoint(Outward(rooms.transport.clone()))),
        aws_identity: identity.map(|identity| Arc::new(Own(identity)) as Arc<dyn AwsIdentity>),
        now: system_clock(),
    };
    let settings = settings(config, listening.url(config), sign_in)?;
    let console = Console::new(handles, settings).map_err(|error| error.to_string())?;
    Ok(Door { console, listener: listening.listener })
}

fn settings(config: &Config, url: String, sign_in: Vec<SignInProvider>) -> Result<Settings, String> {
    let chosen = config.console.as_ref();
    let limits = Limits::default();
    let data_dir = config.data_dir.clone().ok_or("`data_dir` is not set")?;
    Ok(Settings {
        url,
        sign_in,
        people: config.identity.oidc.iter().filter(|oidc| oidc.has_people()).map(people).collect(),
        groups: chosen.map(|console| console.groups.clone()).unwrap_or_default(),
        revoke_groups: chosen.map(|console| console.revoke_groups.clone()).unwrap_or_default(),
        break_glass_group: config.approval.break_glass_group.clone(),
        max_window: limits.max_window,
        connections: connections(config),
        policy_dir: config.policy.dir.clone(),
        journal_dir: data_dir.join("journal"),
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// Whose tokens of a provider the admin API takes.
fn people(oidc: &Oidc) -> People {
    let clients: Vec<String> = oidc.clients().cloned().collect();
    let audience = clients.iter().chain(&oidc.console_audience).cloned().collect();
    let command_line = oidc.cli_client_id.as_ref().map(|client_id| CommandLine {
        client_id: client_id.clone(),
        scopes: oidc.cli_scopes.clone().unwrap_or_else(|| {
            oidc.console_scopes.iter().cloned().chain(["offline_access".to_owned()]).collect()
        }),
    });
    People {
        provider: ProviderConfig {
            groups_claim: oidc.groups_claim.clone(),
            kind: CallerKind::Human,
            ..ProviderConfig::new(&oidc.name, &oidc.issuer, audience)
        },
        clients,
        audience: oidc.console_audience.clone(),
        doors: oidc.audience.clone(),
        command_line,
    }
}

/// How people sign in to the console, if it is open.
pub fn sign_in(config: &Config, findings: &mut Findings) -> Vec<SignInProvider> {
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
            client_secret: file.and_then(|file| findings.secret(&place, file)),
            scopes: oidc.console_scopes.clone(),
        });
    }
    providers
}

fn connections(config: &Config) -> Vec<Connection> {
    let aws = config.aws.connection.iter().map(|connection| Connection {
        name: connection.name.clone(),
        kind: "AWS role",
        target: connection.role_arn.clone(),
        note: match connection.scope {
            Scope::Operation => "credentials cut to each operation".to_owned(),
            Scope::Session => "the role as it is, once per session".to_owned(),
        },
    });
    let mcp = config.mcp.server.iter().map(|server| Connection {
        name: server.name.clone(),
        kind: "MCP server",
        target: server.url.clone(),
        note: "Streamable HTTP".to_owned(),
    });
    aws.chain(mcp).collect()
}

/// Whether a URL names this machine by a loopback address or as `localhost`.
pub fn is_loopback(url: &str) -> bool {
    origin(url).is_ok_and(|origin| {
        origin.host == "localhost"
            || origin.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn callers_are_sent_to_the_url_or_to_an_address_that_is_one() {
        for (listen, url, sent) in [
            ("127.0.0.1:0", "", Some("http://127.0.0.1:")),
            ("0.0.0.0:0", "", None),
            ("[::]:0", "", None),
            ("0.0.0.0:0", "[console]\nurl = \"https://gw.example\"", Some("https://gw.example")),
        ] {
            let text =
                format!("[listen]\nconsole = \"{listen}\"\n{url}\n[policy]\ndir = \"p\"\n[identity]\n");
            let config: Config = toml::from_str(&text).unwrap();
            // A machine without IPv6 has nothing to say of it.
            let Ok(Some(listening)) = super::listen(&config).await else { continue };
            let told = listening.url_for_callers(&config);
            assert_eq!(told.is_some(), sent.is_some(), "{listen}");
            assert!(told.unwrap_or_default().starts_with(sent.unwrap_or_default()), "{listen}");
        }
    }
}

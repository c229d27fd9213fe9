//! The people's side of the gateway: the console and the admin API.
//!
//! It reads, and it passes on what people decide; no request of a caller goes through here. Nobody gets further than the
//! sign-in page without a verified identity, a GET never changes anything, and whatever a caller could have written is
//! shown with its control and direction characters escaped.

mod api;
mod assets;
mod events;
mod guard;
mod oidc;
mod pages;
mod people;
mod recordings;
mod seal;
mod sessions;
#[cfg(test)]
mod tests;
mod text;
mod view;
mod windows;

use axum::{
    Router,
    body::Body,
    extract::DefaultBodyLimit,
    middleware,
    routing::{get, post},
};
use bytes::Bytes;
use durward_approval::{Approvals, Clock};
use durward_core::Secret;
use durward_identity::{ConfigError, Fetch, ProviderConfig, Revocations, Verifier};
use durward_notification::Channels;
use durward_policy::{Policies, Vocabulary};
use durward_store::Store;
use http::{Request, Response};
use std::{convert::Infallible, future::Future, path::PathBuf, pin::Pin, sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tower_service::Service as _;

/// Bytes of a form or of an answer in JSON.
const FORM: usize = 64 << 10;

/// The way out to the token endpoint of an identity provider: no redirects, verified TLS, a bound on size and time.
pub trait Outward: Send + Sync {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, String>> + Send + '_>>;
}

/// The gateway's own identity at AWS, as far as it is known: without one, nothing can be sent there.
pub trait AwsIdentity: Send + Sync {
    fn state(&self) -> Pin<Box<dyn Future<Output = IdentityState> + Send + '_>>;
}

/// How it stands with the gateway's own identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityState {
    /// `source`: where it was found. `long_lived`: it is an access key without an end.
    Found { source: String, long_lived: bool },
    /// Since when there is none, and what the last look for one said.
    Missing { since: OffsetDateTime, why: String },
    /// The look for one takes longer than anybody waits for a page.
    Looking,
}

/// One `[[identity.oidc]]` by which people sign in here.
#[derive(Debug, Clone)]
pub struct SignInProvider {
    /// As for the doors, except that its audience is the client id and that its callers are people.
    pub provider: ProviderConfig,
    pub client_id: String,
    pub client_secret: Option<Secret>,
    /// What is asked for beside `openid`.
    pub scopes: Vec<String>,
}

/// Whose tokens the admin API takes from one `[[identity.oidc]]`.
#[derive(Debug, Clone)]
pub struct People {
    /// Its audience is every client and audience below, and its callers are people.
    pub provider: ProviderConfig,
    /// Clients whose ID tokens are taken: the console's and the command line's.
    pub clients: Vec<String>,
    /// Audiences of other tokens that are taken. Only people may be able to get such a token.
    pub audience: Vec<String>,
    /// Audiences of the doors: whoever has a token for one of these may be an agent, whatever else it is for.
    pub doors: Vec<String>,
    /// How the command line signs people in, if it does.
    pub command_line: Option<CommandLine>,
}

/// The public client by which `durward login` signs people in.
#[derive(Debug, Clone)]
pub struct CommandLine {
    pub client_id: String,
    /// What is asked for beside `openid`.
    pub scopes: Vec<String>,
}

/// A configured upstream, for the page that lists them.
#[derive(Debug, Clone)]
pub struct Connection {
    pub name: String,
    /// `AWS role` or `MCP server`.
    pub kind: &'static str,
    /// The role's ARN or the server's URL.
    pub target: String,
    /// How far credentials are cut, or how the upstream is reached.
    pub note: String,
}

/// What the operator chose.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address people know the console by: scheme, host and port, no path.
    pub url: String,
    pub sign_in: Vec<SignInProvider>,
    /// Whose tokens the admin API takes.
    pub people: Vec<People>,
    /// Who may come in at all. Empty: everybody whom a provider vouches for.
    pub groups: Vec<String>,
    /// Who may revoke sessions. Empty: everybody who may come in, for a revocation only takes away.
    pub revoke_groups: Vec<String>,
    /// Who may go on at once, to be reviewed after.
    pub break_glass_group: Option<String>,
    /// The longest time for which an approval can be given as a window.
    pub max_window: Duration,
    pub connections: Vec<Connection>,
    pub policy_dir: PathBuf,
    pub journal_dir: PathBuf,
    pub version: &'static str,
}

/// The rooms that the console reads and commands.
pub struct Handles {
    pub approvals: Arc<Approvals>,
    pub revocations: Revocations,
    /// Where it is kept who is signed in.
    pub store: Store,
    /// The ways by which people are told of asks.
    pub channels: Channels,
    pub policies: Arc<Policies>,
    pub vocabulary: &'static dyn Vocabulary,
    pub fetch: Arc<dyn Fetch>,
    pub outward: Arc<dyn Outward>,
    /// None: no upstream is AWS.
    pub aws_identity: Option<Arc<dyn AwsIdentity>>,
    /// The time, so that tests own it.
    pub now: Clock,
}

/// Why the console cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    #[error(transparent)]
    Provider(#[from] ConfigError),
    #[error("console url `{0}`: write scheme, host and port only, as https://durward.example.com")]
    Url(String),
    #[error("no random key could be made")]
    Key,
}

pub(crate) struct Inner {
    settings: Settings,
    /// Scheme, host and port in one spelling.
    origin: guard::Origin,
    approvals: Arc<Approvals>,
    revocations: Revocations,
    policies: Arc<Policies>,
    vocabulary: &'static dyn Vocabulary,
    now: Clock,
    clients: Vec<oidc::Client>,
    outward: Arc<dyn Outward>,
    aws_identity: Option<Arc<dyn AwsIdentity>>,
    /// ID tokens of our own clients.
    sign_in: Verifier,
    /// Tokens for the admin API.
    people: Verifier,
    seal: seal::Seal,
    sessions: sessions::Sessions,
    channels: Channels,
    listeners: Arc<events::Listeners>,
    /// One reader of the journal at a time.
    reading: Arc<Semaphore>,
    assets: assets::Assets,
}

/// The console and the admin API.
#[derive(Clone)]
pub struct Console {
    router: Router,
}

impl Console {
    pub fn new(handles: Handles, settings: Settings) -> Result<Self, ConsoleError> {
        let Handles {
            approvals,
            revocations,
            store,
            channels,
            policies,
            vocabulary,
            fetch,
            outward,
            aws_identity,
            now,
        } = handles;
        let origin =
            guard::Origin::parse(&settings.url).ok_or_else(|| ConsoleError::Url(settings.url.clone()))?;
        let providers = settings.sign_in.iter().map(|one| one.provider.clone()).collect();
        let sign_in = Verifier::new(providers, fetch.clone())?;
        let people = settings.people.iter().map(|one| one.provider.clone()).collect();
        let people = Verifier::new(people, fetch.clone())?;
        let clients =
            settings.sign_in.iter().map(|one| oidc::Client::new(one.clone(), fetch.clone())).collect();
        let inner = Arc::new(Inner {
            origin,
            approvals,
            revocations,
            policies,
            vocabulary,
            now,
            clients,
            outward,
            aws_identity,
            sign_in,
            people,
            seal: seal::Seal::random().ok_or(ConsoleError::Key)?,
            sessions: sessions::Sessions::new(store),
            channels,
            listeners: Arc::default(),
            reading: Arc::new(Semaphore::new(1)),
            assets: assets::Assets::embedded(),
            settings,
        });
        Ok(Self { router: router(inner) })
    }

    /// Answers one request.
    pub async fn respond<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let answered: Result<Response<Body>, Infallible> =
            self.router.clone().call(request.map(Body::new)).await;
        answered.unwrap_or_else(|never| match never {})
    }
}

fn router(inner: Arc<Inner>) -> Router {
    let pages = Router::new()
        .route("/", get(pages::queue::queue))
        .route("/asks/{id}", get(pages::ask::show))
        .route("/asks/{id}/answer", post(pages::ask::answer))
        .route("/asks/{id}/parameters.json", get(pages::ask::parameters))
        .route("/sessions", get(pages::sessions::list))
        .route("/sessions/{id}", get(pages::sessions::show))
        .route("/sessions/{id}/revoke", post(pages::sessions::revoke))
        .route("/policies", get(pages::policies::list))
        .route("/connections", get(pages::connections))
        .route("/health", get(pages::health))
        .route("/events", get(pages::events))
        .route("/signin", get(pages::signin::choose))
        .route("/signin/start", get(pages::signin::start))
        .route("/signin/callback", get(pages::signin::callback))
        .route("/signout", post(pages::signin::sign_out))
        .route("/assets/{name}", get(assets::serve))
        .fallback(pages::not_found)
        .method_not_allowed_fallback(pages::wrong_method)
        .layer(middleware::from_fn_with_state(inner.clone(), guard::same_host));
    Router::new()
        .merge(api::routes())
        .merge(pages)
        .layer(DefaultBodyLimit::max(FORM))
        .layer(middleware::from_fn_with_state(inner.clone(), guard::headers))
        .with_state(inner)
}

//! The people's side of the gateway: the console and the admin API.
//!
//! It reads, and it passes on what people decide; no request of a caller goes through here. Nobody gets further than the
//! sign-in page without a verified identity, a GET never changes anything, and whatever a caller could have written is
//! shown with its control and direction characters escaped.

mod api;
mod approval_request_view;
mod assets;
mod cookie_sealing;
mod display_text;
mod event_stream;
mod history;
mod logins;
mod oidc_sign_in;
mod pages;
mod request_guard;
#[cfg(test)]
mod tests;
mod time_bound_grants;
mod users;

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
use durward_identity::{ProviderConfig, ProviderConfigError, Revocations, TokenVerifier};
use durward_notification::ChannelStatusReader;
use durward_policy::{PolicyStore, SchemaSource};
use durward_store::Store;
use http::{Request, Response};
use std::{convert::Infallible, future::Future, path::PathBuf, pin::Pin, sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tower_service::Service as _;

/// Bytes of a form or of an answer in JSON.
const MAX_FORM_BYTES: usize = 64 << 10;

/// The way out to the token endpoint of an identity provider: no redirects, verified TLS, a bound on size and time.
pub trait HttpClient: Send + Sync {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, String>> + Send + '_>>;
}

/// The gateway's own identity at AWS, as far as it is known: without one, nothing can be sent there.
pub trait AwsIdentity: Send + Sync {
    fn state(&self) -> Pin<Box<dyn Future<Output = AwsIdentityState> + Send + '_>>;
}

/// How it stands with the gateway's own identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AwsIdentityState {
    /// `source`: where it was found. `long_lived`: it is an access key without an end.
    Found { source: String, long_lived: bool },
    /// Since when there is none, and what the last look for one said.
    Missing { since: OffsetDateTime, reason: String },
    /// The look for one takes longer than anybody waits for a page.
    Unresolved,
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
pub struct ApiTokenProvider {
    /// Its audience is every client and audience below, and its callers are people.
    pub provider: ProviderConfig,
    /// Clients whose ID tokens are taken: the console's and the command line's.
    pub client_ids: Vec<String>,
    /// Audiences of other tokens that are taken. Only people may be able to get such a token.
    pub audiences: Vec<String>,
    /// Audiences of the doors: whoever has a token for one of these may be an agent, whatever else it is for.
    pub front_end_audiences: Vec<String>,
    /// How the command line signs people in, if it does.
    pub cli_client: Option<CliClient>,
}

/// The public client by which `durward login` signs people in.
#[derive(Debug, Clone)]
pub struct CliClient {
    pub client_id: String,
    /// What is asked for beside `openid`.
    pub scopes: Vec<String>,
}

/// A configured upstream, for the page that lists them.
#[derive(Debug, Clone)]
pub struct ConnectionSummary {
    pub name: String,
    /// `AWS role` or `MCP server`.
    pub kind: &'static str,
    /// The role's ARN or the server's URL.
    pub target: String,
    /// How far credentials are cut, or how the upstream is reached.
    pub description: String,
}

/// What the operator chose.
#[derive(Debug, Clone)]
pub struct ConsoleSettings {
    /// The address people know the console by: scheme, host and port, no path.
    pub url: String,
    pub sign_in_providers: Vec<SignInProvider>,
    /// Whose tokens the admin API takes.
    pub api_token_providers: Vec<ApiTokenProvider>,
    /// Who may come in at all. Empty: everybody whom a provider vouches for.
    pub allowed_groups: Vec<String>,
    /// Who may revoke sessions. Empty: everybody who may come in, for a revocation only takes away.
    pub revoke_groups: Vec<String>,
    /// Who may go on at once, to be reviewed after.
    pub break_glass_group: Option<String>,
    /// The longest time for which an approval can be given as a window.
    pub max_grant_duration: Duration,
    pub connections: Vec<ConnectionSummary>,
    pub policy_dir: PathBuf,
    pub journal_dir: PathBuf,
    pub version: &'static str,
}

/// The rooms that the console reads and commands.
pub struct ConsoleDependencies {
    pub approvals: Arc<Approvals>,
    pub revocations: Revocations,
    /// Where it is kept who is signed in.
    pub store: Store,
    /// The ways by which people are told of asks.
    pub channels: ChannelStatusReader,
    pub policies: Arc<PolicyStore>,
    pub schema_source: &'static dyn SchemaSource,
    pub discovery_client: Arc<dyn durward_core::HttpClient>,
    pub token_client: Arc<dyn HttpClient>,
    /// None: no upstream is AWS.
    pub aws_identity: Option<Arc<dyn AwsIdentity>>,
    /// The time, so that tests own it.
    pub clock: Clock,
}

/// Why the console cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    #[error(transparent)]
    Provider(#[from] ProviderConfigError),
    #[error("console url `{0}`: write scheme, host and port only, as https://durward.example.com")]
    Url(String),
    #[error("no random key could be made")]
    Key,
}

pub(crate) struct ConsoleState {
    settings: ConsoleSettings,
    /// Scheme, host and port in one spelling.
    origin: request_guard::ConsoleOrigin,
    approvals: Arc<Approvals>,
    revocations: Revocations,
    policies: Arc<PolicyStore>,
    schema_source: &'static dyn SchemaSource,
    clock: Clock,
    oidc_clients: Vec<oidc_sign_in::OidcClient>,
    token_client: Arc<dyn HttpClient>,
    aws_identity: Option<Arc<dyn AwsIdentity>>,
    /// ID tokens of our own clients.
    id_token_verifier: TokenVerifier,
    /// Tokens for the admin API.
    api_token_verifier: TokenVerifier,
    cookie_sealer: cookie_sealing::CookieSealer,
    logins: logins::LoginStore,
    channels: ChannelStatusReader,
    event_subscribers: Arc<event_stream::EventSubscribers>,
    /// One reader of the journal at a time.
    journal_read_limit: Arc<Semaphore>,
    assets: assets::StaticAssets,
}

/// The console and the admin API.
#[derive(Clone)]
pub struct Console {
    router: Router,
}

impl Console {
    pub fn new(handles: ConsoleDependencies, settings: ConsoleSettings) -> Result<Self, ConsoleError> {
        let ConsoleDependencies {
            approvals,
            revocations,
            store,
            channels,
            policies,
            schema_source: vocabulary,
            discovery_client: fetch,
            token_client: outward,
            aws_identity,
            clock: now,
        } = handles;
        let origin = request_guard::ConsoleOrigin::parse(&settings.url)
            .ok_or_else(|| ConsoleError::Url(settings.url.clone()))?;
        let providers = settings.sign_in_providers.iter().map(|one| one.provider.clone()).collect();
        let sign_in = TokenVerifier::new(providers, fetch.clone())?;
        let people = settings.api_token_providers.iter().map(|one| one.provider.clone()).collect();
        let people = TokenVerifier::new(people, fetch.clone())?;
        let clients = settings
            .sign_in_providers
            .iter()
            .map(|one| oidc_sign_in::OidcClient::new(one.clone(), fetch.clone()))
            .collect();
        let inner = Arc::new(ConsoleState {
            origin,
            approvals,
            revocations,
            policies,
            schema_source: vocabulary,
            clock: now,
            oidc_clients: clients,
            token_client: outward,
            aws_identity,
            id_token_verifier: sign_in,
            api_token_verifier: people,
            cookie_sealer: cookie_sealing::CookieSealer::with_random_key().ok_or(ConsoleError::Key)?,
            logins: logins::LoginStore::new(store),
            channels,
            event_subscribers: Arc::default(),
            journal_read_limit: Arc::new(Semaphore::new(1)),
            assets: assets::StaticAssets::embedded(),
            settings,
        });
        Ok(Self { router: build_router(inner) })
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

fn build_router(inner: Arc<ConsoleState>) -> Router {
    let pages = Router::new()
        .route("/", get(pages::approvals::show_approvals))
        .route("/approvals/{id}", get(pages::approval_request::show_approval_request))
        .route("/approvals/{id}/votes", post(pages::approval_request::cast_vote))
        .route("/approvals/{id}/parameters.json", get(pages::approval_request::download_parameters))
        .route("/sessions", get(pages::sessions::list_sessions))
        .route("/sessions/{id}", get(pages::sessions::show_session))
        .route("/sessions/{id}/revoke", post(pages::sessions::revoke_session))
        .route("/policies", get(pages::policies::show_policies))
        .route("/connections", get(pages::show_connections))
        .route("/health", get(pages::show_health))
        .route("/events", get(pages::stream_changes))
        .route("/signin", get(pages::sign_in::show_sign_in))
        .route("/signin/start", get(pages::sign_in::start_sign_in))
        .route("/signin/callback", get(pages::sign_in::handle_callback))
        .route("/signout", post(pages::sign_in::sign_out))
        .route("/assets/{name}", get(assets::serve_asset))
        .fallback(pages::not_found_page)
        .method_not_allowed_fallback(pages::method_not_allowed_page)
        .layer(middleware::from_fn_with_state(inner.clone(), request_guard::require_console_host));
    Router::new()
        .merge(api::routes())
        .merge(pages)
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .layer(middleware::from_fn_with_state(inner.clone(), request_guard::set_security_headers))
        .with_state(inner)
}

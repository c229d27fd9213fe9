//! The web console and the admin API: people vote on approval requests, revoke sessions and look at the gateway.
//!
//! The console reads state and passes on people's decisions; no caller's request goes through it. It promises:
//!
//! - Without a verified user there is no page but the sign-in page, and no API response but the error, the OpenAPI document
//!   and the list of sign-in providers.
//! - No GET changes anything, except that the callback of a sign-in creates the login. Link previews and scanners decide
//!   nothing.
//! - Text that a caller, an agent or an identity provider may have written is shown with its control and direction
//!   characters escaped.
//!
//! Begin with [`Console::new`]. Below it, `pages` and `api` are the two surfaces; both use `users` (identity and rights) and
//! `service` (actions); `html` and the views are only for the pages. Surfaces do not import each other.

mod api;
mod approval_request_list;
mod approval_request_view;
mod assets;
mod cookie_sealing;
mod cookies;
mod display_text;
mod eligibility;
mod event_stream;
mod finished_sign_ins;
mod health;
mod html;
mod logins;
mod oidc_client;
mod oidc_sign_in;
mod pages;
mod policy_files;
mod request_guard;
mod router;
mod service;
mod session_list;
mod session_view;
mod settings;
mod state;
mod template_filters;
#[cfg(test)]
mod tests;
mod time_bound_grants;
mod time_view;
mod users;

pub use settings::{
    ApiTokenProvider, AwsIdentity, AwsIdentityState, CliClient, ConnectionKind, ConnectionSummary,
    ConsoleSettings, SignInProvider,
};

use crate::{
    assets::StaticAssets, cookie_sealing::CookieSealer, finished_sign_ins::FinishedSignIns,
    logins::LoginStore, oidc_client::OidcClient, state::ConsoleState,
};
use axum::{Router, body::Body};
use bytes::Bytes;
use durward_approval::Approvals;
use durward_core::{HttpClient, OriginError, timestamps::Clock};
use durward_identity::{ProviderConfigError, Revocations, TokenVerifier};
use durward_notification::ChannelStatusReader;
use durward_policy::{PolicyStore, SchemaSource};
use durward_store::Store;
use http::{Request, Response};
use std::{convert::Infallible, sync::Arc};
use tokio::sync::Semaphore;
use tower_service::Service as _;

/// The services that the console reads and commands.
pub struct ConsoleDependencies {
    pub approvals: Arc<Approvals>,
    pub revocations: Revocations,
    /// Holds the console's logins.
    pub store: Store,
    /// The channels that notify approvers.
    pub channels: ChannelStatusReader,
    pub policies: Arc<PolicyStore>,
    pub schema_source: &'static dyn SchemaSource,
    /// Sends the console's requests to identity providers.
    pub http_client: Arc<dyn HttpClient>,
    /// `None`: no upstream is AWS.
    pub aws_identity: Option<Arc<dyn AwsIdentity>>,
    pub clock: Clock,
}

/// Why the console cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    #[error(transparent)]
    Provider(#[from] ProviderConfigError),
    #[error("console url: {0}")]
    Url(#[from] OriginError),
    #[error("the system's random number generator failed, so there is no key for sign-in cookies")]
    NoRandomness,
}

/// The console and the admin API.
#[derive(Clone)]
pub struct Console {
    router: Router,
}

impl Console {
    pub fn new(dependencies: ConsoleDependencies, settings: ConsoleSettings) -> Result<Self, ConsoleError> {
        let ConsoleDependencies {
            approvals,
            revocations,
            store,
            channels,
            policies,
            schema_source,
            http_client,
            aws_identity,
            clock,
        } = dependencies;
        let origin = settings.url.parse()?;
        let sign_in = settings.sign_in_providers.iter().map(|one| one.provider.clone()).collect();
        let api_tokens = settings.api_token_providers.iter().map(|one| one.provider.clone()).collect();
        let oidc_client = |provider: &SignInProvider| OidcClient::new(provider.clone(), http_client.clone());
        let state = Arc::new(ConsoleState {
            origin,
            approvals,
            revocations,
            policies,
            schema_source,
            clock,
            oidc_clients: settings.sign_in_providers.iter().map(oidc_client).collect(),
            aws_identity,
            id_token_verifier: TokenVerifier::new(sign_in, http_client.clone())?,
            api_token_verifier: TokenVerifier::new(api_tokens, http_client.clone())?,
            cookie_sealer: CookieSealer::with_random_key().ok_or(ConsoleError::NoRandomness)?,
            finished_sign_ins: FinishedSignIns::default(),
            logins: LoginStore::new(store),
            channels,
            event_subscribers: Arc::default(),
            journal_read_limit: Arc::new(Semaphore::new(1)),
            assets: StaticAssets::embedded(),
            settings,
        });
        Ok(Self { router: router::build_router(state) })
    }

    /// Handles one request.
    pub async fn respond<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let response: Result<Response<Body>, Infallible> =
            self.router.clone().call(request.map(Body::new)).await;
        response.unwrap_or_else(|never| match never {})
    }
}

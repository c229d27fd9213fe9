//! The state that every handler of the console shares. It holds services and settings, and no request data.

use crate::{
    assets::StaticAssets,
    cookie_sealing::CookieSealer,
    event_stream::EventSubscribers,
    finished_sign_ins::FinishedSignIns,
    logins::LoginStore,
    oidc_client::OidcClient,
    settings::{AwsIdentity, ConsoleSettings},
};
use durward_approval::Approvals;
use durward_core::{Origin, timestamps::Clock};
use durward_identity::{Revocations, TokenVerifier};
use durward_notification::ChannelStatusReader;
use durward_policy::{PolicyStore, SchemaSource};
use std::sync::Arc;
use tokio::sync::Semaphore;

pub struct ConsoleState {
    pub settings: ConsoleSettings,
    /// The console's own origin, from [`ConsoleSettings::url`].
    pub origin: Origin,
    pub approvals: Arc<Approvals>,
    pub revocations: Revocations,
    pub policies: Arc<PolicyStore>,
    pub schema_source: &'static dyn SchemaSource,
    pub clock: Clock,
    /// One client for each provider with which users sign in.
    pub oidc_clients: Vec<OidcClient>,
    pub aws_identity: Option<Arc<dyn AwsIdentity>>,
    /// Verifies the ID tokens of the console's own clients.
    pub id_token_verifier: TokenVerifier,
    /// Verifies the tokens of the admin API.
    pub api_token_verifier: TokenVerifier,
    pub cookie_sealer: CookieSealer,
    pub finished_sign_ins: FinishedSignIns,
    pub logins: LoginStore,
    pub channels: ChannelStatusReader,
    pub event_subscribers: Arc<EventSubscribers>,
    /// Permits one scan of the journal at a time: a scan reads the whole journal from disk.
    pub journal_read_limit: Arc<Semaphore>,
    pub assets: StaticAssets,
}

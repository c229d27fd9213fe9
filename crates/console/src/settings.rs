//! The operator's settings for the console, and the one fact that the gateway reports back: its own AWS identity.

use durward_core::Secret;
use durward_identity::ProviderConfig;
use std::{future::Future, path::PathBuf, pin::Pin, time::Duration};
use time::OffsetDateTime;

/// Reports which credential the gateway uses for its own AWS calls. Without one it cannot send anything to AWS.
pub trait AwsIdentity: Send + Sync {
    fn state(&self) -> Pin<Box<dyn Future<Output = AwsIdentityState> + Send + '_>>;
}

/// The state of the gateway's own AWS identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AwsIdentityState {
    /// `source` is the place of the credential in the provider chain; `long_lived` marks an access key that never expires.
    Found { source: String, long_lived: bool },
    /// No credential since this time, and why the last lookup failed.
    Missing { since: OffsetDateTime, reason: String },
    /// The lookup takes longer than a page waits for it.
    Unresolved,
}

/// One `[[identity.oidc]]` provider with which users sign in to the console.
#[derive(Debug, Clone)]
pub struct SignInProvider {
    /// As for the front ends, but with the client id as its audience, and its callers are people.
    pub provider: ProviderConfig,
    pub client_id: String,
    pub client_secret: Option<Secret>,
    /// Scopes to request in addition to `openid`.
    pub scopes: Vec<String>,
}

/// The tokens of one `[[identity.oidc]]` provider that the admin API accepts.
#[derive(Debug, Clone)]
pub struct ApiTokenProvider {
    /// Its audience is every client and audience below, and its callers are people.
    pub provider: ProviderConfig,
    /// Clients whose ID tokens are accepted: those of the console and of the command line.
    pub client_ids: Vec<String>,
    /// Audiences of other accepted tokens. Only people may be able to get such a token.
    pub audiences: Vec<String>,
    /// Audiences of the front ends. A token for one of them is refused, because an agent may hold it.
    pub front_end_audiences: Vec<String>,
    /// The client with which the command line signs users in, if it does.
    pub cli_client: Option<CliClient>,
}

/// The public OAuth client with which `durward login` signs users in.
#[derive(Debug, Clone)]
pub struct CliClient {
    pub client_id: String,
    /// Scopes to request in addition to `openid`.
    pub scopes: Vec<String>,
}

/// The kind of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionKind {
    AwsRole,
    McpServer,
}

impl ConnectionKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AwsRole => "AWS role",
            Self::McpServer => "MCP server",
        }
    }
}

/// A configured upstream, as the connections page lists it.
#[derive(Debug, Clone)]
pub struct ConnectionSummary {
    pub name: String,
    pub kind: ConnectionKind,
    /// The role's ARN or the server's URL.
    pub target: String,
    /// The scope of credentials, or the transport.
    pub description: String,
}

/// The console's settings.
#[derive(Debug, Clone)]
pub struct ConsoleSettings {
    /// The origin under which users reach the console: scheme, host and port, without a path.
    pub url: String,
    pub sign_in_providers: Vec<SignInProvider>,
    /// The tokens that the admin API accepts.
    pub api_token_providers: Vec<ApiTokenProvider>,
    /// The groups that may use the console. Empty: those that may revoke sessions or break glass, and the approvers in policies.
    pub allowed_groups: Vec<String>,
    /// The groups that may revoke sessions. Empty: every user of the console, because a revocation only takes access away.
    pub revoke_groups: Vec<String>,
    /// The group that may bypass the required approvers; each use is reviewed afterwards.
    pub break_glass_group: Option<String>,
    /// The longest time-bound grant that the console offers.
    pub max_grant_duration: Duration,
    pub connections: Vec<ConnectionSummary>,
    pub policy_dir: PathBuf,
    pub journal_dir: PathBuf,
    pub version: &'static str,
}

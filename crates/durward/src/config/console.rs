//! `[console]`: how users reach the console and which of them it admits.

use super::{Config, ConfigProblem, OidcProviderConfig, is_written_as_origin};
use crate::url_origin::is_confidential_url;
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsoleConfig {
    /// The address by which users reach it: scheme, host and port. By default the address on which it listens.
    pub public_url: Option<String>,
    /// The groups that it admits. By default those in `revoke_groups`, the break-glass group, and those that `@approval` names in
    /// policies.
    #[serde(default)]
    pub allowed_groups: Vec<String>,
    /// The groups that may revoke sessions. By default every admitted user, because a revocation only takes access away.
    #[serde(default)]
    pub revoke_groups: Vec<String>,
}

pub fn check_console(config: &Config, problems: &mut Vec<ConfigProblem>) {
    let Some(address) = config.console_address() else { return };
    if !config.identity.oidc.iter().any(OidcProviderConfig::allows_user_sign_in) {
        problems.push(ConfigProblem::new(
            if config.console.is_some() { "console" } else { "listen.console" },
            "no user could sign in: give an [[identity.oidc]] a console_client_id, or a cli_client_id for the command \
             line alone",
        ));
    }
    let url = config.console.as_ref().and_then(|console| console.public_url.as_deref());
    if let Some(url) = url {
        if !is_written_as_origin(url) {
            problems.push(ConfigProblem::new(
                "console.public_url",
                format!("`{url}` is not an origin: write scheme, host and port only, as https://durward.example.com"),
            ));
        // Browsers send the console's session cookie to this URL, and the sign-in comes back to it.
        } else if !is_confidential_url(url) {
            problems.push(ConfigProblem::new(
                "console.public_url",
                format!("`{url}`: sign-ins would travel unencrypted: write https:// and set [listen] tls, or put a proxy with TLS in front"),
            ));
        }
    // Links, the redirect URI of sign-ins and the origin check need the address that users type. Only on loopback it is that
    // of the listener.
    } else if !address.ip().is_loopback() {
        problems.push(ConfigProblem::new(
            "listen.console",
            format!("`{address}` is not loopback: name the address by which users reach it, as [console] public_url = \"https://durward.example.com\""),
        ));
    }
}

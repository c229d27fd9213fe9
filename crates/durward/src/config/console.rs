//! `[console]`: how people reach it and who may come in.

use super::{Config, ConfigProblem, OidcProviderConfig};
use crate::serve;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleConfig {
    /// The address people know it by: scheme, host and port. By default the one it listens on.
    pub public_url: Option<String>,
    /// Who may come in at all; by default everybody whom an identity provider vouches for.
    #[serde(default)]
    pub allowed_groups: Vec<String>,
    /// Who may revoke sessions; by default everybody who may come in, for a revocation only takes away.
    #[serde(default)]
    pub revoke_groups: Vec<String>,
}

pub fn check_console(config: &Config, problems: &mut Vec<ConfigProblem>) {
    let Some(address) = config.console_address() else { return };
    if !config.identity.oidc.iter().any(OidcProviderConfig::allows_user_sign_in) {
        problems.push(ConfigProblem::new(
            if config.console.is_some() { "console" } else { "listen.console" },
            "nobody could sign in: give an [[identity.oidc]] a console_client_id, or a cli_client_id for the command \
             line alone",
        ));
    }
    let url = config.console.as_ref().and_then(|console| console.public_url.as_deref());
    if let Some(url) = url {
        let bare = serve::parse_origin(url).is_ok_and(|known| known.url().eq_ignore_ascii_case(url));
        if !bare {
            problems.push(ConfigProblem::new(
                "console.public_url",
                format!("`{url}` is not the console's address: write scheme, host and port only, as https://durward.example.com"),
            ));
        } else if url.starts_with("http://") && !crate::console_server::is_loopback_url(url) {
            problems.push(ConfigProblem::new(
                "console.public_url",
                format!("`{url}`: sign-ins would travel in the clear: write https:// and set [listen] tls, or put a proxy with TLS before it"),
            ));
        }
    } else if !address.ip().is_loopback() {
        problems.push(ConfigProblem::new(
            "listen.console",
            format!("`{address}` is not loopback: say by which address people reach it, as [console] public_url = \"https://durward.example.com\""),
        ));
    }
}

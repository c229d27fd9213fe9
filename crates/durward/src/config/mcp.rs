//! `[[mcp.server]]`: the MCP servers behind the gateway.

use super::{Config, ConfigProblem, is_written_as_origin};
use crate::url_origin::origin_of_url;
use durward_core::is_loopback_host;
use durward_gateway::mcp_frontend::is_server_name;
use schemars::JsonSchema;
use serde::Deserialize;
use std::net::IpAddr;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct McpConfig {
    #[serde(default)]
    pub server: Vec<McpServerConfig>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct McpServerConfig {
    pub name: String,
    /// Its Streamable HTTP endpoint.
    pub url: String,
    /// The host name in `url` may resolve to a private or loopback address. An address or `localhost` in `url` needs no permission.
    #[serde(default)]
    pub allow_private_address: bool,
}

impl McpServerConfig {
    /// Returns true if this host, which is the one in the URL, may have an address of the gateway's machine or network: the operator
    /// wrote it so. Whoever controls the DNS of another name could lead calls of agents into the network (DNS rebinding).
    pub fn may_be_private(&self, host: &str) -> bool {
        self.allow_private_address || is_loopback_host(host) || host.parse::<IpAddr>().is_ok()
    }
}

pub fn check_mcp(config: &Config, problems: &mut Vec<ConfigProblem>) {
    for (index, server) in config.mcp.server.iter().enumerate() {
        if !is_server_name(&server.name) {
            problems.push(ConfigProblem::new(
                format!("mcp.server.{index}.name"),
                format!(
                    "`{}`: a server's name begins with a letter or digit and has only those, `-`, `_` and `.`",
                    server.name
                ),
            ));
        }
        if let Err(reason) = check_endpoint_url(&server.url) {
            problems.push(ConfigProblem::new(format!("mcp.server.{index}.url"), reason.to_string()));
        }
    }
    if let Some(url) = &config.listen.mcp_public_url
        && let Err(reason) = check_endpoint_url(url)
    {
        problems.push(ConfigProblem::new("listen.mcp_public_url", reason.to_string()));
    }
    for origin in &config.listen.mcp_allowed_origins {
        if !is_written_as_origin(origin) {
            problems.push(ConfigProblem::new(
                "listen.mcp_allowed_origins",
                format!("`{origin}` is not an origin: write scheme, host and port only, as https://app.example.com"),
            ));
        }
    }
}

/// The URL of an MCP endpoint may have a path. A password in it would reach logs, and a fragment is never sent.
fn check_endpoint_url(url: &str) -> Result<(), EndpointUrlError> {
    origin_of_url(url)?;
    if url.contains('#') || url.split('/').nth(2).is_some_and(|authority| authority.contains('@')) {
        return Err(EndpointUrlError::HasFragmentOrUser(url.to_owned()));
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum EndpointUrlError {
    #[error(transparent)]
    Origin(#[from] durward_core::OriginError),
    #[error("`{0}`: a URL here has no fragment, no user name and no password")]
    HasFragmentOrUser(String),
}

//! `[[mcp.server]]` and what `[listen]` says of the MCP door.

use super::{Config, ConfigProblem};
use crate::serve;
use durward_gateway::mcp_frontend::is_server_name;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct McpConfig {
    #[serde(default)]
    pub server: Vec<McpServerConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct McpServerConfig {
    pub name: String,
    /// Its Streamable HTTP endpoint.
    pub url: String,
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
        if let Err(why) = check_endpoint_url(&server.url) {
            problems.push(ConfigProblem::new(format!("mcp.server.{index}.url"), why));
        }
    }
    if let Some(url) = &config.listen.mcp_public_url
        && let Err(why) = check_endpoint_url(url)
    {
        problems.push(ConfigProblem::new("listen.mcp_public_url", why));
    }
    for origin in &config.listen.mcp_allowed_origins {
        let bare = serve::parse_origin(origin).is_ok_and(|known| known.url().eq_ignore_ascii_case(origin));
        if !bare {
            problems.push(ConfigProblem::new(
                "listen.mcp_allowed_origins",
                format!("`{origin}` is not an origin: write scheme, host and port only, as https://app.example.com"),
            ));
        }
    }
}

/// Where an MCP server is, as far as a URL may say it.
fn check_endpoint_url(url: &str) -> Result<(), String> {
    serve::parse_origin(url)?;
    if url.contains('#') || url.split('/').nth(2).is_some_and(|authority| authority.contains('@')) {
        return Err(format!("`{url}`: a URL here has no fragment and holds no user or password"));
    }
    Ok(())
}

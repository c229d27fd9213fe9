//! `[[mcp.server]]` and what `[listen]` says of the MCP door.

use super::{Config, Problem};
use crate::serve;
use durward_gateway::mcp_door::is_name;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mcp {
    #[serde(default)]
    pub server: Vec<McpServer>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct McpServer {
    pub name: String,
    /// Its Streamable HTTP endpoint.
    pub url: String,
}

pub fn check(config: &Config, problems: &mut Vec<Problem>) {
    for (index, server) in config.mcp.server.iter().enumerate() {
        if !is_name(&server.name) {
            problems.push(Problem::new(
                format!("mcp.server.{index}.name"),
                format!(
                    "`{}`: a server's name begins with a letter or digit and has only those, `-`, `_` and `.`",
                    server.name
                ),
            ));
        }
        if let Err(why) = endpoint(&server.url) {
            problems.push(Problem::new(format!("mcp.server.{index}.url"), why));
        }
    }
    if let Some(url) = &config.listen.mcp_url
        && let Err(why) = endpoint(url)
    {
        problems.push(Problem::new("listen.mcp_url", why));
    }
    for origin in &config.listen.mcp_origins {
        let bare = serve::origin(origin).is_ok_and(|known| known.url().eq_ignore_ascii_case(origin));
        if !bare {
            problems.push(Problem::new(
                "listen.mcp_origins",
                format!("`{origin}` is not an origin: write scheme, host and port only, as https://app.example.com"),
            ));
        }
    }
}

/// Where an MCP server is, as far as a URL may say it.
fn endpoint(url: &str) -> Result<(), String> {
    serve::origin(url)?;
    if url.contains('#') || url.split('/').nth(2).is_some_and(|authority| authority.contains('@')) {
        return Err(format!("`{url}`: a URL here has no fragment and holds no user or password"));
    }
    Ok(())
}

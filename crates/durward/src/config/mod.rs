//! `durward.toml`: one file, unknown keys are errors, and every error names file, line, key and the fix.

mod approval;
mod aws;
mod console;
mod diagnostics;
mod identity;
mod mcp;
mod notify;
mod state;
#[cfg(test)]
mod tests;

pub use approval::ApprovalConfig;
pub use aws::{AwsConfig, AwsConnectionConfig, ConnectionScopeConfig, LabelConfig, TagSource};
pub use console::ConsoleConfig;
pub use diagnostics::{ConfigProblem, ConfigSource, Diagnostics};
pub use identity::{IdentityConfig, OidcProviderConfig, ProviderCallerKind};
pub use mcp::{McpConfig, McpServerConfig};
pub use notify::NotifyConfig;
pub use state::{PostgresConfig, StateConfig};

use durward_core::env_vars;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Keys and the journal. Relative paths here and below are relative to the configuration file.
    pub data_dir: Option<PathBuf>,
    #[serde(default)]
    pub listen: ListenConfig,
    pub policy: PolicyConfig,
    pub identity: IdentityConfig,
    #[serde(default)]
    pub approval: ApprovalConfig,
    /// The console is open if this or its address is there.
    pub console: Option<ConsoleConfig>,
    #[serde(default)]
    pub aws: AwsConfig,
    #[serde(default)]
    pub mcp: McpConfig,
    #[serde(default)]
    pub notify: NotifyConfig,
    #[serde(default)]
    pub state: StateConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenConfig {
    pub aws: Option<SocketAddr>,
    /// The gateway's own DNS names, for virtual-host-style buckets below them.
    #[serde(default)]
    pub aws_hostnames: Vec<String>,
    pub mcp: Option<SocketAddr>,
    /// The URL clients know the MCP door by, where that is not what they send as `Host`: behind a proxy.
    pub mcp_public_url: Option<String>,
    /// Web pages that may talk to the MCP door.
    #[serde(default)]
    pub mcp_allowed_origins: Vec<String>,
    /// The console and the admin API.
    pub console: Option<SocketAddr>,
    pub tls: Option<TlsConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file with the certificate chain, leaf first.
    pub certificate_file: PathBuf,
    /// PEM file with the private key.
    pub key_file: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    pub dir: PathBuf,
}

impl Config {
    /// Where the AWS door listens, if it is open: wherever something is configured behind it.
    pub fn aws_address(&self) -> Option<SocketAddr> {
        listen_address(self.listen.aws, !self.aws.connection.is_empty(), env_vars::DEFAULT_AWS_LISTEN_ADDRESS)
    }

    /// Where the MCP door listens, if it is open.
    pub fn mcp_address(&self) -> Option<SocketAddr> {
        listen_address(self.listen.mcp, !self.mcp.server.is_empty(), env_vars::DEFAULT_MCP_LISTEN_ADDRESS)
    }

    /// Where the console listens, if it is open.
    pub fn console_address(&self) -> Option<SocketAddr> {
        listen_address(self.listen.console, self.console.is_some(), env_vars::DEFAULT_CONSOLE_LISTEN_ADDRESS)
    }
}

fn listen_address(chosen: Option<SocketAddr>, wanted: bool, default: &str) -> Option<SocketAddr> {
    chosen.or_else(|| wanted.then(|| default.parse().expect("our own default addresses are addresses")))
}

/// Reads a configuration file and checks what it says, without a look at what it names. The error text is for people: one
/// problem a line.
pub fn load_config(path: &Path) -> Result<Config, String> {
    let (config, source, problems) = read_config(path)?;
    if problems.is_empty() { Ok(config) } else { Err(source.format_problems(&problems)) }
}

/// Reads a configuration file, and says what is wrong with what it says.
pub fn read_config(path: &Path) -> Result<(Config, ConfigSource, Vec<ConfigProblem>), String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        format!("{shown}: cannot be read: {error}\n  hint: name the file with --config or DURWARD_CONFIG")
    })?;
    let base = path.parent().unwrap_or_else(|| Path::new("."));
    let config = resolve_config(&text, base).map_err(|error| format!("{shown}: {error}"))?;
    let problems = check_config(&config);
    Ok((config, ConfigSource { path: path.to_owned(), text }, problems))
}

/// Reads a configuration from its text and checks it. Relative paths are relative to `base`.
pub fn parse_config(text: &str, base: &Path) -> Result<Config, String> {
    let config = resolve_config(text, base)?;
    let problems = check_config(&config);
    if problems.is_empty() {
        return Ok(config);
    }
    Err(ConfigSource { path: PathBuf::new(), text: text.to_owned() }.format_problems(&problems))
}

/// Parses the text and resolves its paths.
fn resolve_config(text: &str, base: &Path) -> Result<Config, String> {
    let mut config: Config = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
    config.policy.dir = base.join(&config.policy.dir);
    config.data_dir = Some(match config.data_dir.take() {
        Some(dir) => base.join(dir),
        None => default_data_dir().ok_or("`data_dir` is not set and there is no HOME to put it in")?,
    });
    if let Some(tls) = &mut config.listen.tls {
        tls.certificate_file = base.join(&tls.certificate_file);
        tls.key_file = base.join(&tls.key_file);
    }
    config.aws.resolve_paths(base);
    config.identity.resolve_paths(base);
    config.notify.resolve_paths(base);
    config.state.resolve_paths(base);
    Ok(config)
}

fn check_config(config: &Config) -> Vec<ConfigProblem> {
    let mut problems = Vec::new();
    check_addresses(config, &mut problems);
    config.approval.check(&mut problems);
    config.state.check(&mut problems);
    config.identity.check(&mut problems);
    if config.aws.connection.is_empty() && config.mcp.server.is_empty() {
        problems.push(ConfigProblem::new(
            "aws.connection",
            "no connection: add an [[aws.connection]] with name and role_arn, or an [[mcp.server]] with name and url",
        ));
    }
    config.aws.check(&mut problems);
    mcp::check_mcp(config, &mut problems);
    console::check_console(config, &mut problems);
    notify::check_notify(config, &mut problems);
    let connections = config.aws.connection.iter().enumerate();
    let connections = connections.map(|(index, one)| (format!("aws.connection.{index}.name"), &one.name));
    let servers = config.mcp.server.iter().enumerate();
    let servers = servers.map(|(index, one)| (format!("mcp.server.{index}.name"), &one.name));
    let names: Vec<_> = connections.chain(servers).collect();
    for (number, (place, name)) in names.iter().enumerate() {
        if names.iter().take(number).any(|(_place, other)| other == name) {
            problems.push(ConfigProblem::new(
                place,
                format!("`{name}` is the name of two connections or servers: policies must tell them apart"),
            ));
        }
    }
    problems
}

/// No two doors can listen at one address.
fn check_addresses(config: &Config, problems: &mut Vec<ConfigProblem>) {
    let doors =
        [("aws", config.aws_address()), ("mcp", config.mcp_address()), ("console", config.console_address())];
    let open: Vec<_> = doors.into_iter().filter_map(|(key, address)| Some((key, address?))).collect();
    for (number, (key, address)) in open.iter().enumerate() {
        if let Some((other, taken)) =
            open.iter().take(number).find(|(_key, taken)| addresses_conflict(*address, *taken))
        {
            problems.push(ConfigProblem::new(
                format!("listen.{key}"),
                format!("`{address}` is taken already by [listen] {other} (`{taken}`): choose another port"),
            ));
        }
    }
}

/// Whether who listens at one address keeps others from the other one.
fn addresses_conflict(one: SocketAddr, other: SocketAddr) -> bool {
    // `[::]` takes the connections of both families.
    let covers =
        |all: SocketAddr, one: SocketAddr| all.ip().is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    let same_place = one.ip() == other.ip() || covers(one, other) || covers(other, one);
    one.port() != 0 && one.port() == other.port() && same_place
}

/// `$XDG_STATE_HOME/durward`, or what stands for it.
pub fn default_data_dir() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    state
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/state")))
        .map(|dir| dir.join("durward"))
}

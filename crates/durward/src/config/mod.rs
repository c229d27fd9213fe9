//! `durward.toml`: one file with every setting.
//!
//! Unknown keys are errors. All problems of a file are reported at once, each with file, line, key and the fix. A secret is
//! never in the file itself: keys that end in `_file` name the file that holds it.

mod approval;
mod aws;
mod console;
mod diagnostics;
mod identity;
mod masking;
mod mcp;
mod notify;
mod schema;
mod state;
#[cfg(test)]
mod tests;

pub use approval::ApprovalConfig;
pub use aws::{AwsConfig, AwsConnectionConfig, ConnectionScopeConfig, LabelConfig, TagSource};
pub use console::ConsoleConfig;
pub use diagnostics::{ConfigProblem, ConfigSource, Diagnostics};
pub use identity::{IdentityConfig, OidcProviderConfig, ProviderCallerKind};
pub use masking::MaskingConfig;
pub use mcp::{McpConfig, McpServerConfig};
pub use notify::NotifyConfig;
pub use schema::render_config_schema;
pub use state::{PostgresConfig, StateConfig};

use clap::Args;
use durward_core::{Origin, env_vars};
use durward_masking::DataClass;
use durward_policy::ConfiguredNames;
use schemars::JsonSchema;
use serde::Deserialize;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The option that names the configuration file, for every command that reads it.
#[derive(Args)]
pub struct ConfigFileArgs {
    /// Configuration file
    #[arg(long, env = env_vars::DURWARD_CONFIG, default_value = DEFAULT_CONFIG_FILE, value_name = "FILE")]
    pub config: PathBuf,
}

/// The file that a command reads if nobody names another.
const DEFAULT_CONFIG_FILE: &str = "durward.toml";

/// The option that names the configuration file, for commands that know more with a configuration and work without one.
#[derive(Debug, Default, Args)]
pub struct OptionalConfigArgs {
    /// Configuration file, for the names of connections, servers, data classes and identity providers [default: durward.toml, if
    /// there is one]
    #[arg(long, env = env_vars::DURWARD_CONFIG, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl OptionalConfigArgs {
    /// Reads the configuration, if there is one.
    pub fn load(&self) -> Result<Option<Config>, ConfigError> {
        let default = || Path::new(DEFAULT_CONFIG_FILE);
        let path = self.config.as_deref().or_else(|| default().exists().then(default));
        path.map(load_config).transpose()
    }
}

/// Why there is no usable configuration. The texts are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "{}: cannot be read: {error}\n  hint: name the file with --config or {}", path.display(), env_vars::DURWARD_CONFIG
    )]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{}", .0.to_string().trim_end())]
    Syntax(toml::de::Error),
    #[error("`data_dir` is not set and there is no HOME to put it in")]
    NoDataDir,
    #[error("{}: {error}", path.display())]
    InFile { path: PathBuf, error: Box<ConfigError> },
    /// Every problem, one on each line.
    #[error("{0}")]
    Problems(String),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Holds the keys, the journal and the state. Relative paths here and below are relative to the configuration file.
    #[serde(default)]
    pub data_dir: PathBuf,
    #[serde(default)]
    pub listen: ListenConfig,
    pub policy: PolicyConfig,
    pub identity: IdentityConfig,
    #[serde(default)]
    pub approval: ApprovalConfig,
    /// The console listens if this table or its address is set.
    pub console: Option<ConsoleConfig>,
    #[serde(default)]
    pub aws: AwsConfig,
    #[serde(default)]
    pub mcp: McpConfig,
    #[serde(default)]
    pub masking: MaskingConfig,
    #[serde(default)]
    pub notify: NotifyConfig,
    #[serde(default)]
    pub state: StateConfig,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenConfig {
    pub aws: Option<SocketAddr>,
    /// The gateway's own DNS names, for virtual-host-style buckets below them.
    #[serde(default)]
    pub aws_hostnames: Vec<String>,
    pub mcp: Option<SocketAddr>,
    /// The URL by which clients reach the MCP front end, if a proxy in front of it changes the `Host` header.
    pub mcp_public_url: Option<String>,
    /// Origins of the web pages that may call the MCP front end.
    #[serde(default)]
    pub mcp_allowed_origins: Vec<String>,
    /// The console and the admin API.
    pub console: Option<SocketAddr>,
    /// For all listeners.
    pub tls: Option<TlsConfig>,
    /// A proxy in front of all listeners terminates TLS and reaches them over a network that nobody else can read. Without it, and
    /// without `tls`, the gateway listens on loopback only.
    #[serde(default)]
    pub proxy_terminates_tls: bool,
}

impl ListenConfig {
    /// Returns true if clients speak TLS: with the gateway, or with the proxy in front of it.
    pub fn clients_use_tls(&self) -> bool {
        self.tls.is_some() || self.proxy_terminates_tls
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file with the certificate chain, leaf first.
    pub certificate_file: PathBuf,
    /// PEM file with the private key.
    pub key_file: PathBuf,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    pub dir: PathBuf,
}

impl Config {
    /// The names of this configuration that policies can have.
    pub fn names_for_policies(&self) -> ConfiguredNames {
        let patterns = self.masking.pattern.iter().map(|pattern| pattern.data_class.clone());
        let built_in = DataClass::BUILT_IN.iter().map(ToString::to_string);
        ConfiguredNames {
            aws_connections: self.aws.connection.iter().map(|connection| connection.name.clone()).collect(),
            mcp_servers: self.mcp.server.iter().map(|server| server.name.clone()).collect(),
            data_classes: built_in.chain(patterns).collect(),
            identity_providers: self.identity.oidc.iter().map(|provider| provider.name.clone()).collect(),
            issuers: self.identity.oidc.iter().map(|provider| provider.issuer.clone()).collect(),
        }
    }

    /// Where the AWS front end listens. It listens by default if a connection is configured.
    pub fn aws_address(&self) -> Option<SocketAddr> {
        let has_connection = !self.aws.connection.is_empty();
        listen_address(self.listen.aws, has_connection, env_vars::DEFAULT_AWS_LISTEN_ADDRESS)
    }

    /// Where the MCP front end listens. It listens by default if a server is configured.
    pub fn mcp_address(&self) -> Option<SocketAddr> {
        let has_server = !self.mcp.server.is_empty();
        listen_address(self.listen.mcp, has_server, env_vars::DEFAULT_MCP_LISTEN_ADDRESS)
    }

    /// Where the console listens, if it does.
    pub fn console_address(&self) -> Option<SocketAddr> {
        listen_address(self.listen.console, self.console.is_some(), env_vars::DEFAULT_CONSOLE_LISTEN_ADDRESS)
    }
}

fn listen_address(chosen: Option<SocketAddr>, is_needed: bool, default: &str) -> Option<SocketAddr> {
    chosen.or_else(|| is_needed.then(|| default.parse().expect("our own default addresses are addresses")))
}

/// Reads a configuration file and checks its values, without opening the files that it names.
pub fn load_config(path: &Path) -> Result<Config, ConfigError> {
    let (config, source, problems) = read_config(path)?;
    reject_problems(config, &source, &problems)
}

/// Reads a configuration from its text and checks its values. Relative paths are relative to `base_dir`.
pub fn parse_config(text: &str, base_dir: &Path) -> Result<Config, ConfigError> {
    let config = resolve_config(text, base_dir)?;
    let problems = check_config(&config);
    reject_problems(config, &ConfigSource { path: PathBuf::new(), text: text.to_owned() }, &problems)
}

fn reject_problems(
    config: Config,
    source: &ConfigSource,
    problems: &[ConfigProblem],
) -> Result<Config, ConfigError> {
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(ConfigError::Problems(source.format_problems(problems)))
    }
}

/// Reads a configuration file, and returns what is wrong with its values.
pub fn read_config(path: &Path) -> Result<(Config, ConfigSource, Vec<ConfigProblem>), ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
    let base_dir = path.parent().unwrap_or_else(|| Path::new("."));
    let config = resolve_config(&text, base_dir)
        .map_err(|error| ConfigError::InFile { path: path.to_owned(), error: Box::new(error) })?;
    let problems = check_config(&config);
    Ok((config, ConfigSource { path: path.to_owned(), text }, problems))
}

/// Parses the text and resolves its paths.
fn resolve_config(text: &str, base_dir: &Path) -> Result<Config, ConfigError> {
    let mut config: Config = toml::from_str(text).map_err(ConfigError::Syntax)?;
    config.policy.dir = base_dir.join(&config.policy.dir);
    config.data_dir = if config.data_dir.as_os_str().is_empty() {
        default_data_dir().ok_or(ConfigError::NoDataDir)?
    } else {
        base_dir.join(&config.data_dir)
    };
    if let Some(tls) = &mut config.listen.tls {
        tls.certificate_file = base_dir.join(&tls.certificate_file);
        tls.key_file = base_dir.join(&tls.key_file);
    }
    config.aws.resolve_paths(base_dir);
    config.identity.resolve_paths(base_dir);
    config.notify.resolve_paths(base_dir);
    config.state.resolve_paths(base_dir);
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
    config.masking.check(&mut problems);
    mcp::check_mcp(config, &mut problems);
    console::check_console(config, &mut problems);
    notify::check_notify(config, &mut problems);
    check_connection_names(config, &mut problems);
    problems
}

/// AWS connections and MCP servers are both `Connection` in policies, so their names share one namespace.
fn check_connection_names(config: &Config, problems: &mut Vec<ConfigProblem>) {
    let connections = config.aws.connection.iter().enumerate();
    let connections = connections.map(|(index, one)| (format!("aws.connection.{index}.name"), &one.name));
    let servers = config.mcp.server.iter().enumerate();
    let servers = servers.map(|(index, one)| (format!("mcp.server.{index}.name"), &one.name));
    let names: Vec<_> = connections.chain(servers).collect();
    for (number, (key_path, name)) in names.iter().enumerate() {
        if names.iter().take(number).any(|(_key_path, other)| other == name) {
            problems.push(ConfigProblem::new(
                key_path,
                format!("`{name}` is the name of two connections or servers: policies must tell them apart"),
            ));
        }
    }
}

fn check_addresses(config: &Config, problems: &mut Vec<ConfigProblem>) {
    let listeners =
        [("aws", config.aws_address()), ("mcp", config.mcp_address()), ("console", config.console_address())];
    let listeners: Vec<_> =
        listeners.into_iter().filter_map(|(key, address)| Some((key, address?))).collect();
    for (number, (key, address)) in listeners.iter().enumerate() {
        if !address.ip().is_loopback() && !config.listen.clients_use_tls() {
            problems.push(ConfigProblem::new(
                format!("listen.{key}"),
                format!(
                    "`{address}` is not loopback, and tokens, credentials and responses would travel unencrypted: set [listen] tls, or \
                     proxy_terminates_tls = true if a proxy in front of the gateway does it"
                ),
            ));
        }
        if let Some((other, taken)) =
            listeners.iter().take(number).find(|(_key, taken)| addresses_conflict(*address, *taken))
        {
            problems.push(ConfigProblem::new(
                format!("listen.{key}"),
                format!("`{address}` is already used by [listen] {other} (`{taken}`): choose another port"),
            ));
        }
    }
}

/// Whether a listener on one address keeps another listener from the other address.
fn addresses_conflict(one: SocketAddr, other: SocketAddr) -> bool {
    // Linux, net.ipv6.bindv6only = 0: a listener on `[::]` also takes IPv4 connections.
    let covers =
        |all: SocketAddr, one: SocketAddr| all.ip().is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    let same_host = one.ip() == other.ip() || covers(one, other) || covers(other, one);
    one.port() != 0 && one.port() == other.port() && same_host
}

/// Whether a text has only letters, digits, `-`, `_` and `.`: a name that needs no quoting in a URL, a log or a policy.
fn is_plain_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !text.is_empty() && text.bytes().all(is_plain)
}

/// Whether a text is an origin exactly as browsers write it in `Origin` headers (RFC 6454, section 6.2).
fn is_written_as_origin(text: &str) -> bool {
    text.parse::<Origin>().is_ok_and(|origin| origin.url().eq_ignore_ascii_case(text))
}

/// `$XDG_STATE_HOME/durward`, or its default below `$HOME`. The XDG Base Directory Specification says to ignore a relative path.
pub fn default_data_dir() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    state
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/state")))
        .map(|dir| dir.join("durward"))
}

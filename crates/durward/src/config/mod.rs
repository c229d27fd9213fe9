//! `durward.toml`: one file, unknown keys are errors, and every error names file, line, key and the fix.

mod approval;
mod aws;
mod console;
mod identity;
mod mcp;
mod notify;
#[cfg(test)]
mod tests;

pub use approval::Approval;
pub use aws::{Aws, Connection, Label, Scope, TagSource};
pub use console::Console;
pub use identity::{Identity, Kind, Oidc};
pub use mcp::{Mcp, McpServer};
pub use notify::Notify;

use serde::Deserialize;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Keys and the journal. Relative paths here and below are relative to the configuration file.
    pub data_dir: Option<PathBuf>,
    #[serde(default)]
    pub listen: Listen,
    pub policy: Policy,
    pub identity: Identity,
    #[serde(default)]
    pub approval: Approval,
    /// The console is open if this or its address is there.
    pub console: Option<Console>,
    #[serde(default)]
    pub aws: Aws,
    #[serde(default)]
    pub mcp: Mcp,
    #[serde(default)]
    pub notify: Notify,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    pub aws: Option<SocketAddr>,
    /// The gateway's own DNS names, for virtual-host-style buckets below them.
    #[serde(default)]
    pub aws_names: Vec<String>,
    pub mcp: Option<SocketAddr>,
    /// The URL clients know the MCP door by, where that is not what they send as `Host`: behind a proxy.
    pub mcp_url: Option<String>,
    /// Web pages that may talk to the MCP door.
    #[serde(default)]
    pub mcp_origins: Vec<String>,
    /// The console and the admin API.
    pub console: Option<SocketAddr>,
    pub tls: Option<Tls>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file with the certificate chain, leaf first.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    pub dir: PathBuf,
}

/// Reads and checks a configuration file. The error text is for people: one problem a line.
pub fn load(path: &Path) -> Result<Config, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        format!("{shown}: cannot be read: {error}\n  hint: name the file with --config or DURWARD_CONFIG")
    })?;
    let mut config: Config =
        toml::from_str(&text).map_err(|error| format!("{shown}: {}", error.to_string().trim_end()))?;
    let base = path.parent().unwrap_or_else(|| Path::new("."));
    config.policy.dir = base.join(&config.policy.dir);
    config.data_dir = Some(match config.data_dir.take() {
        Some(dir) => base.join(dir),
        None => default_data_dir()
            .ok_or_else(|| format!("{shown}: `data_dir` is not set and there is no HOME to put it in"))?,
    });
    if let Some(tls) = &mut config.listen.tls {
        tls.certificate = base.join(&tls.certificate);
        tls.key = base.join(&tls.key);
    }
    config.aws.resolve(base);
    config.identity.resolve(base);
    config.notify.resolve(base);
    let problems = check(&config);
    if problems.is_empty() {
        return Ok(config);
    }
    let mut report = String::new();
    for (key, problem) in problems {
        let line = line_of(&text, key, &problem);
        let _infallible = writeln!(report, "{shown}:{line}: `{key}`: {problem}");
    }
    Err(report.trim_end().to_owned())
}

/// A key and what is wrong with its value.
type Problem = (&'static str, String);

fn check(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    config.approval.check(&mut problems);
    config.identity.check(&mut problems);
    if config.aws.connection.is_empty() && config.mcp.server.is_empty() {
        problems.push((
            "aws.connection",
            "no connection: add an [[aws.connection]] with name and role_arn, or an [[mcp.server]] with name and url"
                .to_owned(),
        ));
    }
    config.aws.check(&mut problems);
    mcp::check(config, &mut problems);
    console::check(config, &mut problems);
    notify::check(config, &mut problems);
    let connections = config.aws.connection.iter().map(|connection| connection.name.as_str());
    let mut names: Vec<&str> =
        connections.chain(config.mcp.server.iter().map(|server| server.name.as_str())).collect();
    names.sort_unstable();
    for pair in names.windows(2) {
        if let [one, two] = pair
            && one == two
        {
            problems.push((
                "name",
                format!("`{one}` is the name of two connections or servers: policies must tell them apart"),
            ));
        }
    }
    problems
}

/// The line where a key stands, for messages about values that are well-formed TOML but wrong: the one with the value that
/// the message quotes, or the first.
fn line_of(text: &str, key: &str, problem: &str) -> usize {
    let last = key.rsplit('.').next().unwrap_or(key);
    let quoted = problem.split('`').nth(1).unwrap_or_default();
    let is_key = |line: &str| line.trim_start().trim_start_matches('[').trim_start().starts_with(last);
    text.lines()
        .position(|line| is_key(line) && line.contains(&format!("\"{quoted}\"")))
        .or_else(|| text.lines().position(is_key))
        .map_or(1, |index| index + 1)
}

/// `$XDG_STATE_HOME/durward`, or what stands for it.
pub fn default_data_dir() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    state
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/state")))
        .map(|dir| dir.join("durward"))
}

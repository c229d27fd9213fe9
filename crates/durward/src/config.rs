//! `durward.toml`: one file, unknown keys are errors, and every error names file, line, key and the fix.

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
    pub aws: Aws,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    pub aws: Option<SocketAddr>,
    /// The gateway's own DNS names, for virtual-host-style buckets below them.
    #[serde(default)]
    pub aws_names: Vec<String>,
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    #[serde(default)]
    pub oidc: Vec<Oidc>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    pub name: String,
    pub issuer: String,
    pub audience: Vec<String>,
    #[serde(default = "groups")]
    pub groups_claim: String,
    #[serde(default)]
    pub kind: Kind,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    #[default]
    Workload,
    Human,
}

fn groups() -> String {
    "groups".to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aws {
    /// Only for an emulator: every service goes here.
    pub upstream: Option<String>,
    #[serde(default)]
    pub connection: Vec<Connection>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    pub name: String,
    pub role_arn: String,
    pub external_id: Option<String>,
    #[serde(default)]
    pub scope: Scope,
    /// The region whose STS is asked.
    #[serde(default = "us_east_1")]
    pub region: String,
}

fn us_east_1() -> String {
    "us-east-1".to_owned()
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    #[default]
    Operation,
    Session,
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
    let problems = check(&config);
    if problems.is_empty() {
        return Ok(config);
    }
    let mut report = String::new();
    for (key, problem) in problems {
        let line = line_of(&text, key);
        let _infallible = writeln!(report, "{shown}:{line}: `{key}`: {problem}");
    }
    Err(report.trim_end().to_owned())
}

fn check(config: &Config) -> Vec<(&'static str, String)> {
    let mut problems = Vec::new();
    if config.identity.oidc.is_empty() {
        problems.push((
            "identity.oidc",
            "no identity provider: add an [[identity.oidc]] with name, issuer and audience".to_owned(),
        ));
    }
    if config.aws.connection.is_empty() {
        problems.push((
            "aws.connection",
            "no connection: add an [[aws.connection]] with name and role_arn".to_owned(),
        ));
    }
    for connection in &config.aws.connection {
        let parts: Vec<&str> = connection.role_arn.splitn(6, ':').collect();
        let is_role = matches!(parts.as_slice(), ["arn", _partition, "iam", "", account, role]
            if account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit()) && role.starts_with("role/"));
        if !is_role {
            problems.push((
                "role_arn",
                format!(
                    "`{}` is not a role ARN: write arn:aws:iam::<12-digit account>:role/<name>",
                    connection.role_arn
                ),
            ));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if connection.name.is_empty() || !connection.name.bytes().all(plain) {
            problems.push((
                "name",
                format!("connection `{}`: use letters, digits, `-`, `_` and `.` only", connection.name),
            ));
        }
    }
    let mut names: Vec<&str> =
        config.aws.connection.iter().map(|connection| connection.name.as_str()).collect();
    names.sort_unstable();
    for pair in names.windows(2) {
        if let [one, two] = pair
            && one == two
        {
            problems.push(("name", format!("two connections are named `{one}`: give each its own name")));
        }
    }
    problems
}

/// The line where a key first stands, for messages about values that are well-formed TOML but wrong.
fn line_of(text: &str, key: &str) -> usize {
    let last = key.rsplit('.').next().unwrap_or(key);
    text.lines()
        .position(|line| line.trim_start().trim_start_matches('[').trim_start().starts_with(last))
        .map_or(1, |index| index + 1)
}

fn default_data_dir() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    state
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/state")))
        .map(|dir| dir.join("durward"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("durward.toml");
        std::fs::write(&path, text).unwrap();
        load(&path).map_err(|error| error.replace(&dir.path().display().to_string(), "DIR"))
    }

    const GOOD: &str = r#"
data_dir = "data"
[policy]
dir = "policies"
[[identity.oidc]]
name = "corp"
issuer = "https://login.example.com"
audience = ["durward"]
[aws]
[[aws.connection]]
name = "prod"
role_arn = "arn:aws:iam::123456789012:role/agents"
"#;

    #[test]
    fn paths_are_relative_to_the_file() {
        let config = load_text(GOOD).unwrap();
        assert!(config.policy.dir.is_absolute() && config.policy.dir.ends_with("policies"));
        assert_eq!(config.aws.connection[0].scope, Scope::Operation);
    }

    #[test]
    fn errors_name_file_line_key_and_fix() {
        let error = load_text(&GOOD.replace("issuer", "isuer")).unwrap_err();
        assert!(
            error.contains("DIR/durward.toml") && error.contains("line 7") && error.contains("isuer"),
            "{error}"
        );
        let error = load_text(&GOOD.replace("123456789012", "1234")).unwrap_err();
        assert!(
            error.contains("durward.toml:12: `role_arn`") && error.contains("12-digit account"),
            "{error}"
        );
        let error = load_text("[policy]\ndir = \"p\"\n[identity]\n[aws]\n").unwrap_err();
        assert!(error.contains("[[identity.oidc]]") && error.contains("[[aws.connection]]"), "{error}");
    }
}

//! `durward.toml`: one file, unknown keys are errors, and every error names file, line, key and the fix.

use crate::serve;
use durward_gateway::mcp_door::is_name;
use serde::Deserialize;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

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

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Console {
    /// The address people know it by: scheme, host and port. By default the one it listens on.
    pub url: Option<String>,
    /// Who may come in at all; by default everybody whom an identity provider vouches for.
    #[serde(default)]
    pub groups: Vec<String>,
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
pub struct Approval {
    /// How long a caller is held open while people are asked; also the time they have where the policy says none.
    #[serde(default = "five_minutes", deserialize_with = "duration")]
    pub hold: Duration,
    /// Its members may go on at once; loudly recorded.
    pub break_glass_group: Option<String>,
}

impl Default for Approval {
    fn default() -> Self {
        Self { hold: five_minutes(), break_glass_group: None }
    }
}

fn five_minutes() -> Duration {
    Duration::from_mins(5)
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    durward_core::parse_duration(&text).ok_or_else(|| {
        serde::de::Error::custom(format!(
            "`{text}` is not a duration: write a number and s, m, h or d, as in \"5m\""
        ))
    })
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
    /// The client by which people sign in to the console with this provider.
    pub console_client_id: Option<String>,
    /// File that holds the client's secret; without it the client is a public one.
    pub console_client_secret_file: Option<PathBuf>,
    /// What the console asks for beside `openid`: some providers send groups only with a scope for them.
    #[serde(default = "profile")]
    pub console_scopes: Vec<String>,
}

fn profile() -> Vec<String> {
    vec!["profile".to_owned()]
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

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aws {
    /// Only for an emulator: every service goes here.
    pub upstream: Option<String>,
    /// PEM file with the authorities that `upstream`'s certificate may come from, instead of the system's.
    pub upstream_ca: Option<PathBuf>,
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
    if let Some(file) = &mut config.aws.upstream_ca {
        *file = base.join(&file);
    }
    for oidc in &mut config.identity.oidc {
        if let Some(file) = &mut oidc.console_client_secret_file {
            *file = base.join(&file);
        }
    }
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

fn check(config: &Config) -> Vec<(&'static str, String)> {
    let mut problems = Vec::new();
    if config.approval.hold > durward_core::limits::HOLD {
        problems.push((
            "approval.hold",
            "a caller is held open for an hour at most; what takes longer is sent again once it is approved"
                .to_owned(),
        ));
    }
    if config.identity.oidc.is_empty() {
        problems.push((
            "identity.oidc",
            "no identity provider: add an [[identity.oidc]] with name, issuer and audience".to_owned(),
        ));
    }
    if config.aws.connection.is_empty() && config.mcp.server.is_empty() {
        problems.push((
            "aws.connection",
            "no connection: add an [[aws.connection]] with name and role_arn, or an [[mcp.server]] with name and url"
                .to_owned(),
        ));
    }
    let over_tls = config.aws.upstream.as_deref().is_some_and(|url| url.starts_with("https://"));
    if config.aws.upstream_ca.is_some() && !over_tls {
        problems.push((
            "upstream_ca",
            "only an https `upstream` has a certificate to check: write upstream = \"https://...\" or leave this out"
                .to_owned(),
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
    check_mcp(config, &mut problems);
    check_console(config, &mut problems);
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

fn check_mcp(config: &Config, problems: &mut Vec<(&'static str, String)>) {
    for server in &config.mcp.server {
        if !is_name(&server.name) {
            problems.push((
                "name",
                format!(
                    "`{}`: a server's name begins with a letter or digit and has only those, `-`, `_` and `.`",
                    server.name
                ),
            ));
        }
        if let Err(why) = endpoint(&server.url) {
            problems.push(("url", format!("`{}`: {why}", server.url)));
        }
    }
    if let Some(url) = &config.listen.mcp_url
        && let Err(why) = endpoint(url)
    {
        problems.push(("mcp_url", format!("`{url}`: {why}")));
    }
    for origin in &config.listen.mcp_origins {
        let bare = serve::origin(origin).is_ok_and(|known| known.url().eq_ignore_ascii_case(origin));
        if !bare {
            problems.push((
                "mcp_origins",
                format!("`{origin}` is not an origin: write scheme, host and port only, as https://app.example.com"),
            ));
        }
    }
}

fn check_console(config: &Config, problems: &mut Vec<(&'static str, String)>) {
    for oidc in &config.identity.oidc {
        if oidc.console_client_id.is_none() && oidc.console_client_secret_file.is_some() {
            problems.push((
                "console_client_secret_file",
                format!("`{}` has a client secret and no client: add console_client_id", oidc.name),
            ));
        }
    }
    if config.console.is_none() && config.listen.console.is_none() {
        return;
    }
    let people = |oidc: &Oidc| oidc.console_client_id.is_some() || matches!(oidc.kind, Kind::Human);
    if !config.identity.oidc.iter().any(people) {
        problems.push((
            "console",
            "nobody could sign in: give an [[identity.oidc]] a console_client_id, or kind = \"human\" for the \
             command line alone"
                .to_owned(),
        ));
    }
    let url = config.console.as_ref().and_then(|console| console.url.as_deref());
    if let Some(url) = url {
        let bare = serve::origin(url).is_ok_and(|known| known.url().eq_ignore_ascii_case(url));
        if !bare {
            problems.push((
                "url",
                format!("`{url}` is not the console's address: write scheme, host and port only, as https://durward.example.com"),
            ));
        } else if url.starts_with("http://") && !crate::console::is_loopback(url) {
            problems.push((
                "url",
                format!("`{url}`: sign-ins would travel in the clear: write https:// and set [listen] tls, or put a proxy with TLS before it"),
            ));
        }
    } else if let Some(address) = config.listen.console
        && !address.ip().is_loopback()
    {
        problems.push((
            "console",
            format!("`{address}` is not loopback: say by which address people reach it, as [console] url = \"https://durward.example.com\""),
        ));
    }
}

/// Where an MCP server is, as far as a URL may say it.
fn endpoint(url: &str) -> Result<(), String> {
    serve::origin(url)?;
    if url.contains('#') || url.split('/').nth(2).is_some_and(|authority| authority.contains('@')) {
        return Err("a URL here has no fragment and holds no user or password".to_owned());
    }
    Ok(())
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
    fn an_authority_is_for_an_upstream_over_tls() {
        let with = |more: &str| {
            load_text(&GOOD.replace("[aws]\n", &format!("[aws]\nupstream_ca = \"ca.pem\"\n{more}")))
        };
        let config = with("upstream = \"https://aws.test\"\n").unwrap();
        assert!(config.aws.upstream_ca.is_some_and(|file| file.is_absolute() && file.ends_with("ca.pem")));
        for more in ["", "upstream = \"http://aws.test\"\n"] {
            let error = with(more).unwrap_err();
            assert!(error.contains("durward.toml:10: `upstream_ca`"), "{error}");
        }
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

    #[test]
    fn the_console_needs_a_way_to_sign_in_and_an_address_that_is_safe() {
        let with = |oidc: &str, more: &str| {
            load_text(&format!("{}\n{more}", GOOD.replace("[aws]\n", &format!("{oidc}\n[aws]\n"))))
        };
        let client = "console_client_id = \"console\"\nconsole_client_secret_file = \"secret\"";
        let config =
            with(client, "[console]\nurl = \"https://durward.example.com\"\ngroups = [\"sre\"]\n").unwrap();
        let secret = config.identity.oidc[0].console_client_secret_file.as_ref().unwrap();
        assert!(secret.is_absolute() && config.console.is_some());
        with("kind = \"human\"", "[listen]\nconsole = \"127.0.0.1:8600\"\n").unwrap();
        with("", "").unwrap();
        for (oidc, more, wanted) in [
            ("", "[console]\n", "nobody could sign in"),
            ("console_client_secret_file = \"secret\"", "", "add console_client_id"),
            (client, "[console]\nurl = \"http://durward.example.com\"\n", ":17: `url`: `http://durward"),
            (client, "[console]\nurl = \"https://durward.example.com/x\"\n", "scheme, host and port only"),
            (client, "[listen]\nconsole = \"0.0.0.0:8600\"\n", "is not loopback"),
        ] {
            let error = with(oidc, more).unwrap_err();
            assert!(error.contains(wanted), "{wanted}: {error}");
        }
        with(client, "[console]\nurl = \"http://127.0.0.1:8600\"\n").unwrap();
    }

    #[test]
    fn an_mcp_server_is_enough_and_its_errors_name_line_and_fix() {
        let (before, _aws) = GOOD.split_once("[aws]").unwrap();
        let with = |more: &str| load_text(&format!("{before}{more}"));
        let good = "[[mcp.server]]\nname = \"files\"\nurl = \"https://mcp.example.com/mcp\"\n";
        assert_eq!(with(good).unwrap().mcp.server[0].name, "files");
        for (more, wanted) in [
            (good.replace("files", "a/b"), ":10: `name`: `a/b`: a server's name"),
            (good.replace("https", "ftp"), ":11: `url`: `ftp://"),
            (good.replace("//", "//user:password@"), "holds no user or password"),
            (format!("{good}{good}"), "`name`: `files` is the name of two"),
            (format!("{good}{}", good.replace("files", "-x")), ":13: `name`: `-x`"),
            (format!("[listen]\nmcp_origins = [\"https://app.example.com/\"]\n{good}"), ":10: `mcp_origins`"),
            (format!("[listen]\nmcp_url = \"gw.example.com\"\n{good}"), ":10: `mcp_url`"),
            (good.replace("url", "command"), "line 11"),
        ] {
            let error = with(&more).unwrap_err();
            assert!(error.contains(wanted), "{wanted}: {error}");
        }
        let error = load_text(&format!("{GOOD}{}", good.replace("files", "prod"))).unwrap_err();
        assert!(error.contains("`prod` is the name of two connections or servers"), "{error}");
    }

    /// The first fenced block of a language in a page.
    fn block<'p>(page: &'p str, language: &str) -> &'p str {
        let (_before, rest) = page.split_once(&format!("```{language}\n")).unwrap();
        rest.split_once("```").unwrap().0
    }

    #[test]
    fn the_documented_configurations_and_policies_load() {
        let mcp = include_str!("../../../docs/mcp.md");
        let config = load_text(block(mcp, "toml")).unwrap();
        assert_eq!((config.mcp.server.len(), config.aws.connection.len()), (1, 0));
        let config = load_text(block(include_str!("../../../docs/configuration.md"), "toml")).unwrap();
        assert_eq!((config.mcp.server.len(), config.aws.connection.len()), (1, 1));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("page.cedar"), block(mcp, "cedar")).unwrap();
        let policies =
            durward_policy::Policies::open(dir.path(), durward_catalog::Catalog::embedded()).unwrap();
        assert_eq!(policies.current().len(), 5);
    }
}

//! Opens and checks every file and address that a configuration names, as far as that is possible without the network.
//! `durward serve` begins with this, and `durward config check` does only this. Nothing is created or changed.

use crate::config::{
    self, Config, ConfigError, ConfigProblem, ConfigSource, ConsoleConfig, Diagnostics, McpServerConfig,
    PostgresConfig,
};
use crate::tls::{load_certificates, load_tls_acceptor};
use crate::url_origin::origin_of_url;
use crate::{console_server, notification_channels};
use durward_approval::PostgresServer;
use durward_catalog::Catalog;
use durward_console::SignInProvider;
use durward_core::{Origin, OriginError};
use durward_gateway::mcp_frontend::McpServer;
use durward_gateway::upstream_client::UpstreamClient;
use durward_notification::NotificationChannel;
use durward_policy::{PolicyLoadError, PolicyStore};
use http::Uri;
use std::path::Path;
use std::sync::Arc;

/// A configuration with everything that it names.
pub struct OpenedConfiguration {
    /// The one address for every AWS service, if an emulator is configured.
    pub aws_emulator: Option<Origin>,
    pub mcp_servers: Vec<McpServer>,
    /// The client for the upstreams and the identity providers.
    pub upstream_client: Arc<UpstreamClient>,
    pub policies: Arc<PolicyStore>,
    pub tls_acceptor: Option<tokio_rustls::TlsAcceptor>,
    pub channels: Vec<NotificationChannel>,
    /// The database that holds the state, if it is not a file.
    pub database: Option<PostgresServer>,
    /// The providers with which users sign in to the console. Empty if the console does not listen.
    pub sign_in_providers: Vec<SignInProvider>,
    /// Texts for the operator about what should be changed but does not keep the gateway from starting.
    pub warnings: Vec<String>,
}

/// Reads a configuration file and opens what it names. The error holds every problem that was found.
pub fn open_configuration_file(path: &Path) -> Result<(Config, OpenedConfiguration), ConfigError> {
    let (config, source, problems) = config::read_config(path)?;
    let opened = OpenedConfiguration::from_config(&config, &source, problems)?;
    Ok((config, opened))
}

impl OpenedConfiguration {
    /// Opens what a configuration names. `problems` are those that are known already.
    pub fn from_config(
        config: &Config,
        source: &ConfigSource,
        problems: Vec<ConfigProblem>,
    ) -> Result<Self, ConfigError> {
        let mut findings = Diagnostics { problems, ..Diagnostics::default() };
        let opened = open_configuration(config, &mut findings);
        let warnings = findings.warnings.iter().map(|warning| source.format_problem(warning)).collect();
        match opened {
            Some(opened) if findings.problems.is_empty() => Ok(Self { warnings, ..opened }),
            _ => Err(ConfigError::Problems(source.format_problems(&findings.problems))),
        }
    }
}

/// Goes on after a problem, to find all of them. The result is complete only if there was none.
fn open_configuration(config: &Config, findings: &mut Diagnostics) -> Option<OpenedConfiguration> {
    let data_dir = &config.data_dir;
    if data_dir.exists() && !data_dir.is_dir() {
        let message = format!(
            "{}: is not a directory: name a directory; it is created if it does not exist",
            data_dir.display()
        );
        findings.problems.push(ConfigProblem::new("data_dir", message));
    }
    let policies = PolicyStore::open_for_configuration(
        &config.policy.dir,
        Catalog::embedded(),
        config.names_for_policies(),
    );
    let policies =
        findings.value_or_problem("policy.dir", policies.map_err(|error| format_policy_error(&error)));
    if policies.as_ref().is_some_and(|policies| !admits_anybody(config, policies)) {
        let key_path = if config.console.is_some() { "console" } else { "listen.console" };
        let message = "nobody may use the console: name groups in [console] allowed_groups, or approvers in policies (@approval)";
        findings.warnings.push(ConfigProblem::new(key_path, message));
    }
    let emulator = config.aws.emulator_url.as_deref();
    let emulator = emulator.and_then(|url| findings.value_or_problem("aws.emulator_url", origin_of_url(url)));
    // The operator wrote these origins, so they may have private addresses; names of MCP servers need a key that says so. The client refuses all other private addresses:
    // a name that a caller can influence must not lead into the gateway's network (server-side request forgery).
    let mut trusted: Vec<Origin> = emulator.iter().cloned().collect();
    for (index, provider) in config.identity.oidc.iter().enumerate() {
        let key_path = format!("identity.oidc.{index}.issuer");
        trusted.extend(findings.value_or_problem(&key_path, origin_of_url(&provider.issuer)));
    }
    let mut servers = Vec::new();
    for (index, server) in config.mcp.server.iter().enumerate() {
        let key_path = format!("mcp.server.{index}.url");
        let Some(opened) = findings.value_or_problem(&key_path, mcp_server(server)) else { continue };
        if server.may_be_private(&opened.origin.host) {
            trusted.push(opened.origin.clone());
        }
        servers.push(opened);
    }
    let upstream_client = open_upstream_client(config, trusted, emulator.as_ref(), findings);
    let tls_acceptor = config.listen.tls.as_ref().and_then(|tls| {
        findings.warn_if_exposed("listen.tls.key_file", &tls.key_file);
        let chain = load_certificates(&tls.certificate_file);
        // Without the certificate, the check whether the key belongs to it would report a second problem of one mistake.
        let chain = findings.value_or_problem("listen.tls.certificate_file", chain)?;
        findings.value_or_problem("listen.tls.key_file", load_tls_acceptor(chain, &tls.key_file))
    });
    let sign_in_providers = console_server::open_sign_in_providers(config, findings);
    let channels = notification_channels::open_channels(config, findings);
    let database = config.state.postgres.as_ref().map(|postgres| postgres_server(postgres, findings));
    Some(OpenedConfiguration {
        aws_emulator: emulator,
        mcp_servers: servers,
        upstream_client: Arc::new(upstream_client?),
        policies: Arc::new(policies?),
        tls_acceptor,
        channels,
        database,
        sign_in_providers,
        warnings: Vec::new(),
    })
}

/// Returns true if the console admits some group, or does not listen.
fn admits_anybody(config: &Config, policies: &PolicyStore) -> bool {
    let has_groups =
        |console: &ConsoleConfig| !console.allowed_groups.is_empty() || !console.revoke_groups.is_empty();
    config.console_address().is_none()
        || config.console.as_ref().is_some_and(has_groups)
        || config.approval.break_glass_group.is_some()
        || policies.current().has_approval_policies()
}

fn open_upstream_client(
    config: &Config,
    trusted: Vec<Origin>,
    emulator: Option<&Origin>,
    findings: &mut Diagnostics,
) -> Option<UpstreamClient> {
    let client = findings.value_or_problem("", UpstreamClient::new(trusted))?;
    let Some((emulator, file)) = emulator.zip(config.aws.emulator_ca_file.as_ref()) else {
        return Some(client);
    };
    let authorities = findings.value_or_problem("aws.emulator_ca_file", load_certificates(file))?;
    let client = client.trust_only_authorities(emulator.clone(), authorities);
    findings.value_or_problem(
        "aws.emulator_ca_file",
        client.map_err(|error| format!("{}: {error}", file.display())),
    )
}

/// Problems in policy files come with excerpts of several lines, which begin below the key.
fn format_policy_error(error: &PolicyLoadError) -> String {
    let has_excerpts = error.problems().iter().any(|problem| problem.position.is_some());
    if has_excerpts { format!("the policies are not valid:\n{error}") } else { error.to_string() }
}

fn postgres_server(postgres: &PostgresConfig, findings: &mut Diagnostics) -> PostgresServer {
    let password = postgres.password_file.as_ref();
    let password = password.and_then(|file| findings.load_secret("state.postgres.password_file", file));
    if let Some(ca_file) = &postgres.ca_file {
        findings.value_or_problem("state.postgres.ca_file", load_certificates(ca_file));
    }
    let PostgresConfig { host, port, database, user, ca_file, .. } = postgres;
    PostgresServer {
        host: host.clone(),
        port: *port,
        database: database.clone(),
        user: user.clone(),
        password,
        ca_file: ca_file.clone(),
    }
}

fn mcp_server(server: &McpServerConfig) -> Result<McpServer, OriginError> {
    let origin = origin_of_url(&server.url)?;
    let url: Uri = server.url.parse().map_err(|_error| OriginError::NotAUrl(server.url.clone()))?;
    let path_and_query = url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
    Ok(McpServer { name: server.name.clone(), origin, path_and_query })
}

#[cfg(test)]
mod tests;

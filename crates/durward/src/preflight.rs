//! All that the configuration names, opened and checked as far as that goes without the network: `durward serve` begins
//! with it, and `durward config check` is nothing else. Nothing is created or changed.

use crate::config::{
    self, Config, ConfigProblem, ConfigSource, Diagnostics, McpServerConfig, PostgresConfig,
};
use crate::serve::parse_origin;
use crate::tls::{load_certificates, load_tls_acceptor};
use crate::{console_server, notification_channels};
use durward_approval::PostgresServer as Database;
use durward_catalog::Catalog;
use durward_console::SignInProvider;
use durward_gateway::mcp_frontend::McpServer;
use durward_gateway::upstream_client::{UpstreamClient, UpstreamOrigin};
use durward_notification::NotificationChannel;
use durward_policy::{PolicyLoadError, PolicyStore};
use http::Uri;
use std::path::Path;
use std::sync::Arc;

/// What a gateway starts with.
pub struct OpenedConfiguration {
    /// The one address for every AWS service, if there is one.
    pub aws_emulator: Option<UpstreamOrigin>,
    pub mcp_servers: Vec<McpServer>,
    /// The way to the upstreams and the identity providers.
    pub upstream_client: Arc<UpstreamClient>,
    pub policies: Arc<PolicyStore>,
    pub tls_acceptor: Option<tokio_rustls::TlsAcceptor>,
    pub channels: Vec<NotificationChannel>,
    /// Where the state is, if it is not a file.
    pub database: Option<Database>,
    /// How people sign in to the console, if it is open.
    pub sign_in_providers: Vec<SignInProvider>,
    /// What does not keep the gateway from starting but should be mended, for people.
    pub warnings: Vec<String>,
}

/// Reads a configuration file and opens what it names. The error text is for people: every problem that was found.
pub fn open_configuration_file(path: &Path) -> Result<(Config, OpenedConfiguration), String> {
    let (config, source, problems) = config::read_config(path)?;
    let ready = OpenedConfiguration::from_config(&config, &source, problems)?;
    Ok((config, ready))
}

impl OpenedConfiguration {
    /// Opens what a configuration names; `problems` are those that are known before.
    pub fn from_config(
        config: &Config,
        source: &ConfigSource,
        problems: Vec<ConfigProblem>,
    ) -> Result<Self, String> {
        let mut findings = Diagnostics { problems, ..Diagnostics::default() };
        let found = open_configuration(config, &mut findings);
        let warnings = findings.warnings.iter().map(|warning| source.format_problem(warning)).collect();
        match found {
            Some(ready) if findings.problems.is_empty() => Ok(Self { warnings, ..ready }),
            _ => Err(source.format_problems(&findings.problems)),
        }
    }
}

/// Goes on after a problem, to find them all; nothing is missing in what it returns if there was none.
fn open_configuration(config: &Config, findings: &mut Diagnostics) -> Option<OpenedConfiguration> {
    if let Some(dir) = config.data_dir.as_ref().filter(|dir| dir.exists() && !dir.is_dir()) {
        let why = format!("{}: is not a directory: name one; it is made if it is not there", dir.display());
        findings.problems.push(ConfigProblem::new("data_dir", why));
    }
    let policies = PolicyStore::open(&config.policy.dir, Catalog::embedded());
    let policies =
        findings.value_or_problem("policy.dir", policies.map_err(|error| format_policy_error(&error)));
    let emulator = config.aws.emulator_url.as_deref();
    let emulator = emulator.and_then(|url| findings.value_or_problem("aws.emulator_url", parse_origin(url)));
    let mut trusted: Vec<UpstreamOrigin> = emulator.iter().cloned().collect();
    for (index, provider) in config.identity.oidc.iter().enumerate() {
        trusted.extend(
            findings
                .value_or_problem(&format!("identity.oidc.{index}.issuer"), parse_origin(&provider.issuer)),
        );
    }
    let mut servers = Vec::new();
    for (index, one) in config.mcp.server.iter().enumerate() {
        servers.extend(findings.value_or_problem(&format!("mcp.server.{index}.url"), mcp_server(one)));
    }
    trusted.extend(servers.iter().map(|server| server.origin.clone()));
    let transport = findings.value_or_problem("", UpstreamClient::new(trusted)).and_then(|transport| {
        let Some((emulator, file)) = emulator.as_ref().zip(config.aws.emulator_ca_file.as_ref()) else {
            return Some(transport);
        };
        let authorities = findings.value_or_problem("aws.emulator_ca_file", load_certificates(file))?;
        let trusting = transport.trust_only_authorities(emulator.clone(), authorities);
        findings.value_or_problem(
            "aws.emulator_ca_file",
            trusting.map_err(|error| format!("{}: {error}", file.display())),
        )
    });
    let tls = config.listen.tls.as_ref().and_then(|tls| {
        findings.warn_if_exposed("listen.tls.key_file", &tls.key_file);
        let chain = findings
            .value_or_problem("listen.tls.certificate_file", load_certificates(&tls.certificate_file));
        // Without its certificate nothing can be said of the key but whether it is one.
        findings.value_or_problem("listen.tls.key_file", load_tls_acceptor(chain?, &tls.key_file))
    });
    let sign_in = console_server::open_sign_in_providers(config, findings);
    let channels = notification_channels::open_channels(config, findings);
    let database = config.state.postgres.as_ref().map(|one| postgres_server(one, findings));
    Some(OpenedConfiguration {
        aws_emulator: emulator,
        mcp_servers: servers,
        upstream_client: Arc::new(transport?),
        policies: Arc::new(policies?),
        tls_acceptor: tls,
        channels,
        database,
        sign_in_providers: sign_in,
        warnings: Vec::new(),
    })
}

/// What is wrong within policy files is told with excerpts, which begin on lines of their own.
fn format_policy_error(error: &PolicyLoadError) -> String {
    let is_within = error.problems().iter().any(|problem| problem.position.is_some());
    format!("{}{error}", if is_within { "the policies cannot be put in force:\n" } else { "" })
}

fn postgres_server(postgres: &PostgresConfig, findings: &mut Diagnostics) -> Database {
    let password = postgres.password_file.as_ref();
    let password = password.and_then(|file| findings.load_secret("state.postgres.password_file", file));
    if let Some(ca) = &postgres.ca_file {
        findings.value_or_problem("state.postgres.ca_file", load_certificates(ca));
    }
    let PostgresConfig { host, port, database, user, ca_file: ca, .. } = postgres;
    let (host, database, user) = (host.clone(), database.clone(), user.clone());
    Database { host, port: *port, database, user, password, ca_file: ca.clone() }
}

fn mcp_server(server: &McpServerConfig) -> Result<McpServer, String> {
    let url: Uri = server.url.parse().map_err(|_error| format!("`{}` is not a URL", server.url))?;
    let target = url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
    Ok(McpServer { name: server.name.clone(), origin: parse_origin(&server.url)?, path_and_query: target })
}

#[cfg(test)]
mod tests;

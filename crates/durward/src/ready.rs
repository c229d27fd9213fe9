//! All that the configuration names, opened and checked as far as that goes without the network: `durward serve` begins
//! with it, and `durward config check` is nothing else. Nothing is created or changed.

use crate::config::{self, Config, Findings, McpServer, Postgres, Problem, Source};
use crate::serve::origin;
use crate::tls::{acceptor, certificates};
use crate::{console, notifications};
use durward_approval::Server as Database;
use durward_catalog::Catalog;
use durward_console::SignInProvider;
use durward_gateway::mcp_door::Server;
use durward_gateway::transport::{Origin, Transport};
use durward_notification::Channel;
use durward_policy::{LoadError, Policies};
use http::Uri;
use std::path::Path;
use std::sync::Arc;

/// What a gateway starts with.
pub struct Ready {
    /// The one address for every AWS service, if there is one.
    pub emulator: Option<Origin>,
    pub servers: Vec<Server>,
    /// The way to the upstreams and the identity providers.
    pub transport: Arc<Transport>,
    pub policies: Arc<Policies>,
    pub tls: Option<tokio_rustls::TlsAcceptor>,
    pub channels: Vec<Channel>,
    /// Where the state is, if it is not a file.
    pub database: Option<Database>,
    /// How people sign in to the console, if it is open.
    pub sign_in: Vec<SignInProvider>,
    /// What does not keep the gateway from starting but should be mended, for people.
    pub warnings: Vec<String>,
}

/// Reads a configuration file and opens what it names. The error text is for people: every problem that was found.
pub fn load(path: &Path) -> Result<(Config, Ready), String> {
    let (config, source, problems) = config::read(path)?;
    let ready = Ready::of(&config, &source, problems)?;
    Ok((config, ready))
}

impl Ready {
    /// Opens what a configuration names; `problems` are those that are known before.
    pub fn of(config: &Config, source: &Source, problems: Vec<Problem>) -> Result<Self, String> {
        let mut findings = Findings { problems, ..Findings::default() };
        let found = open(config, &mut findings);
        let warnings = findings.warnings.iter().map(|warning| source.tell(warning)).collect();
        match found {
            Some(ready) if findings.problems.is_empty() => Ok(Self { warnings, ..ready }),
            _ => Err(source.report(&findings.problems)),
        }
    }
}

/// Goes on after a problem, to find them all; nothing is missing in what it returns if there was none.
fn open(config: &Config, findings: &mut Findings) -> Option<Ready> {
    if let Some(dir) = config.data_dir.as_ref().filter(|dir| dir.exists() && !dir.is_dir()) {
        let why = format!("{}: is not a directory: name one; it is made if it is not there", dir.display());
        findings.problems.push(Problem::new("data_dir", why));
    }
    let policies = Policies::open(&config.policy.dir, Catalog::embedded());
    let policies = findings.note("policy.dir", policies.map_err(|error| in_policies(&error)));
    let emulator = config.aws.upstream.as_deref();
    let emulator = emulator.and_then(|url| findings.note("aws.upstream", origin(url)));
    let mut trusted: Vec<Origin> = emulator.iter().cloned().collect();
    for (index, provider) in config.identity.oidc.iter().enumerate() {
        trusted.extend(findings.note(&format!("identity.oidc.{index}.issuer"), origin(&provider.issuer)));
    }
    let mut servers = Vec::new();
    for (index, one) in config.mcp.server.iter().enumerate() {
        servers.extend(findings.note(&format!("mcp.server.{index}.url"), server(one)));
    }
    trusted.extend(servers.iter().map(|server| server.origin.clone()));
    let transport = findings.note("", Transport::new(trusted)).and_then(|transport| {
        let Some((emulator, file)) = emulator.as_ref().zip(config.aws.upstream_ca.as_ref()) else {
            return Some(transport);
        };
        let authorities = findings.note("aws.upstream_ca", certificates(file))?;
        let trusting = transport.trust_only(emulator.clone(), authorities);
        findings.note("aws.upstream_ca", trusting.map_err(|error| format!("{}: {error}", file.display())))
    });
    let tls = config.listen.tls.as_ref().and_then(|tls| {
        findings.keep_private("listen.tls.key", &tls.key);
        let chain = findings.note("listen.tls.certificate", certificates(&tls.certificate));
        // Without its certificate nothing can be said of the key but whether it is one.
        findings.note("listen.tls.key", acceptor(chain?, &tls.key))
    });
    let sign_in = console::sign_in(config, findings);
    let channels = notifications::channels(config, findings);
    let database = config.state.postgres.as_ref().map(|one| database(one, findings));
    Some(Ready {
        emulator,
        servers,
        transport: Arc::new(transport?),
        policies: Arc::new(policies?),
        tls,
        channels,
        database,
        sign_in,
        warnings: Vec::new(),
    })
}

/// What is wrong within policy files is told with excerpts, which begin on lines of their own.
fn in_policies(error: &LoadError) -> String {
    let is_within = error.problems().iter().any(|problem| problem.place.is_some());
    format!("{}{error}", if is_within { "the policies cannot be put in force:\n" } else { "" })
}

fn database(postgres: &Postgres, findings: &mut Findings) -> Database {
    let password = postgres.password_file.as_ref();
    let password = password.and_then(|file| findings.secret("state.postgres.password_file", file));
    if let Some(ca) = &postgres.ca {
        findings.note("state.postgres.ca", certificates(ca));
    }
    let Postgres { host, port, database, user, ca, .. } = postgres;
    let (host, database, user) = (host.clone(), database.clone(), user.clone());
    Database { host, port: *port, database, user, password, ca: ca.clone() }
}

fn server(server: &McpServer) -> Result<Server, String> {
    let url: Uri = server.url.parse().map_err(|_error| format!("`{}` is not a URL", server.url))?;
    let target = url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
    Ok(Server { name: server.name.clone(), origin: origin(&server.url)?, target })
}

#[cfg(test)]
mod tests;

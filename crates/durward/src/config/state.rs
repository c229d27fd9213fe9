//! `[state.postgres]`: the database for approval requests, grants, revocations and logins, instead of a file in `data_dir`.

use super::ConfigProblem;
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StateConfig {
    pub postgres: Option<PostgresConfig>,
}

/// A database that several gateways can share.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// Host name or address, or the directory of the server's Unix socket.
    pub host: String,
    #[serde(default = "default_postgres_port")]
    pub port: u16,
    #[serde(default = "default_postgres_name")]
    pub database: String,
    #[serde(default = "default_postgres_name")]
    pub user: String,
    /// File that holds the password.
    pub password_file: Option<PathBuf>,
    /// PEM file of the authority that signed the server's certificate. By default the public authorities.
    pub ca_file: Option<PathBuf>,
}

fn default_postgres_port() -> u16 {
    5432
}

fn default_postgres_name() -> String {
    "durward".to_owned()
}

impl StateConfig {
    /// Paths are relative to the configuration file's directory.
    pub fn resolve_paths(&mut self, base: &Path) {
        let files = self.postgres.iter_mut().flat_map(|one| [&mut one.password_file, &mut one.ca_file]);
        for file in files.flatten() {
            *file = base.join(&file);
        }
    }

    pub fn check(&self, problems: &mut Vec<ConfigProblem>) {
        let Some(PostgresConfig { host, .. }) = &self.postgres else { return };
        // A host name, or an IPv6 address.
        let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        let is_host = !host.is_empty() && host.bytes().all(is_host_byte);
        if !is_host && !host.starts_with('/') {
            let reason =
                format!("`{host}`: write a host name, an IP address, or the directory of a Unix socket");
            problems.push(ConfigProblem::new("state.postgres.host", reason));
        }
    }
}

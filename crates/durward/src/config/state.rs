//! `[state.postgres]`: where asks, approvals, revocations and sign-ins are, if not in a file of `data_dir`.

use super::Problem;
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    pub postgres: Option<Postgres>,
}

/// A database that several gateways share.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// A name or address, or the directory of the server's Unix socket.
    pub host: String,
    #[serde(default = "port")]
    pub port: u16,
    #[serde(default = "durward")]
    pub database: String,
    #[serde(default = "durward")]
    pub user: String,
    /// File that holds the password.
    pub password_file: Option<PathBuf>,
    /// PEM file of the authority that signed the server's certificate; without one, a public one.
    pub ca: Option<PathBuf>,
}

fn port() -> u16 {
    5432
}

fn durward() -> String {
    "durward".to_owned()
}

impl State {
    /// Paths are relative to the configuration file's directory.
    pub fn resolve(&mut self, base: &Path) {
        let files = self.postgres.iter_mut().flat_map(|one| [&mut one.password_file, &mut one.ca]);
        for file in files.flatten() {
            *file = base.join(&file);
        }
    }

    pub fn check(&self, problems: &mut Vec<Problem>) {
        let Some(Postgres { host, .. }) = &self.postgres else { return };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        let is_name = !host.is_empty() && host.bytes().all(plain);
        if !is_name && !host.starts_with('/') {
            let why =
                format!("`{host}`: write a host name, an IP address, or the directory of a Unix socket");
            problems.push(Problem::new("state.postgres.host", why));
        }
    }
}

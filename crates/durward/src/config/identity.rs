//! `[[identity.oidc]]`: who vouches for callers and for people.

use super::Problem;
use serde::Deserialize;
use std::path::{Path, PathBuf};

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
    /// The public client by which `durward login` signs people in.
    pub cli_client_id: Option<String>,
    /// What `durward login` asks for beside `openid`: by default what the console asks for, and `offline_access`.
    pub cli_scopes: Option<Vec<String>>,
    /// Audiences of other tokens by which people use the admin API.
    #[serde(default)]
    pub console_audience: Vec<String>,
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

impl Oidc {
    /// The clients whose ID tokens let people in.
    pub fn clients(&self) -> impl Iterator<Item = &String> {
        self.console_client_id.iter().chain(&self.cli_client_id)
    }

    /// Whether people can come in by this provider at all.
    pub fn has_people(&self) -> bool {
        self.clients().next().is_some() || !self.console_audience.is_empty()
    }

    /// Agents hold tokens for the doors, also those of people: none of these may answer what the agents ask.
    fn check_audiences(&self, problems: &mut Vec<Problem>) {
        let keys = [
            ("console_client_id", self.console_client_id.as_slice()),
            ("cli_client_id", self.cli_client_id.as_slice()),
            ("console_audience", self.console_audience.as_slice()),
        ];
        for (key, values) in keys {
            for value in values {
                if self.audience.contains(value) {
                    problems.push((
                        key,
                        format!(
                            "`{value}` is an audience of the doors too, so whoever calls could answer asks: register \
                             one of its own for people"
                        ),
                    ));
                }
            }
        }
    }
}

impl Identity {
    /// Paths are relative to the configuration file's directory.
    pub fn resolve(&mut self, base: &Path) {
        for oidc in &mut self.oidc {
            if let Some(file) = &mut oidc.console_client_secret_file {
                *file = base.join(&file);
            }
        }
    }

    pub fn check(&self, problems: &mut Vec<Problem>) {
        if self.oidc.is_empty() {
            problems.push((
                "identity.oidc",
                "no identity provider: add an [[identity.oidc]] with name, issuer and audience".to_owned(),
            ));
        }
        for oidc in &self.oidc {
            if oidc.console_client_id.is_none() && oidc.console_client_secret_file.is_some() {
                problems.push((
                    "console_client_secret_file",
                    format!("`{}` has a client secret and no client: add console_client_id", oidc.name),
                ));
            }
            if oidc.cli_client_id.is_none() && oidc.cli_scopes.is_some() {
                problems.push((
                    "cli_scopes",
                    format!(
                        "`{}` has scopes for the command line and no client: add cli_client_id",
                        oidc.name
                    ),
                ));
            }
            oidc.check_audiences(problems);
        }
    }
}

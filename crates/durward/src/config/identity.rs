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
        }
    }
}

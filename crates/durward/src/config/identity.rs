//! `[[identity.oidc]]`: who vouches for callers and for people.

use super::ConfigProblem;
use durward_core::CallerKind;
use durward_identity::{ProviderConfig, TokenVerifier};
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityConfig {
    #[serde(default)]
    pub oidc: Vec<OidcProviderConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcProviderConfig {
    pub name: String,
    pub issuer: String,
    pub audience: Vec<String>,
    #[serde(default = "default_groups_claim")]
    pub groups_claim: String,
    #[serde(default)]
    pub kind: ProviderCallerKind,
    /// The client by which people sign in to the console with this provider.
    pub console_client_id: Option<String>,
    /// File that holds the client's secret; without it the client is a public one.
    pub console_client_secret_file: Option<PathBuf>,
    /// What the console asks for beside `openid`: some providers send groups only with a scope for them.
    #[serde(default = "default_console_scopes")]
    pub console_scopes: Vec<String>,
    /// The public client by which `durward login` signs people in.
    pub cli_client_id: Option<String>,
    /// What `durward login` asks for beside `openid`: by default what the console asks for, and `offline_access`.
    pub cli_scopes: Option<Vec<String>>,
    /// Audiences of other tokens by which people use the admin API.
    #[serde(default)]
    pub console_audience: Vec<String>,
}

fn default_console_scopes() -> Vec<String> {
    vec!["profile".to_owned()]
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderCallerKind {
    #[default]
    Workload,
    Human,
}

fn default_groups_claim() -> String {
    "groups".to_owned()
}

impl OidcProviderConfig {
    /// The clients whose ID tokens let people in.
    pub fn user_client_ids(&self) -> impl Iterator<Item = &String> {
        self.console_client_id.iter().chain(&self.cli_client_id)
    }

    /// Whether people can come in by this provider at all.
    pub fn allows_user_sign_in(&self) -> bool {
        self.user_client_ids().next().is_some() || !self.console_audience.is_empty()
    }

    /// Whose tokens the doors take.
    pub fn caller_provider(&self) -> ProviderConfig {
        ProviderConfig {
            groups_claim: self.groups_claim.clone(),
            kind: match self.kind {
                ProviderCallerKind::Workload => CallerKind::Workload,
                ProviderCallerKind::Human => CallerKind::Human,
            },
            ..ProviderConfig::new(&self.name, &self.issuer, self.audience.clone())
        }
    }

    fn check(&self, wrong: &mut impl FnMut(&'static str, String)) {
        if self.console_client_id.is_none() && self.console_client_secret_file.is_some() {
            wrong(
                "console_client_secret_file",
                format!("`{}` has a client secret and no client: add console_client_id", self.name),
            );
        }
        if self.cli_client_id.is_none() && self.cli_scopes.is_some() {
            wrong(
                "cli_scopes",
                format!("`{}` has scopes for the command line and no client: add cli_client_id", self.name),
            );
        }
        self.check_audiences(wrong);
    }

    /// Agents hold tokens for the doors, also those of people: none of these may answer what the agents ask.
    fn check_audiences(&self, wrong: &mut impl FnMut(&'static str, String)) {
        let keys = [
            ("console_client_id", self.console_client_id.as_slice()),
            ("cli_client_id", self.cli_client_id.as_slice()),
            ("console_audience", self.console_audience.as_slice()),
        ];
        for (key, values) in keys {
            for value in values {
                if value.is_empty() {
                    wrong(
                        key,
                        "is empty: write the name the identity provider knows it by, or leave it out"
                            .to_owned(),
                    );
                } else if self.audience.contains(value) {
                    wrong(
                        key,
                        format!(
                            "`{value}` is an audience of the doors too, so whoever calls could answer asks: register \
                             one of its own for people"
                        ),
                    );
                }
            }
        }
    }
}

impl IdentityConfig {
    /// Paths are relative to the configuration file's directory.
    pub fn resolve_paths(&mut self, base: &Path) {
        for oidc in &mut self.oidc {
            if let Some(file) = &mut oidc.console_client_secret_file {
                *file = base.join(&file);
            }
        }
    }

    pub fn check(&self, problems: &mut Vec<ConfigProblem>) {
        if self.oidc.is_empty() {
            problems.push(ConfigProblem::new(
                "identity.oidc",
                "no identity provider: add an [[identity.oidc]] with name, issuer and audience",
            ));
        }
        let mut wrong = |index: usize, key: &str, why: String| {
            problems.push(ConfigProblem::new(format!("identity.oidc.{index}.{key}"), why));
        };
        let providers: Vec<ProviderConfig> =
            self.oidc.iter().map(OidcProviderConfig::caller_provider).collect();
        for error in TokenVerifier::check_providers(&providers) {
            wrong(error.index, error.key, error.reason);
        }
        for (index, oidc) in self.oidc.iter().enumerate() {
            oidc.check(&mut |key, why| wrong(index, key, why));
        }
    }
}

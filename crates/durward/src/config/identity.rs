//! `[[identity.oidc]]`: the identity providers of callers and of console users.

use super::ConfigProblem;
use durward_core::CallerKind;
use durward_identity::{ProviderConfig, TokenVerifier};
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityConfig {
    #[serde(default)]
    pub oidc: Vec<OidcProviderConfig>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OidcProviderConfig {
    pub name: String,
    pub issuer: String,
    pub audience: Vec<String>,
    #[serde(default = "default_groups_claim")]
    pub groups_claim: String,
    #[serde(default)]
    pub kind: ProviderCallerKind,
    /// The client with which users sign in to the console.
    pub console_client_id: Option<String>,
    /// File that holds the client's secret. Without it the client is a public one.
    pub console_client_secret_file: Option<PathBuf>,
    /// Scopes that the console requests beside `openid`: some providers send groups only with a scope for them.
    #[serde(default = "default_console_scopes")]
    pub console_scopes: Vec<String>,
    /// The public client with which `durward login` signs users in.
    pub cli_client_id: Option<String>,
    /// Scopes that `durward login` requests beside `openid`. By default those of the console, and `offline_access`.
    pub cli_scopes: Option<Vec<String>>,
    /// Audiences of other tokens with which users call the admin API.
    #[serde(default)]
    pub console_audience: Vec<String>,
}

fn default_console_scopes() -> Vec<String> {
    vec!["profile".to_owned()]
}

#[derive(Debug, Default, Clone, Copy, Deserialize, JsonSchema)]
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
    /// The clients whose ID tokens the admin API accepts.
    pub fn user_client_ids(&self) -> impl Iterator<Item = &String> {
        self.console_client_id.iter().chain(&self.cli_client_id)
    }

    /// Whether users can sign in with this provider.
    pub fn allows_user_sign_in(&self) -> bool {
        self.user_client_ids().next().is_some() || !self.console_audience.is_empty()
    }

    /// The provider as the front ends see it: whose tokens they accept from callers.
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

    fn check(&self, report: &mut impl FnMut(&'static str, String)) {
        if self.console_client_id.is_none() && self.console_client_secret_file.is_some() {
            report(
                "console_client_secret_file",
                format!("`{}` has a client secret and no client: add console_client_id", self.name),
            );
        }
        if self.cli_client_id.is_none() && self.cli_scopes.is_some() {
            report(
                "cli_scopes",
                format!("`{}` has scopes for the command line and no client: add cli_client_id", self.name),
            );
        }
        self.check_audiences(report);
    }

    /// Checks that no token for a front end also works at the admin API. An agent holds such a token, often a user's own, and
    /// would approve its own requests with it.
    fn check_audiences(&self, report: &mut impl FnMut(&'static str, String)) {
        let keys = [
            ("console_client_id", self.console_client_id.as_slice()),
            ("cli_client_id", self.cli_client_id.as_slice()),
            ("console_audience", self.console_audience.as_slice()),
        ];
        for (key, values) in keys {
            for value in values {
                if value.is_empty() {
                    report(
                        key,
                        "is empty: write the name that the identity provider uses, or remove it".to_owned(),
                    );
                } else if self.audience.contains(value) {
                    report(
                        key,
                        format!(
                            "`{value}` is also an audience for callers, so any caller could vote: register a separate one \
                             for users"
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
        let mut report = |index: usize, key: &str, reason: String| {
            problems.push(ConfigProblem::new(format!("identity.oidc.{index}.{key}"), reason));
        };
        let providers: Vec<ProviderConfig> =
            self.oidc.iter().map(OidcProviderConfig::caller_provider).collect();
        // The rules for providers are those of the crate that verifies tokens.
        for error in TokenVerifier::check_providers(&providers) {
            report(error.index, error.key, error.reason);
        }
        for (index, oidc) in self.oidc.iter().enumerate() {
            oidc.check(&mut |key, reason| report(index, key, reason));
        }
    }
}

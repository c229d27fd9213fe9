//! `[aws]`: the roles that callers may use.

use super::Problem;
use serde::Deserialize;
use std::path::{Path, PathBuf};

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

impl Aws {
    /// Paths are relative to the configuration file's directory.
    pub fn resolve(&mut self, base: &Path) {
        if let Some(file) = &mut self.upstream_ca {
            *file = base.join(&file);
        }
    }

    pub fn check(&self, problems: &mut Vec<Problem>) {
        let over_tls = self.upstream.as_deref().is_some_and(|url| url.starts_with("https://"));
        if self.upstream_ca.is_some() && !over_tls {
            problems.push((
                "upstream_ca",
                "only an https `upstream` has a certificate to check: write upstream = \"https://...\" or leave this out"
                    .to_owned(),
            ));
        }
        for connection in &self.connection {
            connection.check(problems);
        }
    }
}

impl Connection {
    fn check(&self, problems: &mut Vec<Problem>) {
        let parts: Vec<&str> = self.role_arn.splitn(6, ':').collect();
        let is_role = matches!(parts.as_slice(), ["arn", _partition, "iam", "", account, role]
            if account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit()) && role.starts_with("role/"));
        if !is_role {
            problems.push((
                "role_arn",
                format!(
                    "`{}` is not a role ARN: write arn:aws:iam::<12-digit account>:role/<name>",
                    self.role_arn
                ),
            ));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if self.name.is_empty() || !self.name.bytes().all(plain) {
            problems.push((
                "name",
                format!("connection `{}`: use letters, digits, `-`, `_` and `.` only", self.name),
            ));
        }
    }
}

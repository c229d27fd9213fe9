//! `[aws]`: the roles that callers may use, and the sources of resource tags.

use super::{ConfigProblem, is_plain_name};
use durward_core::{Arn, is_account_id};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AwsConfig {
    /// Every request goes to this URL instead of AWS. For emulators only.
    pub emulator_url: Option<String>,
    /// PEM file with the authorities that may sign the emulator's certificate, instead of the system's authorities.
    pub emulator_ca_file: Option<PathBuf>,
    #[serde(default)]
    pub connection: Vec<AwsConnectionConfig>,
    /// Where resource tags for policies come from, in addition to the labels.
    #[serde(default)]
    pub tags: TagSource,
    #[serde(default)]
    pub label: Vec<LabelConfig>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TagSource {
    /// Read from AWS when a policy needs them.
    #[default]
    Live,
    /// Only the labels of this file.
    Labels,
}

/// Tags that resources have for policies, whatever AWS says.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelConfig {
    /// An ARN pattern: `*` matches any text, `?` any character.
    pub arn: String,
    pub tags: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AwsConnectionConfig {
    pub name: String,
    pub role_arn: String,
    pub external_id: Option<String>,
    #[serde(default)]
    pub scope: ConnectionScopeConfig,
    /// The role that reads tags for this connection, instead of `role_arn`.
    pub tag_reader_role_arn: Option<String>,
    /// The other accounts whose S3 buckets may be used, beside the account of the role; `"*"` for any account.
    #[serde(default)]
    pub bucket_accounts: Vec<String>,
    /// The region whose STS endpoint is used.
    #[serde(default = "default_region")]
    pub region: String,
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionScopeConfig {
    #[default]
    Operation,
    Session,
}

impl AwsConfig {
    /// Paths are relative to the configuration file's directory.
    pub fn resolve_paths(&mut self, base: &Path) {
        if let Some(file) = &mut self.emulator_ca_file {
            *file = base.join(&file);
        }
    }

    pub fn check(&self, problems: &mut Vec<ConfigProblem>) {
        let over_tls = self.emulator_url.as_deref().is_some_and(|url| url.starts_with("https://"));
        if self.emulator_ca_file.is_some() && !over_tls {
            problems.push(ConfigProblem::new(
                "aws.emulator_ca_file",
                "only an https `emulator_url` has a certificate to check: write emulator_url = \"https://...\" or remove this key",
            ));
        }
        for (index, connection) in self.connection.iter().enumerate() {
            let mut report = |key, reason| {
                problems.push(ConfigProblem::new(format!("aws.connection.{index}.{key}"), reason));
            };
            connection.check(&mut report);
        }
        for (index, label) in self.label.iter().enumerate() {
            if label.arn != "*" && !label.arn.starts_with("arn:") {
                problems.push(ConfigProblem::new(
                    format!("aws.label.{index}.arn"),
                    format!(
                        "`{}` is not an ARN pattern: write arn:aws:s3:::prod-*, or \"*\" for every resource",
                        label.arn
                    ),
                ));
            }
            if label.tags.is_empty() {
                problems.push(ConfigProblem::new(
                    format!("aws.label.{index}.tags"),
                    format!("`{}` has no tags: write tags = {{ critical = \"true\" }}", label.arn),
                ));
            }
        }
    }
}

impl AwsConnectionConfig {
    fn check(&self, report: &mut impl FnMut(&'static str, String)) {
        let roles =
            [("role_arn", Some(&self.role_arn)), ("tag_reader_role_arn", self.tag_reader_role_arn.as_ref())];
        for (key, role_arn) in roles {
            if let Some(role_arn) = role_arn.filter(|role_arn| !is_role_arn(role_arn)) {
                report(
                    key,
                    format!(
                        "`{role_arn}` is not a role ARN: write arn:aws:iam::<12-digit account>:role/<name>"
                    ),
                );
            }
        }
        let account = |role_arn: &str| Arn::parse(role_arn).map(|arn| arn.account.to_owned());
        if let Some(reader) = &self.tag_reader_role_arn
            && account(reader) != account(&self.role_arn)
        {
            report(
                "tag_reader_role_arn",
                format!("`{reader}` is in another account than role_arn, so it cannot read its tags"),
            );
        }
        for account in &self.bucket_accounts {
            if account != "*" && !is_account_id(account) {
                report(
                    "bucket_accounts",
                    format!(
                        "`{account}` is not an account: write its twelve digits, or \"*\" for any account"
                    ),
                );
            }
        }
        if !is_plain_name(&self.name) {
            report("name", format!("connection `{}`: use only letters, digits, `-`, `_` and `.`", self.name));
        }
    }
}

fn is_role_arn(text: &str) -> bool {
    Arn::parse(text).is_some_and(|arn| {
        arn.service == "iam" && is_account_id(arn.account) && arn.resource.starts_with("role/")
    })
}

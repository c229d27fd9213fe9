//! `[aws]`: the roles that callers may use.

use super::ConfigProblem;
use durward_core::Arn;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsConfig {
    /// Only for an emulator: every service goes here.
    pub emulator_url: Option<String>,
    /// PEM file with the authorities that `upstream`'s certificate may come from, instead of the system's.
    pub emulator_ca_file: Option<PathBuf>,
    #[serde(default)]
    pub connection: Vec<AwsConnectionConfig>,
    /// Where the tags of resources come from that policies read, beside the labels.
    #[serde(default)]
    pub tags: TagSource,
    #[serde(default)]
    pub label: Vec<LabelConfig>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TagSource {
    /// From AWS, as they are now.
    #[default]
    Live,
    /// From nowhere else.
    Labels,
}

/// Tags that resources have here whatever AWS says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelConfig {
    /// An ARN; `*` stands for any text, `?` for one character.
    pub arn: String,
    pub tags: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsConnectionConfig {
    pub name: String,
    pub role_arn: String,
    pub external_id: Option<String>,
    #[serde(default)]
    pub scope: ConnectionScopeConfig,
    /// The role that reads tags for this connection, instead of its own.
    pub tag_reader_role_arn: Option<String>,
    /// The region whose STS is asked.
    #[serde(default = "default_region")]
    pub region: String,
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
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
            let mut wrong = |key, why| {
                problems.push(ConfigProblem::new(format!("aws.connection.{index}.{key}"), why));
            };
            connection.check(&mut wrong);
        }
        for (index, label) in self.label.iter().enumerate() {
            if label.arn != "*" && !label.arn.starts_with("arn:") {
                problems.push(ConfigProblem::new(
                    format!("aws.label.{index}.arn"),
                    format!(
                        "`{}` is not an ARN: write arn:aws:s3:::prod-*, or \"*\" for every resource",
                        label.arn
                    ),
                ));
            }
            if label.tags.is_empty() {
                problems.push(ConfigProblem::new(
                    format!("aws.label.{index}.tags"),
                    format!("`{}` is given no tags: write tags = {{ critical = \"true\" }}", label.arn),
                ));
            }
        }
    }
}

impl AwsConnectionConfig {
    fn check(&self, wrong: &mut impl FnMut(&'static str, String)) {
        let roles =
            [("role_arn", Some(&self.role_arn)), ("tag_reader_role_arn", self.tag_reader_role_arn.as_ref())];
        for (key, role_arn) in roles {
            if let Some(role_arn) = role_arn.filter(|role_arn| !is_role_arn(role_arn)) {
                wrong(
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
            wrong(
                "tag_reader_role_arn",
                format!(
                    "`{reader}` is of another account than role_arn: it would find none of its resources"
                ),
            );
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if self.name.is_empty() || !self.name.bytes().all(plain) {
            wrong("name", format!("connection `{}`: use letters, digits, `-`, `_` and `.` only", self.name));
        }
    }
}

fn is_role_arn(text: &str) -> bool {
    Arn::parse(text).is_some_and(|arn| {
        arn.service == "iam"
            && arn.account.len() == 12
            && arn.account.bytes().all(|byte| byte.is_ascii_digit())
            && arn.resource.starts_with("role/")
    })
}

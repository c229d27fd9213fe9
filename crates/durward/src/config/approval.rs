//! `[approval]`: how long a request is held, who may override a quorum, which tags raise the risk.

use super::ConfigProblem;
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalConfig {
    /// How long a request is held while it waits for approval. Also the deadline for votes if the policy has no `@timeout`.
    #[serde(default = "default_hold", deserialize_with = "deserialize_duration")]
    #[schemars(with = "String", regex(pattern = "^[1-9][0-9]*[smhd]$"))]
    pub hold: Duration,
    /// Its members may override the quorum (break-glass).
    pub break_glass_group: Option<String>,
    /// Tags that raise the risk of an operation on a resource.
    #[serde(default)]
    pub risky_tag: Vec<RiskyTagConfig>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RiskyTagConfig {
    pub key: String,
    pub value: String,
    /// How much it adds to the risk, from 1 to 100.
    #[serde(deserialize_with = "deserialize_weight")]
    #[schemars(range(min = 1, max = 100))]
    pub weight: u8,
}

impl Default for ApprovalConfig {
    fn default() -> Self {
        Self { hold: default_hold(), break_glass_group: None, risky_tag: Vec::new() }
    }
}

fn default_hold() -> Duration {
    Duration::from_mins(5)
}

impl ApprovalConfig {
    pub fn risky_tags(&self) -> Vec<durward_core::RiskyTag> {
        let tag = |tag: &RiskyTagConfig| durward_core::RiskyTag {
            key: tag.key.clone(),
            value: tag.value.clone(),
            weight: tag.weight,
        };
        self.risky_tag.iter().map(tag).collect()
    }

    pub fn check(&self, problems: &mut Vec<ConfigProblem>) {
        if self.break_glass_group.as_ref().is_some_and(|group| group.trim().is_empty()) {
            problems.push(ConfigProblem::new(
                "approval.break_glass_group",
                "is empty: name a group, or remove the key, and then no user can override a quorum",
            ));
        }
        if self.hold > durward_core::limits::MAX_HOLD_TIME {
            problems.push(ConfigProblem::new(
                "approval.hold",
                "a request is held for an hour at most; after that the client sends it again once it is approved",
            ));
        }
    }
}

fn deserialize_duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    // Read as any value first, so that the error for `hold = 5` names the right form as well.
    let value = toml::Value::deserialize(deserializer)?;
    value.as_str().and_then(durward_core::parse_duration).ok_or_else(|| {
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        serde::de::Error::custom(format!(
            "`{shown}` is not a duration: write a number and s, m, h or d in quotes, as in \"5m\""
        ))
    })
}

fn deserialize_weight<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let value = toml::Value::deserialize(deserializer)?;
    value
        .as_integer()
        .and_then(|weight| u8::try_from(weight).ok())
        .filter(|weight| (1..=100).contains(weight))
        .ok_or_else(|| serde::de::Error::custom(format!("`{value}`: a weight is a number from 1 to 100")))
}

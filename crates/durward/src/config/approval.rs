//! `[approval]`: how long callers wait, and who may go past a quorum.

use super::Problem;
use serde::Deserialize;
use std::time::Duration;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// How long a caller is held open while people are asked; also the time they have where the policy says none.
    #[serde(default = "five_minutes", deserialize_with = "duration")]
    pub hold: Duration,
    /// Its members may go on at once; loudly recorded.
    pub break_glass_group: Option<String>,
    /// Tags that make what is done to a resource riskier.
    #[serde(default)]
    pub risky_tag: Vec<RiskyTag>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RiskyTag {
    pub key: String,
    pub value: String,
    /// What it adds, from 1 to 100.
    #[serde(deserialize_with = "weight")]
    pub weight: u8,
}

impl Default for Approval {
    fn default() -> Self {
        Self { hold: five_minutes(), break_glass_group: None, risky_tag: Vec::new() }
    }
}

fn five_minutes() -> Duration {
    Duration::from_mins(5)
}

impl Approval {
    pub fn risky_tags(&self) -> Vec<durward_core::RiskyTag> {
        let tag = |tag: &RiskyTag| durward_core::RiskyTag {
            key: tag.key.clone(),
            value: tag.value.clone(),
            weight: tag.weight,
        };
        self.risky_tag.iter().map(tag).collect()
    }

    pub fn check(&self, problems: &mut Vec<Problem>) {
        if self.break_glass_group.as_ref().is_some_and(|group| group.trim().is_empty()) {
            problems.push(Problem::new(
                "approval.break_glass_group",
                "no group has an empty name: name one, or leave the key out for nobody",
            ));
        }
        if self.hold > durward_core::limits::HOLD {
            problems.push(Problem::new(
                "approval.hold",
                "a caller is held open for an hour at most; what takes longer is sent again once it is approved",
            ));
        }
    }
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let value = toml::Value::deserialize(deserializer)?;
    value.as_str().and_then(durward_core::parse_duration).ok_or_else(|| {
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        serde::de::Error::custom(format!(
            "`{shown}` is not a duration: write a number and s, m, h or d in quotes, as in \"5m\""
        ))
    })
}

fn weight<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let value = toml::Value::deserialize(deserializer)?;
    value
        .as_integer()
        .and_then(|weight| u8::try_from(weight).ok())
        .filter(|weight| (1..=100).contains(weight))
        .ok_or_else(|| serde::de::Error::custom(format!("`{value}`: a weight is from 1 to 100")))
}

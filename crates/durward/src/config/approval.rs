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
}

impl Default for Approval {
    fn default() -> Self {
        Self { hold: five_minutes(), break_glass_group: None }
    }
}

fn five_minutes() -> Duration {
    Duration::from_mins(5)
}

impl Approval {
    pub fn check(&self, problems: &mut Vec<Problem>) {
        if self.hold > durward_core::limits::HOLD {
            problems.push((
                "approval.hold",
                "a caller is held open for an hour at most; what takes longer is sent again once it is approved"
                    .to_owned(),
            ));
        }
    }
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    durward_core::parse_duration(&text).ok_or_else(|| {
        serde::de::Error::custom(format!(
            "`{text}` is not a duration: write a number and s, m, h or d, as in \"5m\""
        ))
    })
}

//! `[[masking.pattern]]`: data classes of this deployment, masked beside the built-in ones.

use super::ConfigProblem;
use durward_masking::{CustomPattern, DataClass, InvalidDataClassName, Masker, MaskerOptions, PatternError};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaskingConfig {
    #[serde(default)]
    pub pattern: Vec<MaskingPatternConfig>,
}

/// Values that match are masked, unless policy permits `reveal` for the data class.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaskingPatternConfig {
    /// The name of the data class in policies and placeholders: 1 to 64 characters of a-z, 0-9 and -.
    pub data_class: String,
    /// A regular expression in the syntax of the Rust crate `regex`, over ASCII. It searches one value at a time.
    pub regex: String,
}

/// Why a pattern of the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
enum MaskingPatternError {
    #[error(transparent)]
    Name(#[from] InvalidDataClassName),
    #[error(
        "the name is that of a built-in data class: choose another, so that a policy can tell them apart"
    )]
    BuiltIn,
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

impl MaskingPatternError {
    fn key(&self) -> &'static str {
        match self {
            Self::Name(_) | Self::BuiltIn => "data_class",
            Self::Pattern(_) => "regex",
        }
    }
}

impl MaskingPatternConfig {
    fn compile(&self) -> Result<CustomPattern, MaskingPatternError> {
        let class = DataClass::parse(&self.data_class)?;
        if DataClass::BUILT_IN.contains(&class) {
            return Err(MaskingPatternError::BuiltIn);
        }
        Ok(CustomPattern::new(class, &self.regex)?)
    }
}

impl MaskingConfig {
    pub fn check(&self, problems: &mut Vec<ConfigProblem>) {
        for (index, pattern) in self.pattern.iter().enumerate() {
            if let Err(error) = pattern.compile() {
                let key_path = format!("masking.pattern.{index}.{}", error.key());
                problems.push(ConfigProblem::new(key_path, error.to_string()));
            }
        }
    }

    /// The built-in detectors and the patterns. Patterns that do not compile are left out: [`Self::check`] has refused them.
    pub fn masker(&self) -> Masker {
        let patterns = self.pattern.iter().filter_map(|pattern| pattern.compile().ok()).collect();
        Masker::new(MaskerOptions { patterns })
    }
}

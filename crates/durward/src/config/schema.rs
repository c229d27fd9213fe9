//! The JSON Schema of `durward.toml`, from the types that read it. It is for completion and hints in editors: `config check`
//! finds more.

use super::Config;
use schemars::generate::SchemaSettings;

/// The schema as indented JSON.
pub fn render_config_schema() -> String {
    // Editors of TOML read draft 7.
    let generator = SchemaSettings::draft07().into_generator();
    let mut schema = generator.into_root_schema_for::<Config>();
    schema.insert("title".to_owned(), "durward.toml".into());
    format!("{:#}", schema.as_value())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_config;
    use serde_json::Value;
    use std::path::Path;

    const VALID_CONFIGS: [&str; 3] = [
        include_str!("../../../../examples/eks-irsa.toml"),
        include_str!("../../../../examples/laptop.toml"),
        include_str!("../../../../examples/mcp-only.toml"),
    ];

    fn validator() -> jsonschema::Validator {
        let schema: Value = serde_json::from_str(&render_config_schema()).unwrap();
        jsonschema::draft7::new(&schema).unwrap()
    }

    #[test]
    fn accepts_what_the_gateway_accepts() {
        let validator = validator();
        for text in VALID_CONFIGS {
            parse_config(text, Path::new("/")).unwrap();
            let value: Value = toml::from_str(text).unwrap();
            let problems: Vec<String> =
                validator.iter_errors(&value).map(|error| error.to_string()).collect();
            assert!(problems.is_empty(), "{problems:?}");
        }
    }

    #[test]
    fn refuses_unknown_keys_and_values_of_another_type() {
        let validator = validator();
        let [valid, ..] = VALID_CONFIGS;
        for (from, to) in [
            ("[policy]\n", "[policy]\nunknown = 1\n"),
            ("[policy]\n", "[approval]\nhold = \"5\"\n[policy]\n"),
            (
                "[policy]\n",
                "[approval]\nrisky_tag = [{ key = \"a\", value = \"b\", weight = 101 }]\n[policy]\n",
            ),
            ("[policy]\ndir", "[policy]\ndirectory"),
        ] {
            let text = valid.replacen(from, to, 1);
            assert_ne!(text, valid);
            let value: Value = toml::from_str(&text).unwrap();
            assert!(!validator.is_valid(&value), "{to}");
            assert!(parse_config(&text, Path::new("/")).is_err(), "{to}");
        }
    }
}

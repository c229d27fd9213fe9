//! What is wrong with a configuration, or should be otherwise, and where that stands in its file.

use durward_core::Secret;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// One thing to be told of a configuration.
#[derive(Debug)]
pub struct ConfigProblem {
    /// The key with its tables and their indices, as `identity.oidc.0.issuer`. Empty: the configuration as a whole.
    key_path: String,
    message: String,
}

impl ConfigProblem {
    pub fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { key_path: place.into(), message: what.into() }
    }

    /// The key with its table as it is written in a file: `[[identity.oidc]] issuer`.
    fn display_key(&self) -> String {
        let steps: Vec<&str> = self.key_path.split('.').collect();
        let is_index = |step: &&str| step.bytes().all(|byte| byte.is_ascii_digit());
        let (table, key) = match steps.split_last() {
            Some((last, table)) if !is_index(last) => (table, *last),
            _ => (steps.as_slice(), ""),
        };
        let is_list = table.last().is_some_and(is_index);
        let names: Vec<&str> = table.iter().copied().filter(|step| !is_index(step)).collect();
        let names = names.join(".");
        let shown = match (names.is_empty(), is_list) {
            (true, _) => String::new(),
            (false, true) => format!("[[{names}]] "),
            (false, false) => format!("[{names}] "),
        };
        format!("{shown}{key}").trim_end().to_owned()
    }
}

/// All that was found: what keeps the gateway from starting, and what does not but should be mended.
#[derive(Debug, Default)]
pub struct Diagnostics {
    pub problems: Vec<ConfigProblem>,
    pub warnings: Vec<ConfigProblem>,
}

impl Diagnostics {
    /// The value, or a problem at `place`, unless one is known there already.
    pub fn value_or_problem<T>(&mut self, place: &str, result: Result<T, impl ToString>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(why) => {
                if !self.problems.iter().any(|known| known.key_path == place) {
                    self.problems.push(ConfigProblem::new(place, why.to_string()));
                }
                None
            }
        }
    }

    /// Whether something is wrong in this table.
    pub fn has_problems_in(&self, table: &str) -> bool {
        let within = |problem: &ConfigProblem| {
            problem.key_path.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.problems.iter().any(within)
    }

    /// The secret that a file holds, without the space around it.
    pub fn load_secret(&mut self, place: &str, file: &Path) -> Option<Secret> {
        let secret = self.value_or_problem(place, read_secret(file))?;
        self.warn_if_exposed(place, file);
        Some(secret)
    }

    /// Warns if others may read a file with a secret. It is used all the same: Kubernetes mounts secrets so.
    pub fn warn_if_exposed(&mut self, place: &str, file: &Path) {
        let Ok(metadata) = std::fs::metadata(file) else { return };
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let file = file.display();
            let what =
                format!("others than its owner may use this secret (mode {mode:03o}): chmod 600 {file}");
            self.warnings.push(ConfigProblem::new(place, what));
        }
    }
}

fn read_secret(file: &Path) -> Result<Secret, String> {
    let shown = file.display();
    let bytes = std::fs::read(file).map_err(|error| {
        format!(
            "{shown}: cannot be read: {error}; put the secret there, for the user who runs `durward serve`"
        )
    })?;
    let text = String::from_utf8(bytes)
        .map_err(|_error| format!("{shown}: is not text: put the secret there, and nothing else"))?;
    match text.trim() {
        "" => Err(format!("{shown}: is empty: put the secret there")),
        secret => Ok(Secret::new(secret)),
    }
}

/// A configuration file as it was read, to say where in it something is. The default one has no file.
#[derive(Debug, Default)]
pub struct ConfigSource {
    pub path: PathBuf,
    pub text: String,
}

impl ConfigSource {
    /// A problem a line, in the order of the file.
    pub fn format_problems(&self, problems: &[ConfigProblem]) -> String {
        let mut lines: Vec<(usize, String)> = problems
            .iter()
            .map(|problem| (self.line_number(&problem.key_path), self.format_problem(problem)))
            .collect();
        lines.sort_by_key(|(line, _text)| *line);
        let lines: Vec<String> = lines.into_iter().map(|(_line, text)| text).collect();
        lines.join("\n")
    }

    /// File, line, key and what is wrong.
    pub fn format_problem(&self, problem: &ConfigProblem) -> String {
        let mut shown = String::new();
        if !self.path.as_os_str().is_empty() {
            shown = format!("{}:", self.path.display());
            if !problem.key_path.is_empty() {
                shown = format!("{shown}{}:", self.line_number(&problem.key_path));
            }
            shown.push(' ');
        }
        match problem.display_key().as_str() {
            "" => format!("{shown}{}", problem.message),
            key => format!("{shown}{key}: {}", problem.message),
        }
    }

    /// The line of a key; of what is nearest above it where the key is not there.
    fn line_number(&self, place: &str) -> usize {
        let Ok(document) = DeTable::parse(&self.text) else { return 1 };
        let document = DeValue::Table(document.into_inner());
        let (mut here, mut offset) = (&document, 0);
        for step in place.split('.') {
            let found = match (here, step.parse::<usize>()) {
                (DeValue::Table(table), _) => {
                    table.get_key_value(step).map(|(key, value)| (value, key.span().start))
                }
                (DeValue::Array(list), Ok(index)) => list.get(index).map(|value| (value, value.span().start)),
                _ => None,
            };
            let Some((value, at)) = found else { break };
            (here, offset) = (value.get_ref(), at);
        }
        self.text.get(..offset).map_or(1, |before| before.matches('\n').count() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_path_is_shown_with_its_table_and_found_in_any_toml_spelling() {
        let source = ConfigSource {
            path: "durward.toml".into(),
            text: "identity.oidc = [\n  { name = \"one\" },\n  { name = \"two\",\n    issuer = \"x\" },\n]\n\
                   listen.tls = { key_file = \"k\" }\n# url_file\n[[notify.slack]]\nurl_file = \"u\"\n[[notify.slack]]\n"
                .to_owned(),
        };
        for (place, told) in [
            ("identity.oidc.1.issuer", "durward.toml:4: [[identity.oidc]] issuer: wrong"),
            ("identity.oidc.0.issuer", "durward.toml:2: [[identity.oidc]] issuer: wrong"),
            ("identity.oidc.0", "durward.toml:2: [[identity.oidc]]: wrong"),
            ("listen.tls.key_file", "durward.toml:6: [listen.tls] key_file: wrong"),
            ("notify.slack.0.url_file", "durward.toml:9: [[notify.slack]] url_file: wrong"),
            ("notify.slack.1.url_file", "durward.toml:10: [[notify.slack]] url_file: wrong"),
            ("data_dir", "durward.toml:1: data_dir: wrong"),
            ("", "durward.toml: wrong"),
        ] {
            assert_eq!(source.format_problem(&ConfigProblem::new(place, "wrong")), told);
        }
        let nowhere = ConfigSource::default();
        assert_eq!(nowhere.format_problem(&ConfigProblem::new("policy.dir", "wrong")), "[policy] dir: wrong");
    }

    #[test]
    fn a_secret_readable_by_others_is_used_with_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, " s3cret\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        for (bits, warned) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true), (0o644, true)] {
            mode(bits);
            let mut findings = Diagnostics::default();
            assert_eq!(findings.load_secret("x.file", &file).unwrap().expose(), "s3cret");
            assert!(findings.problems.is_empty());
            let told = findings.warnings.pop().map(|warning| warning.message).unwrap_or_default();
            assert_eq!(told.contains(&format!("chmod 600 {}", file.display())), warned, "{bits:o}: {told}");
            assert!(!told.contains("s3cret"));
        }
        std::fs::write(&file, " \n").unwrap();
        for (file, why) in [(file.clone(), "is empty"), (dir.path().join("none"), "cannot be read: No such")]
        {
            let mut findings = Diagnostics::default();
            assert!(findings.load_secret("x.file", &file).is_none());
            assert!(findings.problems[0].message.contains(why), "{findings:?}");
        }
    }
}

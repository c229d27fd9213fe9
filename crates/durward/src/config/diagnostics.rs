//! Problems and warnings of a configuration, with the line of the file that each is about.

use crate::input_files::read_secret;
use durward_core::Secret;
use durward_core::redact_user_info;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// One problem or warning.
#[derive(Debug)]
pub struct ConfigProblem {
    /// The key with its tables and their indices: `identity.oidc.0.issuer`. Empty for the configuration as a whole.
    key_path: String,
    message: String,
}

impl ConfigProblem {
    pub fn new(key_path: impl Into<String>, message: impl Into<String>) -> Self {
        // Many problems quote the URL that they are about, and a URL may hold a password.
        Self { key_path: key_path.into(), message: redact_user_info(&message.into()) }
    }

    /// The key with its table as a file has it: `[[identity.oidc]] issuer`.
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

/// Everything that was found. The gateway does not start with problems; it starts with warnings.
#[derive(Debug, Default)]
pub struct Diagnostics {
    pub problems: Vec<ConfigProblem>,
    pub warnings: Vec<ConfigProblem>,
}

impl Diagnostics {
    /// Returns the value, or records the error as a problem of the key. A key has one problem at most: the first.
    pub fn value_or_problem<T>(&mut self, key_path: &str, result: Result<T, impl ToString>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                if !self.problems.iter().any(|known| known.key_path == key_path) {
                    self.problems.push(ConfigProblem::new(key_path, error.to_string()));
                }
                None
            }
        }
    }

    /// Whether this table has a problem.
    pub fn has_problems_in(&self, table: &str) -> bool {
        let within = |problem: &ConfigProblem| {
            problem.key_path.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.problems.iter().any(within)
    }

    /// The secret that a file holds.
    pub fn load_secret(&mut self, key_path: &str, file: &Path) -> Option<Secret> {
        let secret = self.value_or_problem(key_path, read_secret(file))?;
        self.warn_if_exposed(key_path, file);
        Some(secret)
    }

    /// Warns if other users can read a file with a secret. It is no problem, because Kubernetes mounts secrets with mode 644
    /// (Kubernetes documentation, "Secrets": `defaultMode`).
    pub fn warn_if_exposed(&mut self, key_path: &str, file: &Path) {
        let Ok(metadata) = std::fs::metadata(file) else { return };
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let file = file.display();
            let message = format!("other users can use this secret (mode {mode:03o}): chmod 600 {file}");
            self.warnings.push(ConfigProblem::new(key_path, message));
        }
    }
}

/// The text of a configuration file, to find the lines of its keys. A configuration that came without a file has no path.
#[derive(Debug, Default)]
pub struct ConfigSource {
    pub path: PathBuf,
    pub text: String,
}

impl ConfigSource {
    /// One problem on each line, in the order of the file.
    pub fn format_problems(&self, problems: &[ConfigProblem]) -> String {
        let mut lines: Vec<(usize, String)> = problems
            .iter()
            .map(|problem| (self.line_number(&problem.key_path), self.format_problem(problem)))
            .collect();
        lines.sort_by_key(|(line, _text)| *line);
        let lines: Vec<String> = lines.into_iter().map(|(_line, text)| text).collect();
        lines.join("\n")
    }

    /// File, line, key and message.
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

    /// The line of a key. If the file does not have it, the line of the innermost table above it that the file has.
    fn line_number(&self, key_path: &str) -> usize {
        let Ok(document) = DeTable::parse(&self.text) else { return 1 };
        let document = DeValue::Table(document.into_inner());
        let (mut here, mut offset) = (&document, 0);
        for step in key_path.split('.') {
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
        for (key_path, expected) in [
            ("identity.oidc.1.issuer", "durward.toml:4: [[identity.oidc]] issuer: wrong"),
            ("identity.oidc.0.issuer", "durward.toml:2: [[identity.oidc]] issuer: wrong"),
            ("identity.oidc.0", "durward.toml:2: [[identity.oidc]]: wrong"),
            ("listen.tls.key_file", "durward.toml:6: [listen.tls] key_file: wrong"),
            ("notify.slack.0.url_file", "durward.toml:9: [[notify.slack]] url_file: wrong"),
            ("notify.slack.1.url_file", "durward.toml:10: [[notify.slack]] url_file: wrong"),
            ("data_dir", "durward.toml:1: data_dir: wrong"),
            ("", "durward.toml: wrong"),
        ] {
            assert_eq!(source.format_problem(&ConfigProblem::new(key_path, "wrong")), expected);
        }
        let no_file = ConfigSource::default();
        assert_eq!(no_file.format_problem(&ConfigProblem::new("policy.dir", "wrong")), "[policy] dir: wrong");
    }

    #[test]
    fn a_secret_readable_by_others_is_used_with_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, " s3cret\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        for (bits, is_warned) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true), (0o644, true)]
        {
            mode(bits);
            let mut findings = Diagnostics::default();
            assert_eq!(findings.load_secret("x.file", &file).unwrap().expose(), "s3cret");
            assert!(findings.problems.is_empty());
            let warning = findings.warnings.pop().map(|warning| warning.message).unwrap_or_default();
            assert_eq!(
                warning.contains(&format!("chmod 600 {}", file.display())),
                is_warned,
                "{bits:o}: {warning}"
            );
            assert!(!warning.contains("s3cret"));
        }
        std::fs::write(&file, " \n").unwrap();
        for (file, reason) in
            [(file.clone(), "is empty"), (dir.path().join("none"), "cannot be read: No such")]
        {
            let mut findings = Diagnostics::default();
            assert!(findings.load_secret("x.file", &file).is_none());
            assert!(findings.problems[0].message.contains(reason), "{findings:?}");
        }
    }
}

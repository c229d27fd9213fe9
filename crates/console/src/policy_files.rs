//! The policy files on disk, beside the policy set in force. Everything here blocks on file I/O.

use crate::{display_text::DisplayText, state::ConsoleState};
use durward_policy::PolicySet;
use std::path::{Path, PathBuf};

/// Longest part of one file that a page shows.
const MAX_POLICY_FILE_CHARS: usize = 256 << 10;

/// The result of comparing the files with the policy set in force.
pub enum PolicyFilesStatus {
    InForce,
    /// They load, and their set has this version.
    Newer(String),
    /// They do not load, for this reason.
    Invalid(String),
}

pub fn compare_policy_files(state: &ConsoleState, in_force: &PolicySet) -> PolicyFilesStatus {
    match PolicySet::load(&state.settings.policy_dir, state.schema_source) {
        Ok(files) if files.version() == in_force.version() => PolicyFilesStatus::InForce,
        Ok(files) => PolicyFilesStatus::Newer(files.version().to_owned()),
        Err(error) => PolicyFilesStatus::Invalid(error.to_string()),
    }
}

/// One file, as the policies page shows it.
pub struct PolicyFileView {
    pub name: DisplayText,
    /// The texts in `@id("...")`.
    pub ids: Vec<DisplayText>,
    pub text: DisplayText,
    pub hidden_chars: usize,
}

/// The `*.cedar` files of the directory, by name. The text of an unreadable file is the error.
pub fn read_policy_files(dir: &Path) -> Vec<PolicyFileView> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "cedar"))
        .collect();
    paths.sort();
    paths.into_iter().map(read_policy_file).collect()
}

fn read_policy_file(path: PathBuf) -> PolicyFileView {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| format!("cannot be read: {error}"));
    let ids = text.split("@id(\"").skip(1).filter_map(|rest| rest.split('"').next());
    let ids = ids.map(DisplayText::new).collect();
    let (text, hidden_chars) = DisplayText::from_multiline(&text).truncate_chars(MAX_POLICY_FILE_CHARS);
    PolicyFileView { name: DisplayText::new(name), ids, text, hidden_chars }
}

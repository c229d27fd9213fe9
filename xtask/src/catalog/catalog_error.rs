//! Why the catalog could not be generated.

use durward_catalog::index_format::IndexError;
use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("cannot {action} {}: {source}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is not JSON: {source}", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("cannot run {command}: {source}")]
    Start { command: String, source: io::Error },
    #[error("{command} failed: {stderr}")]
    Command { command: String, stderr: String },
    #[error(
        "{} has the hash {found}, not {pinned}; remove it and run again, or review the new package and pin it",
        path.display()
    )]
    HashMismatch { path: PathBuf, found: String, pinned: &'static str },
    #[error("overlay.toml: {0}")]
    OverlaySyntax(#[from] toml::de::Error),
    #[error("overlay.toml: [service.{service}] names the action {action}, which does not exist")]
    UnknownOverlayAction { service: String, action: String },
    #[error("overlay.toml has entries that fit no model: {}", .0.join(", "))]
    UnusedOverlayEntries(Vec<String>),
    #[error("overlay.toml: the packages have {0} now; remove it from [newer]")]
    SupersededOverlayEntry(String),
    #[error(
        "the authorization data call these actions Read or List, and their names do not; review each, and add it to one list of \
         [levels] in overlay.toml: {}",
        .0.join(", ")
    )]
    UnreviewedReads(Vec<String>),
    /// A package has a form that this generator does not know. It must be extended: a guess would be wrong in silence.
    #[error("{subject}: {problem}")]
    UnknownForm { subject: String, problem: String },
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl CatalogError {
    pub fn on_file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    pub fn unknown_form(subject: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::UnknownForm { subject: subject.into(), problem: problem.into() }
    }
}

//! Why a task ended without a result.

use crate::catalog::CatalogError;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

#[derive(Debug, thiserror::Error)]
pub enum XtaskError {
    #[error("xtask is not in a workspace")]
    NoWorkspace,
    #[error("cannot {action} {}: {source}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot run `{program}` for {step}: {source}")]
    Start { program: String, step: String, source: io::Error },
    #[error("{step} failed ({status})")]
    Command { step: String, status: ExitStatus },
    #[error("{step} failed; see {}", log.display())]
    Preparation { step: String, log: PathBuf },
    #[error("{} does not exist after {step}", path.display())]
    MissingProduct { step: &'static str, path: PathBuf },
    #[error("{} is not `name version`", .0.display())]
    InvalidPin(PathBuf),
    #[error("cannot parse {}: {source}", path.display())]
    Syntax { path: PathBuf, source: syn::Error },
    #[error("the OpenAPI document is not JSON: {0}")]
    OpenApi(serde_json::Error),
    #[error("{} holds no crate", .0.display())]
    NoCrate(PathBuf),
    #[error("fuzz/fuzz_targets has no target `{0}`")]
    UnknownFuzzTarget(String),
    #[error("fuzzing needs the nightly toolchain (rustup toolchain install nightly)")]
    NoNightly,
    #[error("{} differs from what its sources give; run `cargo xtask generate {generator}` and commit the result", path.display())]
    OutOfDate { path: PathBuf, generator: &'static str },
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("no test ran")]
    NoTestRan,
    #[error("{failed} failed; the logs are in {}", logs.display())]
    TestsFailed { failed: u32, logs: PathBuf },
}

impl XtaskError {
    /// For `map_err` on file operations: `File` with what was tried, `read` or `create`.
    pub fn on_file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}

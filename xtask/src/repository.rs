//! The directories that the tasks work in.

use crate::xtask_error::XtaskError;
use std::path::{Path, PathBuf};

/// Where the checkout is, and where build products and installed programs are kept.
#[derive(Debug, Clone)]
pub struct Repository {
    pub root: PathBuf,
    /// `CARGO_TARGET_DIR`, else `target` of the checkout.
    pub target_directory: PathBuf,
    /// `DURWARD_SUITES`, else `.suites` of the checkout: what the client suites and benchmarks install.
    pub suites_directory: PathBuf,
}

impl Repository {
    pub fn locate() -> Result<Self, XtaskError> {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or(XtaskError::NoWorkspace)?.to_path_buf();
        let directory = |variable: &str, default: &str| {
            let value = std::env::var_os(variable).filter(|value| !value.is_empty());
            root.join(value.unwrap_or_else(|| default.into()))
        };
        Ok(Self {
            target_directory: directory("CARGO_TARGET_DIR", "target"),
            suites_directory: directory("DURWARD_SUITES", ".suites"),
            root,
        })
    }
}

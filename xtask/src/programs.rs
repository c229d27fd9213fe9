//! Finding and running other programs.

use crate::xtask_error::XtaskError;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The program of this name on `PATH`.
pub fn find_program(name: impl AsRef<OsStr>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(name.as_ref()))
        .find(|program| program.is_file())
}

/// Whether the command exits with 0. What it prints is dropped.
pub fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs a command whose output goes to the terminal.
pub fn run_to_success(command: &mut Command, step: &str) -> Result<(), XtaskError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).status().map_err(|source| XtaskError::Start {
        program,
        step: step.to_owned(),
        source,
    })?;
    if status.success() { Ok(()) } else { Err(XtaskError::Command { step: step.to_owned(), status }) }
}

/// Runs a command and returns what it writes to standard output. Its standard error goes to the terminal.
pub fn output_of(command: &mut Command, step: &str) -> Result<Vec<u8>, XtaskError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| XtaskError::Start { program, step: step.to_owned(), source })?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(XtaskError::Command { step: step.to_owned(), status: output.status })
    }
}

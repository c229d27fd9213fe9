//! `cargo xtask docs`: the API documentation of every crate.

use crate::programs;
use crate::repository::Repository;
use crate::xtask_error::XtaskError;
use std::process::Command;

/// Private items are documented too: the readers of this code base are its developers.
const RUSTDOC_ARGUMENTS: [&str; 5] =
    ["doc", "--workspace", "--no-deps", "--locked", "--document-private-items"];

/// A broken link between items fails the build, so that renames keep the documentation true.
pub fn configure_rustdoc(cargo: &mut Command) -> &mut Command {
    cargo.args(RUSTDOC_ARGUMENTS).env("RUSTDOCFLAGS", "-D warnings")
}

/// Builds the documentation and prints where it begins.
pub fn build_docs() -> Result<(), XtaskError> {
    let repository = Repository::locate()?;
    let mut cargo = Command::new("cargo");
    configure_rustdoc(cargo.current_dir(&repository.root));
    programs::run_to_success(&mut cargo, "rustdoc")?;
    println!("{}", repository.target_directory.join("doc/durward/index.html").display());
    Ok(())
}

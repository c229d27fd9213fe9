//! `cargo xtask generate`: writes the files that are made from other sources, or checks that they are up to date.
//!
//! Each generator gives the whole content of its files, which depends on the repository and on pinned packages only. To add
//! one, add a variant to [`Generator`] and a function that returns its [`GeneratedFile`]s.

use crate::catalog;
use crate::generated_file::GeneratedFile;
use crate::programs;
use crate::repository::Repository;
use crate::xtask_error::XtaskError;
use clap::{Args, ValueEnum};
use std::process::Command;

#[derive(Args)]
pub struct GenerateOptions {
    /// Write nothing; fail if a file is not what its sources give
    #[arg(long)]
    check: bool,
    /// By default all
    #[arg(value_enum)]
    generators: Vec<Generator>,
}

/// What can be generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Generator {
    /// crates/catalog/data: the compiled index of the AWS APIs, and its manifest
    Catalog,
    /// docs/cli.md: the reference of the command line
    Cli,
    // Here: `Openapi` (the admin API), `ConfigSchema`.
}

impl Generator {
    fn name(self) -> &'static str {
        match self {
            Self::Catalog => "catalog",
            Self::Cli => "cli",
        }
    }

    fn generate(self, repository: &Repository) -> Result<Vec<GeneratedFile>, XtaskError> {
        match self {
            Self::Catalog => Ok(catalog::generate_catalog(repository)?),
            Self::Cli => {
                let mut durward = Command::new("cargo");
                durward.current_dir(&repository.root);
                durward.args([
                    "run",
                    "--quiet",
                    "--locked",
                    "--package",
                    "durward",
                    "--",
                    "command-reference",
                ]);
                let content = programs::output_of(&mut durward, "printing the command reference")?;
                Ok(vec![GeneratedFile { path: repository.root.join("docs/cli.md"), content }])
            }
        }
    }
}

/// Runs the named generators, or all.
pub fn run_generators(options: &GenerateOptions) -> Result<(), XtaskError> {
    let repository = Repository::locate()?;
    let all = Generator::value_variants();
    for generator in if options.generators.is_empty() { all } else { &options.generators } {
        for file in generator.generate(&repository)? {
            if options.check {
                check_file(&file, generator.name())?;
            } else {
                std::fs::write(&file.path, &file.content)
                    .map_err(XtaskError::on_file("write", &file.path))?;
            }
        }
    }
    Ok(())
}

fn check_file(file: &GeneratedFile, generator: &'static str) -> Result<(), XtaskError> {
    // A file that is missing is out of date too.
    if std::fs::read(&file.path).is_ok_and(|committed| committed == file.content) {
        return Ok(());
    }
    Err(XtaskError::OutOfDate { path: file.path.clone(), generator })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_changed_file_is_out_of_date() {
        let directory = tempfile::tempdir().unwrap();
        let file = GeneratedFile { path: directory.path().join("made"), content: b"new".to_vec() };
        assert!(check_file(&file, "catalog").is_err());
        std::fs::write(&file.path, "old").unwrap();
        assert!(check_file(&file, "catalog").is_err());
        std::fs::write(&file.path, "new").unwrap();
        assert!(check_file(&file, "catalog").is_ok());
    }
}

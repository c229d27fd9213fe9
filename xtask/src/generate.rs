//! `cargo xtask generate`: writes the files that are made from other sources, or checks that they are up to date.
//!
//! Each generator gives the whole content of its files, which depends on the repository and on pinned packages only. To add
//! one, add a variant to [`Generator`] and a function that returns its [`GeneratedFile`]s.

use crate::admin_api;
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
    /// docs/configuration.schema.json: the JSON Schema of durward.toml
    ConfigSchema,
    /// docs/admin-api.md: the reference of the admin API, from its OpenAPI document
    AdminApi,
}

impl Generator {
    fn name(self) -> &'static str {
        match self {
            Self::Catalog => "catalog",
            Self::Cli => "cli",
            Self::ConfigSchema => "config-schema",
            Self::AdminApi => "admin-api",
        }
    }

    fn generate(self, repository: &Repository) -> Result<Vec<GeneratedFile>, XtaskError> {
        match self {
            Self::Catalog => Ok(catalog::generate_catalog(repository)?),
            Self::Cli => {
                let content = output_of_durward(repository, &["command-reference"])?;
                Ok(vec![GeneratedFile { path: repository.root.join("docs/cli.md"), content }])
            }
            Self::ConfigSchema => {
                let content = output_of_durward(repository, &["config", "schema"])?;
                Ok(vec![GeneratedFile {
                    path: repository.root.join("docs/configuration.schema.json"),
                    content,
                }])
            }
            Self::AdminApi => {
                let source = repository.root.join("crates/console/src/api/openapi.json");
                let document = std::fs::read(&source).map_err(XtaskError::on_file("read", &source))?;
                let content = admin_api::render_reference(&document)?.into_bytes();
                Ok(vec![GeneratedFile { path: repository.root.join("docs/admin-api.md"), content }])
            }
        }
    }
}

fn output_of_durward(repository: &Repository, arguments: &[&str]) -> Result<Vec<u8>, XtaskError> {
    let mut durward = Command::new("cargo");
    durward.current_dir(&repository.root);
    durward.args(["run", "--quiet", "--locked", "--package", "durward", "--"]).args(arguments);
    programs::output_of(&mut durward, "running durward")
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

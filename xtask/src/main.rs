//! The development tasks of Durward, as subcommands of `cargo xtask`.
//!
//! A task prints its progress and its results to standard output and its error to standard error. It exits non-zero if
//! anything failed. Build products stay in `CARGO_TARGET_DIR`, installed programs in `DURWARD_SUITES`; nothing else is
//! written, but for `generate`, which writes the generated files of the repository.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool for developers")]

mod admin_api;
#[cfg(test)]
mod attack_lists;
mod bench;
mod catalog;
mod check;
mod docs;
mod flood;
mod fuzz;
mod generate;
mod generated_file;
mod installation;
mod programs;
mod repository;
mod step_runner;
mod structure;
mod suites;
mod summary_line;
mod test;
mod xtask_error;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Development tasks of Durward")]
struct CommandLine {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Check format, lock files, lints, dependencies and rustdoc, and that fuzz/ and benches/ compile
    Check,
    /// Run the checks and every test suite, and print one total
    Test(test::TestOptions),
    /// Run the fuzz targets (needs the nightly toolchain)
    Fuzz(fuzz::FuzzOptions),
    /// Measure the gateway beside its peers, and with ten thousand requests that wait for approval
    Bench(bench::BenchOptions),
    /// Attack the gateway with floods and starvation while honest callers work
    Flood(flood::FloodOptions),
    /// Write the generated files of the repository, or check that they are up to date
    Generate(generate::GenerateOptions),
    /// Build the API documentation, private items included; warnings are errors
    Docs,
    /// Measure how readable the source is: import circles, names, comments, share of tests
    Structure {
        /// A checkout or a crate; by default this repository
        directory: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let outcome = match CommandLine::parse().task {
        Task::Check => check::run_checks(),
        Task::Test(options) => test::run_tests(&options),
        Task::Fuzz(options) => fuzz::run_fuzz_targets(&options),
        Task::Bench(options) => bench::run_benchmarks(&options),
        Task::Flood(options) => flood::run_attacks(&options),
        Task::Generate(options) => generate::run_generators(&options),
        Task::Docs => docs::build_docs(),
        Task::Structure { directory } => structure::measure_and_print(directory),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn accepts_the_documented_command_lines_and_no_others() {
        let parses = |words: &str| {
            CommandLine::try_parse_from(["cargo xtask"].into_iter().chain(words.split_whitespace())).is_ok()
        };
        for words in [
            "check",
            "test",
            "test --only go --only unit",
            "fuzz --smoke",
            "fuzz sigv4",
            "bench --only held --held 500 --profile release",
            "bench --rounds 2",
            "flood",
            "flood --only sign-ins --profile dist",
            "generate",
            "generate --check catalog",
            "docs",
            "structure",
            "structure crates/aws",
        ] {
            assert!(parses(words), "{words}");
        }
        for words in [
            "",
            "test --only cobol",
            "test --only",
            "test --fast",
            "bench --rounds 0",
            "bench --rounds many",
            "bench --only nothing",
            "bench --profile dev",
            "flood --profile dev",
            "generate novel",
        ] {
            assert!(!parses(words), "{words}");
        }
    }
}

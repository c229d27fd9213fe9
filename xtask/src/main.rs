//! Development tasks: `cargo xtask test` runs every suite, `cargo xtask bench` measures the gateway beside its peers,
//! `cargo xtask catalog` generates the compiled index of AWS.
//!
//! A task prints what it does to standard output, its errors to standard error, and exits non-zero if anything failed.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool for developers")]

mod bench;
mod catalog;
mod suites;
mod test;

use std::process::ExitCode;

const USAGE: &str =
    "usage: cargo xtask test [--only unit|corpus|postgres|console|keycloak|python|js|go|java|rust]...
       cargo xtask bench [--only peers|held] [--rounds N] [--held N] [--profile dist|release]
       cargo xtask catalog [--check]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["test", options @ ..] => test::run_tests(options),
        ["bench", options @ ..] => bench::run_benchmarks(options),
        ["catalog"] => catalog::generate_or_check(false),
        ["catalog", "--check"] => catalog::generate_or_check(true),
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

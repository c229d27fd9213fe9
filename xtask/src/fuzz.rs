//! `cargo xtask fuzz`: runs the targets of fuzz/ with libFuzzer, from the seeds of fuzz/seeds.
//!
//! The coverage instrumentation and the sanitizer need a nightly toolchain. Everywhere else the targets still run over their
//! seeds, as a test of crates/fuzz-targets. What libFuzzer finds beyond the seeds is kept in the target directory, so that
//! the next run goes on from there; a smoke run starts from the seeds each time.

use crate::programs;
use crate::repository::Repository;
use crate::step_runner::StepRunner;
use crate::summary_line::TestCount;
use crate::xtask_error::XtaskError;
use clap::Args;
use std::path::PathBuf;
use std::process::Command;

const HOST_TARGET: &str = "x86_64-unknown-linux-gnu";
/// What `cargo fuzz` passes: coverage feedback, and crashes on invalid memory accesses in C dependencies.
const RUSTFLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0 \
    -Zsanitizer=address -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks";
/// Long enough to run every seed and some thousand mutations of it.
const SMOKE_SECONDS: u32 = 5;
/// libFuzzer reports an input that takes longer: the gateway reads one in milliseconds.
const MAX_SECONDS_PER_INPUT: u32 = 10;
const MAX_INPUT_BYTES: u32 = 64 << 10;

#[derive(Args)]
pub struct FuzzOptions {
    /// Run each target for seconds only, and succeed where there is no nightly toolchain
    #[arg(long)]
    smoke: bool,
    /// Run only this target; without --smoke until it is interrupted
    target: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FuzzDuration {
    /// Seconds, from the seeds alone and with one random seed: a change that breaks no parser must not fail by chance.
    Smoke,
    /// Seconds for each target, on top of what earlier runs found.
    EachInTurn,
    UntilInterrupted,
}

/// The programs that were built, and how they are started.
struct FuzzBuild {
    repository: Repository,
    programs: PathBuf,
    corpora: PathBuf,
}

/// Runs one target, or each for some seconds.
pub fn run_fuzz_targets(options: &FuzzOptions) -> Result<(), XtaskError> {
    let repository = Repository::locate()?;
    let targets = chosen_targets(&repository, options.target.as_deref())?;
    if !has_nightly() {
        if options.smoke {
            println!("{}", skipped_line());
            return Ok(());
        }
        return Err(XtaskError::NoNightly);
    }
    programs::run_to_success(&mut build_command(&repository), "building the fuzz targets")?;
    let build = FuzzBuild::new(repository);
    let duration = match (options.smoke, &options.target) {
        (true, _) => FuzzDuration::Smoke,
        (false, None) => FuzzDuration::EachInTurn,
        (false, Some(_)) => FuzzDuration::UntilInterrupted,
    };
    for target in &targets {
        println!("=== {target}");
        programs::run_to_success(
            &mut build.run_command(target, duration)?,
            &format!("fuzz target {target}"),
        )?;
    }
    Ok(())
}

/// The part of `cargo xtask test`: every target is one test.
pub fn run_smoke_step(runner: &StepRunner) -> Result<TestCount, XtaskError> {
    if !has_nightly() {
        println!("{}", skipped_line());
        return Ok(TestCount::default());
    }
    let mut total = runner.run_check("build the fuzz targets", build_command(&runner.repository))?;
    if total.failed > 0 {
        return Ok(total);
    }
    let build = FuzzBuild::new(runner.repository.clone());
    for target in chosen_targets(&runner.repository, None)? {
        let command = build.run_command(&target, FuzzDuration::Smoke)?;
        total.add(runner.run_check(&format!("fuzz {target}"), command)?);
    }
    Ok(total)
}

fn has_nightly() -> bool {
    programs::succeeds("cargo", &["+nightly", "--version"])
}

fn skipped_line() -> String {
    format!("fuzz: skipped: {}", XtaskError::NoNightly)
}

/// The names of the files in fuzz/fuzz_targets, or the one that was asked for.
fn chosen_targets(repository: &Repository, only: Option<&str>) -> Result<Vec<String>, XtaskError> {
    let directory = repository.root.join("fuzz/fuzz_targets");
    let mut targets = Vec::new();
    for entry in std::fs::read_dir(&directory).map_err(XtaskError::on_file("list", &directory))? {
        let path = entry.map_err(XtaskError::on_file("list", &directory))?.path();
        if path.extension().is_some_and(|extension| extension == "rs")
            && let Some(name) = path.file_stem()
        {
            targets.push(name.to_string_lossy().into_owned());
        }
    }
    targets.sort();
    match only {
        Some(name) if targets.iter().any(|target| target == name) => Ok(vec![name.to_owned()]),
        Some(name) => Err(XtaskError::UnknownFuzzTarget(name.to_owned())),
        None => Ok(targets),
    }
}

fn build_command(repository: &Repository) -> Command {
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(&repository.root)
        .args(["+nightly", "build", "--release", "--locked", "--bins"])
        // With an explicit target, build scripts and macros are compiled without the instrumentation.
        .args(["--target", HOST_TARGET, "--manifest-path", "fuzz/Cargo.toml", "--target-dir"])
        .arg(build_directory(repository))
        .env("RUSTFLAGS", RUSTFLAGS);
    cargo
}

fn build_directory(repository: &Repository) -> PathBuf {
    repository.target_directory.join("fuzz")
}

impl FuzzBuild {
    fn new(repository: Repository) -> Self {
        let directory = build_directory(&repository);
        Self {
            programs: directory.join(HOST_TARGET).join("release"),
            corpora: directory.join("corpus"),
            repository,
        }
    }

    /// libFuzzer writes new inputs into the first directory only; the seeds stay as they are committed.
    fn run_command(&self, target: &str, duration: FuzzDuration) -> Result<Command, XtaskError> {
        let corpus = match duration {
            FuzzDuration::Smoke => self.corpora.join("smoke").join(target),
            FuzzDuration::EachInTurn | FuzzDuration::UntilInterrupted => self.corpora.join(target),
        };
        if duration == FuzzDuration::Smoke && corpus.exists() {
            std::fs::remove_dir_all(&corpus).map_err(XtaskError::on_file("remove", &corpus))?;
        }
        std::fs::create_dir_all(&corpus).map_err(XtaskError::on_file("create", &corpus))?;
        let mut command = Command::new(self.programs.join(target));
        command
            // As cargo fuzz does: SQLite's amalgamation holds two equal tables of one name, which is no fault of a parser.
            .env("ASAN_OPTIONS", "detect_odr_violation=0")
            .arg(&corpus)
            .arg(self.repository.root.join("fuzz/seeds").join(target))
            .arg(format!("-artifact_prefix={}/{target}-", self.corpora.display()))
            .arg(format!("-max_len={MAX_INPUT_BYTES}"))
            .arg(format!("-timeout={MAX_SECONDS_PER_INPUT}"));
        match duration {
            FuzzDuration::Smoke => {
                command.args(["-seed=1".to_owned(), format!("-max_total_time={SMOKE_SECONDS}")]);
            }
            FuzzDuration::EachInTurn => {
                command.arg(format!("-max_total_time={SMOKE_SECONDS}"));
            }
            FuzzDuration::UntilInterrupted => {}
        }
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_targets_by_their_files() {
        let repository = Repository::locate().unwrap();
        let all = chosen_targets(&repository, None).unwrap();
        assert!(all.iter().any(|target| target == "sigv4"), "{all:?}");
        assert_eq!(chosen_targets(&repository, Some("sigv4")).unwrap(), ["sigv4"]);
        assert!(chosen_targets(&repository, Some("no_such_target")).is_err());
    }
}

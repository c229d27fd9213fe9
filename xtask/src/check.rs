//! `cargo xtask check`: what can be said of the source without running it.

use crate::docs;
use crate::programs;
use crate::step_runner::StepRunner;
use crate::summary_line::TestCount;
use crate::xtask_error::XtaskError;

/// Cargo workspaces of their own: neither `cargo test --workspace` nor the lints reach them.
const OTHER_WORKSPACES: [&str; 3] = ["benches/load", "benches/decode", "fuzz"];

/// In the order in which they run: what fails fast comes first.
#[derive(Debug, Clone, Copy)]
pub enum CheckStep {
    Format,
    LockFiles,
    Lints,
    Dependencies,
    Docs,
    OtherWorkspaces,
}

impl CheckStep {
    const ALL: [Self; 6] =
        [Self::Format, Self::LockFiles, Self::Lints, Self::Dependencies, Self::Docs, Self::OtherWorkspaces];

    pub fn run(self, runner: &StepRunner) -> Result<TestCount, XtaskError> {
        match self {
            Self::Format => runner.run_check("format", runner.cargo(&["fmt", "--all", "--check"])),
            Self::LockFiles => check_lock_files(runner),
            Self::Lints => {
                let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
                runner.run_check("lints", runner.cargo(&clippy))
            }
            Self::Dependencies => check_dependencies(runner),
            Self::Docs => {
                let mut rustdoc = runner.cargo(&[]);
                docs::configure_rustdoc(&mut rustdoc);
                runner.run_check("docs", rustdoc)
            }
            Self::OtherWorkspaces => check_other_workspaces(runner),
        }
    }
}

/// Runs every check, also after one has failed.
pub fn run_checks() -> Result<(), XtaskError> {
    let runner = StepRunner::open()?;
    let mut total = TestCount::default();
    for step in CheckStep::ALL {
        total.add(step.run(&runner)?);
    }
    runner.finish(total)
}

/// `cargo update --workspace --locked` changes nothing and fails where a lock file does not fit its manifest.
fn check_lock_files(runner: &StepRunner) -> Result<TestCount, XtaskError> {
    let mut total = TestCount::default();
    for workspace in OTHER_WORKSPACES {
        let manifest = format!("{workspace}/Cargo.toml");
        let update = ["update", "--workspace", "--locked", "--manifest-path", &manifest];
        total.add(
            runner.run_check(&format!("lock file of {}", short_name(workspace)), runner.cargo(&update))?,
        );
    }
    Ok(total)
}

/// `cargo deny` takes minutes to install, so a checkout may go without. Advisories need the public database, hence the
/// network: a public CI checks them.
fn check_dependencies(runner: &StepRunner) -> Result<TestCount, XtaskError> {
    if !programs::succeeds("cargo", &["deny", "--version"]) {
        println!("dependencies: skipped: `cargo deny` is not on PATH (cargo install --locked cargo-deny)");
        return Ok(TestCount::default());
    }
    let deny = ["deny", "--offline", "check", "bans", "licenses", "sources"];
    runner.run_check("dependencies", runner.cargo(&deny))
}

fn check_other_workspaces(runner: &StepRunner) -> Result<TestCount, XtaskError> {
    let mut total = TestCount::default();
    for workspace in OTHER_WORKSPACES {
        let mut check = runner.cargo(&["check", "--all-targets", "--locked"]);
        check.arg("--manifest-path").arg(format!("{workspace}/Cargo.toml"));
        // Their lock files have other versions and their builds other features: in the common directory each would
        // throw away what the other built.
        check.arg("--target-dir").arg(runner.repository.target_directory.join("other-workspaces"));
        total.add(runner.run_check(&format!("compile {}", short_name(workspace)), check)?);
    }
    Ok(total)
}

fn short_name(workspace: &str) -> &str {
    workspace.trim_start_matches("benches/")
}

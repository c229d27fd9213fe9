//! `cargo xtask test`: the checks, the unit tests, then the real-client suites; each runner's closing lines, and one total.
//!
//! A step that cannot run has failed. Only what needs `cargo deny`, a nightly toolchain, PostgreSQL, Chromium or Java is
//! skipped where that is missing, and then a line says so.

use crate::check::CheckStep;
use crate::fuzz;
use crate::step_runner::StepRunner;
use crate::suites::{self, ClientSuite};
use crate::summary_line::TestCount;
use crate::xtask_error::XtaskError;
use clap::{Args, ValueEnum};

#[derive(Args)]
pub struct TestOptions {
    /// Run only this part; may be repeated
    #[arg(long = "only", value_name = "PART", value_enum)]
    parts: Vec<TestPart>,
}

/// The parts, in the order in which they run: what fails fast comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TestPart {
    /// rustfmt
    Format,
    /// The lock files of fuzz/ and benches/ match their manifests
    LockFiles,
    /// clippy, warnings are errors
    Lints,
    /// cargo deny: licences, sources, banned and duplicate crates
    Dependencies,
    /// rustdoc, warnings are errors
    Docs,
    /// fuzz/ and benches/, which are workspaces of their own, compile
    OtherWorkspaces,
    /// The generated files are up to date
    Generated,
    /// Every test of the workspace, the fuzz targets over their seeds included
    Unit,
    /// Every fuzz target for some seconds
    Fuzz,
    /// Every operation that the AWS SDKs serialise is decoded
    Corpus,
    /// The crates that keep state, on PostgreSQL
    Postgres,
    /// The console in Chromium
    Console,
    /// Sign-in with Keycloak
    Keycloak,
    Python,
    Js,
    Go,
    Java,
    Rust,
}

impl TestPart {
    /// The suite of one AWS SDK, for the parts that are one. They share what they install, so they run together.
    fn client_suite(self) -> Option<&'static ClientSuite> {
        match self {
            Self::Python => Some(&suites::PYTHON),
            Self::Js => Some(&suites::JS),
            Self::Go => Some(&suites::GO),
            Self::Java => Some(&suites::JAVA),
            Self::Rust => Some(&suites::RUST),
            _ => None,
        }
    }

    fn run(self, runner: &StepRunner) -> Result<TestCount, XtaskError> {
        match self {
            Self::Format => CheckStep::Format.run(runner),
            Self::LockFiles => CheckStep::LockFiles.run(runner),
            Self::Lints => CheckStep::Lints.run(runner),
            Self::Dependencies => CheckStep::Dependencies.run(runner),
            Self::Docs => CheckStep::Docs.run(runner),
            Self::OtherWorkspaces => CheckStep::OtherWorkspaces.run(runner),
            Self::Generated => check_generated_files(runner),
            Self::Unit => runner.run_step("unit", runner.cargo(&["test", "--workspace", "--locked"])),
            Self::Fuzz => fuzz::run_smoke_step(runner),
            Self::Corpus => suites::run_corpus(runner),
            Self::Postgres => suites::run_postgres_tests(runner),
            Self::Console => suites::run_console_suite(runner),
            Self::Keycloak => suites::run_keycloak_suite(runner),
            Self::Python | Self::Js | Self::Go | Self::Java | Self::Rust => {
                let suites: Vec<&ClientSuite> = self.client_suite().into_iter().collect();
                suites::run_client_suites(runner, &suites)
            }
        }
    }
}

/// Runs everything, or only the named parts.
pub fn run_tests(options: &TestOptions) -> Result<(), XtaskError> {
    let runner = StepRunner::open()?;
    let is_chosen = |part: &&TestPart| options.parts.is_empty() || options.parts.contains(part);
    let (clients, others): (Vec<TestPart>, Vec<TestPart>) =
        TestPart::value_variants().iter().filter(is_chosen).partition(|part| part.client_suite().is_some());
    let mut total = TestCount::default();
    for part in others {
        total.add(part.run(&runner)?);
    }
    let clients: Vec<&ClientSuite> = clients.into_iter().filter_map(TestPart::client_suite).collect();
    if !clients.is_empty() {
        total.add(suites::run_client_suites(&runner, &clients)?);
    }
    runner.finish(total)
}

fn check_generated_files(runner: &StepRunner) -> Result<TestCount, XtaskError> {
    runner.run_check("generated", runner.cargo(&["xtask", "generate", "--check"]))
}

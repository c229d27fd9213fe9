//! Runs the steps of `check` and `test`: each with its output in a log file, its closing lines on the terminal, and a count.

use crate::repository::Repository;
use crate::summary_line::{TestCount, parse_summary_line, strip_ansi_colours};
use crate::xtask_error::XtaskError;
use std::ffi::OsStr;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Lines of a failed step's output that are printed; its log has all.
const MAX_PRINTED_LOG_LINES: usize = 120;

/// Runs commands in the repository and keeps their logs.
pub struct StepRunner {
    pub repository: Repository,
    pub logs_directory: PathBuf,
}

impl StepRunner {
    pub fn open() -> Result<Self, XtaskError> {
        let repository = Repository::locate()?;
        let logs_directory = repository.suites_directory.join("logs");
        std::fs::create_dir_all(&logs_directory).map_err(XtaskError::on_file("create", &logs_directory))?;
        Ok(Self { repository, logs_directory })
    }

    /// A command that runs in the root of the repository.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.repository.root).env("DURWARD_SUITES", &self.repository.suites_directory);
        command
    }

    pub fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = self.command("cargo");
        command.args(arguments);
        command
    }

    /// Prints the total, which is an error unless some test ran and none failed.
    pub fn finish(&self, total: TestCount) -> Result<(), XtaskError> {
        println!("\n{} passed, {} failed", total.passed, total.failed);
        match total {
            TestCount { failed: 0, passed: 1.. } => Ok(()),
            TestCount { failed: 0, .. } => Err(XtaskError::NoTestRan),
            TestCount { failed, .. } => {
                Err(XtaskError::TestsFailed { failed, logs: self.logs_directory.clone() })
            }
        }
    }

    /// Runs a step that has no test count of its own: it is one test.
    pub fn run_check(&self, name: &str, command: Command) -> Result<TestCount, XtaskError> {
        let (succeeded, _) = self.run_command(name, command)?;
        let count =
            if succeeded { TestCount { passed: 1, failed: 0 } } else { TestCount { passed: 0, failed: 1 } };
        println!("    {}", if succeeded { "ok" } else { "FAILED" });
        Ok(count)
    }

    /// Runs a step whose runner counts its tests; prints the runner's closing lines.
    pub fn run_step(&self, name: &str, command: Command) -> Result<TestCount, XtaskError> {
        self.run_step_showing(name, command, |_| false)
    }

    /// [`Self::run_step`], printing also the lines of the runner that `shown` picks.
    pub fn run_step_showing(
        &self,
        name: &str,
        command: Command,
        shown: fn(&str) -> bool,
    ) -> Result<TestCount, XtaskError> {
        let (succeeded, output) = self.run_command(name, command)?;
        let mut count = TestCount::default();
        for line in output.lines() {
            if shown(line) {
                println!("    {line}");
            }
            if let Some(closing) = parse_summary_line(line) {
                println!("    {}", strip_ansi_colours(line).trim());
                count.add(closing);
            }
        }
        // a runner that failed without naming a failed test (it did not compile, say) is a failure too
        if !succeeded && count.failed == 0 {
            count.failed = 1;
        }
        if succeeded && count == TestCount::default() {
            println!("    {name} exited 0 and ran no test: counted as a failure");
            count.failed = 1;
        }
        Ok(count)
    }

    /// Prepares something; failing ends the run.
    pub fn run_preparation(&self, name: &str, command: Command) -> Result<(), XtaskError> {
        match self.run_command(name, command)? {
            (true, _) => Ok(()),
            (false, _) => Err(XtaskError::Preparation { step: name.to_owned(), log: self.log_path(name) }),
        }
    }

    /// Tries something that may fail; whether it succeeded.
    pub fn try_step(&self, name: &str, command: Command) -> Result<bool, XtaskError> {
        Ok(self.run_command(name, command)?.0)
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.logs_directory.join(format!("{}.log", name.replace(' ', "-")))
    }

    fn run_command(&self, name: &str, mut command: Command) -> Result<(bool, String), XtaskError> {
        println!("\n=== {name}");
        let started = Instant::now();
        let path = self.log_path(name);
        let log = File::create(&path).map_err(XtaskError::on_file("write", &path))?;
        // One file for both, so that the log has the lines in the order in which they were written.
        let errors = log.try_clone().map_err(XtaskError::on_file("write", &path))?;
        let program = command.get_program().to_string_lossy().into_owned();
        let status = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .status()
            .map_err(|source| XtaskError::Start { program, step: name.to_owned(), source })?;
        let bytes = std::fs::read(&path).map_err(XtaskError::on_file("read", &path))?;
        let output = String::from_utf8_lossy(&bytes).into_owned();
        if !status.success() {
            let lines: Vec<&str> = output.lines().collect();
            for line in lines.iter().skip(lines.len().saturating_sub(MAX_PRINTED_LOG_LINES)) {
                println!("    | {line}");
            }
        }
        println!("    {} in {:.0} s", status, started.elapsed().as_secs_f64());
        Ok((status.success(), output))
    }
}

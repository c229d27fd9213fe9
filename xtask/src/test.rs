//! `cargo xtask test`: format, lints, unit tests, then the real-client suites, each runner's closing lines, and one total.
//!
//! A step that cannot run has failed; only what needs `cargo deny`, PostgreSQL, Chromium or Java is skipped where that is missing, and then a line
//! says so.

use crate::suites::{self, ClientSuite};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// How many tests a step ran, by its runner's own count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TestCount {
    pub passed: u32,
    pub failed: u32,
}

/// Runs everything, or only the named parts.
pub fn run_tests(options: &[&str]) -> Result<(), String> {
    let parts = parse_parts(options)?;
    let bench = StepRunner::open()?;
    let mut total = TestCount::default();
    if parts.contains(&"unit") {
        total.add(run_unit_tests(&bench)?);
    }
    if parts.contains(&"corpus") {
        total.add(suites::run_corpus(&bench)?);
    }
    if parts.contains(&"postgres") {
        total.add(suites::run_postgres_tests(&bench)?);
    }
    if parts.contains(&"console") {
        total.add(suites::run_console_suite(&bench)?);
    }
    if parts.contains(&"keycloak") {
        total.add(suites::run_keycloak_suite(&bench)?);
    }
    let suites: Vec<&ClientSuite> =
        suites::CLIENT_SUITES.iter().filter(|suite| parts.contains(&suite.name)).collect();
    if !suites.is_empty() {
        total.add(suites::run_client_suites(&bench, &suites)?);
    }
    println!("\n{} passed, {} failed", total.passed, total.failed);
    match total {
        TestCount { failed: 0, passed: 1.. } => Ok(()),
        TestCount { failed: 0, .. } => Err("no test ran".to_owned()),
        TestCount { failed, .. } => {
            Err(format!("{failed} failed; the logs are in {}", bench.logs_directory.display()))
        }
    }
}

fn parse_parts<'a>(options: &[&'a str]) -> Result<Vec<&'a str>, String> {
    let known: Vec<&str> = ["unit", "corpus", "postgres", "console", "keycloak"]
        .into_iter()
        .chain(suites::CLIENT_SUITES.iter().map(|suite| suite.name))
        .collect();
    let mut parts = Vec::new();
    let mut words = options.iter();
    while let Some(word) = words.next() {
        if *word != "--only" {
            return Err(format!("unknown option `{word}`; {}", crate::USAGE));
        }
        match words.next() {
            Some(part) if known.contains(part) => parts.push(*part),
            Some(part) => return Err(format!("`--only {part}` is none of {}", known.join(", "))),
            None => return Err(format!("`--only` needs one of {}", known.join(", "))),
        }
    }
    Ok(if parts.is_empty() { known } else { parts })
}

fn run_unit_tests(bench: &StepRunner) -> Result<TestCount, String> {
    let cargo = |arguments: &[&str]| {
        let mut command = bench.command("cargo");
        command.args(arguments);
        command
    };
    let mut total = TestCount::default();
    total.add(bench.run_check("format", cargo(&["fmt", "--all", "--check"]))?);
    for apart in ["benches/load", "benches/decode", "fuzz"] {
        let manifest = format!("{apart}/Cargo.toml");
        let unchanged = ["update", "--workspace", "--locked", "--manifest-path", &manifest];
        total.add(bench.run_check(
            &format!("lock file of {}", apart.trim_start_matches("benches/")),
            cargo(&unchanged),
        )?);
    }
    let lints = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    total.add(bench.run_check("lints", cargo(&lints))?);
    if has_cargo_deny() {
        let policy = ["deny", "--offline", "check", "bans", "licenses", "sources"];
        total.add(bench.run_check("dependencies", cargo(&policy))?);
    } else {
        println!(
            "dependencies: skipped, for `cargo deny` is not on PATH (cargo install --locked cargo-deny)"
        );
    }
    total.add(bench.run_step("unit", cargo(&["test", "--workspace", "--locked"]))?);
    Ok(total)
}

/// It takes minutes to install: the one step that a clone may go without.
fn has_cargo_deny() -> bool {
    let mut version = Command::new("cargo");
    version.args(["deny", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}

impl TestCount {
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Where the steps run: the clone, the suites' directory, and the logs in it.
pub struct StepRunner {
    pub repository: PathBuf,
    pub suites_directory: PathBuf,
    pub logs_directory: PathBuf,
}

impl StepRunner {
    fn open() -> Result<Self, String> {
        let clone = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .ok_or("xtask is not in a workspace")?
            .to_path_buf();
        let suites = match std::env::var_os("DURWARD_SUITES") {
            Some(directory) if !directory.is_empty() => PathBuf::from(directory),
            _ => clone.join(".suites"),
        };
        let logs = suites.join("logs");
        std::fs::create_dir_all(&logs).map_err(|error| format!("cannot make {}: {error}", logs.display()))?;
        Ok(Self { repository: clone, suites_directory: suites, logs_directory: logs })
    }

    /// A command that runs in the clone.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.repository).env("DURWARD_SUITES", &self.suites_directory);
        command
    }

    /// Runs a step that has no test count of its own: it is one test.
    pub fn run_check(&self, name: &str, command: Command) -> Result<TestCount, String> {
        let (succeeded, _) = self.run_command(name, command)?;
        let count =
            if succeeded { TestCount { passed: 1, failed: 0 } } else { TestCount { passed: 0, failed: 1 } };
        println!("    {}", if succeeded { "ok" } else { "FAILED" });
        Ok(count)
    }

    /// Runs a step whose runner counts its tests; prints the runner's closing lines.
    pub fn run_step(&self, name: &str, command: Command) -> Result<TestCount, String> {
        self.run_step_showing(name, command, |_| false)
    }

    /// [`Self::step`], printing also the lines of the runner that `shown` picks.
    pub fn run_step_showing(
        &self,
        name: &str,
        command: Command,
        shown: fn(&str) -> bool,
    ) -> Result<TestCount, String> {
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
    pub fn run_preparation(&self, name: &str, command: Command) -> Result<(), String> {
        match self.run_command(name, command)? {
            (true, _) => Ok(()),
            (false, _) => Err(format!("{name} failed; see {}", self.log_path(name).display())),
        }
    }

    /// Tries something that may fail; whether it succeeded.
    pub fn try_step(&self, name: &str, command: Command) -> Result<bool, String> {
        Ok(self.run_command(name, command)?.0)
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.logs_directory.join(format!("{}.log", name.replace(' ', "-")))
    }

    fn run_command(&self, name: &str, mut command: Command) -> Result<(bool, String), String> {
        println!("\n=== {name}");
        let began = Instant::now();
        let path = self.log_path(name);
        let describe = |error| format!("cannot write {}: {error}", path.display());
        let log = File::create(&path).map_err(describe)?;
        let errors = log.try_clone().map_err(describe)?;
        let program = command.get_program().to_string_lossy().into_owned();
        let status = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .status()
            .map_err(|error| format!("cannot run `{program}` for {name}: {error}"))?;
        let bytes =
            std::fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let output = String::from_utf8_lossy(&bytes).into_owned();
        if !status.success() {
            let lines: Vec<&str> = output.lines().collect();
            for line in lines.iter().skip(lines.len().saturating_sub(120)) {
                println!("    | {line}");
            }
        }
        println!("    {} in {:.0} s", status, began.elapsed().as_secs_f64());
        Ok((status.success(), output))
    }
}

/// Reads the closing line of cargo test, pytest, node's runner, Maven Surefire, or our own Go summary.
fn parse_summary_line(line: &str) -> Option<TestCount> {
    let line = strip_ansi_colours(line);
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("test result: ") {
        return Some(TestCount {
            passed: number_before(rest, "passed")?,
            failed: number_before(rest, "failed")?,
        });
    }
    let maven = ["[INFO] ", "[WARNING] ", "[ERROR] "].into_iter().find_map(|level| line.strip_prefix(level));
    if let Some(rest) = maven.and_then(|line| line.strip_prefix("Tests run: "))
        && !line.contains("Time elapsed")
    {
        let after = |word: &str| rest.split(word).nth(1).and_then(leading_number);
        let failed = after("Failures: ")? + after("Errors: ")?;
        return Some(TestCount { passed: leading_number(rest)? - failed - after("Skipped: ")?, failed });
    }
    if let Some(rest) = line.strip_prefix("ℹ pass ").or_else(|| line.strip_prefix("# pass ")) {
        return Some(TestCount { passed: leading_number(rest)?, failed: 0 });
    }
    if let Some(rest) = line.strip_prefix("ℹ fail ").or_else(|| line.strip_prefix("# fail ")) {
        return Some(TestCount { passed: 0, failed: leading_number(rest)? });
    }
    // go test -v: one line for each test; subtests are indented and belong to theirs
    if line.starts_with("--- PASS: ") {
        return Some(TestCount { passed: 1, failed: 0 });
    }
    if line.starts_with("--- FAIL: ") {
        return Some(TestCount { passed: 0, failed: 1 });
    }
    let bare = line.trim_matches(|c| c == '=' || c == ' ');
    // pytest: `5 passed in 3.03s`, and after a minute `5 passed in 97.30s (0:01:37)`.
    let timed = bare.split_once(" in ").and_then(|(_counts, time)| time.split_whitespace().next());
    if timed.is_some_and(|time| time.ends_with('s')) && (bare.contains(" passed") || bare.contains(" failed"))
    {
        let errors = number_before(bare, "error").or_else(|| number_before(bare, "errors")).unwrap_or(0);
        let failed = number_before(bare, "failed").unwrap_or(0) + errors;
        return Some(TestCount { passed: number_before(bare, "passed").unwrap_or(0), failed });
    }
    None
}

fn leading_number(text: &str) -> Option<u32> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The number right before the word.
fn number_before(text: &str, word: &str) -> Option<u32> {
    let words: Vec<&str> = text.split_whitespace().map(|part| part.trim_matches([',', ';', '.'])).collect();
    words.windows(2).find(|pair| pair.get(1) == Some(&word)).and_then(|pair| pair.first()?.parse().ok())
}

/// The line without terminal colours.
fn strip_ansi_colours(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            for skipped in characters.by_ref() {
                if skipped.is_ascii_alphabetic() {
                    break;
                }
            }
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_closing_line_of_every_runner() {
        let read = |line| parse_summary_line(line).map(|count| (count.passed, count.failed));
        assert_eq!(
            read("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out"),
            Some((3, 2))
        );
        assert_eq!(read("2 failed, 64 passed, 3 skipped in 7.13s"), Some((64, 2)));
        assert_eq!(read("= 1 failed, 2 passed, 3 errors in 0.50s ="), Some((2, 4)));
        assert_eq!(read("139 passed, 50 skipped in 97.30s (0:01:37)"), Some((139, 0)));
        assert_eq!(read("\u{1b}[32m5 passed in 3.03s\u{1b}[0m"), Some((5, 0)));
        assert_eq!(read("\u{1b}[34mℹ pass 12\u{1b}[39m"), Some((12, 0)));
        assert_eq!(read("# fail 1"), Some((0, 1)));
        assert_eq!(read("[INFO] Tests run: 9, Failures: 0, Errors: 0, Skipped: 1"), Some((8, 0)));
        assert_eq!(read("[WARNING] Tests run: 29, Failures: 0, Errors: 0, Skipped: 13"), Some((16, 0)));
        assert_eq!(read("[ERROR] Tests run: 9, Failures: 2, Errors: 1, Skipped: 0"), Some((6, 3)));
        assert_eq!(read("--- PASS: TestSignsIn (0.02s)"), Some((1, 0)));
        assert_eq!(read("--- FAIL: TestSignsIn (0.02s)"), Some((0, 1)));
    }

    #[test]
    fn takes_nothing_else_for_a_closing_line() {
        for line in [
            "[INFO] Tests run: 1, Failures: 0, Errors: 0, Skipped: 0, Time elapsed: 0.082 s -- in durward.ProbeTest",
            "5.07s call     test_messaging.py::test_topic_fans_out_to_a_queue",
            "test_x passed",
            "",
        ] {
            assert_eq!(parse_summary_line(line), None, "{line}");
        }
    }

    #[test]
    fn refuses_an_unknown_part() {
        assert!(parse_parts(&["--only", "cobol"]).is_err());
        assert!(parse_parts(&["--fast"]).is_err());
        assert!(parse_parts(&["--only"]).is_err());
        assert_eq!(parse_parts(&["--only", "go"]), Ok(vec!["go"]));
    }
}

//! The real-client suites: installing what each needs, and running it with the gateway that `tests/peers/test_gateway.py` starts.
//!
//! Files beside the tests pin every package. They are installed into the suites' directory once, and again when a pin
//! changes.

use crate::installation::install_once;
use crate::programs;
use crate::step_runner::StepRunner;
use crate::summary_line::TestCount;
use crate::xtask_error::XtaskError;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct ClientSuite {
    /// The directory in `tests/suites`.
    pub name: &'static str,
    install: fn(&StepRunner) -> Result<(), XtaskError>,
    /// The suite's command, to be run in its directory.
    command: fn(&StepRunner) -> Vec<String>,
}

pub const PYTHON: ClientSuite =
    ClientSuite { name: "python", install: install_python, command: python_command };
pub const JS: ClientSuite = ClientSuite { name: "js", install: install_js, command: js_command };
pub const GO: ClientSuite = ClientSuite { name: "go", install: install_go, command: go_command };
pub const JAVA: ClientSuite = ClientSuite { name: "java", install: install_java, command: java_command };
pub const RUST: ClientSuite = ClientSuite { name: "rust", install: install_rust, command: rust_command };

/// The emulators every suite runs against: strict first, then broad.
const EMULATORS: [&str; 2] = ["ministack", "moto"];

const MAVEN_OPTIONS: [&str; 2] = ["--batch-mode", "--no-transfer-progress"];

/// Builds the gateway, installs what the suites need, and runs each against each emulator.
pub fn run_client_suites(runner: &StepRunner, suites: &[&ClientSuite]) -> Result<TestCount, XtaskError> {
    let gateway = build_gateway(runner)?;
    for emulator in EMULATORS {
        install_environment(runner, emulator, &format!("tests/peers/{emulator}.txt"))?;
    }
    install_environment(runner, "client", "tests/suites/python/requirements.txt")?;
    let mut total = TestCount::default();
    for suite in suites {
        (suite.install)(runner)?;
        for kind in EMULATORS {
            total.add(runner.run_step(
                &format!("{} on {kind}", suite.name),
                gateway_suite_command(runner, suite, kind, &gateway),
            )?);
        }
    }
    Ok(total)
}

/// Serialises every operation of every service with the pinned SDKs and reads each request with the decoder.
pub fn run_corpus(runner: &StepRunner) -> Result<TestCount, XtaskError> {
    install_environment(runner, "client", "tests/suites/python/requirements.txt")?;
    let generator = runner.repository.root.join("tests/corpus/generate.py");
    let pins = runner.repository.root.join("tests/suites/python/requirements.txt");
    install_once(&runner.repository, "corpus", &[&generator, &pins], || {
        let mut generate = runner.command(client_python(runner));
        generate.arg(&generator).arg("--into").arg(runner.repository.suites_directory.join("corpus.jsonl"));
        runner.run_preparation("serialise the corpus with botocore", generate)
    })?;
    let here = runner.repository.root.join("tests/corpus");
    let place = runner.repository.suites_directory.join("corpus-js");
    let inputs = ["generate.mjs", "package-lock.json"].map(|file| here.join(file));
    install_once(&runner.repository, "corpus-js", &[&inputs[0], &inputs[1], &generator], || {
        std::fs::create_dir_all(&place).map_err(XtaskError::on_file("create", &place))?;
        for file in ["package.json", "package-lock.json", "generate.mjs"] {
            let source = here.join(file);
            std::fs::copy(&source, place.join(file)).map_err(XtaskError::on_file("copy", source))?;
        }
        let mut install = runner.command("npm");
        install.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&place);
        runner.run_preparation("install the corpus's JavaScript SDK", install)?;
        let mut generate = runner.command("node");
        generate.arg(place.join("generate.mjs")).arg(runner.repository.suites_directory.join("corpus.jsonl"));
        generate.arg(runner.repository.suites_directory.join("corpus-js.jsonl"));
        runner.run_preparation("serialise the corpus with the JavaScript SDK", generate)
    })?;
    let mut test = runner.command("cargo");
    test.args(["test", "--locked", "--package", "durward-aws", "--test", "corpus"]);
    test.args(["--", "--ignored", "--nocapture", "--test-threads=1"]);
    runner.run_step_showing("corpus", test, |line| line.starts_with('|') || line.starts_with("refused"))
}

fn gateway_suite_command(runner: &StepRunner, suite: &ClientSuite, kind: &str, gateway: &Path) -> Command {
    let mut command = runner.command(client_python(runner));
    command
        .arg(runner.repository.root.join("tests/peers/test_gateway.py"))
        .args(["--kind", kind, "--"])
        .args((suite.command)(runner))
        .env("DURWARD_BIN", gateway)
        .current_dir(suite_directory(runner, suite.name));
    command
}

fn build_gateway(runner: &StepRunner) -> Result<PathBuf, XtaskError> {
    let mut build = runner.command("cargo");
    build.args(["build", "--locked", "--package", "durward", "--bin", "durward"]);
    runner.run_preparation("build the gateway", build)?;
    let binary = runner.repository.target_directory.join("debug/durward");
    if binary.is_file() {
        Ok(binary)
    } else {
        Err(XtaskError::MissingProduct { step: "building the gateway", path: binary })
    }
}

fn suite_directory(runner: &StepRunner, suite: &str) -> PathBuf {
    runner.repository.root.join("tests/suites").join(suite)
}

fn client_python(runner: &StepRunner) -> PathBuf {
    runner.repository.suites_directory.join("client/bin/python")
}

fn path_text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_string_lossy().into_owned()
}

/// A Python virtual environment with exactly the pinned packages.
fn install_environment(runner: &StepRunner, name: &str, pins: &str) -> Result<(), XtaskError> {
    install_once(&runner.repository, name, &[&runner.repository.root.join(pins)], || {
        let place = runner.repository.suites_directory.join(name);
        let mut make = runner.command("python3");
        make.args(["-m", "venv", "--clear"]).arg(&place);
        runner.run_preparation(&format!("make environment {name}"), make)?;
        let mut install = runner.command(place.join("bin/python"));
        install.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
            pins,
        ]);
        runner.run_preparation(&format!("install {name}"), install)
    })
}

fn install_python(runner: &StepRunner) -> Result<(), XtaskError> {
    install_environment(runner, "cli", "tests/suites/python/cli.txt")?;
    install_mcp(runner)?;
    install_s3s(runner)
}

/// The MCP SDK for Python in its two versions: servers for both suites that speak MCP, clients for one.
fn install_mcp(runner: &StepRunner) -> Result<(), XtaskError> {
    install_environment(runner, "mcp", "tests/peers/mcp.txt")?;
    install_environment(runner, "mcp1", "tests/peers/mcp1.txt")
}

/// s3s-fs, the peer that checks every body against its signed hash, at the pinned version.
fn install_s3s(runner: &StepRunner) -> Result<(), XtaskError> {
    let pin = runner.repository.root.join("tests/peers/s3s-fs.txt");
    install_once(&runner.repository, "s3s", &[&pin], || {
        let text = std::fs::read_to_string(&pin).map_err(XtaskError::on_file("read", &pin))?;
        let (name, version) =
            text.trim().split_once(' ').ok_or_else(|| XtaskError::InvalidPin(pin.clone()))?;
        let mut install = runner.command("cargo");
        install.args(["install", "--locked", "--force", "--features", "binary", "--version", version, name]);
        install
            .arg("--root")
            .arg(runner.repository.suites_directory.join("s3s"))
            .arg("--target-dir")
            .arg(runner.repository.suites_directory.join("s3s-target"));
        runner.run_preparation("install s3s-fs", install)
    })
}

fn python_command(runner: &StepRunner) -> Vec<String> {
    [&path_text(client_python(runner)), "-m", "pytest"].map(str::to_owned).into()
}

/// The console in Chromium, with a certified OpenID provider, AWS SDKs and moto. The suite starts its own gateway.
pub fn run_console_suite(runner: &StepRunner) -> Result<TestCount, XtaskError> {
    let browser = std::env::var_os("CHROMIUM").map_or_else(|| "/usr/bin/chromium".into(), PathBuf::from);
    if !browser.is_file() && !install_package(runner, "chromium")? {
        println!("console: skipped: there is no {} (apt-get install chromium)", browser.display());
        return Ok(TestCount::default());
    }
    let gateway = build_gateway(runner)?;
    install_environment(runner, "moto", "tests/peers/moto.txt")?;
    install_environment(runner, "client", "tests/suites/python/requirements.txt")?;
    install_node(runner, "console")?;
    let mut suite = runner.command("node");
    suite
        .args(["--test", "--test-reporter=spec", "--test-concurrency=1"])
        .env("DURWARD_BIN", gateway)
        .env("CHROMIUM", browser)
        .env("DURWARD_SUITES", &runner.repository.suites_directory)
        .current_dir(suite_directory(runner, "console"));
    runner.run_step("console", suite)
}

/// Installs a Debian package where the process may (as root), and returns whether it is there now.
fn install_package(runner: &StepRunner, package: &str) -> Result<bool, XtaskError> {
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    if !root || !programs::succeeds("apt-get", &["--version"]) {
        return Ok(false);
    }
    let mut install = runner.command("sh");
    install
        .args(["-c", &format!("apt-get update && apt-get install -y --no-install-recommends {package}")])
        .env("DEBIAN_FRONTEND", "noninteractive");
    runner.try_step(&format!("install {package}"), install)
}

/// The tests of the crates that use a database, once more with a PostgreSQL server in place of SQLite files.
pub fn run_postgres_tests(runner: &StepRunner) -> Result<TestCount, XtaskError> {
    let server = runner.repository.root.join("tests/peers/postgres.py");
    let server_text = path_text(&server);
    if !programs::succeeds("python3", &[&server_text, "--installed"])
        && !install_package(runner, "postgresql")?
    {
        println!("postgres: skipped: there is no PostgreSQL (apt-get install postgresql)");
        return Ok(TestCount::default());
    }
    let mut test = runner.command("python3");
    test.arg(&server).args(["--", "cargo", "test", "--locked"]);
    for crate_name in crates_with_database(runner)? {
        test.arg(format!("--package={crate_name}"));
    }
    // Tests that hold for PostgreSQL alone are ignored elsewhere.
    test.args(["--", "--include-ignored"]);
    runner.run_step("postgres", test)
}

/// The crates whose manifests name the store, so that a new one is tested on PostgreSQL without being listed anywhere.
fn crates_with_database(runner: &StepRunner) -> Result<Vec<String>, XtaskError> {
    let crates = runner.repository.root.join("crates");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&crates).map_err(XtaskError::on_file("list", &crates))? {
        let directory = entry.map_err(XtaskError::on_file("list", &crates))?.path();
        let manifest = directory.join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest).map_err(XtaskError::on_file("read", &manifest))?;
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if text.contains("durward-store") {
            names.push(format!("durward-{name}"));
        }
    }
    names.sort();
    Ok(names)
}

/// Keycloak as the identity provider of agents, browsers and the command line. The suite starts its own gateway.
pub fn run_keycloak_suite(runner: &StepRunner) -> Result<TestCount, XtaskError> {
    if !programs::succeeds("java", &["-version"]) {
        println!("keycloak: skipped: there is no `java` (apt-get install openjdk-17-jre-headless)");
        return Ok(TestCount::default());
    }
    let gateway = build_gateway(runner)?;
    install_environment(runner, "moto", "tests/peers/moto.txt")?;
    install_environment(runner, "client", "tests/suites/python/requirements.txt")?;
    let here = suite_directory(runner, "keycloak");
    let (pin, installer) = (here.join("pin.txt"), here.join("install.py"));
    install_once(&runner.repository, "keycloak", &[&pin, &installer], || {
        let mut install = runner.command(client_python(runner));
        install.arg(&installer).arg(&pin).arg(runner.repository.suites_directory.join("keycloak"));
        runner.run_preparation("install keycloak", install)
    })?;
    let mut suite = runner.command(client_python(runner));
    suite.args(["-m", "pytest"]).env("DURWARD_BIN", gateway).current_dir(here);
    runner.run_step("keycloak", suite)
}

fn install_js(runner: &StepRunner) -> Result<(), XtaskError> {
    install_mcp(runner)?;
    install_node(runner, "js")
}

fn install_node(runner: &StepRunner, suite: &str) -> Result<(), XtaskError> {
    let here = suite_directory(runner, suite);
    let place = runner.repository.suites_directory.join(suite);
    install_once(&runner.repository, suite, &[&here.join("package-lock.json")], || {
        std::fs::create_dir_all(&place).map_err(XtaskError::on_file("create", &place))?;
        for file in ["package.json", "package-lock.json"] {
            let source = here.join(file);
            std::fs::copy(&source, place.join(file)).map_err(XtaskError::on_file("copy", source))?;
        }
        let mut install = runner.command("npm");
        install.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&place);
        runner.run_preparation(&format!("install {suite}"), install)
    })?;
    // node finds modules in the directories above a test file, nowhere else
    let link = here.join("node_modules");
    if std::fs::read_link(&link).is_ok_and(|to| to == place.join("node_modules")) {
        return Ok(());
    }
    if link.is_symlink() {
        std::fs::remove_file(&link).map_err(XtaskError::on_file("replace", &link))?;
    }
    std::os::unix::fs::symlink(place.join("node_modules"), &link)
        .map_err(XtaskError::on_file("create", &link))
}

fn js_command(_: &StepRunner) -> Vec<String> {
    ["node", "--test", "--test-reporter=spec", "--test-concurrency=1"].map(str::to_owned).into()
}

fn install_go(runner: &StepRunner) -> Result<(), XtaskError> {
    let here = suite_directory(runner, "go");
    install_once(&runner.repository, "go", &[&here.join("go.sum")], || {
        let mut download = runner.command("go");
        download.args(["mod", "download"]).current_dir(&here);
        runner.run_preparation("install go", download)
    })
}

fn go_command(_: &StepRunner) -> Vec<String> {
    ["go", "test", "-mod=readonly", "-count=1", "-v", "./..."].map(str::to_owned).into()
}

fn install_java(runner: &StepRunner) -> Result<(), XtaskError> {
    let mut build = runner.command("mvn");
    build
        .args(MAVEN_OPTIONS)
        .arg(java_target(runner))
        .arg("test-compile")
        .current_dir(suite_directory(runner, "java"));
    runner.run_preparation("build java", build)
}

fn java_command(runner: &StepRunner) -> Vec<String> {
    let mut command: Vec<String> = std::iter::once("mvn").chain(MAVEN_OPTIONS).map(str::to_owned).collect();
    command.extend([java_target(runner), "test".to_owned()]);
    command
}

fn java_target(runner: &StepRunner) -> String {
    format!("-Dsuite.target={}", path_text(runner.repository.suites_directory.join("java-target")))
}

fn install_rust(runner: &StepRunner) -> Result<(), XtaskError> {
    let mut build = runner.command("cargo");
    build
        .args(["test", "--locked", "--no-run", "--target-dir"])
        .arg(rust_target(runner))
        .current_dir(suite_directory(runner, "rust"));
    runner.run_preparation("build rust", build)
}

fn rust_command(runner: &StepRunner) -> Vec<String> {
    let target = path_text(rust_target(runner));
    ["cargo", "test", "--locked", "--target-dir", &target].map(str::to_owned).into()
}

fn rust_target(runner: &StepRunner) -> PathBuf {
    runner.repository.suites_directory.join("rust-target")
}

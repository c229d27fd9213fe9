//! The `durward` binary as a library: the commands, the configuration, and the wiring of a gateway.
//!
//! [`run`] is the whole program. To run a gateway inside a process of your own, begin with
//! [`serve::start_gateway_from_text`]; [`serve::RunningGateway`] says where it listens and stops it.

mod admin_api;
#[cfg(test)]
mod approval_attack_tests;
pub mod approval_commands;
mod approval_journal;
#[cfg(test)]
mod aws_attack_tests;
mod caller_commands;
mod catalog_commands;
mod command_line;
pub mod config;
mod console_server;
pub mod demo;
pub mod journal_commands;
mod login;
#[cfg(test)]
mod mcp_attack_tests;
mod notification_channels;
mod policy_commands;
mod preflight;
mod revocation_journal;
pub mod serve;
mod session_commands;
mod terminal_output;
mod tls;
#[cfg(test)]
mod upstream_http2_tests;

pub use command_line::run;

/// Reads a file, naming it in the error.
fn read_file(path: &std::path::Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))
}

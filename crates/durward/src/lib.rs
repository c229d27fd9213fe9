//! The `durward` program as a library: its commands, its configuration, and the wiring of a gateway.
//!
//! [`run`] is the whole program. To run a gateway inside a process of your own, begin with
//! [`serve::start_gateway_from_text`]: it starts a gateway from the text of a `durward.toml`, and the
//! [`serve::RunningGateway`] that it returns says where the gateway listens and stops it. For tests, begin with `TestGateway`
//! of the crate `durward-integration`.
//!
//! The crate holds no rule about requests: what is decided, recorded and sent is up to the crates below it. It promises that
//! a gateway which starts has a configuration without problems, and that no untrusted text reaches a terminal unescaped.

mod admin_api;
pub mod approval_commands;
mod approval_journal;
mod argument_values;
mod bound_listener;
mod caller_commands;
mod catalog_commands;
mod command_error;
mod command_line;
mod command_reference;
pub mod config;
mod console_endpoint;
mod console_server;
pub mod demo;
mod file_descriptors;
mod gateway_wiring;
mod input_files;
pub mod journal_commands;
mod journal_copy_error;
mod json_values;
mod login;
mod notification_channels;
mod policy_commands;
mod preflight;
mod revocation_journal;
pub mod serve;
mod session_commands;
mod start_error;
mod state_directory;
mod terminal_output;
mod terminal_text;
mod tls;
mod url_origin;

pub use command_line::run;

//! The environment variables that Durward defines, and the default addresses of its listeners.

/// Path of `durward.toml`.
pub const DURWARD_CONFIG: &str = "DURWARD_CONFIG";
/// URL of the AWS front end, for `durward credentials` and `durward run`.
pub const DURWARD_ENDPOINT: &str = "DURWARD_ENDPOINT";
/// Connection to sign in to, for `durward credentials` and `durward run`.
pub const DURWARD_CONNECTION: &str = "DURWARD_CONNECTION";
/// File holding the OIDC token, for `durward credentials`, `durward run` and the commands for approvers.
pub const DURWARD_TOKEN_FILE: &str = "DURWARD_TOKEN_FILE";
/// URL of the console and admin API, for `durward login` and the commands for approvers.
pub const DURWARD_CONSOLE_URL: &str = "DURWARD_CONSOLE_URL";
/// Log filter: `error`, `warn`, `info`, `debug` or `trace`.
pub const DURWARD_LOG: &str = "DURWARD_LOG";

/// Default address of the AWS front end.
pub const DEFAULT_AWS_LISTEN_ADDRESS: &str = "127.0.0.1:8610";
/// Default address of the MCP front end.
pub const DEFAULT_MCP_LISTEN_ADDRESS: &str = "127.0.0.1:8620";
/// Default address of the console and the admin API.
pub const DEFAULT_CONSOLE_LISTEN_ADDRESS: &str = "127.0.0.1:8600";

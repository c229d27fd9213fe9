//! Every environment variable the product reads, and the default addresses.

/// Path of `durward.toml`.
pub const CONFIG: &str = "DURWARD_CONFIG";
/// URL of the gateway's AWS door, for `durward credentials` and `durward run`.
pub const ENDPOINT: &str = "DURWARD_ENDPOINT";
/// Connection to sign in to, for `durward credentials` and `durward run`.
pub const CONNECTION: &str = "DURWARD_CONNECTION";
/// File holding the OIDC token, for `durward credentials`, `durward run` and the commands of people.
pub const TOKEN_FILE: &str = "DURWARD_TOKEN_FILE";
/// URL of the console and admin API, for `durward login` and the commands of people.
pub const CONSOLE_URL: &str = "DURWARD_CONSOLE_URL";
/// Log filter: `error`, `warn`, `info`, `debug` or `trace`.
pub const LOG: &str = "DURWARD_LOG";

/// Default address of the AWS door.
pub const AWS_LISTEN: &str = "127.0.0.1:8610";
/// Default address of the MCP door.
pub const MCP_LISTEN: &str = "127.0.0.1:8620";
/// Default address of the console and the admin API.
pub const CONSOLE_LISTEN: &str = "127.0.0.1:8600";

//! The caller's side: `durward credentials` (a `credential_process`) and `durward run -- CMD`.

use crate::command_error::CommandError;
use crate::input_files::read_secret;
use crate::terminal_text::escape_for_terminal;
use crate::url_origin::origin_of_url;
use clap::Args;
use durward_core::env_vars;
use durward_gateway::aws_frontend::CONTAINER_CREDENTIALS_PATH;
use durward_gateway::upstream_client::UpstreamClient;
use http::Request;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;

/// Largest sign-in response that is read. A credential with a long session token takes a few KiB.
const MAX_SIGN_IN_RESPONSE_BYTES: usize = 1 << 20;
/// Variables of the AWS SDKs that would take precedence over the gateway's credential or its address.
const OVERRIDING_VARIABLES: [&str; 8] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
];
/// Beginning of the variables that name an endpoint for one service: they take precedence over `AWS_ENDPOINT_URL`.
const SERVICE_ENDPOINT_PREFIX: &str = "AWS_ENDPOINT_URL_";

#[derive(Args)]
pub struct CallerSignInArgs {
    /// URL of the gateway's AWS front end
    #[arg(long, env = env_vars::DURWARD_ENDPOINT, default_value_t = default_endpoint(), value_name = "URL")]
    endpoint: String,
    /// Connection to sign in to
    #[arg(long, env = env_vars::DURWARD_CONNECTION, value_name = "NAME")]
    connection: String,
    /// File with the OIDC token of your identity provider
    #[arg(long, env = env_vars::DURWARD_TOKEN_FILE, value_name = "FILE")]
    token_file: PathBuf,
}

fn default_endpoint() -> String {
    format!("http://{}", env_vars::DEFAULT_AWS_LISTEN_ADDRESS)
}

/// Signs in and returns the JSON that the SDKs expect of a `credential_process`.
pub async fn fetch_gateway_credential(sign_in: &CallerSignInArgs) -> Result<String, CommandError> {
    let token = read_secret(&sign_in.token_file)?;
    let origin = origin_of_url(&sign_in.endpoint)?;
    let client = UpstreamClient::new(vec![origin.clone()]).map_err(CommandError::HttpClient)?;
    let request = Request::get(format!("{CONTAINER_CREDENTIALS_PATH}{}", sign_in.connection))
        .header("host", origin.authority())
        // Without `Bearer`: the container credential provider of the SDKs sends the token as it is
        // (`AWS_CONTAINER_AUTHORIZATION_TOKEN`).
        .header("authorization", token.expose())
        .body(bytes::Bytes::new())
        .map_err(|error| CommandError::Refused(format!("the sign-in request cannot be written: {error}")))?;
    let response =
        client.send_buffered(&origin, request, MAX_SIGN_IN_RESPONSE_BYTES).await.map_err(|error| {
            CommandError::Unreachable(format!(
                "{}: {error}\n  hint: is the gateway running there?",
                sign_in.endpoint
            ))
        })?;
    let body: Value = serde_json::from_slice(response.body()).map_err(|_error| {
        CommandError::Refused(format!("{}: the response is not from a Durward gateway", sign_in.endpoint))
    })?;
    if !response.status().is_success() {
        let message = escape_for_terminal(body["message"].as_str().unwrap_or("no reason given"));
        return Err(CommandError::Refused(format!("sign-in refused: {message}")));
    }
    Ok(json!({
        "Version": 1,
        "AccessKeyId": body["AccessKeyId"],
        "SecretAccessKey": body["SecretAccessKey"],
        "SessionToken": body["Token"],
        "Expiration": body["Expiration"],
    })
    .to_string())
}

/// Runs a command whose SDK signs in to the gateway by web identity. The exit code is that of the command.
pub fn run_signed_in_command(sign_in: &CallerSignInArgs, command: &[String]) -> Result<u8, CommandError> {
    let (program, arguments) =
        command.split_first().ok_or_else(|| CommandError::Refused("no command given".to_owned()))?;
    // Absolute: the command may change its directory before its SDK reads the file.
    let token_file = std::fs::canonicalize(&sign_in.token_file).map_err(|error| {
        CommandError::Refused(format!("{}: cannot be read: {error}", sign_in.token_file.display()))
    })?;
    let mut child = Command::new(program);
    child.args(arguments);
    // The SDKs take the first source of their chain: with static keys in place, they would never sign in to the gateway.
    for name in OVERRIDING_VARIABLES {
        child.env_remove(name);
    }
    for (name, _value) in std::env::vars_os() {
        if name.to_string_lossy().starts_with(SERVICE_ENDPOINT_PREFIX) {
            child.env_remove(name);
        }
    }
    let status = child
        .env("AWS_ENDPOINT_URL", &sign_in.endpoint)
        // The SDKs require a role ARN; the gateway takes its last part for the name of the connection.
        .env("AWS_ROLE_ARN", format!("arn:aws:iam::000000000000:role/{}", sign_in.connection))
        .env("AWS_ROLE_SESSION_NAME", "durward-run")
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", token_file)
        // Without this an SDK whose sign-in fails would go on with the role of the machine.
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .status()
        .map_err(|error| CommandError::Refused(format!("cannot run `{program}`: {error}")))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

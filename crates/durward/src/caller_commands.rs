//! The caller's side: `durward credentials` (a `credential_process`) and `durward run -- CMD`.

use clap::Args;
use durward_core::env_vars;
use durward_gateway::aws_frontend::CONTAINER_CREDENTIALS_PATH;
use durward_gateway::upstream_client::UpstreamClient;
use http::Request;
use std::path::PathBuf;
use std::process::Command;

#[derive(Args)]
pub struct CallerSignInArgs {
    /// URL of the gateway's AWS door
    #[arg(long, env = env_vars::DURWARD_ENDPOINT, default_value = "http://127.0.0.1:8610", value_name = "URL")]
    endpoint: String,
    /// The connection to sign in to
    #[arg(long, env = env_vars::DURWARD_CONNECTION, value_name = "NAME")]
    connection: String,
    /// File that holds the OIDC token of your identity provider
    #[arg(long, env = env_vars::DURWARD_TOKEN_FILE, value_name = "FILE")]
    token_file: PathBuf,
}

/// Signs in and returns the JSON that the SDKs expect of a `credential_process`.
pub async fn fetch_gateway_credential(sign_in: &CallerSignInArgs) -> Result<String, String> {
    let token = String::from_utf8(crate::read_file(&sign_in.token_file)?)
        .map_err(|_error| format!("{}: not text", sign_in.token_file.display()))?;
    let origin = crate::serve::parse_origin(&sign_in.endpoint)?;
    let transport = UpstreamClient::new(vec![origin.clone()])?;
    let request = Request::get(format!("{CONTAINER_CREDENTIALS_PATH}{}", sign_in.connection))
        .header("host", origin.authority())
        .header("authorization", token.trim())
        .body(bytes::Bytes::new())
        .map_err(|error| format!("the sign-in request cannot be written: {error}"))?;
    let response = transport
        .send_buffered(&origin, request, 1 << 20)
        .await
        .map_err(|error| format!("{}: {error}\n  hint: is the gateway running there?", sign_in.endpoint))?;
    let answer: serde_json::Value = serde_json::from_slice(response.body())
        .map_err(|_error| format!("{}: the answer is not that of a Durward gateway", sign_in.endpoint))?;
    if !response.status().is_success() {
        let message = answer.get("message").and_then(serde_json::Value::as_str).unwrap_or("no reason given");
        return Err(format!("sign-in refused: {message}"));
    }
    let field = |name: &str| answer.get(name).cloned().unwrap_or_default();
    Ok(serde_json::json!({
        "Version": 1,
        "AccessKeyId": field("AccessKeyId"),
        "SecretAccessKey": field("SecretAccessKey"),
        "SessionToken": field("Token"),
        "Expiration": field("Expiration"),
    })
    .to_string())
}

/// Runs a command whose SDK signs in by web identity at the gateway; its exit code is ours.
pub fn run_signed_in_command(sign_in: &CallerSignInArgs, command: &[String]) -> Result<u8, String> {
    let (program, arguments) = command.split_first().ok_or("no command given")?;
    let token_file = std::fs::canonicalize(&sign_in.token_file)
        .map_err(|error| format!("{}: cannot be read: {error}", sign_in.token_file.display()))?;
    let mut child = Command::new(program);
    child.args(arguments);
    // A credential that AWS accepts must not win over the gateway's.
    for name in [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    ] {
        child.env_remove(name);
    }
    for (name, _value) in std::env::vars() {
        if name.starts_with("AWS_ENDPOINT_URL_") {
            child.env_remove(name);
        }
    }
    let status = child
        .env("AWS_ENDPOINT_URL", &sign_in.endpoint)
        .env("AWS_ROLE_ARN", format!("arn:aws:iam::000000000000:role/{}", sign_in.connection))
        .env("AWS_ROLE_SESSION_NAME", "durward-run")
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", token_file)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .status()
        .map_err(|error| format!("cannot run `{program}`: {error}"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

//! The admin API as the signed-in user: the client that the approver commands share, and how they print what it returns.
//!
//! Tokens are never printed. A text that a caller could have written is printed with its control and direction characters
//! escaped.

use crate::command_error::CommandError;
use crate::console_endpoint::{ConsoleEndpoint, ConsoleUrlArgs};
use crate::input_files::read_secret;
use crate::login;
use crate::terminal_output::PipeSafeStdout;
use crate::terminal_text::write_json;
use bytes::Bytes;
use clap::Args;
use durward_core::{Secret, env_vars};
use durward_gateway::body::BoxBody;
use http::Response;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

#[derive(Args)]
pub struct AdminApiArgs {
    #[command(flatten)]
    pub console: ConsoleUrlArgs,
    /// File with your OIDC token; by default the sign-in of `durward login` is used
    #[arg(long, env = env_vars::DURWARD_TOKEN_FILE, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub struct AdminApiClient {
    console: ConsoleEndpoint,
    token_file: Option<PathBuf>,
}

impl AdminApiClient {
    pub fn new(args: &AdminApiArgs) -> Result<Self, CommandError> {
        Ok(Self {
            console: ConsoleEndpoint::from_url(&args.console.url)?,
            token_file: args.token_file.clone(),
        })
    }

    pub async fn get(&self, path: &str) -> Result<Value, CommandError> {
        self.console.read_json(self.send("GET", path, Bytes::new()).await?).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, CommandError> {
        self.console.read_json(self.send("POST", path, Bytes::from(body.to_string())).await?).await
    }

    /// The server-sent events of a path, as they come.
    pub async fn open_event_stream(&self, path: &str) -> Result<BoxBody, CommandError> {
        Ok(self.send("GET", path, Bytes::new()).await?.into_body())
    }

    async fn send(&self, method: &str, path: &str, body: Bytes) -> Result<Response<BoxBody>, CommandError> {
        // Read again for each request: `watch` outlives a token, whose file is then replaced or whose sign-in is renewed.
        let token = self.bearer_token().await?;
        self.console.send_request(method, path, Some(&token), body).await
    }

    async fn bearer_token(&self) -> Result<Secret, CommandError> {
        match &self.token_file {
            Some(file) => Ok(read_secret(file)?),
            None => login::current_id_token(&self.console).await,
        }
    }
}

/// Prints a response as JSON, or as `write_text` does. The exit code is 0.
pub fn print_result(
    as_json: bool,
    response: &Value,
    write_text: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<u8, CommandError> {
    let mut out = PipeSafeStdout;
    if as_json { write_json(response, &mut out) } else { write_text(&mut out) }
        .map(|()| 0)
        .map_err(CommandError::Output)
}

/// A value with everything escaped that is not unreserved in a URL (RFC 3986, section 2.3).
pub fn encode_query_value(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _infallible = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

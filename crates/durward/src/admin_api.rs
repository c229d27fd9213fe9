//! The client of the admin API that the commands for people share: where the console is, whose token is sent, and the
//! answers as values or as text for people.
//!
//! A token travels over TLS or to loopback only, and is never printed. What a caller could have written is shown with its
//! control and direction characters escaped.

use crate::journal_commands::terminal_text::{escape_for_terminal, write_json};
use crate::login;
use crate::terminal_output::{PipeSafeStdout, map_write_error};
use bytes::Bytes;
use clap::Args;
use durward_core::{Secret, env_vars};
use durward_gateway::body::{BoxBody, full_body, read_limited_body};
use durward_gateway::upstream_client::{UpstreamClient, UpstreamOrigin};
use http::{Request, Response};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

/// Largest answer of the API that is read.
const MAX_API_RESPONSE_BYTES: usize = 32 << 20;

#[derive(Args)]
pub struct AdminApiArgs {
    /// URL of the console and admin API
    #[arg(long, env = env_vars::DURWARD_CONSOLE_URL, default_value = "http://127.0.0.1:8600", value_name = "URL")]
    pub url: String,
    /// File that holds your OIDC token; without it, the sign-in of `durward login` is used
    #[arg(long, env = env_vars::DURWARD_TOKEN_FILE, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The admin API, as the person who is signed in or whose token the file holds.
pub struct AdminApiClient {
    console: ConsoleEndpoint,
    token_file: Option<PathBuf>,
}

/// Where the console is, and the way there.
pub struct ConsoleEndpoint {
    /// As it was given, for messages.
    url: String,
    origin: UpstreamOrigin,
    http_client: UpstreamClient,
}

/// Why a call came to nothing: the gateway said no, or there was no way to it.
pub enum RemoteError {
    Rejected(String),
    Unreachable(String),
}

impl From<RemoteError> for String {
    fn from(failure: RemoteError) -> Self {
        match failure {
            RemoteError::Rejected(why) | RemoteError::Unreachable(why) => why,
        }
    }
}

impl AdminApiClient {
    pub fn new(gateway: &AdminApiArgs) -> Result<Self, String> {
        Ok(Self { console: ConsoleEndpoint::from_url(&gateway.url)?, token_file: gateway.token_file.clone() })
    }

    pub async fn get(&self, path: &str) -> Result<Value, String> {
        Ok(self.request_json("GET", path, Bytes::new()).await?)
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        Ok(self.request_json("POST", path, Bytes::from(body.to_string())).await?)
    }

    /// One call with its whole answer.
    pub async fn request_json(&self, method: &str, path: &str, body: Bytes) -> Result<Value, RemoteError> {
        let response = self.send_authorized(method, path, body).await?;
        self.console.read_json(response).await
    }

    /// Sends one request; anything but success is a failure with the text for people. `path` is below `/api/v1`.
    pub async fn send_authorized(
        &self,
        method: &str,
        path: &str,
        body: Bytes,
    ) -> Result<Response<BoxBody>, RemoteError> {
        // Each time anew: a file may have been replaced and a sign-in renewed since the last call.
        let token = self.bearer_token().await?;
        self.console.send_request(method, path, Some(&token), body).await
    }

    async fn bearer_token(&self) -> Result<Secret, RemoteError> {
        let Some(file) = &self.token_file else { return login::current_id_token(&self.console).await };
        let text = crate::read_file(file).map_err(RemoteError::Rejected)?;
        match String::from_utf8(text) {
            Ok(text) => Ok(Secret::new(text.trim())),
            Err(_error) => Err(RemoteError::Rejected(format!("{}: not text", file.display()))),
        }
    }
}

impl ConsoleEndpoint {
    /// The console at a URL: over TLS, or on loopback.
    pub fn from_url(url: &str) -> Result<Self, String> {
        let origin = crate::serve::parse_origin(url)?;
        if !origin.uses_tls && !crate::console_server::is_loopback_url(url) {
            return Err(format!("{url}: your token would travel in the clear: write https://"));
        }
        Ok(Self { http_client: UpstreamClient::new(vec![origin.clone()])?, url: url.to_owned(), origin })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The option that names this console, where it is not the default one.
    pub fn url_option(&self) -> String {
        let default = format!("http://{}", env_vars::DEFAULT_CONSOLE_LISTEN_ADDRESS);
        if self.url == default { String::new() } else { format!(" --url {}", self.url) }
    }

    /// The console's address in one spelling.
    pub fn canonical_address(&self) -> String {
        self.origin.url().to_ascii_lowercase()
    }

    fn wrong_front_end_message(&self, door: &str) -> String {
        format!(
            "{}: the {door} door is there, not the console\n  hint: name the console with --url or {}: its address is [listen] \
             console of the gateway's configuration, {} by default",
            self.url,
            env_vars::DURWARD_CONSOLE_URL,
            env_vars::DEFAULT_CONSOLE_LISTEN_ADDRESS
        )
    }

    pub async fn read_json(&self, response: Response<BoxBody>) -> Result<Value, RemoteError> {
        let whole = read_limited_body(response.into_body(), MAX_API_RESPONSE_BYTES, "answer")
            .await
            .map_err(|refusal| RemoteError::Unreachable(format!("{}: {refusal}", self.url)))?;
        serde_json::from_slice(&whole).map_err(|_error| {
            RemoteError::Rejected(format!("{}: the answer is not that of a Durward console", self.url))
        })
    }

    pub async fn send_request(
        &self,
        method: &str,
        path: &str,
        token: Option<&Secret>,
        body: Bytes,
    ) -> Result<Response<BoxBody>, RemoteError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header("host", self.origin.authority())
            .header("content-type", "application/json")
            .header("content-length", body.len());
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {}", token.expose()));
        }
        let request = request.body(full_body(body)).map_err(|_error| {
            RemoteError::Rejected("the token or the id cannot be sent as they are".to_owned())
        })?;
        let response = self.http_client.send(&self.origin, request).await.map_err(|error| {
            RemoteError::Unreachable(format!(
                "{}: {error}\n  hint: is the console open there? ([listen] console)",
                self.url
            ))
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        // The AWS door names the exchange in each of its refusals; the console has none.
        let is_aws_door = response.headers().contains_key("x-durward-exchange");
        let whole = read_limited_body(response.into_body(), 64 << 10, "answer").await.unwrap_or_default();
        if is_aws_door || whole.starts_with(b"durward: ") {
            let door = if is_aws_door { "AWS" } else { "MCP" };
            return Err(RemoteError::Rejected(self.wrong_front_end_message(door)));
        }
        let said: Value = serde_json::from_slice(&whole).unwrap_or_default();
        let message = said["message"].as_str().map_or_else(
            || format!("{}: the answer is {status}, and not that of a Durward console", self.url),
            escape_for_terminal,
        );
        // 502 to 504 pass; what the console itself refuses does not.
        if matches!(status.as_u16(), 502..=504) {
            Err(RemoteError::Unreachable(message))
        } else {
            Err(RemoteError::Rejected(message))
        }
    }
}

/// Writes an answer as JSON, or as `text` does.
pub fn print_result(
    json: bool,
    value: &Value,
    text: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<u8, String> {
    let mut out = PipeSafeStdout;
    map_write_error(if json { write_json(value, &mut out) } else { text(&mut out) }.map(|()| 0))
}

/// A value as it may stand in a query.
pub fn encode_query_value(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _infallible = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// The items of a list; none of anything else.
pub fn list_items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A scalar for people; nothing for null.
pub fn format_scalar(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => escape_for_terminal(text),
        other => escape_for_terminal(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::net::TcpListener;

    /// What the commands make of an answer.
    fn error_for_response(answer: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answer = answer.to_owned();
        let server = std::thread::spawn(move || {
            let (mut stream, _client) = listener.accept().unwrap();
            let read = stream.read(&mut [0; 4096]).unwrap();
            assert!(read > 0);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let asked = async {
            ConsoleEndpoint::from_url(&url)?
                .send_request("GET", "/asks", None, Bytes::new())
                .await
                .map_err(String::from)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let why = runtime.block_on(asked).map(|_answer| ()).unwrap_err();
        server.join().unwrap();
        why.replace(&url, "URL")
    }

    #[test]
    fn explains_that_the_address_is_not_the_consoles() {
        let aws = "HTTP/1.1 403 Forbidden\r\nx-durward-exchange: 01\r\nconnection: close\r\n\r\n{\"message\":\"durward: the request is not signed\"}";
        let mcp =
            "HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\ndurward: servers are at /mcp/<server>\n";
        for (answer, door) in [(aws, "AWS"), (mcp, "MCP")] {
            let why = error_for_response(answer);
            assert!(why.starts_with(&format!("URL: the {door} door is there, not the console")), "{why}");
            assert!(why.contains("[listen] console") && !why.contains("durward: "), "{why}");
        }
        let other = error_for_response("HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n<html>");
        assert!(
            other.contains("404 Not Found") && other.contains("not that of a Durward console"),
            "{other}"
        );
        let console = "HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n{\"error\":\"no\",\"message\":\"you may not\"}";
        assert_eq!(error_for_response(console), "you may not");
    }
}

//! The address of the console of a gateway, and requests to it. It holds no credential: each request brings its own.
//!
//! A token travels over TLS or to a loopback address only.

use crate::command_error::CommandError;
use crate::terminal_text::escape_for_terminal;
use crate::url_origin::{is_confidential, origin_of_url};
use bytes::Bytes;
use clap::Args;
use durward_core::{Origin, Secret, env_vars};
use durward_gateway::body::{BoxBody, full_body, read_limited_body};
use durward_gateway::upstream_client::UpstreamClient;
use http::{Request, Response};
use serde_json::Value;

/// Largest response of the API that is read. A list of 1,000 approval requests with large operations takes some 20 MiB.
const MAX_API_RESPONSE_BYTES: usize = 32 << 20;
/// Largest error response that is read.
const MAX_ERROR_RESPONSE_BYTES: usize = 64 << 10;

#[derive(Args)]
pub struct ConsoleUrlArgs {
    /// URL of the console and admin API
    #[arg(long, env = env_vars::DURWARD_CONSOLE_URL, default_value_t = default_console_url(), value_name = "URL")]
    pub url: String,
}

fn default_console_url() -> String {
    format!("http://{}", env_vars::DEFAULT_CONSOLE_LISTEN_ADDRESS)
}

pub struct ConsoleEndpoint {
    /// As the user wrote it, for messages.
    url: String,
    origin: Origin,
    http_client: UpstreamClient,
}

impl ConsoleEndpoint {
    pub fn from_url(url: &str) -> Result<Self, CommandError> {
        let origin = origin_of_url(url)?;
        if !is_confidential(&origin) {
            return Err(CommandError::Refused(format!(
                "{url}: your token would travel unencrypted: write https://"
            )));
        }
        // The user named this origin, so it may be a private address.
        let http_client = UpstreamClient::new(vec![origin.clone()]).map_err(CommandError::HttpClient)?;
        Ok(Self { url: url.to_owned(), origin, http_client })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The command-line option that names this console, with a space before it. Empty for the default console.
    pub fn url_option(&self) -> String {
        if self.url == default_console_url() { String::new() } else { format!(" --url {}", self.url) }
    }

    /// The console's origin in one spelling, as the key under which its tokens are stored.
    pub fn canonical_address(&self) -> String {
        self.origin.url().to_ascii_lowercase()
    }

    /// Sends one request to a path below `/api/v1`. A response that is not a success is an error with text for the user.
    pub async fn send_request(
        &self,
        method: &str,
        path: &str,
        token: Option<&Secret>,
        body: Bytes,
    ) -> Result<Response<BoxBody>, CommandError> {
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
            CommandError::Refused("the token or the id holds characters that HTTP cannot carry".to_owned())
        })?;
        let response = self.http_client.send(&self.origin, request).await.map_err(|error| {
            CommandError::Unreachable(format!(
                "{}: {error}\n  hint: is the console open there? ([listen] console)",
                self.url
            ))
        })?;
        if response.status().is_success() { Ok(response) } else { Err(self.error_of(response).await) }
    }

    /// The JSON of a successful response.
    pub async fn read_json(&self, response: Response<BoxBody>) -> Result<Value, CommandError> {
        let body = read_limited_body(response.into_body(), MAX_API_RESPONSE_BYTES, "response")
            .await
            .map_err(|refusal| CommandError::Unreachable(format!("{}: {refusal}", self.url)))?;
        serde_json::from_slice(&body).map_err(|_error| {
            CommandError::Refused(format!("{}: the response is not from a Durward console", self.url))
        })
    }

    async fn error_of(&self, response: Response<BoxBody>) -> CommandError {
        let status = response.status();
        // The AWS front end names the exchange in each of its refusals; the console never does.
        let is_aws_front_end = response.headers().contains_key("x-durward-exchange");
        let body = read_limited_body(response.into_body(), MAX_ERROR_RESPONSE_BYTES, "response").await;
        let body = body.unwrap_or_default();
        if is_aws_front_end || body.starts_with(b"durward: ") {
            return self.wrong_front_end_error(if is_aws_front_end { "AWS" } else { "MCP" });
        }
        let error: Value = serde_json::from_slice(&body).unwrap_or_default();
        let message = error["message"].as_str().map_or_else(
            || format!("{}: the response is {status}, and it is not from a Durward console", self.url),
            escape_for_terminal,
        );
        // A proxy in front of the console returns 502 to 504 while the console restarts. That passes; a refusal does not.
        if matches!(status.as_u16(), 502..=504) {
            CommandError::Unreachable(message)
        } else {
            CommandError::Refused(message)
        }
    }

    fn wrong_front_end_error(&self, front_end: &str) -> CommandError {
        CommandError::Refused(format!(
            "{}: this is the {front_end} front end, not the console\n  hint: name the console with --url or {}: its address is \
             [listen] console of the gateway's configuration, {} by default",
            self.url,
            env_vars::DURWARD_CONSOLE_URL,
            env_vars::DEFAULT_CONSOLE_LISTEN_ADDRESS
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    /// The error text for a console that sends this response.
    fn error_for_response(response: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let response = response.to_owned();
        let server = std::thread::spawn(move || {
            let (mut stream, _client) = listener.accept().unwrap();
            let read = stream.read(&mut [0; 4096]).unwrap();
            assert!(read > 0);
            stream.write_all(response.as_bytes()).unwrap();
        });
        let request = async {
            let console = ConsoleEndpoint::from_url(&url)?;
            console.send_request("GET", "/approval-requests", None, Bytes::new()).await
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error = runtime.block_on(request).map(|_response| ()).unwrap_err();
        server.join().unwrap();
        error.to_string().replace(&url, "URL")
    }

    #[test]
    fn explains_that_the_address_is_not_the_consoles() {
        let aws = "HTTP/1.1 403 Forbidden\r\nx-durward-exchange: 01\r\nconnection: close\r\n\r\n{\"message\":\"durward: the request is not signed\"}";
        let mcp =
            "HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\ndurward: servers are at /mcp/<server>\n";
        for (response, front_end) in [(aws, "AWS"), (mcp, "MCP")] {
            let error = error_for_response(response);
            assert!(
                error.starts_with(&format!("URL: this is the {front_end} front end, not the console")),
                "{error}"
            );
            assert!(error.contains("[listen] console") && !error.contains("durward: "), "{error}");
        }
        let other = error_for_response("HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n<html>");
        assert!(other.contains("404 Not Found") && other.contains("not from a Durward console"), "{other}");
        let console = "HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n{\"error\":\"no\",\"message\":\"you may not\"}";
        assert_eq!(error_for_response(console), "you may not");
    }

    #[test]
    fn a_token_is_never_sent_unencrypted_to_another_machine() {
        for url in ["http://durward.example.com", "http://127.0.0.1.example.com:8600"] {
            let error = ConsoleEndpoint::from_url(url).map(|_console| ()).unwrap_err().to_string();
            assert!(error.contains("unencrypted"), "{error}");
        }
        for url in ["http://127.0.0.1:8600", "http://localhost:8600", "https://durward.example.com"] {
            assert!(ConsoleEndpoint::from_url(url).is_ok(), "{url}");
        }
    }
}

//! The client of the admin API that the commands for people share: where the console is, whose token is sent, and the
//! answers as values or as text for people.
//!
//! A token travels over TLS or to loopback only, and is never printed. What a caller could have written is shown with its
//! control and direction characters escaped.

use crate::journal_commands::text::{plain, write_json};
use crate::login;
use crate::output::{Stdout, written};
use bytes::Bytes;
use clap::Args;
use durward_core::{Secret, env};
use durward_gateway::body::{Body, full, read_whole};
use durward_gateway::transport::{Origin, Transport};
use http::{Request, Response};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

/// Largest answer of the API that is read.
const ANSWER: usize = 32 << 20;

#[derive(Args)]
pub struct Gateway {
    /// URL of the console and admin API
    #[arg(long, env = env::CONSOLE_URL, default_value = "http://127.0.0.1:8600", value_name = "URL")]
    pub url: String,
    /// File that holds your OIDC token; without it, the sign-in of `durward login` is used
    #[arg(long, env = env::TOKEN_FILE, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The admin API, as the person who is signed in or whose token the file holds.
pub struct Api {
    console: Console,
    token_file: Option<PathBuf>,
}

/// Where the console is, and the way there.
pub struct Console {
    /// As it was given, for messages.
    url: String,
    origin: Origin,
    transport: Transport,
}

/// Why a call came to nothing: the gateway said no, or there was no way to it.
pub enum Failure {
    Answer(String),
    Way(String),
}

impl From<Failure> for String {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Answer(why) | Failure::Way(why) => why,
        }
    }
}

impl Api {
    pub fn new(gateway: &Gateway) -> Result<Self, String> {
        Ok(Self { console: Console::at(&gateway.url)?, token_file: gateway.token_file.clone() })
    }

    pub async fn get(&self, path: &str) -> Result<Value, String> {
        Ok(self.call("GET", path, Bytes::new()).await?)
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        Ok(self.call("POST", path, Bytes::from(body.to_string())).await?)
    }

    /// One call with its whole answer.
    pub async fn call(&self, method: &str, path: &str, body: Bytes) -> Result<Value, Failure> {
        let response = self.send(method, path, body).await?;
        self.console.read(response).await
    }

    /// Sends one request; anything but success is a failure with the text for people. `path` is below `/api/v1`.
    pub async fn send(&self, method: &str, path: &str, body: Bytes) -> Result<Response<Body>, Failure> {
        // Each time anew: a file may have been replaced and a sign-in renewed since the last call.
        let token = self.token().await?;
        self.console.send(method, path, Some(&token), body).await
    }

    async fn token(&self) -> Result<Secret, Failure> {
        let Some(file) = &self.token_file else { return login::token(&self.console).await };
        let text = crate::read(file).map_err(Failure::Answer)?;
        match String::from_utf8(text) {
            Ok(text) => Ok(Secret::new(text.trim())),
            Err(_error) => Err(Failure::Answer(format!("{}: not text", file.display()))),
        }
    }
}

impl Console {
    /// The console at a URL: over TLS, or on loopback.
    pub fn at(url: &str) -> Result<Self, String> {
        let origin = crate::serve::origin(url)?;
        if !origin.tls && !crate::console::is_loopback(url) {
            return Err(format!("{url}: your token would travel in the clear: write https://"));
        }
        Ok(Self { transport: Transport::new(vec![origin.clone()])?, url: url.to_owned(), origin })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The option that names this console, where it is not the default one.
    pub fn option(&self) -> String {
        let default = format!("http://{}", env::CONSOLE_LISTEN);
        if self.url == default { String::new() } else { format!(" --url {}", self.url) }
    }

    /// The console's address in one spelling.
    pub fn address(&self) -> String {
        self.origin.url().to_ascii_lowercase()
    }

    fn is_door(&self, door: &str) -> String {
        format!(
            "{}: the {door} door is there, not the console\n  hint: name the console with --url or {}: its address is [listen] \
             console of the gateway's configuration, {} by default",
            self.url,
            env::CONSOLE_URL,
            env::CONSOLE_LISTEN
        )
    }

    pub async fn read(&self, response: Response<Body>) -> Result<Value, Failure> {
        let whole = read_whole(response.into_body(), ANSWER, "answer")
            .await
            .map_err(|refusal| Failure::Way(format!("{}: {refusal}", self.url)))?;
        serde_json::from_slice(&whole).map_err(|_error| {
            Failure::Answer(format!("{}: the answer is not that of a Durward console", self.url))
        })
    }

    pub async fn send(
        &self,
        method: &str,
        path: &str,
        token: Option<&Secret>,
        body: Bytes,
    ) -> Result<Response<Body>, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header("host", self.origin.authority())
            .header("content-type", "application/json")
            .header("content-length", body.len());
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {}", token.expose()));
        }
        let request = request
            .body(full(body))
            .map_err(|_error| Failure::Answer("the token or the id cannot be sent as they are".to_owned()))?;
        let response = self.transport.send(&self.origin, request).await.map_err(|error| {
            Failure::Way(format!(
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
        let whole = read_whole(response.into_body(), 64 << 10, "answer").await.unwrap_or_default();
        if is_aws_door || whole.starts_with(b"durward: ") {
            let door = if is_aws_door { "AWS" } else { "MCP" };
            return Err(Failure::Answer(self.is_door(door)));
        }
        let said: Value = serde_json::from_slice(&whole).unwrap_or_default();
        let message = said["message"].as_str().map_or_else(
            || format!("{}: the answer is {status}, and not that of a Durward console", self.url),
            plain,
        );
        // 502 to 504 pass; what the console itself refuses does not.
        if matches!(status.as_u16(), 502..=504) {
            Err(Failure::Way(message))
        } else {
            Err(Failure::Answer(message))
        }
    }
}

/// Writes an answer as JSON, or as `text` does.
pub fn print(
    json: bool,
    value: &Value,
    text: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<u8, String> {
    let mut out = Stdout;
    written(if json { write_json(value, &mut out) } else { text(&mut out) }.map(|()| 0))
}

/// A value as it may stand in a query.
pub fn encoded(text: &str) -> String {
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
pub fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A scalar for people; nothing for null.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => plain(text),
        other => plain(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::net::TcpListener;

    /// What the commands make of an answer.
    fn made_of(answer: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answer = answer.to_owned();
        let server = std::thread::spawn(move || {
            let (mut stream, _client) = listener.accept().unwrap();
            let read = stream.read(&mut [0; 4096]).unwrap();
            assert!(read > 0);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let asked =
            async { Console::at(&url)?.send("GET", "/asks", None, Bytes::new()).await.map_err(String::from) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let why = runtime.block_on(asked).map(|_answer| ()).unwrap_err();
        server.join().unwrap();
        why.replace(&url, "URL")
    }

    #[test]
    fn says_plainly_that_an_address_is_not_the_consoles() {
        let aws = "HTTP/1.1 403 Forbidden\r\nx-durward-exchange: 01\r\nconnection: close\r\n\r\n{\"message\":\"durward: the request is not signed\"}";
        let mcp =
            "HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\ndurward: servers are at /mcp/<server>\n";
        for (answer, door) in [(aws, "AWS"), (mcp, "MCP")] {
            let why = made_of(answer);
            assert!(why.starts_with(&format!("URL: the {door} door is there, not the console")), "{why}");
            assert!(why.contains("[listen] console") && !why.contains("durward: "), "{why}");
        }
        let other = made_of("HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n<html>");
        assert!(
            other.contains("404 Not Found") && other.contains("not that of a Durward console"),
            "{other}"
        );
        let console = "HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n{\"error\":\"no\",\"message\":\"you may not\"}";
        assert_eq!(made_of(console), "you may not");
    }
}

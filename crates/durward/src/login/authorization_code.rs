//! The authorization code flow of a native application (RFC 8252): the user signs in with their browser, which comes back to
//! a port on 127.0.0.1 that is open for this one callback.
//!
//! A callback without the `state` of this sign-in is rejected, and the sign-in goes on: any page in the browser can send one.

use super::has_display;
use super::provider_client::{ProviderClient, SignInTokens};
use crate::command_error::CommandError;
use crate::terminal_output::print_line;
use crate::terminal_text::escape_for_terminal;
use durward_identity::relying_party::{AuthenticationRequest, AuthorizationResponse, random_text};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// The time in which a user must sign in at the provider: passwords, second factors, a reset on the way.
const BROWSER_SIGN_IN_TIMEOUT: Duration = Duration::from_mins(10);
/// The time in which the browser must read the last page.
const FINAL_PAGE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed accept. Most of them mean that the process has no file descriptor left.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);
const CALLBACK_PATH: &str = "/callback";

/// The provider's response, and the channel on which the browser's page waits for the result.
type PendingCallback = (AuthorizationResponse, oneshot::Sender<Result<(), String>>);

/// The random values of one sign-in. Each of them ties one step to the step before.
struct SignInAttempt {
    /// Ties the callback to this sign-in (RFC 6749, section 10.12).
    state: String,
    /// Ties the ID token to this sign-in.
    nonce: String,
    /// Ties the code to this process (PKCE, RFC 7636).
    code_verifier: String,
    redirect_uri: String,
}

pub async fn sign_in_with_browser(
    provider: &ProviderClient,
    port: u16,
) -> Result<SignInTokens, CommandError> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.map_err(|error| {
        CommandError::Refused(format!(
            "cannot listen on 127.0.0.1:{port}: {error}\n  hint: choose another port with --callback-port"
        ))
    })?;
    let port = listener.local_addr().map_err(|error| CommandError::Refused(error.to_string()))?.port();
    let attempt = SignInAttempt {
        state: random_value()?,
        nonce: random_value()?,
        code_verifier: random_value()?,
        // RFC 8252, section 8.3: an IP literal, because the name localhost may lead elsewhere.
        redirect_uri: format!("http://127.0.0.1:{port}{CALLBACK_PATH}"),
    };
    let page = provider.discovery.authorization_url(&AuthenticationRequest {
        client_id: &provider.registration().client_id,
        redirect_uri: &attempt.redirect_uri,
        scopes: &provider.requested_scopes(),
        state: &attempt.state,
        nonce: &attempt.nonce,
        code_verifier: &attempt.code_verifier,
    });
    print_line(&format!("to sign in, open this page in a browser on this machine:\n\n    {page}\n"))?;
    open_browser(&page);
    let (callback_sender, mut callbacks) = mpsc::channel::<PendingCallback>(1);
    let mut server = JoinSet::new();
    let callback_server = CallbackServer { state: attempt.state.clone(), callback_sender };
    server.spawn(accept_callbacks(listener, Arc::new(callback_server)));
    let (response, page_result) =
        tokio::time::timeout(BROWSER_SIGN_IN_TIMEOUT, callbacks.recv()).await.ok().flatten().ok_or_else(
            || CommandError::Refused("the sign-in was not completed within ten minutes".to_owned()),
        )?;
    let tokens = redeem_code(provider, &response, &attempt).await;
    let result = tokens.as_ref().map(|_tokens| ()).map_err(ToString::to_string);
    if page_result.send(result).is_ok() {
        // The process must not end before the page is sent. A browser that never reads it changes nothing.
        let _late = tokio::time::timeout(FINAL_PAGE_TIMEOUT, server.join_next()).await;
    }
    tokens
}

fn random_value() -> Result<String, CommandError> {
    random_text()
        .ok_or_else(|| CommandError::Refused("the system's random number generator failed".to_owned()))
}

async fn redeem_code(
    provider: &ProviderClient,
    response: &AuthorizationResponse,
    attempt: &SignInAttempt,
) -> Result<SignInTokens, CommandError> {
    let code = provider
        .discovery
        .authorization_code(response, &attempt.state)
        .map_err(|error| CommandError::Refused(escape_for_terminal(&error.to_string())))?;
    let tokens = provider
        .request_tokens(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &attempt.redirect_uri),
            ("code_verifier", &attempt.code_verifier),
        ])
        .await?;
    provider.verify_tokens(tokens, Some(&attempt.nonce)).await
}

/// Receives the redirect of the browser.
struct CallbackServer {
    state: String,
    callback_sender: mpsc::Sender<PendingCallback>,
}

/// Serves connections until one of them has delivered the callback and its page.
async fn accept_callbacks(listener: TcpListener, server: Arc<CallbackServer>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _source)) => { connections.spawn(serve_callback_connection(stream, server.clone())); }
                Err(_error) => tokio::time::sleep(ACCEPT_RETRY_DELAY).await,
            },
            Some(Ok(true)) = connections.join_next() => return,
        }
    }
}

/// Returns whether this connection delivered the callback.
async fn serve_callback_connection(stream: TcpStream, server: Arc<CallbackServer>) -> bool {
    let delivered = Arc::new(AtomicBool::new(false));
    let set_delivered = delivered.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (server, set_delivered) = (server.clone(), set_delivered.clone());
        async move { Ok::<_, Infallible>(server.handle_callback(&request, &set_delivered).await) }
    });
    let mut http = http1::Builder::new();
    // An idle connection of the browser would keep `accept_callbacks` from seeing that the page was sent.
    http.keep_alive(false);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection of the browser failed");
    }
    delivered.load(Ordering::Relaxed)
}

impl CallbackServer {
    async fn handle_callback(
        &self,
        request: &Request<Incoming>,
        delivered: &AtomicBool,
    ) -> Response<Full<bytes::Bytes>> {
        if request.uri().path() != CALLBACK_PATH || request.method() != Method::GET {
            return render_page(
                StatusCode::NOT_FOUND,
                "This page does not exist",
                "Go back to the terminal.",
            );
        }
        let response = AuthorizationResponse::parse_query(request.uri().query().unwrap_or_default());
        let Some(response) = response.filter(|response| response.has_state(&self.state)) else {
            tracing::warn!("a callback with a foreign state was rejected; the sign-in is still open");
            return render_page(
                StatusCode::BAD_REQUEST,
                "You are not signed in",
                "This callback does not belong to the sign-in that the terminal began (state). Open the page that the \
                 terminal shows.",
            );
        };
        let (page_result, result) = oneshot::channel();
        // One callback: a second with the same `state` is a reload, or somebody who read the address.
        if self.callback_sender.try_send((response, page_result)).is_err() {
            return render_page(
                StatusCode::CONFLICT,
                "This sign-in was already completed",
                "You may close this page.",
            );
        }
        delivered.store(true, Ordering::Relaxed);
        match result.await {
            Ok(Ok(())) => render_page(
                StatusCode::OK,
                "You are signed in at the identity provider",
                "You may close this page. The terminal says whether the console admits you.",
            ),
            Ok(Err(reason)) => render_page(StatusCode::FORBIDDEN, "You are not signed in", &reason),
            Err(_dropped) => {
                render_page(StatusCode::GONE, "You are not signed in", "The terminal stopped waiting.")
            }
        }
    }
}

fn render_page(status: StatusCode, title: &str, text: &str) -> Response<Full<bytes::Bytes>> {
    let (title, text) = (escape_html(title), escape_html(text));
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{title} - Durward</title><style>body{{font:1.1rem/1.5 \
         system-ui,sans-serif;max-width:32rem;margin:20vh auto;padding:0 1rem}}</style></head><body><main><h1>{title}</h1>\
         <p>{text}</p></main></body></html>"
    );
    let mut response = Response::new(Full::from(html));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    // The text may hold what the provider sent: no script runs, no page frames it, no address of it leaves.
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        ),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn escape_html(text: &str) -> String {
    escape_for_terminal(text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Opens the page in the user's browser if there is one. The address is on the terminal in any case.
fn open_browser(page: &str) {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let is_installed = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir: PathBuf| dir.join(program).is_file()));
    if !is_installed || !has_display() {
        return;
    }
    // Started directly and not by a shell: the provider chooses the address (CVE-2025-6514: commands in an authorization
    // endpoint).
    let started = Command::new(program)
        .arg(page)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(error) = started {
        tracing::debug!(%error, "the browser could not be opened");
    }
}

//! The authorization code flow of a native application (RFC 8252): the person signs in in their browser, which comes back to
//! a port on 127.0.0.1 that is open for this one answer.
//!
//! An answer without the `state` of this attempt is turned away and the waiting goes on: any page in the browser can send one.

use super::print_line;
use super::provider_client::{ProviderClient, SignInTokens};
use crate::admin_api::RemoteError;
use durward_core::escape_invisible;
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

/// How long a person may take at the provider.
const BROWSER_SIGN_IN_TIMEOUT: Duration = Duration::from_mins(10);
/// How long the last page may take to the browser.
const FINAL_PAGE_TIMEOUT: Duration = Duration::from_secs(5);
const CALLBACK_PATH: &str = "/callback";

/// The provider's answer, and where the browser waits to hear what came of it.
type PendingCallback = (AuthorizationResponse, oneshot::Sender<Result<(), String>>);

pub async fn sign_in_with_browser(provider: &ProviderClient, port: u16) -> Result<SignInTokens, RemoteError> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.map_err(|error| {
        RemoteError::Rejected(format!(
            "cannot listen on 127.0.0.1:{port}: {error}\n  hint: choose another with --port"
        ))
    })?;
    let port = listener.local_addr().map_err(|error| RemoteError::Rejected(error.to_string()))?.port();
    let redirect = format!("http://127.0.0.1:{port}{CALLBACK_PATH}");
    let random =
        || random_text().ok_or_else(|| RemoteError::Rejected("the system has no randomness".to_owned()));
    let (state, nonce, verifier) = (random()?, random()?, random()?);
    let page = provider.discovery.authorization_url(&AuthenticationRequest {
        client_id: &provider.registration().client_id,
        redirect_uri: &redirect,
        scopes: &provider.requested_scopes(),
        state: &state,
        nonce: &nonce,
        code_verifier: &verifier,
    });
    print_line(&format!("to sign in, open this page in a browser on this machine:\n\n    {page}\n"))
        .map_err(RemoteError::Rejected)?;
    open_browser(&page);
    let (sender, mut arrivals) = mpsc::channel::<PendingCallback>(1);
    let mut door = JoinSet::new();
    door.spawn(accept_callbacks(
        listener,
        Arc::new(CallbackServer { state: state.clone(), callback_sender: sender }),
    ));
    let (answer, reply) = tokio::time::timeout(BROWSER_SIGN_IN_TIMEOUT, arrivals.recv())
        .await
        .ok()
        .flatten()
        .ok_or_else(|| RemoteError::Rejected("nobody signed in within ten minutes".to_owned()))?;
    let granted = redeem_code(provider, &answer, [&state, &nonce, &verifier, &redirect]).await;
    let shown = granted.as_ref().map(|_granted| ()).map_err(|failure| match failure {
        RemoteError::Rejected(why) | RemoteError::Unreachable(why) => why.clone(),
    });
    if reply.send(shown).is_ok() {
        // The page goes out before the process ends; a browser that does not take it changes nothing.
        let _late = tokio::time::timeout(FINAL_PAGE_TIMEOUT, door.join_next()).await;
    }
    granted
}

async fn redeem_code(
    provider: &ProviderClient,
    answer: &AuthorizationResponse,
    [state, nonce, verifier, redirect]: [&str; 4],
) -> Result<SignInTokens, RemoteError> {
    let code = provider
        .discovery
        .authorization_code(answer, state)
        .map_err(|error| RemoteError::Rejected(escape_invisible(&error.to_string())))?;
    let tokens = provider
        .request_tokens(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect),
            ("code_verifier", verifier),
        ])
        .await?;
    provider.verify_tokens(tokens, Some(nonce)).await
}

/// What the browser comes back to.
struct CallbackServer {
    state: String,
    callback_sender: mpsc::Sender<PendingCallback>,
}

/// Takes connections until one of them brought the answer and was told what came of it.
async fn accept_callbacks(listener: TcpListener, door: Arc<CallbackServer>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _source)) => { connections.spawn(serve_callback_connection(stream, door.clone())); }
                // Out of file descriptors, mostly.
                Err(_error) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(Ok(true)) = connections.join_next() => return,
        }
    }
}

/// Whether this connection brought the answer.
async fn serve_callback_connection(stream: TcpStream, door: Arc<CallbackServer>) -> bool {
    let brought = Arc::new(AtomicBool::new(false));
    let marked = brought.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (door, marked) = (door.clone(), marked.clone());
        async move { Ok::<_, Infallible>(door.handle_callback(&request, &marked).await) }
    });
    let mut http = http1::Builder::new();
    http.keep_alive(false);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection of the browser broke off");
    }
    brought.load(Ordering::Relaxed)
}

impl CallbackServer {
    async fn handle_callback(
        &self,
        request: &Request<Incoming>,
        brought: &AtomicBool,
    ) -> Response<Full<bytes::Bytes>> {
        if request.uri().path() != CALLBACK_PATH || request.method() != Method::GET {
            return render_page(StatusCode::NOT_FOUND, "There is nothing here", "Go back to the terminal.");
        }
        let answer = AuthorizationResponse::parse_query(request.uri().query().unwrap_or_default());
        let Some(answer) = answer.filter(|answer| answer.has_state(&self.state)) else {
            tracing::warn!(
                "an answer that does not belong to this sign-in was turned away (state); still waiting"
            );
            return render_page(
                StatusCode::BAD_REQUEST,
                "You are not signed in",
                "This answer does not belong to the sign-in that the terminal began (state). Open the page that it shows.",
            );
        };
        let (reply, outcome) = oneshot::channel();
        if self.callback_sender.try_send((answer, reply)).is_err() {
            return render_page(
                StatusCode::CONFLICT,
                "This was answered already",
                "You may close this page.",
            );
        }
        brought.store(true, Ordering::Relaxed);
        match outcome.await {
            Ok(Ok(())) => render_page(
                StatusCode::OK,
                "You are signed in at the identity provider",
                "You may close this page. The terminal says whether the console lets you in.",
            ),
            Ok(Err(why)) => render_page(StatusCode::FORBIDDEN, "You are not signed in", &why),
            Err(_gone) => {
                render_page(StatusCode::GONE, "You are not signed in", "The terminal gave up waiting.")
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
    escape_invisible(text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Shows the page in the person's browser if there is one; the address is on the terminal anyway.
fn open_browser(page: &str) {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir: PathBuf| dir.join(program).is_file()));
    if !found || !super::has_display() {
        return;
    }
    let started = Command::new(program)
        .arg(page)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(error) = started {
        tracing::debug!(%error, "no browser could be opened");
    }
}

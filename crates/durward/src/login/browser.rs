//! The authorization code flow of a native application (RFC 8252): the person signs in in their browser, which comes back to
//! a port on 127.0.0.1 that is open for this one answer.
//!
//! An answer without the `state` of this attempt is turned away and the waiting goes on: any page in the browser can send one.

use super::provider::{Granted, Provider};
use super::say;
use crate::admin_api::Failure;
use durward_core::visible;
use durward_identity::relying_party::{Answer, Attempt, random_text};
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
const PATIENCE: Duration = Duration::from_mins(10);
/// How long the last page may take to the browser.
const LAST_PAGE: Duration = Duration::from_secs(5);
const PATH: &str = "/callback";

/// The provider's answer, and where the browser waits to hear what came of it.
type Arrived = (Answer, oneshot::Sender<Result<(), String>>);

pub async fn sign_in(provider: &Provider, port: u16) -> Result<Granted, Failure> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.map_err(|error| {
        Failure::Answer(format!(
            "cannot listen on 127.0.0.1:{port}: {error}\n  hint: choose another with --port"
        ))
    })?;
    let port = listener.local_addr().map_err(|error| Failure::Answer(error.to_string()))?.port();
    let redirect = format!("http://127.0.0.1:{port}{PATH}");
    let random = || random_text().ok_or_else(|| Failure::Answer("the system has no randomness".to_owned()));
    let (state, nonce, verifier) = (random()?, random()?, random()?);
    let page = provider.discovery.sign_in_page(&Attempt {
        client_id: &provider.way().client_id,
        redirect_uri: &redirect,
        scopes: &provider.scopes(),
        state: &state,
        nonce: &nonce,
        verifier: &verifier,
    });
    say(&format!("to sign in, open this page in a browser on this machine:\n\n    {page}\n"))
        .map_err(Failure::Answer)?;
    open(&page);
    let (sender, mut arrivals) = mpsc::channel::<Arrived>(1);
    let mut door = JoinSet::new();
    door.spawn(listen(listener, Arc::new(Door { state: state.clone(), arrived: sender })));
    let (answer, reply) = tokio::time::timeout(PATIENCE, arrivals.recv())
        .await
        .ok()
        .flatten()
        .ok_or_else(|| Failure::Answer("nobody signed in within ten minutes".to_owned()))?;
    let granted = granted(provider, &answer, [&state, &nonce, &verifier, &redirect]).await;
    let shown = granted.as_ref().map(|_granted| ()).map_err(|failure| match failure {
        Failure::Answer(why) | Failure::Way(why) => why.clone(),
    });
    if reply.send(shown).is_ok() {
        // The page goes out before the process ends; a browser that does not take it changes nothing.
        let _late = tokio::time::timeout(LAST_PAGE, door.join_next()).await;
    }
    granted
}

async fn granted(
    provider: &Provider,
    answer: &Answer,
    [state, nonce, verifier, redirect]: [&str; 4],
) -> Result<Granted, Failure> {
    let code = provider
        .discovery
        .code(answer, state)
        .map_err(|error| Failure::Answer(visible(&error.to_string())))?;
    let tokens = provider
        .tokens(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect),
            ("code_verifier", verifier),
        ])
        .await?;
    provider.granted(tokens, Some(nonce)).await
}

/// What the browser comes back to.
struct Door {
    state: String,
    arrived: mpsc::Sender<Arrived>,
}

/// Takes connections until one of them brought the answer and was told what came of it.
async fn listen(listener: TcpListener, door: Arc<Door>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _source)) => { connections.spawn(serve(stream, door.clone())); }
                // Out of file descriptors, mostly.
                Err(_error) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(Ok(true)) = connections.join_next() => return,
        }
    }
}

/// Whether this connection brought the answer.
async fn serve(stream: TcpStream, door: Arc<Door>) -> bool {
    let brought = Arc::new(AtomicBool::new(false));
    let marked = brought.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (door, marked) = (door.clone(), marked.clone());
        async move { Ok::<_, Infallible>(door.respond(&request, &marked).await) }
    });
    let mut http = http1::Builder::new();
    http.keep_alive(false);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection of the browser broke off");
    }
    brought.load(Ordering::Relaxed)
}

impl Door {
    async fn respond(
        &self,
        request: &Request<Incoming>,
        brought: &AtomicBool,
    ) -> Response<Full<bytes::Bytes>> {
        if request.uri().path() != PATH || request.method() != Method::GET {
            return page(StatusCode::NOT_FOUND, "There is nothing here", "Go back to the terminal.");
        }
        let answer = Answer::of_query(request.uri().query().unwrap_or_default());
        let Some(answer) = answer.filter(|answer| answer.belongs_to(&self.state)) else {
            tracing::warn!(
                "an answer that does not belong to this sign-in was turned away (state); still waiting"
            );
            return page(
                StatusCode::BAD_REQUEST,
                "You are not signed in",
                "This answer does not belong to the sign-in that the terminal began (state). Open the page that it shows.",
            );
        };
        let (reply, outcome) = oneshot::channel();
        if self.arrived.try_send((answer, reply)).is_err() {
            return page(StatusCode::CONFLICT, "This was answered already", "You may close this page.");
        }
        brought.store(true, Ordering::Relaxed);
        match outcome.await {
            Ok(Ok(())) => page(
                StatusCode::OK,
                "You are signed in at the identity provider",
                "You may close this page. The terminal says whether the console lets you in.",
            ),
            Ok(Err(why)) => page(StatusCode::FORBIDDEN, "You are not signed in", &why),
            Err(_gone) => page(StatusCode::GONE, "You are not signed in", "The terminal gave up waiting."),
        }
    }
}

fn page(status: StatusCode, title: &str, text: &str) -> Response<Full<bytes::Bytes>> {
    let (title, text) = (escaped(title), escaped(text));
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

fn escaped(text: &str) -> String {
    visible(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Shows the page in the person's browser if there is one; the address is on the terminal anyway.
fn open(page: &str) {
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

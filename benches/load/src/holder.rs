//! Clients whose requests wait for people: each on a connection of its own, on a thread of their own, so that reading
//! their responses does not delay the traffic that is measured.

use memchr::memmem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Connections that are opened at once.
const AT_ONCE: usize = 64;

/// What has happened so far.
#[derive(Default)]
pub struct Counts {
    pub sent: AtomicUsize,
    pub completed: AtomicUsize,
    /// Signs of life.
    pub continues: AtomicUsize,
}

pub struct Holder {
    pub counts: Arc<Counts>,
    thread: JoinHandle<Result<Instant, String>>,
}

impl Holder {
    /// Sends each request; every response must hold `expected`.
    pub fn start(address: SocketAddr, requests: Vec<Vec<u8>>, expected: &'static str) -> Self {
        let counts = Arc::new(Counts::default());
        let shared = counts.clone();
        let thread = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| format!("cannot start a runtime: {error}"))?
                .block_on(hold_all(address, requests, expected, &shared))
        });
        Self { counts, thread }
    }

    /// True when all have a response, or one failed.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// When the last response came.
    pub fn finish(self) -> Result<Instant, String> {
        self.thread.join().map_err(|_panic| "the thread of the held requests panicked".to_owned())?
    }
}

async fn hold_all(
    address: SocketAddr,
    requests: Vec<Vec<u8>>,
    expected: &'static str,
    counts: &Arc<Counts>,
) -> Result<Instant, String> {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for request in requests {
        let (turns, counts) = (turns.clone(), counts.clone());
        tasks.spawn(async move {
            let stream = {
                let _turn = turns.acquire().await.map_err(|error| error.to_string())?;
                let mut stream = TcpStream::connect(address)
                    .await
                    .map_err(|error| format!("cannot connect to {address}: {error}"))?;
                stream.write_all(&request).await.map_err(|error| format!("cannot send: {error}"))?;
                counts.sent.fetch_add(1, Ordering::Relaxed);
                stream
            };
            drop(request);
            hold(stream, expected, &counts).await
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|error| error.to_string())??;
    }
    Ok(Instant::now())
}

/// Reads interim responses, then the final one.
async fn hold(mut stream: TcpStream, expected: &str, counts: &Counts) -> Result<(), String> {
    let mut arrived = Vec::new();
    loop {
        if stream.read_buf(&mut arrived).await.map_err(|error| format!("the connection broke: {error}"))? == 0
        {
            return Err("the gateway closed the connection of a held request".to_owned());
        }
        while arrived.starts_with(CONTINUE) {
            arrived.drain(..CONTINUE.len());
            counts.continues.fetch_add(1, Ordering::Relaxed);
        }
        // No part of a response is longer than what one of these refusals takes.
        if memmem::find(&arrived, expected.as_bytes()).is_some() {
            counts.completed.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        if arrived.len() > 16 << 10 || is_whole(&arrived) {
            return Err(format!("expected `{expected}`, got:\n{}", String::from_utf8_lossy(&arrived)));
        }
    }
}

/// Whether a response with its JSON body has arrived.
fn is_whole(response: &[u8]) -> bool {
    memmem::find(response, b"\r\n\r\n").is_some() && response.ends_with(b"}")
}

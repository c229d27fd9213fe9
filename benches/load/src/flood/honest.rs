//! The honest callers: each signs GetItem after GetItem over one connection, and remembers how each ended.
//!
//! They run on a thread of their own, so that the attackers of this program do not delay what is measured more than they must.

use crate::client::content_length;
use crate::origin;
use crate::requests::{Corpus, Credential};
use memchr::memmem;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The time between a response and the next request of the same caller.
const PAUSE: Duration = Duration::from_millis(4);
/// The time after a failed request: SDKs back off, too.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(50);
/// A response that takes longer is a failure.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// With the item.
    Served,
    /// With another response of the gateway: its status and body.
    Refused(String),
    /// Without a response.
    Broken(String),
}

#[derive(Debug, Clone)]
pub struct Request {
    pub ended: Instant,
    pub micros: f64,
    pub ending: Ending,
}

pub struct HonestCallers {
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), String>>,
}

impl HonestCallers {
    /// `series` begins the names of the orders that they read.
    pub fn start(address: SocketAddr, credentials: Vec<Credential>, series: &str) -> Self {
        let (requests, stop) = (Arc::<Mutex<Vec<Request>>>::default(), Arc::<AtomicBool>::default());
        let (shared, stopped, series) = (requests.clone(), stop.clone(), series.to_owned());
        let thread = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| format!("cannot start a runtime: {error}"))?
                .block_on(async {
                    let mut callers = JoinSet::new();
                    for (number, credential) in credentials.into_iter().enumerate() {
                        let orders = format!("{}{series}-{number}", origin::COUNTED_ORDER);
                        callers.spawn(call_on(address, credential, orders, shared.clone(), stopped.clone()));
                    }
                    while let Some(ended) = callers.join_next().await {
                        ended.map_err(|error| error.to_string())??;
                    }
                    Ok(())
                })
        });
        Self { requests, stop, thread }
    }

    /// What ended in this time.
    pub fn between(&self, from: Instant, to: Instant) -> Vec<Request> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.iter().filter(|request| (from..to).contains(&request.ended)).cloned().collect()
    }

    /// Stops when every request has ended, and returns them all.
    pub fn finish(self) -> Result<Vec<Request>, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_panic| "the thread of the honest callers panicked".to_owned())??;
        Ok(std::mem::take(&mut *self.requests.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

async fn call_on(
    address: SocketAddr,
    credential: Credential,
    orders: String,
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
) -> Result<(), String> {
    let mut corpus = Corpus::new(&credential, address.to_string());
    let mut connection = None;
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let request = corpus.sign_get(&format!("{orders}-{number}"))?;
        let sent = Instant::now();
        let response = timeout(RESPONSE_TIMEOUT, exchange(address, &mut connection, &request)).await;
        let ending = match response {
            Ok(Ok(ending)) => ending,
            Ok(Err(error)) => Ending::Broken(error),
            Err(_elapsed) => Ending::Broken(format!("no response within {} s", RESPONSE_TIMEOUT.as_secs())),
        };
        let ended = Instant::now();
        let micros = (ended - sent).as_secs_f64() * 1e6;
        if matches!(ending, Ending::Broken(_)) {
            connection = None;
        }
        let pause = if ending == Ending::Served { PAUSE } else { PAUSE_AFTER_FAILURE };
        requests.lock().unwrap_or_else(PoisonError::into_inner).push(Request { ended, micros, ending });
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

async fn exchange(
    address: SocketAddr,
    connection: &mut Option<TcpStream>,
    request: &[u8],
) -> Result<Ending, String> {
    let mut stream = match connection.take() {
        Some(stream) => stream,
        None => connect(address).await?,
    };
    stream.write_all(request).await.map_err(|error| format!("cannot send: {error}"))?;
    let response = read_response(&mut stream).await?;
    if !response.closes {
        *connection = Some(stream);
    }
    if response.status == "200" && response.body.len() == origin::ITEM {
        return Ok(Ending::Served);
    }
    Ok(Ending::Refused(format!("{} {}", response.status, String::from_utf8_lossy(&response.body))))
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let stream =
        TcpStream::connect(address).await.map_err(|error| format!("cannot connect to {address}: {error}"))?;
    stream.set_nodelay(true).map_err(|error| format!("cannot set TCP_NODELAY: {error}"))?;
    Ok(stream)
}

pub struct Response {
    pub status: String,
    pub body: Vec<u8>,
    /// Whether the connection takes no other request.
    pub closes: bool,
}

/// Reads a response whose length its head says.
pub async fn read_response(stream: &mut TcpStream) -> Result<Response, String> {
    let mut received = Vec::with_capacity(2 << 10);
    let mut whole = None;
    loop {
        if let Some((body_at, length)) = whole
            && received.len() >= body_at + length
        {
            let head = received.get(..body_at).unwrap_or_default();
            let status = String::from_utf8_lossy(head.get(9..12).unwrap_or_default()).into_owned();
            let closes = memmem::find(&head.to_ascii_lowercase(), b"connection: close").is_some();
            let body = received.get(body_at..body_at + length).unwrap_or_default().to_vec();
            return Ok(Response { status, body, closes });
        }
        let read = stream.read_buf(&mut received).await;
        if read.map_err(|error| format!("the connection broke: {error}"))? == 0 {
            return Err("the connection was closed before the end of a response".to_owned());
        }
        if whole.is_none()
            && let Some(end) = memmem::find(&received, b"\r\n\r\n")
        {
            let head = received.get(..end + 2).unwrap_or_default();
            let length = content_length(head)
                .ok_or_else(|| format!("a response without a length: {}", String::from_utf8_lossy(head)))?;
            whole = Some((end + 4, length));
        }
    }
}

//! The attackers: a crowd of clients that all do the same, on a thread of their own.

use super::honest::read_response;
use crate::requests::Corpus;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Connections that are opened at once.
const AT_ONCE: usize = 64;
/// The time before a client whose connection was closed opens another.
const PAUSE: Duration = Duration::from_secs(5);

/// What a client sends at once, and the time until it sends the next piece of a message that is larger: together a crowd sends about
/// what a gigabit link carries. Over loopback it would be the copying that is measured.
const PIECE_BYTES: usize = 512 << 10;
const PIECE_INTERVAL: Duration = Duration::from_millis(150);

/// What each client sends over a connection of its own.
#[derive(Clone)]
pub enum Message {
    /// These bytes.
    Fixed(Arc<[u8]>),
    /// What this signs: no signature is good twice.
    Signed(Arc<Mutex<Corpus>>, SignRequest),
}

pub type SignRequest = fn(&mut Corpus) -> Result<Vec<u8>, String>;

/// What a client does when it has sent its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Waits until the gateway responds or closes the connection.
    Waits,
    /// Reads nothing of the response.
    NeverReads,
    /// Reads the response and sends the next message, at most one in this time.
    Repeats(Duration),
}

#[derive(Clone)]
pub struct Crowd {
    pub clients: usize,
    /// The gateway as they reach it.
    pub gateway: SocketAddr,
    pub message: Message,
    pub behaviour: Behaviour,
}

#[derive(Default)]
pub struct Counts {
    pub opened: AtomicU64,
    /// Connections that the gateway ended, and the longest time for which it kept one, or keeps one that is still open.
    pub ended: AtomicU64,
    longest_ms: AtomicU64,
    pub responses: AtomicU64,
    /// The first response.
    pub first_response: Mutex<Option<String>>,
}

impl Counts {
    pub fn longest_seconds(&self) -> f64 {
        self.longest_ms.load(Ordering::Relaxed) as f64 / 1e3
    }

    fn add_response(&self, text: impl FnOnce() -> String) {
        self.responses.fetch_add(1, Ordering::Relaxed);
        let mut first = self.first_response.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_none() {
            *first = Some(text());
        }
    }
}

impl Crowd {
    pub fn start(self) -> RunningCrowd {
        RunningCrowd::start(self)
    }
}

pub struct RunningCrowd {
    pub counts: Arc<Counts>,
    stop: watch::Sender<bool>,
    thread: JoinHandle<Result<(), String>>,
}

impl RunningCrowd {
    fn start(crowd: Crowd) -> Self {
        let counts = Arc::<Counts>::default();
        let (stop, stopped) = watch::channel(false);
        let shared = counts.clone();
        let thread = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| format!("cannot start a runtime: {error}"))?
                .block_on(attack(crowd, shared, stopped))
        });
        Self { counts, stop, thread }
    }

    /// Closes every connection.
    pub fn finish(self) -> Result<Arc<Counts>, String> {
        self.stop.send_replace(true);
        self.thread.join().map_err(|_panic| "the thread of the attackers panicked".to_owned())??;
        Ok(self.counts)
    }
}

async fn attack(crowd: Crowd, counts: Arc<Counts>, stop: watch::Receiver<bool>) -> Result<(), String> {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut clients = JoinSet::new();
    for _ in 0..crowd.clients {
        let client = Client { crowd: crowd.clone(), counts: counts.clone(), turns: turns.clone() };
        let mut stop = stop.clone();
        clients.spawn(async move {
            tokio::select! {
                failed = client.run() => failed,
                _stopped = stop.wait_for(|stop| *stop) => Ok(()),
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.map_err(|error| error.to_string())??;
    }
    Ok(())
}

struct Client {
    crowd: Crowd,
    counts: Arc<Counts>,
    turns: Arc<Semaphore>,
}

/// A connection that is counted when the gateway ends it, or when the attack is over.
struct Life<'a>(&'a Counts, Instant);

impl Drop for Life<'_> {
    fn drop(&mut self) {
        self.0.longest_ms.fetch_max(self.1.elapsed().as_millis() as u64, Ordering::Relaxed);
    }
}

impl Client {
    /// Opens a connection, misuses it until the gateway ends it, and begins again. It returns only with an error of this program.
    async fn run(&self) -> Result<(), String> {
        loop {
            let connected = {
                let _turn = self.turns.acquire().await.map_err(|error| error.to_string())?;
                TcpStream::connect(self.crowd.gateway).await
            };
            // The gateway may close it, or leave it in a backlog that is full: then the client tries again, as attackers do.
            if let Ok(mut stream) = connected {
                self.counts.opened.fetch_add(1, Ordering::Relaxed);
                let life = Life(&self.counts, Instant::now());
                self.misuse(&mut stream).await?;
                self.counts.ended.fetch_add(1, Ordering::Relaxed);
                drop(life);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn next_message(&self) -> Result<Arc<[u8]>, String> {
        match &self.crowd.message {
            Message::Fixed(bytes) => Ok(bytes.clone()),
            Message::Signed(corpus, sign) => {
                sign(&mut corpus.lock().unwrap_or_else(PoisonError::into_inner)).map(Into::into)
            }
        }
    }

    /// Returns when the gateway has ended the connection.
    async fn misuse(&self, stream: &mut TcpStream) -> Result<(), String> {
        loop {
            let message = self.next_message()?;
            let begun = Instant::now();
            let sent = send(stream, &message).await;
            drop(message);
            if sent.is_err() {
                return Ok(());
            }
            match self.crowd.behaviour {
                Behaviour::NeverReads => return std::future::pending().await,
                Behaviour::Waits => {
                    let mut received = Vec::new();
                    // The end of the stream and an error are the same here: the connection is over.
                    if matches!(stream.read_buf(&mut received).await, Ok(count) if count > 0) {
                        self.counts.add_response(|| String::from_utf8_lossy(&received).into_owned());
                    }
                    return Ok(());
                }
                Behaviour::Repeats(interval) => match read_response(stream).await {
                    Ok(response) => {
                        self.counts.add_response(|| {
                            format!("{} {}", response.status, String::from_utf8_lossy(&response.body))
                        });
                        if response.closes {
                            return Ok(());
                        }
                        tokio::time::sleep(interval.saturating_sub(begun.elapsed())).await;
                    }
                    Err(_closed) => return Ok(()),
                },
            }
        }
    }
}

async fn send(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    let mut pieces = message.chunks(PIECE_BYTES);
    if let Some(first) = pieces.next() {
        stream.write_all(first).await?;
    }
    for piece in pieces {
        tokio::time::sleep(PIECE_INTERVAL).await;
        stream.write_all(piece).await?;
    }
    Ok(())
}

//! The load generator: closed loop, one request in flight on each keep-alive connection.
//!
//! It writes ready-made bytes and reads only what it must of a response (status, length, bytes), so that it costs much
//! less than anything it measures. Every response must be 200 and of the expected length, or the run fails.

use memchr::memmem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// No response of any path takes this long.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Default)]
pub struct Slice {
    pub elapsed: Duration,
    /// Microseconds, sorted.
    latencies: Vec<f64>,
}

impl Slice {
    /// Two slices as one, as if the second had begun when the first ended.
    pub fn and(mut self, other: Self) -> Self {
        self.elapsed += other.elapsed;
        self.latencies.extend(other.latencies);
        self.latencies.sort_by(f64::total_cmp);
        self
    }

    /// Requests a second.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    pub fn percentile(&self, percent: usize) -> f64 {
        self.permille(10 * percent)
    }

    pub fn permille(&self, permille: usize) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get(last * permille / 1000).copied().unwrap_or_default()
    }
}

/// Sends every request once over `connections` connections.
pub async fn send_all(
    address: SocketAddr,
    connections: usize,
    requests: &[Vec<u8>],
    response_bytes: usize,
) -> Result<Slice, String> {
    // The tasks outlive this borrow in the eyes of the compiler: one clone before the clock starts.
    let requests: Arc<[Vec<u8>]> = requests.into();
    let next = Arc::new(AtomicUsize::new(0));
    let mut streams = Vec::with_capacity(connections);
    for _ in 0..connections {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| format!("cannot connect to {address}: {error}"))?;
        stream.set_nodelay(true).map_err(|error| format!("cannot set TCP_NODELAY: {error}"))?;
        streams.push(stream);
    }
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for mut stream in streams {
        let (requests, next) = (requests.clone(), next.clone());
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            let mut buffer = vec![0; 256 << 10];
            while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                let sent = Instant::now();
                timeout(RESPONSE_TIMEOUT, exchange(&mut stream, request, &mut buffer, response_bytes))
                    .await
                    .map_err(|_elapsed| "no response within 20 seconds".to_owned())??;
                latencies.push(sent.elapsed().as_secs_f64() * 1e6);
            }
            Ok::<_, String>(latencies)
        });
    }
    let mut latencies = Vec::with_capacity(requests.len());
    while let Some(ended) = tasks.join_next().await {
        latencies.extend(ended.map_err(|error| error.to_string())??);
    }
    let elapsed = began.elapsed();
    latencies.sort_by(f64::total_cmp);
    Ok(Slice { elapsed, latencies })
}

async fn exchange(
    stream: &mut TcpStream,
    request: &[u8],
    buffer: &mut [u8],
    expected: usize,
) -> Result<(), String> {
    let broken = |error: std::io::Error| format!("the connection broke: {error}");
    stream.write_all(request).await.map_err(broken)?;
    let mut filled = 0;
    let body_at = loop {
        let free = buffer
            .get_mut(filled..)
            .filter(|free| !free.is_empty())
            .ok_or("a response's head is too large")?;
        let read = stream.read(free).await.map_err(broken)?;
        if read == 0 {
            return Err("the connection was closed before a response".to_owned());
        }
        filled += read;
        if let Some(end) = memmem::find(seen(buffer, filled), b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = seen(buffer, body_at);
    let length = content_length(head);
    if !head.starts_with(b"HTTP/1.1 200 ") || length != Some(expected) {
        let text = String::from_utf8_lossy(seen(buffer, filled.min(1500))).into_owned();
        return Err(format!("expected 200 with {expected} bytes, got:\n{text}"));
    }
    let mut left = (body_at + expected).checked_sub(filled).ok_or("a response is longer than it says")?;
    while left > 0 {
        let most = left.min(buffer.len());
        let read = stream.read(buffer.get_mut(..most).unwrap_or_default()).await.map_err(broken)?;
        if read == 0 {
            return Err("the connection was closed inside a response".to_owned());
        }
        left -= read;
    }
    Ok(())
}

fn seen(buffer: &[u8], filled: usize) -> &[u8] {
    buffer.get(..filled).unwrap_or_default()
}

pub fn content_length(head: &[u8]) -> Option<usize> {
    head.split(|&byte| byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(15)?;
        if !name.eq_ignore_ascii_case(b"content-length:") {
            return None;
        }
        std::str::from_utf8(value).ok()?.trim().parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_length_of_an_answer_whatever_its_case() {
        assert_eq!(
            content_length(b"HTTP/1.1 200 OK\r\nserver: x\r\nContent-Length: 1024\r\n\r\n"),
            Some(1024)
        );
        assert_eq!(content_length(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"), None);
    }

    #[test]
    fn a_percentile_is_a_measured_value() {
        let slice = Slice { elapsed: Duration::ZERO, latencies: (0..=100).map(f64::from).collect() };
        assert!((slice.percentile(50) - 50.0).abs() < f64::EPSILON);
        assert!((slice.percentile(99) - 99.0).abs() < f64::EPSILON);
    }
}

//! The one body type of requests and responses in the gateway, and how a body is read whole within a limit.

use crate::memory_budget::MemoryReservation;
use bytes::{Bytes, BytesMut};
use durward_core::{Refusal, RefusalReason, limits};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub type BoxBody = UnsyncBoxBody<Bytes, BoxError>;

pub fn full_body(bytes: impl Into<Bytes>) -> BoxBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Reads a body whole, and refuses one that is longer than `limit` bytes. `what` names it in the refusal.
pub async fn read_limited_body<B>(body: B, limit: usize, what: &str) -> Result<Bytes, Refusal>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    collect_frames(body, limit, what, None, |_bytes| Ok(())).await
}

/// Reads the body of a request whose caller is known. It must arrive at a minimal rate, and counts against the caller's memory.
pub(crate) async fn read_request_body<B>(body: B, memory: &mut MemoryReservation) -> Result<Bytes, Refusal>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let pace = BodyPace::new(limits::MIN_REQUEST_BODY_RATE);
    let bytes = collect_frames(body, limits::MAX_BODY_BYTES, REQUEST_BODY, Some(pace), |bytes| {
        reserve_body_memory(memory, bytes)
    });
    bytes.await
}

/// Reads the body of a client that has not proved who it is: all of it must arrive within the time for a request head.
pub(crate) async fn read_anonymous_body<B>(body: B, limit: usize) -> Result<Bytes, Refusal>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let pace = BodyPace::new(usize::MAX);
    collect_frames(body, limit, REQUEST_BODY, Some(pace), |_bytes| Ok(())).await
}

/// Reserves memory for a body of so many bytes and for the values that will be decoded from it.
pub(crate) fn reserve_body_memory(memory: &mut MemoryReservation, bytes: usize) -> Result<(), Refusal> {
    if memory.resize(limits::MEMORY_PER_BODY_BYTE * bytes / 1024) {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalReason::Busy,
        "the requests that are being read use as much memory as the gateway gives them; send this one again later",
    ))
}

const REQUEST_BODY: &str = "request body";

/// The time by which the next bytes of a body must be there.
struct BodyPace {
    begun: Instant,
    timeout: Duration,
    bytes_per_second: usize,
}

impl BodyPace {
    fn new(bytes_per_second: usize) -> Self {
        Self { begun: Instant::now(), timeout: limits::REQUEST_BODY_TIMEOUT, bytes_per_second }
    }

    fn deadline(&self, received: usize) -> Instant {
        let earned = Duration::from_secs((received / self.bytes_per_second) as u64);
        self.begun + self.timeout + earned
    }
}

async fn collect_frames<B>(
    mut body: B,
    limit: usize,
    what: &str,
    pace: Option<BodyPace>,
    mut reserve: impl FnMut(usize) -> Result<(), Refusal>,
) -> Result<Bytes, Refusal>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    // It grows with what arrives. A `Content-Length` that promises more reserves nothing.
    let mut bytes = BytesMut::new();
    loop {
        let frame = match &pace {
            None => body.frame().await,
            Some(pace) => timeout_at(pace.deadline(bytes.len()), body.frame()).await.map_err(|_elapsed| {
                Refusal::new(RefusalReason::Malformed, format!("the {what} did not arrive in time"))
            })?,
        };
        let Some(frame) = frame else { return Ok(bytes.freeze()) };
        let frame = frame.map_err(|error| {
            Refusal::new(RefusalReason::Malformed, format!("the {what} is truncated")).with_detail(error)
        })?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > limit {
                return Err(Refusal::new(
                    RefusalReason::TooLarge,
                    format!(
                        "the {what} is larger than {limit} bytes, the most that this gateway reads to decode or mask it"
                    ),
                ));
            }
            reserve(bytes.len() + data.len())?;
            bytes.extend_from_slice(&data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_budget::MemoryBudget;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use std::convert::Infallible;

    /// A body that sends `chunk` every `pause`, for ever.
    fn slow_body(
        chunk: &'static [u8],
        pause: Duration,
    ) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Unpin {
        let frames = futures_util::stream::unfold((), move |()| async move {
            tokio::time::sleep(pause).await;
            Some((Ok(Frame::data(Bytes::from_static(chunk))), ()))
        });
        StreamBody::new(Box::pin(frames))
    }

    fn reservation(kib: usize) -> MemoryReservation {
        MemoryBudget::new(kib, kib).reservation("corp/agent".to_owned())
    }

    #[tokio::test]
    async fn a_body_that_trickles_is_refused_and_one_that_earns_its_time_is_read_on() {
        let timeout = Duration::from_millis(100);
        for (bytes_per_second, expected) in [(usize::MAX, "did not arrive in time"), (1, "is larger than")] {
            let pace = BodyPace { timeout, ..BodyPace::new(bytes_per_second) };
            let body = slow_body(&[0; 100], Duration::from_millis(5));
            let refused =
                collect_frames(body, 10_000, "body", Some(pace), |_bytes| Ok(())).await.unwrap_err();
            assert!(refused.message.contains(expected), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_body_counts_against_the_memory_of_its_caller() {
        let refused = read_request_body(slow_body(&[0; 4096], Duration::ZERO), &mut reservation(64)).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.reason, RefusalReason::Busy, "{refused}");
    }
}

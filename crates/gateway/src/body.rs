//! The one body type of requests and responses in the gateway, and how a body is read whole within a limit.

use crate::memory_budget::MemoryReservation;
use bytes::{Bytes, BytesMut};
use durward_core::{Refusal, RefusalReason, limits};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep, timeout};

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
    let body = body.map_err(|error| truncated_body(what, error));
    collect_frames(body, limit, what, |_bytes| Ok(())).await
}

/// Reads the body of a request whose caller is known. It must keep arriving, and counts against the caller's memory.
pub(crate) async fn read_request_body<B>(body: B, memory: &mut MemoryReservation) -> Result<Bytes, Refusal>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let reserve = |bytes| reserve_body_memory(memory, bytes);
    collect_frames(PacedBody::new(body), limits::MAX_BODY_BYTES, REQUEST_BODY, reserve).await
}

/// Reads the body of a client that has not proved who it is: all of it must arrive within the time for a request body.
pub(crate) async fn read_anonymous_body<B>(body: B, limit: usize) -> Result<Bytes, Refusal>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let whole = read_limited_body(body, limit, REQUEST_BODY);
    timeout(limits::REQUEST_BODY_TIMEOUT, whole).await.unwrap_or_else(|_elapsed| Err(late_body()))
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

fn truncated_body(what: &str, error: impl std::fmt::Display) -> Refusal {
    Refusal::new(RefusalReason::Malformed, format!("the {what} is truncated or badly framed"))
        .with_detail(error)
}

fn late_body() -> Refusal {
    Refusal::new(RefusalReason::Malformed, format!("the {REQUEST_BODY} did not arrive in time"))
}

/// A request body that must keep arriving. It may be waited for as long as [`limits::REQUEST_BODY_TIMEOUT`], and bytes that arrive
/// give that time back, but never more: a body that sends much and then stalls would otherwise hold its memory for hours. The time
/// in which nobody reads does not count, because an upstream may be slow.
pub(crate) struct PacedBody<B> {
    body: B,
    /// The time for which it may still be waited for.
    time_left: Duration,
    wait: Option<BodyWait>,
}

/// A wait for the next bytes of a body.
struct BodyWait {
    begun: Instant,
    end: Pin<Box<Sleep>>,
}

impl<B> PacedBody<B> {
    pub fn new(body: B) -> Self {
        Self { body, time_left: limits::REQUEST_BODY_TIMEOUT, wait: None }
    }
}

impl<B> http_body::Body for PacedBody<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
            let time_left = this.time_left;
            let wait = this
                .wait
                .get_or_insert_with(|| BodyWait { begun: Instant::now(), end: Box::pin(sleep(time_left)) });
            ready!(wait.end.as_mut().poll(context));
            return Poll::Ready(Some(Err(late_body())));
        };
        let Some(frame) = frame else { return Poll::Ready(None) };
        let frame = frame.map_err(|error| truncated_body(REQUEST_BODY, error))?;
        if let Some(wait) = this.wait.take() {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            let earned = Duration::from_millis((bytes * 1000 / limits::MIN_REQUEST_BODY_RATE) as u64);
            let left = this.time_left.saturating_sub(wait.begun.elapsed()) + earned;
            this.time_left = left.min(limits::REQUEST_BODY_TIMEOUT);
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

async fn collect_frames<B>(
    mut body: B,
    limit: usize,
    what: &str,
    mut reserve: impl FnMut(usize) -> Result<(), Refusal>,
) -> Result<Bytes, Refusal>
where
    B: http_body::Body<Data = Bytes, Error = Refusal> + Unpin,
{
    // It grows with what arrives. A `Content-Length` that promises more reserves nothing.
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
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
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_budget::MemoryBudget;
    use futures_util::{StreamExt as _, TryStreamExt as _};
    use http_body_util::StreamBody;
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

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_is_refused_and_one_that_earns_its_time_is_read_on() {
        const CHUNK: &[u8] = &[0; 10 * limits::MIN_REQUEST_BODY_RATE];
        let pause = Duration::from_secs(10);
        for (chunk, expected) in [(&CHUNK[..100], "did not arrive in time"), (CHUNK, "is larger than")] {
            let body = PacedBody::new(slow_body(chunk, pause));
            let refused = collect_frames(body, 100 * CHUNK.len(), "body", |_bytes| Ok(())).await.unwrap_err();
            assert!(refused.message.contains(expected), "{refused}");
        }
        let refused = read_anonymous_body(slow_body(CHUNK, pause), usize::MAX).await.unwrap_err();
        assert!(refused.message.contains("did not arrive in time"), "{refused}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_arrived_before_a_body_stalls_earns_no_more_than_the_time_for_a_body() {
        const SENT: &[u8] = &[0; 1 << 20];
        let sent = slow_body(SENT, Duration::from_secs(1)).into_data_stream().take(1);
        let stalls = sent.map_ok(Frame::data).chain(futures_util::stream::pending());
        let stalls = StreamBody::new(stalls);
        let begun = Instant::now();
        let refused = read_request_body(stalls, &mut reservation(16 << 10)).await.unwrap_err();
        assert!(refused.message.contains("did not arrive in time"), "{refused}");
        assert!(begun.elapsed() < 2 * limits::REQUEST_BODY_TIMEOUT, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_reads_a_body_does_not_count() {
        let mut body = PacedBody::new(slow_body(&[0; 100], Duration::from_secs(1)));
        for _ in 0..5 {
            body.frame().await.unwrap().unwrap();
            sleep(2 * limits::REQUEST_BODY_TIMEOUT).await;
        }
    }

    #[tokio::test]
    async fn a_body_counts_against_the_memory_of_its_caller() {
        let refused = read_request_body(slow_body(&[0; 4096], Duration::ZERO), &mut reservation(64)).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.reason, RefusalReason::Busy, "{refused}");
    }
}

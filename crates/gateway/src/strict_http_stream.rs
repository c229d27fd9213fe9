//! A client connection that is read through [`crate::http1_framing`]: the HTTP parser above it gets only whole heads and
//! well-framed bodies.
//!
//! A refused head is replaced by [`PLACEHOLDER_REQUEST`], one plain request, so that the response to it comes in order after the
//! earlier ones; then nothing more is read. A refused body ends in an error. If the client is still sending when the connection
//! is closed, it is closed in two steps, so that the client gets its response.

use crate::http1_framing::{BodyFramingState, FramingViolation, HeadEndFinder, parse_head};
use crate::keep_alive::{CONTINUE_RESPONSE, InterimResponses};
use bytes::{Buf, BytesMut};
use durward_core::limits;
use std::future::Future as _;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

const PLACEHOLDER_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// The violation that a connection was refused for, and the position of the refused request on it.
#[derive(Debug, Clone, Default)]
pub struct FramingRefusal(Arc<RefusalState>);

#[derive(Debug, Default)]
struct RefusalState {
    /// The number of well-formed requests before the refused one, and the reason of the refusal.
    refused_after: OnceLock<(u64, FramingViolation)>,
    requests_served: AtomicU64,
}

impl FramingRefusal {
    /// Called once for each request, in order: the violation, if this one is the placeholder of a refused request.
    pub fn next_violation(&self) -> Option<FramingViolation> {
        let number = self.0.requests_served.fetch_add(1, Ordering::Relaxed);
        self.0
            .refused_after
            .get()
            .filter(|(before, _violation)| *before == number)
            .map(|(_before, violation)| *violation)
    }
}

enum ReadState {
    Head(HeadEndFinder),
    Body(BodyFramingState),
    Refused,
}

pub struct StrictHttpStream<S> {
    stream: S,
    read_state: ReadState,
    /// Bytes of `received` that were checked and may be passed on.
    checked_bytes: usize,
    received: BytesMut,
    accepted_heads: u64,
    framing_refusal: FramingRefusal,
    interim_responses: InterimResponses,
    /// The rest of an interim response that is being written.
    unwritten_interim: &'static [u8],
    close_state: CloseState,
}

/// Closing a socket with unread bytes makes the operating system send a reset, which can destroy the response before the client
/// has read it. So the sending side is closed first, and what still arrives is read and dropped, up to a number of bytes and a
/// time (RFC 9112 section 9.6).
enum CloseState {
    Open,
    Lingering { deadline: Pin<Box<Sleep>>, bytes_left: usize },
    Closed,
}

impl<S> StrictHttpStream<S> {
    pub fn new(stream: S, framing_refusal: FramingRefusal, interim_responses: InterimResponses) -> Self {
        let read_state = ReadState::Head(HeadEndFinder::default());
        Self {
            stream,
            read_state,
            checked_bytes: 0,
            received: BytesMut::new(),
            accepted_heads: 0,
            framing_refusal,
            interim_responses,
            unwritten_interim: &[],
            close_state: CloseState::Open,
        }
    }

    /// If `new` starts with a whole valid head, passes that and the part of its body in `new` on without a copy. Returns how many
    /// bytes that is. Nothing may be waiting in `received`.
    fn pass_whole_head(&mut self, new: &[u8]) -> usize {
        let Ok(Some(length)) = HeadEndFinder::default().find(new) else { return 0 };
        let (head, rest) = new.split_at(length);
        if length > limits::MAX_HEAD_BYTES {
            return 0;
        }
        let Ok(body) = parse_head(head) else { return 0 };
        self.accepted_heads += 1;
        let mut state = BodyFramingState::from_length(body);
        let before = state.clone();
        // A framing violation in the body is found again by the check of `received`, which can report it.
        let taken = state.consume(rest).unwrap_or_else(|_violation| {
            state = before;
            0
        });
        self.read_state = ReadState::Body(state);
        length + taken
    }

    fn refuse_head(&mut self, violation: FramingViolation) {
        self.received.clear();
        self.received.extend_from_slice(PLACEHOLDER_REQUEST);
        self.checked_bytes = PLACEHOLDER_REQUEST.len();
        self.read_state = ReadState::Refused;
        // Only the first violation counts: nothing is read after it.
        let _first = self.framing_refusal.0.refused_after.set((self.accepted_heads, violation));
    }

    /// Checks the received bytes; an error ends the body.
    fn check_received(&mut self) -> io::Result<()> {
        match &mut self.read_state {
            ReadState::Head(end) => match end.find(&self.received) {
                Ok(head_length) if head_length.unwrap_or(self.received.len()) > limits::MAX_HEAD_BYTES => {
                    self.refuse_head(FramingViolation {
                        status: 431,
                        reason: "the request head is too large",
                    });
                }
                Ok(Some(length)) => match parse_head(self.received.get(..length).unwrap_or_default()) {
                    Ok(body) => {
                        self.accepted_heads += 1;
                        self.checked_bytes = length;
                        self.read_state = ReadState::Body(BodyFramingState::from_length(body));
                    }
                    Err(violation) => self.refuse_head(violation),
                },
                Ok(None) => {}
                Err(violation) => self.refuse_head(violation),
            },
            ReadState::Body(body) => {
                self.checked_bytes = body.consume(&self.received).map_err(violation_error)?;
            }
            ReadState::Refused => {}
        }
        Ok(())
    }

    /// Passes checked bytes on.
    fn copy_checked(&mut self, into: &mut ReadBuf<'_>) {
        let count = self.checked_bytes.min(into.remaining());
        into.put_slice(self.received.get(..count).unwrap_or_default());
        self.received.advance(count);
        self.checked_bytes -= count;
        if self.received.is_empty() {
            // The buffer would be kept for as long as the request is held, which may be an hour.
            self.received = BytesMut::new();
        }
        if self.checked_bytes == 0 && matches!(self.read_state, ReadState::Body(BodyFramingState::Done)) {
            self.read_state = ReadState::Head(HeadEndFinder::default());
        }
    }
}

fn violation_error(violation: FramingViolation) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, violation.reason)
}

impl<S: AsyncRead + Unpin> AsyncRead for StrictHttpStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.checked_bytes == 0 && !this.received.is_empty() {
                this.check_received()?;
            }
            if this.checked_bytes > 0 {
                this.copy_checked(into);
                return Poll::Ready(Ok(()));
            }
            match &mut this.read_state {
                // Nothing more is read from this client; the response to the placeholder closes the connection.
                ReadState::Refused => return Poll::Pending,
                ReadState::Body(body) if *body != BodyFramingState::Done => {
                    // Read straight into the parser's buffer, and take back what belongs to the next message.
                    let before = into.filled().len();
                    ready!(Pin::new(&mut this.stream).poll_read(context, into))?;
                    let new = into.filled().get(before..).unwrap_or_default();
                    let taken = body.consume(new).map_err(violation_error)?;
                    this.received.extend_from_slice(new.get(taken..).unwrap_or_default());
                    into.set_filled(before + taken);
                    if *body == BodyFramingState::Done {
                        this.read_state = ReadState::Head(HeadEndFinder::default());
                    }
                    return Poll::Ready(Ok(()));
                }
                ReadState::Body(_done) => this.read_state = ReadState::Head(HeadEndFinder::default()),
                ReadState::Head(_) => {
                    // Read into the parser's buffer, which keeps nothing of it until the head is whole.
                    let before = into.filled().len();
                    ready!(Pin::new(&mut this.stream).poll_read(context, into))?;
                    let new = into.filled().get(before..).unwrap_or_default();
                    if new.is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    let taken = if this.received.is_empty() { this.pass_whole_head(new) } else { 0 };
                    this.received.extend_from_slice(new.get(taken..).unwrap_or_default());
                    into.set_filled(before + taken);
                    if taken > 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> StrictHttpStream<S> {
    /// An interim response that was started is finished before anything else is written.
    fn poll_write_interim(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unwritten_interim.is_empty() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(context, self.unwritten_interim))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unwritten_interim = self.unwritten_interim.get(count..).unwrap_or_default();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncRead,
    {
        loop {
            match &mut self.close_state {
                CloseState::Open => {
                    ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
                    let deadline = Box::pin(tokio::time::sleep(limits::LINGER_TIMEOUT));
                    self.close_state =
                        CloseState::Lingering { deadline, bytes_left: limits::MAX_LINGER_BYTES };
                }
                CloseState::Lingering { deadline, bytes_left } => {
                    let mut dropped = [MaybeUninit::uninit(); 8 << 10];
                    let mut dropped = ReadBuf::uninit(&mut dropped);
                    let read = Pin::new(&mut self.stream).poll_read(context, &mut dropped);
                    let count = dropped.filled().len();
                    let is_over = match read {
                        // Many bytes or a slow client would keep the socket open: after the limits, a reset is the lesser evil.
                        Poll::Ready(read) => read.is_err() || count == 0 || *bytes_left < count,
                        Poll::Pending => {
                            ready!(deadline.as_mut().poll(context));
                            true
                        }
                    };
                    *bytes_left = bytes_left.saturating_sub(count);
                    if is_over {
                        self.close_state = CloseState::Closed;
                    }
                }
                CloseState::Closed => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for StrictHttpStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_write_interim(context))?;
        Pin::new(&mut this.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_write_interim(context))?;
        Pin::new(&mut this.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes whenever the connection's task runs and nothing is left to write: between two messages, so an interim
    /// response can be written here, unless the response has started and only pauses.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.unwritten_interim.is_empty() && this.interim_responses.take_requested() {
            this.unwritten_interim = CONTINUE_RESPONSE;
        }
        ready!(this.poll_write_interim(context))?;
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_close(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const POST_REQUEST: &str = "POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello";
    const CHUNKED_PUT_REQUEST: &str =
        "PUT /b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    const GET_REQUEST: &str = "GET /c HTTP/1.1\r\nhost: x\r\n\r\n";

    /// What the parser gets when `sent` arrives in pieces of this size, and what was refused.
    async fn pass_through(sent: &str, piece: usize) -> (String, Option<(u64, &'static str)>) {
        // The pipe holds one piece, so each piece is read by itself.
        let (mut client, server) = tokio::io::duplex(piece);
        let framing_refusal = FramingRefusal::default();
        let mut strict = StrictHttpStream::new(server, framing_refusal.clone(), InterimResponses::default());
        let bytes = sent.as_bytes().to_vec();
        let sending = tokio::spawn(async move {
            let written = client.write_all(&bytes).await;
            drop(client);
            written
        });
        let mut read = Vec::new();
        loop {
            // A refused connection stays silent from here: the parser would respond and close it.
            if read.ends_with(PLACEHOLDER_REQUEST)
                || strict.read_buf(&mut read).await.unwrap_or_default() == 0
            {
                break;
            }
        }
        drop(strict);
        // The client's write to a refused connection fails.
        let _sent = sending.await.unwrap();
        let refused =
            framing_refusal.0.refused_after.get().map(|(before, violation)| (*before, violation.reason));
        (String::from_utf8(read).unwrap(), refused)
    }

    #[tokio::test]
    async fn valid_requests_pass_unchanged_however_they_are_segmented() {
        let all = [POST_REQUEST, CHUNKED_PUT_REQUEST, GET_REQUEST, POST_REQUEST].concat();
        for piece in 1..=all.len() {
            assert_eq!(pass_through(&all, piece).await, (all.clone(), None), "pieces of {piece}");
        }
    }

    #[tokio::test]
    async fn a_refused_head_is_replaced_in_its_turn_however_it_is_segmented() {
        let all = [POST_REQUEST, GET_REQUEST, "GET /d HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", GET_REQUEST]
            .concat();
        let expected =
            [POST_REQUEST, GET_REQUEST, std::str::from_utf8(PLACEHOLDER_REQUEST).unwrap()].concat();
        for piece in 1..=all.len() {
            let refused = Some((2, "exactly one Host header is needed"));
            assert_eq!(pass_through(&all, piece).await, (expected.clone(), refused), "pieces of {piece}");
        }
    }

    #[tokio::test]
    async fn no_buffer_is_retained_for_a_request_that_was_passed_on() {
        let (mut client, server) = tokio::io::duplex(1 << 10);
        let mut strict =
            StrictHttpStream::new(server, FramingRefusal::default(), InterimResponses::default());
        for piece in [POST_REQUEST, &POST_REQUEST[..20], &POST_REQUEST[20..]] {
            client.write_all(piece.as_bytes()).await.unwrap();
        }
        let mut read = vec![0; 2 * POST_REQUEST.len()];
        strict.read_exact(&mut read).await.unwrap();
        assert_eq!(strict.received.capacity(), 0);
    }
}
